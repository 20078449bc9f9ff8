//! A connection's socket, and how it comes up.

use pitaya_bench::lane::{Lane, next_packet};
use pitaya_bench::packet::kind;
use pitaya_bench::stats::Stats;
use pitaya_bench::{Transport, handshake, upgrade, websocket};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How long a connection may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The side of a connection that writes. The side that reads belongs to its task.
pub(crate) struct Connection {
    pub(crate) lane: RefCell<Lane>,
    write: OwnedWriteHalf,
}

impl Connection {
    /// Opens a connection as far as the acknowledged handshake.
    pub(crate) async fn open(
        addr: SocketAddr,
        transport: Transport,
        in_flight: usize,
    ) -> io::Result<(Self, OwnedReadHalf)> {
        let stream = tokio::time::timeout(PATIENCE, shake_hands(addr, transport)).await??;
        let (read, write) = stream.into_split();
        let lane = RefCell::new(Lane::new(transport, in_flight));
        Ok((Self { lane, write }, read))
    }

    /// Writes what the lane has put out, all at once.
    pub(crate) fn flush(&self, lane: &mut Lane, stats: &mut Stats) -> io::Result<()> {
        if lane.output.is_empty() {
            return Ok(());
        }
        // A few requests always fit in the socket's buffer, unless the server stopped reading.
        let written = self.write.try_write(&lane.output)?;
        if written < lane.output.len() {
            return Err(io::Error::other("the socket is full: fewer in flight, please"));
        }
        lane.output.clear();
        stats.writes += 1;
        Ok(())
    }
}

/// Connects, upgrades if the transport is WebSocket, and shakes hands.
async fn shake_hands(addr: SocketAddr, transport: Transport) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut input = Vec::new();
    if transport == Transport::WebSocket {
        stream.write_all(upgrade::request().as_bytes()).await?;
        let head = loop {
            read_some(&mut stream, &mut input).await?;
            if let Some(length) = upgrade::head_len(&input) {
                break input.drain(..length).collect::<Vec<u8>>();
            }
        };
        upgrade::check(&head)?;
    }

    send(&mut stream, transport, &handshake::request()).await?;
    let used = loop {
        match next_packet(&input, transport)? {
            Some((kind::HANDSHAKE, body, used)) if handshake::accepted(body) => break used,
            Some(_) => return Err(io::Error::other("the server refused the handshake")),
            None => read_some(&mut stream, &mut input).await?,
        }
    };
    if used < input.len() {
        return Err(io::Error::other("the server sent more than its handshake"));
    }
    send(&mut stream, transport, &handshake::ack()).await?;
    Ok(stream)
}

/// Sends one packet.
async fn send(stream: &mut TcpStream, transport: Transport, packet: &[u8]) -> io::Result<()> {
    let mut out = Vec::new();
    let frame = websocket::begin(&mut out, transport);
    out.extend_from_slice(packet);
    websocket::end_client(&mut out, transport, frame);
    stream.write_all(&out).await
}

/// Reads more bytes; the end of the stream is an error.
async fn read_some(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
