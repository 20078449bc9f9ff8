//! The chain of a message: hooks around a handler.

use std::{fmt, sync::Arc};

use crate::{
    BoxFuture, Reply, Request, Route,
    apart::{Apart, PerThread},
};

/// Something that answers requests: a handler, or a hook around the rest of the chain.
///
/// Called through `&self` and shared: nothing is cloned for a call but what the call itself keeps. The future owns what
/// it needs, so that the engine can keep it while the client is gone.
pub trait Endpoint: Send + Sync + 'static {
    /// Answers one request. A coded error is a reply.
    fn call(&self, request: Request) -> BoxFuture<'static, Reply>;
}

impl fmt::Debug for dyn Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

/// Wraps a chain into a longer one.
///
/// The layer that is added first sees a request first, and its reply last.
pub trait Layer: Send + Sync + 'static {
    /// Puts this layer around `inner`, the chain of `route`. Called once for each route when the app is built: a layer that
    /// has nothing to do with a route gives `inner` back, and costs its messages nothing.
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint>;

    /// The routes that this layer was told by name, with or without server type. `build()` refuses an app that lacks one:
    /// a rule with a typing error in it would silently hold for nothing.
    fn routes(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl fmt::Debug for dyn Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layer")
    }
}

/// The rest of the chain, as a hook sees it.
#[derive(Debug, Clone)]
pub struct Next(Apart<dyn Endpoint>);

impl Next {
    /// Runs the rest of the chain. A hook that does not call this has answered itself.
    #[must_use = "the rest of the chain runs when this is awaited"]
    pub fn run(self, request: Request) -> BoxFuture<'static, Reply> {
        self.0.call(request)
    }
}

/// A hook made of a function; see [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F>(Arc<F>);

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromFn")
    }
}

/// Makes a hook of an async function: what it does before `next.run(request)` is a before-hook, what it does after it is
/// an after-hook.
///
/// It may change the request, refuse it by returning an error, or change the reply.
///
/// ```
/// use pitaya_core::{Error, Next, Reply, Request, from_fn};
///
/// let require_login = from_fn(|request: Request, next: Next| async move {
///     if request.parts.route.service() != "login" && request.parts.session()?.uid().is_err() {
///         return Err(Error::new("AUTH-001", "log in first"));
///     }
///     next.run(request).await
/// });
/// # let _ = require_login;
/// ```
pub fn from_fn<F, Fut>(hook: F) -> FromFn<F>
where
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    FromFn(Arc::new(hook))
}

impl<F, Fut> Layer for FromFn<F>
where
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn layer(&self, _route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        let next = PerThread::new(|| Next(Apart::new(Arc::clone(&inner))));
        Arc::new(Hooked { hook: Arc::clone(&self.0), next })
    }
}

struct Hooked<F> {
    hook: Arc<F>,
    next: PerThread<Next>,
}

impl<F, Fut> Endpoint for Hooked<F>
where
    F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Reply> + Send + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        Box::pin((self.hook)(request, self.next.get().clone()))
    }
}
