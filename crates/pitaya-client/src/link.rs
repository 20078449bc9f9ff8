//! Packets over a byte stream or a WebSocket, behind one face.

mod stream;
mod upgrade;
mod websocket;

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use pitaya_protocol::{Packet, PacketError, PacketKind};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{CloseReason, ConnectError, Violation};

use stream::StreamLink;
use websocket::WebSocketLink;

/// Above so many unsent bytes no more messages are taken on; a single one may exceed it.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// What a link can run on.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What happened on a link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A complete packet.
    Packet(Packet),
    /// Bytes of a packet that is not complete yet.
    Partial,
    /// The unsent bytes were above [`HIGH_WATER`] and are gone now.
    Drained,
}

/// Why a link is over.
#[derive(Debug)]
pub(crate) enum LinkError {
    Eof,
    Io(io::Error),
    Violation(Violation),
}

impl From<PacketError> for LinkError {
    fn from(error: PacketError) -> Self {
        Self::Violation(error.into())
    }
}

impl From<LinkError> for CloseReason {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Eof => Self::ServerClosed,
            LinkError::Io(error) => Self::Io(error.into()),
            LinkError::Violation(violation) => Self::Protocol(violation),
        }
    }
}

impl From<LinkError> for ConnectError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Eof => Self::ServerClosed,
            LinkError::Io(error) => Self::Io(error),
            LinkError::Violation(violation) => Self::Protocol(violation),
        }
    }
}

/// An open connection that carries packets. It has no timers and knows no states.
pub(crate) enum Link {
    Stream(StreamLink),
    WebSocket(Box<WebSocketLink>),
}

impl Link {
    /// Puts packets on a byte stream.
    pub(crate) fn stream(io: Box<dyn Io>) -> Self {
        Self::Stream(StreamLink::new(io))
    }

    /// Upgrades a byte stream to a WebSocket; messages may be as long as a packet of `max_packet` bytes.
    pub(crate) async fn websocket(io: Box<dyn Io>, url: &str, max_packet: usize) -> Result<Self, ConnectError> {
        let link = WebSocketLink::upgrade(io, url, max_packet).await?;
        Ok(Self::WebSocket(Box::new(link)))
    }

    /// Puts a packet into the queue of unsent bytes.
    pub(crate) fn queue(&mut self, kind: PacketKind, body: &[&[u8]]) -> Result<(), LinkError> {
        match self {
            Self::Stream(link) => link.queue(kind, body),
            Self::WebSocket(link) => link.queue(kind, body),
        }
    }

    /// Returns the number of unsent bytes.
    pub(crate) fn unsent(&self) -> usize {
        match self {
            Self::Stream(link) => link.unsent(),
            Self::WebSocket(link) => link.unsent(),
        }
    }

    /// Tells whether no more messages should be queued now.
    pub(crate) fn is_full(&self) -> bool {
        self.unsent() >= HIGH_WATER
    }

    /// Sends what is unsent and waits for what comes, at the same time: a server that does not read cannot keep us
    /// from reading. Cancel safe: bytes stay in the link.
    pub(crate) async fn next(&mut self, max_body: usize) -> Result<LinkEvent, LinkError> {
        poll_fn(|cx| self.poll_next(cx, max_body)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, max_body: usize) -> Poll<Result<LinkEvent, LinkError>> {
        match self {
            Self::Stream(link) => link.poll_next(cx, max_body),
            Self::WebSocket(link) => link.poll_next(cx, max_body),
        }
    }

    /// Takes the next packet that has been received already.
    pub(crate) fn buffered(&mut self, max_body: usize) -> Result<Option<Packet>, LinkError> {
        match self {
            Self::Stream(link) => link.buffered(max_body),
            // The library hands out message by message.
            Self::WebSocket(_) => Ok(None),
        }
    }

    /// Tells whether bytes of an unfinished packet have been received; never so where messages come whole.
    pub(crate) fn has_partial(&self) -> bool {
        match self {
            Self::Stream(link) => link.has_partial(),
            Self::WebSocket(_) => false,
        }
    }

    /// Sends what is unsent, says good-bye where the transport has a word for it, and closes the sending direction.
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        if let Self::WebSocket(link) = self {
            link.queue_close();
        }
        poll_fn(|cx| {
            ready!(match self {
                Self::Stream(link) => link.poll_flush(cx),
                Self::WebSocket(link) => link.poll_flush(cx),
            })?;
            match self {
                Self::Stream(link) => link.poll_shutdown(cx),
                Self::WebSocket(link) => link.poll_shutdown(cx),
            }
        })
        .await
    }
}
