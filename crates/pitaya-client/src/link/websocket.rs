//! One packet per WebSocket message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use pitaya_protocol::{HEADER_LEN, PacketCodec, PacketKind, PomeloCodec};
use tokio::io::AsyncWrite;
use tokio_websockets::{ClientBuilder, Error, Limits, Message, WebSocketStream};

use super::upgrade::Upgrade;
use super::{HIGH_WATER, Io, LinkError, LinkEvent};
use crate::error::{ConnectError, Violation};

pub(crate) struct WebSocketLink {
    socket: WebSocketStream<Upgrade<Box<dyn Io>>>,
    /// Bytes queued since the socket was last flushed; the library does not tell.
    unsent: usize,
    /// A ping came, and its pong is in the library's queue. Nothing is read before it is sent: otherwise a server that
    /// sends pings without reading would fill that queue without bound.
    owes_pong: bool,
}

impl WebSocketLink {
    pub(super) async fn upgrade(io: Box<dyn Io>, url: &str, max_packet: usize) -> Result<Self, ConnectError> {
        let limit = max_packet.saturating_add(HEADER_LEN);
        let builder = ClientBuilder::new()
            .uri(url)
            .map_err(|error| ConnectError::Address(error.to_string()))?
            .limits(Limits::default().max_payload_len(Some(limit)));
        match builder.connect_on(Upgrade::new(io)).await {
            Ok((socket, _)) => Ok(Self { socket, unsent: 0, owes_pong: false }),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ConnectError::ServerClosed),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ConnectError::Upgrade(error.to_string()))
            }
            Err(Error::Io(error)) => Err(ConnectError::Io(error)),
            Err(error) => Err(ConnectError::Upgrade(error.to_string())),
        }
    }

    pub(super) fn queue(&mut self, kind: PacketKind, body: &[&[u8]]) -> Result<(), LinkError> {
        let len = body.iter().map(|part| part.len()).sum();
        let mut packet = BytesMut::with_capacity(PomeloCodec.encoded_len(len));
        PomeloCodec.encode(kind, body, &mut packet)?;
        self.unsent += packet.len();
        Pin::new(&mut self.socket).start_send(Message::binary(packet)).map_err(link_error)
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, max_body: usize) -> Poll<Result<LinkEvent, LinkError>> {
        loop {
            if self.owes_pong || self.unsent > 0 {
                let was_full = self.unsent >= HIGH_WATER;
                match self.poll_send(cx)? {
                    Poll::Ready(()) if was_full => return Poll::Ready(Ok(LinkEvent::Drained)),
                    Poll::Pending if self.owes_pong => return Poll::Pending,
                    Poll::Ready(()) | Poll::Pending => {}
                }
            }
            let Some(message) = ready!(Pin::new(&mut self.socket).poll_next(cx)) else {
                return Poll::Ready(Err(LinkError::Eof));
            };
            let message = message.map_err(link_error)?;
            if message.is_binary() || message.is_text() {
                let mut message = BytesMut::from(Bytes::from(message.into_payload()));
                let packet = PomeloCodec.decode_message(&mut message, max_body)?;
                return Poll::Ready(Ok(LinkEvent::Packet(packet)));
            }
            // A close frame needs nothing from us: the library queues the answer, sends it as far as the socket takes
            // it, and ends the stream.
            self.owes_pong |= message.is_ping();
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkError> {
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(result) => {
                result.map_err(link_error)?;
                self.unsent = 0;
                self.owes_pong = false;
                Ok(Poll::Ready(()))
            }
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Queues the close frame; without effect if the server has sent its own.
    pub(super) fn queue_close(&mut self) {
        // The only error is that the socket is closed already.
        Pin::new(&mut self.socket).start_send(Message::close(None, "")).ok();
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(io::Error::other)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }
}

fn link_error(error: Error) -> LinkError {
    match error {
        Error::Io(error) => LinkError::Io(error),
        Error::AlreadyClosed => LinkError::Eof,
        Error::Protocol(error) => LinkError::Violation(Violation::WebSocket(error.to_string())),
        Error::PayloadTooLong { len, max_len } => {
            LinkError::Violation(Violation::Packet(pitaya_protocol::PacketError::TooLarge {
                len: len.saturating_sub(HEADER_LEN),
                limit: max_len.saturating_sub(HEADER_LEN),
            }))
        }
        other => LinkError::Violation(Violation::WebSocket(other.to_string())),
    }
}
