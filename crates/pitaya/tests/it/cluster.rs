//! Several servers as one game: each test on the bus of one process, and on real etcd and NATS.

mod adapters;
mod capacity;
mod context;
mod errors;
mod exposed;
mod faults;
mod forwarding;
mod groups;
mod keys;
mod moments;
mod order;
mod remotes;
mod request_id;
mod retry;
mod routers;
mod rules;
mod stopping;
mod stuck;
mod unique;

use std::{
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use pitaya::{
    App, Bytes, Cluster, Error, Json, Protobuf, Result, ServeError, Server, ServerBuilder, Session,
    cluster::{Sticky, Wiring},
    extract::State,
    handlers, settings,
};
use pitaya_fixtures::{Etcd, Nats};
use pitaya_protocol::Message;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, sync::oneshot, task::JoinHandle};

use crate::support::{Events, PATIENCE, Pipes, Raw, eventually, soon};

/// A server of the cluster, and its clients' way in if it is a frontend.
struct Node {
    app: App,
    pipes: Option<Pipes>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ServeError>>,
}

/// What connects the servers of a test.
enum World {
    Bus(Wiring),
    Network(Box<(Etcd, Nats)>),
}

impl World {
    fn bus() -> Self {
        Self::Bus(Cluster::in_process())
    }

    async fn network() -> Self {
        let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
        Self::Network(Box::new((etcd, nats)))
    }

    /// Makes a server one of this world.
    fn of(&self, builder: ServerBuilder) -> ServerBuilder {
        self.of_with(self.wiring(), builder)
    }

    fn wiring(&self) -> Wiring {
        match self {
            Self::Bus(cluster) => cluster.clone(),
            Self::Network(_) => Cluster::from_config(),
        }
    }

    /// As [`of`](Self::of), with a wiring that was made of [`wiring`](Self::wiring).
    fn of_with(&self, wiring: Wiring, builder: ServerBuilder) -> ServerBuilder {
        let builder = builder.cluster(wiring);
        match self {
            Self::Bus(_) => builder,
            Self::Network(servers) => builder
                .set_text("pitaya.cluster.sd.etcd.endpoints", servers.0.address())
                .set_text("pitaya.cluster.sd.etcd.shutdowndelay", "100ms")
                .set_text("pitaya.cluster.rpc.client.nats.address", servers.1.address())
                .set_text("pitaya.cluster.rpc.server.nats.address", servers.1.url()),
        }
    }

    fn gate(&self, id: &str) -> ServerBuilder {
        self.of(Server::frontend("gate").id(id))
    }

    fn room(&self, id: &str, shared: &Arc<Shared>) -> ServerBuilder {
        self.of(Server::backend("room").id(id)).handlers(Room).shared_state(Arc::clone(shared))
    }
}

/// Each of these tests in each world.
macro_rules! in_each_world {
    ($($test:ident),* $(,)?) => {
        mod in_process {
            $(
                #[tokio::test(start_paused = true)]
                async fn $test() {
                    super::$test(&super::World::bus()).await;
                }
            )*
        }

        mod on_etcd_and_nats {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(&super::World::network().await).await;
                }
            )*
        }
    };
}

use in_each_world;

/// Waits until all these servers know each other.
async fn acquainted(nodes: &[&Node]) {
    let all = || nodes.iter().all(|node| node.app.servers().len() == nodes.len());
    eventually("the servers know each other", all).await;
}

impl Node {
    async fn start(mut builder: ServerBuilder, frontend: bool) -> Self {
        let mut pipes = None;
        if frontend {
            let (sender, acceptor) = Pipes::new();
            builder = builder.acceptor(acceptor);
            pipes = Some(sender);
        }
        let server = builder.build().unwrap();
        let app = server.app();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = server.serve().with_graceful_shutdown(async { drop(stopped.await) });
        let serving = tokio::task::spawn(serve.into_future());
        eventually("the server has started", || app.is_ready()).await;
        Self { app, pipes, stop: Some(stop), serving }
    }

    async fn stop(mut self) -> Result<(), ServeError> {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap()
    }

    async fn client(&self) -> Raw<DuplexStream> {
        self.pipes.as_ref().unwrap().established().await
    }
}

/// What rooms share with their test.
#[derive(Default)]
struct Shared {
    events: Events,
    calls: AtomicUsize,
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn echo(&self, body: Bytes) -> Bytes {
        body
    }

    #[request]
    async fn who(&self, app: App, session: Session) -> Json<Value> {
        let uid = session.uid().map(|uid| uid.to_string()).unwrap_or_default();
        Json(json!({"server": app.server().id.as_str(), "uid": uid, "id": session.id().get(), "data": session.data()}))
    }

    #[request]
    async fn bind(&self, session: Session, Json(uid): Json<String>) -> Result<()> {
        session.bind(uid.as_str()).await
    }

    #[request]
    async fn set(&self, session: Session, Json(values): Json<Value>) -> Result<()> {
        for (key, value) in values.as_object().unwrap() {
            if value.is_null() { session.remove(key) } else { session.set(key, value)? }
        }
        session.push_to_front().await
    }

    #[request]
    async fn push(&self, session: Session, Json(text): Json<String>) -> Result<()> {
        session.push("onPush", Json(text)).await
    }

    #[request]
    async fn kick(&self, session: Session) -> Result<()> {
        session.kick().await
    }

    #[request]
    async fn fail(&self) -> Result<()> {
        Err(Error::new("ROOM-42", "no gold").with("missing", 3))
    }

    #[request]
    async fn panic(&self) -> Bytes {
        panic!("on purpose")
    }

    #[request]
    async fn watch(&self, session: Session, shared: State<Shared>) -> Result<()> {
        let events = shared.events.clone();
        session.on_close(move |session| async move { events.add(format!("closed {}", session.id())) })
    }

    #[request]
    async fn never(&self, shared: State<Shared>) -> Bytes {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    #[notify]
    async fn note(&self, shared: State<Shared>, Json(text): Json<String>) {
        shared.events.add(text);
    }

    #[request]
    async fn count(&self, shared: State<Shared>) -> Json<usize> {
        Json(shared.calls.fetch_add(1, Ordering::SeqCst))
    }
}

async fn request(raw: &mut Raw<DuplexStream>, route: &str, body: &str) -> std::result::Result<Value, Value> {
    static IDS: AtomicUsize = AtomicUsize::new(1);
    let id = IDS.fetch_add(1, Ordering::SeqCst) as u64;
    raw.send_message(&Message::request(id, route, body.to_owned())).await;
    loop {
        let answer = raw.message().await.expect("an answer");
        if answer.id == id {
            let value = serde_json::from_slice(&answer.body).unwrap_or_default();
            return if answer.error { Err(value) } else { Ok(value) };
        }
    }
}

async fn a_message_of_another_type_is_handled_there_and_answered_here(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    assert_eq!(request(&mut raw, "room.room.echo", "{\"x\":1}").await, Ok(json!({"x": 1})));
    let who = request(&mut raw, "room.room.who", "").await.unwrap();
    assert_eq!((&who["server"], &who["uid"], &who["id"]), (&json!("r1"), &json!(""), &json!(1)));
    assert_eq!(who["data"], json!({"ipversion": "ipv4"}));
    raw.send_message(&Message::notify("room.room.note", "\"hi\"")).await;
    eventually("the notify is handled", || shared.events.all() == ["hi"]).await;

    // Errors arrive as they were made.
    let failed = request(&mut raw, "room.room.fail", "").await.unwrap_err();
    assert_eq!(failed, json!({"code": "ROOM-42", "msg": "no gold", "metadata": {"missing": "3"}}));
    let unknown = request(&mut raw, "room.room.nope", "").await.unwrap_err();
    assert_eq!(unknown, json!({"code": "PIT-404", "msg": "pitaya/handler: room.room.nope not found"}));
    assert_eq!(request(&mut raw, "room.room.panic", "").await.unwrap_err()["code"], "PIT-500");
    let notify = request(&mut raw, "room.room.note", "").await.unwrap_err();
    assert_eq!(notify, json!({"code": "PIT-400", "msg": "tried to request a notify route"}));
    let nobody = request(&mut raw, "shop.shop.buy", "").await.unwrap_err();
    assert_eq!(nobody, json!({"code": "PIT-500", "msg": "no servers available of this type"}));

    room.stop().await.unwrap();
    acquainted(&[&gate]).await;
    let gone = request(&mut raw, "room.room.echo", "").await.unwrap_err();
    assert_eq!(gone["msg"], "no servers available of this type");
    drop(raw);
    gate.stop().await.unwrap();
}

async fn a_backend_binds_changes_pushes_to_and_kicks_a_session_of_a_frontend(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let unbound = request(&mut raw, "room.room.push", "\"x\"").await.unwrap_err();
    assert_eq!(unbound["msg"], "you have to bind an UID to the session to do that");

    assert!(request(&mut raw, "room.room.bind", "\"ada\"").await.is_ok());
    let session = gate.app.session_of(&"ada".try_into().unwrap()).unwrap();
    assert_eq!(request(&mut raw, "room.room.who", "").await.unwrap()["uid"], "ada");
    let again = request(&mut raw, "room.room.bind", "\"ada\"").await.unwrap_err();
    assert_eq!(again["msg"], "session is already bound to an uid");

    // Values that are pushed are seen on the frontend, and by the next message.
    session.set("kept", "front").unwrap();
    assert!(request(&mut raw, "room.room.set", "{\"level\":9007199254740993,\"ipversion\":null}").await.is_ok());
    assert_eq!(session.get::<u64>("level").unwrap(), Some(9_007_199_254_740_993));
    assert_eq!(session.get::<String>("kept").unwrap().as_deref(), Some("front"));
    assert!(!session.has("ipversion"));
    let who = request(&mut raw, "room.room.who", "").await.unwrap();
    assert_eq!(who["data"], json!({"kept": "front", "level": 9_007_199_254_740_993_u64}));

    // A push and an answer of another server come in any order.
    raw.send_message(&Message::request(77, "room.room.push", "\"hello\"")).await;
    // On a network, pushes and answers come by different ways.
    let mut both = [raw.message().await.unwrap(), raw.message().await.unwrap()];
    both.sort_by_key(|message| message.id);
    let [push, answer] = &both;
    assert_eq!((push.route.as_str(), &push.body[..], answer.id), ("onPush", &b"\"hello\""[..], 77));

    assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    raw.send_message(&Message::request(78, "room.room.kick", "")).await;
    while let Some(packet) = raw.packet().await {
        if packet.kind == pitaya::PacketKind::Kick {
            break;
        }
    }
    drop(raw);
    eventually("the callback on the backend has run", || shared.events.all() == ["closed 1"]).await;
    assert_eq!(gate.app.session_count(), 0);
}

async fn the_same_user_on_another_frontend_of_the_type_is_kicked_from_the_older(world: &World) {
    let shared = Arc::<Shared>::default();
    let one = Node::start(world.gate("g1"), true).await;
    let two = Node::start(world.gate("g2"), true).await;
    let lobby = Node::start(world.of(Server::frontend("lobby")), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&one, &two, &lobby, &room]).await;
    let (mut first, mut other) = (one.client().await, lobby.client().await);
    for raw in [&mut first, &mut other] {
        assert!(request(raw, "room.room.bind", "\"ada\"").await.is_ok());
    }
    let mut second = two.client().await;
    assert!(request(&mut second, "room.room.bind", "\"ada\"").await.is_ok());
    assert_eq!(first.packet_but_heartbeat().await.unwrap().kind, pitaya::PacketKind::Kick);
    assert_eq!(first.packet().await, None);
    // The new one stays, and so does the one on a frontend of another type.
    for raw in [&mut second, &mut other] {
        assert_eq!(request(raw, "room.room.who", "").await.unwrap()["uid"], "ada");
    }
}

async fn the_same_user_on_the_same_frontend_is_kicked_from_the_older(world: &World) {
    let shared = Arc::<Shared>::default();
    for unique in [true, false] {
        let gate = world.gate(&format!("g-{unique}")).set(&settings::SESSION_UNIQUE, unique);
        let gate = Node::start(gate, true).await;
        let room = Node::start(world.room(&format!("r-{unique}"), &shared), false).await;
        eventually("the gate knows the room", || gate.app.servers().get(&room.app.server().id).is_some()).await;
        let (mut first, mut second) = (gate.client().await, gate.client().await);
        for raw in [&mut first, &mut second] {
            assert!(request(raw, "room.room.bind", "\"ada\"").await.is_ok());
        }
        if unique {
            assert_eq!(first.packet_but_heartbeat().await.unwrap().kind, pitaya::PacketKind::Kick);
        }
        // One server has one session of a user in any case.
        assert_eq!(first.packet_but_heartbeat().await, None);
        assert_eq!(request(&mut second, "room.room.who", "").await.unwrap()["uid"], "ada");
        room.stop().await.unwrap();
        gate.stop().await.unwrap();
    }
}

async fn without_unique_sessions_both_stay_on_two_frontends(world: &World) {
    let shared = Arc::<Shared>::default();
    let off = |id| world.gate(id).set(&settings::SESSION_UNIQUE, false);
    let (one, two) = (Node::start(off("g1"), true).await, Node::start(off("g2"), true).await);
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&one, &two, &room]).await;
    let (mut first, mut second) = (one.client().await, two.client().await);
    for raw in [&mut first, &mut second] {
        assert!(request(raw, "room.room.bind", "\"ada\"").await.is_ok());
    }
    // A push to the user reaches both.
    room.app.push("onUser", Json(1)).to_users("gate", ["ada".try_into().unwrap()]).await.unwrap().all().unwrap();
    for raw in [&mut first, &mut second] {
        assert_eq!(raw.message().await.unwrap().route, "onUser");
        assert_eq!(request(raw, "room.room.who", "").await.unwrap()["uid"], "ada");
    }
}

/// Forwarded messages have permits and waiting places of their own: when these are used up, the connections of more are not
/// read, and everybody else is served.
async fn a_backend_that_never_answers_keeps_nobody_from_the_handlers_here(world: &World) {
    let shared = Arc::<Shared>::default();
    let limits = |builder: ServerBuilder| {
        builder
            .set(&settings::DISPATCH_CONCURRENCY, 3)
            .set(&settings::REMOTE_BUFFER, 2)
            .set(&settings::SESSION_UNFINISHED, 1000)
    };
    let gate = limits(world.gate("g1")).handlers(Room).shared_state(Arc::clone(&shared));
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut stuck = gate.client().await;
    let mut other = gate.client().await;
    for id in 1..=100 {
        stuck.send_message(&Message::request(id, "room.room.never", "")).await;
    }
    eventually("as many as may be are forwarded", || shared.calls.load(Ordering::SeqCst) == 3).await;
    for _ in 0..10 {
        assert_eq!(request(&mut other, "gate.room.echo", "1").await, Ok(json!(1)));
    }
    assert_eq!(shared.calls.load(Ordering::SeqCst), 3);
    // Each that times out is answered, and makes room for another, in order.
    let mut answered = Vec::new();
    for _ in 0..6 {
        let answer = soon("a time-out", stuck.message()).await.unwrap();
        assert!(answer.error);
        answered.push(answer.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5, 6]);
}

/// Pushes to users and kicks reach them wherever they are, whatever their names; a group of a backend as well.
async fn users_are_pushed_to_and_kicked_on_any_frontend(world: &World) {
    let shared = Arc::<Shared>::default();
    let one = Node::start(world.gate("g1"), true).await;
    let two = Node::start(world.gate("g2"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&one, &two, &room]).await;
    let (mut ada, mut bob) = (one.client().await, two.client().await);
    assert!(request(&mut ada, "room.room.bind", "\"ada\"").await.is_ok());
    // Nothing of it is a wildcard of NATS.
    let name = "guest/**/b.o>b==/push";
    assert!(request(&mut bob, "room.room.bind", &json!(name).to_string()).await.is_ok());
    let uids = || ["ada", name].map(|uid| pitaya::Uid::try_from(uid).unwrap());

    let group = room.app.group("all");
    group.create().await.unwrap();
    for uid in uids() {
        group.add(&uid).await.unwrap();
    }
    group.broadcast("gate", "onGroup", Json(1)).await.unwrap().all().unwrap();
    // What comes from two servers has no order.
    for raw in [&mut ada, &mut bob] {
        assert_eq!(raw.message().await.unwrap().route, "onGroup");
    }
    // A frontend reaches those of the other.
    one.app.push("onUser", Json(2)).to_users("gate", uids()).await.unwrap().all().unwrap();
    for raw in [&mut ada, &mut bob] {
        assert_eq!(raw.message().await.unwrap().route, "onUser");
    }
    room.app.kick("gate", uids()).await.unwrap().all().unwrap();
    for raw in [&mut ada, &mut bob] {
        assert_eq!(raw.packet_but_heartbeat().await.unwrap().kind, pitaya::PacketKind::Kick);
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

fn number(value: i64) -> Protobuf<Number> {
    Protobuf(Number { value })
}

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: impl Into<String>) -> Protobuf<Text> {
    Protobuf(Text { text: text.into() })
}

/// Three backends, and a router that keeps a session with one of them.
async fn messages_are_spread_over_backends_or_stay_with_one(world: &World) {
    let shared = Arc::<Shared>::default();
    let random = Node::start(world.gate("g1"), true).await;
    let sticky = Node::start(world.of(Server::frontend("hall")).router("room", Sticky), true).await;
    let mut rooms = Vec::new();
    for id in ["r1", "r2", "r3"] {
        rooms.push(Node::start(world.room(id, &shared), false).await);
    }
    let [one, two, three] = &rooms[..] else { unreachable!() };
    acquainted(&[&random, &sticky, one, two, three]).await;
    let mut raw = random.client().await;
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..300 {
        let who = request(&mut raw, "room.room.who", "").await.unwrap();
        *seen.entry(who["server"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(seen.len() == 3 && seen.values().all(|count| (50..150).contains(count)), "{seen:?}");
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let mut raw = sticky.client().await;
        let mut servers = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let who = request(&mut raw, "room.room.who", "").await.unwrap();
            servers.insert(who["server"].as_str().unwrap().to_owned());
        }
        assert_eq!(servers.len(), 1);
        chosen.extend(servers);
    }
    assert!(chosen.len() > 1, "not all sessions with the same one");
}

/// A session's messages are handled in their order, also on another server.
async fn the_order_of_a_session_is_kept_across_servers(world: &World) {
    const MESSAGES: u64 = 2_000;
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let sending = async {
        let mut answers = vec![];
        for chunk in 0..MESSAGES / 100 {
            for id in chunk * 100 + 1..=chunk * 100 + 100 {
                raw.send_message(&Message::request(id, "room.room.count", "")).await;
            }
            for _ in 0..100 {
                let answer = raw.message().await.unwrap();
                answers.push((answer.id, serde_json::from_slice::<u64>(&answer.body).unwrap()));
            }
        }
        answers
    };
    let mut answers = soon("all answers", sending).await;
    answers.sort_unstable();
    assert!(answers.into_iter().eq((1..=MESSAGES).map(|id| (id, id - 1))));
}

in_each_world!(
    a_message_of_another_type_is_handled_there_and_answered_here,
    a_backend_binds_changes_pushes_to_and_kicks_a_session_of_a_frontend,
    the_same_user_on_another_frontend_of_the_type_is_kicked_from_the_older,
    the_same_user_on_the_same_frontend_is_kicked_from_the_older,
    without_unique_sessions_both_stay_on_two_frontends,
    a_backend_that_never_answers_keeps_nobody_from_the_handlers_here,
    users_are_pushed_to_and_kicked_on_any_frontend,
    messages_are_spread_over_backends_or_stay_with_one,
    the_order_of_a_session_is_kept_across_servers,
);
