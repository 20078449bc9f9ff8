//! What goes wrong between us and etcd.

use std::{error::Error as _, time::Duration};

use pitaya_core::{Error, code};
use tonic::{Code, Status};

/// Why a call of etcd has no answer, or not the wanted one.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EtcdError {
    /// None of the endpoints can be reached.
    #[error("no etcd can be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the member cannot serve now.
    #[error("{endpoint} does not serve: {reason}")]
    Unavailable { endpoint: String, reason: String },
    /// Nothing came back in time.
    #[error("{endpoint} has not answered within {limit:?}")]
    Timeout { endpoint: String, limit: Duration },
    /// The user or the password is wrong, or one is needed.
    #[error("etcd does not let us in, see pitaya.cluster.sd.etcd.user and .pass: {0}")]
    Login(String),
    /// The user has no right to these keys.
    #[error("etcd does not let this user at these keys, see pitaya.cluster.sd.etcd.user and .prefix: {0}")]
    Denied(String),
    /// The token of a log-in that was right has expired, or there is none.
    #[error("etcd wants a log-in")]
    Token,
    /// It knows no users.
    #[error("etcd has no users")]
    NoLogin,
    /// The lease has ended.
    #[error("the lease has ended")]
    LeaseEnded,
    /// Revisions this old are no longer known.
    #[error("etcd has forgotten this revision")]
    Compacted,
    /// Anything else that etcd says.
    #[error("etcd refuses: {0}")]
    Refused(String),
}

impl EtcdError {
    /// Sorts the answer of a member.
    pub(crate) fn of(endpoint: &str, status: &Status) -> Self {
        let text = status.message();
        match status.code() {
            // What was not said by etcd, but by the connection.
            _ if status.source().is_some() => Self::unavailable(endpoint, status),
            // "No leader", "request timed out", "server stopped": another member may do better.
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unimplemented => {
                Self::unavailable(endpoint, status)
            }
            Code::Unauthenticated => Self::Token,
            // There was no token, or users have changed since it was made.
            Code::InvalidArgument if text.contains("user name is empty") => Self::Token,
            Code::InvalidArgument if text.contains("revision of auth store is old") => Self::Token,
            Code::InvalidArgument if text.contains("password") => Self::Login(text.to_owned()),
            Code::PermissionDenied => Self::Denied(text.to_owned()),
            Code::FailedPrecondition if text.contains("authentication is not enabled") => Self::NoLogin,
            Code::NotFound if text.contains("lease not found") => Self::LeaseEnded,
            Code::OutOfRange if text.contains("compacted") => Self::Compacted,
            _ => Self::Refused(text.to_owned()),
        }
    }

    fn unavailable(endpoint: &str, status: &Status) -> Self {
        let mut reason = status.message().to_owned();
        let mut source = status.source();
        while let Some(cause) = source {
            // The outer errors of the library say little.
            reason = cause.to_string();
            source = cause.source();
        }
        Self::Unavailable { endpoint: endpoint.to_owned(), reason }
    }

    /// Whether another member, or a new connection, may do better.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Timeout { .. })
    }
}

impl From<EtcdError> for Error {
    fn from(error: EtcdError) -> Self {
        Self::new(code::INTERNAL, error.to_string())
    }
}
