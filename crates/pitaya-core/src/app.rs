//! The handle of a running app.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    sync::Arc,
};

use crate::{
    Delivery, EncodedPush, Group, GroupName, GroupStore, IntoPayload, PushBuilder, Reporter, Result, ServerInfo,
    ServerType, Session, SessionId, SessionPool, Tasks, Uid, config::Config,
};

/// After how many users of one push others get their turn.
const USERS_AT_ONCE: usize = 256;

/// The handle of an app: cheap to clone, an argument of any handler, alive as long as somebody holds it.
///
/// It is state without an engine: the engine makes it from [`AppParts`] and owns the sockets.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// What an engine makes an [`App`] of.
#[expect(missing_debug_implementations, reason = "states are opaque")]
pub struct AppParts {
    /// Who this server is.
    pub server: ServerInfo,
    /// The sessions of this server's clients.
    pub sessions: SessionPool,
    /// Where groups are kept.
    pub groups: Arc<dyn GroupStore>,
    /// Where counts go.
    pub reporter: Arc<dyn Reporter>,
    /// The effective configuration.
    pub config: Config,
    /// The tasks of the app.
    pub tasks: Tasks,
    /// What `State<T>` extracts, by type.
    pub states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl App {
    /// Makes the handle. For engines.
    #[must_use]
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Who this server is.
    #[must_use]
    pub fn server(&self) -> &ServerInfo {
        &self.0.server
    }

    /// The effective configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where counts go.
    #[must_use]
    pub fn reporter(&self) -> &Arc<dyn Reporter> {
        &self.0.reporter
    }

    /// The tasks of the app: work in the background that is told to stop with it, and waited for.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// The session with this id, if its client is connected to this server.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.0.sessions.by_id(id)
    }

    /// The session that is bound to this user, if it is connected to this server.
    #[must_use]
    pub fn session_of(&self, uid: &Uid) -> Option<Session> {
        self.0.sessions.by_uid(uid)
    }

    /// How many clients are connected to this server.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
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
        self.0.sessions.format().encode(route, payload)
    }

    /// The state of this type, if the app holds one.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let state = self.0.states.get(&TypeId::of::<T>())?;
        Arc::clone(state).downcast().ok()
    }

    pub(crate) fn group_store(&self) -> &dyn GroupStore {
        &*self.0.groups
    }

    /// Queues a push for users. Nobody is waited for: a user without a session here, or with one that has closed, has
    /// failed.
    pub(crate) async fn deliver(
        &self,
        frontend: &ServerType,
        push: &EncodedPush,
        uids: impl IntoIterator<Item = Uid>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        let local = self.0.server.frontend && *frontend == self.0.server.kind;
        for (index, uid) in uids.into_iter().enumerate() {
            let session = if local { self.session_of(&uid) } else { None };
            let sent = match session {
                Some(session) => session.queue(push).wait().await.is_ok(),
                None => false,
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
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("server", &self.0.server.id).finish_non_exhaustive()
    }
}
