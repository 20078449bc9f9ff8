//! What the tests share: a server on free ports, a client that writes raw bytes, a reporter that remembers.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::IntoFuture as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use pitaya::{
    Acceptor, App, BuildError, Bytes, Reporter, ServeError, Server, ServerBuilder, TcpAcceptor, WsAcceptor,
    acceptor::{Established, Framing, Incoming, Link},
    handlers,
    reporter::{Counter, Desc, Gauge, Histogram},
};
use pitaya_client::{Client, HandshakeData, RequestError, ServerError};
use pitaya_protocol::{Dictionary, Message, Packet, PacketCodec as _, PacketKind, PomeloCodec};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// The longest that anything in a test may take; never waited for when the test passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A handler for tests that only need any.
pub(crate) struct Desk;

#[handlers(name = "desk")]
impl Desk {
    #[request]
    async fn echo(&self, body: Bytes) -> Bytes {
        body
    }
}

/// The description of a server with the route `desk.echo`.
pub(crate) fn desk() -> ServerBuilder {
    Server::frontend("game").handlers(Desk)
}

/// A server that runs until it is dropped or stopped.
pub(crate) struct Running {
    pub(crate) app: App,
    pub(crate) tcp: SocketAddr,
    pub(crate) ws: SocketAddr,
    pub(crate) pipes: Pipes,
    stop: Option<oneshot::Sender<()>>,
    hurry: Option<oneshot::Sender<()>>,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

/// Runs a server on two free ports, TCP and WebSocket, and on pipes.
pub(crate) async fn serve(builder: ServerBuilder) -> Running {
    try_serve(builder).await.unwrap()
}

pub(crate) async fn try_serve(builder: ServerBuilder) -> Result<Running, BuildError> {
    let tcp = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    let ws = WsAcceptor::bind("127.0.0.1:0").await.unwrap();
    let (tcp_address, ws_address) = (tcp.address(), ws.address());
    let (pipes, pipe_acceptor) = Pipes::new();
    let server = builder.acceptor(tcp).acceptor(ws).acceptor(pipe_acceptor).build()?;
    let app = server.app();
    let (stop, stopped) = oneshot::channel::<()>();
    let (hurry, hurried) = oneshot::channel::<()>();
    let serve = server.serve().with_graceful_shutdown(async { drop(stopped.await) }).with_hurry(async {
        if hurried.await.is_err() {
            std::future::pending().await
        }
    });
    let serving = tokio::task::spawn(serve.into_future());
    Ok(Running { app, tcp: tcp_address, ws: ws_address, pipes, stop: Some(stop), hurry: Some(hurry), serving })
}

impl Running {
    /// Stops the server and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Result<(), ServeError> {
        self.begin_stop();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the server stops").unwrap()
    }

    /// Tells the server to stop, and does not wait.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Tells the server to hurry, as a second signal does.
    pub(crate) fn hurry(&mut self) {
        self.hurry.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        connect(&format!("tcp://{}", self.tcp)).await
    }

    pub(crate) async fn ws_client(&self) -> Client {
        connect(&format!("ws://{}", self.ws)).await
    }

    pub(crate) async fn raw(&self) -> Raw {
        Raw::connect(self.tcp).await
    }
}

/// Connects clients in the memory of this process: with a paused clock their time is exact.
#[derive(Clone)]
pub(crate) struct Pipes(mpsc::Sender<Incoming>);

/// The server's end of [`Pipes`].
pub(crate) struct PipeAcceptor(mpsc::Receiver<Incoming>);

impl Acceptor for PipeAcceptor {
    async fn accept(&mut self) -> Incoming {
        match self.0.recv().await {
            Some(incoming) => incoming,
            None => std::future::pending().await,
        }
    }
}

impl Pipes {
    /// How many bytes a pipe holds in each direction.
    pub(crate) const CAPACITY: usize = 64 * 1024;

    pub(crate) fn new() -> (Self, PipeAcceptor) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), PipeAcceptor(receiver))
    }

    /// Lets anything arrive that an acceptor may hand over.
    pub(crate) async fn arrive(&self, incoming: Incoming) {
        self.0.send(incoming).await.unwrap_or_else(|_| panic!("the acceptor is gone"));
    }

    /// Whether nobody accepts clients any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub(crate) async fn raw(&self) -> Raw<DuplexStream> {
        self.raw_with(Self::CAPACITY).await
    }

    /// A client whose pipe holds so many bytes in each direction.
    pub(crate) async fn raw_with(&self, capacity: usize) -> Raw<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(capacity);
        self.arrive(Incoming::ready(None, theirs)).await;
        Raw::over(ours)
    }

    /// A client that has done the handshake and the Ack.
    pub(crate) async fn established(&self) -> Raw<DuplexStream> {
        let mut raw = self.raw().await;
        raw.shake_hands().await;
        raw
    }

    /// The client's end of a connection that is upgraded to WebSocket already.
    pub(crate) async fn websocket(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(Self::CAPACITY);
        let link = Link::new(Box::new(theirs), Framing::WebSocket);
        self.arrive(Incoming::new(None, async { Ok(Established::Link(link)) })).await;
        ours
    }
}

/// The client of this workspace, with all the time that a test has.
pub(crate) async fn connect(address: &str) -> Client {
    Client::builder(address).connect_timeout(PATIENCE).request_timeout(PATIENCE).connect().await.unwrap()
}

/// The error that the server answered a request with.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, RequestError>) -> ServerError {
    match answer {
        Err(RequestError::Server(error)) => error,
        other => panic!("the server did not answer with an error: {other:?}"),
    }
}

/// What happened, in order. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<String>>>);

impl Events {
    pub(crate) fn add(&self, event: impl Into<String>) {
        self.0.lock().unwrap().push(event.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, event: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|other| *other == event).count()
    }
}

/// A file with settings, deleted when it is dropped; a server has read it when it is built.
pub(crate) struct ConfigFile(PathBuf);

impl ConfigFile {
    /// `extension` says what the text is written in.
    pub(crate) fn new(extension: &str, text: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{}-{}.{extension}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub(crate) fn toml(text: &str) -> Self {
        Self::new("toml", text)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

thread_local! {
    /// Where this thread's log lines go.
    static LOGGED: RefCell<Option<Events>> = const { RefCell::new(None) };
}

/// What the thread of a test logs, from now until the guard is dropped: one line per event. For tests on one thread.
///
/// One subscriber serves all tests: those that come and go with their tests make others lose lines.
pub(crate) fn logs() -> (Events, LogGuard) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_target(false);
        tracing::subscriber::set_global_default(subscriber.with_writer(|| LogLine).finish()).unwrap();
    });
    let events = Events::default();
    LOGGED.set(Some(events.clone()));
    (events, LogGuard)
}

pub(crate) struct LogGuard;

impl Drop for LogGuard {
    fn drop(&mut self) {
        LOGGED.set(None);
    }
}

struct LogLine;

impl std::io::Write for LogLine {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow(|events| {
            if let Some(events) = events {
                events.add(String::from_utf8_lossy(line).trim());
            }
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A client that writes whatever bytes a test wants.
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
    received: BytesMut,
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Does the handshake and the Ack; returns when the response is there.
    pub(crate) async fn established(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.shake_hands().await;
        raw
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, received: BytesMut::new() }
    }

    pub(crate) async fn shake_hands(&mut self) {
        self.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
        let response = self.packet().await.expect("a handshake response");
        assert_eq!(response.kind, PacketKind::Handshake);
        self.send_packet(PacketKind::HandshakeAck, b"").await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send_packet(&mut self, kind: PacketKind, body: &[u8]) {
        self.send(&encode_packet(kind, body)).await;
    }

    pub(crate) async fn send_message(&mut self, message: &Message) {
        self.send(&encode_message(message)).await;
    }

    /// The next packet; `None` when the server has closed.
    pub(crate) async fn packet(&mut self) -> Option<Packet> {
        let reading = async {
            loop {
                let packet = PomeloCodec.decode(&mut self.received, pitaya_protocol::MAX_BODY_LEN).unwrap();
                if packet.is_some() {
                    return packet;
                }
                // A server that closes with unread bytes in its buffer resets the connection.
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a packet or the end in time")
    }

    /// The next packet that is no heartbeat.
    pub(crate) async fn packet_but_heartbeat(&mut self) -> Option<Packet> {
        loop {
            let packet = self.packet().await?;
            if packet.kind != PacketKind::Heartbeat {
                return Some(packet);
            }
        }
    }

    /// The next message; `None` when the server has closed.
    pub(crate) async fn message(&mut self) -> Option<Message> {
        let packet = self.packet_but_heartbeat().await?;
        assert_eq!(packet.kind, PacketKind::Data);
        Some(Message::decode(packet.body, &Dictionary::default(), 1 << 24).unwrap())
    }
}

pub(crate) fn encode_packet(kind: PacketKind, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    PomeloCodec.encode(kind, &[body], &mut bytes).unwrap();
    bytes
}

/// A message as a client without dictionary and compression sends it, in its packet.
pub(crate) fn encode_message(message: &Message) -> BytesMut {
    let body = message.encode(&pitaya_protocol::EncodeOptions::default()).unwrap();
    encode_packet(PacketKind::Data, &body)
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Waits with the upper bound of all tests.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}"))
}

/// A reporter that remembers. Clones share what they remember.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<BTreeMap<String, Arc<Value>>>>);

#[derive(Default)]
pub(crate) struct Value {
    now: AtomicI64,
    lowest: AtomicI64,
}

impl Recorder {
    /// The value of a counter or gauge, or how many values a histogram has. The name is `subsystem.name{label,label}`, the
    /// braces without labels left out.
    pub(crate) fn value(&self, name: &str) -> i64 {
        self.0.lock().unwrap().get(name).map_or(0, |value| value.now.load(Ordering::SeqCst))
    }

    /// The lowest value that a gauge has ever had, from 0 on.
    pub(crate) fn lowest(&self, name: &str) -> i64 {
        self.0.lock().unwrap().get(name).map_or(0, |value| value.lowest.load(Ordering::SeqCst))
    }

    /// The names of all instruments that were asked for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    fn get(&self, desc: &Desc, labels: &[&str]) -> Arc<Value> {
        assert_eq!(desc.labels.len(), labels.len(), "{desc:?}");
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let name = format!("{}.{}{labels}", desc.subsystem, desc.name);
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }
}

impl Counter for Value {
    fn add(&self, amount: u64) {
        self.now.fetch_add(amount as i64, Ordering::SeqCst);
    }
}

impl Gauge for Value {
    fn add(&self, amount: i64) {
        let now = self.now.fetch_add(amount, Ordering::SeqCst) + amount;
        self.lowest.fetch_min(now, Ordering::SeqCst);
    }

    fn set(&self, value: i64) {
        self.now.store(value, Ordering::SeqCst);
        self.lowest.fetch_min(value, Ordering::SeqCst);
    }
}

impl Histogram for Value {
    fn record(&self, _value: f64) {
        self.now.fetch_add(1, Ordering::SeqCst);
    }
}

impl Reporter for Recorder {
    fn counter(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Counter> {
        self.get(desc, labels)
    }

    fn gauge(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Gauge> {
        self.get(desc, labels)
    }

    fn histogram(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Histogram> {
        self.get(desc, labels)
    }
}
