//! Clients' messages on their way to other servers.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use pitaya_core::{App, BoxFuture, Endpoint, Layer, Place, Reply, Request, Route, ServerType, cluster::Peers};

/// How many routes keep their chain in each of two generations.
const MAX_ROUTES: usize = 1_000;

/// The chains around messages of other server types, by route.
pub(crate) struct Forwarder {
    peers: Peers,
    layers: Vec<Box<dyn Layer>>,
    routes: RwLock<Routes>,
}

/// The chains that are known. Clients can invent routes of a type, so what is used stays, and what is not goes: when the
/// young are many they become the old, and an old one that is used becomes young again.
#[derive(Default)]
struct Routes {
    young: HashMap<Box<str>, Arc<Forwarded>>,
    old: HashMap<Box<str>, Arc<Forwarded>>,
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
        // Nothing panics while the maps are locked.
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).young.get(route) {
            return Some(Arc::clone(known));
        }
        let known = self.routes.write().unwrap_or_else(PoisonError::into_inner).find_old(route);
        match known {
            Some(known) => Some(known),
            None => {
                let made = self.make(route, kind, app)?;
                Some(self.routes.write().unwrap_or_else(PoisonError::into_inner).add(made))
            }
        }
    }

    fn make(&self, route: &str, kind: &str, app: &App) -> Option<Arc<Forwarded>> {
        let (route, kind) = (Route::parse(route).ok()?, ServerType::try_from(kind).ok()?);
        let mut chain: Arc<dyn Endpoint> = Arc::new(ToPeers { peers: self.peers.clone(), kind });
        for layer in self.layers.iter().rev() {
            chain = layer.layer(&route, chain);
        }
        Some(Arc::new(Forwarded { place: Arc::new(Place::new(route, app.clone())), chain }))
    }
}

impl Routes {
    fn find_old(&mut self, route: &str) -> Option<Arc<Forwarded>> {
        self.old.remove(route).map(|known| self.add(known))
    }

    /// Keeps a chain, unless somebody else was faster: layers count what passes, so a route has one chain.
    fn add(&mut self, forwarded: Arc<Forwarded>) -> Arc<Forwarded> {
        let route = forwarded.place.route.as_str();
        if let Some(known) = self.young.get(route) {
            return Arc::clone(known);
        }
        if self.young.len() >= MAX_ROUTES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(route.into(), Arc::clone(&forwarded));
        forwarded
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
