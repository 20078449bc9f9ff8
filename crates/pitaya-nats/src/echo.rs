//! What was said before is known to have arrived when an echo comes back.

use std::time::Duration;

use async_nats::{Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use pitaya_core::cluster::RpcError;
use tokio::time::timeout;

use crate::connection::Connection;

/// How long an echo may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A subject on which a connection hears itself. A NATS server does what a connection says in order, so an echo proves that
/// it has done all before. (The library's own flush only proves that it was written.)
pub(crate) struct Echo {
    subject: Subject,
    subscriber: Subscriber,
    count: u64,
}

impl Echo {
    pub(crate) async fn new(connection: &Connection) -> Result<Self, RpcError> {
        let subject = Subject::from(connection.new_inbox());
        let subscriber = connection.subscribe(subject.clone()).await?;
        Ok(Self { subject, subscriber, count: 0 })
    }

    /// Waits until the server has done all that was said so far, but not longer than [`PATIENCE`], and not while the
    /// connection is broken: subscriptions are made again when it is there again. Whether it has.
    pub(crate) async fn heard(&mut self, connection: &Connection) -> bool {
        let mut health = connection.health();
        tokio::select! {
            heard = timeout(PATIENCE, self.back(connection)) => matches!(heard, Ok(true)),
            _ = health.wait_for(|health| !health.up) => false,
        }
    }

    async fn back(&mut self, connection: &Connection) -> bool {
        self.count += 1;
        let payload = Bytes::copy_from_slice(&self.count.to_be_bytes());
        if connection.publish(self.subject.clone(), None, None, payload.clone()).await.is_err() {
            return false;
        }
        while let Some(message) = self.subscriber.next().await {
            // Others were given up.
            if message.payload == payload {
                return true;
            }
        }
        false
    }
}
