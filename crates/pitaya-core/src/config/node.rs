//! The tree that files of every format are read into.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A value before anybody has looked what it should be. Numbers and truth values are text, too.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Node {
    /// A single value.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// A table, in the order of the file where its format keeps one.
    Map(Vec<(String, Self)>),
}

impl Node {
    /// A single value.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The values that are no tables, each with its dotted key. An empty table is an empty text.
    pub(super) fn leaves(self) -> Vec<(String, Self)> {
        let mut leaves = Vec::new();
        self.add_leaves(String::new(), &mut leaves);
        leaves
    }

    // As deep as the parsers allow, which is less than 200.
    fn add_leaves(self, key: String, leaves: &mut Vec<(String, Self)>) {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (name, node) in entries {
                    let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                    node.add_leaves(key, leaves);
                }
            }
            Self::Map(_) => leaves.push((key, Self::text(""))),
            Self::Text(_) | Self::List(_) => leaves.push((key, self)),
        }
    }
}

/// As it may be written on one line.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::List(nodes) => {
                let items: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let items: Vec<_> = entries.iter().map(|(name, node)| format!("{name} = {node}")).collect();
                write!(f, "{{{}}}", items.join(", "))
            }
        }
    }
}

/// Without texts: some are secret.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::List(nodes) => f.debug_list().entries(nodes).finish(),
            Self::Map(entries) => f.debug_map().entries(entries.iter().map(|(name, node)| (name, node))).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::text(value))
    }

    /// `null` is what a key without a value is in YAML.
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::text(""))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::text(""))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((Scalar(name), node)) = access.next_entry()? {
            entries.push((name, node));
        }
        Ok(Node::Map(entries))
    }
}

/// The name in a table: in YAML it may be a number.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Text(name) => Ok(Self(name)),
            Node::List(_) | Node::Map(_) => Err(serde::de::Error::custom("a key is a single value")),
        }
    }
}
