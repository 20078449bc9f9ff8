//! Packets one after the other on a byte stream.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pitaya_protocol::{Packet, PacketCodec, PacketError, PacketKind, PomeloCodec};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{HIGH_WATER, Io, LinkError, LinkEvent};

/// Bytes of room made for a read. The buffer grows with what came, never with what a header announces.
const READ_ROOM: usize = 8 * 1024;

/// With less room than this, in bytes, new room is made.
const LEAST_ROOM: usize = 1024;

pub(crate) struct StreamLink {
    io: Box<dyn Io>,
    inbound: BytesMut,
    outbound: BytesMut,
    /// All of `outbound` is written but not flushed yet.
    unflushed: bool,
    /// Writing has failed. What came before, often a Kick, is read first; then this is reported.
    broken: Option<io::Error>,
}

impl StreamLink {
    pub(super) fn new(io: Box<dyn Io>) -> Self {
        Self { io, inbound: BytesMut::new(), outbound: BytesMut::new(), unflushed: false, broken: None }
    }

    pub(super) fn queue(&mut self, kind: PacketKind, body: &[&[u8]]) -> Result<(), LinkError> {
        PomeloCodec.encode(kind, body, &mut self.outbound)?;
        Ok(())
    }

    pub(super) fn unsent(&self) -> usize {
        self.outbound.len()
    }

    pub(super) fn has_partial(&self) -> bool {
        !self.inbound.is_empty()
    }

    pub(super) fn buffered(&mut self, max_body: usize) -> Result<Option<Packet>, LinkError> {
        Ok(PomeloCodec.decode(&mut self.inbound, max_body)?)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>, max_body: usize) -> Poll<Result<LinkEvent, LinkError>> {
        if self.broken.is_none() && (self.unflushed || !self.outbound.is_empty()) {
            let was_full = self.unsent() >= HIGH_WATER;
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) if was_full => return Poll::Ready(Ok(LinkEvent::Drained)),
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(error)) => {
                    self.outbound.clear();
                    self.broken = Some(error);
                }
            }
        }
        if let Some(packet) = self.buffered(max_body)? {
            return Poll::Ready(Ok(LinkEvent::Packet(packet)));
        }
        let read = match self.poll_read(cx) {
            Poll::Ready(read) => read,
            Poll::Pending => {
                return match self.broken.take() {
                    Some(error) => Poll::Ready(Err(LinkError::Io(error))),
                    None => Poll::Pending,
                };
            }
        };
        Poll::Ready(match read {
            Ok(0) => Err(self.end()),
            Ok(_) => match self.buffered(max_body)? {
                Some(packet) => Ok(LinkEvent::Packet(packet)),
                None => Ok(LinkEvent::Partial),
            },
            Err(error) => Err(LinkError::Io(self.broken.take().unwrap_or(error))),
        })
    }

    /// Says what an end of the stream means.
    fn end(&mut self) -> LinkError {
        if self.inbound.is_empty() { LinkError::Eof } else { PacketError::Truncated.into() }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.inbound.capacity() - self.inbound.len() < LEAST_ROOM {
            self.inbound.reserve(READ_ROOM);
        }
        // Dropping the future of `read_buf` unfinished loses nothing, so one per poll will do.
        pin!(self.io.read_buf(&mut self.inbound)).poll(cx)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.outbound))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(written);
            self.unflushed = true;
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
