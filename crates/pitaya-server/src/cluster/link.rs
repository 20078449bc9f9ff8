//! The session of another server's client, as a handler here sees it.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock, Weak},
};

use bytes::Bytes;
use pitaya_core::{
    BoxFuture, CloseReason, Context, DataChanges, EncodedPush, Error, Pushed, RemoteLink, Result, ServerId, ServerInfo,
    Session, SessionId, SessionLink, Uid,
    cluster::{Metadata, Peers, protos},
    code,
};
use serde_json::{Map, Value, json};

use super::{RemoteService, service::stopping, sys};
use crate::engine::Engine;

/// The way from a handler's session to the frontend that its client is connected to.
pub(super) struct BackendLink {
    pub(super) peers: Peers,
    pub(super) service: Weak<RemoteService>,
    pub(super) frontend: ServerId,
    /// As it is known, or was before it left, or says of itself.
    pub(super) known: Option<Arc<ServerInfo>>,
    /// How many sessions had closed when the message came.
    pub(super) closes_before: u64,
    pub(super) id: SessionId,
    /// The user: from the message on, or from the bind that the handler makes.
    pub(super) uid: OnceLock<Uid>,
    /// What travels with everything that is sent in its course.
    pub(super) metadata: Metadata,
}

/// The key of metadata that says that the data is a difference: among servers of this framework. (The difference itself is not
/// in the metadata, whose length is bounded.)
pub(super) const DELTA: &str = "session-delta";

impl BackendLink {
    /// The frontend, if it understands more than Go Pitaya.
    fn ours(&self) -> Option<&Arc<ServerInfo>> {
        self.known.as_ref().filter(|server| server.is_ours())
    }

    /// Calls a remote of the framework on the frontend.
    fn call(&self, route: &'static str, message: &impl prost::Message) -> BoxFuture<'static, Result<Bytes>> {
        self.call_with(route, message, self.metadata.clone())
    }

    fn call_with(
        &self,
        route: &'static str,
        message: &impl prost::Message,
        metadata: Metadata,
    ) -> BoxFuture<'static, Result<Bytes>> {
        let (peers, known, frontend) = (self.peers.clone(), self.known.clone(), self.frontend.clone());
        let (data, context) = (message.encode_to_vec().into(), Context::of_call(None, 0, metadata));
        Box::pin(async move {
            match known {
                Some(frontend) => peers.call_sys_on(&frontend, route, data, &context).await,
                None => peers.call_sys(&frontend, route, data, &context).await,
            }
        })
    }
}

impl SessionLink for BackendLink {
    fn push(&self, push: &EncodedPush) -> Pushed {
        let Some(uid) = self.uid.get().cloned() else { return Pushed::Now(Err(not_bound())) };
        let Some(kind) = self.known.as_ref().map(|server| server.kind.clone()) else {
            return Pushed::Now(Err(gone(&self.frontend)));
        };
        let (peers, push) = (self.peers.clone(), push.clone());
        Pushed::Later(Box::pin(async move { Ok(peers.push(&kind, &uid, push.route(), push.body()).await?) }))
    }

    fn kick(&self) -> Pushed {
        let Some(uid) = self.uid.get() else { return Pushed::Now(Err(not_bound())) };
        let kick = self.call(sys::KICK, &protos::KickMsg { user_id: uid.to_string() });
        Pushed::Later(Box::pin(async move { kick.await.map(drop) }))
    }

    fn close(&self, _reason: CloseReason) {
        // The connection is the frontend's; Pitaya's backends cannot close it either (protocol.md 9.5).
        tracing::warn!(session = %self.id, "only the server of its client can close a session; kick it instead");
    }

    fn drain(&self, reason: CloseReason) {
        self.close(reason);
    }

    fn remote(&self) -> Option<&dyn RemoteLink> {
        Some(self)
    }
}

impl RemoteLink for BackendLink {
    fn frontend(&self) -> &ServerId {
        &self.frontend
    }

    fn bind<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        let session = protos::Session { id: self.id.get(), uid: uid.to_string(), data: Bytes::new() };
        let bound = self.call(sys::BIND, &session);
        Box::pin(async move {
            bound.await?;
            // A session is bound once.
            drop(self.uid.set(uid.clone()));
            Ok(())
        })
    }

    fn push_data(&self, changes: DataChanges, data: Map<String, Value>) -> BoxFuture<'_, Result<()>> {
        let uid = self.uid.get().map(Uid::to_string).unwrap_or_default();
        let mut session = protos::Session { id: self.id.get(), uid, data: Bytes::new() };
        let mut metadata = self.metadata.clone();
        let data = if self.ours().is_some() && !changes.replaced {
            metadata.set(DELTA, true);
            delta(changes.keys, data)
        } else {
            Value::Object(data)
        };
        // A value with text as keys can always be written.
        session.data = serde_json::to_vec(&data).unwrap_or_default().into();
        let pushed = self.call_with(sys::PUSH_SESSION, &session, metadata);
        Box::pin(async move { pushed.await.map(drop) })
    }

    fn watch_close(&self, session: &Session) -> Result<()> {
        self.watch(|service, frontend| service.watch_close(frontend, session))
    }

    fn member(&self, session: &Session, uid: &Uid) -> Result<Session> {
        self.watch(|service, frontend| service.watch_member(frontend, session, uid))
    }
}

impl BackendLink {
    fn watch<T>(&self, watch: impl FnOnce(&Arc<RemoteService>, &Arc<ServerInfo>) -> Result<T>) -> Result<T> {
        let frontend =
            self.ours().ok_or_else(|| Error::plain("onclose callbacks are not allowed on backend servers"))?;
        let service = self.service.upgrade().ok_or_else(|| gone(&self.frontend))?;
        let watched = watch(&service, frontend)?;
        let key = (self.frontend.clone(), self.id);
        if service.ended.has_closed_since(&key, self.closes_before) {
            // Its frontend has told us before, and will not do so again.
            service.close_watched(&key);
            return Err(Error::new(code::CLIENT_CLOSED, "the session has closed"));
        }
        Ok(watched)
    }
}

/// Which values are set and which are removed.
fn delta(keys: BTreeSet<String>, mut data: Map<String, Value>) -> Value {
    let (mut set, mut unset) = (Map::new(), Vec::new());
    for key in keys {
        match data.remove(&key) {
            Some(value) => drop(set.insert(key, value)),
            None => unset.push(key),
        }
    }
    json!({ "set": set, "unset": unset })
}

fn not_bound() -> Error {
    Error::plain("you have to bind an UID to the session to do that")
}

fn gone(frontend: &ServerId) -> Error {
    Error::plain(format!("the server {frontend} of the client is not known any more"))
}

/// Makes the session of a message that a frontend has forwarded; and says whether that is one of ours.
pub(super) fn session(
    service: &Arc<RemoteService>,
    engine: &Engine,
    frontend: &str,
    session: protos::Session,
    metadata: &Metadata,
) -> Result<(Session, bool)> {
    let Some(cluster) = &engine.cluster else { return Err(stopping()) };
    let frontend = ServerId::try_from(frontend)?;
    let last_known = cluster.peers.context().servers.last_known(&frontend);
    let known = last_known.or_else(|| described(&frontend, metadata));
    let ours = known.as_ref().is_some_and(|server| server.is_ours());
    let link = BackendLink {
        peers: cluster.peers.clone(),
        service: Arc::downgrade(service),
        frontend,
        known,
        closes_before: service.ended.count(),
        id: SessionId::new(session.id),
        uid: OnceLock::new(),
        metadata: metadata.clone(),
    };
    if !session.uid.is_empty() {
        drop(link.uid.set(session.uid.as_str().try_into()?));
    }
    let session = engine.sessions.remote(session, Arc::new(link));
    let session = session.map_err(|error| Error::new(code::INTERNAL, error.message().to_owned()))?;
    Ok((session, ours))
}

/// A frontend that discovery has not found yet, as it describes itself.
fn described(frontend: &ServerId, metadata: &Metadata) -> Option<Arc<ServerInfo>> {
    let is_caller = metadata.text(Metadata::PEER_ID).is_some_and(|caller| *frontend == *caller);
    let kind = metadata.text(Metadata::PEER_SERVICE).filter(|_| is_caller)?;
    let mut server = ServerInfo::frontend(kind).ok()?;
    server.id = frontend.clone();
    Some(Arc::new(server))
}
