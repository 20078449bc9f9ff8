//! The messages between servers: proto3, package `protos` (protocol.md 5).
//!
//! Written by hand, since they are few and have not changed in ten years. Bytes are slices of what they were decoded from.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::Error as CoreError;

/// What kind of call a [`Request`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RpcType {
    /// The message of a client, forwarded by its frontend.
    Sys = 0,
    /// A call of one server by another.
    User = 1,
}

/// Whether a client waits for the answer. Responses and pushes are never sent as a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MsgType {
    /// It does.
    Request = 0,
    /// It does not.
    Notify = 1,
    /// Not used between servers.
    Response = 2,
    /// Not used between servers.
    Push = 3,
}

/// A call.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// See [`RpcType`].
    #[prost(enumeration = "RpcType", tag = "1")]
    pub r#type: i32,
    /// Whose message it is; only for [`RpcType::Sys`].
    #[prost(message, optional, tag = "2")]
    pub session: Option<Session>,
    /// What is called. Always there.
    #[prost(message, optional, tag = "3")]
    pub msg: Option<Msg>,
    /// The caller's id if it is a frontend, else empty.
    #[prost(string, tag = "4")]
    pub frontend_id: String,
    /// A JSON object, see [`Metadata`](super::Metadata). Never empty.
    #[prost(bytes = "bytes", tag = "5")]
    pub metadata: Bytes,
}

/// What is called, and with what.
#[derive(Clone, PartialEq, Message)]
pub struct Msg {
    /// The number that the client gave to its request; 0 for a notify and between servers.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The full route; two parts for the remotes of the framework (`sys.kick`).
    #[prost(string, tag = "2")]
    pub route: String,
    /// The client's payload, inflated, or the encoded argument of a remote.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    /// Not set by us, and not looked at.
    #[prost(string, tag = "4")]
    pub reply: String,
    /// See [`MsgType`].
    #[prost(enumeration = "MsgType", tag = "5")]
    pub r#type: i32,
}

/// A session as a backend sees it.
#[derive(Clone, PartialEq, Message)]
pub struct Session {
    /// Its id on the frontend.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The user, empty if not bound.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// All values, as a JSON object.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// The answer to a call. It has failed if there is an error.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// The encoded result.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    /// Why it failed.
    #[prost(message, optional, tag = "2")]
    pub error: Option<Error>,
}

/// Why a call failed. The metadata is written in the order of its keys, so that the bytes are always the same.
#[derive(Clone, PartialEq, Message)]
pub struct Error {
    /// A code such as `PIT-404`.
    #[prost(string, tag = "1")]
    pub code: String,
    /// A text for people.
    #[prost(string, tag = "2")]
    pub msg: String,
    /// What else there is to know.
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

/// A push to a user, for the frontend that it is connected to.
#[derive(Clone, PartialEq, Message)]
pub struct Push {
    /// The route that the client listens on.
    #[prost(string, tag = "1")]
    pub route: String,
    /// The user.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The payload as the client gets it, not compressed.
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// The wish to kick a user.
#[derive(Clone, PartialEq, Message)]
pub struct KickMsg {
    /// The user.
    #[prost(string, tag = "1")]
    pub user_id: String,
}

/// Whether the user was there.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct KickAnswer {
    /// It was, and has been kicked.
    #[prost(bool, tag = "1")]
    pub kicked: bool,
}

/// A user has been bound on a frontend.
#[derive(Clone, PartialEq, Message)]
pub struct BindMsg {
    /// The user.
    #[prost(string, tag = "1")]
    pub uid: String,
    /// The id of the frontend.
    #[prost(string, tag = "2")]
    pub fid: String,
}

impl Response {
    /// A success with this result.
    #[must_use]
    pub fn of(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), error: None }
    }

    /// A failure.
    #[must_use]
    pub fn failed(error: &CoreError) -> Self {
        Self { data: Bytes::new(), error: Some(error.into()) }
    }

    /// The result, or the error with its code, text and metadata.
    ///
    /// # Errors
    ///
    /// The call has failed. An error without code has the code `PIT-000` (protocol.md 6.3).
    pub fn into_result(self) -> Result<Bytes, CoreError> {
        match self.error {
            None => Ok(self.data),
            Some(error) => Err(error.into()),
        }
    }
}

impl From<&CoreError> for Error {
    fn from(error: &CoreError) -> Self {
        Self { code: error.code().to_owned(), msg: error.message().to_owned(), metadata: error.metadata().clone() }
    }
}

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        let metadata = error.metadata;
        metadata.into_iter().fold(Self::new(error.code, error.msg), |error, (key, value)| error.with(key, value))
    }
}

#[cfg(test)]
mod tests;
