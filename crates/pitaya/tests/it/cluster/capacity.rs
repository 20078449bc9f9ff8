//! K16, K29 and F055 through the whole engine: how many calls of other servers run, wait, and are refused.

use std::sync::Arc;

use pitaya::{Result, ServerBuilder, extract::State, handlers, remotes};
use pitaya_protocol::Message;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{Node, Shared, World, acquainted, number};
use crate::support::{Events, Recorder, eventually, soon};

/// How many run at once, and how many wait besides.
const RUNNING: usize = 2;
const WAITING: usize = 3;

/// How many more there are than may be.
const MORE: usize = 4;

/// Holds all calls until the test lets them go.
struct Doors {
    entered: Events,
    open: Semaphore,
}

impl Doors {
    async fn pass(&self) -> Result<()> {
        self.entered.add("one");
        self.open.acquire().await.unwrap().forget();
        Ok(())
    }

    fn entered(&self) -> usize {
        self.entered.all().len()
    }
}

struct Hall;

#[handlers(name = "hall")]
impl Hall {
    #[request]
    async fn enter(&self, doors: State<Doors>) -> Result<()> {
        doors.pass().await
    }
}

#[remotes(name = "hall")]
impl Hall {
    #[remote]
    async fn visit(&self, doors: State<Doors>) -> Result<()> {
        doors.pass().await
    }
}

async fn start(world: &World) -> (Arc<Doors>, Recorder, Node, Node) {
    let doors = Arc::new(Doors { entered: Events::default(), open: Semaphore::new(0) });
    let (recorder, shared) = (Recorder::default(), Arc::<Shared>::default());
    let room: ServerBuilder = world
        .room("r1", &shared)
        .handlers(Hall)
        .remotes(Hall)
        .shared_state(Arc::clone(&doors))
        .reporter(recorder.clone())
        .set_text("pitaya.concurrency.remote.service", RUNNING.to_string())
        .set_text("pitaya.buffer.cluster.grpc.server.nats.messages", WAITING.to_string());
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(room, false).await;
    acquainted(&[&gate, &room]).await;
    (doors, recorder, gate, room)
}

/// As many as may be have begun; each that ends lets one more begin, until all that were taken have.
async fn go_through_one_by_one(doors: &Doors) {
    for ended in 1..=WAITING {
        doors.open.add_permits(1);
        eventually("one more begins", || doors.entered() == RUNNING + ended).await;
    }
    doors.open.add_permits(RUNNING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k16_k29_remotes_run_wait_and_are_refused() {
    let world = World::network().await;
    let (doors, recorder, gate, _room) = start(&world).await;
    let mut calls = JoinSet::new();
    for _ in 0..RUNNING + WAITING + MORE {
        let app = gate.app.clone();
        calls.spawn(async move { app.rpc("room.hall.visit", number(0)).reply::<()>().await });
    }
    // What is refused is told at once, while all others are held.
    for _ in 0..MORE {
        let refused = soon("a refusal", calls.join_next()).await.unwrap().unwrap();
        assert_eq!(refused.unwrap_err().code(), "PIT-429");
    }
    eventually("as many run as may", || doors.entered() == RUNNING).await;
    assert_eq!(recorder.value("rpc_server.dropped_messages"), MORE as i64);
    go_through_one_by_one(&doors).await;
    for _ in 0..RUNNING + WAITING {
        soon("an answer", calls.join_next()).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(doors.entered(), RUNNING + WAITING);
    // There is room again.
    doors.open.add_permits(1);
    gate.app.rpc("room.hall.visit", number(0)).reply::<()>().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k16_k29_messages_of_clients_run_wait_and_are_refused() {
    let world = World::network().await;
    let (doors, recorder, gate, _room) = start(&world).await;
    let mut clients = Vec::new();
    for _ in 0..RUNNING + WAITING + MORE {
        let mut raw = gate.client().await;
        raw.send_message(&Message::request(1, "room.hall.enter", "")).await;
        clients.push(raw);
    }
    eventually("those are refused who are too many", || {
        recorder.value("rpc_server.dropped_messages") == MORE as i64 && doors.entered() == RUNNING
    })
    .await;
    go_through_one_by_one(&doors).await;
    let mut refused = Vec::new();
    for raw in &mut clients {
        let answer = soon("an answer", raw.message()).await.unwrap();
        if answer.error {
            refused.push(serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["code"].clone());
        }
    }
    assert_eq!(refused, ["PIT-429"; MORE]);
    assert_eq!(doors.entered(), RUNNING + WAITING);
}
