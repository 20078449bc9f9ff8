//! The client's side of a connection, written by hand: how it comes up, and what it sends.

use crate::lane::next_packet;
use crate::packet::{self, kind};
use crate::{Transport, handshake, payload, upgrade, websocket};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// How long a connection may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens a connection as far as the acknowledged handshake: from the address `from`, if one is given.
///
/// # Errors
///
/// If the server does not answer, or refuses.
pub async fn open(addr: SocketAddr, from: Option<Ipv4Addr>, transport: Transport) -> io::Result<TcpStream> {
    tokio::time::timeout(PATIENCE, shake_hands(addr, from, transport)).await?
}

/// The address that client number `index` of this process comes from.
///
/// A thousand clients have the same, so there are always ports enough; and each process has addresses of its own, so
/// that ports which the system still keeps for connections of the process before are in nobody's way.
#[must_use]
pub fn source(index: usize) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    // Neither 127.0.0.x, where the servers are, nor an address that ends in 0 or 255.
    Ipv4Addr::new(127, 1 + high % 254, low, 1 + (index / 1000 % 254) as u8)
}

/// Appends a packet of a client, in its frame if there are frames.
pub fn put_packet(out: &mut Vec<u8>, transport: Transport, kind: u8, body: &[u8]) {
    let frame = websocket::begin(out, transport);
    packet::put(out, kind, body);
    websocket::end_client(out, transport, frame);
}

/// Appends the request with this id whose payload is number `sequence`.
pub fn put_request(out: &mut Vec<u8>, transport: Transport, id: u32, route: &str, sequence: u32) {
    let frame = websocket::begin(out, transport);
    let start = packet::begin(out, kind::DATA);
    packet::put_request_head(out, id, route);
    payload::put_body(out, sequence);
    packet::end(out, start);
    websocket::end_client(out, transport, frame);
}

/// Opens a connection and says nothing.
///
/// # Errors
///
/// If there is no server.
pub async fn connect(addr: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if let Some(from) = from {
        socket.bind(SocketAddr::from((from, 0)))?;
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects, upgrades if the transport is WebSocket, and shakes hands.
async fn shake_hands(addr: SocketAddr, from: Option<Ipv4Addr>, transport: Transport) -> io::Result<TcpStream> {
    let mut stream = connect(addr, from).await?;
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
