//! Watching keys.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::codec::Streaming;

use super::{
    CALL_TIMEOUT, Client, EtcdError, Event,
    call::{WATCH, stream},
    endpoints::{Connection, Endpoints},
    kv::prefix_end,
    messages::{WatchCreateRequest, WatchRequest, WatchResponse},
};

/// A stream of changes.
pub(crate) struct Watch {
    answers: Streaming<WatchResponse>,
    connection: Connection,
    endpoints: Arc<Endpoints>,
    /// The revision of the member when the watch was made.
    pub(crate) revision: i64,
}

/// What a watch has seen.
pub(crate) enum Seen {
    /// Changes, in order.
    Events(Vec<Event>),
    /// Nothing up to this revision.
    Nothing(i64),
}

impl Client {
    /// Watches all keys that begin with `prefix`, from this revision on.
    ///
    /// # Errors
    ///
    /// [`EtcdError::Compacted`] if etcd has forgotten changes since then.
    pub(crate) async fn watch(&self, prefix: &str, from: i64) -> Result<Box<Watch>, EtcdError> {
        let create = WatchCreateRequest {
            key: Bytes::copy_from_slice(prefix.as_bytes()),
            range_end: prefix_end(prefix),
            start_revision: from,
            progress_notify: true,
        };
        let (connection, _) = self.endpoints.connection().await?;
        let late = || EtcdError::Timeout { endpoint: connection.endpoint.clone(), limit: CALL_TIMEOUT };
        let opened = timeout(CALL_TIMEOUT, Box::pin(open(&connection, create))).await.unwrap_or_else(|_| Err(late()));
        match opened {
            Ok((answers, revision)) => {
                let endpoints = Arc::clone(&self.endpoints);
                Ok(Box::new(Watch { answers, connection, endpoints, revision }))
            }
            Err(error) => {
                if error.is_of_the_connection() {
                    self.endpoints.give_up(&connection);
                }
                Err(error)
            }
        }
    }
}

async fn open(
    connection: &Connection,
    create: WatchCreateRequest,
) -> Result<(Streaming<WatchResponse>, i64), EtcdError> {
    let request = WatchRequest { create: Some(create) };
    let (endpoint, token) = (&connection.endpoint, connection.token.as_ref());
    let mut answers = stream(&connection.channel, endpoint, token, WATCH, request).await?;
    let first = next(&mut answers, endpoint).await?;
    Ok((answers, first.header.unwrap_or_default().revision))
}

impl Watch {
    /// Waits for what comes next: for ever if nothing happens, but no longer than until the connection is found dead. May be
    /// dropped at any time.
    ///
    /// # Errors
    ///
    /// The watch has ended.
    pub(crate) async fn next(&mut self) -> Result<Seen, EtcdError> {
        match next(&mut self.answers, &self.connection.endpoint).await {
            Ok(answer) if answer.events.is_empty() => Ok(Seen::Nothing(answer.header.unwrap_or_default().revision)),
            Ok(answer) => Ok(Seen::Events(answer.events)),
            Err(error) => {
                if error.is_of_the_connection() {
                    self.endpoints.give_up(&self.connection);
                }
                Err(error)
            }
        }
    }
}

async fn next(answers: &mut Streaming<WatchResponse>, endpoint: &str) -> Result<WatchResponse, EtcdError> {
    let ended = || EtcdError::Unavailable { endpoint: endpoint.to_owned(), reason: "the watch has ended".to_owned() };
    let answer = answers.message().await.map_err(|status| EtcdError::of(endpoint, &status))?;
    let answer = answer.ok_or_else(ended)?;
    if answer.compact_revision != 0 {
        return Err(EtcdError::Compacted);
    }
    if answer.canceled {
        return Err(EtcdError::Refused(format!("the watch was cancelled: {}", answer.cancel_reason)));
    }
    Ok(answer)
}
