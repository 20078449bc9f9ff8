//! Packets straight on TCP.

use std::{io, net::SocketAddr};

use pitaya_core::{Acceptor, acceptor::Incoming};
use tokio::net::{TcpListener, ToSocketAddrs};

/// Accepts clients over TCP.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    address: SocketAddr,
}

impl TcpAcceptor {
    /// Listens on an address such as `0.0.0.0:3250`; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be resolved, or is taken.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let listener = super::listen(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Acceptor for TcpAcceptor {
    async fn accept(&mut self) -> Incoming {
        let (stream, peer) = super::accept(&self.listener).await;
        Incoming::ready(Some(peer), stream)
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.address)
    }
}
