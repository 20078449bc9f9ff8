//! Clients' messages on their way to other servers.

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use pitaya_core::{App, BoxFuture, Endpoint, Layer, Place, Reply, Request, Route, ServerType, cluster::Peers};

/// How many routes keep their chain: so many real ones, and so many in each of two generations of others.
const MAX_ROUTES: usize = 1_000;

/// The chains around messages of other server types, by route.
pub(crate) struct Forwarder {
    peers: Peers,
    layers: Vec<Box<dyn Layer>>,
    routes: RwLock<Routes>,
}

/// The chains that are known. Clients can invent routes of a type, as many as they like between two uses of a real one, so a
/// route that a server has answered well stays. Of the others, what is used stays, and what is not goes: when the young are
/// many they become the old, and an old one that is used becomes young again.
#[derive(Default)]
struct Routes {
    real: HashMap<Box<str>, Arc<Forwarded>>,
    young: HashMap<Box<str>, Arc<Forwarded>>,
    old: HashMap<Box<str>, Arc<Forwarded>>,
}

/// The way of one route.
pub(crate) struct Forwarded {
    pub(crate) place: Arc<Place>,
    pub(crate) chain: Arc<dyn Endpoint>,
    /// Whether a server has answered it without an error, so that nobody has invented it.
    answered: Arc<AtomicBool>,
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
        if let Some(known) = self.routes.read().unwrap_or_else(PoisonError::into_inner).find(route) {
            return Some(known);
        }
        let known = self.routes.write().unwrap_or_else(PoisonError::into_inner).find_and_move(route);
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
        let answered = Arc::<AtomicBool>::default();
        let mut chain: Arc<dyn Endpoint> =
            Arc::new(ToPeers { peers: self.peers.clone(), kind, answered: Arc::clone(&answered) });
        for layer in self.layers.iter().rev() {
            chain = layer.layer(&route, chain);
        }
        Some(Arc::new(Forwarded { place: Arc::new(Place::new(route, app.clone())), chain, answered }))
    }
}

impl Routes {
    /// A chain that is where it belongs.
    fn find(&self, route: &str) -> Option<Arc<Forwarded>> {
        let young = || self.young.get(route).filter(|known| !self.keeps(known));
        self.real.get(route).or_else(young).cloned()
    }

    /// A chain that is known, which is where it belongs from then on.
    fn find_and_move(&mut self, route: &str) -> Option<Arc<Forwarded>> {
        let known = self.young.remove(route).or_else(|| self.old.remove(route));
        known.map(|known| self.add(known))
    }

    /// Whether a chain belongs to the real ones.
    fn keeps(&self, forwarded: &Forwarded) -> bool {
        self.real.len() < MAX_ROUTES && forwarded.answered.load(Ordering::Relaxed)
    }

    /// Keeps a chain, unless somebody else was faster: layers count what passes, so a route has one chain.
    fn add(&mut self, forwarded: Arc<Forwarded>) -> Arc<Forwarded> {
        let route = forwarded.place.route.as_str();
        if let Some(known) = self.real.get(route).or_else(|| self.young.get(route)) {
            return Arc::clone(known);
        }
        if self.keeps(&forwarded) {
            self.real.insert(route.into(), Arc::clone(&forwarded));
            return forwarded;
        }
        if self.young.len() >= MAX_ROUTES {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            for (route, known) in forgotten {
                if self.keeps(&known) {
                    self.real.insert(route, known);
                }
            }
        }
        self.young.insert(route.into(), Arc::clone(&forwarded));
        forwarded
    }
}

/// The end of the chain: another server.
struct ToPeers {
    peers: Peers,
    kind: ServerType,
    answered: Arc<AtomicBool>,
}

impl Endpoint for ToPeers {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let (peers, kind) = (self.peers.clone(), self.kind.clone());
        // Nothing but the first time is written down.
        let first = (!self.answered.load(Ordering::Relaxed)).then(|| Arc::clone(&self.answered));
        Box::pin(async move {
            let reply = peers.forward(&kind, request).await;
            if let (Some(answered), Ok(_)) = (first, &reply) {
                answered.store(true, Ordering::Relaxed);
            }
            reply
        })
    }
}
