//! A chat with rooms: one server that serves its page and its players on one port.
//!
//! `pages` holds the browser's side, `room` the handlers, `lobby` who is where.

mod lobby;
mod pages;
mod room;

use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc};

use pitaya::{BuildError, ServeError, Server, WsAcceptor};
use tokio::{net::ToSocketAddrs, sync::oneshot, task::JoinHandle};

use lobby::Lobby;
use room::Room;

/// A chat that is running.
#[derive(Debug)]
pub struct Chat {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

/// Why the chat did not start or did not end well.
#[derive(Debug)]
pub enum ChatError {
    /// The address is taken, or is none.
    Listen(std::io::Error),
    /// The description of the server is wrong.
    Build(BuildError),
    /// A room could not be made.
    Room(pitaya::GroupError),
    /// The server did not end well.
    Serve(ServeError),
}

impl std::fmt::Display for ChatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(error) => write!(f, "{error}"),
            Self::Build(error) => write!(f, "{error}"),
            Self::Room(error) => write!(f, "{error}"),
            Self::Serve(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ChatError {}

/// Starts the chat on an address such as `127.0.0.1:3250`; port 0 takes a free one.
///
/// # Errors
///
/// The address is taken.
pub async fn start(address: impl ToSocketAddrs) -> Result<Chat, ChatError> {
    let acceptor = WsAcceptor::bind(address).await.map_err(ChatError::Listen)?.serve(pages::page);
    let address = acceptor.address();
    let lobby = Arc::new(Lobby::default());
    let server = Server::frontend("chat")
        .acceptor(acceptor)
        .handlers(Room::new(Arc::clone(&lobby)))
        .build()
        .map_err(ChatError::Build)?;
    lobby.open(&server.app()).await.map_err(ChatError::Room)?;
    let (stop, stopped) = oneshot::channel();
    let serving = server.serve().with_graceful_shutdown(async {
        // Stopped by `stop`, or because nobody holds the chat any more.
        drop(stopped.await);
    });
    #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited in `stop`")]
    let serving = tokio::spawn(serving.into_future());
    Ok(Chat { address, stop, serving })
}

impl Chat {
    /// Where the page and the WebSocket are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the chat and waits until it has ended.
    ///
    /// # Errors
    ///
    /// Something was still running after the grace period.
    pub async fn stop(self) -> Result<(), ChatError> {
        // A server that has ended already needs not be told.
        let _ = self.stop.send(());
        match self.serving.await {
            Ok(result) => result.map_err(ChatError::Serve),
            Err(_) => Ok(()),
        }
    }
}
