//! A chat with rooms, which is a cluster: a *gate* serves the page and lets players in, a *room* server handles what they do
//! and tells everybody else.
//!
//! [`start`] runs both in this process. [`gate`] and [`room`] make one of them, for processes of their own; then there may be
//! several gates, and one room server, whose memory has the rooms.
//!
//! `pages` holds the browser's side, `room` the handlers, `lobby` who is where.

mod lobby;
mod pages;
mod room;

use std::{future::IntoFuture as _, net::SocketAddr, sync::Arc};

use pitaya::{App, BuildError, Cluster, ServeError, Server, ServerBuilder, WsAcceptor, cluster::Wiring};
use tokio::{net::ToSocketAddrs, sync::oneshot, task::JoinHandle};

use lobby::Lobby;
use room::Room;

/// The server type that players connect to: whose clients pushes go to.
const GATE: &str = "gate";

/// The server type that has the rooms: the first part of the routes that the page uses.
const ROOM: &str = "room";

/// How the servers of the chat reach each other.
#[derive(Debug, Clone)]
pub enum Links {
    /// They live in one process.
    Process(Wiring),
    /// They are processes of their own.
    Network {
        /// Where NATS listens, such as `127.0.0.1:4222`.
        nats: String,
        /// Where etcd listens, such as `127.0.0.1:2379`.
        etcd: String,
    },
}

impl Links {
    /// Makes a server one of this cluster.
    fn connect(&self, server: ServerBuilder) -> ServerBuilder {
        match self {
            Self::Process(wiring) => server.cluster(wiring.clone()),
            Self::Network { nats, etcd } => server
                .cluster(Cluster::from_config())
                .set_text("pitaya.cluster.sd.etcd.endpoints", etcd)
                // Ctrl-C in a demo takes a second, not ten.
                .set_text("pitaya.cluster.sd.etcd.shutdowndelay", "1s")
                .set_text("pitaya.cluster.rpc.client.nats.connect", nats)
                .set_text("pitaya.cluster.rpc.server.nats.connect", nats),
        }
    }
}

/// Makes the server that players connect to, on an address such as `127.0.0.1:3250`; port 0 takes a free one.
///
/// # Errors
///
/// The address is taken, or one of the links is none.
pub async fn gate(links: &Links, address: impl ToSocketAddrs) -> Result<Server, ChatError> {
    let acceptor = WsAcceptor::bind(address).await.map_err(ChatError::Listen)?.serve(pages::page);
    links.connect(Server::frontend(GATE)).acceptor(acceptor).build().map_err(ChatError::Build)
}

/// Makes the server of the rooms.
///
/// # Errors
///
/// One of the links is none.
pub async fn room(links: &Links) -> Result<Server, ChatError> {
    let lobby = Arc::new(Lobby::default());
    let server = links.connect(Server::backend(ROOM)).handlers(Room::new(Arc::clone(&lobby))).build();
    let server = server.map_err(ChatError::Build)?;
    lobby.open(&server.app()).await.map_err(ChatError::Room)?;
    Ok(server)
}

/// The whole chat, running in this process.
#[derive(Debug)]
pub struct Chat {
    address: SocketAddr,
    gate: Running,
    room: Running,
}

/// Starts a gate and a room server, on an address such as `127.0.0.1:3250`; port 0 takes a free one.
///
/// # Errors
///
/// The address is taken.
pub async fn start(address: impl ToSocketAddrs) -> Result<Chat, ChatError> {
    let links = Links::Process(Cluster::in_process());
    let (gate, room) = (gate(&links, address).await?, room(&links).await?);
    let address = gate.addresses().first().copied().ok_or(ChatError::Ended)?;
    let app = gate.app();
    let mut chat = Chat { address, room: Running::start(room), gate: Running::start(gate) };
    tokio::select! {
        () = knows_a_room(&app) => Ok(chat),
        ended = chat.gate.ended() => Err(ended.err().unwrap_or(ChatError::Ended)),
        ended = chat.room.ended() => Err(ended.err().unwrap_or(ChatError::Ended)),
    }
}

/// Waits until a gate can send players' messages to a room server.
async fn knows_a_room(gate: &App) {
    let Some(peers) = gate.peers() else { return };
    let mut servers = peers.context().servers.watch();
    // Fails when the gate has ended: nobody waits then.
    drop(servers.wait_for(|servers| !servers.of_kind(ROOM).is_empty()).await);
}

impl Chat {
    /// Where the page and the WebSocket are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the chat and waits until it has ended: first the gate, so that the rooms see everybody leave.
    ///
    /// # Errors
    ///
    /// Something was still running after the grace period.
    pub async fn stop(self) -> Result<(), ChatError> {
        let gate = self.gate.stop().await;
        let room = self.room.stop().await;
        gate.and(room)
    }
}

/// A server that is running.
#[derive(Debug)]
struct Running {
    /// It stops when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    fn start(server: Server) -> Self {
        let (stop, stopped) = oneshot::channel();
        let serving = server.serve().with_graceful_shutdown(async { drop(stopped.await) });
        #[expect(clippy::disallowed_methods, reason = "the handle is kept and awaited in `stop`")]
        let serving = tokio::spawn(serving.into_future());
        Self { stop: Some(stop), serving }
    }

    async fn stop(mut self) -> Result<(), ChatError> {
        self.stop = None;
        self.ended().await
    }

    async fn ended(&mut self) -> Result<(), ChatError> {
        match (&mut self.serving).await {
            Ok(result) => result.map_err(ChatError::Serve),
            Err(_) => Err(ChatError::Ended),
        }
    }
}

/// Why the chat did not start or did not end well.
#[derive(Debug)]
pub enum ChatError {
    /// The address is taken, or is none.
    Listen(std::io::Error),
    /// The description of a server is wrong.
    Build(BuildError),
    /// A room could not be made.
    Room(pitaya::GroupError),
    /// A server did not start or did not end well.
    Serve(ServeError),
    /// A server has ended, and nobody knows why.
    Ended,
}

impl std::fmt::Display for ChatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Listen(error) => write!(f, "{error}"),
            Self::Build(error) => write!(f, "{error}"),
            Self::Room(error) => write!(f, "{error}"),
            Self::Serve(error) => write!(f, "{error}"),
            Self::Ended => write!(f, "a server has ended by itself"),
        }
    }
}

impl std::error::Error for ChatError {}
