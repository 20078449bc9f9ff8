use std::sync::Arc;

use pitaya_core::{Endpoint, Layer, Route};

use super::{names, owned};

/// A layer around some routes only.
#[derive(Debug, Clone)]
pub struct Only<L> {
    routes: Vec<String>,
    layer: L,
}

impl<L: Layer> Only<L> {
    /// Puts `layer` around these routes, written with or without server type. `build()` refuses routes that no handler has.
    pub fn new<R: Into<String>>(routes: impl IntoIterator<Item = R>, layer: L) -> Self {
        Self { routes: owned(routes), layer }
    }
}

impl<L: Layer> Layer for Only<L> {
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        if names(&self.routes, route) { self.layer.layer(route, inner) } else { inner }
    }

    fn routes(&self) -> Vec<&str> {
        self.routes.iter().map(String::as_str).chain(self.layer.routes()).collect()
    }
}
