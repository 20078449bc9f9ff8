//! What a stop that does not drain cuts short, how clients are told of it, and what comes last.

use std::sync::Arc;

use pitaya::{
    BoxFuture, CloseReason, Reporter, ServeError,
    reporter::{Counter, Desc, Gauge, Histogram},
    settings,
};
use pitaya_protocol::Message;
use tokio::time::{Duration, Instant, sleep};

use super::{scene_with, secs, until_kicked, wait};
use crate::support::{Events, Recorder, desk, eventually, serve};

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_grace_period_of_handlers() {
    let mut scene = scene_with(|builder| builder.set(&settings::SHUTDOWN_GRACE, secs(600))).await;
    let mut stays = scene.server.pipes.established().await;
    let mut leaves = scene.server.pipes.established().await;
    for raw in [&mut stays, &mut leaves] {
        raw.send_message(&Message::request(1, "hall.forever", "")).await;
    }
    eventually("both run", || scene.shared.entered() == 2).await;
    let start = Instant::now();
    scene.server.begin_stop();
    sleep(secs(1)).await;
    drop(leaves);
    sleep(secs(30)).await;
    scene.server.hurry();
    assert_eq!(until_kicked(&mut stays).await, (vec![], vec![]));
    drop(stays);
    let stopped = scene.server.stop().await;
    assert!(matches!(stopped, Err(ServeError::NotDrained { count: 2 })), "{stopped:?}");
    assert_eq!(start.elapsed().as_secs(), 31);
}

#[tokio::test(start_paused = true)]
async fn without_the_kick_clients_are_closed_after_what_they_are_owed() {
    let mut scene = scene_with(|builder| builder.set(&settings::SHUTDOWN_KICK, false)).await;
    let mut raw = scene.server.pipes.established().await;
    raw.send_message(&wait(1)).await;
    eventually("the handler runs", || scene.shared.entered() == 1).await;
    scene.server.begin_stop();
    sleep(secs(1)).await;
    scene.shared.gate.add_permits(1);
    assert_eq!(raw.message().await.unwrap().route, "late");
    assert_eq!(raw.message().await, Some(Message::response(1, "1")));
    assert_eq!(raw.packet().await, None);
    drop(raw);
    scene.server.stop().await.unwrap();
    assert_eq!(scene.reasons.lock().unwrap()[..], [CloseReason::Shutdown]);
}

/// A reporter whose last values are asked for.
struct Flushed {
    recorder: Recorder,
    events: Events,
    ends: bool,
}

impl Reporter for Flushed {
    fn counter(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Counter> {
        self.recorder.counter(desc, labels)
    }

    fn gauge(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Gauge> {
        self.recorder.gauge(desc, labels)
    }

    fn histogram(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Histogram> {
        self.recorder.histogram(desc, labels)
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        let closed = self.recorder.value("session.closed{shutdown}");
        self.events.add(format!("flushed with {closed} closed"));
        Box::pin(async {
            if !self.ends {
                std::future::pending().await
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_reporter_hands_over_what_it_holds_at_the_end_and_is_not_waited_for_long() {
    for (ends, takes) in [(true, Duration::ZERO), (false, secs(3))] {
        let events = Events::default();
        let reporter = Flushed { recorder: Recorder::default(), events: events.clone(), ends };
        let server = serve(desk().reporter(reporter).set(&settings::WRITE_TIMEOUT, secs(3))).await;
        let mut raw = server.pipes.established().await;
        let start = Instant::now();
        let (stopped, _) = tokio::join!(server.stop(), async move { until_kicked(&mut raw).await });
        stopped.unwrap();
        assert_eq!(events.all(), ["flushed with 1 closed"]);
        assert_eq!(start.elapsed(), takes);
    }
}
