//! Broadcasts, with the least work: a push is written once, copied once for each member, and each member's task is woken
//! once, and writes whatever has come together by then with one call.
//!
//! No sessions and no users: a member is a connection. Nobody can leave.

use pitaya_bench::limit::Limit;
use pitaya_bench::packet::{self, kind};
use pitaya_bench::payload::Chat;
use pitaya_bench::{PUSH_NEWS, ROUTE_BROADCAST, ROUTE_JOIN};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::READ_BUFFER;

/// The members.
#[derive(Default)]
pub(crate) struct Hub(Mutex<Vec<Arc<Member>>>);

/// What one connection is to get.
#[derive(Default)]
struct Member(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    /// Whom to wake, if the task sleeps.
    sleeper: Option<Waker>,
}

impl Hub {
    fn broadcast(&self, chat: &Chat) -> io::Result<()> {
        let mut push = Vec::new();
        let start = packet::begin(&mut push, kind::DATA);
        packet::put_push_head(&mut push, PUSH_NEWS);
        serde_json::to_writer(&mut push, chat)?;
        packet::end(&mut push, start);
        for member in lock(&self.0).iter() {
            member.add(&push);
        }
        Ok(())
    }
}

impl Member {
    fn add(&self, bytes: &[u8]) {
        let sleeper = {
            let mut queue = lock(&self.0);
            queue.bytes.extend_from_slice(bytes);
            queue.sleeper.take()
        };
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }
}

/// One connection.
struct Connection {
    stream: TcpStream,
    limit: Limit,
    hub: Arc<Hub>,
    member: Arc<Member>,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
    written: usize,
}

/// Serves one connection.
pub(crate) async fn serve(stream: TcpStream, limit: Limit, hub: Arc<Hub>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, output) = (vec![0; READ_BUFFER], Vec::with_capacity(READ_BUFFER));
    let mut connection =
        Connection { stream, limit, hub, member: Arc::default(), input, filled: 0, output, written: 0 };
    poll_fn(|cx| connection.poll_serve(cx)).await
}

impl Connection {
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let writing = self.poll_write(cx)?.is_pending();
            match self.poll_read(cx)? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {
                    self.answer()?;
                    continue;
                }
                Poll::Pending => {}
            }
            let mut queue = lock(&self.member.0);
            if writing || queue.bytes.is_empty() {
                // One that waits for its socket is not woken for more to write.
                queue.sleeper = (!writing).then(|| cx.waker().clone());
                return Poll::Pending;
            }
        }
    }

    /// Writes what has been queued.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.output.len() {
                self.output.clear();
                self.written = 0;
                std::mem::swap(&mut self.output, &mut lock(&self.member.0).bytes);
                if self.output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..]))?;
        }
    }

    /// Reads what is there; 0 is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.input[self.filled..]);
        if buffer.remaining() == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "packet too long")));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.filled += read;
        Poll::Ready(Ok(read))
    }

    /// Does what the requests ask for that are here, and answers them.
    fn answer(&mut self) -> io::Result<()> {
        let mut at = 0;
        while let Some((kind, body, length)) = packet::split(&self.input[at..self.filled]) {
            at += length;
            if kind == kind::DATA {
                let (_, route, body) = packet::parse_request(body)?;
                if route == ROUTE_JOIN.as_bytes() {
                    lock(&self.hub.0).push(Arc::clone(&self.member));
                } else if route == ROUTE_BROADCAST.as_bytes() {
                    self.hub.broadcast(&serde_json::from_slice(body)?)?;
                }
            }
        }
        let mut answers = Vec::new();
        let used = self.limit.answer(&mut self.input[..self.filled], &mut answers)?;
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.member.add(&answers);
        Ok(())
    }
}

/// Nothing panics while a lock is held.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
