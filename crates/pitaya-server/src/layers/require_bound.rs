use std::sync::Arc;

use pitaya_core::{BoxFuture, Endpoint, Error, Layer, Reply, Request, Route, code};

use super::{names, owned};

/// Refuses the messages of sessions that are not bound to a user, with `PIT-401`.
#[derive(Debug, Clone, Default)]
pub struct RequireBound {
    open: Vec<String>,
}

impl RequireBound {
    /// For all routes but these, written with or without server type: those that lead to the bind. `build()` refuses
    /// routes that no handler has.
    pub fn except<R: Into<String>>(open: impl IntoIterator<Item = R>) -> Self {
        Self { open: owned(open) }
    }
}

impl Layer for RequireBound {
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        if names(&self.open, route) { inner } else { Arc::new(Guarded(inner)) }
    }

    fn routes(&self) -> Vec<&str> {
        self.open.iter().map(String::as_str).collect()
    }
}

struct Guarded(Arc<dyn Endpoint>);

impl Endpoint for Guarded {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        match request.parts.session() {
            Ok(session) if session.uid().is_ok() => self.0.call(request),
            _ => Box::pin(async { Err(Error::new(code::UNAUTHORIZED, "the session is not bound to a user")) }),
        }
    }
}
