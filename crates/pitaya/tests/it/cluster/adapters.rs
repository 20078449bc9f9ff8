//! Adapters that a test has changed: those of its world, but for what it says.

use std::{sync::Arc, time::Duration};

use pitaya::{
    BoxFuture, Result, ServerInfo, ServerType, Uid,
    cluster::{Adapters, Capacity, ClusterContext, Discovery, RpcServer, RpcService, Wiring},
};

/// The wiring, with adapters that are changed before anybody uses them.
fn altered(wiring: Wiring, change: impl Fn(Adapters) -> Adapters + Send + Sync + 'static) -> Wiring {
    Wiring::new(wiring.settings().to_vec(), move |config| wiring.adapters(config).map(&change))
}

/// The wiring of a server that also knows servers which have gone without a word: nothing listens for them.
pub(super) fn with_ghosts(wiring: Wiring, ghosts: Vec<ServerInfo>) -> Wiring {
    altered(wiring, move |adapters| {
        let discovery = Arc::new(Ghosts { inner: adapters.discovery, ghosts: ghosts.clone() });
        Adapters { discovery, ..adapters }
    })
}

/// What discovery says of a server of this framework that has handlers.
pub(super) fn ghost(kind: &str, id: &str) -> ServerInfo {
    let mut ghost = go_ghost(kind, id);
    ghost.metadata.insert(ServerInfo::OURS.into(), "1".into());
    ghost.metadata.insert(ServerInfo::HANDLERS.into(), "true".into());
    ghost
}

/// What discovery says of a server of Go Pitaya: nothing about handlers.
pub(super) fn go_ghost(kind: &str, id: &str) -> ServerInfo {
    let mut ghost = ServerInfo::backend(kind).unwrap();
    ghost.id = id.try_into().unwrap();
    ghost
}

struct Ghosts {
    inner: Arc<dyn Discovery>,
    ghosts: Vec<ServerInfo>,
}

impl Discovery for Ghosts {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.inner.start(context).await?;
            self.ghosts.iter().for_each(|ghost| context.servers.add(ghost.clone()));
            Ok(())
        })
    }

    fn register(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.register()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.inner.leave()
    }

    fn spreading(&self) -> Duration {
        self.inner.spreading()
    }

    fn ignored(&self) -> Vec<ServerType> {
        self.inner.ignored()
    }
}

/// The wiring of a server that takes so many calls.
pub(super) fn with_capacity(wiring: Wiring, capacity: Capacity) -> Wiring {
    altered(wiring, move |adapters| {
        let server = Arc::new(Limited { inner: adapters.server, capacity });
        Adapters { server, ..adapters }
    })
}

struct Limited {
    inner: Arc<dyn RpcServer>,
    capacity: Capacity,
}

impl RpcServer for Limited {
    fn start<'a>(&'a self, context: &'a ClusterContext, service: Arc<dyn RpcService>) -> BoxFuture<'a, Result<()>> {
        self.inner.start(context, service)
    }

    fn subscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        self.inner.subscribe(uid)
    }

    fn unsubscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, ()> {
        self.inner.unsubscribe(uid)
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        self.inner.drain()
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }
}
