//! What the attributes differ in.

use proc_macro2::{Ident, Span};

/// Which attribute an impl block has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Block {
    /// `#[handlers]`: what clients call.
    Handlers,
    /// `#[remotes]`: what other servers call.
    Remotes,
}

impl Block {
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Handlers => "handlers",
            Self::Remotes => "remotes",
        }
    }

    /// What one of its methods is.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Handlers => "handler",
            Self::Remotes => "remote",
        }
    }

    /// The attributes of its methods.
    pub(crate) fn marks(self) -> impl Iterator<Item = &'static str> {
        let marks: &[_] = match self {
            Self::Handlers => &["request", "notify"],
            Self::Remotes => &["remote"],
        };
        marks.iter().copied()
    }

    /// The trait that is implemented, and its method.
    pub(crate) fn conversion(self) -> (Ident, Ident) {
        let (name, method) = match self {
            Self::Handlers => ("Handlers", "into_component"),
            Self::Remotes => ("Remotes", "into_remote_component"),
        };
        (Ident::new(name, Span::call_site()), Ident::new(method, Span::call_site()))
    }
}
