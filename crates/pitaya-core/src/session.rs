//! Sessions: what the server knows about one client's connection.

mod binding;
mod data;
mod handshake;
mod leaving;
mod pool;
mod remote;
mod step;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use pitaya_protocol::{HandshakeData, HandshakeError};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::{BoxFuture, EncodedPush, Error, IntoPayload, Result, SessionId, Uid, code};
pub use pool::{PoolOptions, SessionPool};
pub use remote::{DataChanges, HandledBy, RemoteLink};
pub use step::{SessionStep, StepList};

use data::SessionData;
use leaving::LeaveList;
use remote::ClusterState;

/// One client's connection, as handlers see it: cheap to clone, usable from any task, harmless after the close.
///
/// It is made when the client connects and removed from all look-ups when the connection closes (protocol.md 9).
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    id: SessionId,
    peer: Option<SocketAddr>,
    pool: SessionPool,
    /// The connection's side of the session.
    link: Arc<dyn SessionLink>,
    state: Mutex<State>,
}

/// Guarded by one mutex, held for moments only, never across an await.
struct State {
    phase: Phase,
    data: SessionData,
    /// The body of the handshake request, kept as bytes since few handlers look at it.
    handshake: Bytes,
    /// Run once, in order, when the session closes.
    on_close: Vec<CloseCallback>,
    /// The groups that its user leaves then; made by the first of them.
    leave_list: Option<Box<LeaveList>>,
    /// Tells those who wait in `closed`; made by the first of them.
    closed: Option<Arc<Notify>>,
    /// Made when a message is forwarded, or handled for another server.
    cluster: Option<Box<ClusterState>>,
}

type CloseCallback = Box<dyn FnOnce(Session) -> BoxFuture<'static, ()> + Send>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Unbound,
    /// The steps of a bind are running, which get the uid; nobody else sees it before they have agreed.
    Binding(Uid),
    Bound(Uid),
    Closed(Option<Uid>),
}

/// Why a session closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed the connection, or it broke.
    ClientClosed,
    /// A handler closed the session.
    Closed,
    /// The session was kicked.
    Kicked,
    /// The same user logged in on a newer session.
    Replaced,
    /// The client did not read what was queued for it.
    SlowConsumer,
    /// A write made no progress for too long.
    WriteTimeout,
    /// Nothing came from the client for too long.
    Idle,
    /// The handshake was not finished in time.
    HandshakeTimeout,
    /// The handshake was refused.
    HandshakeRefused,
    /// The rest of a packet did not come in time.
    PartialPacket,
    /// The client broke the protocol.
    Protocol,
    /// The server stops.
    Shutdown,
}

impl CloseReason {
    /// The reason as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::Closed => "closed",
            Self::Kicked => "kicked",
            Self::Replaced => "replaced",
            Self::SlowConsumer => "slow_consumer",
            Self::WriteTimeout => "write_timeout",
            Self::Idle => "idle",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HandshakeRefused => "handshake_refused",
            Self::PartialPacket => "partial_packet",
            Self::Protocol => "protocol",
            Self::Shutdown => "shutdown",
        }
    }

    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::ClientClosed,
        Self::Closed,
        Self::Kicked,
        Self::Replaced,
        Self::SlowConsumer,
        Self::WriteTimeout,
        Self::Idle,
        Self::HandshakeTimeout,
        Self::HandshakeRefused,
        Self::PartialPacket,
        Self::Protocol,
        Self::Shutdown,
    ];
}

/// Whether something is queued already or has to be waited for.
///
/// A connection of this process queues at once; a session whose connection is elsewhere has to send a message.
#[must_use]
pub enum Pushed {
    /// Done, one way or the other.
    Now(Result<()>),
    /// Done when the future is.
    Later(BoxFuture<'static, Result<()>>),
}

impl fmt::Debug for Pushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(result) => f.debug_tuple("Now").field(result).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl Pushed {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// It could not be queued.
    pub async fn wait(self) -> Result<()> {
        match self {
            Self::Now(result) => result,
            Self::Later(future) => future.await,
        }
    }
}

/// The connection's side of a session: implemented by engines.
///
/// Nothing here waits for the client, so that a handler can close its own connection.
pub trait SessionLink: Send + Sync + 'static {
    /// Queues a push behind everything that was queued before.
    fn push(&self, push: &EncodedPush) -> Pushed;
    /// Queues a Kick packet behind everything that was queued before; then the connection closes.
    fn kick(&self) -> Pushed;
    /// Closes the connection when everything that was queued has been written.
    fn close(&self, reason: CloseReason);
    /// Closes the connection as a stopping server does: no more is read, requests that have been read are answered (within
    /// the grace period), then what was queued is written.
    fn drain(&self, reason: CloseReason);
    /// How many requests of the client have not been answered yet.
    fn requests_in_flight(&self) -> usize {
        0
    }
    /// Whether so much is queued that somebody with more should let the connection write first.
    fn is_crowded(&self) -> bool {
        false
    }
    /// The way to the client's server, if that is another one than this.
    fn remote(&self) -> Option<&dyn RemoteLink> {
        None
    }
}

impl Session {
    fn new(id: SessionId, peer: Option<SocketAddr>, pool: SessionPool, link: Arc<dyn SessionLink>) -> Self {
        Self(Arc::new(Inner {
            id,
            peer,
            pool,
            link,
            state: Mutex::new(State {
                phase: Phase::Unbound,
                data: SessionData::default(),
                handshake: Bytes::new(),
                on_close: Vec::new(),
                leave_list: None,
                closed: None,
                cluster: None,
            }),
        }))
    }

    /// The number of the session, unique on the server that its client is connected to.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.0.id
    }

    /// The address of the client, if it came from one.
    #[must_use]
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// The user that the session is bound to. A closed session keeps it.
    ///
    /// # Errors
    ///
    /// The session is not bound, or its bind has not been approved by all bind steps yet.
    pub fn uid(&self) -> Result<Uid> {
        match &self.state().phase {
            Phase::Bound(uid) | Phase::Closed(Some(uid)) => Ok(uid.clone()),
            Phase::Unbound | Phase::Binding(_) | Phase::Closed(None) => {
                Err(Error::plain("the session is not bound to a user"))
            }
        }
    }

    /// Whether the session has closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state().phase, Phase::Closed(_))
    }

    /// Binds the session to a user: from then on pushes and look-ups by uid find it.
    ///
    /// The bind steps run in the order of registration, then the user's older session on this server (if any) is closed
    /// and this one takes its place, then the after-bind steps run. If one fails, what was done is undone in reverse
    /// order, and the session is unbound as before (protocol.md 9.3).
    ///
    /// # Errors
    ///
    /// The uid is not valid (`illegal uid`), the session is bound already, or has closed, or a step failed.
    pub async fn bind<U>(&self, uid: U) -> Result<()>
    where
        U: TryInto<Uid>,
        U::Error: Into<Error>,
    {
        binding::bind(self, uid.try_into().map_err(Into::into)?).await
    }

    /// Queues a push for this client, behind everything that was queued before.
    ///
    /// It resolves when the push is queued. When much is queued already, it lets the connection write first, so that a
    /// handler with many pushes does not overrun a client that reads. A client that does not read, and whose queue is
    /// full, is disconnected as a slow consumer.
    ///
    /// # Errors
    ///
    /// The payload does not fit the app's serializer or cannot be written, or the session has closed (`PIT-499`).
    pub async fn push<P: IntoPayload>(&self, route: &str, payload: P) -> Result<()> {
        let push = self.0.pool.format().encode(route, payload)?;
        self.send(&push).await
    }

    /// Queues a push that has been written already; see [`push`](Self::push).
    ///
    /// # Errors
    ///
    /// The session has closed (`PIT-499`).
    pub async fn send(&self, push: &EncodedPush) -> Result<()> {
        self.queue(push).wait().await?;
        if self.0.link.is_crowded() {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Queues a push and does not care whether there is much already: broadcasts wait for nobody. For engines.
    pub fn queue(&self, push: &EncodedPush) -> Pushed {
        self.0.link.push(push)
    }

    /// Sends a Kick packet behind everything that was queued before, then closes (protocol.md 2.7). It resolves when the
    /// kick is queued.
    ///
    /// # Errors
    ///
    /// The session has closed already (`PIT-499`).
    pub async fn kick(&self) -> Result<()> {
        self.0.link.kick().wait().await
    }

    /// Closes the connection when everything that was queued has been written. It returns at once; the session's
    /// callbacks run in the connection's task.
    pub fn close(&self) {
        self.0.link.close(CloseReason::Closed);
    }

    /// How many requests of this client are being handled: read, and not answered yet. Notifies do not count.
    ///
    /// For a session whose connection is elsewhere, those that are handled here.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        self.0.link.requests_in_flight()
    }

    /// Runs a callback once when the session closes, before those that the app registered for all sessions.
    ///
    /// If the client is connected to another server, that server tells when the session closes; should it crash, the callback
    /// runs when it is gone from the list of servers.
    ///
    /// # Errors
    ///
    /// The session has closed already (`PIT-499`), or its client is connected to a server that does not tell others when it
    /// closes, as those of Go Pitaya, or too many messages of other servers' clients have left callbacks here (`PIT-429`): the
    /// callback will not run.
    pub fn on_close<F, Fut>(&self, callback: F) -> Result<()>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        if let Some(remote) = self.remote() {
            remote.watch_close(self)?;
        }
        let mut state = self.state();
        if matches!(state.phase, Phase::Closed(_)) {
            return Err(closed());
        }
        state.on_close.push(Box::new(|session| Box::pin(callback(session))));
        Ok(())
    }

    /// Waits until the session has closed.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped and called again.
    pub async fn closed(&self) {
        let closed = Arc::clone(self.state().closed.get_or_insert_default());
        // Made before the look, so that a close in between is not missed.
        let notified = closed.notified();
        if !self.is_closed() {
            notified.await;
        }
    }

    /// What the client said of itself in its handshake (protocol.md 2.2). Parsed at each call.
    ///
    /// # Errors
    ///
    /// The client has not sent a handshake.
    pub fn handshake(&self) -> Result<HandshakeData, HandshakeError> {
        let body = self.state().handshake.clone();
        HandshakeData::parse(&body)
    }

    /// Keeps the handshake request that the engine has accepted.
    pub fn set_handshake(&self, body: Bytes) {
        self.state().handshake = body;
    }

    /// Reads a value; `None` if there is none under this key.
    ///
    /// # Errors
    ///
    /// There is a value, but not of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.state().data.get(key, self.0.peer);
        let Some(value) = value else { return Ok(None) };
        match serde_json::from_value(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Error::plain(format!("session value {key:?} has another type: {error}"))),
        }
    }

    /// Stores a value of any serializable type. Integers keep their value.
    ///
    /// # Errors
    ///
    /// The value has no JSON form.
    pub fn set<T: Serialize + ?Sized>(&self, key: impl Into<String>, value: &T) -> Result<()> {
        let key = key.into();
        match serde_json::to_value(value) {
            Ok(value) => {
                self.changed(|changes| changes.keys.extend([key.clone()]));
                self.state().data.map(self.0.peer).insert(key, value);
                Ok(())
            }
            Err(error) => Err(Error::plain(format!("session value {key:?} cannot be stored: {error}"))),
        }
    }

    /// Whether there is a value under this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.state().data.has(key)
    }

    /// Removes a value, if there is one.
    pub fn remove(&self, key: &str) {
        self.changed(|changes| changes.keys.extend([key.to_owned()]));
        self.state().data.map(self.0.peer).remove(key);
    }

    /// A copy of all values.
    #[must_use]
    pub fn data(&self) -> Map<String, Value> {
        self.state().data.map(self.0.peer).clone()
    }

    /// Replaces all values.
    pub fn set_data(&self, data: Map<String, Value>) {
        self.changed(|changes| changes.replaced = true);
        *self.state().data.map(self.0.peer) = data;
    }

    /// Removes all values.
    pub fn clear(&self) {
        self.set_data(Map::new());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the state is locked; if it ever did, the state would still be whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> Error {
    Error::new(code::CLIENT_CLOSED, "the session has closed")
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = self.state().phase.clone();
        f.debug_struct("Session").field("id", &self.0.id).field("phase", &phase).finish_non_exhaustive()
    }
}
