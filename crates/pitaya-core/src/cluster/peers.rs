//! The other servers, as a running app calls them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use prost::Message as _;

use super::{
    Adapters, Choice, ClusterContext, Metadata, Random, Responder, Router, Routing, RpcError, RpcService, ServerList,
    Topic,
    metadata::{new_request_id, push_request_id},
    protos::{self, MsgType, RpcType},
};
use crate::{
    Context, Error, Reply, Request, Result, Route, ServerId, ServerInfo, ServerType, Uid, code, config::Value as _,
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
        Self(Arc::new(Inner { context, adapters, options, peer, service: OnceLock::new() }))
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
        let timeout = self.0.adapters.client.timeout();
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
            metadata: self.metadata_of_client(&request.parts.route, timeout),
        };
        let encoded = Bytes::from(message.encode_to_vec());
        let server = self.choose(kind, &request, None).await?;
        session.handled_by(&server);
        let answer = match self.0.adapters.client.call(&server, encoded.clone(), timeout).await {
            Err(error) if error.is_undelivered() => {
                let other = self
                    .choose(kind, &request, Some(&server.id))
                    .await
                    .map_err(|_| self.call_error(error, &request.parts.route, &server))?;
                session.handled_by(&other);
                let again = self.0.adapters.client.call(&other, encoded, timeout).await;
                again.map_err(|error| self.call_error(error, &request.parts.route, &other))?
            }
            answer => answer.map_err(|error| self.call_error(error, &request.parts.route, &server))?,
        };
        decode(answer)?.into_result()
    }

    /// Calls a remote, and returns its encoded answer.
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
        let server = match &call.to {
            Some(id) => self.servers().get(id).cloned().ok_or_else(|| Error::plain("server not found"))?,
            None => {
                let kind = ServerType::try_from(kind)?;
                self.pick(&kind, call.context.clone(), call.route.clone(), call.data.clone(), None).await?
            }
        };
        self.send(&server, call.route.as_str(), call.data, &call.context, call.timeout).await
    }

    /// Calls a remote of the framework on a certain server: `sys.kick` and its like (protocol.md 9.2).
    ///
    /// # Errors
    ///
    /// The server is not known, there is no answer, or the answer is an error.
    pub async fn call_sys(&self, server: &ServerId, route: &str, data: Bytes, context: &Context) -> Result<Bytes> {
        let server = self.servers().get(server).cloned().ok_or_else(|| Error::plain("server not found"))?;
        self.send(&server, route, data, context, None).await
    }

    async fn send(
        &self,
        server: &Arc<ServerInfo>,
        route: &str,
        data: Bytes,
        context: &Context,
        timeout: Option<Duration>,
    ) -> Result<Bytes> {
        let timeout = self.patience(server, context, timeout);
        if timeout.is_zero() {
            return Err(self.named(Error::new(code::TIMEOUT, "the time of the request is over"), route, server));
        }
        let message = protos::Request {
            r#type: RpcType::User.into(),
            msg: Some(protos::Msg { route: route.to_owned(), data, ..protos::Msg::default() }),
            frontend_id: if self.me().frontend { self.me().id.to_string() } else { String::new() },
            metadata: self.metadata_of_call(route, context, timeout),
            session: None,
        };
        let encoded = message.encode_to_vec().into();
        let answer = if server.id == self.me().id {
            self.call_itself(encoded, timeout).await
        } else {
            self.0.adapters.client.call(server, encoded, timeout).await
        };
        let answer = answer.map_err(|error| self.named(error.into(), route, server))?;
        decode(answer)?.into_result()
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
    pub async fn publish(&self, topic: Topic<'_>, message: impl prost::Message) -> Result<(), RpcError> {
        self.0.adapters.client.publish(topic, message.encode_to_vec().into()).await
    }

    /// Pushes to a user on a frontend of this type, wherever that is.
    ///
    /// # Errors
    ///
    /// It could not be sent. That nobody has the user is no error where the transport cannot know.
    pub async fn push(&self, frontend: &ServerType, uid: &Uid, route: &str, body: &Bytes) -> Result<(), RpcError> {
        let push = protos::Push { route: route.to_owned(), uid: uid.to_string(), data: body.clone() };
        self.publish(Topic::Push(frontend, uid), push).await
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
        let routing = Routing::new(context, route, body, kind.clone(), Arc::clone(&servers));
        let choice = match self.0.options.routers.get(kind) {
            Some(router) => router.choose(routing),
            None => Random.choose(routing),
        };
        let id = match choice {
            Choice::Now(id) => id?,
            Choice::Later(choosing) => choosing.await?,
        };
        let chosen = servers.get(&id).filter(|server| server.kind == *kind).cloned();
        chosen.ok_or_else(|| {
            Error::new(code::INTERNAL, format!("the router chose {id}, which is no {kind} that is known"))
        })
    }

    fn call_error(&self, error: RpcError, route: &Route, server: &ServerInfo) -> Error {
        self.named(error.into(), route.as_str(), server)
    }

    /// Says what was called, by whom, and where (protocol.md 3.5).
    fn named(&self, error: Error, route: &str, server: &ServerInfo) -> Error {
        error.with("route", route).with("server", &self.me().id).with("peer.id", &server.id)
    }

    /// How long a call may take: what was asked for, what is left of the request that it belongs to, or the default. A Go
    /// server gets the whole time of the request again, as Go does.
    fn patience(&self, server: &ServerInfo, context: &Context, asked: Option<Duration>) -> Duration {
        let left = if server.is_ours() { context.time_left() } else { context.metadata().and_then(Metadata::timeout) };
        let default = self.0.adapters.client.timeout();
        match (asked, left) {
            (Some(asked), Some(left)) => asked.min(left),
            (Some(time), None) | (None, Some(time)) => time,
            (None, None) => default,
        }
    }

    /// The metadata of a client's message, in the order of its keys.
    fn metadata_of_client(&self, route: &Route, timeout: Duration) -> Bytes {
        use std::fmt::Write as _;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut json = String::with_capacity(256);
        json.push_str(&self.0.peer);
        // Writing into memory does not fail. Units of durations are letters.
        let _ = write!(json, ",\"req-route\":{},\"req-start-time\":{now}", Quoted(route.as_str()));
        json.push_str(",\"reqTimeout\":\"");
        json.push_str(&timeout.show());
        json.push_str("\",\"request.id\":\"");
        push_request_id(&mut json);
        json.push_str("\"}");
        json.into()
    }

    fn metadata_of_call(&self, route: &str, context: &Context, timeout: Duration) -> Bytes {
        let mut metadata = context.metadata().cloned().unwrap_or_default();
        metadata.set(Metadata::PEER_ID, self.me().id.as_str());
        metadata.set(Metadata::PEER_SERVICE, self.me().kind.as_str());
        // Who is called overwrites it; one of ours then finds nothing to change.
        metadata.set(Metadata::ROUTE, route);
        if metadata.text(Metadata::REQUEST_ID).is_none_or(|id| id.is_empty()) {
            metadata.set(Metadata::REQUEST_ID, new_request_id());
        }
        metadata.set_timeout(timeout);
        metadata.to_json()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("context", &self.0.context).finish_non_exhaustive()
    }
}

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
