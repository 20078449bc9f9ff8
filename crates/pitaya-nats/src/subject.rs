//! The subjects of protocol.md 6.1. Slashes are literal, and nothing is escaped: names are checked where they are made.

use async_nats::Subject;
use pitaya_core::{ServerId, ServerType, Uid, cluster::Topic};

/// Calls of a server.
pub(crate) fn server(kind: &ServerType, id: &ServerId) -> Subject {
    ["pitaya/servers/", kind.as_str(), "/", id.as_str()].concat().into()
}

/// Pushes to a user of frontends of a type.
pub(crate) fn push(kind: &ServerType, uid: &Uid) -> Subject {
    user(kind, uid, "/push")
}

/// Kicks of a user of frontends of a type.
pub(crate) fn kick(kind: &ServerType, uid: &Uid) -> Subject {
    user(kind, uid, "/kick")
}

fn user(kind: &ServerType, uid: &Uid, what: &str) -> Subject {
    ["pitaya/", kind.as_str(), "/user/", uid.as_str(), what].concat().into()
}

/// Binds on servers of a type.
pub(crate) fn bindings(kind: &ServerType) -> Subject {
    ["pitaya/", kind.as_str(), "/bindings"].concat().into()
}

pub(crate) fn topic(topic: Topic<'_>) -> Subject {
    match topic {
        Topic::Push(kind, uid) => push(kind, uid),
        Topic::Kick(kind, uid) => kick(kind, uid),
        Topic::Bindings(kind, _) => bindings(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_those_of_every_pitaya() {
        let (kind, id) = ("connector".try_into().unwrap(), "c1".try_into().unwrap());
        let uid = "u.1".try_into().unwrap();
        assert_eq!(server(&kind, &id).as_str(), "pitaya/servers/connector/c1");
        assert_eq!(topic(Topic::Push(&kind, &uid)).as_str(), "pitaya/connector/user/u.1/push");
        assert_eq!(topic(Topic::Kick(&kind, &uid)).as_str(), "pitaya/connector/user/u.1/kick");
        assert_eq!(topic(Topic::Bindings(&kind, 1)).as_str(), "pitaya/connector/bindings");
    }
}
