//! A game that runs in the memory of a test.

use std::{
    future::{Future, IntoFuture as _},
    net::{Ipv4Addr, SocketAddr},
    panic::Location,
    sync::atomic::{AtomicU32, Ordering},
};

use pitaya::{Acceptor, App, ServeError, ServerBuilder, acceptor::Incoming};
use pitaya_client::{Builder, Client, ConnectError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    TestClient,
    client::PATIENCE,
    fail::{chain, fail},
};

/// How many bytes a pipe holds in each direction, about as many as a socket.
const PIPE: usize = 64 * 1024;

/// How many clients may wait to be accepted; one more waits in its connect.
const BACKLOG: usize = 64;

/// The network that clients seem to come from, each from an address of its own: 10.0.0.0/8.
const NETWORK: u32 = 0x0A00_0000;

/// A game that runs: the server of a [`ServerBuilder`], reached through pipes in memory.
///
/// End a test with [`stop`](Self::stop), which checks that the server ends well. A game that is dropped begins to stop, and
/// nobody looks at what becomes of it.
#[derive(Debug)]
pub struct TestGame {
    app: App,
    arrivals: mpsc::Sender<Incoming>,
    clients: AtomicU32,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl TestGame {
    /// Builds the server of a description and runs it. The description needs no acceptor; those that it has are kept.
    ///
    /// It is ready when this returns: modules and components have started. Fails if it cannot be built or does not start.
    #[track_caller]
    pub fn start(builder: ServerBuilder) -> impl Future<Output = Self> {
        let at = Location::caller();
        async move {
            let (arrivals, arriving) = mpsc::channel(BACKLOG);
            let server = match builder.acceptor(Pipes(arriving)).build() {
                Ok(server) => server,
                Err(error) => fail(at, format_args!("the game cannot be built: {error}")),
            };
            let app = server.app();
            let (stop, stopped) = oneshot::channel::<()>();
            let serve = server.serve().with_graceful_shutdown(async { drop(stopped.await) });
            #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited in `stop`")]
            let mut serving = tokio::spawn(serve.into_future());
            tokio::select! {
                () = app.ready() => {}
                result = &mut serving => fail(at, format_args!("the game does not start: {}", ended(result))),
            }
            Self { app, arrivals, clients: AtomicU32::new(0), stop, serving }
        }
    }

    /// The app: its sessions, groups, modules and settings.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Connects a client with the default settings. Fails if the handshake is refused.
    #[track_caller]
    pub fn client(&self) -> impl Future<Output = TestClient> {
        self.client_with(|builder| builder)
    }

    /// Connects a client, whose handshake data and settings `describe` may change. Fails if the handshake is refused.
    #[track_caller]
    pub fn client_with(&self, describe: impl FnOnce(Builder) -> Builder) -> impl Future<Output = TestClient> {
        let at = Location::caller();
        async move {
            match self.try_client_with(describe).await {
                Ok(client) => client,
                Err(error) => fail(at, format_args!("a client cannot connect: {}", chain(&error))),
            }
        }
    }

    /// As [`client_with`](Self::client_with), for a client that may be refused.
    ///
    /// # Errors
    ///
    /// The server refused the handshake, or accepts no more clients.
    pub async fn try_client_with(&self, describe: impl FnOnce(Builder) -> Builder) -> Result<TestClient, ConnectError> {
        let number = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
        let address = SocketAddr::from((Ipv4Addr::from(NETWORK + number), 1));
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let arrived = self.arrivals.send(Incoming::ready(Some(address), theirs)).await;
        arrived.map_err(|_| ConnectError::ServerClosed)?;
        // The address is not looked at, since the stream is there.
        let builder = Client::builder("tcp://game:1").connect_timeout(PATIENCE).request_timeout(PATIENCE);
        let client = describe(builder).connect_io(ours).await?;
        Ok(TestClient::new(client, self.app.clone(), address))
    }

    /// Stops the game as a signal would, and waits until it has ended. Fails if something did not end in time, or failed to.
    #[track_caller]
    pub fn stop(self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            // One that has ended already is asked below why.
            drop(self.stop);
            match self.serving.await {
                Ok(Ok(())) => {}
                result => fail(at, format_args!("the game did not stop well: {}", ended(result))),
            }
        }
    }
}

/// The server's end of the pipes.
struct Pipes(mpsc::Receiver<Incoming>);

impl Acceptor for Pipes {
    async fn accept(&mut self) -> Incoming {
        match self.0.recv().await {
            Some(incoming) => incoming,
            None => std::future::pending().await,
        }
    }
}

fn ended(result: Result<Result<(), ServeError>, tokio::task::JoinError>) -> String {
    match result {
        Ok(Ok(())) => String::from("it has stopped by itself"),
        Ok(Err(error)) => chain(&error),
        Err(error) => chain(&error),
    }
}
