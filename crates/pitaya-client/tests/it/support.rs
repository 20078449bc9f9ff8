//! A server of which the test decides every byte.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use pitaya_client::{Builder, Client, CloseReason};
use pitaya_protocol::{Dictionary, EncodeOptions, Message, Packet, PacketCodec, PacketKind, PomeloCodec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

/// A handshake response that nobody can object to.
pub const ACCEPTED: &str = r#"{"code":200,"sys":{"dict":{},"heartbeat":30,"serializer":"json"}}"#;

/// Longer than anything here takes, by a factor of ten and more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that must not hang.
#[track_caller]
pub fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move { tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("hangs at {caller}")) }
}

pub fn packet(kind: PacketKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    PomeloCodec.encode(kind, &[body], &mut bytes).unwrap();
    bytes.to_vec()
}

pub fn handshake(json: &str) -> Vec<u8> {
    packet(PacketKind::Handshake, json.as_bytes())
}

pub fn data(message: &Message) -> Vec<u8> {
    let body = message.encode(&EncodeOptions::default()).unwrap();
    packet(PacketKind::Data, &body)
}

/// The server's end of a byte stream.
pub struct Peer<S> {
    pub io: S,
    inbound: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(io: S) -> Self {
        Self { io, inbound: BytesMut::new() }
    }

    /// Reads a packet; `None` at the end of the stream.
    pub async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = PomeloCodec.decode(&mut self.inbound, 1 << 24).unwrap() {
                return Some(packet);
            }
            match self.io.read_buf(&mut self.inbound).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads the next message, heartbeats aside.
    pub async fn message(&mut self) -> Option<Message> {
        self.message_with(&Dictionary::default()).await
    }

    pub async fn message_with(&mut self, dictionary: &Dictionary) -> Option<Message> {
        loop {
            let packet = self.packet().await?;
            if packet.kind == PacketKind::Data {
                return Some(Message::decode(packet.body, dictionary, 1 << 20).unwrap());
            }
            assert_eq!(packet.kind, PacketKind::Heartbeat);
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Shakes hands; returns what the client told.
    pub async fn welcome(&mut self, json: &str) -> Bytes {
        let hello = self.packet().await.unwrap();
        assert_eq!(hello.kind, PacketKind::Handshake);
        self.send(&handshake(json)).await;
        let ack = self.packet().await.unwrap();
        assert_eq!(ack.kind, PacketKind::HandshakeAck);
        hello.body
    }

    /// Answers requests with their own bodies until the client goes.
    pub async fn echo(&mut self) {
        while let Some(message) = self.message().await {
            if message.id != 0 {
                self.send(&data(&Message::response(message.id, message.body))).await;
            }
        }
    }
}

pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

pub async fn accept(listener: &TcpListener) -> Peer<TcpStream> {
    Peer::new(listener.accept().await.unwrap().0)
}

/// Connects over a pipe in memory, after the handshake.
pub async fn piped(builder: Builder, json: &str) -> (Client, Peer<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut peer = Peer::new(far);
    let (client, _) = tokio::join!(builder.connect_io(near), peer.welcome(json));
    (client.unwrap(), peer)
}

pub fn builder() -> Builder {
    Client::builder("tcp://test:1")
}

/// Runs the server's part of a connection attempt that must fail, and returns the error.
pub async fn refused<F: Future<Output = ()>>(
    builder: Builder,
    server: impl FnOnce(Peer<DuplexStream>) -> F,
) -> pitaya_client::ConnectError {
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let attempt = builder.connect_io(near);
    let (result, ()) = soon(async { tokio::join!(attempt, server(Peer::new(far))) }).await;
    result.expect_err("the connection must not come about")
}

/// Awaits the end of the client.
pub async fn end_of(client: &Client) -> CloseReason {
    soon(client.closed()).await
}

/// Waits until no task but the test itself is left.
pub async fn no_tasks_left() {
    let metrics = tokio::runtime::Handle::current().metrics();
    soon(async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// The server's end of a WebSocket.
pub struct WebPeer {
    pub socket: WebSocketStream<TcpStream>,
}

impl WebPeer {
    pub async fn accept(listener: &TcpListener) -> Self {
        let (io, _) = listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(io).await.unwrap();
        Self { socket }
    }

    pub async fn packet(&mut self) -> Option<Packet> {
        loop {
            match self.socket.next().await? {
                Ok(tungstenite::Message::Binary(bytes)) => {
                    let mut bytes = BytesMut::from(&bytes[..]);
                    let packet = PomeloCodec.decode_message(&mut bytes, 1 << 24);
                    return Some(packet.unwrap());
                }
                Ok(tungstenite::Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn message(&mut self) -> Option<Message> {
        let packet = self.packet().await?;
        assert_eq!(packet.kind, PacketKind::Data);
        Some(Message::decode(packet.body, &Dictionary::default(), 1 << 20).unwrap())
    }

    pub async fn send(&mut self, bytes: Vec<u8>) {
        self.socket.send(tungstenite::Message::binary(bytes)).await.unwrap();
    }

    pub async fn welcome(&mut self, json: &str) {
        let hello = self.packet().await.unwrap();
        assert_eq!(hello.kind, PacketKind::Handshake);
        self.send(handshake(json)).await;
        let ack = self.packet().await.unwrap();
        assert_eq!(ack.kind, PacketKind::HandshakeAck);
    }
}

/// Connects over a real WebSocket, after the handshake.
pub async fn web(builder: impl FnOnce(&str) -> Builder) -> (Client, WebPeer) {
    let (listener, address) = listen().await;
    let url = format!("ws://{address}/any/path");
    let server = async {
        let mut peer = WebPeer::accept(&listener).await;
        peer.welcome(ACCEPTED).await;
        peer
    };
    let (client, peer) = soon(async { tokio::join!(builder(&url).connect(), server) }).await;
    (client.unwrap(), peer)
}

/// Polls a future once and tells whether it waits.
pub async fn waits(mut future: Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Connects over a WebSocket in a small pipe, after the handshake, with the default settings.
pub async fn piped_web() -> (Client, WebSocketStream<DuplexStream>) {
    let (near, far) = tokio::io::duplex(4096);
    let server = async {
        let mut socket = tokio_tungstenite::accept_async(far).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let response = tungstenite::Message::binary(handshake(ACCEPTED));
        socket.send(response).await.unwrap();
        socket
    };
    let connect = Client::builder("ws://test/").connect_io(near);
    let (client, socket) = tokio::join!(Box::pin(connect), Box::pin(server));
    (client.unwrap(), socket)
}
