//! Who this server is.

mod json;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{BuildHasher as _, RandomState},
};

pub use json::ServerInfoError;

use crate::{NameError, ServerId, ServerType};

/// A server as the others of its cluster see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// Unique among all servers.
    pub id: ServerId,
    /// What this server is for: the first part of the routes that it handles.
    pub kind: ServerType,
    /// Whether clients connect to it.
    pub frontend: bool,
    /// Free text by key, seen by the whole cluster.
    pub metadata: BTreeMap<String, String>,
    /// The name of the machine that it runs on.
    pub hostname: String,
}

impl ServerInfo {
    /// A server of this machine that accepts clients, with a random id.
    ///
    /// # Errors
    ///
    /// The type is not a valid name.
    pub fn frontend(kind: impl TryInto<ServerType, Error = NameError>) -> Result<Self, NameError> {
        Self::new(kind, true)
    }

    /// A server of this machine that only other servers call, with a random id.
    ///
    /// # Errors
    ///
    /// The type is not a valid name.
    pub fn backend(kind: impl TryInto<ServerType, Error = NameError>) -> Result<Self, NameError> {
        Self::new(kind, false)
    }

    /// The key of [`metadata`](Self::metadata) by which servers of this framework know each other: its value is the version of
    /// what they say to each other beyond Pitaya.
    pub const OURS: &'static str = "pitaya-rs";

    /// The key of [`metadata`](Self::metadata) of servers that have handlers for clients.
    pub const HANDLERS: &'static str = "handlers";

    /// The key of [`metadata`](Self::metadata) of servers of this framework that tells a process from the one that had the same
    /// id before.
    pub const INSTANCE: &'static str = "instance";

    /// Which process it is, if it says so.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.metadata.get(Self::INSTANCE).map(String::as_str)
    }

    /// A value for [`INSTANCE`](Self::INSTANCE) that no other process has. For engines.
    #[must_use]
    pub fn new_instance() -> String {
        random_bits(1)
    }

    /// Whether it is a server of this framework, which understands more than Go Pitaya.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.metadata.contains_key(Self::OURS)
    }

    /// Whether it says that it has handlers for clients. Servers of Go Pitaya say nothing.
    #[must_use]
    pub fn has_handlers(&self) -> bool {
        self.metadata.get(Self::HANDLERS).is_some_and(|handlers| handlers == "true")
    }

    fn new(kind: impl TryInto<ServerType, Error = NameError>, frontend: bool) -> Result<Self, NameError> {
        let hostname = gethostname::gethostname().to_string_lossy().into_owned();
        Ok(Self { id: random_id()?, kind: kind.try_into()?, frontend, metadata: BTreeMap::new(), hostname })
    }
}

/// 128 random bits in hexadecimal. The hasher's keys are seeded by the operating system, and each `RandomState` differs:
/// good enough for a name that must only be unique.
fn random_id() -> Result<ServerId, NameError> {
    ServerId::try_from(random_bits(2))
}

/// So many times 64 bits.
fn random_bits(parts: u8) -> String {
    let mut id = String::with_capacity(32);
    for part in 0..parts {
        let bits = RandomState::new().hash_one((part, std::process::id()));
        // Writing into a String cannot fail.
        let _ = write!(id, "{bits:016x}");
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_32_digits() {
        let a = ServerInfo::frontend("chat").unwrap();
        let b = ServerInfo::frontend("chat").unwrap();
        assert_ne!(a.id, b.id);
        assert_eq!(a.id.as_str().len(), 32);
    }
}
