//! Clients' messages on their way to other servers.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use pitaya_core::{App, BoxFuture, Endpoint, Layer, Place, Reply, Request, Route, ServerType, cluster::Peers};

/// How many routes keep their chain. More are made again for each message.
const MAX_ROUTES: usize = 1_000;

/// The chains around messages of other server types, by route.
pub(crate) struct Forwarder {
    peers: Peers,
    layers: Vec<Box<dyn Layer>>,
    routes: RwLock<HashMap<Box<str>, Arc<Forwarded>>>,
}

/// The way of one route.
pub(crate) struct Forwarded {
    pub(crate) place: Arc<Place>,
    pub(crate) chain: Arc<dyn Endpoint>,
}

impl Forwarder {
    pub(crate) fn new(peers: Peers, layers: Vec<Box<dyn Layer>>) -> Self {
        Self { peers, layers, routes: RwLock::default() }
    }

    /// The way of a route to servers of this type; none if clients must not reach them.
    pub(crate) fn find(&self, route: &str, kind: &str, app: &App) -> Option<Arc<Forwarded>> {
        if !self.peers.exposes(kind) {
            return None;
        }
        // Nothing panics while the map is locked.
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).get(route) {
            return Some(Arc::clone(known));
        }
        let (route, kind) = (Route::parse(route).ok()?, ServerType::try_from(kind).ok()?);
        let mut chain: Arc<dyn Endpoint> = Arc::new(ToPeers { peers: self.peers.clone(), kind });
        for layer in self.layers.iter().rev() {
            chain = layer.layer(&route, chain);
        }
        let forwarded = Arc::new(Forwarded { place: Arc::new(Place::new(route, app.clone())), chain });
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.len() < MAX_ROUTES {
            routes.insert(forwarded.place.route.as_str().into(), Arc::clone(&forwarded));
        }
        Some(forwarded)
    }
}

/// The end of the chain: another server.
struct ToPeers {
    peers: Peers,
    kind: ServerType,
}

impl Endpoint for ToPeers {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let (peers, kind) = (self.peers.clone(), self.kind.clone());
        Box::pin(async move { peers.forward(&kind, request).await })
    }
}
