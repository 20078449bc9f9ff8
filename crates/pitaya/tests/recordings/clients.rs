//! The clients of a recording, connected to our frontends.

use std::collections::BTreeMap;

use bytes::BytesMut;
use pitaya::{HandshakeData, PacketCodec as _, PomeloCodec};
use pitaya_protocol::{MAX_BODY_LEN, Packet, PacketKind};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp},
    task::JoinHandle,
};

use crate::{
    recording::{Recording, What},
    replay::{PATIENCE, eventually},
    servers::Node,
    tap::{Log, Seen},
};

/// A client that was there before the recording began.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) conn: String,
    pub(crate) server: String,
    pub(crate) uid: Option<String>,
    /// The id of its session, if the recording shows it.
    id: Option<i64>,
    data: Option<Map<String, Value>>,
}

impl Entry {
    /// One of which no recorded message tells anything.
    pub(crate) fn new(conn: &str, server: &str, uid: &str) -> Self {
        Self { conn: conn.into(), server: server.into(), uid: Some(uid.into()), id: None, data: None }
    }
}

/// Who was there before: those that are said to be, and those that do no handshake. What the recording says of their
/// sessions is in the first message that their frontend forwards.
pub(crate) fn entries(recording: &Recording, known: &[(&'static str, &'static str, &'static str)]) -> Vec<Entry> {
    let mut entries = BTreeMap::<String, Entry>::new();
    let mut order = Vec::new();
    let mut add = |conn: &str, server: &str, uid: Option<&str>| {
        let uid = uid.map(str::to_owned);
        let (id, data, shown) = shown(recording, conn, uid.as_deref());
        let entry = Entry { conn: conn.into(), server: server.into(), uid: uid.or(shown), id, data };
        if entries.insert(conn.into(), entry).is_none() {
            order.push(conn.to_owned());
        }
    };
    for (conn, server, uid) in known {
        add(conn, server, Some(uid).filter(|uid| !uid.is_empty()).copied());
    }
    let mut seen: Vec<_> = known.iter().map(|(conn, ..)| *conn).collect();
    for event in &recording.events {
        let (conn, server, new) = match &event.what {
            What::Packet { conn, server, decoded, .. } => (conn, server, decoded["packet"] == "handshake"),
            What::Closed { conn, server, .. } => (conn, server, false),
            _ => continue,
        };
        if seen.contains(&conn.as_str()) {
            continue;
        }
        seen.push(conn);
        if !new {
            add(conn, server, None);
        }
    }
    let mut entries: Vec<_> = order.iter().map(|conn| entries[conn].clone()).collect();
    // Ids of sessions only grow.
    entries.sort_by_key(|entry| (entry.server.clone(), entry.id.unwrap_or(i64::MAX)));
    entries
}

/// What forwarded messages show of the session of a client: its id; and its values and user, if they were there before.
fn shown(
    recording: &Recording,
    conn: &str,
    uid: Option<&str>,
) -> (Option<i64>, Option<Map<String, Value>>, Option<String>) {
    let mut first = true;
    let mut asked = None;
    for event in &recording.events {
        match &event.what {
            What::Packet { conn: other, server, by_client: true, decoded, .. } if other == conn => {
                let forwarded = decoded["route"].as_str().is_some_and(|route| {
                    route.split('.').count() == 3 && !route.starts_with("connector.") && !route.starts_with("absent.")
                });
                if forwarded && asked.is_none() {
                    asked = Some((server.clone(), decoded["route"].clone(), decoded["id"].clone(), first));
                }
                first = false;
            }
            What::Publish(publish) => {
                let Some((server, route, id, first)) = &asked else { continue };
                let (msg, session) = (&publish.decoded["msg"], &publish.decoded["session"]);
                if publish.from != *server || msg["route"] != *route || msg["id"] != *id || session.is_null() {
                    continue;
                }
                let shown = session["uid"].as_str().map(str::to_owned);
                let before = *first || shown.as_deref() == uid && uid.is_some();
                let data = session["data"]["json"].as_object().cloned().filter(|_| before);
                return (session["id"].as_i64(), data, shown.filter(|_| before));
            }
            _ => {}
        }
    }
    (None, None, None)
}

/// The packet that these bytes are.
pub(crate) fn packet(bytes: &[u8]) -> Packet {
    PomeloCodec.decode(&mut BytesMut::from(bytes), MAX_BODY_LEN).unwrap().unwrap()
}

/// A client; what it receives goes into the log.
pub(crate) struct Client {
    writer: tcp::OwnedWriteHalf,
    reading: JoinHandle<()>,
}

impl Client {
    /// Connects, and does nothing.
    pub(crate) async fn connect(conn: &str, node: &Node, log: &Log) -> Self {
        let stream = TcpStream::connect(node.tcp.unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (reader, writer) = stream.into_split();
        let reading = tokio::spawn(read(reader, conn.to_owned(), log.clone()));
        Self { writer, reading }
    }

    /// Connects until the session has the id of the recorded one, and gives it the user and the values of that.
    pub(crate) async fn enter(entry: &Entry, node: &Node, log: &Log) -> Self {
        loop {
            let before: Vec<_> = node.app.sessions().iter().map(pitaya::Session::id).collect();
            let mut client = Self::connect(&entry.conn, node, log).await;
            client.shake_hands(&entry.conn, log).await;
            let session = node.app.sessions().into_iter().find(|session| !before.contains(&session.id())).unwrap();
            match entry.id {
                Some(id) if session.id().get() < id => {
                    client.close().await;
                    eventually("a client that was too early has gone", || session.is_closed()).await;
                    let gone = |seen: &Seen| matches!(seen, Seen::Closed { conn } if *conn == entry.conn);
                    log.take(PATIENCE, gone).await.expect("its connection ends");
                    continue;
                }
                Some(id) => assert_eq!(session.id().get(), id, "the session of {}", entry.conn),
                None => {}
            }
            if let Some(uid) = &entry.uid {
                session.bind(uid.as_str()).await.unwrap();
            }
            if let Some(data) = &entry.data {
                session.set_data(data.clone());
            }
            return client;
        }
    }

    async fn shake_hands(&mut self, conn: &str, log: &Log) {
        self.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
        let answered = |seen: &Seen| matches!(seen, Seen::Packet { conn: other, packet } if other == conn && packet.kind == PacketKind::Handshake);
        log.take(PATIENCE, answered).await.expect("a handshake is answered");
        self.send_packet(PacketKind::HandshakeAck, b"").await;
    }

    async fn send_packet(&mut self, kind: PacketKind, body: &[u8]) {
        let mut bytes = BytesMut::new();
        PomeloCodec.encode(kind, &[body], &mut bytes).unwrap();
        self.send(&bytes).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn close(&mut self) {
        self.writer.shutdown().await.unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(mut reader: tcp::OwnedReadHalf, conn: String, log: Log) {
    let mut received = BytesMut::new();
    loop {
        while let Some(packet) = PomeloCodec.decode(&mut received, MAX_BODY_LEN).unwrap() {
            log.add(Seen::Packet { conn: conn.clone(), packet });
        }
        // A server that closes with unread bytes in its buffer resets the connection.
        if reader.read_buf(&mut received).await.is_ok_and(|read| read > 0) {
            continue;
        }
        return log.add(Seen::Closed { conn });
    }
}
