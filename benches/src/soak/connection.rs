//! One connection of the soak.

use crate::lane::next_packet;
use crate::packet::{self, kind};
use crate::{Transport, client};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take that a client waits for, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that has shaken hands.
pub(crate) struct Connection {
    stream: TcpStream,
    transport: Transport,
    input: Vec<u8>,
    next_id: u32,
}

/// What came from the server.
#[derive(Debug)]
pub(crate) enum Received {
    /// The answer to a request.
    Answer { id: u32, body: Vec<u8> },
    /// A push.
    Push,
    /// A heartbeat, which has been answered.
    Heartbeat,
    /// It closes the connection next.
    Kick,
    /// It has closed the connection.
    Closed,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr, from: Option<Ipv4Addr>, transport: Transport) -> io::Result<Self> {
        let stream = client::open(addr, from, transport).await?;
        Ok(Self { stream, transport, input: Vec::new(), next_id: 1 })
    }

    /// Sends a request and reads until its answer is there.
    pub(crate) async fn ask(&mut self, route: &str) -> io::Result<Vec<u8>> {
        self.ask_with(route, 0).await
    }

    /// The same with payload number `sequence`.
    pub(crate) async fn ask_with(&mut self, route: &str, sequence: u32) -> io::Result<Vec<u8>> {
        let asked = self.send_request(route, sequence).await?;
        loop {
            match self.receive().await? {
                Received::Answer { id, body } if id == asked => return Ok(body),
                Received::Answer { .. } => return Err(wrong("an answer to another request")),
                Received::Push | Received::Heartbeat => {}
                Received::Kick | Received::Closed => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
    }

    /// Sends a request; returns its id.
    pub(crate) async fn send_request(&mut self, route: &str, sequence: u32) -> io::Result<u32> {
        let id = self.next_id;
        self.next_id += 1;
        let mut out = Vec::new();
        client::put_request(&mut out, self.transport, id, route, sequence);
        self.stream.write_all(&out).await?;
        Ok(id)
    }

    /// The next packet. Heartbeats are answered.
    pub(crate) async fn receive(&mut self) -> io::Result<Received> {
        let received = tokio::time::timeout(PATIENCE, self.read_packet()).await??;
        if matches!(received, Received::Heartbeat) {
            let mut out = Vec::new();
            client::put_packet(&mut out, self.transport, kind::HEARTBEAT, &[]);
            self.stream.write_all(&out).await?;
        }
        Ok(received)
    }

    /// Reads until the server closes, and answers nothing. Returns whether it kicked before.
    pub(crate) async fn until_closed(&mut self) -> io::Result<bool> {
        let mut kicked = false;
        loop {
            match tokio::time::timeout(PATIENCE, self.read_packet()).await?? {
                Received::Kick => kicked = true,
                Received::Closed => return Ok(kicked),
                Received::Answer { .. } | Received::Push | Received::Heartbeat => {}
            }
        }
    }

    /// Goes with half a packet sent.
    pub(crate) async fn leave_half_a_packet(mut self) -> io::Result<()> {
        let mut out = Vec::new();
        client::put_request(&mut out, self.transport, self.next_id, "bench.echo", 0);
        self.stream.write_all(&out[..out.len() / 2]).await
    }

    /// Goes without a word: the system tells the server that there is nobody, instead of closing.
    pub(crate) fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    async fn read_packet(&mut self) -> io::Result<Received> {
        loop {
            if let Some((received, used)) = self.take_packet()? {
                self.input.drain(..used);
                return Ok(received);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Ok(Received::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Received::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    fn take_packet(&self) -> io::Result<Option<(Received, usize)>> {
        let Some((kind, body, used)) = next_packet(&self.input, self.transport)? else { return Ok(None) };
        let received = match kind {
            kind::HEARTBEAT => Received::Heartbeat,
            kind::KICK => Received::Kick,
            kind::DATA if packet::parse_push(body).is_some() => Received::Push,
            kind::DATA => {
                let (id, body) = packet::parse_response(body)?;
                Received::Answer { id, body: body.to_vec() }
            }
            _ => return Err(wrong("a packet of an unexpected type")),
        };
        Ok(Some((received, used)))
    }
}

/// The server answered something that it must not; unlike a connection that was lost, this ends the soak.
pub(crate) fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
