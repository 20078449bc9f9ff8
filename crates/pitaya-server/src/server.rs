//! A server that is ready to run.

use std::{
    fmt,
    future::{Future, IntoFuture},
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures_util::FutureExt as _;
use pitaya_core::{App, BoxFuture, CloseReason};

use crate::{ServerBuilder, acceptor::AnyAcceptor, connection, engine::Engine};

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

    /// Runs the server. Await the result, after saying when to stop with [`Serve::with_graceful_shutdown`].
    pub fn serve(self) -> Serve {
        Serve { server: self, shutdown: Box::pin(std::future::pending()) }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// A server about to run; await it.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve {
    server: Server,
    shutdown: BoxFuture<'static, ()>,
}

impl Serve {
    /// Stops the server when `shutdown` resolves: it stops accepting, stops reading, lets unfinished handlers end (at most
    /// `pitaya.shutdown.graceperiod`), writes what is queued, kicks the clients and closes.
    pub fn with_graceful_shutdown(mut self, shutdown: impl Future<Output = ()> + Send + 'static) -> Self {
        self.shutdown = Box::pin(shutdown);
        self
    }

    async fn run(self) -> Result<(), ServeError> {
        let Server { engine, acceptors } = self.server;
        let stop = StopOnDrop(engine);
        let engine = &stop.0;
        for acceptor in acceptors {
            if let Some(address) = acceptor.address() {
                tracing::info!(%address, "accepting clients");
            }
            engine.app.tasks().spawn("acceptor", accept_clients(Arc::clone(engine), acceptor));
        }
        self.shutdown.await;
        tracing::info!("stopping");
        begin_stop(engine);
        // Each connection has the grace period for its handlers, then the write time-out for what is queued.
        let patience = engine.options.shutdown_grace + engine.options.write_timeout;
        engine.app.tasks().stop(patience).await;
        match engine.app.tasks().len() + engine.cut_off.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => Err(ServeError::NotDrained { count }),
        }
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

/// Why a server did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The grace period was over and something still ran.
    #[error("{count} handlers and tasks did not end within the grace period")]
    NotDrained {
        /// How many.
        count: usize,
    },
}

/// Accepts clients until the server stops.
async fn accept_clients(engine: Arc<Engine>, mut acceptor: Box<dyn AnyAcceptor>) {
    loop {
        let accepted = tokio::select! {
            accepted = AssertUnwindSafe(acceptor.accept()).catch_unwind() => accepted,
            () = engine.stop_accepting.cancelled() => return,
        };
        match accepted {
            Ok(incoming) => {
                let connection = connection::serve(Arc::clone(&engine), incoming);
                engine.app.tasks().spawn("connection", connection);
            }
            Err(_) => {
                tracing::error!("an acceptor panicked and accepts no more clients");
                return;
            }
        }
    }
}

/// Stops accepting, and makes each connection end: no more reading, then its handlers, its queue, the kick.
fn begin_stop(engine: &Engine) {
    engine.stop_accepting.cancel();
    for session in engine.sessions.all() {
        engine.sessions.begin_close(&session, CloseReason::Shutdown);
    }
}

/// A server whose future is dropped stops all the same; nobody waits for it then.
struct StopOnDrop(Arc<Engine>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        begin_stop(&self.0);
        self.0.app.tasks().stopping().cancel();
    }
}
