//! The handle of a client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pitaya_protocol::{HandshakeResponse, MAX_BODY_LEN, MAX_HEAD_LEN, MAX_ROUTE_LEN, MessageError, MessageKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::builder::Builder;
use crate::driver::Command;
use crate::error::{CloseReason, ConnectError, RequestError};
use crate::push::Pushes;
use crate::session::Outgoing;
use crate::shared::Shared;
use crate::state::{State, States};

/// A connection to a server, cheap to clone.
///
/// One task owns the connection; clones send it messages over a bounded channel, and wait when that is full. Dropping
/// the last clone closes the connection after what was handed over has been sent.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    timeout: Duration,
}

impl Client {
    pub(crate) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { timeout: shared.options.request_timeout, commands, shared }
    }

    /// Connects with the default settings to `tcp://host:port`, `ws://host[:port][/path]` or `host:port` (TCP).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time and I/O enabled.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::builder(address).connect().await
    }

    /// Returns the default settings for an address as in [`connect`](Self::connect).
    pub fn builder(address: &str) -> Builder {
        Builder::new(address)
    }

    /// Returns a handle to the same connection whose requests have another time-out.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Sends a request with a JSON body and waits for the JSON answer.
    ///
    /// # Errors
    ///
    /// As [`request_bytes`](Self::request_bytes), and [`RequestError::Serializer`], [`RequestError::Encode`],
    /// [`RequestError::Decode`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up; the server may have got it.
    pub async fn request<T: DeserializeOwned>(
        &self,
        route: &str,
        argument: &(impl Serialize + ?Sized),
    ) -> Result<T, RequestError> {
        let body = self.encode(serde_json::to_vec(argument))?;
        let answer = self.exchange(route, body).await?;
        serde_json::from_slice(&answer).map_err(RequestError::Decode)
    }

    /// Sends a request and waits for the answer, both as bytes of the server's serializer.
    ///
    /// # Errors
    ///
    /// [`RequestError::Server`] if the server answers with an error, [`RequestError::Timeout`],
    /// [`RequestError::Closed`], [`RequestError::Reconnecting`], [`RequestError::TooMany`];
    /// [`RequestError::Message`] for a route over 255 bytes and [`RequestError::TooLarge`] for a body that does not
    /// fit a packet.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up; the server may have got it.
    pub async fn request_bytes(&self, route: &str, body: impl Into<Bytes>) -> Result<Bytes, RequestError> {
        self.exchange(route, body.into()).await
    }

    /// Sends a notify with a JSON body; there is no answer to it.
    ///
    /// # Errors
    ///
    /// As [`notify_bytes`](Self::notify_bytes), and [`RequestError::Serializer`], [`RequestError::Encode`].
    pub async fn notify(&self, route: &str, argument: &(impl Serialize + ?Sized)) -> Result<(), RequestError> {
        let body = self.encode(serde_json::to_vec(argument))?;
        self.tell(route, body).await
    }

    /// Sends a notify; `Ok` means that it was handed to the task of the connection, not that it arrived.
    ///
    /// # Errors
    ///
    /// [`RequestError::Timeout`] if it cannot be handed over within the request time-out because the server does not
    /// read; [`RequestError::Closed`], [`RequestError::Reconnecting`], [`RequestError::Message`] and
    /// [`RequestError::TooLarge`] as with requests.
    pub async fn notify_bytes(&self, route: &str, body: impl Into<Bytes>) -> Result<(), RequestError> {
        self.tell(route, body.into()).await
    }

    /// Subscribes to all pushes. Those that came before and that nobody has got yet come first.
    #[must_use]
    pub fn pushes(&self) -> Pushes {
        self.shared.hub.subscribe(None)
    }

    /// Subscribes to the pushes of one route. Those that came before and that nobody has got yet come first.
    #[must_use]
    pub fn on(&self, route: impl Into<String>) -> Pushes {
        self.shared.hub.subscribe(Some(route.into()))
    }

    /// Returns what the server announced in the handshake of the current connection, or of the last one.
    #[must_use]
    pub fn handshake(&self) -> Arc<HandshakeResponse> {
        self.shared.handshake()
    }

    /// Returns how the client is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Returns the changes of the state from now on.
    #[must_use]
    pub fn states(&self) -> States {
        States::new(self.shared.states())
    }

    /// Waits until the client is connected, which it is unless a reconnect is under way.
    ///
    /// # Errors
    ///
    /// The reason, if the client closes or has closed.
    pub async fn connected(&self) -> Result<(), CloseReason> {
        let state = self.wait_for(|state| !matches!(state, State::Reconnecting { .. })).await;
        match state {
            State::Closed(reason) => Err(reason),
            State::Connected | State::Reconnecting { .. } => Ok(()),
        }
    }

    /// Waits until the client has closed and the connection is gone.
    pub async fn closed(&self) -> CloseReason {
        let state = self.wait_for(|state| matches!(state, State::Closed(_))).await;
        match state {
            State::Closed(reason) => reason,
            State::Connected | State::Reconnecting { .. } => CloseReason::ClientClosed,
        }
    }

    async fn wait_for(&self, wanted: impl FnMut(&State) -> bool) -> State {
        let mut states = self.shared.states();
        match states.wait_for(wanted).await {
            Ok(state) => state.clone(),
            // The sender lives as long as this handle.
            Err(_) => self.shared.state(),
        }
    }

    /// Closes the client: requests fail from now on, those in flight too, and what was handed over before is sent if
    /// the server takes it within a second.
    ///
    /// Returns at once; [`closed`](Self::closed) waits for the end.
    pub fn close(&self) {
        self.shared.pending.close(&CloseReason::ClientClosed);
        self.shared.closing.cancel();
    }

    /// Checks that the server speaks JSON, and that there is a body.
    fn encode(&self, body: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, RequestError> {
        let serializer = &self.shared.handshake().serializer;
        if serializer != "json" {
            return Err(RequestError::Serializer(serializer.clone()));
        }
        body.map(Bytes::from).map_err(RequestError::Encode)
    }

    async fn exchange(&self, route: &str, body: Bytes) -> Result<Bytes, RequestError> {
        let (ticket, answer) = self.shared.pending.admit()?;
        let message = self.outgoing(MessageKind::Request, ticket.id, route, body)?;
        let exchange = async {
            self.hand_over(ticket.epoch, message).await?;
            match answer.await {
                Ok(answer) => answer,
                Err(_) => Err(RequestError::Closed(self.shared.close_reason())),
            }
        };
        timeout(self.timeout, exchange).await.unwrap_or(Err(RequestError::Timeout))
    }

    async fn tell(&self, route: &str, body: Bytes) -> Result<(), RequestError> {
        let epoch = self.shared.pending.epoch()?;
        let message = self.outgoing(MessageKind::Notify, 0, route, body)?;
        timeout(self.timeout, self.hand_over(epoch, message)).await.unwrap_or(Err(RequestError::Timeout))
    }

    async fn hand_over(&self, epoch: u64, message: Outgoing) -> Result<(), RequestError> {
        self.commands
            .send(Command { epoch, message })
            .await
            .map_err(|_| RequestError::Closed(self.shared.close_reason()))
    }

    /// Checks and compresses here, in the task of the caller, so that the one of the connection cannot fail and need
    /// not work for it.
    fn outgoing(&self, kind: MessageKind, id: u64, route: &str, body: Bytes) -> Result<Outgoing, RequestError> {
        if route.len() > MAX_ROUTE_LEN {
            let error = MessageError::RouteTooLong { len: route.len() };
            return Err(RequestError::Message(error));
        }
        let deflated = self.shared.options.compression.apply(&body);
        let compressed = deflated.is_some();
        let body = deflated.map_or(body, Bytes::from);
        if body.len() > MAX_BODY_LEN - MAX_HEAD_LEN {
            return Err(RequestError::TooLarge { len: body.len() });
        }
        Ok(Outgoing { kind, id, route: route.to_owned(), body, compressed })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
