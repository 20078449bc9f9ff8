//! One connection of the library, and what it says about itself.

use std::{future::ready, sync::Arc, time::Duration};

use async_nats::{
    Client, ClientError, Event, HeaderMap, PublishErrorKind, ServerAddr, Subject, Subscriber,
    client::{PublishError, traits::Publisher as _},
    message::OutboundMessage,
};
use bytes::Bytes;
use pitaya_core::{Tasks, cluster::RpcError, reporter::Gauge};
use tokio::{
    sync::watch,
    time::{error::Elapsed, timeout},
};

use crate::{
    options::Options,
    overflow::{NotSent, Overflow, Queue},
};

/// How many messages may wait for room in the queue of a connection; one more fails.
const MAX_WAITING: usize = 1 << 16;

/// A connection, which the library makes again by itself when it breaks.
pub(crate) struct Connection {
    client: Client,
    /// The way of messages into the client's queue.
    overflow: Overflow<Client>,
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
        tasks: &Tasks,
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
        let overflow = Overflow::new(client.clone(), MAX_WAITING, tasks);
        Ok(Self { client, overflow, headers, health: seen })
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

    /// Puts a message into the queue of the connection; the first poll does unless that is full. Messages are sent in the
    /// order of the first polls, also when it is.
    pub(crate) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), RpcError> {
        let len = payload.len();
        let sent = self.overflow.put(OutboundMessage { subject, reply, payload, headers }).await;
        sent.map_err(|error| match error {
            NotSent::Refused(error) => match error.kind() {
                PublishErrorKind::MaxPayloadExceeded => RpcError::TooLarge { len, limit: self.max_payload() },
                PublishErrorKind::InvalidSubject => RpcError::Failed("a name that NATS does not allow".into()),
                PublishErrorKind::Send => RpcError::Disconnected("the connection to NATS has ended".into()),
            },
            NotSent::Full => {
                RpcError::Failed(format!("{MAX_WAITING} messages wait for the connection to NATS already"))
            }
            NotSent::Ended => RpcError::Disconnected("the connection to NATS has ended".into()),
        })
    }

    pub(crate) async fn subscribe(&self, subject: Subject) -> Result<Subscriber, RpcError> {
        self.client.subscribe(subject).await.map_err(|error| RpcError::Failed(format!("no subscription: {error}")))
    }

    /// Writes what is queued, and ends the connection. Its subscriptions end, too.
    pub(crate) async fn close(&self, within: Duration) {
        let mut health = self.health();
        let closed = timeout(within, async {
            self.overflow.emptied().await;
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

impl Queue for Client {
    type Message = OutboundMessage;
    type Error = PublishError;

    fn put(&self, message: OutboundMessage) -> impl Future<Output = Result<(), PublishError>> + Send {
        self.publish_message(message)
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
