//! The types that a setting can have, and how they are written.

use std::{any::Any, borrow::Cow, collections::BTreeMap, time::Duration};

use super::Node;

/// A type of settings.
pub trait Value: Any + Clone + PartialEq + Send + Sync {
    /// What can be written, for the error message.
    const ALLOWED: &'static str;

    /// Reads a value; `None` if it is not one.
    #[must_use]
    fn parse(text: &str) -> Option<Self>;

    /// Reads a value of a file, which may be an array or a table; `None` if it is not one.
    #[must_use]
    fn read(node: &Node) -> Option<Self> {
        match node {
            Node::Text(text) => Self::parse(text),
            Node::List(_) | Node::Map(_) => None,
        }
    }

    /// Writes a value so that [`parse`](Self::parse) reads it back.
    fn show(&self) -> String;
}

impl Value for bool {
    const ALLOWED: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! number {
    ($type:ty, $allowed:literal) => {
        impl Value for $type {
            const ALLOWED: &'static str = $allowed;

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    };
}

number!(u16, "a whole number up to 65535");
number!(u32, "a whole number");
number!(u64, "a whole number");
number!(usize, "a whole number");

impl Value for f64 {
    const ALLOWED: &'static str = "a number";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|number: &Self| number.is_finite())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Text: borrowed, so that it can be a default.
pub type Text = Cow<'static, str>;

impl Value for Text {
    const ALLOWED: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(Cow::Owned(text.to_owned()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A value that need not be there; without one it is empty, or written `none`.
impl<T: Value> Value for Option<T> {
    const ALLOWED: &'static str = T::ALLOWED;

    fn parse(text: &str) -> Option<Self> {
        Self::read(&Node::text(text))
    }

    fn read(node: &Node) -> Option<Self> {
        match node {
            Node::Text(text) if text.is_empty() || text.eq_ignore_ascii_case("none") => Some(None),
            _ => T::read(node).map(Some),
        }
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Value::show)
    }
}

/// A list: an array, or text with commas.
pub type List<T> = Cow<'static, [T]>;

impl<T: Value> Value for List<T> {
    const ALLOWED: &'static str = "a list, as an array or with commas";

    fn parse(text: &str) -> Option<Self> {
        let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
        items.map(T::parse).collect::<Option<Vec<T>>>().map(Cow::Owned)
    }

    fn read(node: &Node) -> Option<Self> {
        match node {
            Node::Text(text) => Self::parse(text),
            Node::List(nodes) => nodes.iter().map(T::read).collect::<Option<Vec<T>>>().map(Cow::Owned),
            Node::Map(_) => None,
        }
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(Value::show).collect();
        items.join(",")
    }
}

/// Texts by name: a table, or text such as `a=b,c=d`.
pub type Map = BTreeMap<String, String>;

impl Value for Map {
    const ALLOWED: &'static str = "a table of texts, or text such as a=b,c=d";

    fn parse(text: &str) -> Option<Self> {
        let entries = text.split(',').filter(|_| !text.trim().is_empty());
        entries
            .map(|entry| {
                let (name, value) = entry.split_once('=')?;
                Some((name.trim().to_owned(), value.trim().to_owned()))
            })
            .collect()
    }

    fn read(node: &Node) -> Option<Self> {
        let text = |(name, node): &(String, Node)| match node {
            Node::Text(text) => Some((name.clone(), text.clone())),
            Node::List(_) | Node::Map(_) => None,
        };
        match node {
            Node::Text(text) => Self::parse(text),
            Node::Map(entries) => entries.iter().map(text).collect(),
            Node::List(_) => None,
        }
    }

    fn show(&self) -> String {
        let entries: Vec<_> = self.iter().map(|(name, value)| format!("{name}={value}")).collect();
        entries.join(",")
    }
}

/// Written as Go writes it (`1m30s`, `100ms`, `1.5s`), or as a bare number of seconds.
impl Value for Duration {
    const ALLOWED: &'static str = "a duration such as 5s, 100ms or 1m30s, or a number of seconds";

    fn parse(text: &str) -> Option<Self> {
        if let Ok(seconds) = text.parse::<f64>() {
            return Self::try_from_secs_f64(seconds).ok();
        }
        let mut rest = text;
        let mut total = Self::ZERO;
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(unit_at);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let seconds = number.parse::<f64>().ok()? * seconds_per(unit)?;
            total = total.checked_add(Self::try_from_secs_f64(seconds).ok()?)?;
            rest = tail;
        }
        (!text.is_empty()).then_some(total)
    }

    fn show(&self) -> String {
        let seconds = self.as_secs();
        if self.is_zero() {
            return "0s".to_owned();
        }
        if self.subsec_nanos() != 0 || seconds < 60 {
            return format!("{self:?}");
        }
        let parts = [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}")).collect()
    }
}

fn seconds_per(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub usize);

impl Size {
    /// So many KiB.
    #[must_use]
    pub const fn kib(count: usize) -> Self {
        Self(count * 1024)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(count: usize) -> Self {
        Self(count * 1024 * 1024)
    }
}

/// Written as a number of bytes, or with one of the units KiB, MiB, GiB, kB, MB, GB.
impl Value for Size {
    const ALLOWED: &'static str = "a size such as 64KiB, 1MB or a number of bytes";

    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let unit: usize = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kib" | "k" => 1 << 10,
            "mib" | "m" => 1 << 20,
            "gib" | "g" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return None,
        };
        number.parse::<usize>().ok()?.checked_mul(unit).map(Self)
    }

    fn show(&self) -> String {
        match self.0 {
            bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
            bytes if bytes > 0 && bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
            bytes => bytes.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_and_as_people_write_them() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let cases = [
            ("5s", ms(5_000)),
            ("100ms", ms(100)),
            ("1m30s", ms(90_000)),
            ("1.5s", ms(1_500)),
            ("2h", ms(7_200_000)),
            ("10", ms(10_000)),
            ("0", ms(0)),
            ("", None),
            ("5 parsecs", None),
            ("s", None),
            ("-1", None),
            ("1e400", None),
            ("NaN", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Duration::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_with_units_and_without() {
        let cases = [
            ("64KiB", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("17", Some(17)),
            ("1 MiB", Some(1 << 20)),
            ("many", None),
            ("", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Size::parse(text).map(|size| size.0), expected, "{text:?}");
        }
        assert_eq!(Size::kib(64).show(), "64KiB");
        assert_eq!(Size::parse(&Size::mib(4).show()), Some(Size::mib(4)));
    }
}
