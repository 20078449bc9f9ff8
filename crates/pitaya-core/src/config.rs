//! Settings: rows of one table that every part of the framework, and the application, adds to.
//!
//! A [`Setting`] is one row: its name (Pitaya's key), the other spellings that are accepted, its default, the defaults of
//! the presets, what is allowed, and a sentence for the reader. [`Sources`] hold what was said about settings, in files, in
//! the environment and in code. A [`Table`] knows the rows, checks the sources against them, and makes a [`Config`]: the
//! values that count, each with its [`Source`].
//!
//! # Which value counts
//!
//! By kind of source, whatever the order of calls: code, before the environment, before files, before the preset
//! (`pitaya.preset`), before the default. Of several files a later one wins; in code the last call does.
//!
//! # How settings are written
//!
//! - **Files** are TOML, YAML or JSON, told apart by their extension. Tables may be nested or their keys dotted, and keys are
//!   read in any case. A key outside of `pitaya` that no setting has is the application's own, and left alone.
//! - **In the environment** a key is in upper case with underscores for dots: `pitaya.heartbeat.interval` is
//!   `PITAYA_HEARTBEAT_INTERVAL`. An empty variable counts as not set.
//! - **Durations** are `5s`, `100ms`, `1m30s` or a bare number of seconds; **sizes** `64KiB`, `1MB` or a bare number of bytes;
//!   **lists** are arrays or text with commas.
//!
//! ```
//! use std::time::Duration;
//! use pitaya_core::config::{Setting, Sources, Table};
//!
//! static TURN: Setting<Duration> =
//!     Setting::new("game.turn", Duration::from_secs(30), "How long a player may think.")
//!         .checked(|turn| if turn.is_zero() { Err("more than zero") } else { Ok(()) });
//!
//! let mut sources = Sources::default();
//! sources.environment([("GAME_TURN", "1m30s")]);
//! let config = Table::new([&TURN as _]).resolve(sources).unwrap();
//! assert_eq!(config.get(&TURN), Duration::from_secs(90));
//! assert_eq!(config.source(&TURN).to_string(), "GAME_TURN");
//! ```

pub mod checks;
mod error;
mod file;
mod known;
mod node;
mod preset;
mod report;
mod resolve;
mod setting;
mod source;
mod table;
mod value;

use std::{collections::BTreeMap, fmt};

pub use error::{ConfigError, ConfigWarning};
pub use node::Node;
pub use preset::{PRESET, Preset};
pub use report::{Line, Report};
pub use setting::{Row, Setting, Typed};
pub use source::{Source, Sources, environment};
pub use table::Table;
pub use value::{List, Map, Size, Text, Value};

/// The values that count, and where each comes from. Made by [`Table::resolve`].
#[derive(Default)]
pub struct Config {
    table: Table,
    preset: Option<Preset>,
    set: BTreeMap<&'static str, (Typed, Source)>,
    warnings: Vec<ConfigWarning>,
}

impl Config {
    /// The value that counts.
    #[must_use]
    pub fn get<T: Value>(&self, setting: &Setting<T>) -> T {
        let set = self.set.get(setting.name()).and_then(|(typed, _)| typed.value::<T>());
        set.unwrap_or_else(|| setting.default_for(self.preset)).clone()
    }

    /// Where the value that counts comes from.
    #[must_use]
    pub fn source<T: Value>(&self, setting: &Setting<T>) -> Source {
        self.source_of(setting)
    }

    /// All settings with value and source, for people to read; secrets are hidden.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self.table.rows().iter().map(|row| {
            let value = match self.set.get(row.name()) {
                _ if row.is_secret() => "***".to_owned(),
                Some((typed, _)) => typed.text().to_owned(),
                None => row.default_text(self.preset),
            };
            Line { key: row.name(), value, source: self.source_of(*row), doc: row.doc() }
        }))
    }

    /// What was accepted, but probably not meant. It has been logged, too.
    #[must_use]
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    fn source_of(&self, row: &dyn Row) -> Source {
        match (self.set.get(row.name()), self.preset) {
            (Some((_, source)), _) => source.clone(),
            (None, Some(preset)) if row.has_default_of(preset) => Source::Preset(preset),
            (None, _) => Source::Default,
        }
    }
}

/// Without values: some are secret.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("preset", &self.preset).field("set", &self.set.keys()).finish_non_exhaustive()
    }
}
