//! The handlers of an app, found by route.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures_util::FutureExt as _;
use pitaya_core::{
    App, BoxFuture, Component, Endpoint, Error, HandlerKind, Layer, Needs, Place, Reply, Reporter, Request, Route,
    ServerType, Tasks, apart::PerThread, code,
};
use tokio::sync::oneshot;

use crate::{Problem, metrics::RouteMetrics, pipeline::Pipeline};

/// A handler with everything around it.
pub(crate) struct Registered {
    /// The full route.
    pub(crate) route: Route,
    pub(crate) kind: HandlerKind,
    /// The next message of the session waits for the end of this one.
    pub(crate) ordered: bool,
    /// Layers, before- and after-functions, and handler.
    pub(crate) chain: Arc<dyn Endpoint>,
    pub(crate) metrics: RouteMetrics,
}

/// Names a handler of a registry: what a message keeps of it, for the price of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandlerIndex(usize);

/// What the registry is made with.
pub(crate) struct RegistryOptions<'a> {
    pub(crate) server_type: &'a ServerType,
    pub(crate) layers: &'a [Box<dyn Layer>],
    pub(crate) pipeline: &'a Arc<Pipeline>,
    pub(crate) ordered: bool,
    pub(crate) tasks: &'a Tasks,
    pub(crate) reporter: &'a Arc<dyn Reporter>,
}

/// All handlers. Looked up by the route as a client writes it, with or without the server type.
#[derive(Default)]
pub(crate) struct Registry {
    /// The keys are routes of the application; what clients ask for is only compared with them.
    by_route: HashMap<Box<[u8]>, HandlerIndex, foldhash::fast::RandomState>,
    handlers: Vec<Registered>,
    needs: Vec<(Route, Needs)>,
}

impl Registry {
    pub(crate) fn new(components: Vec<Component>, options: &RegistryOptions<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut registry = Self::default();
        let mut names = HashSet::new();
        for component in components {
            let name = component.name().to_owned();
            let duplicate = !names.insert(name.clone());
            if duplicate {
                problems.push(Problem::DuplicateComponent { name: name.clone() });
            }
            for handler in component.into_handlers() {
                let server_type = Some(options.server_type.as_str());
                let dotted = name.contains('.') || handler.method.contains('.');
                let Some(route) = Route::new(server_type, &name, &handler.method).ok().filter(|_| !dotted) else {
                    problems.push(Problem::BadRoute { route: format!("{name}.{}", handler.method) });
                    continue;
                };
                registry.needs.push((route.clone(), handler.needs));
                if registry.find(route.short()).is_some() {
                    // The handlers of a second component of the same name have been told by their component.
                    if !duplicate {
                        problems.push(Problem::DuplicateRoute { route: route.short().to_owned() });
                    }
                    continue;
                }
                let metrics = RouteMetrics::new(options.reporter, route.as_str(), handler.kind);
                let mut chain = handler.endpoint;
                if handler.options.spawn {
                    chain = Arc::new(Spawned { inner: chain, tasks: options.tasks.clone() });
                }
                chain = options.pipeline.around(&route, chain, &metrics.panics);
                for layer in options.layers.iter().rev() {
                    chain = layer.layer(&route, chain);
                }
                registry.insert(Registered {
                    metrics,
                    route,
                    kind: handler.kind,
                    ordered: options.ordered || handler.options.ordered,
                    chain,
                });
            }
        }
        for route in options.layers.iter().flat_map(|layer| layer.routes()) {
            if registry.find(route).is_none() {
                problems.push(Problem::LayerRoute { route: route.to_owned() });
            }
        }
        registry
    }

    fn insert(&mut self, registered: Registered) {
        let index = HandlerIndex(self.handlers.len());
        for key in [registered.route.short(), registered.route.as_str()] {
            self.by_route.insert(key.as_bytes().into(), index);
        }
        self.handlers.push(registered);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    pub(crate) fn find(&self, route: &str) -> Option<HandlerIndex> {
        self.find_bytes(route.as_bytes())
    }

    /// As [`find`](Self::find), by bytes of which nobody knows yet whether they are text.
    pub(crate) fn find_bytes(&self, route: &[u8]) -> Option<HandlerIndex> {
        self.by_route.get(route).copied()
    }

    /// The handler that was [found](Self::find). Handlers are never removed.
    pub(crate) fn get(&self, index: HandlerIndex) -> &Registered {
        &self.handlers[index.0]
    }

    /// What the handlers need, to be compared with what the app has.
    pub(crate) fn needs(&self) -> &[(Route, Needs)] {
        &self.needs
    }
}

/// Where the messages of each handler are handled, for each thread.
pub(crate) struct Places(Vec<PerThread<Arc<Place>>>);

impl Places {
    pub(crate) fn new(registry: &Registry, app: &App) -> Self {
        let apps = PerThread::new(|| app.apart());
        let of = |registered: &Registered| {
            let mut apps = apps.iter().cloned();
            PerThread::new(|| {
                Arc::new(Place::new(registered.route.clone(), apps.next().unwrap_or_else(|| app.clone())))
            })
        };
        Self(registry.handlers.iter().map(of).collect())
    }

    /// Of a handler of the registry that these were made of.
    pub(crate) fn get(&self, index: HandlerIndex) -> Arc<Place> {
        Arc::clone(self.0[index.0].get())
    }
}

/// Runs a chain as a task of its own, so that one that keeps a processor busy stalls no other message.
struct Spawned {
    inner: Arc<dyn Endpoint>,
    tasks: Tasks,
}

impl Endpoint for Spawned {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let (sender, receiver) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        self.tasks.spawn("handler", async move {
            let outcome = AssertUnwindSafe(async { inner.call(request).await }).catch_unwind().await;
            // Nobody waits any more when the connection has been dropped: the work is done all the same.
            drop(sender.send(outcome));
        });
        Box::pin(async move {
            match receiver.await {
                Ok(Ok(reply)) => reply,
                // Goes on where all panics of handlers are answered and counted.
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::new(code::INTERNAL, "the handler was dropped")),
            }
        })
    }
}
