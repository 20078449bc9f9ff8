//! A server that is ready to run.

use std::{
    fmt,
    future::{Future, IntoFuture},
    net::SocketAddr,
    sync::Arc,
};

use pitaya_core::{App, BoxFuture, Error, Phase};

use crate::{ServerBuilder, acceptor::AnyAcceptor, engine::Engine, lifecycle::Failure, run, signal::Signals};

/// A checked server that has not started yet. Made by [`Server::frontend`] and [`ServerBuilder::build`].
pub struct Server {
    engine: Arc<Engine>,
    acceptors: Vec<Box<dyn AnyAcceptor>>,
}

impl Server {
    /// Starts the description of a server that accepts clients.
    ///
    /// `kind` is its server type: the first part of the routes that it handles.
    pub fn frontend(kind: impl Into<String>) -> ServerBuilder {
        ServerBuilder::new(kind.into(), true)
    }

    /// Starts the description of a server that only other servers of its [cluster](ServerBuilder::cluster) call.
    ///
    /// `kind` is its server type: the first part of the routes that it handles.
    pub fn backend(kind: impl Into<String>) -> ServerBuilder {
        ServerBuilder::new(kind.into(), false)
    }

    pub(crate) fn new(engine: Engine, acceptors: Vec<Box<dyn AnyAcceptor>>) -> Self {
        Self { engine: Arc::new(engine), acceptors }
    }

    /// The handle of the app, for use outside of handlers.
    #[must_use]
    pub fn app(&self) -> App {
        self.engine.app.clone()
    }

    /// Where the acceptors listen, in the order in which they were added; those without address are left out.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.acceptors.iter().filter_map(|acceptor| acceptor.address()).collect()
    }

    /// Runs the server. Await the result, after saying when to stop with [`Serve::with_graceful_shutdown`] or
    /// [`Serve::with_signals`].
    pub fn serve(self) -> Serve {
        Serve { server: self, shutdown: Box::pin(std::future::pending()), hurry: Box::pin(std::future::pending()) }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// A server about to run; await it.
///
/// It starts with the lifecycles of modules and components, then accepts clients until it is told to stop. A stop goes
/// through these steps, each with a bound:
///
/// 1. [`App::is_ready`] says no, and no more clients are accepted.
/// 2. With `pitaya.session.drain.enabled`: it waits until no client is left, at most `pitaya.session.drain.timeout`.
/// 3. Nothing more is read from clients. Every request that has been read is answered, for which handlers have
///    `pitaya.shutdown.graceperiod`; what is queued is written, then the client is kicked (unless `pitaya.shutdown.kick` is
///    off) and its connection closes.
/// 4. `before_shutdown` of components and modules, in the reverse order of their start.
/// 5. Timers and tasks of the app are told to stop, and have the grace period to end.
/// 6. `shutdown` of components and modules, in reverse order.
/// 7. The reporter hands over what it holds.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve {
    server: Server,
    shutdown: BoxFuture<'static, ()>,
    hurry: BoxFuture<'static, ()>,
}

impl Serve {
    /// Stops the server when `shutdown` resolves, also while it is still starting.
    pub fn with_graceful_shutdown(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(shutdown);
        self
    }

    /// Cuts short what a stop waits for when `hurry` resolves: the drain, if it waits for clients to go; else the grace
    /// period of handlers.
    pub fn with_hurry(mut self, hurry: impl Future<Output = ()> + Send + 'static) -> Self {
        self.hurry = Box::pin(hurry);
        self
    }

    /// Stops at the first signal of the process (Ctrl-C or SIGTERM), and hurries at the second.
    pub fn with_signals(self) -> Self {
        let (first, second) = Signals::first_and_second();
        self.with_graceful_shutdown(first).with_hurry(second)
    }

    async fn run(self) -> Result<(), ServeError> {
        let Server { engine, acceptors } = self.server;
        run::run(engine, acceptors, self.shutdown, self.hurry).await
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serve").field(&self.server).finish()
    }
}

impl IntoFuture for Serve {
    type Output = Result<(), ServeError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Why a server did not start or end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A module or component failed to start. Those that had been initialised before have been shut down.
    #[error("{part} failed in {phase}: {error}")]
    Start {
        /// The name of the module or component.
        part: String,
        /// Where it failed.
        phase: Phase,
        /// Why; a panic and a time-out are errors, too.
        error: Error,
    },
    /// The server could not join its cluster, or could not stay in it.
    #[error("cluster: {0}")]
    Cluster(Error),
    /// The grace period was over and something still ran.
    #[error("{count} handlers and tasks did not end within the grace period")]
    NotDrained {
        /// How many.
        count: usize,
    },
    /// A module or component failed to stop; everything else has stopped.
    #[error("{part} failed in {phase}: {error}")]
    Stop {
        /// The name of the first that failed; the log has all.
        part: String,
        /// Where it failed.
        phase: Phase,
        /// Why; a panic and a time-out are errors, too.
        error: Error,
    },
}

impl ServeError {
    pub(crate) fn start(failure: Failure) -> Self {
        Self::Start { part: failure.part, phase: failure.phase, error: failure.error }
    }

    pub(crate) fn stop(failure: Failure) -> Self {
        Self::Stop { part: failure.part, phase: failure.phase, error: failure.error }
    }
}
