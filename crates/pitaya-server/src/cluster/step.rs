//! What a frontend of a cluster does when a session is bound and when it closes (protocol.md 6.7, 9.3, 9.4).

use std::sync::{Arc, OnceLock};

use pitaya_core::{
    BoxFuture, CloseReason, HandledBy, Result, Session, SessionStep, Uid,
    cluster::{Peers, Topic, protos},
};

use super::Unique;

/// Subscribes to the pushes and kicks of a bound user, tells the other frontends of the bind, and backends of the close.
pub(crate) struct ClusterStep {
    /// There if a user may have one session only.
    pub(crate) unique: Option<Arc<Unique>>,
    /// Known when the app has been built; no session is bound before.
    pub(crate) peers: Arc<OnceLock<Peers>>,
}

impl SessionStep for ClusterStep {
    fn bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            match self.peers_for(session) {
                Some(peers) => peers.adapters().server.subscribe(uid).await,
                None => Ok(()),
            }
        })
    }

    fn unbind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, ()> {
        Box::pin(async {
            if let Some(unique) = &self.unique {
                unique.forget(session.id());
            }
            if let Some(peers) = self.peers_for(session) {
                peers.adapters().server.unsubscribe(uid).await;
            }
        })
    }

    fn after_bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (Some(peers), Some(unique)) = (self.peers_for(session), &self.unique) else { return Ok(()) };
            let at = unique.tell(session.id());
            if session.is_closed() {
                // It may have been unbound already.
                unique.forget(session.id());
                return Ok(());
            }
            tell(peers, uid.to_string(), at).await;
            Ok(())
        })
    }

    fn close<'a>(&'a self, session: &'a Session, _reason: CloseReason) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let Some(peers) = self.peers_for(session) else { return };
            // The client's connection does not wait for servers that do not answer.
            match session.take_handled_by() {
                HandledBy::These(servers) => peers.tell_closed(session, servers),
                HandledBy::Many => {
                    let servers = peers.servers();
                    let ours = servers.iter().filter(|server| server.is_ours() && server.has_handlers());
                    peers.tell_closed(session, ours.map(|server| server.id.clone()));
                }
            }
        })
    }
}

impl ClusterStep {
    /// The other servers, if the client is connected to this one: a session of another server is that one's business.
    fn peers_for(&self, session: &Session) -> Option<&Peers> {
        self.peers.get().filter(|_| session.frontend().is_none())
    }
}

/// Tells the other frontends of this type that a user was bound here.
pub(super) async fn tell(peers: &Peers, uid: String, at: u64) {
    let me = peers.context().me();
    let bind = protos::BindMsg { uid, fid: me.id.to_string() };
    if let Err(error) = peers.publish(Topic::Bindings(&me.kind, at), &bind).await {
        // The new login counts, also when the others cannot be told.
        tracing::warn!(%error, uid = bind.uid, "the other frontends do not know of a bind");
    }
}
