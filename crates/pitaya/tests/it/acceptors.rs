//! Where clients come from: several acceptors at once, foreign ones, and visitors that never become clients.

use std::{io, net::SocketAddr};

use pitaya::{
    Acceptor, Bytes, CloseReason, HttpResponse, Json, Server, Session, TcpAcceptor, Uid, WsAcceptor,
    acceptor::{Established, Incoming},
    handlers, settings,
};
use pitaya_client::{Client, RequestError};
use pitaya_protocol::{Message, PacketKind};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, Raw, Recorder, connect, desk, encode_message, encode_packet, eventually, serve, soon};

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn join(&self, session: Session, Json(name): Json<String>) -> pitaya::Result<Json<Value>> {
        session.bind(name.as_str()).await?;
        session.set("joined", &true)?;
        Ok(Json(json!({"hello": name, "data": session.get::<bool>("joined")?})))
    }

    #[request]
    async fn peer(&self, session: Session) -> Json<Value> {
        Json(json!({
            "peer": session.peer_addr().map(|peer| peer.to_string()),
            "ip": session.get::<String>("ipversion").ok().flatten(),
        }))
    }
}

/// A TCP connection on which a WebSocket upgrade has been asked for and granted.
async fn upgraded(address: SocketAddr, path: &str, behind: &[u8]) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: game\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes();
    request.extend(behind);
    stream.write_all(&request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the answer to the upgrade", stream.read_u8()).await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// A masked frame of a client; the mask is zero, which changes nothing.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// What a plain HTTP request gets, until the server closes.
async fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the whole answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// The end of a connection: no byte comes any more.
async fn assert_closed(stream: &mut TcpStream) {
    let read = soon("the server closes", stream.read_u8()).await;
    assert!(read.is_err(), "a byte came: {read:?}");
}

#[tokio::test]
async fn clients_of_two_tcp_and_two_websocket_acceptors_are_served_side_by_side() {
    let (tcp1, tcp2) =
        (TcpAcceptor::bind("127.0.0.1:0").await.unwrap(), TcpAcceptor::bind("127.0.0.1:0").await.unwrap());
    let (ws1, ws2) = (WsAcceptor::bind("127.0.0.1:0").await.unwrap(), WsAcceptor::bind("127.0.0.1:0").await.unwrap());
    let addresses = [tcp1.address(), ws1.address(), tcp2.address(), ws2.address()];
    let builder = Server::frontend("game").handlers(Room).acceptor(tcp1).acceptor(ws1).acceptor(tcp2).acceptor(ws2);
    let server = builder.build().unwrap();
    assert_eq!(server.addresses(), addresses);
    let app = server.app();
    let serving = tokio::task::spawn(server.serve().into_future());

    let mut clients = Vec::new();
    for (address, scheme) in addresses.into_iter().zip(["tcp", "ws", "tcp", "ws"]) {
        let client = connect(&format!("{scheme}://{address}")).await;
        let name = format!("user{}", clients.len());
        let joined: Value = client.request("room.join", &name).await.unwrap();
        assert_eq!(joined["hello"], name);
        clients.push((client, name));
    }
    assert_eq!(app.session_count(), 4);
    let uids = clients.iter().map(|(_, name)| Uid::try_from(name.as_str()).unwrap());
    app.push("news", Json("to all")).to_users("game", uids).await.unwrap().all().unwrap();
    for (client, name) in &clients {
        let push = soon("the push", client.on("news").next()).await.unwrap();
        assert_eq!(push.json::<String>().unwrap(), "to all", "{name}");
    }
    serving.abort();
}

#[tokio::test]
async fn the_same_request_has_a_byte_identical_answer_over_tcp_and_websocket() {
    let server = serve(Server::frontend("game").handlers(Room)).await;
    let (tcp, ws) = (server.client().await, server.ws_client().await);
    for (route, body) in
        [("room.join", r#""ada""#), ("game.room.join", r#""ada""#), ("room.join", "7"), ("room.no", "")]
    {
        let over_tcp = tcp.request_bytes(route, body).await;
        let over_ws = ws.request_bytes(route, body.replace("ada", "bob")).await;
        match (over_tcp, over_ws) {
            (Ok(tcp), Ok(ws)) => {
                let ws = String::from_utf8(ws.to_vec()).unwrap().replace("bob", "ada");
                assert_eq!(tcp, ws, "{route}");
            }
            (Err(RequestError::Server(tcp)), Err(RequestError::Server(ws))) => {
                assert_eq!(tcp.raw, ws.raw, "{route}");
            }
            different => panic!("{route}: {different:?}"),
        }
    }
}

#[tokio::test]
async fn a_websocket_client_may_ask_for_any_path() {
    let server = serve(desk()).await;
    for path in ["", "/", "/ws", "/a/b.c/%20d", "/chat?room=7&x"] {
        let client = connect(&format!("ws://{}{path}", server.ws)).await;
        assert_eq!(client.request_bytes("desk.echo", "hi").await.unwrap(), "hi", "{path:?}");
    }
}

/// A client need not wait for the answer to its upgrade.
#[tokio::test]
async fn packets_right_behind_the_upgrade_request_are_not_lost() {
    let server = serve(desk()).await;
    let handshake = encode_packet(PacketKind::Handshake, b"{}");
    let ack = encode_packet(PacketKind::HandshakeAck, b"");
    let request = encode_message(&Message::request(1, "desk.echo", "early"));
    let frames = [frame(&handshake), frame(&ack), frame(&request)].concat();
    let (mut stream, head) = upgraded(server.ws, "/", &frames).await;
    assert_eq!(status(&head), 101);
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the key is answered as RFC 6455 says: {head}");
    let mut received = Vec::new();
    while !received.ends_with(b"early") {
        received.push(soon("the answer", stream.read_u8()).await.unwrap());
    }
}

/// An acceptor against the public interface only: clients of the same process, which have a made-up address.
struct Neighbours(mpsc::Receiver<(SocketAddr, tokio::io::DuplexStream)>);

impl Acceptor for Neighbours {
    async fn accept(&mut self) -> Incoming {
        match self.0.recv().await {
            Some((peer, stream)) => Incoming::ready(Some(peer), stream),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn an_acceptor_of_the_application_serves_requests() {
    let (doorbell, neighbours) = mpsc::channel(1);
    let server = Server::frontend("game").handlers(Room).acceptor(Neighbours(neighbours)).build().unwrap();
    assert!(server.addresses().is_empty());
    let serving = tokio::task::spawn(server.serve().into_future());
    for (peer, ip) in [("10.1.2.3:4567", "ipv4"), ("[fe80::1]:4567", "ipv6")] {
        let (ours, theirs) = tokio::io::duplex(1024);
        doorbell.send((peer.parse().unwrap(), theirs)).await.unwrap();
        let client = Client::builder("tcp://neighbour:1").connect_io(ours).await.unwrap();
        let answer: Value = client.request("room.peer", &()).await.unwrap();
        assert_eq!(answer, json!({"peer": peer, "ip": ip}));
    }
    serving.abort();
}

#[tokio::test]
async fn establishing_that_fails_or_panics_costs_only_its_connection() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let before = server.client().await;
    for round in 1..=3 {
        server.pipes.arrive(Incoming::new(None, async { Err(io::ErrorKind::InvalidData.into()) })).await;
        server.pipes.arrive(Incoming::new(None, async { panic!("on purpose") })).await;
        eventually("both are counted", || recorder.value("acceptor.establish_errors") == 2 * round).await;
    }
    // Served without becoming a client is no error.
    let (done, served) = tokio::sync::oneshot::channel();
    let serve = async {
        done.send(()).unwrap();
        Ok(Established::Served)
    };
    server.pipes.arrive(Incoming::new(None, serve)).await;
    soon("the visitor is served", served).await.unwrap();
    let mut after = server.pipes.established().await;
    after.send_message(&Message::request(1, "desk.echo", "x")).await;
    assert_eq!(after.message().await.unwrap().body, "x");
    assert_eq!(before.request_bytes("desk.echo", "y").await.unwrap(), "y");
    assert_eq!(recorder.value("acceptor.establish_errors"), 6);
    assert_eq!(recorder.value("acceptor.connected_clients"), 2);
}

/// An acceptor that panics when it is asked for the first client.
struct Broken;

impl Acceptor for Broken {
    async fn accept(&mut self) -> Incoming {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn an_acceptor_that_panics_does_not_stop_the_others() {
    let server = serve(desk().acceptor(Broken)).await;
    for client in [server.client().await, server.ws_client().await] {
        assert_eq!(client.request_bytes("desk.echo", "x").await.unwrap(), "x");
    }
    server.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn establishing_that_takes_longer_than_the_handshake_may_is_given_up() {
    let recorder = Recorder::default();
    let server =
        serve(desk().reporter(recorder.clone()).set(&settings::HANDSHAKE_TIMEOUT, Duration::from_secs(7))).await;
    let start = Instant::now();
    let (held, mut dropped) = mpsc::channel::<()>(1);
    server
        .pipes
        .arrive(Incoming::new(None, async move {
            let _held = held;
            std::future::pending().await
        }))
        .await;
    assert_eq!(dropped.recv().await, None, "the future is dropped");
    assert_eq!(start.elapsed().as_secs(), 7);
    eventually("it is counted", || recorder.value("acceptor.establish_errors") == 1).await;
    assert_eq!(server.app.session_count(), 0);
}

/// What comes before packets and the handshake share one deadline.
#[tokio::test(start_paused = true)]
async fn the_time_for_establishing_counts_against_the_handshake() {
    let recorder = Recorder::default();
    let server =
        serve(desk().reporter(recorder.clone()).set(&settings::HANDSHAKE_TIMEOUT, Duration::from_secs(7))).await;
    let start = Instant::now();
    let (ours, theirs) = tokio::io::duplex(1024);
    let incoming = Incoming::new(None, async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let link = pitaya::acceptor::Link::new(Box::new(theirs), pitaya::acceptor::Framing::Stream);
        Ok(Established::Link(link))
    });
    server.pipes.arrive(incoming).await;
    assert_eq!(Raw::over(ours).packet().await, None);
    assert_eq!(start.elapsed().as_secs(), 7);
    eventually("it is counted", || recorder.value("session.closed{handshake_timeout}") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_finish_the_handshake_is_closed_at_the_deadline() {
    let recorder = Recorder::default();
    let server =
        serve(desk().reporter(recorder.clone()).set(&settings::HANDSHAKE_TIMEOUT, Duration::from_secs(7))).await;
    let start = Instant::now();
    let mut silent = server.pipes.raw().await;
    let mut without_ack = server.pipes.raw().await;
    without_ack.send_packet(PacketKind::Handshake, b"{}").await;
    assert_eq!(without_ack.packet().await.unwrap().kind, PacketKind::Handshake);
    let mut in_time = server.pipes.established().await;

    // Heartbeats before the Ack gain no time.
    tokio::time::sleep(Duration::from_secs(6)).await;
    without_ack.send_packet(PacketKind::Heartbeat, b"").await;
    assert_eq!(silent.packet().await, None);
    assert_eq!(without_ack.packet().await, None);
    assert_eq!(start.elapsed().as_secs(), 7);
    eventually("both are counted", || recorder.value("session.closed{handshake_timeout}") == 2).await;

    in_time.send_message(&Message::request(1, "desk.echo", "x")).await;
    assert_eq!(in_time.message().await.unwrap().body, "x");
}

/// On the sockets: neither those that send nothing nor those that stop in the middle of the upgrade.
#[tokio::test]
async fn visitors_that_never_upgrade_are_closed_at_the_deadline() {
    let recorder = Recorder::default();
    let builder = desk().reporter(recorder.clone()).set(&settings::HANDSHAKE_TIMEOUT, Duration::from_millis(200));
    let server = serve(builder).await;
    let mut visitors = Vec::new();
    for head in ["", "GET / HTTP/1.1\r\nHost: ga"] {
        let mut stream = TcpStream::connect(server.ws).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        visitors.push(stream);
    }
    for visitor in &mut visitors {
        assert_closed(visitor).await;
    }
    eventually("both are counted", || recorder.value("acceptor.establish_errors") == 2).await;
    assert_eq!(recorder.value("acceptor.connected_clients"), 0);
}

#[tokio::test]
async fn silent_visitors_keep_nobody_waiting() {
    let server = serve(desk().set(&settings::HANDSHAKE_TIMEOUT, 10 * PATIENCE)).await;
    let mut silent = Vec::new();
    for address in [server.tcp, server.ws].repeat(50) {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    for client in [server.client().await, server.ws_client().await] {
        assert_eq!(client.request_bytes("desk.echo", "x").await.unwrap(), "x");
    }
}

fn page(path: &str) -> Option<HttpResponse> {
    (path == "/health")
        .then(|| HttpResponse { content_type: "application/json", body: Bytes::from_static(b"{\"ok\":1}") })
}

#[tokio::test]
async fn plain_http_gets_pages_on_the_port_of_the_websocket() {
    let recorder = Recorder::default();
    let acceptor = WsAcceptor::bind("127.0.0.1:0").await.unwrap().serve(page);
    let address = acceptor.address();
    let _server = serve(desk().reporter(recorder.clone()).acceptor(acceptor)).await;

    let answer = http(address, "GET /health?verbose HTTP/1.1\r\nHost: game\r\n\r\n").await;
    assert_eq!(status(&answer), 200);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"ok\":1}");
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/json") && head.contains("content-length: 8"), "{head}");

    let head_only = http(address, "HEAD /health HTTP/1.1\r\nHost: game\r\n\r\n").await;
    assert_eq!(status(&head_only), 200);
    assert!(head_only.ends_with("\r\n\r\n") && head_only.to_lowercase().contains("content-length: 8"), "{head_only}");

    assert_eq!(status(&http(address, "GET /other HTTP/1.1\r\nHost: game\r\n\r\n").await), 404);
    assert_eq!(recorder.value("acceptor.establish_errors"), 0, "a page that was served is no error");
    assert_eq!(status(&http(address, "POST /health HTTP/1.1\r\nHost: game\r\n\r\n").await), 405);
    assert_eq!(status(&http(address, "GET /health HTTP/1.0\r\n\r\n").await), 505);
    eventually("what was not served is counted", || recorder.value("acceptor.establish_errors") == 2).await;

    // And the same port still speaks WebSocket, whatever the pages are.
    let client = connect(&format!("ws://{address}/health")).await;
    assert_eq!(client.request_bytes("desk.echo", "x").await.unwrap(), "x");
}

#[tokio::test]
async fn without_pages_plain_http_is_told_to_upgrade() {
    let server = serve(desk()).await;
    assert_eq!(status(&http(server.ws, "GET / HTTP/1.1\r\nHost: game\r\n\r\n").await), 426);
}

#[tokio::test]
async fn an_upgrade_that_is_wrong_is_refused() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let cases = [
        "GET / HTTP/1.1\r\nHost: game\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: game\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: game\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ];
    for (count, case) in (1..).zip(cases) {
        assert_eq!(status(&http(server.ws, case).await), 400, "{case}");
        eventually("it is counted", || recorder.value("acceptor.establish_errors") == count).await;
    }
}

/// Neither what is no HTTP nor a head without end costs more than its connection.
#[tokio::test]
async fn what_is_no_http_request_is_closed() {
    let recorder = Recorder::default();
    let server = serve(desk().reporter(recorder.clone())).await;
    let endless = format!("GET / HTTP/1.1\r\nHost: game\r\nX: {}", "x".repeat(64 * 1024));
    for (count, bytes) in (1..).zip([b"\x01\x00\x00\x02{}\r\n\r\n", endless.as_bytes()]) {
        let mut stream = TcpStream::connect(server.ws).await.unwrap();
        // The server may close before it has all of it.
        drop(stream.write_all(bytes).await);
        assert_closed(&mut stream).await;
        eventually("it is counted", || recorder.value("acceptor.establish_errors") == count).await;
    }
    assert_eq!(server.ws_client().await.request_bytes("desk.echo", "x").await.unwrap(), "x");
    let closed: i64 =
        CloseReason::ALL.iter().map(|reason| recorder.value(&format!("session.closed{{{}}}", reason.as_str()))).sum();
    assert_eq!(closed, 0, "none of them had a session");
}
