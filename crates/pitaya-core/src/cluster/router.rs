//! Which server of a type gets a message.

use std::{
    future::Future,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use bytes::Bytes;

use super::ServerList;
use crate::{BoxFuture, Context, Result, Route, ServerId, ServerInfo, ServerType};

/// What a router decides about: a client's message on its way to another server, or a call that names a type only.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Routing {
    /// Whose message it is; a call of a server may have no session.
    pub context: Context,
    /// Where to.
    pub route: Route,
    /// The payload.
    pub body: Bytes,
    kind: ServerType,
    servers: Arc<ServerList>,
    me: ServerId,
}

impl Routing {
    pub(super) fn new(
        context: Context,
        route: Route,
        body: Bytes,
        kind: ServerType,
        (servers, me): (Arc<ServerList>, ServerId),
    ) -> Self {
        Self { context, route, body, kind, servers, me }
    }

    /// The servers to choose from, at least one.
    #[must_use]
    pub fn servers(&self) -> &[Arc<ServerInfo>] {
        self.servers.of_kind(self.kind.as_str())
    }
}

/// Chooses a server of one type. An async function from [`Routing`] to the id of a server is one.
pub trait Router: Send + Sync + 'static {
    /// Chooses among [`Routing::servers`]. An error reaches the client.
    fn choose(&self, routing: Routing) -> Choice;
}

/// A decision that is made, or will be.
pub enum Choice {
    /// It is made.
    Now(Result<ServerId>),
    /// It has to wait for something.
    Later(BoxFuture<'static, Result<ServerId>>),
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(choice) => f.debug_tuple("Now").field(choice).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

impl<F, Fut> Router for F
where
    F: Fn(Routing) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<ServerId>> + Send + 'static,
{
    fn choose(&self, routing: Routing) -> Choice {
        Choice::Later(Box::pin(self(routing)))
    }
}

/// Any server, each as often as the others. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Router for Random {
    fn choose(&self, routing: Routing) -> Choice {
        let servers = routing.servers();
        Choice::Now(Ok(servers[fastrand::usize(..servers.len())].id.clone()))
    }
}

/// Always the same server for the messages of one session, as long as it is there: with several servers of a type, this keeps
/// the order of a session's messages. When servers come or go, only the sessions of those are moved. Calls without a session
/// go anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sticky;

impl Router for Sticky {
    fn choose(&self, routing: Routing) -> Choice {
        let Some(session) = routing.context.session() else { return Random.choose(routing) };
        // The same in every process: on the frontend, and on servers that make calls in the course of the session's messages.
        // The server with the highest number wins.
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let key = (session.frontend().unwrap_or(&routing.me), session.id());
        let score = |server: &&Arc<ServerInfo>| hasher.hash_one((&key, &server.id));
        let best = routing.servers().iter().max_by_key(score);
        // There is at least one.
        best.map_or_else(|| Random.choose(routing.clone()), |server| Choice::Now(Ok(server.id.clone())))
    }
}
