//! F062, F065, F115 to F118: remotes, what is around them, and who may call them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use pitaya::{
    App, Bytes, Component, Context, Error, Json, Lifecycle, Next, Parts, Problem, Protobuf, Reply, Request, Result,
    Server, ServerId, ServerInfo, Session, cluster::Metadata, extract::State, from_fn, handlers, remotes, settings,
};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};

use super::{Node, Number, Shared, Text, World, acquainted, in_each_world, number, request, text};
use crate::support::{Events, eventually};

struct Math;

#[remotes(name = "math")]
impl Math {
    #[remote]
    async fn double(&self, Protobuf(number): Protobuf<Number>) -> Protobuf<Number> {
        Protobuf(Number { value: 2 * number.value })
    }

    #[remote]
    async fn fail(&self) -> Result<()> {
        Err(Error::new("MATH-1", "not today").with("why", "closed"))
    }

    #[remote]
    async fn sleep(&self, Protobuf(number): Protobuf<Number>) {
        tokio::time::sleep(Duration::from_secs(number.value as u64)).await;
    }
}

async fn remotes_are_called_by_type_and_by_id_and_not_by_clients(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let one = Node::start(world.room("r1", &shared).remotes(Math), false).await;
    let two = Node::start(world.room("r2", &shared).remotes(Math), false).await;
    acquainted(&[&gate, &one, &two]).await;
    let Protobuf(doubled): Protobuf<Number> = gate.app.rpc("room.math.double", number(21)).reply().await.unwrap();
    assert_eq!(doubled.value, 42);
    let r2 = &two.app.server().id;
    let Protobuf(doubled): Protobuf<Number> = gate.app.rpc("room.math.double", number(4)).to(r2).reply().await.unwrap();
    assert_eq!(doubled.value, 8);

    let failed = gate.app.rpc("room.math.fail", number(0)).reply::<()>().await.unwrap_err();
    assert_eq!((failed.code(), failed.message(), failed.metadata()["why"].as_str()), ("MATH-1", "not today", "closed"));
    let start = Instant::now();
    let late = gate.app.rpc("room.math.sleep", number(60)).timeout(Duration::from_secs(2)).reply::<()>().await;
    assert_eq!(late.unwrap_err().code(), "PIT-408");
    assert!((2..5).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let start = Instant::now();
    let late = gate.app.rpc("room.math.sleep", number(60)).reply::<()>().await;
    assert_eq!(late.unwrap_err().code(), "PIT-408");
    assert!((5..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());

    // What protocol.md 4 refuses, and what is not there.
    let refused = [
        (
            "math.double",
            "no server type chosen for sending RPC, send a full route in the format server.service.component",
        ),
        (
            "gate.math.double",
            "you are making a rpc that may be processed locally, either specify a different server type or specify a server id",
        ),
        ("shop.math.double", "no servers available of this type"),
        ("room.math.nope", "route not found"),
        ("room.room.echo", "route not found"),
    ];
    for (route, text) in refused {
        let error = gate.app.rpc(route, number(1)).reply::<()>().await.unwrap_err();
        assert_eq!(error.message(), text, "{route}");
    }
    let nobody = gate.app.rpc("room.math.double", number(1)).to(&"r9".try_into().unwrap()).reply::<()>().await;
    assert_eq!(nobody.unwrap_err().message(), "server not found");
    let mut raw = gate.client().await;
    let remote = request(&mut raw, "room.math.double", "").await.unwrap_err();
    assert_eq!(remote["code"], "PIT-404", "a remote is nothing for clients");
}

/// Handlers, remotes and a lifecycle of one object.
struct Hall {
    events: Events,
    calls: AtomicUsize,
}

impl Hall {
    fn new() -> Arc<Self> {
        Arc::new(Self { events: Events::default(), calls: AtomicUsize::new(0) })
    }
}

#[handlers(name = "hall")]
impl Hall {
    #[request]
    async fn enter(&self) -> Json<usize> {
        Json(self.calls.fetch_add(1, Ordering::SeqCst))
    }
}

#[remotes(name = "hall", rename_all = "PascalCase")]
impl Hall {
    /// Each argument that a remote may take.
    #[remote]
    async fn describe(
        self: Arc<Self>,
        app: App,
        context: Context,
        shared: State<Shared>,
        session: Option<Session>,
        Protobuf(text): Protobuf<Text>,
    ) -> Result<Protobuf<Text>> {
        assert!(session.is_none());
        let caller = context.metadata().and_then(|metadata| metadata.text(Metadata::PEER_ID)).unwrap_or_default();
        let calls = shared.calls.fetch_add(1, Ordering::SeqCst);
        Ok(Protobuf(Text { text: format!("{} on {} by {caller}, {calls}", text.text, app.server().id) }))
    }

    #[remote]
    async fn nothing_taken(&self) -> Protobuf<Number> {
        Protobuf(Number { value: 7 })
    }

    #[remote(rename = "quiet")]
    async fn nothing_said(&self, Protobuf(number): Protobuf<Number>) {
        self.calls.fetch_add(number.value as usize, Ordering::SeqCst);
    }

    async fn unmarked(&self) {}
}

impl Lifecycle for Hall {
    async fn init(&self, _app: &App) -> Result<()> {
        self.unmarked().await;
        self.events.add("init");
        Ok(())
    }

    async fn after_init(&self, _app: &App) -> Result<()> {
        self.events.add("after_init");
        Ok(())
    }

    async fn before_shutdown(&self, _app: &App) -> Result<()> {
        self.events.add("before_shutdown");
        Ok(())
    }

    async fn shutdown(&self, _app: &App) -> Result<()> {
        self.events.add("shutdown");
        Ok(())
    }
}

/// A component that is not there before it is told so.
struct Slow {
    starting: AtomicUsize,
    go: Notify,
}

#[remotes(name = "slow")]
impl Slow {
    #[remote]
    async fn started(&self) -> Protobuf<Number> {
        Protobuf(Number { value: self.starting.load(Ordering::SeqCst) as i64 })
    }
}

#[handlers(name = "slow")]
impl Slow {
    #[request]
    async fn ready(&self) -> Json<usize> {
        Json(self.starting.load(Ordering::SeqCst))
    }
}

impl Lifecycle for Slow {
    async fn init(&self, _app: &App) -> Result<()> {
        self.starting.store(1, Ordering::SeqCst);
        self.go.notified().await;
        self.starting.store(2, Ordering::SeqCst);
        Ok(())
    }
}

/// A server that comes back under the id of one that has crashed is in the lists of the others all the time.
async fn nothing_is_called_before_it_is_initialised(world: &World) {
    let gate = Node::start(world.gate("g1").expose(["hall"]), true).await;
    let mut crashed = ServerInfo::backend("hall").unwrap();
    crashed.id = "h1".try_into().unwrap();
    gate.app.peers().unwrap().context().servers.add(crashed);

    let slow = Arc::new(Slow { starting: AtomicUsize::new(0), go: Notify::new() });
    let hall = world.of(Server::backend("hall").id("h1")).remotes(Arc::clone(&slow)).handlers(Arc::clone(&slow));
    let node = tokio::spawn(Node::start(hall, false));
    eventually("its start has begun", || slow.starting.load(Ordering::SeqCst) == 1).await;
    let early = gate.app.rpc("hall.slow.started", number(0)).reply::<Protobuf<Number>>().await.unwrap_err();
    assert_ne!(early.code(), "PIT-408", "{early}");
    let mut raw = gate.client().await;
    let early = request(&mut raw, "hall.slow.ready", "").await.unwrap_err();
    assert_eq!(early["code"], "PIT-000", "{early}");
    slow.go.notify_one();
    let node = node.await.unwrap();
    let Protobuf(started) = gate.app.rpc("hall.slow.started", number(0)).reply::<Protobuf<Number>>().await.unwrap();
    assert_eq!(started.value, 2);
    assert_eq!(request(&mut raw, "hall.slow.ready", "").await, Ok(json!(2)));
    node.stop().await.unwrap();
}

/// F115, F116, F118 and A.0.8.
async fn remotes_take_and_answer_what_they_say_and_live_once_beside_handlers(world: &World) {
    let gate = Node::start(world.gate("g1"), true).await;
    let (hall, other) = (Hall::new(), Hall::new());
    let lower = |name: &str| name.to_lowercase();
    let builder = world
        .of(Server::backend("hall").id("h1"))
        .state(Shared::default())
        .handlers(Arc::clone(&hall))
        .remotes(Arc::clone(&hall))
        .remote_component(
            pitaya::Remotes::into_remote_component(Arc::clone(&other)).with_name("other").with_name_fn(lower),
        );
    let node = Node::start(builder, false).await;
    acquainted(&[&gate, &node]).await;

    let Protobuf(answer): Protobuf<Text> = gate.app.rpc("hall.hall.Describe", text("hall")).reply().await.unwrap();
    assert_eq!(answer.text, "hall on h1 by g1, 0");
    let Protobuf(seven): Protobuf<Number> = gate.app.rpc("hall.hall.NothingTaken", number(0)).reply().await.unwrap();
    assert_eq!(seven.value, 7);
    let nothing: Bytes = gate.app.rpc("hall.hall.quiet", number(5)).reply().await.unwrap();
    assert!(nothing.is_empty());
    assert_eq!(hall.calls.load(Ordering::SeqCst), 5);
    // Renamed when it was registered.
    let () = gate.app.rpc("hall.other.describe", text("")).reply().await.unwrap();
    for route in ["hall.hall.nothing_said", "hall.hall.enter", "hall.hall.unmarked", "hall.other.Describe"] {
        let unknown = gate.app.rpc(route, number(0)).reply::<()>().await.unwrap_err();
        let short = route.strip_prefix("hall.").unwrap();
        assert_eq!((unknown.code(), unknown.metadata()["route"].as_str()), ("PIT-404", short));
    }
    let wrong = gate.app.rpc("hall.hall.quiet", text("no number")).reply::<()>().await.unwrap_err();
    assert_eq!(wrong.code(), "PIT-400");
    let mut raw = gate.client().await;
    assert_eq!(request(&mut raw, "hall.hall.enter", "").await, Ok(json!(5)));

    drop(raw);
    node.stop().await.unwrap();
    for hall in [hall, other] {
        assert_eq!(hall.events.all(), ["init", "after_init", "before_shutdown", "shutdown"]);
    }
}

/// F062: what is around handlers is not around remotes, nor the reverse.
async fn hooks_of_remotes_run_for_calls_and_hooks_of_handlers_for_messages(world: &World) {
    let (shared, events) = (Arc::<Shared>::default(), Events::default());
    let gate = Node::start(world.gate("g1"), true).await;
    let noted = |what: &'static str| {
        let events = events.clone();
        move || events.add(what)
    };
    let (before, after, layer) = (noted("handler before"), noted("handler after"), noted("handler layer"));
    let (remote_before, remote_layer) = (noted("remote before"), noted("remote layer"));
    let remote_after = events.clone();
    let builder = world
        .room("r1", &shared)
        .remotes(Math)
        .before(move |request: Request| {
            before();
            async { Ok(request) }
        })
        .after(move |_: Parts, reply: Reply| {
            after();
            async { reply }
        })
        .layer(from_fn(move |request: Request, next: Next| {
            layer();
            async move { next.run(request).await }
        }))
        .remote_before(move |mut request: Request| {
            remote_before();
            async move {
                if request.body.is_empty() {
                    return Err(Error::new("MATH-2", "no number"));
                }
                request.parts.context.insert(1_u8);
                Ok(request)
            }
        })
        .remote_after(move |parts: Parts, reply: Reply| {
            let inserted = parts.context.get::<u8>().is_some();
            remote_after.add(format!("remote after {inserted} {}", reply.is_ok()));
            async { reply }
        })
        .remote_layer(from_fn(move |request: Request, next: Next| {
            remote_layer();
            async move { next.run(request).await }
        }));
    let room = Node::start(builder, false).await;
    acquainted(&[&gate, &room]).await;

    let Protobuf(doubled): Protobuf<Number> = gate.app.rpc("room.math.double", number(2)).reply().await.unwrap();
    assert_eq!(doubled.value, 4);
    assert_eq!(events.all(), ["remote layer", "remote before", "remote after true true"]);
    let failed = gate.app.rpc("room.math.fail", number(1)).reply::<()>().await.unwrap_err();
    assert_eq!(failed.code(), "MATH-1");
    let refused = gate.app.rpc("room.math.double", number(0)).reply::<()>().await.unwrap_err();
    assert_eq!(refused.code(), "MATH-2");
    let of_remotes = events.all();
    assert_eq!(
        of_remotes[3..],
        ["remote layer", "remote before", "remote after true false", "remote layer", "remote before"]
    );

    // A message, and the remotes of the framework that its handler calls.
    let mut raw = gate.client().await;
    assert!(request(&mut raw, "room.room.bind", "\"ada\"").await.is_ok());
    assert_eq!(events.all()[of_remotes.len()..], ["handler layer", "handler before", "handler after"]);
}

/// F065, F117: own type and own id.
async fn a_server_calls_itself_only_where_loopback_is_enabled(world: &World) {
    let shared = Arc::<Shared>::default();
    let without = Node::start(world.room("r1", &shared).remotes(Math), false).await;
    let builder = world.of(Server::backend("shop").id("s1")).remotes(Math).set(&settings::LOOPBACK, true);
    let with = Node::start(builder, false).await;
    acquainted(&[&without, &with]).await;
    let call = async |node: &Node, route: &str, to: Option<&ServerId>| {
        let call = node.app.rpc(route, number(4));
        let call = if let Some(to) = to { call.to(to) } else { call };
        call.reply::<Protobuf<Number>>().await.map(|Protobuf(number)| number.value)
    };
    for (node, own_type) in [(&without, "room.math.double"), (&with, "shop.math.double")] {
        let own = &node.app.server().id;
        for to in [None, Some(own)] {
            let answer = call(node, own_type, to).await;
            if std::ptr::eq(node, &with) {
                assert_eq!(answer.unwrap(), 8);
            } else {
                assert!(
                    answer.unwrap_err().message().starts_with("you are making a rpc that may be processed locally")
                );
            }
        }
    }
    // Errors and time-outs are those of any other call.
    let failed = with.app.rpc("shop.math.fail", number(0)).reply::<()>().await.unwrap_err();
    assert_eq!(failed.code(), "MATH-1");
    let late = with.app.rpc("shop.math.sleep", number(60)).timeout(Duration::from_secs(1)).reply::<()>().await;
    assert_eq!(late.unwrap_err().code(), "PIT-408");
    assert_eq!(call(&with, "room.math.double", None).await.unwrap(), 8);
}

/// What no remote can have is told before anything runs.
#[tokio::test]
async fn remotes_with_sessions_or_other_formats_are_refused() {
    let wrong = Component::builder("wrong", Arc::new(()))
        .request("session", async |_: Session| ())
        .request("json", async |Json(_): Json<u8>| ())
        .request("state", async |_: State<Shared>| ())
        .build();
    let world = World::bus();
    let error = world.of(Server::backend("room")).remote_component(wrong).build().expect_err("nothing of it is right");
    let problems: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| match problem {
            Problem::Session { route } | Problem::Format { route, .. } | Problem::State { route, .. } => route.method(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(problems, ["json", "state", "session"]);
    // Without a cluster there is nobody who could call them.
    let hooked = Server::backend("room").remotes(Math).remote_before(async |request: Request| Ok(request));
    let error = hooked.remote_layer(from_fn(async |request: Request, next: Next| next.run(request).await)).build();
    let is_cluster = |problem: &Problem| matches!(problem, Problem::NoCluster { .. });
    assert_eq!(error.expect_err("no cluster").problems().iter().filter(|problem| is_cluster(problem)).count(), 4);
}

in_each_world!(
    remotes_are_called_by_type_and_by_id_and_not_by_clients,
    nothing_is_called_before_it_is_initialised,
    remotes_take_and_answer_what_they_say_and_live_once_beside_handlers,
    hooks_of_remotes_run_for_calls_and_hooks_of_handlers_for_messages,
    a_server_calls_itself_only_where_loopback_is_enabled,
);
