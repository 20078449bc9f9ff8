//! A recorded conversation of a Go cluster, as it is in the file.

use std::path::Path;

use serde_json::Value;

/// One file.
pub(crate) struct Recording {
    pub(crate) name: String,
    /// Versions and settings, in words.
    pub(crate) source: String,
    pub(crate) events: Vec<Event>,
}

/// What was seen.
pub(crate) struct Event {
    /// Its place in the file.
    pub(crate) number: usize,
    /// What the recorder did last, in words.
    pub(crate) step: String,
    pub(crate) what: What,
}

pub(crate) enum What {
    Step,
    /// A packet between a client and its frontend.
    Packet {
        conn: String,
        server: String,
        by_client: bool,
        bytes: Vec<u8>,
        decoded: Value,
    },
    /// A side of a client's connection has closed.
    Closed {
        conn: String,
        server: String,
        by_client: bool,
    },
    Publish(Publish),
    Subscription {
        from: String,
        subject: String,
        begins: bool,
    },
    Disconnected {
        from: String,
        connection: u64,
    },
    Connected {
        from: String,
        connection: u64,
        options: Value,
    },
    /// A key of etcd was written, with a lease of so many seconds.
    Written {
        key: String,
        value: Value,
        ttl: u64,
    },
    /// A key of etcd was deleted.
    Deleted {
        key: String,
    },
    /// Nothing that servers say.
    Other,
}

/// A message on NATS.
#[derive(Clone)]
pub(crate) struct Publish {
    pub(crate) from: String,
    pub(crate) connection: u64,
    pub(crate) subject: String,
    pub(crate) reply: String,
    pub(crate) headers: Vec<String>,
    pub(crate) payload: Vec<u8>,
    /// What the payload is: `Request`, `Push` and so on.
    pub(crate) kind: String,
    pub(crate) decoded: Value,
}

impl Recording {
    pub(crate) fn load(name: &str) -> Self {
        // The protocol crate reads the client packets of the same files.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pitaya-protocol/tests/recordings");
        let text = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        let file: Value = serde_json::from_slice(&text).unwrap();
        let mut step = String::from("the beginning");
        let mut events = Vec::new();
        for (number, event) in file["events"].as_array().unwrap().iter().enumerate() {
            if event["at"] == "step" {
                step = text_of(event, "text");
            }
            events.push(Event { number, step: step.clone(), what: what(event) });
        }
        Self { name: name.to_owned(), source: text_of(&file, "source"), events }
    }

    pub(crate) fn is_v3(&self) -> bool {
        self.source.contains("Go Pitaya v3")
    }

    pub(crate) fn publishes(&self) -> impl Iterator<Item = &Publish> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Publish(publish) => Some(publish),
            _ => None,
        })
    }

    /// All servers that say something or are spoken to.
    pub(crate) fn servers(&self) -> Vec<String> {
        let mut servers = std::collections::BTreeSet::new();
        for event in &self.events {
            match &event.what {
                What::Packet { server, .. } | What::Closed { server, .. } => drop(servers.insert(server.clone())),
                What::Publish(publish) => {
                    servers.insert(publish.from.clone());
                    servers.extend(server_of_subject(&publish.subject).map(str::to_owned));
                }
                What::Subscription { from, .. } | What::Disconnected { from, .. } => drop(servers.insert(from.clone())),
                What::Connected { from, .. } => drop(servers.insert(from.clone())),
                What::Written { key, .. } | What::Deleted { key } => {
                    servers.extend(key.rsplit('/').next().map(str::to_owned))
                }
                What::Step | What::Other => {}
            }
        }
        servers.remove("raw");
        servers.into_iter().collect()
    }
}

/// Who is called on a subject.
pub(crate) fn server_of_subject(subject: &str) -> Option<&str> {
    subject.strip_prefix("pitaya/servers/")?.split_once('/').map(|(_, id)| id)
}

/// The type of a server of the recordings, by its id.
pub(crate) fn kind_of(id: &str) -> &'static str {
    match id.as_bytes()[0] {
        b'c' => "connector",
        b'r' => "room",
        b'g' => "game",
        _ => panic!("no server of the recordings: {id}"),
    }
}

fn what(event: &Value) -> What {
    let text = |key| text_of(event, key);
    match event["at"].as_str().unwrap() {
        "step" => What::Step,
        "tcp" => {
            let (conn, server, by_client) = (text("conn"), text("server"), event["dir"] == "c2s");
            if event["op"] == "closed" {
                return What::Closed { conn, server, by_client };
            }
            What::Packet { conn, server, by_client, bytes: bytes(event), decoded: event["decoded"].clone() }
        }
        "nats" => match event["op"].as_str().unwrap() {
            "pub" => What::Publish(Publish {
                from: text("from"),
                connection: event["conn"].as_u64().unwrap(),
                subject: text("subject"),
                reply: text("reply"),
                headers: lines(&event["headers"]["lines"]),
                payload: bytes(event),
                kind: text("message"),
                decoded: event["decoded"].clone(),
            }),
            op @ ("sub" | "unsub") => {
                What::Subscription { from: text("from"), subject: text("subject"), begins: op == "sub" }
            }
            "disconnect" => What::Disconnected { from: text("from"), connection: event["conn"].as_u64().unwrap() },
            "connect" => What::Connected {
                from: text("from"),
                connection: event["conn"].as_u64().unwrap(),
                options: event["options"].clone(),
            },
            _ => What::Other,
        },
        "etcd" if event["op"] == "put" => What::Written {
            key: text("key"),
            value: serde_json::from_str(&text("value")).unwrap(),
            ttl: event["lease_ttl"].as_u64().unwrap(),
        },
        "etcd" if event["op"] == "delete" => What::Deleted { key: text("key") },
        _ => What::Other,
    }
}

fn lines(lines: &Value) -> Vec<String> {
    lines.as_array().into_iter().flatten().filter_map(|line| line.as_str().map(str::to_owned)).collect()
}

fn text_of(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

fn bytes(event: &Value) -> Vec<u8> {
    let digits = event["hex"].as_str().unwrap().as_bytes();
    let digit = |digit: u8| (digit as char).to_digit(16).unwrap() as u8;
    digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
