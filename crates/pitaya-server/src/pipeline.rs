//! Before- and after-functions: flat lists around the handlers, inside of the layers.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use pitaya_core::{
    BoxFuture, Endpoint, Parts, Reply, Request, Result, Route,
    apart::{Apart, PerThread},
    reporter::Counter,
};

use crate::dispatch::panic_error;

/// The functions of an app, in the order of their registration.
#[derive(Default)]
pub(crate) struct Pipeline {
    before: Vec<Before>,
    after: Vec<After>,
}

type Before = Box<dyn Fn(Request) -> BoxFuture<'static, Result<Request>> + Send + Sync>;
type After = Box<dyn Fn(Parts, Reply) -> BoxFuture<'static, Reply> + Send + Sync>;

impl Pipeline {
    pub(crate) fn before<F, Fut>(&mut self, function: F)
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Request>> + Send + 'static,
    {
        self.before.push(Box::new(move |request| Box::pin(function(request))));
    }

    pub(crate) fn after<F, Fut>(&mut self, function: F)
    where
        F: Fn(Parts, Reply) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reply> + Send + 'static,
    {
        self.after.push(Box::new(move |parts, reply| Box::pin(function(parts, reply))));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Puts the functions around a handler; where there are none, it stays what it is. `panics` counts those of the route.
    pub(crate) fn around(
        self: &Arc<Self>,
        route: &Route,
        handler: Arc<dyn Endpoint>,
        panics: &Arc<dyn Counter>,
    ) -> Arc<dyn Endpoint> {
        if self.is_empty() {
            return handler;
        }
        let (pipeline, route, panics) = (Arc::clone(self), route.clone(), Arc::clone(panics));
        let functions = Arc::new(Functions { pipeline, handler, route, panics });
        Arc::new(Piped(PerThread::new(|| Apart::new(Arc::clone(&functions)))))
    }
}

/// A handler with the functions around it. A call keeps one reference to all of it.
struct Piped(PerThread<Apart<Functions>>);

struct Functions {
    pipeline: Arc<Pipeline>,
    handler: Arc<dyn Endpoint>,
    route: Route,
    panics: Arc<dyn Counter>,
}

impl Endpoint for Piped {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let piped = self.0.get().clone();
        Box::pin(async move { piped.run(request).await })
    }
}

impl Functions {
    async fn run(&self, mut request: Request) -> Reply {
        for before in &self.pipeline.before {
            request = before(request).await?;
        }
        if self.pipeline.after.is_empty() {
            return self.handler.call(request).await;
        }
        let parts = request.parts.clone();
        let mut reply = self.handle(request, &parts).await;
        for after in &self.pipeline.after {
            reply = after(parts.clone(), reply).await;
        }
        reply
    }

    /// Calls the handler. A panic is a failure like any other for what comes after it.
    async fn handle(&self, request: Request, parts: &Parts) -> Reply {
        // Called inside, since a handler may panic before it returns its future.
        let handling = AssertUnwindSafe(async { self.handler.call(request).await });
        handling.catch_unwind().await.unwrap_or_else(|panic| {
            self.panics.add(1);
            Err(panic_error(&parts.app, self.route.as_str(), &parts.context.request_id(), &*panic))
        })
    }
}
