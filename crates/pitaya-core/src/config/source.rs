//! Where values come from.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{PRESET, Preset, Row, Setting, Typed, Value};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody has set it.
    Default,
    /// Nobody has set it, and the preset has a default of its own.
    Preset(Preset),
    /// A file.
    File {
        /// Which file.
        path: Arc<Path>,
        /// The key as it is written there, with the tables around it.
        key: String,
    },
    /// A variable of the environment.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The program itself.
    Code,
}

impl Source {
    /// The source without the key: the path of the file, `the environment`, `code`.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Default | Self::Preset(_) | Self::Code => self.to_string(),
            Self::File { path, .. } => path.display().to_string(),
            Self::Environment { .. } => "the environment".to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Preset(preset) => write!(f, "preset {}", preset.name()),
            Self::File { path, key } => write!(f, "{}: {key}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Code => f.write_str("code"),
        }
    }
}

/// What was said about settings, not checked yet.
#[derive(Default)]
pub struct Sources {
    pub(super) files: Vec<PathBuf>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) code: Vec<InCode>,
}

/// What the program itself says.
pub(super) enum InCode {
    Typed { row: &'static dyn Row, value: Result<Typed, (String, String)> },
    Text { name: String, text: String },
}

impl Sources {
    /// Adds a file, which is read by [`Table::resolve`](super::Table::resolve). A later file wins over an earlier one.
    pub fn file(&mut self, path: impl Into<PathBuf>) {
        self.files.push(path.into());
    }

    /// Adds variables; those of the process are [`environment()`]. A later one of a name wins over an earlier one.
    pub fn environment<K: Into<String>, V: Into<String>>(&mut self, variables: impl IntoIterator<Item = (K, V)>) {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
    }

    /// Sets a value in code.
    pub fn set<T: Value>(&mut self, setting: &'static Setting<T>, value: T) {
        let shown = setting.shown(&value);
        let value = setting.checked_value(value).map_err(|allowed| (shown, allowed));
        self.code.push(InCode::Typed { row: setting, value });
    }

    /// Sets a value in code by any spelling of its name, and as text.
    pub fn set_text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.code.push(InCode::Text { name: name.into(), text: value.into() });
    }

    /// Takes the defaults of another Pitaya; what is set explicitly wins.
    pub fn set_preset(&mut self, preset: Preset) {
        self.set(&PRESET, Some(preset));
    }
}

/// Without values: some are secret.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The variables of this process, for [`Sources::environment`]; nothing else here reads them.
///
/// A variable whose name is no Unicode is left out; in a value, what is no Unicode is replaced.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    };
    std::env::vars_os().filter_map(unicode).collect()
}
