//! The handle of a running app.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    CloseReason, Delivery, EncodedPush, Error, Group, GroupError, GroupName, GroupStore, IntoPayload, Module, Protobuf,
    PushBuilder, Reporter, Result, RpcBuilder, ServerInfo, ServerType, Session, SessionId, SessionPool, Tasks, Uid,
    apart::Apart,
    cluster::{Peers, ServerList, Topic, protos},
    config::Config,
};

/// After how many users of one push others get their turn.
const USERS_AT_ONCE: usize = 256;

/// The handle of an app: cheap to clone, an argument of any handler, alive as long as somebody holds it.
///
/// It is state without an engine: the engine makes it from [`AppParts`] and owns the sockets.
#[derive(Clone)]
pub struct App(Apart<Shared>);

struct Shared {
    parts: AppParts,
    ready: watch::Sender<bool>,
}

/// What an engine makes an [`App`] of.
#[expect(missing_debug_implementations, reason = "states are opaque")]
pub struct AppParts {
    /// Who this server is.
    pub server: ServerInfo,
    /// The sessions of this server's clients.
    pub sessions: SessionPool,
    /// Where counts go.
    pub reporter: Arc<dyn Reporter>,
    /// The effective configuration.
    pub config: Arc<Config>,
    /// The tasks of the app.
    pub tasks: Tasks,
    /// What `State<T>` extracts, by type.
    pub states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// The modules, in the order of their start.
    pub modules: Vec<Module>,
    /// The other servers, if this one belongs to a cluster.
    pub peers: Option<Peers>,
}

impl App {
    /// Makes the handle. For engines.
    #[must_use]
    pub fn new(parts: AppParts) -> Self {
        Self(Apart::new(Arc::new(Shared { parts, ready: watch::Sender::new(false) })))
    }

    /// The same app, with a counter of clones of its own; see [`apart`](crate::apart). For engines.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self(Apart::new(Arc::clone(&self.0)))
    }

    /// Whether the app takes clients: from the end of the start until it is told to stop. For readiness probes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// Says whether the app takes clients. For engines.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.send_replace(ready);
    }

    /// Waits until the app [takes clients](Self::is_ready); for ever, if its server does not start.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped and called again.
    pub async fn ready(&self) {
        // Fails when the sender has gone, which this handle holds.
        drop(self.0.ready.subscribe().wait_for(|ready| *ready).await);
    }

    /// The servers of the cluster that are known now, this one included; none without a cluster.
    #[must_use]
    pub fn servers(&self) -> Arc<ServerList> {
        self.peers().map(Peers::servers).unwrap_or_default()
    }

    /// A call of a remote on another server, by its full route (`type.service.method`); say more with the methods of
    /// [`RpcBuilder`], and send it with [`RpcBuilder::reply`]. If it is proved that the server of its choice did not get it,
    /// it goes to another one of the type, once.
    pub fn rpc<T: prost::Message>(&self, route: &str, argument: Protobuf<T>) -> RpcBuilder {
        RpcBuilder::new(self.clone(), route, argument)
    }

    /// The cluster, if this server belongs to one. For engines and adapters.
    #[must_use]
    pub fn peers(&self) -> Option<&Peers> {
        self.parts().peers.as_ref()
    }

    /// Who this server is.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.parts().server
    }

    /// The effective configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.parts().config
    }

    /// Where counts go.
    #[must_use]
    pub fn reporter(&self) -> &Arc<dyn Reporter> {
        &self.parts().reporter
    }

    /// The tasks of the app: work in the background that is told to stop with it, and waited for.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.parts().tasks
    }

    /// The session with this id, if its client is connected to this server.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.parts().sessions.by_id(id)
    }

    /// The session that is bound to this user, if it is connected to this server.
    #[must_use]
    pub fn session_of(&self, uid: &Uid) -> Option<Session> {
        self.parts().sessions.by_uid(uid)
    }

    /// A user has left a group already: the end of a session has nothing to do there.
    pub(crate) fn forget_group(&self, uid: &Uid, group: &GroupName) {
        self.parts().sessions.forget_group(uid, group);
    }

    /// How many clients are connected to this server.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.parts().sessions.len()
    }

    /// The sessions of all clients that are connected to this server, in no particular order. A copy of the list: sessions
    /// may close while you go through it.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        self.parts().sessions.all()
    }

    /// Closes all sessions of this server, and returns how many there are. No more is read from them; requests that have
    /// been read are answered (within `pitaya.shutdown.graceperiod`), and what was queued is written, before they close. A
    /// handler that takes longer runs to its end all the same, as after any close; nobody gets its answer.
    ///
    /// It returns at once, so that a handler may call it; clients that connect later are not affected.
    #[allow(clippy::must_use_candidate, reason = "the number is told, not the purpose")]
    pub fn close_all(&self) -> usize {
        self.parts().sessions.drain_all(CloseReason::Closed)
    }

    /// The group with this name. A name that is not valid is reported by the first operation.
    #[must_use]
    pub fn group<N>(&self, name: N) -> Group
    where
        N: TryInto<GroupName>,
        N::Error: Into<crate::NameError>,
    {
        Group::new(self.clone(), name.try_into().map_err(Into::into))
    }

    /// The groups that a user is in, in no particular order.
    ///
    /// # Errors
    ///
    /// The store cannot be reached, or refused.
    pub async fn groups_of(&self, uid: &Uid) -> Result<Vec<GroupName>, GroupError> {
        self.group_store().groups_of(uid).await
    }

    /// A push to users, wherever they are connected; say to whom with [`PushBuilder::to_users`].
    pub fn push<P: IntoPayload>(&self, route: &str, payload: P) -> PushBuilder {
        PushBuilder::new(self.clone(), self.encode_push(route, payload))
    }

    /// Writes a push once, to be [sent](Session::send) to any number of sessions.
    ///
    /// # Errors
    ///
    /// The payload does not fit the app's serializer or cannot be written, or the route is empty or too long.
    pub fn encode_push<P: IntoPayload>(&self, route: &str, payload: P) -> Result<EncodedPush> {
        self.parts().sessions.format().encode(route, payload)
    }

    /// The state of this type, if the app holds one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let state = self.parts().states.get(&TypeId::of::<T>())?;
        Arc::clone(state).downcast().ok()
    }

    /// The first module of this type, if there is one.
    #[must_use]
    pub fn module<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.parts().modules.iter().find_map(Module::get)
    }

    /// The module with this name.
    ///
    /// # Errors
    ///
    /// There is none, or it is of another type.
    pub fn module_named<T: Send + Sync + 'static>(&self, name: &str) -> Result<Arc<T>> {
        let module = self.parts().modules.iter().find(|module| module.name() == name);
        let module = module.ok_or_else(|| Error::plain(format!("no module is named {name}")))?;
        let other = || Error::plain(format!("module {name} is no {}", std::any::type_name::<T>()));
        module.get().ok_or_else(other)
    }

    fn parts(&self) -> &AppParts {
        &self.0.parts
    }

    pub(crate) fn group_store(&self) -> &dyn GroupStore {
        &**self.parts().sessions.groups()
    }

    /// Queues a push for users. Nobody is waited for: a user with a session here that has closed has failed, and one without
    /// a session, if there is no cluster. Whether a user is connected to another server cannot be known.
    pub(crate) async fn deliver(
        &self,
        frontend: &ServerType,
        push: &EncodedPush,
        uids: impl IntoIterator<Item = Uid>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        let local = self.parts().server.frontend && *frontend == self.parts().server.kind;
        for (index, uid) in uids.into_iter().enumerate() {
            let session = if local { self.session_of(&uid) } else { None };
            let sent = match (session, self.peers()) {
                (Some(session), _) => session.queue(push).wait().await.is_ok(),
                (None, Some(peers)) => peers.push(frontend, &uid, push.route(), push.body()).await.is_ok(),
                (None, None) => false,
            };
            if !sent {
                delivery.failed.push(uid);
            }
            // A large group must not keep a thread from everybody else.
            if index % USERS_AT_ONCE == USERS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        delivery
    }

    /// [Kicks](Session::kick) users that are connected to this server, or to frontends of this type. Nobody is waited for.
    ///
    /// # Errors
    ///
    /// The type is not a valid name. Users that are known not to be connected are no error: they are named in the
    /// [`Delivery`]. Whether a user is connected to another server cannot be known.
    pub async fn kick<T>(&self, frontend: T, uids: impl IntoIterator<Item = Uid>) -> Result<Delivery>
    where
        T: TryInto<ServerType>,
        T::Error: Into<Error>,
    {
        let frontend = frontend.try_into().map_err(Into::into)?;
        let mut delivery = self.kick_users(uids).await;
        let Some(peers) = self.peers() else { return Ok(delivery) };
        let mut failed = Vec::new();
        for uid in delivery.failed {
            let kick = protos::KickMsg { user_id: uid.to_string() };
            if peers.publish(Topic::Kick(&frontend, &uid), &kick).await.is_err() {
                failed.push(uid);
            }
        }
        delivery.failed = failed;
        Ok(delivery)
    }

    /// Kicks users. Nobody is waited for: a user without a session here, or with one that has closed, has failed.
    pub(crate) async fn kick_users(&self, uids: impl IntoIterator<Item = Uid>) -> Delivery {
        let mut delivery = Delivery::default();
        for (index, uid) in uids.into_iter().enumerate() {
            let kicked = match self.session_of(&uid) {
                Some(session) => session.kick().await.is_ok(),
                None => false,
            };
            if !kicked {
                delivery.failed.push(uid);
            }
            if index % USERS_AT_ONCE == USERS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        delivery
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("server", &self.parts().server.id).finish_non_exhaustive()
    }
}
