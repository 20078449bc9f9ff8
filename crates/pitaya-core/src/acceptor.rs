//! Where clients come from: the port of TCP, WebSocket and whatever carries bytes.

use std::{fmt, future::Future, io, net::SocketAddr};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::BoxFuture;

/// A source of client connections.
///
/// ```
/// use pitaya_core::acceptor::{Acceptor, Incoming};
/// use tokio::{io::DuplexStream, sync::mpsc};
///
/// /// Clients of the same process.
/// struct Pipe(mpsc::Receiver<DuplexStream>);
///
/// impl Acceptor for Pipe {
///     async fn accept(&mut self) -> Incoming {
///         match self.0.recv().await {
///             Some(stream) => Incoming::ready(None, stream),
///             None => std::future::pending().await,
///         }
///     }
/// }
/// ```
pub trait Acceptor: Send + 'static {
    /// Waits for the next client. It does not fail: an acceptor whose `accept` fails (out of descriptors, say) waits a
    /// moment and tries again.
    ///
    /// # Cancel safety
    ///
    /// The engine drops this future when it stops accepting.
    fn accept(&mut self) -> impl Future<Output = Incoming> + Send;

    /// Where it listens, if that is an address.
    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }
}

/// A client that has just arrived. What is left to do before the first packet (a TLS or a WebSocket handshake) is done by
/// the client's own task, under the handshake deadline, so that a slow client keeps nobody waiting.
pub struct Incoming {
    /// The address of the peer, if it has one.
    pub peer: Option<SocketAddr>,
    /// Makes the link, or fails and with that ends the connection.
    pub establish: BoxFuture<'static, io::Result<Established>>,
}

impl Incoming {
    /// A client that can send packets at once.
    #[must_use]
    pub fn ready(peer: Option<SocketAddr>, io: impl Io) -> Self {
        let link = Link::new(Box::new(io), Framing::Stream);
        Self { peer, establish: Box::pin(async { Ok(Established::Link(link)) }) }
    }

    /// A client with which something has to be agreed first.
    #[must_use]
    pub fn new(
        peer: Option<SocketAddr>,
        establish: impl Future<Output = io::Result<Established>> + Send + 'static,
    ) -> Self {
        Self { peer, establish: Box::pin(establish) }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What came of establishing a connection.
#[derive(Debug)]
pub enum Established {
    /// A client that speaks packets.
    Link(Link),
    /// The visitor wanted something else (a page, a health check) and has been served.
    Served,
}

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}

/// How packets lie in the bytes of a link (protocol.md 1.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// One packet after the other.
    Stream,
    /// Each packet in one binary message of the WebSocket protocol, server side.
    WebSocket,
}

/// An established connection.
#[derive(Debug)]
pub struct Link {
    /// The bytes in both directions.
    pub io: Box<dyn Io>,
    /// How packets lie in them.
    pub framing: Framing,
    /// Bytes of packets that were read while the connection was established.
    pub early: BytesMut,
}

impl Link {
    /// A link of which nothing has been read yet.
    #[must_use]
    pub fn new(io: Box<dyn Io>, framing: Framing) -> Self {
        Self { io, framing, early: BytesMut::new() }
    }
}
