//! One connection of the library, and what it says about itself.

use std::{future::ready, sync::Arc, time::Duration};

use async_nats::{
    Client, ClientError, Event, HeaderMap, PublishErrorKind, ServerAddr, Subject, Subscriber,
    client::traits::Publisher as _, message::OutboundMessage,
};
use bytes::Bytes;
use pitaya_core::{cluster::RpcError, reporter::Gauge};
use tokio::{
    sync::watch,
    task::unconstrained,
    time::{error::Elapsed, timeout},
};

use crate::options::Options;

/// A connection, which the library makes again by itself when it breaks.
pub(crate) struct Connection {
    client: Client,
    /// Whether the NATS server knows headers.
    headers: bool,
    health: watch::Receiver<Health>,
}

/// What is known of a connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it stands.
    pub(crate) up: bool,
    /// Whether its server is about to stop.
    pub(crate) lame: bool,
    /// How many messages the library has thrown away.
    pub(crate) dropped: u64,
}

impl Connection {
    /// Connects to one of the addresses.
    pub(crate) async fn open(
        options: &Options,
        addresses: &[ServerAddr],
        name: &str,
        dropped: Arc<dyn Gauge>,
    ) -> Result<Self, String> {
        let health = watch::Sender::new(Health { up: true, lame: false, dropped: 0 });
        let seen = health.subscribe();
        let library = options.library(name).event_callback(move |event| {
            health.send_modify(|health| health.note(&event));
            if let Event::SlowConsumer(_) = event {
                dropped.add(1);
            }
            ready(())
        });
        // The library counts the time for each address, but not that of the look-up of a name.
        let all = options.timeout.saturating_mul(u32::try_from(addresses.len()).unwrap_or(u32::MAX));
        let client = timeout(all, library.connect(addresses)).await;
        let client = client.map_err(|_: Elapsed| "timed out".to_owned())?.map_err(|error| error.to_string())?;
        let headers = client.server_info().headers;
        Ok(Self { client, headers, health: seen })
    }

    /// What happens to it. The channel is closed when it has ended for good.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    pub(crate) fn has_headers(&self) -> bool {
        self.headers
    }

    /// The longest message, in bytes.
    pub(crate) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// A subject that nobody else uses.
    pub(crate) fn new_inbox(&self) -> String {
        self.client.new_inbox()
    }

    /// Which NATS server it is connected to.
    pub(crate) fn server_id(&self) -> String {
        self.client.server_info().server_id
    }

    /// All servers of the NATS cluster that are known, those of the settings included.
    pub(crate) async fn pool(&self) -> Vec<ServerAddr> {
        let pool = self.client.server_pool().await.unwrap_or_default();
        pool.into_iter().map(|server| server.addr).collect()
    }

    /// Puts a message into the queue of the connection; the first poll does unless that is full.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), RpcError> {
        let len = payload.len();
        // A task that has done much already must not lose its place in the queue.
        let sent =
            unconstrained(self.client.publish_message(OutboundMessage { subject, reply, payload, headers })).await;
        sent.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => RpcError::TooLarge { len, limit: self.max_payload() },
            PublishErrorKind::InvalidSubject => RpcError::Failed("a name that NATS does not allow".into()),
            PublishErrorKind::Send => RpcError::Disconnected("the connection to NATS has ended".into()),
        })
    }

    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber, RpcError> {
        self.client.subscribe(subject).await.map_err(|error| RpcError::Failed(format!("no subscription: {error}")))
    }

    /// Writes what is queued, and ends the connection. Its subscriptions end, too.
    pub(crate) async fn close(&self, within: Duration) {
        let mut health = self.health();
        let closed = timeout(within, async {
            // Whatever fails here is gone anyway.
            drop(self.client.flush().await);
            drop(self.client.drain().await);
            while health.changed().await.is_ok() {}
        });
        if closed.await.is_err() {
            tracing::debug!("a connection to NATS was not closed in time");
        }
    }
}

impl Health {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Connected => (self.up, self.lame) = (true, false),
            Event::Disconnected | Event::Closed | Event::ClientError(ClientError::MaxReconnects) => self.up = false,
            Event::LameDuckMode => self.lame = true,
            Event::SlowConsumer(_) => self.dropped += 1,
            Event::Draining | Event::ServerError(_) | Event::ClientError(_) => {}
        }
    }
}
