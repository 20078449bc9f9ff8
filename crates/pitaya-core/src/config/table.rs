//! The table of all settings.

use std::{any::Any, collections::HashSet, fmt};

use super::{Config, ConfigError, Preset, Set, Setting, Value};

/// A setting whatever the type of its value.
pub trait Row: Sync {
    /// The name: Pitaya's key where there is one.
    fn name(&self) -> &'static str;
    /// Other spellings of the name.
    fn aliases(&self) -> &'static [&'static str];
    /// A sentence for the reader.
    fn doc(&self) -> &'static str;
    /// The default under a preset, or ours, as text.
    fn default_text(&self, preset: Option<Preset>) -> String;
    /// Reads and checks a value.
    ///
    /// # Errors
    ///
    /// It is not a value of this setting, or one that is not allowed.
    fn parse(&self, text: &str) -> Result<Box<dyn Any + Send + Sync>, ConfigError>;
}

impl<T: Value> Row for Setting<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn default_text(&self, preset: Option<Preset>) -> String {
        self.default_for(preset).show()
    }

    fn parse(&self, text: &str) -> Result<Box<dyn Any + Send + Sync>, ConfigError> {
        let invalid = |allowed: &str| ConfigError::Invalid {
            name: self.name,
            value: text.to_owned(),
            allowed: allowed.to_owned(),
        };
        let value = T::parse(text).ok_or_else(|| invalid(T::ALLOWED))?;
        (self.check)(&value).map_err(invalid)?;
        Ok(Box::new(value))
    }
}

impl fmt::Debug for dyn Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.name())
    }
}

/// All settings that an app knows.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<&'static dyn Row>,
}

impl Table {
    /// A table of these rows.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = &'static dyn Row>) -> Self {
        Self { rows: rows.into_iter().collect() }
    }

    /// Adds the rows of another part.
    pub fn extend(&mut self, rows: impl IntoIterator<Item = &'static dyn Row>) {
        self.rows.extend(rows);
    }

    /// The rows in the order in which they were added.
    #[must_use]
    pub fn rows(&self) -> &[&'static dyn Row] {
        &self.rows
    }

    /// The row with this name or alias, whatever its case.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static dyn Row> {
        let is = |candidate: &str| candidate.eq_ignore_ascii_case(name);
        self.rows.iter().copied().find(|row| is(row.name()) || row.aliases().iter().any(|alias| is(alias)))
    }

    /// Turns what was set as text into values and returns everything that is wrong, in the order in which it was set.
    pub fn check(&self, config: &mut Config) -> Vec<ConfigError> {
        let mut problems = self.duplicates();
        problems.append(&mut config.unchecked);
        for (name, text, at) in std::mem::take(&mut config.texts) {
            let Some(row) = self.find(&name) else {
                problems.push(ConfigError::Unknown { nearest: self.nearest(&name), name });
                continue;
            };
            match row.parse(&text) {
                Ok(value) => {
                    if config.values.get(row.name()).is_none_or(|set| set.at < at) {
                        config.values.insert(row.name(), Set { value, at });
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        problems
    }

    fn duplicates(&self) -> Vec<ConfigError> {
        let mut names = HashSet::new();
        let twice = self.rows.iter().filter(|row| !names.insert(row.name()));
        twice.map(|row| ConfigError::Duplicate { name: row.name() }).collect()
    }

    /// The known name that differs least, if it is near enough to be meant.
    fn nearest(&self, name: &str) -> Option<&'static str> {
        let distance = |row: &&&'static dyn Row| edit_distance(&name.to_ascii_lowercase(), row.name());
        let row = self.rows.iter().min_by_key(distance)?;
        (distance(&row) <= row.name().len() / 3).then(|| row.name())
    }
}

/// How many characters have to be inserted, removed or replaced.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    static HEARTBEAT: Setting<Duration> =
        Setting::new("pitaya.heartbeat.interval", Duration::from_secs(10), "How often.")
            .aliases(&["pitaya.heartbeat.every"])
            .presets(&[(Preset::GoV2, Duration::from_secs(30))])
            .checked(|value| if value.subsec_nanos() == 0 { Ok(()) } else { Err("whole seconds") });

    fn table() -> Table {
        Table::new([&HEARTBEAT as _])
    }

    #[test]
    fn what_is_set_wins_over_the_preset_and_the_preset_over_the_default() {
        let mut config = Config::default();
        assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(10));
        config.set_preset(Preset::GoV2);
        assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(30));
        config.set(&HEARTBEAT, Duration::from_secs(7));
        assert_eq!(table().check(&mut config), []);
        assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(7));
    }

    #[test]
    fn what_is_set_last_wins_as_value_or_as_text() {
        let mut config = Config::default();
        config.set_text("pitaya.heartbeat.interval", "3s");
        config.set(&HEARTBEAT, Duration::from_secs(4));
        assert_eq!(table().check(&mut config), []);
        assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(4));
        config.set_text("pitaya.heartbeat.every", "5s");
        assert_eq!(table().check(&mut config), []);
        assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(5));
    }

    #[test]
    fn two_settings_of_one_name_are_a_problem() {
        let table = Table::new([&HEARTBEAT as _, &HEARTBEAT as _]);
        assert_eq!(table.check(&mut Config::default()), [ConfigError::Duplicate { name: "pitaya.heartbeat.interval" }]);
    }

    #[test]
    fn names_are_found_in_any_spelling_and_case() {
        for name in ["pitaya.heartbeat.interval", "Pitaya.Heartbeat.Interval", "pitaya.heartbeat.every"] {
            let mut config = Config::default();
            config.set_text(name, "3s");
            assert_eq!(table().check(&mut config), [], "{name}");
            assert_eq!(config.get(&HEARTBEAT), Duration::from_secs(3), "{name}");
        }
    }

    #[test]
    fn all_problems_are_told_with_name_value_and_what_is_allowed() {
        let mut config = Config::default();
        config.set(&HEARTBEAT, Duration::from_millis(1500));
        config.set_text("pitaya.heartbeat.intervall", "3s");
        config.set_text("database.url", "x");
        config.set_text("pitaya.heartbeat.interval", "soon");
        let problems: Vec<_> = table().check(&mut config).iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "pitaya.heartbeat.interval = 1.5s: allowed is whole seconds",
                "unknown setting pitaya.heartbeat.intervall; did you mean pitaya.heartbeat.interval?",
                "unknown setting database.url",
                "pitaya.heartbeat.interval = soon: allowed is a duration such as 5s, 100ms or 1m30s, or a number of seconds",
            ]
        );
    }
}
