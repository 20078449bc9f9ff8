//! The other servers, as a running app calls them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message as _;

use super::{
    Adapters, Choice, ClusterContext, Metadata, Random, Responder, Router, Routing, RpcError, RpcService, ServerList,
    Topic,
    metadata::push_request_id,
    protos::{self, MsgType, RpcType},
};
use crate::{
    Context, Error, Reply, Request, Result, Route, ServerId, ServerInfo, ServerType, Session, Tasks, Uid, code,
    config::Value as _,
};

/// The cluster of an app: its adapters, and the rules by which a message finds its server (protocol.md 4 and 6). Cheap to
/// clone. Made by engines.
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

struct Inner {
    context: ClusterContext,
    adapters: Adapters,
    options: PeerOptions,
    /// How the metadata of a client's message begins: who this server is.
    peer: String,
    /// What takes the calls of this server to itself.
    service: OnceLock<Weak<dyn RpcService>>,
    /// What tells other servers of sessions that have closed.
    goodbyes: Tasks,
}

/// What an engine makes [`Peers`] with.
#[derive(Default)]
pub struct PeerOptions {
    /// How servers are chosen, by type; [`Random`] for the others.
    pub routers: HashMap<ServerType, Arc<dyn Router>>,
    /// The types that clients may reach besides those that say they have handlers.
    pub exposed: Vec<ServerType>,
    /// Whether this server may call itself.
    pub loopback: bool,
}

impl fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerOptions").field("routers", &self.routers.keys()).finish_non_exhaustive()
    }
}

/// A call of another server's remote; see [`App::rpc`](crate::App::rpc).
#[derive(Debug, Clone)]
pub struct Call {
    /// The full route.
    pub route: Route,
    /// The encoded argument.
    pub data: Bytes,
    /// In the course of which message it is made.
    pub context: Context,
    /// A certain server, or any of the route's type.
    pub to: Option<ServerId>,
    /// How long to wait at most.
    pub timeout: Option<Duration>,
}

impl Peers {
    /// Makes the handle.
    #[must_use]
    pub fn new(context: ClusterContext, adapters: Adapters, options: PeerOptions) -> Self {
        let me = context.me();
        let peer = format!("{{\"peer.id\":{},\"peer.service\":{}", Quoted(me.id.as_str()), Quoted(me.kind.as_str()));
        Self(Arc::new(Inner { context, adapters, options, peer, service: OnceLock::new(), goodbyes: Tasks::new() }))
    }

    /// Says what takes the calls of this server to itself. Only the first time counts.
    pub fn set_service(&self, service: Weak<dyn RpcService>) {
        // Engines call it once.
        drop(self.0.service.set(service));
    }

    /// What the adapters got.
    #[must_use]
    pub fn context(&self) -> &ClusterContext {
        &self.0.context
    }

    /// The adapters.
    #[must_use]
    pub fn adapters(&self) -> &Adapters {
        &self.0.adapters
    }

    /// The servers that are known now.
    #[must_use]
    pub fn servers(&self) -> Arc<ServerList> {
        self.0.context.servers.now()
    }

    /// Whether clients may send messages to servers of this type: it was exposed by name, or a server of it says that it has
    /// handlers. Servers of Go Pitaya say nothing.
    #[must_use]
    pub fn exposes(&self, kind: &str) -> bool {
        self.0.options.exposed.iter().any(|exposed| exposed == kind)
            || self.servers().of_kind(kind).iter().any(|server| server.has_handlers())
    }

    /// Sends a client's message to a server of this type, and returns its answer. Nothing is delivered twice: another server
    /// is tried, once, if it is proved that the first did not get it.
    ///
    /// # Errors
    ///
    /// No server, no answer, or the answer is an error.
    pub async fn forward(&self, kind: &ServerType, request: Request) -> Reply {
        let session = request.parts.session()?;
        let context = &request.parts.context;
        let timeout = context.metadata().and_then(Metadata::timeout).unwrap_or(self.0.adapters.client.timeout());
        let is_notify = request.parts.context.message_id() == 0;
        let message = protos::Request {
            r#type: RpcType::Sys.into(),
            session: Some(session.snapshot()),
            msg: Some(protos::Msg {
                id: request.parts.context.message_id(),
                route: request.parts.route.as_str().to_owned(),
                data: request.body.clone(),
                r#type: if is_notify { MsgType::Notify.into() } else { MsgType::Request.into() },
                ..protos::Msg::default()
            }),
            frontend_id: self.me().id.to_string(),
            metadata: self.metadata_of_client(&request.parts.route, context, timeout),
        };
        let encoded = Bytes::from(message.encode_to_vec());
        let server = self.choose(kind, &request, None).await?;
        let mut late = session.handled_by(&server).then(|| server.id.clone());
        let answer = match self.call_within(&server, encoded.clone(), timeout).await {
            Err(error) if error.is_undelivered() => {
                let other = self
                    .choose(kind, &request, Some(&server.id))
                    .await
                    .map_err(|_| self.unanswered(error, request.parts.route.as_str(), &server))?;
                late = session.handled_by(&other).then(|| other.id.clone());
                let again = self.call_within(&other, encoded, timeout).await;
                again.map_err(|error| self.unanswered(error, request.parts.route.as_str(), &other))
            }
            answer => answer.map_err(|error| self.unanswered(error, request.parts.route.as_str(), &server)),
        };
        if late.is_some() {
            // The session had closed, and those who had handled its messages were told before.
            self.tell_closed(session, late);
        }
        decode(answer?)?.into_result()
    }

    /// The remote of our servers that is told that a session has closed.
    pub const SESSION_CLOSED: &'static str = "sys.sessionclosed";

    /// Tells servers that a session has closed. Nobody waits for that but a [`said_goodbye`](Self::said_goodbye). For engines.
    pub fn tell_closed(&self, session: &Session, servers: impl IntoIterator<Item = ServerId>) {
        let servers: Vec<_> = servers.into_iter().filter(|server| *server != self.me().id).collect();
        if servers.is_empty() {
            return;
        }
        let (peers, data) = (self.clone(), Bytes::from(session.snapshot().encode_to_vec()));
        self.0.goodbyes.spawn("close", async move {
            let context = Context::default();
            // One that does not answer keeps nobody from the others. One that is gone needs not be told.
            let calls =
                servers.iter().map(|server| peers.call_sys(server, Self::SESSION_CLOSED, data.clone(), &context));
            drop(join_all(calls).await);
        });
    }

    /// Waits until other servers have been told of all sessions that have closed, at most so long. Whether they have. For
    /// engines.
    pub async fn said_goodbye(&self, patience: Duration) -> bool {
        self.0.goodbyes.stop(patience).await
    }

    /// Calls a remote, and returns its encoded answer. Of a call by type another server is tried, once, if it is proved that
    /// the first did not get it.
    ///
    /// # Errors
    ///
    /// The rules of protocol.md 4 refuse it, there is no server, no answer, or the answer is an error.
    pub async fn call(&self, call: Call) -> Result<Bytes> {
        let me = self.me();
        let kind = call.route.server_type().ok_or_else(|| Error::plain(NO_TYPE))?;
        let to_itself = call.to.as_ref().map_or(*me.kind.as_str() == *kind, |id| *id == me.id);
        if to_itself && !self.0.options.loopback {
            return Err(Error::plain(LOCAL));
        }
        let Some(id) = &call.to else { return self.call_any(&ServerType::try_from(kind)?, &call).await };
        let server = self.servers().get(id).cloned().ok_or_else(|| Error::plain("server not found"))?;
        self.send(&server, call.route.as_str(), call.data, &call.context, call.timeout).await
    }

    async fn call_any(&self, kind: &ServerType, call: &Call) -> Result<Bytes> {
        let Call { route, data, context, timeout, .. } = call;
        let pick = |not| self.pick(kind, context.clone(), route.clone(), data.clone(), not);
        let ask = async |server| self.ask(server, route.as_str(), data.clone(), context, *timeout).await;
        let server = pick(None).await?;
        let (answer, server) = match ask(&server).await {
            Err(error) if error.is_undelivered() => {
                let other =
                    pick(Some(&server.id)).await.map_err(|_| self.unanswered(error, route.as_str(), &server))?;
                (ask(&other).await, other)
            }
            answer => (answer, server),
        };
        decode(answer.map_err(|error| self.unanswered(error, route.as_str(), &server))?)?.into_result()
    }

    /// Calls a remote of the framework on a certain server: `sys.kick` and its like (protocol.md 9.2).
    ///
    /// # Errors
    ///
    /// The server is not known, there is no answer, or the answer is an error.
    pub async fn call_sys(&self, server: &ServerId, route: &str, data: Bytes, context: &Context) -> Result<Bytes> {
        // One that has left the list serves its clients until it has stopped.
        let server = self
            .0
            .context
            .servers
            .last_known(server)
            .ok_or_else(|| Error::plain("can't find any server with the provided ID"))?;
        self.call_sys_on(&server, route, data, context).await
    }

    /// As [`call_sys`](Self::call_sys), on a server that need not be known here.
    ///
    /// # Errors
    ///
    /// There is no answer, or the answer is an error.
    pub async fn call_sys_on(
        &self,
        server: &Arc<ServerInfo>,
        route: &str,
        data: Bytes,
        context: &Context,
    ) -> Result<Bytes> {
        self.send(server, route, data, context, None).await
    }

    /// Asks a server that need not be known any more whether it lives; any answer will do. For engines.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn probe(&self, server: &ServerInfo, route: &str) -> Result<(), RpcError> {
        let timeout = self.0.adapters.client.timeout();
        let message = protos::Request {
            r#type: RpcType::User.into(),
            msg: Some(protos::Msg { route: route.to_owned(), ..protos::Msg::default() }),
            metadata: self.metadata_of_call(server, route, &Context::default(), timeout),
            ..protos::Request::default()
        };
        self.0.adapters.client.call(server, message.encode_to_vec().into(), timeout).await.map(drop)
    }

    async fn send(
        &self,
        server: &Arc<ServerInfo>,
        route: &str,
        data: Bytes,
        context: &Context,
        timeout: Option<Duration>,
    ) -> Result<Bytes> {
        let answer = self.ask(server, route, data, context, timeout).await;
        decode(answer.map_err(|error| self.unanswered(error, route, server))?)?.into_result()
    }

    /// Calls a remote of a server, and returns the encoded Response.
    async fn ask(
        &self,
        server: &Arc<ServerInfo>,
        route: &str,
        data: Bytes,
        context: &Context,
        timeout: Option<Duration>,
    ) -> Result<Bytes, RpcError> {
        let timeout = self.patience(server, context, timeout);
        if timeout.is_zero() {
            return Err(RpcError::Timeout(timeout));
        }
        let message = protos::Request {
            r#type: RpcType::User.into(),
            msg: Some(protos::Msg { route: route.to_owned(), data, ..protos::Msg::default() }),
            frontend_id: if self.me().frontend { self.me().id.to_string() } else { String::new() },
            metadata: self.metadata_of_call(server, route, context, timeout),
            session: None,
        };
        let encoded = message.encode_to_vec().into();
        if server.id == self.me().id {
            return self.call_itself(encoded, timeout).await;
        }
        // In the course of a call that is limited itself, the limit of that one comes first.
        if context.time_left().is_some() || context.metadata().and_then(Metadata::timeout).is_some() {
            return self.0.adapters.client.call(server, encoded, timeout).await;
        }
        self.call_within(server, encoded, timeout).await
    }

    /// Calls another server. A Go server counts the same time, from the moment when it reads the call, and answers then with
    /// an internal error (protocol.md 6.3). That must not come before our time-out, which says what happened, so tokio's timer
    /// is not allowed to round up.
    async fn call_within(&self, server: &Arc<ServerInfo>, call: Bytes, timeout: Duration) -> Result<Bytes, RpcError> {
        let wait = if server.is_ours() { timeout } else { timeout.saturating_sub(TICK).max(timeout / 2) };
        let answer = self.0.adapters.client.call(server, call, wait).await;
        answer.map_err(|error| if let RpcError::Timeout(_) = error { RpcError::Timeout(timeout) } else { error })
    }

    /// Hands a call of this server to itself over without the transport.
    async fn call_itself(&self, request: Bytes, timeout: Duration) -> Result<Bytes, RpcError> {
        let service = self.0.service.get().and_then(Weak::upgrade).ok_or(RpcError::Closed)?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        service.request(
            request,
            Responder::new(move |answer| {
                // Nobody may wait any more.
                drop(sender.send(answer));
                Box::pin(async {})
            }),
        );
        match tokio::time::timeout(timeout, receiver).await {
            Ok(answer) => answer.map_err(|_| RpcError::Closed),
            Err(_) => Err(RpcError::Timeout(timeout)),
        }
    }

    /// Sends a message to whoever listens.
    ///
    /// # Errors
    ///
    /// It could not be sent.
    pub async fn publish(&self, topic: Topic<'_>, message: &impl prost::Message) -> Result<(), RpcError> {
        self.0.adapters.client.publish(topic, message.encode_to_vec().into()).await
    }

    /// Pushes to a user on a frontend of this type, wherever that is.
    ///
    /// # Errors
    ///
    /// It could not be sent. That nobody has the user is no error where the transport cannot know.
    pub async fn push(&self, frontend: &ServerType, uid: &Uid, route: &str, body: &Bytes) -> Result<(), RpcError> {
        let push = protos::Push { route: route.to_owned(), uid: uid.to_string(), data: body.clone() };
        self.publish(Topic::Push(frontend, uid), &push).await
    }

    /// The error of a call without answer: it says what was called, by whom, and where (protocol.md 3.5).
    fn unanswered(&self, error: RpcError, route: &str, server: &ServerInfo) -> Error {
        let timeout = if let RpcError::Timeout(timeout) = &error { Some(timeout.show()) } else { None };
        let error = Error::from(error).with("route", route).with("server", &self.me().id).with("peer.id", &server.id);
        match timeout {
            Some(timeout) => error.with("timeout", timeout),
            None => error,
        }
    }

    fn me(&self) -> &Arc<ServerInfo> {
        self.0.context.me()
    }

    async fn choose(&self, kind: &ServerType, request: &Request, not: Option<&ServerId>) -> Result<Arc<ServerInfo>> {
        let (context, route) = (request.parts.context.clone(), request.parts.route.clone());
        self.pick(kind, context, route, request.body.clone(), not).await
    }

    async fn pick(
        &self,
        kind: &ServerType,
        context: Context,
        route: Route,
        body: Bytes,
        not: Option<&ServerId>,
    ) -> Result<Arc<ServerInfo>> {
        let mut servers = self.servers();
        if let Some(not) = not {
            servers = Arc::new(servers.without(not));
        }
        if servers.of_kind(kind.as_str()).is_empty() {
            return Err(Error::new(code::INTERNAL, NO_SERVERS));
        }
        let routing = Routing::new(context, route, body, kind.clone(), (Arc::clone(&servers), self.me().id.clone()));
        let choice = match self.0.options.routers.get(kind) {
            Some(router) => router.choose(routing),
            None => Random.choose(routing),
        };
        let id = match choice {
            Choice::Now(id) => id?,
            Choice::Later(choosing) => {
                let limit = self.0.adapters.client.timeout();
                let chosen = tokio::time::timeout(limit, choosing).await;
                chosen.map_err(|_| {
                    Error::new(code::TIMEOUT, format!("the router of {kind} took longer than {limit:?}"))
                })??
            }
        };
        let chosen = servers.get(&id).filter(|server| server.kind == *kind).cloned();
        chosen.ok_or_else(|| {
            Error::new(code::INTERNAL, format!("the router chose {id}, which is no {kind} that is known"))
        })
    }

    /// How long a call may take: what was asked for, what is left of the request that it belongs to, or the default. A Go
    /// server gets the whole time of the request again, as Go does.
    fn patience(&self, server: &ServerInfo, context: &Context, asked: Option<Duration>) -> Duration {
        // What the application has written into the metadata counts as well.
        let said = context.metadata().and_then(Metadata::timeout);
        let left = match (context.time_left(), said) {
            (Some(left), Some(said)) if server.is_ours() => Some(left.min(said)),
            _ => said,
        };
        let default = self.0.adapters.client.timeout();
        match (asked, left) {
            (Some(asked), Some(left)) => asked.min(left),
            (Some(time), None) | (None, Some(time)) => time,
            (None, None) => default,
        }
    }

    /// The metadata of a client's message, in the order of its keys.
    fn metadata_of_client(&self, route: &Route, context: &Context, timeout: Duration) -> Bytes {
        use std::fmt::Write as _;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        if context.metadata().is_some() {
            // A layer has added something.
            let mut metadata = self.metadata_in_course_of(route.as_str(), context, timeout);
            if metadata.get(Metadata::START_TIME).is_none() {
                // In five hundred years.
                metadata.set(Metadata::START_TIME, u64::try_from(now).unwrap_or(u64::MAX));
            }
            return metadata.to_json();
        }
        let mut json = String::with_capacity(256);
        json.push_str(&self.0.peer);
        // Writing into memory does not fail. Units of durations are letters.
        let _ = write!(json, ",\"req-route\":{},\"req-start-time\":{now}", Quoted(route.as_str()));
        json.push_str(",\"reqTimeout\":\"");
        json.push_str(&timeout.show());
        json.push_str("\",\"request.id\":\"");
        push_request_id(&mut json, context.call_seed());
        json.push_str("\"}");
        json.into()
    }

    /// The metadata of a call for a server. A Go server is told, as Go tells it, which message the call belongs to; one of
    /// ours overwrites the route, and finds nothing to change.
    fn metadata_of_call(&self, server: &ServerInfo, route: &str, context: &Context, timeout: Duration) -> Bytes {
        let mut metadata = self.metadata_in_course_of(route, context, timeout);
        if !server.is_ours() {
            let given = context.metadata().and_then(|metadata| metadata.get(Metadata::ROUTE));
            match given {
                Some(given) => metadata.set(Metadata::ROUTE, given),
                None => metadata.set(Metadata::ROUTE, context.route().as_ref().map_or(route, Route::as_str)),
            }
        }
        if context.session().is_some() && metadata.get(Metadata::START_TIME).is_none() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            metadata.set(Metadata::START_TIME, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        }
        metadata.to_json()
    }

    /// The metadata of a call that is made in the course of a message, or of nothing.
    fn metadata_in_course_of(&self, route: &str, context: &Context, timeout: Duration) -> Metadata {
        let mut metadata = context.metadata().cloned().unwrap_or_default();
        metadata.set(Metadata::PEER_ID, self.me().id.as_str());
        metadata.set(Metadata::PEER_SERVICE, self.me().kind.as_str());
        metadata.set(Metadata::ROUTE, route);
        metadata.set(Metadata::REQUEST_ID, context.call_id());
        metadata.set_timeout(timeout);
        metadata
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("context", &self.0.context).finish_non_exhaustive()
    }
}

/// To what tokio's timers round up.
const TICK: Duration = Duration::from_millis(1);

/// The texts of protocol.md 4.
const NO_SERVERS: &str = "no servers available of this type";
const NO_TYPE: &str = "no server type chosen for sending RPC, send a full route in the format server.service.component";
const LOCAL: &str = "you are making a rpc that may be processed locally, either specify a different server type or specify \
                     a server id";

/// A text as JSON writes it.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().any(|byte| byte == b'"' || byte == b'\\' || byte < b' ') {
            return f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?);
        }
        write!(f, "\"{}\"", self.0)
    }
}

fn decode(answer: Bytes) -> Result<protos::Response> {
    protos::Response::decode(answer)
        .map_err(|error| Error::new(code::INTERNAL, format!("the answer is no response: {error}")))
}
