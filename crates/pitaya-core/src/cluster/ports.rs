//! The ports: what an adapter implements, and what it gets from the engine.

use std::{fmt, sync::Arc, task, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use super::{RpcError, Servers};
use crate::{
    BoxFuture, Error, Reporter, Result, ServerInfo, ServerType, Tasks, Uid,
    config::{Config, Row},
    reporter::Desc,
};

/// What adapters get when they start.
#[derive(Clone)]
pub struct ClusterContext {
    /// Who this server is, and where a [`Discovery`] writes down whom it has found.
    pub servers: Servers,
    /// The effective configuration.
    pub config: Arc<Config>,
    /// The tasks of the cluster's adapters: they are told to stop last, when nothing is called any more.
    pub tasks: Tasks,
    /// Where counts go.
    pub reporter: Arc<dyn Reporter>,
    /// Holds the reason when an adapter has given up.
    fatal: Arc<watch::Sender<Option<Error>>>,
}

impl ClusterContext {
    /// Makes the context. For engines.
    #[must_use]
    pub fn new(servers: Servers, config: Arc<Config>, tasks: Tasks, reporter: Arc<dyn Reporter>) -> Self {
        Self { servers, config, tasks, reporter, fatal: Arc::new(watch::Sender::new(None)) }
    }

    /// This server.
    #[must_use]
    pub fn me(&self) -> &Arc<ServerInfo> {
        self.servers.me()
    }

    /// Says that this server cannot stay in its cluster: it stops. Only the first reason counts.
    pub fn give_up(&self, reason: Error) {
        self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            fatal.get_or_insert(reason);
            first
        });
    }

    /// Waits until an adapter has given up, and says why. For engines.
    pub async fn given_up(&self) -> Error {
        let mut fatal = self.fatal.subscribe();
        loop {
            if let Some(reason) = fatal.borrow_and_update().clone() {
                return reason;
            }
            if fatal.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl fmt::Debug for ClusterContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterContext").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Finds the other servers (protocol.md 8).
pub trait Discovery: Send + Sync + 'static {
    /// Connects and learns which servers there are; from then on it keeps [`ClusterContext::servers`] true, in tasks of the
    /// context. A connection that is lost later is made again, and the servers that were known stay known.
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>>;

    /// Lets the others see this server. The last step of a start.
    fn register(&self) -> BoxFuture<'_, Result<()>>;

    /// Takes this server away from the others' lists. The first step of a stop; it has a time-out of its own.
    fn leave(&self) -> BoxFuture<'_, ()>;

    /// How long it takes until all others have seen that this server has left.
    fn spreading(&self) -> Duration;

    /// Types of servers that this one does not want to know of.
    fn ignored(&self) -> Vec<ServerType> {
        Vec::new()
    }
}

/// Calls other servers. Messages are encoded already; a transport neither reads nor changes them.
pub trait RpcClient: Send + Sync + 'static {
    /// Connects. A connection that is lost later is made again.
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>>;

    /// Sends an encoded [`Request`](super::protos::Request) to a server, and waits for the encoded
    /// [`Response`](super::protos::Response). The first poll hands the request over unless the transport is full, so that
    /// calls which are polled one after the other arrive in that order.
    ///
    /// # Errors
    ///
    /// There is no answer, in time or at all. One that is proved not to have been delivered is
    /// [`RpcError::NotDelivered`].
    fn call<'a>(
        &'a self,
        server: &'a ServerInfo,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RpcError>>;

    /// Sends an encoded message to whoever listens, and does not wait for them.
    ///
    /// # Errors
    ///
    /// It could not be sent. That nobody listens is no error where the transport cannot know.
    fn publish<'a>(&'a self, topic: Topic<'a>, message: Bytes) -> BoxFuture<'a, Result<(), RpcError>>;

    /// How long a call waits if nobody says otherwise.
    fn timeout(&self) -> Duration;
}

/// What a message that is not a call is about: protocol.md 6.1 has the subjects on NATS, and the payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic<'a> {
    /// A [`Push`](super::protos::Push) to a user of frontends of this type.
    Push(&'a ServerType, &'a Uid),
    /// A [`KickMsg`](super::protos::KickMsg) for a user of frontends of this type.
    Kick(&'a ServerType, &'a Uid),
    /// A [`BindMsg`](super::protos::BindMsg) for all servers of this type, and when it was, by a clock of those who bind: it
    /// travels beside the message if the transport can do that.
    Bindings(&'a ServerType, u64),
}

/// Takes the calls of other servers.
pub trait RpcServer: Send + Sync + 'static {
    /// Connects, and hands everything that arrives for this server to `service`. A connection that is lost later is made
    /// again, with all subscriptions.
    fn start<'a>(&'a self, context: &'a ClusterContext, service: Arc<dyn RpcService>) -> BoxFuture<'a, Result<()>>;

    /// From when it resolves on, pushes and kicks for this user come here.
    ///
    /// # Errors
    ///
    /// They cannot.
    fn subscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>>;

    /// Ends [`subscribe`](Self::subscribe) once; who subscribed twice still gets them.
    fn unsubscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, ()>;

    /// Takes no more calls. Those that have arrived have been handed over when it resolves.
    fn drain(&self) -> BoxFuture<'_, ()>;

    /// How many calls the engine takes.
    fn capacity(&self) -> Capacity {
        Capacity::default()
    }
}

/// How many calls of other servers are taken; one more is refused at once, with the code `PIT-429`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// So many run at once.
    pub running: usize,
    /// So many wait besides.
    pub waiting: usize,
}

/// Counts the calls that were refused because of that, and the messages that a transport has thrown away (F055). Engines and
/// adapters ask for the same instrument.
pub const DROPPED_MESSAGES: Desc = Desc::new(
    "rpc_server",
    "dropped_messages",
    "Messages of other servers that were thrown away because too many were waiting.",
    &[],
);

/// Bounds memory, not throughput.
impl Default for Capacity {
    fn default() -> Self {
        Self { running: 65_536, waiting: 65_536 }
    }
}

/// What handles the messages of other servers: the engine. Nothing here waits, so that one message never delays another.
pub trait RpcService: Send + Sync + 'static {
    /// An encoded [`Request`](super::protos::Request).
    fn request(&self, request: Bytes, responder: Responder);

    /// As [`request`](Self::request), for a caller in the same process whose task waits for nobody else's calls: what a
    /// client's message does until it waits for the first time may be done in the caller's place, without another task.
    fn request_in_place(&self, _cx: &mut task::Context<'_>, request: Bytes, responder: Responder) {
        self.request(request, responder);
    }
    /// An encoded [`Push`](super::protos::Push) to a user of this server.
    fn push(&self, push: Bytes);
    /// An encoded [`KickMsg`](super::protos::KickMsg) for a user of this server, and where the answer goes if one is waited
    /// for.
    fn kick(&self, kick: Bytes, responder: Option<Responder>);
    /// An encoded [`BindMsg`](super::protos::BindMsg), and when it was if that has travelled with it: servers of Go Pitaya
    /// do not say.
    fn bound(&self, bind: Bytes, at: Option<u64>);
}

/// Where the answer to a call goes. Dropping it leaves the caller without one.
pub struct Responder(Box<dyn FnOnce(Bytes) -> BoxFuture<'static, ()> + Send>);

impl Responder {
    /// An answer goes through this function; what goes wrong on its way is the transport's to log.
    pub fn new(send: impl FnOnce(Bytes) -> BoxFuture<'static, ()> + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends the encoded answer. It resolves when the transport has taken it.
    pub fn send(self, response: Bytes) -> BoxFuture<'static, ()> {
        (self.0)(response)
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// The adapters of one server.
#[derive(Clone)]
pub struct Adapters {
    /// Finds the others.
    pub discovery: Arc<dyn Discovery>,
    /// Calls them.
    pub client: Arc<dyn RpcClient>,
    /// Is called by them.
    pub server: Arc<dyn RpcServer>,
}

impl fmt::Debug for Adapters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Adapters")
    }
}

/// Which adapters a server uses, and the settings that these add to the table.
#[derive(Clone)]
pub struct Wiring {
    settings: Vec<&'static dyn Row>,
    wire: Arc<Wire>,
}

type Wire = dyn Fn(&Config) -> Result<Adapters> + Send + Sync;

impl Wiring {
    /// Each server of this wiring gets adapters of its own, made when its configuration is known. Nothing is connected yet.
    pub fn new(
        settings: impl IntoIterator<Item = &'static dyn Row>,
        wire: impl Fn(&Config) -> Result<Adapters> + Send + Sync + 'static,
    ) -> Self {
        Self { settings: settings.into_iter().collect(), wire: Arc::new(wire) }
    }

    /// The settings of the adapters.
    #[must_use]
    pub fn settings(&self) -> &[&'static dyn Row] {
        &self.settings
    }

    /// Makes the adapters of one server.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    pub fn adapters(&self, config: &Config) -> Result<Adapters> {
        (self.wire)(config)
    }
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wiring")
    }
}
