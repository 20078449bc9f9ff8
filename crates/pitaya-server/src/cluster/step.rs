//! What a frontend of a cluster does when a session is bound and when it closes (protocol.md 6.7, 9.3, 9.4).

use std::sync::{Arc, OnceLock};

use pitaya_core::{
    BoxFuture, CloseReason, HandledBy, Result, Session, SessionStep, Uid,
    cluster::{Peers, Topic, protos},
};

/// Subscribes to the pushes and kicks of a bound user, tells the other frontends of the bind, and backends of the close.
pub(crate) struct ClusterStep {
    pub(crate) unique: bool,
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
            if let Some(peers) = self.peers_for(session) {
                peers.adapters().server.unsubscribe(uid).await;
            }
        })
    }

    fn after_bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(peers) = self.peers_for(session).filter(|_| self.unique) else { return Ok(()) };
            let me = peers.context().me();
            let bind = protos::BindMsg { uid: uid.to_string(), fid: me.id.to_string() };
            if let Err(error) = peers.publish(Topic::Bindings(&me.kind), bind).await {
                // The new login counts, also when the others cannot be told.
                tracing::warn!(%error, %uid, "the other frontends do not know of a bind");
            }
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
