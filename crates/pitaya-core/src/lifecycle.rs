//! What is called when an app starts and stops.

use std::{any::Any, fmt, future::Future, sync::Arc};

use crate::{App, BoxFuture, Result};

/// A part of an app that has something to do when it starts or stops: a module, or a component of handlers.
///
/// All methods have defaults that do nothing. At the start all parts are initialised one after the other, then `after_init`
/// runs for all; both in the order of registration, modules before components, before any client is accepted. At the stop
/// the order is the reverse: `before_shutdown` for all, then `shutdown` for all; the clients are gone by then.
///
/// A component that implements this trait takes part by being registered; anything else is registered as a module. What is
/// registered more than once, as the same `Arc`, is called once.
///
/// ```
/// use pitaya_core::{App, Lifecycle, Result};
///
/// struct Scores;
///
/// impl Lifecycle for Scores {
///     async fn init(&self, app: &App) -> Result<()> {
///         println!("{} opens the score table", app.server().id);
///         Ok(())
///     }
/// }
/// ```
pub trait Lifecycle: Send + Sync + 'static {
    /// Before any `after_init`, and before any client is accepted.
    ///
    /// An error, a panic, or taking longer than `pitaya.modules.starttimeout` ends the start; what has been initialised
    /// already is shut down.
    fn init(&self, app: &App) -> impl Future<Output = Result<()>> + Send {
        let _ = app;
        async { Ok(()) }
    }

    /// After every `init`, before any client is accepted; fails as [`init`](Self::init) does.
    fn after_init(&self, app: &App) -> impl Future<Output = Result<()>> + Send {
        let _ = app;
        async { Ok(()) }
    }

    /// After the last client has gone, while everything else still works: timers and tasks of the app run on.
    ///
    /// An error, a panic, or taking longer than `pitaya.modules.stoptimeout` is logged and told by the end of the server;
    /// it keeps nothing else from stopping.
    fn before_shutdown(&self, app: &App) -> impl Future<Output = Result<()>> + Send {
        let _ = app;
        async { Ok(()) }
    }

    /// After every `before_shutdown`, and after the tasks of the app have ended; fails as
    /// [`before_shutdown`](Self::before_shutdown) does.
    fn shutdown(&self, app: &App) -> impl Future<Output = Result<()>> + Send {
        let _ = app;
        async { Ok(()) }
    }
}

/// A part with a [`Lifecycle`] under its name, as an engine keeps it.
#[derive(Clone)]
pub struct Module {
    name: Arc<str>,
    part: Arc<dyn Erased>,
}

/// The moments of a [`Lifecycle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// [`Lifecycle::init`].
    Init,
    /// [`Lifecycle::after_init`].
    AfterInit,
    /// [`Lifecycle::before_shutdown`].
    BeforeShutdown,
    /// [`Lifecycle::shutdown`].
    Shutdown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "init",
            Self::AfterInit => "after_init",
            Self::BeforeShutdown => "before_shutdown",
            Self::Shutdown => "shutdown",
        })
    }
}

impl Module {
    /// Gives a part a name.
    #[must_use]
    pub fn new<T: Lifecycle>(name: impl Into<Arc<str>>, part: Arc<T>) -> Self {
        Self { name: name.into(), part }
    }

    /// The name, unique among the modules of an app.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The part, if it is of this type.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.any().downcast().ok()
    }

    /// The part, whatever its type.
    #[must_use]
    pub fn any(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.part).any()
    }

    /// Whether both are the same object.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.part), Arc::as_ptr(&other.part))
    }

    /// Calls the part. For engines.
    #[must_use = "the part is called when this is awaited"]
    pub fn call<'a>(&'a self, phase: Phase, app: &'a App) -> BoxFuture<'a, Result<()>> {
        self.part.call(phase, app)
    }

    pub(crate) fn renamed(&mut self, name: &str) {
        self.name = name.into();
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Module({})", self.name)
    }
}

/// [`Lifecycle`] behind a pointer.
trait Erased: Send + Sync + 'static {
    fn call<'a>(&'a self, phase: Phase, app: &'a App) -> BoxFuture<'a, Result<()>>;
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Lifecycle> Erased for T {
    fn call<'a>(&'a self, phase: Phase, app: &'a App) -> BoxFuture<'a, Result<()>> {
        match phase {
            Phase::Init => Box::pin(self.init(app)),
            Phase::AfterInit => Box::pin(self.after_init(app)),
            Phase::BeforeShutdown => Box::pin(self.before_shutdown(app)),
            Phase::Shutdown => Box::pin(self.shutdown(app)),
        }
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
