use std::{sync::Arc, time::Duration};

use pitaya_core::{BoxFuture, Endpoint, Error, Layer, Reply, Request, Route, code};

/// Gives up a handler that takes too long, and answers `PIT-408`.
///
/// The handler is dropped where it waits, with everything that it holds. One that runs as a task of its own (`spawn`) runs to
/// its end, and its answer is thrown away. A handler that never waits cannot be given up.
#[derive(Debug, Clone, Copy)]
pub struct Timeout {
    patience: Duration,
}

impl Timeout {
    /// Handlers may take as long as this; with the layers that are added after this one.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self { patience }
    }
}

impl Layer for Timeout {
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        Arc::new(Timed { inner, patience: self.patience, route: route.clone() })
    }
}

struct Timed {
    inner: Arc<dyn Endpoint>,
    patience: Duration,
    route: Route,
}

impl Endpoint for Timed {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let timed = tokio::time::timeout(self.patience, self.inner.call(request));
        let (patience, route) = (self.patience, self.route.clone());
        Box::pin(async move { timed.await.unwrap_or_else(|_| Err(too_long(&route, patience))) })
    }
}

#[cold]
fn too_long(route: &Route, patience: Duration) -> Error {
    Error::new(code::TIMEOUT, format!("took longer than {patience:?}")).with("route", route.as_str())
}
