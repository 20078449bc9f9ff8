//! F030, F031, F064, F101, F102: where a message goes, what travels with it, and what is left of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use pitaya::{
    BoxFuture, Bytes, Context, Endpoint, Json, Layer, Reply, Request, Route, ServerBuilder, Session, extract::State,
    handlers,
};
use pitaya_protocol::Message;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, sync::Semaphore};

use super::{Node, Room, Shared, World, acquainted, in_each_world, request};
use crate::support::{Events, Raw, eventually, soon};

/// Says all that it knows of a message, some messages only when it may.
struct Mirror;

/// One permit lets one message go on.
struct Door {
    open: Semaphore,
}

#[handlers(name = "mirror")]
impl Mirror {
    #[request]
    async fn look(&self, context: Context, session: Session, body: Bytes) -> Json<Value> {
        let uid = session.uid().map(|uid| uid.to_string()).ok();
        Json(json!({
            "session": session.id().get(),
            "uid": uid,
            "data": session.data(),
            "frontend": session.frontend().map(ToString::to_string),
            "message": context.message_id(),
            "body": String::from_utf8_lossy(&body),
        }))
    }

    #[request]
    async fn wait(&self, context: Context, door: State<Door>) -> Json<u64> {
        door.open.acquire().await.unwrap().forget();
        Json(context.message_id())
    }
}

fn mirrored(builder: ServerBuilder) -> (ServerBuilder, Arc<Door>) {
    let door = Arc::new(Door { open: Semaphore::new(0) });
    (builder.handlers(Mirror).shared_state(Arc::clone(&door)), door)
}

/// Writes down which routes it was put around, and counts the chains that there are.
#[derive(Clone, Default)]
struct Witness(Events, Arc<()>);

impl Witness {
    fn alive(&self) -> usize {
        Arc::strong_count(&self.1) - 2
    }
}

impl Layer for Witness {
    fn layer(&self, route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        self.0.add(route.as_str());
        Arc::new(Witnessed(inner, Arc::clone(&self.1)))
    }
}

struct Witnessed(Arc<dyn Endpoint>, #[allow(dead_code, reason = "it is counted")] Arc<()>);

impl Endpoint for Witnessed {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        self.0.call(request)
    }
}

/// Clients that invent routes take nothing from those that are used: their layers are made once, and keep what they count.
async fn invented_routes_do_not_push_out_what_is_used(world: &World) {
    let (shared, witness) = (Arc::<Shared>::default(), Witness::default());
    let gate = Node::start(world.gate("g1").forward_layer(witness.clone()), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    for number in 0..3_000 {
        assert!(request(&mut raw, &format!("room.room.invented{number}"), "").await.is_err());
        // The first time is late: the table is full of inventions by then.
        if number >= 1_500 && number % 100 == 0 {
            assert!(request(&mut raw, "room.room.who", "").await.is_ok());
        }
    }
    assert_eq!(witness.0.count("room.room.who"), 1);
}

/// However many routes are invented between two uses of a real one, and however often, it stays and they go.
async fn a_route_that_was_answered_stays_whatever_is_invented_until_its_next_use(world: &World) {
    let (shared, witness) = (Arc::<Shared>::default(), Witness::default());
    let gate = Node::start(world.gate("g1").forward_layer(witness.clone()), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    for round in 0..3 {
        assert!(request(&mut raw, "room.room.who", "").await.is_ok());
        // One that fails is as good as invented.
        assert!(request(&mut raw, "room.room.fail", "").await.is_err());
        for number in 0..2_500 {
            assert!(request(&mut raw, &format!("room.room.invented{round}x{number}"), "").await.is_err());
        }
        assert!(witness.alive() <= 2 * 1_000 + 1, "{} chains", witness.alive());
    }
    assert_eq!((witness.0.count("room.room.who"), witness.0.count("room.room.fail")), (1, 3));
}

/// The type of the route decides; without a type, and with that of this server, a message stays here.
async fn the_first_part_of_the_route_says_where_a_message_goes(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = world.gate("g1").handlers(Room).shared_state(Arc::clone(&shared));
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    for (route, server) in [("room.room.who", "r1"), ("gate.room.who", "g1"), ("room.who", "g1")] {
        assert_eq!(request(&mut raw, route, "").await.unwrap()["server"], server, "{route}");
    }
}

/// F064: the backend knows whose message it is, and which; the answer finds its connection and its request, in any order.
async fn what_a_backend_knows_of_a_message(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let (room, door) = mirrored(world.room("r1", &shared));
    let room = Node::start(room, false).await;
    acquainted(&[&gate, &room]).await;
    let (mut ada, mut bob) = (gate.client().await, gate.client().await);
    assert!(request(&mut bob, "room.room.bind", "\"bob\"").await.is_ok());
    assert!(request(&mut bob, "room.room.set", "{\"level\":7,\"ipversion\":null}").await.is_ok());
    assert!(request(&mut ada, "room.room.set", "{\"ipversion\":null}").await.is_ok());

    // Ids of clients are theirs: both use the same, also one that needs all bits.
    for id in [5, u64::from(u32::MAX), 1 << 62] {
        for (raw, session, uid, data) in
            [(&mut ada, 1, None, json!({})), (&mut bob, 2, Some("bob"), json!({"level": 7}))]
        {
            raw.send_message(&Message::request(id, "room.mirror.look", "knock")).await;
            let answer = soon("an answer", raw.message()).await.unwrap();
            let seen: Value = serde_json::from_slice(&answer.body).unwrap();
            let expected =
                json!({"session": session, "uid": uid, "data": data, "frontend": "g1", "message": id, "body": "knock"});
            assert_eq!((answer.id, seen), (id, expected));
        }
    }

    // Those that wait are answered after those that do not, each to who has asked.
    for (raw, id) in [(&mut ada, 10), (&mut bob, 10)] {
        raw.send_message(&Message::request(id, "room.mirror.wait", "")).await;
        raw.send_message(&Message::request(id + 1, "room.mirror.look", "")).await;
        assert_eq!(soon("the second", raw.message()).await.unwrap().id, id + 1);
    }
    door.open.add_permits(2);
    for raw in [&mut ada, &mut bob] {
        let answer = soon("the first", raw.message()).await.unwrap();
        assert_eq!((answer.id, &answer.body[..]), (10, &b"10"[..]));
    }
}

/// Sends the same request so often, a hundred at a time, and returns how often each answer came.
async fn answers(raw: &mut Raw<DuplexStream>, route: &str, count: u64) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    for from in (0..count).step_by(100) {
        for id in from + 1..=from + 100 {
            raw.send_message(&Message::request(id, route, "")).await;
        }
        for _ in 0..100 {
            let answer = soon("an answer", raw.message()).await.unwrap();
            assert!(!answer.error, "{answer:?}");
            *seen.entry(String::from_utf8_lossy(&answer.body).into_owned()).or_default() += 1;
        }
    }
    seen
}

/// F031: each of three gets a third, within a tenth.
async fn without_a_router_all_servers_of_a_type_get_the_same_share(world: &World) {
    // So many that a share is never off by a tenth, six times as far as is usual.
    const CALLS: u64 = 9_000;
    let shared = Arc::<Shared>::default();
    let mut nodes = vec![Node::start(world.gate("g1"), true).await];
    for id in ["r1", "r2", "r3"] {
        nodes.push(Node::start(world.room(id, &shared), false).await);
    }
    let all: Vec<_> = nodes.iter().collect();
    acquainted(&all).await;
    let mut raw = nodes[0].client().await;
    let seen = answers(&mut raw, "room.room.who", CALLS).await;
    let near = |count: &u64| (CALLS / 3 * 9 / 10..=CALLS / 3 * 11 / 10).contains(count);
    assert!(seen.len() == 3 && seen.values().all(near), "{seen:?}");
}

/// F102: what a forwarded message needs is gone when it has been answered.
async fn ten_thousand_forwarded_requests_leave_nothing_behind(world: &World) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    answers(&mut raw, "room.room.echo", 100).await;
    // What began with the first requests and ends by itself.
    tokio::time::sleep(Duration::ZERO).await;
    let before = tasks();
    answers(&mut raw, "room.room.echo", 10_000).await;
    eventually("no task is left", || tasks() <= before).await;
    // Each of a thousand clients that come, ask and go leaves nothing either.
    for _ in 0..1_000 {
        let mut raw = gate.client().await;
        assert_eq!(request(&mut raw, "room.room.echo", "1").await, Ok(json!(1)));
    }
    eventually("no task is left", || tasks() <= before).await;
}

in_each_world!(
    invented_routes_do_not_push_out_what_is_used,
    a_route_that_was_answered_stays_whatever_is_invented_until_its_next_use,
    the_first_part_of_the_route_says_where_a_message_goes,
    what_a_backend_knows_of_a_message,
    without_a_router_all_servers_of_a_type_get_the_same_share,
    ten_thousand_forwarded_requests_leave_nothing_behind,
);
