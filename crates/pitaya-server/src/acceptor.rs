//! TCP and WebSocket: the acceptors that come with the engine.

mod tcp;
mod ws;

pub use tcp::TcpAcceptor;
pub use ws::{HttpResponse, WsAcceptor};

use std::{io, net::SocketAddr, time::Duration};

use pitaya_core::{Acceptor, BoxFuture, acceptor::Incoming};
use tokio::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, lookup_host};

/// How many connections the kernel keeps for us while we are busy.
const BACKLOG: u32 = 4096;

/// How long to wait after an accept that failed, so that running out of descriptors does not keep a processor busy.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// An acceptor whatever its type.
pub(crate) trait AnyAcceptor: Send {
    fn accept(&mut self) -> BoxFuture<'_, Incoming>;
    fn address(&self) -> Option<SocketAddr>;
}

impl<A: Acceptor> AnyAcceptor for A {
    fn accept(&mut self) -> BoxFuture<'_, Incoming> {
        Box::pin(Acceptor::accept(self))
    }

    fn address(&self) -> Option<SocketAddr> {
        self.local_addr()
    }
}

async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut last_error = None;
    for address in lookup_host(address).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                last_error = Some(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
            }
        }
    }
    Err(last_error.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the address names no interface")))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server gets its port back at once.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small messages must not wait for each other; a socket that refuses this is dead already.
                if stream.set_nodelay(true).is_ok() {
                    return (stream, peer);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}
