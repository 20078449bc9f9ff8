//! Components: named sets of handlers or remotes.

use std::{fmt, sync::Arc};

use crate::{
    BoxFuture, Endpoint, Handler, Lifecycle, Module, Needs, Reply, Request,
    apart::{Apart, PerThread},
};

/// Whether a client waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandlerKind {
    /// The client sends a request and gets exactly one answer.
    Request,
    /// The client sends a notify and gets none; a request to it is refused with `PIT-400`.
    Notify,
}

/// How the engine runs a handler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerOptions {
    /// The next message of the same session waits until this one has ended, not only until it first suspends.
    pub ordered: bool,
    /// The handler runs as a task of its own, for work that keeps a processor busy for long.
    pub spawn: bool,
}

impl HandlerOptions {
    /// The next message of the same session waits for the end.
    #[must_use]
    pub fn ordered(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// The handler runs as a task of its own.
    #[must_use]
    pub fn spawn(mut self) -> Self {
        self.spawn = true;
        self
    }
}

/// A handler as the engine takes it over.
#[derive(Debug)]
#[non_exhaustive]
pub struct RegisteredHandler {
    /// The last part of the route.
    pub method: String,
    /// Request or notify.
    pub kind: HandlerKind,
    /// How to run it.
    pub options: HandlerOptions,
    /// What its arguments and its result need.
    pub needs: Needs,
    /// What answers.
    pub endpoint: Arc<dyn Endpoint>,
}

/// A named set of handlers: the `service` of the route `serverType.service.method`.
///
/// ```
/// use std::sync::Arc;
/// use pitaya_core::{Component, Json, Session};
///
/// struct Lobby;
///
/// impl Lobby {
///     async fn list(self: Arc<Self>, _session: Session) -> Json<Vec<String>> {
///         Json(vec![])
///     }
/// }
///
/// let lobby = Component::builder("lobby", Arc::new(Lobby))
///     .request("list", Lobby::list)
///     .request("echo", async |Json(text): Json<String>| Json(text))
///     .notify("ping", async || ())
///     .build();
/// assert_eq!(lobby.handlers().len(), 3);
/// ```
#[derive(Debug)]
pub struct Component {
    name: String,
    handlers: Vec<RegisteredHandler>,
    lifecycle: Option<Module>,
}

impl Component {
    /// Starts a component whose handlers share `component`.
    #[must_use]
    pub fn builder<C>(name: impl Into<String>, component: Arc<C>) -> ComponentBuilder<C> {
        ComponentBuilder {
            name: name.into(),
            component,
            handlers: Vec::new(),
            options: HandlerOptions::default(),
            lifecycle: None,
        }
    }

    /// The service part of the routes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives the component another name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        if let Some(lifecycle) = &mut self.lifecycle {
            lifecycle.renamed(&self.name);
        }
        self
    }

    /// Passes each method's name through a function, for example to lower case.
    #[must_use]
    pub fn with_name_fn(mut self, rename: impl Fn(&str) -> String) -> Self {
        for handler in &mut self.handlers {
            handler.method = rename(&handler.method);
        }
        self
    }

    /// Its handlers in the order of registration.
    #[must_use]
    pub fn handlers(&self) -> &[RegisteredHandler] {
        &self.handlers
    }

    /// What it does when the app starts and stops, if anything.
    #[must_use]
    pub fn lifecycle(&self) -> Option<&Module> {
        self.lifecycle.as_ref()
    }

    /// Gives the handlers away.
    #[must_use]
    pub fn into_handlers(self) -> Vec<RegisteredHandler> {
        self.handlers
    }
}

/// A type whose impl block has the attribute `#[handlers]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no handlers",
    note = "put `#[handlers]` on its impl block, or register a `Component` made with `Component::builder`"
)]
pub trait Handlers: Send + Sync + 'static {
    /// Makes the component.
    fn into_component(self: Arc<Self>) -> Component;
}

/// A component that somebody else holds, too.
impl<H: Handlers> Handlers for Arc<H> {
    fn into_component(self: Arc<Self>) -> Component {
        Self::clone(&self).into_component()
    }
}

/// A type whose impl block has the attribute `#[remotes]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no remotes",
    note = "put `#[remotes]` on its impl block, or register a `Component` made with `Component::builder` as a `remote_component`"
)]
pub trait Remotes: Send + Sync + 'static {
    /// Makes the component.
    fn into_remote_component(self: Arc<Self>) -> Component;
}

/// A component that somebody else holds, too: one that is registered as handlers as well.
impl<R: Remotes> Remotes for Arc<R> {
    fn into_remote_component(self: Arc<Self>) -> Component {
        Self::clone(&self).into_remote_component()
    }
}

/// Builds a [`Component`]. Duplicates are found when the app is built, so that all problems are told at once.
pub struct ComponentBuilder<C> {
    name: String,
    component: Arc<C>,
    handlers: Vec<RegisteredHandler>,
    options: HandlerOptions,
    lifecycle: Option<Module>,
}

impl<C> fmt::Debug for ComponentBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentBuilder").field("name", &self.name).field("handlers", &self.handlers).finish()
    }
}

impl<C> ComponentBuilder<C> {
    /// Registers a request handler.
    #[must_use]
    pub fn request<Args: 'static>(self, method: impl Into<String>, handler: impl Handler<C, Args>) -> Self
    where
        C: Send + Sync + 'static,
    {
        self.function(HandlerKind::Request, method.into(), handler)
    }

    /// Registers a notify handler.
    #[must_use]
    pub fn notify<Args: 'static>(self, method: impl Into<String>, handler: impl Handler<C, Args>) -> Self
    where
        C: Send + Sync + 'static,
    {
        self.function(HandlerKind::Notify, method.into(), handler)
    }

    /// Sets the options of the handlers that are registered after this call.
    #[must_use]
    pub fn options(mut self, options: HandlerOptions) -> Self {
        self.options = options;
        self
    }

    /// Registers a handler in its most general form: a function from component and request to the future of a reply.
    ///
    /// This is what `#[handlers]` expands to.
    #[must_use]
    pub fn raw(
        self,
        kind: HandlerKind,
        method: impl Into<String>,
        needs: impl FnOnce(&mut Needs, &Arc<C>),
        handler: fn(Apart<C>, Request) -> BoxFuture<'static, Reply>,
    ) -> Self
    where
        C: Send + Sync + 'static,
    {
        let mut recorded = Needs::default();
        needs(&mut recorded, &self.component);
        self.push(kind, method.into(), recorded, handler)
    }

    /// Lets the component take part in start and stop. `#[handlers]` does this for every type that has a [`Lifecycle`].
    #[must_use]
    pub fn lifecycle(mut self) -> Self
    where
        C: Lifecycle,
    {
        self.lifecycle = Some(Module::new(self.name.as_str(), Arc::clone(&self.component)));
        self
    }

    /// Ends the component.
    #[must_use]
    pub fn build(self) -> Component {
        Component { name: self.name, handlers: self.handlers, lifecycle: self.lifecycle }
    }

    fn function<Args: 'static, H: Handler<C, Args>>(self, kind: HandlerKind, method: String, handler: H) -> Self
    where
        C: Send + Sync + 'static,
    {
        let mut needs = Needs::default();
        H::needs(&mut needs);
        self.push(kind, method, needs, move |component, request| handler.clone().call(request, component))
    }

    fn push(
        mut self,
        kind: HandlerKind,
        method: String,
        needs: Needs,
        call: impl Fn(Apart<C>, Request) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
    ) -> Self
    where
        C: Send + Sync + 'static,
    {
        let component = PerThread::new(|| Apart::new(Arc::clone(&self.component)));
        let endpoint = Arc::new(Bound { component, call });
        self.handlers.push(RegisteredHandler { method, kind, options: self.options, needs, endpoint });
        self
    }
}

/// A handler together with the component that it is called on.
struct Bound<C, F> {
    component: PerThread<Apart<C>>,
    call: F,
}

impl<C, F> Endpoint for Bound<C, F>
where
    C: Send + Sync + 'static,
    F: Fn(Apart<C>, Request) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
{
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        (self.call)(self.component.get().clone(), request)
    }
}
