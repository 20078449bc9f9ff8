//! A TCP proxy that can do what networks do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinHandle,
};

/// Passes bytes between clients and one server, as long as it is told so. All connections end with it.
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    connections: Arc<AtomicUsize>,
    /// Each connection has one, and so has the proxy.
    open: Arc<()>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all connections have been cut.
    cuts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Hold,
    Refuse,
}

impl Proxy {
    /// Listens on a free port, in front of the server at this address.
    pub async fn to(server: impl Into<String>) -> Self {
        let server = server.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(State { mode: Mode::Pass, cuts: 0 });
        let connections = Arc::<AtomicUsize>::default();
        let (seen, count) = (state.subscribe(), Arc::clone(&connections));
        let open = Arc::new(());
        let one = Arc::downgrade(&open);
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                let (server, state, open) = (server.clone(), seen.clone(), one.upgrade());
                tokio::spawn(async move {
                    drop(connection(client, &server, state).await);
                    drop(open);
                });
            }
        });
        Self { address, state, connections, open, accepting }
    }

    /// Where it listens, as `127.0.0.1:4222`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections have been accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        Arc::strong_count(&self.open) - 1
    }

    /// Passes everything, from now on and what was held.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Holds everything: connections stay open and are accepted, and nothing moves.
    pub fn hold(&self) {
        self.set(Mode::Hold);
    }

    /// Closes all connections, and each new one at once.
    pub fn refuse(&self) {
        self.set(Mode::Refuse);
    }

    /// Closes all connections once; new ones are served.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        // Those that are open see that nobody tells them anything any more.
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn connection(client: TcpStream, server: &str, mut state: watch::Receiver<State>) -> io::Result<()> {
    let cuts = state.borrow().cuts;
    allowed(&mut state).await?;
    let server = TcpStream::connect(server).await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        ended = copy(from_client, to_server, state.clone()) => ended,
        ended = copy(from_server, to_client, state.clone()) => ended,
        // Also when the proxy is gone.
        _ = state.wait_for(|state| state.mode == Mode::Refuse || state.cuts != cuts) => Ok(()),
    }
}

async fn copy(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        allowed(&mut state).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

/// Waits until bytes may pass; an error if they never will.
async fn allowed(state: &mut watch::Receiver<State>) -> io::Result<()> {
    match state.wait_for(|state| state.mode != Mode::Hold).await.map(|state| state.mode) {
        Ok(Mode::Pass) => Ok(()),
        Ok(_) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
