//! What goes wrong in the moments between two steps: a close, or a wait that nobody ends.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pitaya::{
    App, BoxFuture, Bytes, Cluster, Context, Json, Protobuf, Result, Server, ServerBuilder, ServerId, ServerType,
    Session, Uid,
    cluster::{
        Adapters, ClusterContext, Discovery, Metadata, Responder, Routing, RpcServer, RpcService, Sticky, Wiring,
        protos,
    },
    config::Config,
    extract::State,
    handlers, remotes,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Node, Room, Shared, Text, World, acquainted, in_each_world, request, text};
use crate::support::{Events, PATIENCE, eventually, soon};

/// Where handlers wait until the test lets them go on.
#[derive(Default)]
pub(super) struct Gates {
    arrived: AtomicUsize,
    pub(super) go: Notify,
    pub(super) events: Events,
}

impl Gates {
    async fn wait(&self) {
        let go = self.go.notified();
        self.arrived.fetch_add(1, Ordering::SeqCst);
        go.await;
    }

    pub(super) async fn arrived(&self, count: usize) {
        eventually("a handler waits", || self.arrived.load(Ordering::SeqCst) == count).await;
    }
}

/// Handlers that take their time.
struct Slow;

#[handlers(name = "slow")]
impl Slow {
    /// All that a backend does with a session of another server.
    #[request]
    async fn log_in(&self, session: Session, gates: State<Gates>) -> Result<Json<&'static str>> {
        gates.wait().await;
        session.bind("ada").await?;
        session.set("level", &7)?;
        session.push_to_front().await?;
        session.push("onLogin", Json(1)).await?;
        let events = gates.events.clone();
        session.on_close(move |session| async move { events.add(format!("closed {}", session.id())) })?;
        Ok(Json("in"))
    }

    /// Asks for a callback late.
    #[request]
    async fn late(&self, session: Session, gates: State<Gates>) {
        gates.wait().await;
        let events = gates.events.clone();
        let asked = session.on_close(async move |_| events.add("called"));
        gates.events.add(match asked {
            Ok(()) => "asked".to_owned(),
            Err(error) => format!("refused {}", error.code()),
        });
    }

    #[request]
    async fn big(&self, session: Session) -> Result<()> {
        session.set("big", &"x".repeat(200_000))?;
        session.set("small", &1)?;
        session.remove("old");
        session.push_to_front().await
    }

    /// Gives up waiting for a push that has begun.
    #[request]
    async fn give_up(&self, session: Session, gates: State<Gates>) -> Result<()> {
        session.set("level", &1)?;
        {
            let mut pushing = std::pin::pin!(session.push_to_front());
            std::future::poll_fn(|cx| {
                assert!(pushing.as_mut().poll(cx).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        }
        gates.wait().await;
        session.push_to_front().await
    }

    /// Which room is chosen for the messages of this session, and in the course of this one.
    #[request]
    async fn same(&self, app: App, context: Context) -> Result<Json<String>> {
        let Protobuf(Text { text: server }) =
            app.rpc("room.where.am", text("")).in_course_of(&context).reply::<Protobuf<Text>>().await?;
        Ok(Json(server))
    }

    /// Calls somebody who never answers, with the time that a handler has written into the metadata.
    #[request]
    async fn short(&self, app: App, mut context: Context) -> Json<String> {
        context.metadata_mut().set(Metadata::TIMEOUT, "300ms");
        let error = app.rpc("room.where.never", text("")).in_course_of(&context).reply::<()>().await.unwrap_err();
        Json(format!("{} after {}", error.code(), error.metadata()["timeout"]))
    }
}

struct Where;

#[remotes(name = "where")]
impl Where {
    #[remote]
    async fn am(&self, app: App) -> Protobuf<Text> {
        text(app.server().id.as_str())
    }

    #[remote]
    async fn never(&self) {
        std::future::pending().await
    }

    #[remote]
    async fn hold(&self, gates: State<Gates>, Protobuf(Text { text }): Protobuf<Text>) {
        gates.events.add(text);
        gates.wait().await;
    }
}

pub(super) fn slow(world: &World, id: &str, gates: &Arc<Gates>) -> ServerBuilder {
    world.of(Server::backend("room").id(id)).handlers(Slow).remotes(Where).shared_state(Arc::clone(gates))
}

/// A handler that asks for a callback when the client has gone is told so; its frontend does not say it twice.
async fn a_callback_that_is_asked_for_after_the_close_is_refused(world: &World) {
    let (gates, shared) = (Arc::<Gates>::default(), Arc::<Shared>::default());
    let gate = Node::start(world.gate("g1"), true).await;
    let room = slow(world, "r1", &gates).handlers(Room).shared_state(Arc::clone(&shared));
    let room = Node::start(room, false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    raw.send_message(&pitaya_protocol::Message::request(9, "room.slow.late", "")).await;
    gates.arrived(1).await;
    drop(raw);
    eventually("the backend has heard of the close", || shared.events.all() == ["closed 1"]).await;
    gates.go.notify_waiters();
    eventually("it is refused", || !gates.events.all().is_empty()).await;
    assert_eq!(gates.events.all(), ["refused PIT-499"]);
    // The next session of that frontend is another one.
    let mut raw = gate.client().await;
    raw.send_message(&pitaya_protocol::Message::request(9, "room.slow.late", "")).await;
    gates.arrived(2).await;
    gates.go.notify_waiters();
    eventually("it is granted", || gates.events.all().len() == 2).await;
    drop(raw);
    eventually("it is called", || gates.events.all()[1..] == ["asked", "called"]).await;
}

/// A message whose way was still being chosen when its client left.
async fn a_backend_that_gets_a_message_after_the_close_is_told_of_it(world: &World) {
    let gates = Arc::<Gates>::default();
    let chosen = Arc::<Gates>::default();
    let router = {
        let chosen = Arc::clone(&chosen);
        move |_: Routing| {
            let chosen = Arc::clone(&chosen);
            async move {
                chosen.wait().await;
                Ok(ServerId::try_from("r1")?)
            }
        }
    };
    let gate = Node::start(world.gate("g1").router("room", router), true).await;
    let room = Node::start(slow(world, "r1", &gates), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    raw.send_message(&pitaya_protocol::Message::request(9, "room.slow.late", "")).await;
    chosen.arrived(1).await;
    drop(raw);
    eventually("the session has closed", || gate.app.session_count() == 0).await;
    chosen.go.notify_waiters();
    gates.arrived(1).await;
    gates.go.notify_waiters();
    eventually("it is called", || gates.events.all() == ["asked", "called"]).await;
}

/// More backends than a frontend remembers for a session.
async fn all_of_many_backends_are_told_of_a_close(world: &World) {
    const ROOMS: usize = 70;
    let shared = Arc::<Shared>::default();
    let next = AtomicUsize::new(0);
    let router = move |_: Routing| {
        let number = next.fetch_add(1, Ordering::SeqCst);
        async move { Ok(ServerId::try_from(format!("r{number}"))?) }
    };
    let gate = Node::start(world.gate("g1").router("room", router), true).await;
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(Node::start(world.room(&format!("r{number}"), &shared), false).await);
    }
    eventually("all are known", || gate.app.servers().len() == ROOMS + 1).await;
    let mut raw = gate.client().await;
    for _ in 0..ROOMS {
        assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    }
    drop(raw);
    eventually("all are told", || shared.events.count("closed 1") == ROOMS).await;
}

/// A frontend that handles messages of clients of another type is not the one that they are connected to.
async fn a_bind_of_another_types_client_is_no_login_on_the_frontend_that_handles_it(world: &World) {
    let shared = Arc::<Shared>::default();
    let lobby = |id| world.of(Server::frontend("lobby").id(id)).handlers(Room).shared_state(Arc::clone(&shared));
    let (one, two) = (Node::start(lobby("l1"), true).await, Node::start(lobby("l2"), true).await);
    let to_one = |_: Routing| async { Ok(ServerId::try_from("l1")?) };
    let gate = Node::start(world.gate("g1").router("lobby", to_one), true).await;
    acquainted(&[&one, &two, &gate]).await;
    let (mut ada, mut bob) = (two.client().await, two.client().await);
    assert!(request(&mut ada, "lobby.room.bind", "\"ada\"").await.is_ok());
    assert!(request(&mut bob, "lobby.room.bind", "\"bob\"").await.is_ok());
    let mut guest = gate.client().await;
    assert!(request(&mut guest, "lobby.room.bind", "\"ada\"").await.is_ok());
    assert!(gate.app.session_of(&Uid::try_from("ada").unwrap()).is_some());
    // One that is a login there: what was told before has arrived when this has.
    let mut newer = one.client().await;
    assert!(request(&mut newer, "lobby.room.bind", "\"bob\"").await.is_ok());
    assert_eq!(bob.packet_but_heartbeat().await.unwrap().kind, pitaya::PacketKind::Kick);
    assert_eq!(request(&mut ada, "lobby.room.who", "").await.unwrap()["uid"], "ada");
}

/// What has changed is no part of the metadata, which has a limit.
async fn large_values_are_pushed_to_the_frontend(world: &World) {
    let gates = Arc::<Gates>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(slow(world, "r1", &gates), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let session = gate.app.sessions().remove(0);
    session.set("old", &1).unwrap();
    session.set("kept", &1.0e-308).unwrap();
    assert_eq!(request(&mut raw, "room.slow.big", "").await, Ok(Value::Null));
    assert_eq!(session.get::<String>("big").unwrap().unwrap().len(), 200_000);
    assert_eq!(session.get::<u8>("small").unwrap(), Some(1));
    assert_eq!(session.get::<f64>("kept").unwrap(), Some(1.0e-308));
    assert!(!session.has("old"));
}

async fn changes_are_kept_when_nobody_waits_for_their_push(world: &World) {
    let gates = Arc::<Gates>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(slow(world, "r1", &gates), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let session = gate.app.sessions().remove(0);
    let asking = request(&mut raw, "room.slow.give_up", "");
    let waiting = async {
        gates.arrived(1).await;
        // What was sent before has arrived all the same.
        eventually("the first push", || session.get::<u8>("level").unwrap() == Some(1)).await;
        session.set("level", &2).unwrap();
        gates.go.notify_waiters();
    };
    let (answer, ()) = tokio::join!(asking, waiting);
    assert_eq!(answer, Ok(Value::Null));
    assert_eq!(session.get::<u8>("level").unwrap(), Some(1), "it was pushed again");
}

/// The frontend and a backend choose the same room for the messages of one session.
async fn a_sticky_session_stays_with_one_server_whoever_calls_it(world: &World) {
    let gates = Arc::<Gates>::default();
    let gate = Node::start(world.gate("g1").router("room", Sticky), true).await;
    let hall = world.of(Server::backend("hall")).handlers(Slow).shared_state(Arc::clone(&gates)).router("room", Sticky);
    let hall = Node::start(hall, false).await;
    let mut rooms = Vec::new();
    for id in ["r1", "r2", "r3", "r4"] {
        let room = world.of(Server::backend("room").id(id)).handlers(Room).remotes(Where);
        let room = room.shared_state(Arc::<Shared>::default()).shared_state(Arc::clone(&gates));
        rooms.push(Node::start(room, false).await);
    }
    acquainted(&[&gate, &hall, &rooms[0], &rooms[1], &rooms[2], &rooms[3]]).await;
    for _ in 0..10 {
        let mut raw = gate.client().await;
        let of_client = request(&mut raw, "room.room.who", "").await.unwrap()["server"].clone();
        assert_eq!(request(&mut raw, "hall.slow.same", "").await.unwrap(), of_client);
    }
}

async fn a_timeout_in_the_metadata_counts_for_our_servers_too(world: &World) {
    let gates = Arc::<Gates>::default();
    let gate = world.gate("gate").handlers(Slow).shared_state(Arc::clone(&gates));
    let gate = Node::start(gate, true).await;
    let room = Node::start(slow(world, "r1", &gates), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let answer = request(&mut raw, "gate.slow.short", "").await.unwrap();
    assert_eq!(answer, "PIT-408 after 300ms");
}

async fn a_router_that_never_chooses_is_given_up(world: &World) {
    let shared = Arc::<Shared>::default();
    let never = |_: Routing| std::future::pending::<Result<ServerId>>();
    let gate = world.gate("g1").router("room", never);
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let error = request(&mut raw, "room.room.echo", "").await.unwrap_err();
    assert_eq!(error, json!({"code": "PIT-408", "msg": "the router of room took longer than 5s"}));
}

in_each_world!(
    a_callback_that_is_asked_for_after_the_close_is_refused,
    a_backend_that_gets_a_message_after_the_close_is_told_of_it,
    a_bind_of_another_types_client_is_no_login_on_the_frontend_that_handles_it,
    large_values_are_pushed_to_the_frontend,
    changes_are_kept_when_nobody_waits_for_their_push,
    a_sticky_session_stays_with_one_server_whoever_calls_it,
    a_timeout_in_the_metadata_counts_for_our_servers_too,
    a_router_that_never_chooses_is_given_up,
);

#[tokio::test(start_paused = true)]
async fn all_of_many_backends_on_the_bus_are_told_of_a_close() {
    all_of_many_backends_are_told_of_a_close(&World::bus()).await;
}

/// A call that has waited for its turn until its caller no longer waits is not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_before_its_turn_is_not_run() {
    let (world, gates) = (World::network().await, Arc::<Gates>::default());
    let gate = Node::start(world.gate("g1"), true).await;
    let room = slow(&world, "r1", &gates).set_text("pitaya.cluster.rpc.server.nats.services", "1");
    let room = Node::start(room, false).await;
    acquainted(&[&gate, &room]).await;
    let call = |name: &'static str| gate.app.rpc("room.where.hold", text(name));
    let calling = async {
        let late = async {
            gates.arrived(1).await;
            // Its caller waits for longer than it says, to hear what the other server makes of it.
            let request = protos::Request {
                r#type: protos::RpcType::User.into(),
                msg: Some(protos::Msg {
                    route: "room.where.hold".into(),
                    data: text("late").0.encode_to_vec().into(),
                    ..protos::Msg::default()
                }),
                metadata: Bytes::from_static(b"{\"reqTimeout\":\"200ms\"}"),
                ..protos::Request::default()
            };
            let client = &gate.app.peers().unwrap().adapters().client;
            let answer = client.call(room.app.server(), request.encode_to_vec().into(), PATIENCE).await.unwrap();
            let error = protos::Response::decode(answer).unwrap().into_result().unwrap_err();
            // What the one who is called says (protocol.md 6.3).
            assert_eq!((error.code(), error.message()), ("PIT-500", "rpc client: request timeout"));
            gates.go.notify_waiters();
        };
        let (first, ()) = tokio::join!(call("first").timeout(PATIENCE).reply::<()>(), late);
        first.unwrap();
        let last = async {
            gates.arrived(2).await;
            gates.go.notify_waiters();
        };
        let (last, ()) = tokio::join!(call("last").timeout(PATIENCE).reply::<()>(), last);
        last.unwrap();
    };
    soon("the calls", calling).await;
    assert_eq!(gates.events.all(), ["first", "last"]);
}

/// The bus, with a discovery that does not find gates, or never registers.
pub(super) struct Blind {
    pub(super) inner: Arc<dyn Discovery>,
    pub(super) ignored: Vec<ServerType>,
    pub(super) registers: bool,
    pub(super) spreading: Duration,
}

impl Blind {
    pub(super) fn new(inner: Arc<dyn Discovery>) -> Self {
        Self { inner, ignored: Vec::new(), registers: true, spreading: Duration::ZERO }
    }
}

impl Discovery for Blind {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        self.inner.start(context)
    }

    fn register(&self) -> BoxFuture<'_, Result<()>> {
        if self.registers { self.inner.register() } else { Box::pin(std::future::pending()) }
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.inner.leave()
    }

    fn spreading(&self) -> Duration {
        self.spreading
    }

    fn ignored(&self) -> Vec<ServerType> {
        self.ignored.clone()
    }
}

pub(super) fn changed(bus: Wiring, change: impl Fn(Adapters) -> Adapters + Send + Sync + 'static) -> Wiring {
    Wiring::new([], move |config: &Config| Ok(change(bus.adapters(config)?)))
}

/// A client's first message may be faster than discovery.
#[tokio::test(start_paused = true)]
async fn a_frontend_that_is_not_known_yet_is_reached_by_what_it_says_of_itself() {
    let (bus, shared) = (Cluster::in_process(), Arc::<Shared>::default());
    let blind = changed(bus.clone(), |adapters| Adapters {
        discovery: Arc::new(Blind { ignored: vec!["gate".try_into().unwrap()], ..Blind::new(adapters.discovery) }),
        ..adapters
    });
    let gate = Node::start(World::Bus(bus).gate("g1"), true).await;
    let room = Node::start(World::Bus(blind).room("r1", &shared), false).await;
    eventually("the gate knows the room", || gate.app.servers().len() == 2).await;
    assert_eq!(room.app.servers().len(), 1);
    let mut raw = gate.client().await;
    assert!(request(&mut raw, "room.room.bind", "\"ada\"").await.is_ok());
    assert!(request(&mut raw, "room.room.set", "{\"level\":3}").await.is_ok());
    let session = gate.app.session_of(&"ada".try_into().unwrap()).unwrap();
    assert_eq!(session.get::<u8>("level").unwrap(), Some(3));
    raw.send_message(&pitaya_protocol::Message::request(9, "room.room.push", "\"x\"")).await;
    assert_eq!(raw.message().await.unwrap().route, "onPush");
}

/// Hands its test what takes the calls.
struct Tapped(Arc<dyn RpcServer>, Tap);

type Tap = Arc<Mutex<Option<Arc<dyn RpcService>>>>;

impl RpcServer for Tapped {
    fn start<'a>(&'a self, context: &'a ClusterContext, service: Arc<dyn RpcService>) -> BoxFuture<'a, Result<()>> {
        *self.1.lock().unwrap() = Some(Arc::clone(&service));
        self.0.start(context, service)
    }

    fn subscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        self.0.subscribe(uid)
    }

    fn unsubscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, ()> {
        self.0.unsubscribe(uid)
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        self.0.drain()
    }
}

/// Calls that are refused while the transport is full must not pile up.
#[tokio::test(start_paused = true)]
async fn refusals_wait_for_the_transport_in_bounded_numbers() {
    let tap = Tap::default();
    let tapped = {
        let tap = Arc::clone(&tap);
        changed(Cluster::in_process(), move |adapters| Adapters {
            server: Arc::new(Tapped(adapters.server, Arc::clone(&tap))),
            ..adapters
        })
    };
    let room = Node::start(World::Bus(tapped).of(Server::backend("room")), false).await;
    let service = tap.lock().unwrap().clone().unwrap();
    let before = room.app.tasks().len();
    let answers = Arc::<AtomicUsize>::default();
    for _ in 0..1_000 {
        let answers = Arc::clone(&answers);
        let at_once = Responder::new(move |_| {
            answers.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {})
        });
        service.request(Bytes::from_static(b"garbage"), at_once);
    }
    assert_eq!((answers.load(Ordering::SeqCst), room.app.tasks().len()), (1_000, before), "no tasks, no wait");
    for _ in 0..10_000 {
        service.request(Bytes::from_static(b"garbage"), Responder::new(|_| Box::pin(std::future::pending())));
    }
    let waiting = room.app.tasks().len() - before;
    assert!((1..=2_000).contains(&waiting), "{waiting}");
}
