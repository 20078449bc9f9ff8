//! F043, K75: one session for each user over all frontends of a type. The newer one stays, and exactly one if there is no
//! newer one.

use std::{sync::Arc, time::Duration};

use pitaya::{Bytes, Json, PacketKind, Result, ServerBuilder, Session, handlers};
use pitaya_protocol::Message;
use tokio::{io::DuplexStream, sync::Barrier, time::Instant};

use super::{Node, Shared, World, acquainted, in_each_world, request};
use crate::support::{Events, Raw, eventually};

struct Gate;

#[handlers(name = "gate")]
impl Gate {
    #[request]
    async fn login(&self, session: Session, Json(uid): Json<String>) -> Result<()> {
        session.bind(uid.as_str()).await
    }

    #[request]
    async fn echo(&self, body: Bytes) -> Bytes {
        body
    }
}

/// Lets two logins of ada, on any frontends, go on only when both sessions are bound and nobody has been told of either.
struct Together {
    both: Barrier,
    bound: Events,
}

impl Together {
    fn new() -> Arc<Self> {
        Arc::new(Self { both: Barrier::new(2), bound: Events::default() })
    }

    fn on(self: &Arc<Self>, builder: ServerBuilder) -> ServerBuilder {
        let this = Arc::clone(self);
        builder.handlers(Gate).on_after_bind(move |_, uid| {
            let this = Arc::clone(&this);
            async move {
                if uid.as_str() == "ada" {
                    this.both.wait().await;
                    this.bound.add("ada");
                }
                Ok(())
            }
        })
    }
}

async fn login(raw: &mut Raw<DuplexStream>, uid: &str) {
    assert!(request(raw, "gate.gate.login", &format!("{uid:?}")).await.is_ok());
}

/// Reads until the kick, and then the end.
async fn kicked(raw: &mut Raw<DuplexStream>) {
    while let Some(packet) = raw.packet_but_heartbeat().await {
        if packet.kind == PacketKind::Kick {
            assert_eq!(raw.packet().await, None);
            return;
        }
    }
    panic!("closed without a kick");
}

/// Reads until the first answer or the kick. Whether it was the kick.
async fn answered_or_kicked(raw: &mut Raw<DuplexStream>) -> bool {
    raw.packet_but_heartbeat().await.expect("an answer or a kick").kind == PacketKind::Kick
}

/// Waits until everything that `from` has told so far has been heard by `to`: binds of one server arrive in order.
async fn heard(from: &Node, to: &Node) {
    let mut older = to.client().await;
    login(&mut older, "fence").await;
    let mut newer = from.client().await;
    login(&mut newer, "fence").await;
    kicked(&mut older).await;
    drop(newer);
    eventually("the fence is gone", || from.app.session_of(&"fence".try_into().unwrap()).is_none()).await;
}

/// Both heard of each other, and one session is left, which is served. Then it goes, too.
async fn one_is_left(nodes: [&Node; 2], clients: [Raw<DuplexStream>; 2], gone: [bool; 2], uid: &str) {
    let has = |node: &Node| node.app.session_of(&uid.try_into().unwrap()).is_some();
    heard(nodes[0], nodes[1]).await;
    heard(nodes[1], nodes[0]).await;
    eventually("one goes", || !(has(nodes[0]) && has(nodes[1]))).await;
    let winner = usize::from(has(nodes[1]));
    let [mut winning, mut losing] = clients;
    if winner == 1 {
        std::mem::swap(&mut winning, &mut losing);
    }
    assert!(!gone[winner], "the session is there, and its client was kicked");
    if !gone[1 - winner] {
        kicked(&mut losing).await;
    }
    assert_eq!(request(&mut winning, "gate.gate.echo", "7").await.unwrap(), 7);
    assert!(has(nodes[winner]));
    drop(winning);
    eventually("nobody is left", || nodes.iter().all(|node| node.app.session_count() == 0)).await;
}

fn rounds(world: &World) -> usize {
    if matches!(world, World::Bus(_)) { 200 } else { 60 }
}

async fn two_logins_in_one_moment_leave_exactly_one_session(world: &World) {
    let together = Together::new();
    let one = Node::start(together.on(world.gate("g1")), true).await;
    let two = Node::start(together.on(world.gate("g2")), true).await;
    acquainted(&[&one, &two]).await;
    for round in 1..=rounds(world) {
        let mut clients = [one.client().await, two.client().await];
        for raw in &mut clients {
            raw.send_message(&Message::request(1_000_000, "gate.gate.login", "\"ada\"")).await;
        }
        eventually("both are bound", || together.bound.all().len() == 2 * round).await;
        one_is_left([&one, &two], clients, [false; 2], "ada").await;
    }
}

/// As they come: now and then one bind hears of the other in the middle.
async fn logins_by_backends_at_any_distance_leave_exactly_one_session(world: &World) {
    let shared = Arc::<Shared>::default();
    let one = Node::start(world.gate("g1").handlers(Gate), true).await;
    let two = Node::start(world.gate("g2").handlers(Gate), true).await;
    let room = Node::start(world.room("r1", &shared), false).await;
    acquainted(&[&one, &two, &room]).await;
    for round in 0..rounds(world) {
        let mut clients = [one.client().await, two.client().await];
        if round % 2 == 1 {
            clients.swap(0, 1);
        }
        for raw in &mut clients {
            raw.send_message(&Message::request(1_000_000, "room.room.bind", "\"bob\"")).await;
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
        }
        if round % 2 == 1 {
            clients.swap(0, 1);
        }
        let mut gone = [false; 2];
        for (raw, gone) in clients.iter_mut().zip(&mut gone) {
            *gone = answered_or_kicked(raw).await;
        }
        one_is_left([&one, &two], clients, gone, "bob").await;
    }
}

/// The old client has stopped reading, with a lot on its way to it.
async fn a_new_login_takes_the_place_of_a_dead_client_within_a_second(world: &World) {
    let one = Node::start(world.gate("g1").handlers(Gate), true).await;
    let two = Node::start(world.gate("g2").handlers(Gate), true).await;
    acquainted(&[&one, &two]).await;
    let uid = "ada".try_into().unwrap();
    let mut dead = one.client().await;
    login(&mut dead, "ada").await;
    let session = one.app.session_of(&uid).unwrap();
    session.push("onMuch", Bytes::from(vec![b' '; 1 << 20])).await.unwrap();
    let mut alive = two.client().await;
    let start = Instant::now();
    login(&mut alive, "ada").await;
    eventually("the dead client's session is gone", || one.app.session_of(&uid).is_none()).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(request(&mut alive, "gate.gate.echo", "7").await.unwrap(), 7);
    assert!(two.app.session_of(&uid).is_some());
}

in_each_world!(
    two_logins_in_one_moment_leave_exactly_one_session,
    logins_by_backends_at_any_distance_leave_exactly_one_session,
    a_new_login_takes_the_place_of_a_dead_client_within_a_second,
);
