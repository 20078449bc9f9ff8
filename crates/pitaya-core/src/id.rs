//! Names that travel together, as types of their own: four adjacent strings would be swapped one day.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::Error;

/// A session's number: unique in its process, counted from 1, never used again (protocol.md 9.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(i64);

impl SessionId {
    /// Wraps a number as it travels in `Session.id`.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The number as it travels in `Session.id`.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a name was refused.
///
/// Names become parts of NATS subjects and etcd keys, so what would change the meaning of those is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("illegal {what}")]
    Empty {
        /// What was to be named.
        what: &'static str,
    },
    /// The name is longer than allowed.
    #[error("illegal {what}: longer than {limit} bytes")]
    TooLong {
        /// What was to be named.
        what: &'static str,
        /// The longest that is allowed, in bytes.
        limit: usize,
    },
    /// The name has a character that separates or matches names elsewhere.
    #[error("illegal {what}: {character:?} is not allowed")]
    Character {
        /// What was to be named.
        what: &'static str,
        /// The first such character.
        character: char,
    },
    /// The name starts or ends with a dot, or has two in a row: NATS reads an empty token there.
    #[error("illegal {what}: a dot needs a character before and after it")]
    EmptyToken {
        /// What was to be named.
        what: &'static str,
    },
    /// A dot-separated part of the name is a wildcard of NATS.
    #[error("illegal {what}: no part between dots can be * or >")]
    Wildcard {
        /// What was to be named.
        what: &'static str,
    },
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Self::plain(error.to_string())
    }
}

const MAX_NAME_LEN: usize = 128;

/// What separates or matches names in NATS subjects and etcd keys.
const SEPARATORS: &[char] = &['/', '*', '>'];

/// A server type is a part of routes, too, which are separated by dots.
const ROUTE_SEPARATORS: &[char] = &['/', '*', '>', '.'];

/// Nothing: a uid is the last part of its key in etcd, and between two known ones in its subjects.
const NO_SEPARATORS: &[char] = &[];

/// What NATS takes for any name when it stands alone between dots.
const WILDCARDS: [&str; 2] = ["*", ">"];

fn check(what: &'static str, separators: &[char], name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > MAX_NAME_LEN {
        return Err(NameError::TooLong { what, limit: MAX_NAME_LEN });
    }
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || separators.contains(&c);
    if let Some(character) = name.chars().find(|c| forbidden(*c)) {
        return Err(NameError::Character { what, character });
    }
    for token in name.split('.') {
        if token.is_empty() {
            return Err(NameError::EmptyToken { what });
        }
        if WILDCARDS.contains(&token) {
            return Err(NameError::Wildcard { what });
        }
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $separators:expr) => {
        $(#[$doc])*
        ///
        /// Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(name: &str) -> Result<Self, NameError> {
                check($what, $separators, name)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                Self::try_from(name.as_str())
            }
        }

        impl TryFrom<&String> for $name {
            type Error = NameError;

            fn try_from(name: &String) -> Result<Self, NameError> {
                Self::try_from(name.as_str())
            }
        }

        impl From<&Self> for $name {
            fn from(name: &Self) -> Self {
                name.clone()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }
    };
}

name!(
    /// A user, as the application names it: what a session is bound to.
    ///
    /// 1 to 128 bytes, without control characters and white space, and without dot-separated parts that are empty, `*` or `>`
    /// (protocol.md 6.1).
    Uid,
    "uid",
    NO_SEPARATORS
);
name!(
    /// One server process of a cluster.
    ///
    /// 1 to 128 bytes, without control characters, white space, `/`, `*`, `>`, and without empty dot-separated parts.
    ServerId,
    "server id",
    SEPARATORS
);
name!(
    /// The type of a server: the first part of a route, so it has no dots at all.
    ///
    /// 1 to 128 bytes, without control characters, white space, `/`, `*`, `>` and dots.
    ServerType,
    "server type",
    ROUTE_SEPARATORS
);
name!(
    /// A group of users.
    ///
    /// 1 to 128 bytes, without control characters, white space, `/`, `*`, `>`, and without empty dot-separated parts.
    GroupName,
    "group name",
    SEPARATORS
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_checked() {
        let cases = [
            ("u1", None),
            ("ada@example.org", None),
            ("Ünïcode-玩家", None),
            ("", Some(NameError::Empty { what: "uid" })),
            ("a b", Some(NameError::Character { what: "uid", character: ' ' })),
            ("a\r\nPUB x", Some(NameError::Character { what: "uid", character: '\r' })),
            // As base64 has it, and other names that a token of NATS may have.
            ("a/b+c==", None),
            ("**.>a", None),
            ("*", Some(NameError::Wildcard { what: "uid" })),
            ("a.>", Some(NameError::Wildcard { what: "uid" })),
            ("a.*.b", Some(NameError::Wildcard { what: "uid" })),
            ("a..b", Some(NameError::EmptyToken { what: "uid" })),
            (".a", Some(NameError::EmptyToken { what: "uid" })),
            ("a.", Some(NameError::EmptyToken { what: "uid" })),
        ];
        for (name, expected) in cases {
            assert_eq!(Uid::try_from(name).err(), expected, "{name:?}");
        }
        assert!(Uid::try_from("x".repeat(128)).is_ok());
        assert_eq!(Uid::try_from("x".repeat(129)), Err(NameError::TooLong { what: "uid", limit: 128 }));
    }

    #[test]
    fn names_of_servers_and_groups_have_no_separators() {
        for character in ['/', '*', '>'] {
            let name = format!("a{character}b");
            let refused = |what| Some(NameError::Character { what, character });
            assert_eq!(ServerId::try_from(&name).err(), refused("server id"));
            assert_eq!(ServerType::try_from(&name).err(), refused("server type"));
            assert_eq!(GroupName::try_from(&name).err(), refused("group name"));
        }
        assert_eq!(
            ServerType::try_from("a.b").err(),
            Some(NameError::Character { what: "server type", character: '.' })
        );
    }

    #[test]
    fn the_error_text_of_an_empty_uid_is_the_one_of_the_original() {
        assert_eq!(NameError::Empty { what: "uid" }.to_string(), "illegal uid");
    }
}
