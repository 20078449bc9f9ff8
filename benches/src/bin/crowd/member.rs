//! One client.

use crate::crowd::Shared;
use crate::news::News;
use pitaya_bench::lane::next_packet;
use pitaya_bench::packet::{self, kind};
use pitaya_bench::{PUSH_GIFT, PUSH_NEWS, Transport, client, payload};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::TcpStream;

/// A connection that has shaken hands.
pub(crate) struct Member {
    stream: TcpStream,
    transport: Transport,
    /// What came of a packet that is not complete yet.
    rest: RefCell<Vec<u8>>,
    /// How many heartbeats it has answered since the count began.
    pub(crate) heartbeats: Cell<u32>,
    /// The broadcast that comes next.
    next_news: Cell<u32>,
}

impl Member {
    pub(crate) fn new(stream: TcpStream, transport: Transport, next_news: u32) -> Self {
        let (rest, heartbeats) = (RefCell::default(), Cell::new(0));
        Self { stream, transport, rest, heartbeats, next_news: Cell::new(next_news) }
    }

    /// Asks for `route`, with payload number `sequence`, which is also the id of the request.
    pub(crate) fn ask(&self, route: &str, sequence: u32) -> io::Result<()> {
        let mut out = Vec::new();
        client::put_request(&mut out, self.transport, sequence, route, sequence);
        self.write(&out)
    }

    /// Reads until the connection fails, and tells the others if it does.
    pub(crate) async fn read(self: Rc<Self>, shared: Rc<Shared>) {
        loop {
            let read = self.stream.readable().await.and_then(|()| self.read_some(&shared));
            if let Err(error) = read {
                shared.fail(error);
                return;
            }
        }
    }

    /// Reads what is there.
    fn read_some(&self, shared: &Shared) -> io::Result<()> {
        let space = &mut *shared.space.borrow_mut();
        let length = match self.stream.try_read(space) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = self.rest.borrow_mut();
        if rest.is_empty() {
            let used = self.receive(&space[..length], shared)?;
            rest.extend_from_slice(&space[used..length]);
        } else {
            rest.extend_from_slice(&space[..length]);
            let used = self.receive(&rest, shared)?;
            rest.drain(..used);
        }
        if rest.is_empty() {
            *rest = Vec::new();
        }
        Ok(())
    }

    /// Looks at the complete packets at the start of `input`; returns how many bytes they took.
    fn receive(&self, input: &[u8], shared: &Shared) -> io::Result<usize> {
        let mut used = 0;
        while let Some((kind, body, length)) = next_packet(&input[used..], self.transport)? {
            used += length;
            match kind {
                kind::DATA => self.take_message(body, shared)?,
                kind::HEARTBEAT => {
                    let mut out = Vec::new();
                    client::put_packet(&mut out, self.transport, kind::HEARTBEAT, &[]);
                    self.write(&out)?;
                    self.heartbeats.set(self.heartbeats.get() + 1);
                    shared.heartbeat(self.heartbeats.get());
                }
                _ => return Err(io::Error::other(format!("unexpected packet of type {kind}"))),
            }
        }
        Ok(used)
    }

    fn take_message(&self, message: &[u8], shared: &Shared) -> io::Result<()> {
        match packet::parse_push(message) {
            Some((route, body)) if route == PUSH_NEWS.as_bytes() => self.take_news(body, &mut shared.news.borrow_mut()),
            Some((route, _)) if route == PUSH_GIFT.as_bytes() => {
                shared.gift();
                return Ok(());
            }
            Some((route, _)) => Err(format!("an unexpected push on {}", String::from_utf8_lossy(route))),
            None => {
                let (id, body) = packet::parse_response(message)?;
                if payload::is_body(body, id) {
                    shared.answer();
                    return Ok(());
                }
                Err(format!("the answer to {id} is not its echo"))
            }
        }
        .map_err(io::Error::other)
        .inspect(|()| shared.look())
    }

    /// Every member gets every broadcast once, in order.
    fn take_news(&self, body: &[u8], news: &mut News) -> Result<(), String> {
        let sequence = self.next_news.get();
        if !payload::is_body(body, sequence) {
            return Err(format!("broadcast {sequence} is missing, or another one"));
        }
        self.next_news.set(sequence + 1);
        news.arrived(sequence, Instant::now());
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        // So little always fits in the socket's buffer, unless the server stopped reading.
        if self.stream.try_write(bytes)? < bytes.len() {
            return Err(io::Error::other("a socket is full: the server does not read"));
        }
        Ok(())
    }
}
