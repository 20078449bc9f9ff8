//! The settings of a client, and the ways to connect it.

use std::sync::Arc;
use std::time::Duration;

use pitaya_protocol::{Compression, HandshakeData, HandshakeSys, MAX_BODY_LEN};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::address::Address;
use crate::client::Client;
use crate::driver::{COMMANDS, Driver};
use crate::error::ConnectError;
use crate::link::{Io, Link};
use crate::options::Options;
use crate::push::QueueLimits;
use crate::reconnect::Reconnect;
use crate::session::Session;
use crate::shared::Shared;

/// The settings of a [`Client`] that is to be connected; made by [`Client::builder`].
#[derive(Debug)]
#[must_use = "nothing happens before `connect` is called and awaited"]
pub struct Builder {
    address: String,
    handshake: HandshakeData,
    user: Result<Option<Map<String, Value>>, Option<serde_json::Error>>,
    /// Its `handshake` is filled in at the end.
    options: Options,
}

impl Builder {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            handshake: HandshakeData {
                sys: HandshakeSys {
                    platform: std::env::consts::OS.to_owned(),
                    lib_version: concat!(env!("CARGO_PKG_VERSION"), "-rust").to_owned(),
                    client_build_number: String::from("1"),
                    client_version: String::from("0.1"),
                },
                user: Map::new(),
            },
            user: Ok(None),
            options: Options {
                handshake: Vec::new(),
                request_timeout: Duration::from_secs(5),
                connect_timeout: Duration::from_secs(10),
                packet_timeout: Duration::from_secs(30),
                silence: Some(3),
                compression: Compression::Off,
                max_packet: 4 * 1024 * 1024,
                max_inflated: 16 * 1024 * 1024,
                max_in_flight: 1024,
                push_limits: QueueLimits { pushes: 1024, bytes: 16 * 1024 * 1024 },
                reconnect: None,
            },
        }
    }

    /// Sets what the client tells about itself; by default platform and version of this library.
    pub fn handshake(mut self, data: HandshakeData) -> Self {
        self.handshake = data;
        self
    }

    /// Sets the user data of the handshake, in place of those of [`handshake`](Self::handshake).
    ///
    /// It must serialise to a JSON object; if not, connecting fails with [`ConnectError::User`].
    pub fn user(mut self, user: impl Serialize) -> Self {
        self.user = match serde_json::to_value(user) {
            Ok(Value::Object(user)) => Ok(Some(user)),
            Ok(_) => Err(None),
            Err(error) => Err(Some(error)),
        };
        self
    }

    /// Sets how long a request waits for its answer, the time in our own queue included; 5 s by default.
    ///
    /// [`Client::with_timeout`] changes it for some requests.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.options.request_timeout = timeout;
        self
    }

    /// Sets how long connecting may take, from the name look-up to the end of the handshake; 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets how long a packet that has begun to arrive may take to be complete; 30 s by default, zero is for ever.
    ///
    /// Only for byte streams: of a WebSocket message nothing is seen before it is complete.
    pub fn packet_timeout(mut self, timeout: Duration) -> Self {
        self.options.packet_timeout = timeout;
        self
    }

    /// Sets after how many heartbeat intervals without any packet the connection counts as dead; 3 by default.
    ///
    /// At least one second, however short the interval. `None` waits for ever, and so does a server that announced no
    /// interval.
    pub fn silence(mut self, intervals: Option<u32>) -> Self {
        self.options.silence = intervals;
        self
    }

    /// Sets which bodies are sent compressed; none by default. Compressed answers are always understood.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.options.compression = compression;
        self
    }

    /// Sets the longest packet body to accept, in bytes; 4 MiB by default, at most [`MAX_BODY_LEN`].
    pub fn max_packet(mut self, bytes: usize) -> Self {
        self.options.max_packet = bytes.min(MAX_BODY_LEN);
        self
    }

    /// Sets how long a compressed body may become, in bytes, the handshake response included; 16 MiB by default.
    pub fn max_inflated(mut self, bytes: usize) -> Self {
        self.options.max_inflated = bytes;
        self
    }

    /// Sets how many requests may wait for their answers at the same time; 1024 by default.
    ///
    /// One more fails with [`RequestError::TooMany`](crate::RequestError::TooMany).
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.options.max_in_flight = requests;
        self
    }

    /// Sets how many pushes each subscription holds; 1024 by default. See [`Pushes`](crate::Pushes) for what happens
    /// when it is full.
    pub fn push_capacity(mut self, pushes: usize) -> Self {
        self.options.push_limits.pushes = pushes;
        self
    }

    /// Sets how many bytes of pushes each subscription holds; 16 MiB by default.
    pub fn push_bytes(mut self, bytes: usize) -> Self {
        self.options.push_limits.bytes = bytes;
        self
    }

    /// Replaces broken connections; by default the client closes with its first connection.
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.options.reconnect = Some(reconnect);
        self
    }

    /// Connects and shakes hands. A failure is final: [`reconnect`](Self::reconnect) is for connections that broke.
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
    pub async fn connect(self) -> Result<Client, ConnectError> {
        self.start(None).await
    }

    /// Shakes hands over a byte stream that is open already, such as a pipe in memory or a TLS stream.
    ///
    /// An address that starts with `ws://` runs the WebSocket upgrade on it first. Where the address points does not
    /// matter. There is no reconnect.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what went wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn connect_io(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Client, ConnectError> {
        self.start(Some(Box::new(io))).await
    }

    /// Connects, or takes `io`, and starts the task of the client.
    async fn start(self, io: Option<Box<dyn Io>>) -> Result<Client, ConnectError> {
        let Self { address, mut handshake, user, mut options } = self;
        if let Some(user) = user.map_err(ConnectError::User)? {
            handshake.user = user;
        }
        options.handshake = handshake.to_json();
        let address = Address::parse(&address)?;
        let reconnect_to = io.is_none().then(|| address.clone());
        let connecting = async {
            let link: Link = match io {
                Some(io) => address.attach(io, options.max_packet).await?,
                None => address.open(options.max_packet).await?,
            };
            Session::establish(link, &options).await
        };
        let session = timeout(options.connect_timeout, connecting).await.unwrap_or(Err(ConnectError::Timeout))?;
        let shared = Arc::new(Shared::new(options, Arc::clone(&session.handshake)));
        let (sender, commands) = mpsc::channel(COMMANDS);
        let driver = Driver::new(Arc::clone(&shared), commands, reconnect_to);
        #[expect(
            clippy::disallowed_methods,
            reason = "the one task of a client; it ends with the client, and `Client::closed` tells"
        )]
        tokio::spawn(driver.run(session));
        Ok(Client::new(sender, shared))
    }
}
