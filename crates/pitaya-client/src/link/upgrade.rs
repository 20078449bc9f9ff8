//! A check of the server's answer to the WebSocket upgrade, before the library sees it.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Longest answer in bytes; servers send a few hundred.
const MAX_HEAD: usize = 8 * 1024;

/// Length of every base64 text of 20 bytes, which is what `Sec-WebSocket-Accept` holds.
const ACCEPT_LEN: usize = 28;

/// A byte stream that holds the HTTP answer back until it is complete and harmless.
///
/// `tokio-websockets` 0.13 buffers an answer without bound and panics when `Sec-WebSocket-Accept` decodes to more than
/// 20 bytes: with it alone a server could take the memory of a client, or kill its task.
pub(crate) struct Upgrade<S> {
    io: S,
    /// What was read so far; what is left of it is handed out first once `checked`.
    head: BytesMut,
    checked: bool,
}

impl<S> Upgrade<S> {
    pub(super) fn new(io: S) -> Self {
        Self { io, head: BytesMut::new(), checked: false }
    }
}

impl<S: AsyncRead + Unpin> Upgrade<S> {
    fn poll_check(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.checked {
            let read = ready!(pin!(self.io.read_buf(&mut self.head)).poll(cx))?;
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            match self.head.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) if end <= MAX_HEAD => {
                    check(&self.head[..end])?;
                    self.checked = true;
                }
                Some(_) | None if self.head.len() > MAX_HEAD => {
                    return Poll::Ready(Err(invalid("answer is too long")));
                }
                Some(_) | None => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Refuses an answer that the library cannot stand.
fn check(head: &[u8]) -> io::Result<()> {
    for line in head.split(|&byte| byte == b'\n') {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.trim_ascii().eq_ignore_ascii_case(b"sec-websocket-accept")
            && (value.len() != ACCEPT_LEN || value.last() != Some(&b'='))
        {
            return Err(invalid("malformed Sec-WebSocket-Accept"));
        }
    }
    Ok(())
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl<S: AsyncRead + Unpin> AsyncRead for Upgrade<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_check(cx))?;
        if this.head.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let len = this.head.len().min(buf.remaining());
        buf.put_slice(&this.head[..len]);
        this.head.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upgrade<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
