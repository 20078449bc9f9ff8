//! The configuration as people read it.

use std::fmt;

use super::Source;

/// All settings of an app, with value and source. Made by [`Config::report`](super::Config::report); secrets are hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    lines: Vec<Line>,
}

/// One setting of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The name.
    pub key: &'static str,
    /// The value as it may be written; `***` if it is secret.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// A sentence about the setting.
    pub doc: &'static str,
}

impl Report {
    pub(super) fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self { lines: lines.into_iter().collect() }
    }

    /// The settings in the order of the table.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }
}

/// A table with the columns key, value and source.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A longer value pushes its source to the right, and not the sources of all.
        const WIDEST: usize = 40;
        let key_width = self.lines.iter().map(|line| line.key.len()).max().unwrap_or_default();
        let value_widths = self.lines.iter().map(|line| line.value.chars().count());
        let value_width = value_widths.filter(|width| *width <= WIDEST).max().unwrap_or_default().max("value".len());
        write!(f, "{:key_width$}  {:value_width$}  source", "key", "value")?;
        for Line { key, value, source, .. } in &self.lines {
            write!(f, "\n{key:key_width$}  {value:value_width$}  {source}")?;
        }
        Ok(())
    }
}
