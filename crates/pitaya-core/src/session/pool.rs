//! The sessions of one server, found by id and by uid.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use pitaya_protocol::HandshakeData;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CloseReason, Session, SessionLink, SessionStep, StepList, binding, handshake, step::Validator};
use crate::{BoxFuture, GroupStore, PushFormat, Result, SessionId, Tasks, Uid};

/// All sessions of one app. Look-ups return clones, so no lock is ever held while somebody waits.
#[derive(Clone)]
pub struct SessionPool(Arc<Inner>);

struct Inner {
    next_id: AtomicI64,
    by_id: RwLock<HashMap<SessionId, Session>>,
    users: RwLock<Users>,
    /// Told when the last session has been removed.
    emptied: Notify,
    options: PoolOptions,
}

#[derive(Default)]
struct Users {
    sessions: HashMap<Uid, Session>,
    /// Sessions of other servers' clients that leave groups when they close, the newest last.
    elsewhere: HashMap<Uid, Vec<Session>>,
    /// Who is being taken out of groups, and what tells the end of that.
    departing: HashMap<Uid, CancellationToken>,
}

/// Where a user stands whose session has closed.
pub(super) enum Departure {
    /// Another session of the user is here.
    Stays(Session),
    /// The user is being taken out of groups already.
    UnderWay(CancellationToken),
    /// No session of the user is here, and none will be before this is dropped.
    Begun(Departing),
}

/// Makes binds of a user wait until it is dropped.
pub(super) struct Departing {
    pool: SessionPool,
    uid: Uid,
}

impl Drop for Departing {
    fn drop(&mut self) {
        if let Some(ended) = write(&self.pool.0.users).departing.remove(&self.uid) {
            ended.cancel();
        }
    }
}

/// What an engine makes a [`SessionPool`] of.
#[derive(Debug)]
pub struct PoolOptions {
    /// What joins bind and close.
    pub steps: StepList,
    /// The longest that one step may take.
    pub step_timeout: Duration,
    /// How pushes are written.
    pub format: PushFormat,
    /// Where groups are kept.
    pub groups: Arc<dyn GroupStore>,
    /// Where the undoing of an abandoned bind runs.
    pub tasks: Tasks,
}

impl SessionPool {
    /// A pool without sessions.
    #[must_use]
    pub fn new(options: PoolOptions) -> Self {
        Self(Arc::new(Inner {
            next_id: AtomicI64::new(1),
            by_id: RwLock::default(),
            users: RwLock::default(),
            emptied: Notify::new(),
            options,
        }))
    }

    /// Makes the session of a client that has connected.
    #[must_use]
    pub fn open(&self, peer: Option<SocketAddr>, link: Arc<dyn SessionLink>) -> Session {
        let id = SessionId::new(self.0.next_id.fetch_add(1, Ordering::Relaxed));
        let session = Session::new(id, peer, self.clone(), link);
        write(&self.0.by_id).insert(id, session.clone());
        session
    }

    /// Runs the close sequence of a session; the second call for the same session does nothing. For the engine: users
    /// call [`Session::close`], which makes the engine call this.
    pub async fn close(&self, session: &Session, reason: CloseReason) {
        binding::close(session, reason).await;
    }

    /// Asks all connections to [drain](SessionLink::drain); returns at once, with their number.
    #[allow(clippy::must_use_candidate, reason = "the number is told, not the purpose")]
    pub fn drain_all(&self, reason: CloseReason) -> usize {
        let sessions = self.all();
        sessions.iter().for_each(|session| session.0.link.drain(reason));
        sessions.len()
    }

    /// The longest that the end of a session may take: leaving groups, undoing the bind, and each callback, all with a bound
    /// of their own. Callbacks that are added later are not counted. For engines.
    #[must_use]
    pub fn longest_close(&self) -> Duration {
        let own = self.all().iter().map(|session| session.state().on_close.len()).max().unwrap_or_default();
        let steps = 1 + 2 * self.steps().len() + own;
        self.step_timeout().saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
    }

    /// Runs the handshake validators of the app; `None` if there are none. For engines.
    #[must_use]
    pub fn validate(&self, session: &Session, handshake: HandshakeData) -> Option<BoxFuture<'static, Result<()>>> {
        let empty = self.0.options.steps.validators().is_empty();
        (!empty).then(|| Box::pin(handshake::validate(session.clone(), Arc::new(handshake))) as _)
    }

    /// The session with this id.
    #[must_use]
    pub fn by_id(&self, id: SessionId) -> Option<Session> {
        read(&self.0.by_id).get(&id).cloned()
    }

    /// The session bound to this user.
    #[must_use]
    pub fn by_uid(&self, uid: &Uid) -> Option<Session> {
        read(&self.0.users).sessions.get(uid).cloned()
    }

    /// A copy of the list of all sessions.
    #[must_use]
    pub fn all(&self) -> Vec<Session> {
        read(&self.0.by_id).values().cloned().collect()
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        read(&self.0.by_id).len()
    }

    /// Whether there are no sessions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there are no sessions.
    pub async fn emptied(&self) {
        loop {
            // Made before the look, so that a close in between is not missed.
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// How pushes are written.
    #[must_use]
    pub fn format(&self) -> &PushFormat {
        &self.0.options.format
    }

    /// Where groups are kept.
    #[must_use]
    pub fn groups(&self) -> &Arc<dyn GroupStore> {
        &self.0.options.groups
    }

    pub(super) fn steps(&self) -> &[Arc<dyn SessionStep>] {
        self.0.options.steps.as_slice()
    }

    pub(super) fn validators(&self) -> &[Validator] {
        self.0.options.steps.validators()
    }

    pub(super) fn step_timeout(&self) -> Duration {
        self.0.options.step_timeout
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.0.options.tasks
    }

    /// Makes `session` the one of its user and returns the one that was. While the user is being taken out of groups,
    /// returns what tells the end of that instead.
    pub(super) fn insert_uid(&self, uid: &Uid, session: &Session) -> Result<Option<Session>, CancellationToken> {
        let mut users = write(&self.0.users);
        match users.departing.get(uid) {
            Some(ended) => Err(ended.clone()),
            None => Ok(users.sessions.insert(uid.clone(), session.clone())),
        }
    }

    /// Enters a session of another server's client that leaves groups when it closes. While the user is being taken out of
    /// groups, returns what tells the end of that instead.
    pub(super) fn insert_elsewhere(&self, uid: &Uid, session: &Session) -> Result<(), CancellationToken> {
        let mut users = write(&self.0.users);
        if let Some(ended) = users.departing.get(uid) {
            return Err(ended.clone());
        }
        let sessions = users.elsewhere.entry(uid.clone()).or_default();
        if !sessions.contains(session) {
            sessions.push(session.clone());
        }
        Ok(())
    }

    /// The sessions of a user that are connected elsewhere and leave groups when they close.
    pub(super) fn elsewhere(&self, uid: &Uid) -> Vec<Session> {
        read(&self.0.users).elsewhere.get(uid).cloned().unwrap_or_default()
    }

    /// Removes a session that was [entered](Self::insert_elsewhere).
    pub(super) fn remove_elsewhere(&self, uid: &Uid, session: &Session) {
        let mut users = write(&self.0.users);
        let Some(sessions) = users.elsewhere.get_mut(uid) else { return };
        sessions.retain(|other| other != session);
        if sessions.is_empty() {
            users.elsewhere.remove(uid);
        }
    }

    /// Begins to take a user out of groups, unless a session of the user is here.
    pub(super) fn depart(&self, uid: &Uid) -> Departure {
        let mut users = write(&self.0.users);
        let elsewhere = || users.elsewhere.get(uid).and_then(|sessions| sessions.last());
        if let Some(session) = users.sessions.get(uid).or_else(elsewhere) {
            return Departure::Stays(session.clone());
        }
        if let Some(ended) = users.departing.get(uid) {
            return Departure::UnderWay(ended.clone());
        }
        users.departing.insert(uid.clone(), CancellationToken::new());
        Departure::Begun(Departing { pool: self.clone(), uid: uid.clone() })
    }

    /// Removes the entry of a user if it is this session's: an old connection that closes late must not remove the new
    /// session of its user.
    pub(super) fn remove_uid(&self, uid: &Uid, session: &Session) {
        let mut users = write(&self.0.users);
        if users.sessions.get(uid).is_some_and(|current| current == session) {
            users.sessions.remove(uid);
        }
    }

    pub(super) fn remove_id(&self, session: &Session) {
        let mut by_id = write(&self.0.by_id);
        by_id.remove(&session.id());
        if by_id.is_empty() {
            self.0.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for SessionPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPool").field("len", &self.len()).finish_non_exhaustive()
    }
}

// Nothing panics while a map is locked; a poisoned one is still whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
