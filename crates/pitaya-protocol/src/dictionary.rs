//! The route dictionary: two bytes on the wire instead of a route's name (protocol.md section 3.1).

use std::collections::HashMap;
use std::sync::Arc;

use thiserror::Error;

use crate::message::MAX_ROUTE_LEN;

/// Routes that both sides know by number, from the handshake on.
///
/// The default is empty, and looking something up in it costs one comparison. A dictionary is fixed when it is built:
/// clients learn it once, so a later change could not reach them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dictionary {
    codes: HashMap<Arc<str>, u16>,
    /// The same entries sorted by code, for look-ups in the other direction.
    routes: Vec<(u16, Arc<str>)>,
}

impl Dictionary {
    /// Builds a dictionary of routes and their codes; white space around a route is cut off.
    ///
    /// # Errors
    ///
    /// An empty route, a route of more than [`MAX_ROUTE_LEN`] bytes (it could not be sent by name either), code 0, and
    /// a route or a code that appears twice.
    pub fn new(entries: impl IntoIterator<Item = (impl Into<String>, u16)>) -> Result<Self, DictionaryError> {
        let mut dictionary = Self::default();
        for (route, code) in entries {
            dictionary.insert(route.into().trim(), code)?;
        }
        dictionary.routes.sort_unstable_by_key(|&(code, _)| code);
        if let Some([(code, _), (_, route)]) =
            dictionary.routes.array_windows().find(|[first, second]| first.0 == second.0)
        {
            return Err(DictionaryError::DuplicateCode { route: route.as_ref().to_owned(), code: *code });
        }
        Ok(dictionary)
    }

    /// Adds an entry; the check for duplicate codes waits until all are there.
    fn insert(&mut self, route: &str, code: u16) -> Result<(), DictionaryError> {
        if route.is_empty() {
            return Err(DictionaryError::EmptyRoute { code });
        }
        if code == 0 {
            return Err(DictionaryError::ZeroCode { route: route.to_owned() });
        }
        if route.len() > MAX_ROUTE_LEN {
            return Err(DictionaryError::RouteTooLong { route: route.to_owned(), code });
        }
        let route = Arc::<str>::from(route);
        if self.codes.insert(Arc::clone(&route), code).is_some() {
            return Err(DictionaryError::DuplicateRoute { route: route.as_ref().to_owned(), code });
        }
        self.routes.push((code, route));
        Ok(())
    }

    /// Returns the code of a route.
    #[inline]
    #[must_use]
    pub fn code(&self, route: &str) -> Option<u16> {
        if self.codes.is_empty() {
            return None;
        }
        self.codes.get(route).copied()
    }

    /// Returns the route of a code.
    #[inline]
    #[must_use]
    pub fn route(&self, code: u16) -> Option<&str> {
        let at = self.routes.binary_search_by_key(&code, |&(code, _)| code).ok()?;
        self.routes.get(at).map(|(_, route)| route.as_ref())
    }

    /// Tells whether there are no entries.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// Returns the number of entries.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.routes.len()
    }

    /// Returns all routes with their codes, in the order of the codes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16)> {
        self.routes.iter().map(|(code, route)| (route.as_ref(), *code))
    }
}

/// Why entries do not form a dictionary; each case names the offender.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DictionaryError {
    /// A route is empty or only white space.
    #[error("empty route in dictionary (code: {code})")]
    EmptyRoute {
        /// The code given for it.
        code: u16,
    },
    /// Code 0 is not a valid code.
    #[error("zero code in dictionary (route: {route})")]
    ZeroCode {
        /// The route it was given for.
        route: String,
    },
    /// A route is longer than 255 bytes.
    #[error("route in dictionary is too long (route: {route}, code: {code})")]
    RouteTooLong {
        /// The route.
        route: String,
        /// Its code.
        code: u16,
    },
    /// A route appears twice.
    #[error("duplicated route in dictionary (route: {route}, code: {code})")]
    DuplicateRoute {
        /// The route.
        route: String,
        /// The code of its second appearance.
        code: u16,
    },
    /// A code appears twice.
    #[error("duplicated code in dictionary (route: {route}, code: {code})")]
    DuplicateCode {
        /// One of the routes that want the code.
        route: String,
        /// The code.
        code: u16,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_in_both_directions() {
        let dictionary = Dictionary::new([(" onMessage\t", 4), ("a.b", 65_535), ("c.d", 1)]).unwrap();
        assert_eq!(dictionary.code("onMessage"), Some(4));
        assert_eq!(dictionary.code("onMessag"), None);
        assert_eq!(dictionary.route(65_535), Some("a.b"));
        assert_eq!(dictionary.route(2), None);
        let all: Vec<_> = dictionary.iter().collect();
        assert_eq!(all, [("c.d", 1), ("onMessage", 4), ("a.b", 65_535)]);
        assert_eq!((dictionary.len(), dictionary.is_empty()), (3, false));

        let empty = Dictionary::default();
        assert!(empty.is_empty());
        assert_eq!((empty.code("a.b"), empty.route(1)), (None, None));
    }

    #[test]
    fn bad_entries_are_named() {
        let check = |entries: &[(&str, u16)], expected| {
            assert_eq!(Dictionary::new(entries.iter().copied()), Err(expected));
        };
        check(&[("  ", 3)], DictionaryError::EmptyRoute { code: 3 });
        let route = String::from("a.b");
        check(&[("a.b", 0)], DictionaryError::ZeroCode { route: route.clone() });
        let duplicate = DictionaryError::DuplicateRoute { route: route.clone(), code: 2 };
        check(&[("a.b", 1), ("a.b ", 2)], duplicate);
        let duplicate = Dictionary::new([("a.b", 7), ("c.d", 7)]);
        assert!(matches!(duplicate, Err(DictionaryError::DuplicateCode { code: 7, .. })));
        let long = "x".repeat(256);
        let error = DictionaryError::RouteTooLong { route: long.clone(), code: 9 };
        check(&[(&long, 9)], error);
        assert!(Dictionary::new([(&long[..255], 9)]).is_ok());
    }
}
