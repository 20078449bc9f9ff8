//! The bytes of a connection: one buffer for what came, one for what goes.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use pitaya_core::acceptor::{Framing, Io, Link};
use pitaya_protocol::{Connection as Protocol, Packet, PacketError};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};

use super::{
    outbox::Outbox,
    ws::{OpCode, WsDecoder, WsError, WsEvent},
};
use crate::engine::Engine;

/// How much is read at once. The space lies on the stack of the thread that polls, so an idle connection holds none.
const READ_AT_ONCE: usize = 16 * 1024;

/// A batch larger than this gives its buffer back as soon as it has been written. Small: when thousands of connections each
/// keep a larger one until their next heartbeat, an allocator cannot give the memory back to the system any more.
const KEEP: usize = 2 * 1024;

/// A client that is told goodbye and sends nothing for so long will not mind that we close.
const QUIET: Duration = Duration::from_secs(1);

/// The socket with its buffers.
pub(super) struct Wire {
    io: Box<dyn Io>,
    /// Set for WebSocket connections.
    ws: Option<WsDecoder>,
    /// Bytes that have been read and hold no whole packet yet, or packets that wait for room.
    incoming: BytesMut,
    /// The batch that is being written, and how much of it has been.
    outgoing: BytesMut,
    written: usize,
    /// Since when the socket has taken nothing.
    stalled_since: Option<Instant>,
    /// Whether bytes came since the last look.
    active: bool,
}

/// What is wrong with the bytes of a client.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("bad packet")]
    Packet(#[from] PacketError),
    #[error("bad WebSocket frame")]
    WebSocket(#[from] WsError),
    #[error("the client closed the WebSocket connection")]
    WebSocketClosed,
}

impl Wire {
    pub(super) fn new(link: Link) -> Self {
        Self {
            io: link.io,
            ws: (link.framing == Framing::WebSocket).then(WsDecoder::default),
            incoming: link.early,
            outgoing: BytesMut::new(),
            written: 0,
            stalled_since: None,
            active: true,
        }
    }

    /// Takes the next whole packet out of what has been read.
    pub(super) fn next_packet(
        &mut self,
        engine: &Engine,
        protocol: &Protocol,
        outbox: &Outbox,
    ) -> Result<Option<Packet>, WireError> {
        let max_body = protocol.max_body(&engine.limits);
        let Some(ws) = &mut self.ws else {
            if self.incoming.is_empty() {
                return Ok(None);
            }
            return Ok(engine.codec.decode(&mut self.incoming, max_body)?);
        };
        loop {
            let limit = engine.codec.encoded_len(max_body);
            match ws.decode(&mut self.incoming, limit)? {
                None => return Ok(None),
                Some(WsEvent::Message(mut message)) => {
                    return Ok(Some(engine.codec.decode_message(&mut message, max_body)?));
                }
                Some(WsEvent::Ping(payload)) => outbox.push_control(OpCode::Pong, &payload),
                Some(WsEvent::Pong) => {}
                Some(WsEvent::Close(payload)) => {
                    outbox.push_control(OpCode::Close, &payload);
                    return Err(WireError::WebSocketClosed);
                }
            }
        }
    }

    /// Whether a packet has begun and not ended.
    pub(super) fn has_partial_packet(&self) -> bool {
        !self.incoming.is_empty() || self.ws.as_ref().is_some_and(WsDecoder::is_partial)
    }

    /// Whether something may be read that cannot be handled yet.
    pub(super) fn has_space(&self) -> bool {
        self.incoming.len() < READ_AT_ONCE
    }

    /// Reads what is there. `false` means that the client has closed.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_AT_ONCE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        self.active = true;
        self.incoming.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(!buffer.filled().is_empty()))
    }

    /// Writes whatever is queued, as much as the socket takes. Ready when everything has been written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, outbox: &Outbox, now: Instant) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.outgoing.len() {
                self.outgoing.clear();
                self.written = 0;
                self.stalled_since = None;
                if self.outgoing.capacity() > KEEP {
                    self.outgoing = BytesMut::new();
                }
                outbox.take(&mut self.outgoing);
                if self.outgoing.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            match Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(len)) => {
                    self.written += len;
                    self.stalled_since = None;
                    if self.written < self.outgoing.len() {
                        outbox.written(len);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Since when the socket has taken nothing of what is to be written.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// Gives back the buffers of a connection on which nothing has come since the last call.
    pub(super) fn release_buffers(&mut self) {
        if !std::mem::take(&mut self.active) {
            if self.incoming.is_empty() {
                self.incoming = BytesMut::new();
            }
            if self.outgoing.is_empty() {
                self.outgoing = BytesMut::new();
            }
        }
    }

    /// Gives the socket away and frees the buffers: nothing is read or written any more.
    pub(super) fn close(&mut self) -> Box<dyn Io> {
        self.incoming = BytesMut::new();
        self.outgoing = BytesMut::new();
        std::mem::replace(&mut self.io, Box::new(tokio::io::empty()))
    }
}

/// Tells the client that nothing more comes, and waits until it has closed too, or says nothing any more.
///
/// Bytes that nobody has read make the kernel reset a connection that is closed, and a reset throws away what the client
/// has not received yet: the last pushes, the kick.
pub(super) async fn say_goodbye(mut io: Box<dyn Io>, patience: Duration) {
    let goodbye = async {
        // It may be gone already; then there is nothing to tell.
        if io.shutdown().await.is_ok() {
            while let Ok(Ok(true)) = tokio::time::timeout(QUIET, poll_fn(|cx| poll_discard(&mut io, cx))).await {}
        }
    };
    drop(tokio::time::timeout(patience, goodbye).await);
}

/// Throws away what came. `false` means that the client has closed.
fn poll_discard(io: &mut Box<dyn Io>, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_AT_ONCE];
    let mut buffer = ReadBuf::uninit(&mut space);
    ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(!buffer.filled().is_empty()))
}
