//! Routes: where a message goes, `[serverType.]service.method` (protocol.md section 4).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// The parts of a route, borrowed from its text.
///
/// The dispatch of a message needs no more than this and no allocation; what has to be kept becomes a [`Route`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteParts<'a> {
    /// The server type, if the route has three parts.
    pub server_type: Option<&'a str>,
    /// The service.
    pub service: &'a str,
    /// The method.
    pub method: &'a str,
    /// `service.method`, the key of handlers.
    pub short: &'a str,
}

impl<'a> RouteParts<'a> {
    /// Splits `text` at its dots.
    ///
    /// # Errors
    ///
    /// [`RouteError::Empty`] if a part has no character besides white space, whatever the number of parts;
    /// [`RouteError::Invalid`] if there are not two or three parts. Parts are not trimmed.
    #[inline]
    pub fn parse(text: &'a str) -> Result<Self, RouteError> {
        let mut parts = [""; 3];
        let mut count = 0;
        for part in text.split('.') {
            if part.trim_start().is_empty() {
                return Err(RouteError::Empty);
            }
            if let Some(slot) = parts.get_mut(count) {
                *slot = part;
            }
            count += 1;
        }
        match (count, parts) {
            (2, [service, method, _]) => Ok(Self { server_type: None, service, method, short: text }),
            (3, [server_type, service, method]) => {
                Ok(Self { server_type: Some(server_type), service, method, short: &text[server_type.len() + 1..] })
            }
            _ => Err(RouteError::Invalid),
        }
    }
}

/// A valid route that is cheap to clone.
///
/// Case-sensitive; two routes are equal when their texts are.
#[derive(Clone)]
pub struct Route {
    text: Arc<str>,
    /// Where the service starts: 0 without a server type.
    service_at: usize,
    /// Where the method starts.
    method_at: usize,
}

impl Route {
    /// Reads a route (protocol.md section 4).
    ///
    /// # Errors
    ///
    /// As [`RouteParts::parse`].
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let parts = RouteParts::parse(text)?;
        Ok(Self {
            service_at: text.len() - parts.short.len(),
            method_at: text.len() - parts.method.len(),
            text: text.into(),
        })
    }

    /// Puts a route together; an empty server type is none.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse); a dot inside a part is [`RouteError::Invalid`].
    pub fn new(server_type: Option<&str>, service: &str, method: &str) -> Result<Self, RouteError> {
        let server_type = server_type.filter(|name| !name.is_empty());
        let text = match server_type {
            Some(server_type) => format!("{server_type}.{service}.{method}"),
            None => format!("{service}.{method}"),
        };
        let route = Self::parse(&text)?;
        // A dot in a part moves the borders, which may still give a valid text of another meaning.
        if route.server_type() == server_type && route.method() == method {
            Ok(route)
        } else {
            Err(RouteError::Invalid)
        }
    }

    /// Returns the server type; `None` means the type of the server that has the message.
    #[inline]
    #[must_use]
    pub fn server_type(&self) -> Option<&str> {
        let end = self.service_at.checked_sub(1)?;
        Some(&self.text[..end])
    }

    /// Returns the service.
    #[inline]
    #[must_use]
    pub fn service(&self) -> &str {
        &self.text[self.service_at..self.method_at - 1]
    }

    /// Returns the method.
    #[inline]
    #[must_use]
    pub fn method(&self) -> &str {
        &self.text[self.method_at..]
    }

    /// Returns `service.method`, the key of handlers.
    #[inline]
    #[must_use]
    pub fn short(&self) -> &str {
        &self.text[self.service_at..]
    }

    /// Returns the whole text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Route").field(&self.text).finish()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Route {
    type Error = RouteError;

    fn try_from(text: &str) -> Result<Self, RouteError> {
        Self::parse(text)
    }
}

/// Why a text is not a route; the texts are sent to clients in a PIT-400 (protocol.md section 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A part is empty or only white space.
    #[error("route field can not be empty")]
    Empty,
    /// There are not two or three parts.
    #[error("invalid route")]
    Invalid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_routes_have_two_or_three_parts() {
        let check = |text: &str, server_type, service, method, short| {
            let route = Route::parse(text).unwrap();
            assert_eq!(route.server_type(), server_type, "{text}");
            assert_eq!((route.service(), route.method()), (service, method), "{text}");
            assert_eq!(route.short(), short);
            assert_eq!(route.to_string(), text);
            assert_eq!(Route::new(server_type, service, method), Ok(route));
        };
        check("room.join", None, "room", "join", "room.join");
        check("a.b.c", Some("a"), "b", "c", "b.c");
        check(" a .\tb.é", Some(" a "), "\tb", "é", "\tb.é");
    }

    #[test]
    fn empty_is_found_before_invalid() {
        let check = |text: &str, expected| assert_eq!(Route::parse(text), Err(expected), "{text}");
        check("a.b.c.d", RouteError::Invalid);
        check("a", RouteError::Invalid);
        for empty in ["", ".", "a..c", ". .", "a.b.c.d.", " ", "a.\u{a0}"] {
            check(empty, RouteError::Empty);
        }
        assert_eq!(RouteError::Empty.to_string(), "route field can not be empty");
        assert_eq!(RouteError::Invalid.to_string(), "invalid route");
    }

    #[test]
    fn parts_cannot_hide_dots() {
        assert_eq!(Route::new(None, "a.b", "c"), Err(RouteError::Invalid));
        assert_eq!(Route::new(None, "a", "b.c"), Err(RouteError::Invalid));
        assert_eq!(Route::new(Some("a.b"), "c", "d"), Err(RouteError::Invalid));
        assert_eq!(Route::new(Some(" "), "c", "d"), Err(RouteError::Empty));
        assert_eq!(Route::new(Some(""), "c", "d"), Route::parse("c.d"));
    }
}
