//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::{Row, Source};

/// A value that could not be taken, a name that is not known, or a file that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no such setting.
    #[error("unknown setting {} in {}{}", readable(.name), .from.place(), suggestion(*.nearest))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// Where it was set.
        from: Source,
        /// The nearest known name.
        nearest: Option<&'static str>,
    },
    /// Two parts of the app have a setting of this name.
    #[error("two settings are named {name}")]
    Duplicate {
        /// The name.
        name: &'static str,
    },
    /// One source sets one setting twice, as a rule by two spellings of its name.
    #[error("{name} is set twice in {place}{}", spellings(.first, .second))]
    Twice {
        /// The setting.
        name: &'static str,
        /// The file, the environment or code.
        place: String,
        /// One name as it was written.
        first: String,
        /// The other one.
        second: String,
    },
    /// The value is not allowed.
    #[error("{name} = {} ({from}): allowed is {allowed}", readable(.value))]
    Invalid {
        /// The setting.
        name: &'static str,
        /// Where it was set.
        from: Source,
        /// The value as it was written; `***` if it is secret.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A file cannot be read.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is not written in its format.
    #[error("{}:{line}: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong there.
        message: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(row: &dyn Row, from: Source, value: String, allowed: String) -> Self {
        let value = if row.is_secret() { "***".to_owned() } else { value };
        Self::Invalid { name: row.name(), from, value, allowed }
    }
}

/// What was accepted, but probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// Pitaya has this setting, but no part of this app does.
    #[error("{name} in {} is known, but without effect here", .from.place())]
    WithoutEffect {
        /// The name as it was written.
        name: String,
        /// Where it was set.
        from: Source,
    },
    /// A variable looks like a setting and is none. It may belong to somebody else: Kubernetes makes such variables for
    /// a service that is named pitaya.
    #[error("the variable {name} is no setting{}", suggestion(.nearest.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable of the nearest setting.
        nearest: Option<String>,
    },
}

fn spellings(first: &str, second: &str) -> String {
    if first == second { String::new() } else { format!(": as {first} and as {second}") }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

/// On one line, not too long, and visible even if it is empty.
fn readable(value: &str) -> String {
    const LONGEST: usize = 100;
    let cut = value.char_indices().nth(LONGEST).map_or(value, |(end, _)| &value[..end]);
    let dots = if cut.len() < value.len() { "…" } else { "" };
    if cut.is_empty() || cut.contains(char::is_control) { format!("{cut:?}{dots}") } else { format!("{cut}{dots}") }
}
