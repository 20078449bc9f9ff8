//! A proxy in front of a NATS server that writes down what one connection says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use pitaya_protocol::Packet;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// What our servers said, and clients received.
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    Connected { from: String, connection: u64, options: String },
    Subscribed { from: String, subject: String, id: String },
    Unsubscribed { from: String, id: String },
    Published { from: String, connection: u64, subject: String, reply: String, headers: bool, payload: Bytes },
    Disconnected { from: String, connection: u64 },
    Packet { conn: String, packet: Packet },
    Closed { conn: String },
}

/// All that was seen, in order. What is taken is gone. Clones share it.
#[derive(Clone)]
pub(crate) struct Log(Arc<Inner>);

struct Inner {
    seen: Mutex<Vec<Option<Seen>>>,
    changed: watch::Sender<()>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { seen: Mutex::default(), changed: watch::Sender::new(()) }))
    }

    pub(crate) fn add(&self, seen: Seen) {
        self.0.seen.lock().unwrap().push(Some(seen));
        self.0.changed.send_replace(());
    }

    /// Takes the first that fits, and waits for it.
    pub(crate) async fn take(&self, within: Duration, fits: impl Fn(&Seen) -> bool) -> Option<Seen> {
        let mut changed = self.0.changed.subscribe();
        let deadline = Instant::now() + within;
        loop {
            changed.borrow_and_update();
            let found =
                self.0.seen.lock().unwrap().iter_mut().find(|seen| seen.as_ref().is_some_and(&fits)).map(Option::take);
            if let Some(found) = found {
                return found;
            }
            timeout_at(deadline, changed.changed()).await.ok()?.ok()?;
        }
    }

    /// What has not been taken.
    pub(crate) fn rest(&self) -> Vec<Seen> {
        self.0.seen.lock().unwrap().iter().flatten().cloned().collect()
    }

    /// Forgets what clients received and servers published so far. Subscriptions stay.
    pub(crate) fn forget_messages(&self) {
        for seen in self.0.seen.lock().unwrap().iter_mut() {
            if matches!(seen, Some(Seen::Published { .. } | Seen::Packet { .. } | Seen::Closed { .. })) {
                *seen = None;
            }
        }
    }

    /// The subjects that a server is subscribed to, apart from inboxes.
    pub(crate) fn subscriptions(&self, server: &str) -> Vec<String> {
        let mut active = Vec::<(String, String)>::new();
        for seen in self.0.seen.lock().unwrap().iter().flatten() {
            match seen {
                Seen::Subscribed { from, subject, id } if from == server => active.push((id.clone(), subject.clone())),
                Seen::Unsubscribed { from, id } if from == server => active.retain(|(other, _)| other != id),
                _ => {}
            }
        }
        let mut subjects: Vec<_> = active.into_iter().map(|(_, subject)| subject).collect();
        subjects.retain(|subject| subject.starts_with("pitaya/"));
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// Waits until a condition holds, looked at whenever something is seen.
    pub(crate) async fn wait_for(&self, within: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let mut changed = self.0.changed.subscribe();
        let deadline = Instant::now() + within;
        loop {
            changed.borrow_and_update();
            if condition(self) {
                return true;
            }
            if !matches!(timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                return false;
            }
        }
    }
}

/// Listens for the connections of one server for one purpose.
pub(crate) struct Tap {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn new(nats: String, from: &str, connection: u64, log: &Log) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (from, log) = (from.to_owned(), log.clone());
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (nats, from, log) = (nats.clone(), from.clone(), log.clone());
                open.spawn(async move {
                    drop(pass(client, nats, &from, connection, &log).await);
                    log.add(Seen::Disconnected { from, connection });
                });
            }
        });
        Self { address, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, nats: String, from: &str, connection: u64, log: &Log) -> std::io::Result<()> {
    let server = TcpStream::connect(nats).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let saying = async {
        let mut unread = BytesMut::new();
        loop {
            let start = unread.len();
            if from_client.read_buf(&mut unread).await? == 0 {
                return to_server.shutdown().await;
            }
            let new = Bytes::copy_from_slice(&unread[start..]);
            // Written down before anybody can act on it.
            while let Some(seen) = command(&mut unread, from, connection) {
                seen.into_iter().for_each(|seen| log.add(seen));
            }
            to_server.write_all(&new).await?;
        }
    };
    let hearing = async {
        copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(saying, hearing).map(drop)
}

/// Cuts one command of NATS's client protocol off; `None` if it is not complete.
fn command(unread: &mut BytesMut, from: &str, connection: u64) -> Option<Option<Seen>> {
    let end = unread.windows(2).position(|two| two == b"\r\n")?;
    let line = String::from_utf8_lossy(&unread[..end]).into_owned();
    let words: Vec<_> = line.split_whitespace().collect();
    let from = from.to_owned();
    let verb = words.first().copied().unwrap_or_default().to_ascii_uppercase();
    let (seen, len) = match (verb.as_str(), &words[1.min(words.len())..]) {
        ("CONNECT", _) => (Some(Seen::Connected { from, connection, options: line[8..].to_owned() }), 0),
        ("SUB", [subject, .., id]) => {
            // Ids are of one connection.
            let id = format!("{connection}-{id}");
            (Some(Seen::Subscribed { from, subject: (*subject).to_owned(), id }), 0)
        }
        ("UNSUB", [id, ..]) => (Some(Seen::Unsubscribed { from, id: format!("{connection}-{id}") }), 0),
        ("PUB" | "HPUB", [subject, rest @ .., len]) => {
            let len: usize = len.parse().unwrap();
            let (reply, head) = match (verb.as_str(), rest) {
                ("PUB", [reply]) => (*reply, 0),
                ("HPUB", [head]) => ("", head.parse().unwrap()),
                ("HPUB", [reply, head]) => (*reply, head.parse().unwrap()),
                _ => ("", 0),
            };
            let payload = Bytes::copy_from_slice(unread.get(end + 2 + head..end + 2 + len)?);
            let (subject, reply, headers) = ((*subject).to_owned(), reply.to_owned(), head > 0);
            (Some(Seen::Published { from, connection, subject, reply, headers, payload }), len + 2)
        }
        _ => (None, 0),
    };
    if unread.len() < end + 2 + len {
        return None;
    }
    drop(unread.split_to(end + 2 + len));
    Some(seen)
}
