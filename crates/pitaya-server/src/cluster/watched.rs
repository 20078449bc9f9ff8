//! Sessions of other servers whose callbacks run here when they close, or when their frontend is gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use pitaya_core::{
    CloseReason, Error, Result, ServerId, ServerInfo, Session, SessionId, Uid,
    cluster::{RpcError, ServerList},
    code,
};
use tokio::time::{Instant, sleep};

use super::{
    service::{Key, RemoteService},
    sys,
};
use crate::engine::Engine;

/// How many sessions may have callbacks here: one for each message whose handler asked for it.
const MAX_WATCHED: usize = 65_536;

/// How many of these may be of one client.
const MAX_OF_ONE: usize = 1_024;

/// How many sessions of a frontend that is gone close at once.
const CLOSING_AT_ONCE: usize = 256;

/// Between two looks whether a frontend that has left the list still lives.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// A frontend that is not listed and says nothing for so long is gone, also if nobody can prove it: NATS takes a while to see
/// that a machine has lost its power.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sessions, by their frontend.
#[derive(Default)]
pub(super) struct Watched(Mutex<Frontends>);

#[derive(Default)]
struct Frontends {
    by_id: HashMap<ServerId, Frontend>,
    /// How many sessions there are in all.
    count: usize,
}

struct Frontend {
    /// As it was when the first of these sessions was entered.
    server: Arc<ServerInfo>,
    sessions: HashMap<SessionId, Vec<Session>>,
    /// Whether it has left the list, and a task looks whether it lives.
    looked_after: bool,
}

/// The sessions of one client.
type Group = Vec<Session>;

impl Watched {
    /// Enters a session, unless one of the same client is here that will do `instead`. Returns which is here then, and the
    /// sessions of an earlier process that had the id of the frontend.
    ///
    /// # Errors
    ///
    /// There are too many.
    fn enter(
        &self,
        server: &Arc<ServerInfo>,
        session: &Session,
        instead: impl Fn(&Session) -> bool,
    ) -> (Result<Session>, Vec<Group>) {
        let mut all = self.lock();
        let other = all.by_id.get(&server.id).is_some_and(|known| !is_same(&known.server, server));
        let earlier = if other { all.take(&server.id) } else { Vec::new() };
        (all.enter(server, session, instead), earlier)
    }

    /// The sessions of one client, who has gone.
    pub(super) fn take(&self, (frontend, id): &Key) -> Group {
        let mut all = self.lock();
        let Some(known) = all.by_id.get_mut(frontend) else { return Vec::new() };
        let group = known.sessions.remove(id).unwrap_or_default();
        if known.sessions.is_empty() {
            all.by_id.remove(frontend);
        }
        all.count -= group.len();
        group
    }

    /// The sessions of those whose id is another process by now, and the frontends that have left the list since the last look.
    fn compare(&self, list: &ServerList) -> (Vec<Group>, Vec<Arc<ServerInfo>>) {
        let mut all = self.lock();
        let (mut replaced, mut left) = (Vec::new(), Vec::new());
        for (id, known) in &mut all.by_id {
            match list.get(id) {
                Some(listed) if is_same(&known.server, listed) => {}
                Some(_) => replaced.push(id.clone()),
                None if known.looked_after => {}
                None => {
                    known.looked_after = true;
                    left.push(Arc::clone(&known.server));
                }
            }
        }
        let replaced = replaced.iter().flat_map(|id| all.take(id)).collect();
        (replaced, left)
    }

    /// The sessions of a frontend that is gone.
    fn take_all(&self, server: &ServerInfo) -> Vec<Group> {
        let mut all = self.lock();
        let is_known = all.by_id.get(&server.id).is_some_and(|known| is_same(&known.server, server));
        if is_known { all.take(&server.id) } else { Vec::new() }
    }

    /// Whether somebody still has to look after this frontend; not if it is in the list again, or none of its sessions is here.
    fn needs_care(&self, server: &ServerInfo, list: &ServerList) -> bool {
        let mut all = self.lock();
        let Some(known) = all.by_id.get_mut(&server.id).filter(|known| is_same(&known.server, server)) else {
            return false;
        };
        known.looked_after = list.get(&server.id).is_none();
        known.looked_after
    }

    fn lock(&self) -> MutexGuard<'_, Frontends> {
        // Nothing panics while the map is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frontends {
    fn enter(
        &mut self,
        server: &Arc<ServerInfo>,
        session: &Session,
        instead: impl Fn(&Session) -> bool,
    ) -> Result<Session> {
        let group = self.by_id.get(&server.id).and_then(|known| known.sessions.get(&session.id()));
        let group = group.map_or(&[][..], Vec::as_slice);
        if let Some(known) = group.iter().find(|known| *known == session || instead(known)) {
            return Ok(known.clone());
        }
        if self.count >= MAX_WATCHED || group.len() >= MAX_OF_ONE {
            return Err(too_many());
        }
        let new = || Frontend { server: Arc::clone(server), sessions: HashMap::new(), looked_after: false };
        let frontend = self.by_id.entry(server.id.clone()).or_insert_with(new);
        frontend.sessions.entry(session.id()).or_default().push(session.clone());
        self.count += 1;
        Ok(session.clone())
    }

    fn take(&mut self, id: &ServerId) -> Vec<Group> {
        let sessions = self.by_id.remove(id).map(|known| known.sessions).unwrap_or_default();
        self.count -= sessions.values().map(Vec::len).sum::<usize>();
        sessions.into_values().collect()
    }
}

/// Whether two descriptions are of one process.
fn is_same(one: &ServerInfo, other: &ServerInfo) -> bool {
    one.instance() == other.instance()
}

fn too_many() -> Error {
    Error::new(code::TOO_MANY, "too many sessions of other servers have callbacks here")
}

impl RemoteService {
    /// Keeps a session until its frontend says that it has closed, or is gone.
    pub(super) fn watch_close(self: &Arc<Self>, frontend: &Arc<ServerInfo>, session: &Session) -> Result<()> {
        self.watch(frontend, session, |_| false).map(drop)
    }

    /// The session that leaves the groups of a user when the client's closes: one that is kept already, or else this one, which
    /// is kept from now on.
    pub(super) fn watch_member(
        self: &Arc<Self>,
        frontend: &Arc<ServerInfo>,
        session: &Session,
        uid: &Uid,
    ) -> Result<Session> {
        // Those of messages that came before the bind have no uid.
        self.watch(frontend, session, |known| known.uid().is_ok_and(|known| known == *uid))
    }

    fn watch(
        self: &Arc<Self>,
        frontend: &Arc<ServerInfo>,
        session: &Session,
        instead: impl Fn(&Session) -> bool,
    ) -> Result<Session> {
        let engine = self.engine()?;
        let (watched, earlier) = self.watched.enter(frontend, session, instead);
        close(&engine, earlier);
        // If it has left the list before, the change will not be seen.
        let list = self.cluster()?.peers.servers();
        if list.get(&frontend.id).is_none() {
            self.compare(&engine, &list);
        }
        watched
    }

    /// Looks after the frontends of sessions with callbacks here, until the server stops.
    pub(super) async fn follow_frontends(self: Arc<Self>) {
        let (Ok(engine), Ok(cluster)) = (self.engine(), self.cluster()) else { return };
        let (mut servers, stopping) = (cluster.peers.context().servers.watch(), engine.work.stopping().clone());
        drop((engine, cluster));
        let following = async {
            while servers.changed().await.is_ok() {
                let list = Arc::clone(&servers.borrow_and_update());
                let Ok(engine) = self.engine() else { return };
                self.compare(&engine, &list);
            }
        };
        stopping.run_until_cancelled(following).await;
    }

    fn compare(self: &Arc<Self>, engine: &Arc<Engine>, list: &ServerList) {
        let (replaced, left) = self.watched.compare(list);
        close(engine, replaced);
        for server in left {
            let (service, stopping) = (Arc::clone(self), engine.work.stopping().clone());
            engine.work.spawn("frontend", async move {
                stopping.run_until_cancelled(Box::pin(service.look_after(server))).await;
            });
        }
    }

    /// A frontend has left the list. It may have crashed; or it is about to stop and its clients are still there; or it is in
    /// good health, and only etcd has lost it. Whether somebody takes its calls tells.
    async fn look_after(self: Arc<Self>, server: Arc<ServerInfo>) {
        let (mut answered, mut silent) = (false, None::<Instant>);
        loop {
            let Ok(cluster) = self.cluster() else { return };
            match cluster.peers.probe(&server, sys::ALIVE).await {
                Ok(()) => (answered, silent) = (true, None),
                Err(RpcError::NotDelivered(_)) => break,
                // That says something of the transport only.
                Err(RpcError::Disconnected(_) | RpcError::Closed) => silent = None,
                Err(_) => {
                    if silent.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        break;
                    }
                }
            }
            let servers = cluster.peers.context().servers.clone();
            drop(cluster);
            sleep(BETWEEN_LOOKS).await;
            if !self.watched.needs_care(&server, &servers.now()) {
                return;
            }
        }
        let Ok(engine) = self.engine() else { return };
        if answered {
            // It stops, and is telling us of its sessions.
            sleep(engine.options.shutdown_grace).await;
        }
        let gone = self.watched.take_all(&server);
        if !gone.is_empty() {
            tracing::warn!(frontend = %server.id, clients = gone.len(), "a frontend is gone, its sessions are closed here");
            close(&engine, gone);
        }
    }
}

/// Closes sessions here, those of one client in their order.
fn close(engine: &Arc<Engine>, groups: Vec<Group>) {
    if groups.is_empty() {
        return;
    }
    let sessions = engine.sessions.clone();
    engine.work.spawn("close", async move {
        stream::iter(groups)
            .for_each_concurrent(CLOSING_AT_ONCE, |group| {
                let sessions = &sessions;
                async move {
                    for session in group {
                        sessions.close(&session, CloseReason::ClientClosed).await;
                    }
                }
            })
            .await;
    });
}

#[cfg(test)]
mod tests {
    use pitaya_core::{
        EncodedPush, JsonSerializer, PoolOptions, PushFormat, Pushed, SessionLink, SessionPool, StepList, Tasks,
        cluster::{Servers, protos},
    };
    use pitaya_protocol::Compression;

    use super::*;
    use crate::MemoryGroups;

    struct Nowhere;

    impl SessionLink for Nowhere {
        fn push(&self, _push: &EncodedPush) -> Pushed {
            Pushed::Now(Ok(()))
        }

        fn kick(&self) -> Pushed {
            Pushed::Now(Ok(()))
        }

        fn close(&self, _reason: CloseReason) {}

        fn drain(&self, _reason: CloseReason) {}
    }

    fn pool() -> SessionPool {
        SessionPool::new(PoolOptions {
            steps: StepList::new(),
            step_timeout: Duration::from_secs(1),
            format: PushFormat::new(Arc::new(JsonSerializer), Compression::Off, None),
            groups: Arc::new(MemoryGroups::new()),
            tasks: Tasks::new(),
        })
    }

    fn session(pool: &SessionPool, id: i64) -> Session {
        pool.remote(protos::Session { id, ..protos::Session::default() }, Arc::new(Nowhere)).unwrap()
    }

    fn gate(id: &str, instance: &str) -> Arc<ServerInfo> {
        let mut server = ServerInfo::frontend("gate").unwrap();
        server.id = id.try_into().unwrap();
        server.metadata.insert(ServerInfo::INSTANCE.to_owned(), instance.to_owned());
        Arc::new(server)
    }

    fn enter(watched: &Watched, gate: &Arc<ServerInfo>, session: &Session) -> Result<Vec<Group>> {
        let (entered, earlier) = watched.enter(gate, session, |_| false);
        entered.map(|entered| {
            assert_eq!(entered, *session);
            earlier
        })
    }

    fn key(id: &str, session: i64) -> Key {
        (id.try_into().unwrap(), SessionId::new(session))
    }

    #[test]
    fn sessions_are_taken_once_by_their_end_or_by_that_of_their_frontend() {
        let (pool, watched) = (pool(), Watched::default());
        let (one, two) = (gate("g1", "a"), gate("g2", "b"));
        let (first, second) = (session(&pool, 1), session(&pool, 1));
        for session in [&first, &second, &first] {
            assert!(enter(&watched, &one, session).unwrap().is_empty());
        }
        for id in 1..=3 {
            enter(&watched, &two, &session(&pool, id)).unwrap();
        }
        assert_eq!(watched.take(&key("g1", 1)), [first, second]);
        assert_eq!(watched.take(&key("g1", 1)), []);
        assert_eq!(watched.take(&key("g2", 2)).len(), 1);

        // In the list, not in the list, looked after, back again.
        let servers = Servers::new(ServerInfo::backend("room").unwrap(), vec![]);
        servers.add((*two).clone());
        assert!(matches!(watched.compare(&servers.now()), (replaced, left) if replaced.is_empty() && left.is_empty()));
        servers.remove(&two.id);
        assert_eq!(watched.compare(&servers.now()).1, [Arc::clone(&two)]);
        assert_eq!(watched.compare(&servers.now()).1, []);
        assert!(watched.needs_care(&two, &servers.now()));
        servers.add((*two).clone());
        assert!(!watched.needs_care(&two, &servers.now()));
        servers.remove(&two.id);
        assert_eq!(watched.compare(&servers.now()).1, [Arc::clone(&two)]);
        assert_eq!(watched.take_all(&gate("g2", "other")).len(), 0);
        assert_eq!(watched.take_all(&two).len(), 2);
        assert!(!watched.needs_care(&two, &servers.now()));
        assert_eq!(watched.lock().count, 0);

        // Another process with the same name, which is seen in the list or by its first session.
        enter(&watched, &one, &session(&pool, 1)).unwrap();
        servers.add((*gate("g1", "c")).clone());
        assert_eq!(watched.compare(&servers.now()).0.len(), 1);
        enter(&watched, &one, &session(&pool, 1)).unwrap();
        assert_eq!(enter(&watched, &gate("g1", "c"), &session(&pool, 1)).unwrap().len(), 1);
        assert_eq!(watched.lock().count, 1);
    }

    #[test]
    fn no_client_and_no_crowd_fills_the_memory() {
        let (pool, watched, gate) = (pool(), Watched::default(), gate("g1", "a"));
        for _ in 0..MAX_OF_ONE {
            enter(&watched, &gate, &session(&pool, 1)).unwrap();
        }
        assert_eq!(enter(&watched, &gate, &session(&pool, 1)).unwrap_err().code(), code::TOO_MANY);
        let others = i64::try_from(MAX_WATCHED - MAX_OF_ONE).unwrap();
        for id in 2..2 + others {
            enter(&watched, &gate, &session(&pool, id)).unwrap();
        }
        assert_eq!(enter(&watched, &gate, &session(&pool, 0)).unwrap_err().code(), code::TOO_MANY);
        assert_eq!(watched.take(&key("g1", 1)).len(), MAX_OF_ONE);
        assert!(enter(&watched, &gate, &session(&pool, 0)).is_ok());
        // One that was refused leaves nothing.
        assert_eq!(watched.lock().by_id.get(&gate.id).unwrap().sessions.len(), usize::try_from(others).unwrap() + 1);
    }
}
