//! Sets of defaults.

use super::{Setting, Value};

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

impl Preset {
    /// All presets.
    pub const ALL: [Self; 3] = [Self::Docs2020, Self::GoV2, Self::GoV3];

    /// The name, as it is written for `pitaya.preset`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docs2020 => "docs-2020",
            Self::GoV2 => "go-v2",
            Self::GoV3 => "go-v3",
        }
    }
}

impl Value for Preset {
    const ALLOWED: &'static str = "docs-2020, go-v2 or go-v3";

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name().eq_ignore_ascii_case(text))
    }

    fn show(&self) -> String {
        self.name().to_owned()
    }
}

/// Whose defaults hold for everything that is not set. A row of every table.
pub static PRESET: Setting<Option<Preset>> =
    Setting::new("pitaya.preset", None, "Whose defaults hold: docs-2020, go-v2 or go-v3; without one, our own.");
