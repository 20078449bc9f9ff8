//! Every part of a server replaced by one of the user's, with nothing but what `pitaya` exports: acceptor, packet codec,
//! serializer, group store, reporter, module.

use std::{
    future::IntoFuture as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, BytesMut};
use pitaya::{
    Acceptor, App, BoxFuture, Bytes, Error, FromRequest, GroupError, GroupName, GroupStore, IntoPayload, IntoReply,
    Lifecycle, MemoryGroups, Needs, Packet, PacketCodec, PacketError, PacketKind, Reply, Reporter, Request, Result,
    Serializer, Server, Session, Uid,
    acceptor::Incoming,
    extract::{State, TakesPayload},
    handlers,
    reporter::{Counter, Desc, Gauge, Histogram},
};
use pitaya_protocol::{Dictionary, EncodeOptions, HandshakeData, HandshakeResponse, Message};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use crate::support::{PATIENCE, soon};

/// Clients come through a socket of the file system.
struct UnixAcceptor(UnixListener);

impl Acceptor for UnixAcceptor {
    async fn accept(&mut self) -> Incoming {
        loop {
            if let Ok((stream, _)) = self.0.accept().await {
                return Incoming::ready(None, stream);
            }
        }
    }
}

/// A packet is its length in little endian, its kind, its body turned around.
#[derive(Debug)]
struct Mirrored;

impl PacketCodec for Mirrored {
    fn decode(&self, src: &mut BytesMut, max_body: usize) -> Result<Option<Packet>, PacketError> {
        let Some(&[a, b, c, d, kind]) = src.first_chunk() else { return Ok(None) };
        let (len, kind) = (u32::from_le_bytes([a, b, c, d]) as usize, PacketKind::try_from(kind)?);
        if len > max_body {
            return Err(PacketError::TooLarge { len, limit: max_body });
        }
        if src.len() < 5 + len {
            return Ok(None);
        }
        src.advance(5);
        let mut body = src.split_to(len);
        body.reverse();
        Ok(Some(Packet { kind, body: body.freeze() }))
    }

    fn encoded_len(&self, body_len: usize) -> usize {
        5 + body_len
    }

    fn encode(&self, kind: PacketKind, body: &[&[u8]], dst: &mut BytesMut) -> Result<(), PacketError> {
        let body = body.concat();
        dst.put_u32_le(body.len() as u32);
        dst.put_u8(kind as u8);
        dst.extend(body.iter().rev());
        Ok(())
    }
}

/// Payloads are words with blanks in between.
struct Words(Vec<String>);

const WORDS: &str = "words";

struct WordSerializer;

impl Serializer for WordSerializer {
    fn name(&self) -> &'static str {
        WORDS
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        format!("error {} {}", error.code(), error.message()).into()
    }
}

impl<C: Send + Sync> FromRequest<C> for Words {
    type Takes = TakesPayload;

    fn needs(needs: &mut Needs) {
        needs.format(WORDS);
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let text = std::str::from_utf8(&request.body).map_err(|_| Error::bad_request("no words"))?;
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }
}

impl IntoPayload for Words {
    const FORMAT: Option<&'static str> = Some(WORDS);

    fn into_payload(self) -> Result<Bytes> {
        Ok(self.0.join(" ").into())
    }
}

impl IntoReply for Words {
    fn needs(needs: &mut Needs) {
        needs.format(WORDS);
    }

    fn into_reply(self) -> Reply {
        self.into_payload()
    }
}

/// Keeps groups in memory, but none of secret names, and counts what is asked.
#[derive(Default)]
struct FencedGroups {
    inner: MemoryGroups,
    calls: Mutex<Vec<&'static str>>,
}

impl FencedGroups {
    fn called(&self, call: &'static str) -> &MemoryGroups {
        self.calls.lock().unwrap().push(call);
        &self.inner
    }
}

/// What handlers and the server share of it.
#[derive(Clone)]
struct Fence(Arc<FencedGroups>);

impl GroupStore for Fence {
    fn create<'a>(&'a self, group: &'a GroupName, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), GroupError>> {
        if group.as_str().starts_with("secret") {
            return Box::pin(async { Err(GroupError::Store(Error::new("FENCE-1", "no secrets here"))) });
        }
        self.0.called("create").create(group, ttl)
    }
    fn renew_ttl<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.called("renew_ttl").renew_ttl(group)
    }
    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.called("delete").delete(group)
    }
    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.called("add").add(group, uid)
    }
    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.called("remove").remove(group, uid)
    }
    fn remove_all<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.called("remove_all").remove_all(group)
    }
    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>> {
        self.0.called("members").members(group)
    }
    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>> {
        self.0.called("contains").contains(group, uid)
    }
    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>> {
        self.0.called("len").len(group)
    }
    fn groups_of<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Vec<GroupName>, GroupError>> {
        self.0.called("groups_of").groups_of(uid)
    }
}

/// Writes each count down as a line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(Lines, String);

impl Lines {
    fn line(&self, desc: &Desc, labels: &[&str]) -> Arc<Line> {
        Arc::new(Line(self.clone(), format!("{}_{} {labels:?}", desc.subsystem, desc.name)))
    }

    fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

impl Line {
    fn write(&self, what: &str) {
        self.0.0.lock().unwrap().push(format!("{} {what}", self.1));
    }
}

impl Counter for Line {
    fn add(&self, amount: u64) {
        self.write(&format!("+{amount}"));
    }
}

impl Gauge for Line {
    fn add(&self, amount: i64) {
        self.write(&format!("{amount:+}"));
    }
    fn set(&self, value: i64) {
        self.write(&format!("={value}"));
    }
}

impl Histogram for Line {
    fn record(&self, _value: f64) {
        self.write("recorded");
    }
}

impl Reporter for Lines {
    fn counter(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Counter> {
        self.line(desc, labels)
    }
    fn gauge(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Gauge> {
        self.line(desc, labels)
    }
    fn histogram(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Histogram> {
        self.line(desc, labels)
    }
}

/// A module: what it is told at start, handlers find.
#[derive(Default)]
struct Book(Mutex<Vec<&'static str>>);

impl Lifecycle for Book {
    async fn init(&self, _app: &App) -> Result<()> {
        self.0.lock().unwrap().push("opened");
        Ok(())
    }
    async fn shutdown(&self, _app: &App) -> Result<()> {
        self.0.lock().unwrap().push("closed");
        Ok(())
    }
}

struct Desk;

#[handlers(name = "desk")]
impl Desk {
    /// Joins the group, pushes to it, and answers with what the book says.
    #[request]
    async fn join(&self, app: App, session: Session, book: State<Book>, Words(words): Words) -> Result<Words> {
        session.bind("ada").await?;
        let group = app.group(words.join("-"));
        group.create().await?;
        group.join(&session).await?;
        group.broadcast("game", "joined", Words(words)).await?.all()?;
        let said = book.0.0.lock().unwrap().iter().map(ToString::to_string).collect();
        Ok(Words(said))
    }
}

/// A client that speaks all this.
struct Client {
    stream: UnixStream,
    received: BytesMut,
}

impl Client {
    async fn send(&mut self, kind: PacketKind, body: &[u8]) {
        let mut bytes = BytesMut::new();
        Mirrored.encode(kind, &[body], &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn packet(&mut self) -> Packet {
        loop {
            if let Some(packet) = Mirrored.decode(&mut self.received, 1 << 20).unwrap() {
                return packet;
            }
            let reading = self.stream.read_buf(&mut self.received);
            assert!(soon("a packet", reading).await.unwrap() > 0, "the server has closed");
        }
    }

    async fn message(&mut self) -> (String, bool) {
        let packet = self.packet().await;
        let message = Message::decode(packet.body, &Dictionary::default(), 1 << 20).unwrap();
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        (format!("{}{}: {body}", message.route, message.id), message.error)
    }

    async fn request(&mut self, id: u64, body: &'static str) {
        let message = Message::request(id, "desk.join", body).encode(&EncodeOptions::default()).unwrap();
        self.send(PacketKind::Data, &message).await;
    }
}

#[tokio::test]
async fn each_part_can_be_one_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("game");
    let (groups, lines, book) = (Fence(Arc::new(FencedGroups::default())), Lines::default(), Arc::new(Book::default()));
    let server = Server::frontend("game")
        .acceptor(UnixAcceptor(UnixListener::bind(&socket).unwrap()))
        .packet_codec(Mirrored)
        .serializer(WordSerializer)
        .groups(groups.clone())
        .reporter(lines.clone())
        .shared_module("book", Arc::clone(&book))
        .handlers(Desk)
        .build()
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serve = server.serve().with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::task::spawn(serve.into_future());

    let mut client = Client { stream: UnixStream::connect(&socket).await.unwrap(), received: BytesMut::new() };
    client.send(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    let handshake = HandshakeResponse::parse(&client.packet().await.body, 1 << 20).unwrap();
    assert_eq!(handshake.serializer, WORDS);
    client.send(PacketKind::HandshakeAck, b"").await;

    client.request(1, "the  red room").await;
    assert_eq!(client.message().await, ("joined0: the red room".into(), false));
    assert_eq!(client.message().await, ("1: opened".into(), false));
    assert!(groups.0.calls.lock().unwrap().contains(&"members"));
    client.request(2, "twice").await;
    let bound = "2: error PIT-000 session is already bound to an uid";
    assert_eq!(client.message().await, (bound.into(), true));

    drop(stop);
    assert_eq!(client.packet().await.kind, PacketKind::Kick);
    drop(client);
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
    assert_eq!(*book.0.lock().unwrap(), ["opened", "closed"]);
    for part in ["acceptor_connected_clients [] +1", "response_time_ns [\"game.desk.join\", \"ok\"", "session_closed"] {
        assert!(lines.has(part), "{part}");
    }
    let secret = groups.create(&"secret-1".try_into().unwrap(), None).await;
    assert!(matches!(secret, Err(GroupError::Store(_))));
}
