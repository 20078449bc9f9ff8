//! Settings: rows of one table that every part of the framework adds to.
//!
//! A [`Setting`] is one row: its name (Pitaya's key), the other spellings that are accepted, its default, the defaults of
//! the presets, what is allowed, and a sentence for the reader. A [`Config`] holds what was set; a [`Table`] knows the rows
//! and checks it.
//!
//! ```
//! use std::time::Duration;
//! use pitaya_core::config::{Config, Setting, Table};
//!
//! static TURN: Setting<Duration> =
//!     Setting::new("game.turn", Duration::from_secs(30), "How long a player may think.")
//!         .checked(|turn| if turn.is_zero() { Err("more than zero") } else { Ok(()) });
//!
//! let mut config = Config::default();
//! config.set_text("game.turn", "1m30s");
//! let table = Table::new([&TURN as _]);
//! assert!(table.check(&mut config).is_empty());
//! assert_eq!(config.get(&TURN), Duration::from_secs(90));
//! ```

mod table;
mod value;

use std::{any::Any, collections::BTreeMap, fmt};

pub use table::{Row, Table};
pub use value::{List, Size, Text, Value};

/// The defaults of another Pitaya.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Preset {
    /// What the documentation of May 2020 promises.
    Docs2020,
    /// Go Pitaya v2.11.
    GoV2,
    /// Go Pitaya v3.
    GoV3,
}

/// One row of the table: a setting with the type of its value.
#[derive(Debug)]
pub struct Setting<T: 'static> {
    name: &'static str,
    aliases: &'static [&'static str],
    default: T,
    presets: &'static [(Preset, T)],
    check: fn(&T) -> Result<(), &'static str>,
    doc: &'static str,
}

impl<T: Value> Setting<T> {
    /// A setting that allows every value of its type.
    #[must_use]
    pub const fn new(name: &'static str, default: T, doc: &'static str) -> Self {
        Self { name, aliases: &[], default, presets: &[], check: |_| Ok(()), doc }
    }

    /// Other spellings of the name.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// The defaults of presets, where they differ.
    #[must_use]
    pub const fn presets(mut self, presets: &'static [(Preset, T)]) -> Self {
        self.presets = presets;
        self
    }

    /// What is allowed: the error says it, as in "more than zero".
    #[must_use]
    pub const fn checked(mut self, check: fn(&T) -> Result<(), &'static str>) -> Self {
        self.check = check;
        self
    }

    /// The name: Pitaya's key where there is one.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    fn default_for(&self, preset: Option<Preset>) -> &T {
        let of_preset = self.presets.iter().find(|(candidate, _)| Some(*candidate) == preset);
        of_preset.map_or(&self.default, |(_, value)| value)
    }
}

/// A value, and when it was set.
struct Set {
    value: Box<dyn Any + Send + Sync>,
    at: usize,
}

/// What was set, and which preset is behind it. What is set last wins, as a value or as text.
#[derive(Default)]
pub struct Config {
    preset: Option<Preset>,
    values: BTreeMap<&'static str, Set>,
    /// Set as text, with any spelling; [`Table::check`] turns them into values.
    texts: Vec<(String, String, usize)>,
    /// Set as values; [`Table::check`] tells what is wrong with them.
    unchecked: Vec<ConfigError>,
    /// How many times something was set: what was set last wins.
    count: usize,
}

impl Config {
    /// Sets a value. What is not allowed is reported by [`Table::check`].
    pub fn set<T: Value>(&mut self, setting: &'static Setting<T>, value: T) {
        if let Err(allowed) = (setting.check)(&value) {
            let error = ConfigError::Invalid { name: setting.name, value: value.show(), allowed: allowed.to_owned() };
            self.unchecked.push(error);
        }
        self.count += 1;
        self.values.insert(setting.name, Set { value: Box::new(value), at: self.count });
    }

    /// Sets a value by any spelling of its name and as text; both are checked by [`Table::check`].
    pub fn set_text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.count += 1;
        self.texts.push((name.into(), value.into(), self.count));
    }

    /// Takes the defaults of another Pitaya; what is set explicitly wins.
    pub fn set_preset(&mut self, preset: Preset) {
        self.preset = Some(preset);
    }

    /// The effective value: what was set, else the preset's default, else ours.
    #[must_use]
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> T {
        let set = self.values.get(setting.name).and_then(|set| set.value.downcast_ref::<T>());
        set.unwrap_or_else(|| setting.default_for(self.preset)).clone()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("preset", &self.preset).field("set", &self.values.keys()).finish_non_exhaustive()
    }
}

/// A value that could not be taken, or a name that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such setting.
    #[error("unknown setting {name}{}", suggestion(.nearest))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// The nearest known name.
        nearest: Option<&'static str>,
    },
    /// Two parts of the app have a setting of this name.
    #[error("two settings are named {name}")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// The value is not allowed.
    #[error("{name} = {value}: allowed is {allowed}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// The value as it was written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
