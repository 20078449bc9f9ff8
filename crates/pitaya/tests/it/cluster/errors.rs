//! The matrix of errors: what goes wrong × here or on another server × compressed or not × serializer × adapter. The client
//! gets code, text and metadata as they were made, and the same wherever its message was handled.

use std::{collections::BTreeMap, io, time::Duration};

use futures_util::future::join_all;
use pitaya::{
    Bytes, Error, Json, JsonSerializer, Parts, Protobuf, ProtobufSerializer, Reply, Request, Result, Server,
    ServerBuilder,
    cluster::{Capacity, protos},
    handlers,
    layers::{Only, RequireBound, Timeout},
    settings,
};
use pitaya_protocol::{Dictionary, Head, Message, MessageKind};
use prost::Message as _;
use tokio::io::DuplexStream;

use super::{
    Node, Number, World,
    adapters::{ghost, with_capacity, with_ghosts},
    in_each_world, number,
};
use crate::support::{Raw, eventually, soon};

struct Faults;

#[handlers(name = "faults")]
impl Faults {
    #[request]
    async fn coded(&self) -> Result<Bytes> {
        Err(Error::new("ROOM-42", "no \"gold\",\n Zoë").with("missing", 3).with("what", "gold & <silver>").with("", ""))
    }

    /// Long enough to be compressed.
    #[request]
    async fn long(&self) -> Result<Bytes> {
        Err(Error::new("ROOM-43", LONG).with("long", LONG))
    }

    #[request]
    async fn plain(&self) -> Result<Bytes> {
        tokio::task::yield_now().await;
        Err("the door is locked".into())
    }

    #[request]
    async fn internal(&self) -> Result<Bytes> {
        Err(Error::internal(io::Error::other("the password is hunter2")))
    }

    #[request]
    async fn panic(&self) -> Bytes {
        panic!("on purpose: hunter2")
    }

    #[request]
    async fn panic_later(&self) -> Bytes {
        tokio::task::yield_now().await;
        panic!("on purpose: hunter2")
    }

    #[request(spawn)]
    async fn panic_elsewhere(&self) -> Bytes {
        panic!("on purpose: hunter2")
    }

    #[request]
    async fn nothing(&self) -> Option<Bytes> {
        None
    }

    #[request]
    async fn late(&self) -> Bytes {
        std::future::pending().await
    }

    #[request]
    async fn never(&self) -> Bytes {
        std::future::pending().await
    }

    #[notify]
    async fn told(&self) {}

    /// A before-function refuses it.
    #[request]
    async fn closed(&self) -> Bytes {
        unreachable!("refused before")
    }

    /// A layer refuses it.
    #[request]
    async fn bound(&self) -> Bytes {
        unreachable!("refused before")
    }

    /// An after-function makes an error of the answer.
    #[request]
    async fn spoiled(&self) -> Bytes {
        Bytes::from("fine")
    }

    /// More than travels between servers.
    #[request]
    async fn huge(&self) -> Bytes {
        Bytes::from(vec![7; 2 << 20])
    }

    #[request]
    async fn fine(&self, body: Bytes) -> Bytes {
        body
    }
}

static LONG: &str = "there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; \
                     there is no gold in this room, and there never was any; ";

struct TypedJson;

#[handlers(name = "typed")]
impl TypedJson {
    #[request]
    async fn twice(&self, Json(number): Json<i64>) -> Json<i64> {
        Json(2 * number)
    }
}

struct TypedProtobuf;

#[handlers(name = "typed")]
impl TypedProtobuf {
    #[request]
    async fn twice(&self, Protobuf(it): Protobuf<Number>) -> Protobuf<Number> {
        number(2 * it.value)
    }
}

/// What goes wrong, and what the client has to get.
struct Kind {
    /// With the type of the server before it, if it is one that both have.
    route: &'static str,
    code: &'static str,
    /// `{kind}` is the type of the server that handles it; a star at the end stands for anything but nothing.
    text: &'static str,
    metadata: &'static [(&'static str, &'static str)],
}

const fn kind(route: &'static str, code: &'static str, text: &'static str) -> Kind {
    Kind { route, code, text, metadata: &[] }
}

const INTERNAL: &str = "internal error, request *";
const REFUSED: &[(&str, &str)] = &[("opens", "at nine")];

/// The same here and on another server.
const EVERYWHERE: &[Kind] = &[
    Kind {
        route: "faults.coded",
        code: "ROOM-42",
        text: "no \"gold\",\n Zoë",
        metadata: &[("", ""), ("missing", "3"), ("what", "gold & <silver>")],
    },
    Kind { route: "faults.long", code: "ROOM-43", text: LONG, metadata: &[("long", LONG)] },
    kind("faults.plain", "PIT-000", "the door is locked"),
    kind("faults.internal", "PIT-500", INTERNAL),
    kind("faults.panic", "PIT-500", INTERNAL),
    kind("faults.panic_later", "PIT-500", INTERNAL),
    kind("faults.panic_elsewhere", "PIT-500", INTERNAL),
    kind("faults.nothing", "PIT-000", "reply must not be null"),
    Kind {
        route: "faults.late",
        code: "PIT-408",
        text: "took longer than 50ms",
        metadata: &[("route", "{kind}.faults.late")],
    },
    kind("faults.told", "PIT-400", "tried to request a notify route"),
    kind("faults.nope", "PIT-404", "pitaya/handler: {kind}.faults.nope not found"),
    kind("typed.twice", "PIT-400", "invalid *"),
    Kind { route: "faults.closed", code: "DOOR-1", text: "closed today", metadata: REFUSED },
    kind("faults.bound", "PIT-401", "*"),
    Kind { route: "faults.spoiled", code: "DOOR-2", text: "the answer was fine", metadata: REFUSED },
];

/// What only a server of a cluster gets to say.
const FORWARDED: &[Kind] = &[
    kind("faults.huge", "PIT-500", "*"),
    Kind {
        route: "faults.never",
        code: "PIT-408",
        text: "rpc client: request timeout",
        metadata: &[
            ("peer.id", "{kind}-1"),
            ("route", "{kind}.faults.never"),
            ("server", "{gate}-1"),
            ("timeout", "5s"),
        ],
    },
];

/// With whole routes.
const ELSEWHERE: &[Kind] = &[
    kind("shop.shop.buy", "PIT-500", "no servers available of this type"),
    kind("full.faults.fine", "PIT-429", "*"),
    Kind {
        route: "gone.faults.fine",
        code: "PIT-000",
        text: "nats: no responders available for request",
        metadata: &[("peer.id", "gone-1"), ("route", "gone.faults.fine"), ("server", "{gate}-1")],
    },
    kind("", "PIT-400", "route field can not be empty"),
    kind("a.b.c.d", "PIT-400", "invalid route"),
];

/// What frontends and backends have in common.
fn faults(builder: ServerBuilder, serializer: &str) -> ServerBuilder {
    let builder = match serializer {
        "json" => builder.serializer(JsonSerializer).handlers(TypedJson),
        _ => builder.serializer(ProtobufSerializer).handlers(TypedProtobuf),
    };
    let refusal = || Error::new("DOOR-1", "closed today").with("opens", "at nine");
    builder
        .handlers(Faults)
        .layer(Only::new(["faults.late"], Timeout::new(Duration::from_millis(50))))
        .layer(Only::new(["faults.bound"], RequireBound::default()))
        .before(move |request: Request| async move {
            if request.parts.route.as_str().ends_with(".closed") { Err(refusal()) } else { Ok(request) }
        })
        .after(|parts: Parts, reply: Reply| async move {
            match reply {
                Ok(body) if parts.route.as_str().ends_with(".spoiled") => {
                    let text = format!("the answer was {}", String::from_utf8_lossy(&body));
                    Err(Error::new("DOOR-2", text).with("opens", "at nine"))
                }
                reply => reply,
            }
        })
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    code: String,
    text: String,
    metadata: BTreeMap<String, String>,
}

impl Told {
    fn read(serializer: &str, body: &[u8]) -> Self {
        if serializer == "protobuf" {
            let error = protos::Error::decode(body).unwrap();
            return Self { code: error.code, text: error.msg, metadata: error.metadata };
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Body {
            code: String,
            msg: String,
            #[serde(default)]
            metadata: BTreeMap<String, String>,
        }
        let error: Body = serde_json::from_slice(body).unwrap();
        Self { code: error.code, text: error.msg, metadata: error.metadata }
    }

    fn check(&self, expected: &Kind, names: [(&str, &str); 2]) {
        let named = |text: &str| names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let text = named(expected.text);
        let equal = match text.strip_suffix('*') {
            Some(start) => self.text.starts_with(start) && self.text.len() > start.len(),
            None => self.text == text,
        };
        let metadata = expected.metadata.iter().map(|(key, value)| ((*key).to_owned(), named(value))).collect();
        assert!(self.code == expected.code && equal && self.metadata == metadata, "{}: {self:?}", expected.route);
        assert!(!self.text.contains("hunter2"), "a secret of the server: {self:?}");
    }

    /// Without what differs by design: the type of the server, and the id of the request.
    fn masked(mut self, kind: &str) -> Self {
        self.text = self.text.replace(kind, "{kind}");
        if let Some(start) = INTERNAL.strip_suffix('*').filter(|start| self.text.starts_with(start)) {
            self.text.truncate(start.len());
        }
        self.metadata.values_mut().for_each(|value| *value = value.replace(kind, "{kind}"));
        self
    }
}

/// One column of the matrix: a client of one frontend.
async fn column(gate: &Node, room: &str, serializer: &str, compressing: bool) {
    let me = gate.app.server().kind.to_string();
    let mut raw = gate.client().await;
    let of = |kind: &str, what: &Kind| format!("{kind}.{}", what.route);
    let local = EVERYWHERE.iter().map(|what| (what, me.as_str(), of(&me, what)));
    let forwarded = EVERYWHERE.iter().chain(FORWARDED).map(|what| (what, room, of(room, what)));
    let elsewhere = ELSEWHERE.iter().map(|what| (what, "", what.route.to_owned()));
    let cells: Vec<_> = local.chain(forwarded).chain(elsewhere).collect();

    // Nobody is told of a notify that fails. What cannot be read is one in both formats.
    let unreadable = b"\x0a\x05{".as_slice();
    for (id, (_, _, route)) in cells.iter().enumerate() {
        raw.send_message(&Message::notify(route.as_str(), unreadable)).await;
        raw.send_message(&Message::request(id as u64 + 1, route.as_str(), unreadable)).await;
    }
    let mut told = vec![None; cells.len()];
    for _ in 0..cells.len() {
        let (message, compressed) = answer(&mut raw).await;
        let (what, kind, _) = &cells[message.id as usize - 1];
        assert!(message.error, "{}: an error is said to be one", what.route);
        assert_eq!(compressed, compressing && what.code == "ROOM-43", "{}", what.route);
        let error = Told::read(serializer, &message.body);
        error.check(what, [("{kind}", kind), ("{gate}", &me)]);
        let before = told[message.id as usize - 1].replace(error.masked(kind));
        assert_eq!(before, None, "{} is answered twice", what.route);
    }
    let [here, there] = [0, EVERYWHERE.len()].map(|from| &told[from..from + EVERYWHERE.len()]);
    assert_eq!(here, there, "an error is the same here and on another server");

    // The connection has taken no harm; an answer is no error.
    for kind in [&me, room] {
        raw.send_message(&Message::request(1_000, format!("{kind}.faults.fine"), "fine")).await;
        let (message, _) = answer(&mut raw).await;
        assert_eq!((message.id, message.error, &message.body[..]), (1_000, false, &b"fine"[..]));
    }
}

/// The next answer, and whether it was compressed.
async fn answer(raw: &mut Raw<DuplexStream>) -> (Message, bool) {
    let packet = soon("an answer", raw.packet_but_heartbeat()).await.expect("the connection stays");
    let compressed = Head::decode(&packet.body).unwrap().compressed;
    let message = Message::decode(packet.body, &Dictionary::default(), 1 << 24).unwrap();
    assert_eq!(message.kind, MessageKind::Response);
    (message, compressed)
}

async fn errors_reach_the_client_as_they_were_made(world: &World) {
    let full = Capacity { running: 0, waiting: 0 };
    let full = world.of_with(with_capacity(world.wiring(), full), Server::backend("full").handlers(Faults));
    let mut nodes = vec![Node::start(full, false).await];
    for serializer in ["json", "protobuf"] {
        let room = world.of(Server::backend(format!("room-{serializer}")).id(format!("room-{serializer}-1")));
        nodes.push(Node::start(faults(room, serializer), false).await);
    }
    let mut gates = Vec::new();
    for (serializer, compressing) in [("json", true), ("json", false), ("protobuf", true), ("protobuf", false)] {
        let name = format!("gate-{serializer}-{compressing}");
        let wiring = with_ghosts(world.wiring(), vec![ghost("gone", "gone-1")]);
        let gate = world.of_with(wiring, Server::frontend(name.as_str()).id(format!("{name}-1")));
        let gate = faults(gate, serializer).set(&settings::COMPRESSION, compressing);
        gates.push((Node::start(gate, true).await, serializer, compressing));
    }
    for (gate, ..) in &gates {
        let backends = || ["full", "room-json", "room-protobuf"].iter().all(|kind| knows(gate, kind));
        eventually("the gate knows the rooms", backends).await;
    }
    let columns = gates.iter().map(|(gate, serializer, compressing)| async move {
        column(gate, &format!("room-{serializer}"), serializer, *compressing).await;
    });
    join_all(columns).await;
}

fn knows(gate: &Node, kind: &str) -> bool {
    !gate.app.servers().of_kind(kind).is_empty()
}

in_each_world!(errors_reach_the_client_as_they_were_made);
