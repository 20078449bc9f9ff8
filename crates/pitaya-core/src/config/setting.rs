//! One row of the table.

use std::{any::Any, fmt, sync::Arc};

use super::{Node, Preset, Value};

/// One row of the table: a setting with the type of its value.
#[derive(Debug)]
pub struct Setting<T: 'static> {
    name: &'static str,
    aliases: &'static [&'static str],
    default: T,
    presets: &'static [(Preset, T)],
    words: &'static [(&'static str, T)],
    check: fn(&T) -> Result<(), &'static str>,
    secret: bool,
    doc: &'static str,
}

impl<T: Value> Setting<T> {
    /// A setting that allows every value of its type.
    ///
    /// A name has segments of letters, digits and underscores, with dots between them.
    #[must_use]
    pub const fn new(name: &'static str, default: T, doc: &'static str) -> Self {
        Self { name, aliases: &[], default, presets: &[], words: &[], check: |_| Ok(()), secret: false, doc }
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

    /// Words that may be written for values, besides what the type reads. The first word of a value is how it is shown.
    #[must_use]
    pub const fn words(mut self, words: &'static [(&'static str, T)]) -> Self {
        self.words = words;
        self
    }

    /// What is allowed: the error says it, as in "more than zero".
    #[must_use]
    pub const fn checked(mut self, check: fn(&T) -> Result<(), &'static str>) -> Self {
        self.check = check;
        self
    }

    /// Shows the value nowhere: not in errors, reports and logs.
    #[must_use]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// The name: Pitaya's key where there is one.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn default_for(&self, preset: Option<Preset>) -> &T {
        let of_preset = self.presets.iter().find(|(candidate, _)| Some(*candidate) == preset);
        of_preset.map_or(&self.default, |(_, value)| value)
    }

    pub(super) fn shown(&self, value: &T) -> String {
        let word = self.words.iter().find(|(_, candidate)| candidate == value);
        word.map_or_else(|| value.show(), |(word, _)| (*word).to_owned())
    }

    /// The value if it is allowed, else what is.
    pub(super) fn checked_value(&self, value: T) -> Result<Typed, String> {
        (self.check)(&value)?;
        Ok(Typed { text: self.shown(&value), value: Arc::new(value) })
    }

    fn word(&self, node: &Node) -> Option<T> {
        let Node::Text(text) = node else { return None };
        self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| value.clone())
    }

    fn allowed(&self) -> String {
        self.words.iter().map(|(word, _)| format!("{word}, ")).chain([T::ALLOWED.to_owned()]).collect()
    }
}

/// A setting whatever the type of its value.
pub trait Row: Sync {
    /// The name: Pitaya's key where there is one.
    fn name(&self) -> &'static str;
    /// Other spellings of the name.
    fn aliases(&self) -> &'static [&'static str];
    /// A sentence for the reader.
    fn doc(&self) -> &'static str;
    /// Whether the value is shown nowhere.
    fn is_secret(&self) -> bool;
    /// The default under a preset, or ours, as text.
    fn default_text(&self, preset: Option<Preset>) -> String;
    /// Whether a preset has a default of its own.
    fn has_default_of(&self, preset: Preset) -> bool;
    /// Reads and checks a value.
    ///
    /// # Errors
    ///
    /// What is allowed, if this is not.
    fn read(&self, node: &Node) -> Result<Typed, String>;
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

    fn is_secret(&self) -> bool {
        self.secret
    }

    fn default_text(&self, preset: Option<Preset>) -> String {
        self.shown(self.default_for(preset))
    }

    fn has_default_of(&self, preset: Preset) -> bool {
        self.presets.iter().any(|(candidate, _)| *candidate == preset)
    }

    fn read(&self, node: &Node) -> Result<Typed, String> {
        let value = self.word(node).or_else(|| T::read(node)).ok_or_else(|| self.allowed())?;
        self.checked_value(value)
    }
}

impl fmt::Debug for dyn Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({})", self.name())
    }
}

/// A value that a row has accepted, whatever its type.
pub struct Typed {
    value: Arc<dyn Any + Send + Sync>,
    text: String,
}

impl Typed {
    /// How the value is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn value<T: Value>(&self) -> Option<&T> {
        self.value.downcast_ref()
    }
}

/// Without the value, which may be secret.
impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}
