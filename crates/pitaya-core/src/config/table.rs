//! The table of all settings.

use std::collections::HashSet;

use super::{Config, ConfigError, PRESET, Row, Sources, known, resolve::Resolution};

/// All settings that an app knows: [`PRESET`], and what its parts add.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<&'static dyn Row>,
}

impl Default for Table {
    fn default() -> Self {
        Self::new([])
    }
}

impl Table {
    /// A table of [`PRESET`] and these rows.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = &'static dyn Row>) -> Self {
        let mut table = Self { rows: vec![&PRESET] };
        table.extend(rows);
        table
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
        self.spellings().find(|(spelling, _)| spelling.eq_ignore_ascii_case(name)).map(|(_, row)| row)
    }

    /// Checks the sources against the rows, and decides which value of each counts. Files are read here; warnings are
    /// logged.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, files first, then the environment, then code.
    pub fn resolve(&self, sources: Sources) -> Result<Config, Vec<ConfigError>> {
        let mut resolution = Resolution::new(self);
        sources.files.iter().for_each(|path| resolution.file(path));
        resolution.environment(sources.environment);
        resolution.code(sources.code);
        resolution.finish()
    }

    /// All names and aliases with their rows.
    pub(super) fn spellings(&self) -> impl Iterator<Item = (&'static str, &'static dyn Row)> {
        self.rows.iter().flat_map(|row| {
            let names = [row.name()].into_iter().chain(row.aliases().iter().copied());
            names.map(move |name| (name, *row))
        })
    }

    /// What cannot be told apart, in the environment at the latest.
    pub(super) fn duplicates(&self) -> Vec<ConfigError> {
        let mut variables = HashSet::new();
        let twice = self.spellings().filter(|(name, _)| !variables.insert(variable(name)));
        twice.map(|(name, _)| ConfigError::Duplicate { name }).collect()
    }

    /// Where a key belongs.
    pub(super) fn locate(&self, key: &str) -> Place {
        let mut spelling = key;
        loop {
            if let Some(row) = self.find(spelling) {
                return Place::Row { row, len: spelling.len() };
            }
            match spelling.rsplit_once('.') {
                Some((above, _)) => spelling = above,
                None => break,
            }
        }
        let below = |name: &str| {
            let start = name.get(..key.len()).is_some_and(|start| start.eq_ignore_ascii_case(key));
            start && name[key.len()..].starts_with('.')
        };
        match known::find(key) {
            Some(name) => Place::Known(name),
            None if self.names().any(below) => Place::Section,
            None if is_foreign(key) => Place::Foreign,
            None => Place::Unknown,
        }
    }

    /// The known name that differs least, if it is near enough to be meant.
    pub(super) fn nearest(&self, name: &str) -> Option<&'static str> {
        let name = name.to_ascii_lowercase();
        let near = |candidate: &'static str| {
            let most = candidate.len() / 4;
            // What differs so much in length need not be compared, however long it is.
            let possible = candidate.len().abs_diff(name.len()) <= most;
            let distance = possible.then(|| strsim::osa_distance(&name, &candidate.to_ascii_lowercase()))?;
            (distance <= most).then_some((distance, candidate))
        };
        self.names().filter_map(near).min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.spellings().map(|(name, _)| name).chain(known::names())
    }
}

/// Where a key of a source belongs.
pub(super) enum Place {
    /// It is the spelling of a row, or lies below one, whose name is the first `len` bytes.
    Row { row: &'static dyn Row, len: usize },
    /// Pitaya knows it, but no row does.
    Known(&'static str),
    /// Known names lie below it.
    Section,
    /// It is somebody else's.
    Foreign,
    /// It is ours, and wrong.
    Unknown,
}

/// Whether a key of a file is the application's own: not below `pitaya`, nor below something that was meant to be.
fn is_foreign(key: &str) -> bool {
    let first = key.split('.').next().unwrap_or(key).to_ascii_lowercase();
    // Longer ones need no comparing.
    first.len() > 2 * known::ROOT.len() || strsim::osa_distance(&first, known::ROOT) > 1
}

/// The variable of the environment for a key.
pub(super) fn variable(name: &str) -> String {
    name.to_ascii_uppercase().replace('.', "_")
}
