//! A server that has as many calls as it takes.

use std::time::Duration;

use pitaya::{Json, Result, Server, code, extract::State, handlers};
use pitaya_fixtures::{Etcd, Nats};
use pitaya_protocol::Message;
use tokio::{sync::Semaphore, time::Instant};

use super::{
    super::{Node, acquainted, request},
    Ground,
};
use crate::support::{Recorder, eventually, soon};

struct Slow;

#[handlers(name = "room")]
impl Slow {
    /// Waits until it is let go.
    #[request]
    async fn wait(&self, gate: State<Semaphore>, Json(number): Json<u64>) -> Result<Json<u64>> {
        gate.acquire().await.unwrap().forget();
        Ok(Json(number))
    }
}

/// One more call than a server takes is refused at once, with a code; those that were taken are answered, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_takes_calls_again_when_it_is_not_full() {
    let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
    let ground = Ground::new(etcd.address(), nats.address(), 10);
    let (gate, _) = ground.gate("g1").await;
    let recorder = Recorder::default();
    let builder = Server::backend("room")
        .handlers(Slow)
        .state(Semaphore::new(0))
        .reporter(recorder.clone())
        .set_text("pitaya.concurrency.remote.service", "2")
        .set_text("pitaya.buffer.cluster.rpc.server.nats.messages", "3");
    let room = Node::start(ground.of(builder), false).await;
    acquainted(&[&gate, &room]).await;
    let mut taken = gate.client().await;
    for id in 1..=5 {
        taken.send_message(&Message::request(id, "room.room.wait", id.to_string())).await;
    }
    let mut refused = gate.client().await;
    let start = Instant::now();
    // The five may still be on their way.
    let error = loop {
        let error = request(&mut refused, "room.room.nothing", "0").await.unwrap_err();
        if error["code"] == code::TOO_MANY {
            break error;
        }
        assert_eq!(error["code"], code::NOT_FOUND);
    };
    assert_eq!(error["code"], code::TOO_MANY);
    for _ in 0..100 {
        let error = request(&mut refused, "room.room.wait", "0").await.unwrap_err();
        assert_eq!(error["code"], code::TOO_MANY);
    }
    assert!(start.elapsed() < Duration::from_secs(4), "nobody waits for a time-out");
    let dropped = || recorder.value("rpc_server.dropped_messages");
    eventually("each is counted", || dropped() == 101).await;

    room.app.state::<Semaphore>().unwrap().add_permits(1_000);
    let mut answered = Vec::new();
    for _ in 0..5 {
        let answer = soon("an answer", taken.message()).await.unwrap();
        assert!(!answer.error && *answer.body == *answer.id.to_string().as_bytes(), "{answer:?}");
        answered.push(answer.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
    // A seat is free when its answer has been sent.
    for _ in 0..100 {
        assert!(request(&mut refused, "room.room.wait", "7").await.is_ok());
    }
    assert_eq!(dropped(), 101);
}
