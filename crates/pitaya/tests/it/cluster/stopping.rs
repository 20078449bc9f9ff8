//! How servers of a cluster stop: what they do for the others before, and for whom they do not wait.

use std::{future::IntoFuture as _, sync::Arc, time::Duration};

use pitaya::{Cluster, Server, cluster::Adapters};
use serde_json::json;
use tokio::sync::Notify;

use super::{
    Node, Room, Shared, World, acquainted, in_each_world,
    moments::{Blind, Gates, changed, slow},
    request,
};
use crate::support::{Pipes, eventually, soon};

/// A frontend that stops has left the list, and its clients are still there: their messages end as always.
async fn a_frontend_that_stops_is_there_for_the_handlers_of_its_clients(world: &World) {
    let gates = Arc::<Gates>::default();
    let mut gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(slow(world, "r1", &gates), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let asking = async {
        let answer = request(&mut raw, "room.slow.log_in", "").await;
        assert_eq!(answer, Ok(json!("in")));
        raw
    };
    let app = gate.app.clone();
    let stopping = async {
        gates.arrived(1).await;
        drop(gate.stop.take());
        eventually("the acceptors have ended", || gate.pipes.as_ref().unwrap().is_closed()).await;
        eventually("the frontend has left", || room.app.servers().len() == 1).await;
        let session = app.sessions().remove(0);
        gates.go.notify_waiters();
        eventually("the handler has logged in", || session.uid().is_ok()).await;
        session
    };
    let (_raw, session) = tokio::join!(asking, stopping);
    assert_eq!(session.get::<u8>("level").unwrap(), Some(7));
    soon("the stop", gate.serving).await.unwrap().unwrap();
    eventually("the backend has heard of the close", || gates.events.all() == ["closed 1"]).await;
}

/// A stop does not end before the backends have heard of it, one after the other or not.
async fn a_frontend_that_stops_tells_all_backends_of_its_sessions(world: &World) {
    const CLIENTS: usize = 20;
    let shared = [(); 3].map(|()| Arc::<Shared>::default());
    let gate = Node::start(world.gate("g1"), true).await;
    let mut backends = Vec::new();
    for (kind, shared) in ["room", "hall", "shop"].into_iter().zip(&shared) {
        let builder = world.of(Server::backend(kind)).handlers(Room).shared_state(Arc::clone(shared));
        backends.push(Node::start(builder, false).await);
    }
    acquainted(&[&gate, &backends[0], &backends[1], &backends[2]]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = gate.client().await;
        for kind in ["room", "hall", "shop"] {
            assert!(request(&mut raw, &format!("{kind}.room.watch"), "").await.is_ok());
        }
        clients.push(raw);
    }
    let stopping = gate.stop();
    let reading = async {
        for mut raw in clients {
            while raw.packet().await.is_some() {}
        }
    };
    let (stopped, ()) = tokio::join!(stopping, reading);
    stopped.unwrap();
    for shared in &shared {
        eventually("all are told", || shared.events.all().len() == CLIENTS).await;
    }
}

in_each_world!(
    a_frontend_that_stops_is_there_for_the_handlers_of_its_clients,
    a_frontend_that_stops_tells_all_backends_of_its_sessions,
);

/// A server that cannot register stops when it is told to.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_registration() {
    let never = changed(Cluster::in_process(), |adapters| Adapters {
        discovery: Arc::new(Blind { registers: false, ..Blind::new(adapters.discovery) }),
        ..adapters
    });
    let server = World::Bus(never).of(Server::backend("room")).build().unwrap();
    let serving = server.serve().with_graceful_shutdown(tokio::time::sleep(Duration::from_secs(1)));
    soon("the stop", serving.into_future()).await.unwrap();
}

/// Who has told a server to stop twice does not wait until the others know, nor for handlers.
#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_wait_for_other_servers() {
    let (bus, hour) = (Cluster::in_process(), Duration::from_secs(3_600));
    let slow = changed(bus.clone(), move |adapters| Adapters {
        discovery: Arc::new(Blind { spreading: hour, ..Blind::new(adapters.discovery) }),
        ..adapters
    });
    let other = Node::start(World::Bus(bus).of(Server::backend("hall")), false).await;
    let server = World::Bus(slow).of(Server::backend("room")).build().unwrap();
    let app = server.app();
    let serving = server
        .serve()
        .with_graceful_shutdown(tokio::time::sleep(Duration::from_secs(60)))
        .with_hurry(tokio::time::sleep(Duration::from_secs(120)));
    let (from, serving) = (tokio::time::Instant::now(), tokio::spawn(serving.into_future()));
    eventually("they know each other", || other.app.servers().len() == 2 && app.servers().len() == 2).await;
    serving.await.unwrap().unwrap();
    assert!(from.elapsed() < hour / 2, "{:?}", from.elapsed());
}

/// Neither etcd nor NATS answers, and a backend would have to be told of a close: who has told a server to stop twice does not
/// wait for any of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_stop_while_etcd_and_nats_do_not_answer() {
    let (world, shared) = (World::network().await, Arc::<Shared>::default());
    let (pipes, acceptor) = Pipes::new();
    let patient = world.gate("g1").set_text("pitaya.shutdown.graceperiod", "10m");
    let patient = patient.set_text("pitaya.cluster.sd.etcd.revoke.timeout", "10m");
    let patient = patient.set_text("pitaya.cluster.rpc.client.nats.requesttimeout", "10m");
    let server = patient.acceptor(acceptor).build().unwrap();
    let (app, stop, hurry) = (server.app(), Arc::<Notify>::default(), Arc::<Notify>::default());
    let serving = {
        let (stop, hurry) = (Arc::clone(&stop), Arc::clone(&hurry));
        let serve = server.serve().with_graceful_shutdown(async move { stop.notified().await });
        tokio::spawn(serve.with_hurry(async move { hurry.notified().await }).into_future())
    };
    let room = Node::start(world.room("r1", &shared), false).await;
    eventually("they know each other", || room.app.servers().len() == 2 && app.servers().len() == 2).await;
    let mut raw = pipes.established().await;
    assert!(request(&mut raw, "room.room.bind", "\"ada\"").await.is_ok());
    assert!(request(&mut raw, "room.room.watch", "").await.is_ok());
    let World::Network(both) = &world else { unreachable!() };
    both.0.freeze().await;
    both.1.freeze().await;
    stop.notify_one();
    eventually("the stop has begun", || !app.is_ready()).await;
    hurry.notify_one();
    let from = tokio::time::Instant::now();
    serving.await.unwrap().unwrap();
    let took = from.elapsed();
    both.0.thaw().await;
    both.1.thaw().await;
    assert!(took < Duration::from_secs(12), "{took:?}");
}
