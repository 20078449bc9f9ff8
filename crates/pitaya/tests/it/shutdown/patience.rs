//! For whom a stop waits, and for how long.

use std::sync::atomic::Ordering;

use pitaya::{CloseReason, Json, Result, ServeError, settings};
use pitaya_protocol::Message;
use tokio::time::{Instant, sleep};

use super::{join, scene, scene_with, secs, until_kicked, wait};
use crate::support::{Events, eventually};

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_cut_off_at_the_grace_period() {
    let mut scene = scene_with(|builder| builder.set(&settings::SHUTDOWN_GRACE, secs(4))).await;
    let mut raw = scene.server.pipes.established().await;
    raw.send_message(&Message::request(1, "hall.forever", "")).await;
    raw.send_message(&wait(2)).await;
    eventually("both run", || scene.shared.entered() == 2).await;
    let start = Instant::now();
    scene.server.begin_stop();
    // The other one is answered, and the client is told in the end.
    sleep(secs(3)).await;
    scene.shared.gate.add_permits(1);
    assert_eq!(until_kicked(&mut raw).await, (vec![2], vec![2]));
    assert_eq!(start.elapsed().as_secs(), 4);
    drop(raw);
    let stopped = scene.server.stop().await;
    assert!(matches!(stopped, Err(ServeError::NotDrained { count: 1 })), "{stopped:?}");
    assert_eq!(start.elapsed().as_secs(), 4);
    assert_eq!(scene.gone.load(Ordering::SeqCst), 2, "its future is dropped");
    assert_eq!(*scene.reasons.lock().unwrap(), [CloseReason::Shutdown]);
}

/// Who closes first while others run must not take their time from them.
#[tokio::test(start_paused = true)]
async fn handlers_of_a_client_that_leaves_during_the_stop_have_their_grace() {
    let mut scene = scene().await;
    let mut raw = scene.server.pipes.established().await;
    for id in 1..=2 {
        raw.send_message(&wait(id)).await;
    }
    eventually("both run", || scene.shared.entered() == 2).await;
    scene.server.begin_stop();
    sleep(secs(1)).await;
    drop(raw);
    // What the first writes finds nobody.
    scene.shared.gate.add_permits(1);
    eventually("the session has closed", || scene.server.app.session_count() == 0).await;
    sleep(secs(3)).await;
    assert_eq!(scene.shared.finished(), 1);
    scene.shared.gate.add_permits(1);
    scene.server.stop().await.unwrap();
    assert_eq!(scene.shared.finished(), 2);
}

/// Handlers whose client left before the stop are no less waited for.
#[tokio::test(start_paused = true)]
async fn handlers_of_a_client_that_has_left_are_waited_for() {
    let mut scene = scene().await;
    let mut raw = scene.server.pipes.established().await;
    raw.send_message(&wait(1)).await;
    eventually("it runs", || scene.shared.entered() == 1).await;
    drop(raw);
    eventually("the session has closed", || scene.server.app.session_count() == 0).await;
    let start = Instant::now();
    scene.server.begin_stop();
    sleep(secs(3)).await;
    scene.shared.gate.add_permits(1);
    scene.server.stop().await.unwrap();
    assert_eq!((scene.shared.finished(), start.elapsed().as_secs()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_does_not_hold_up_the_stop() {
    let scene =
        scene_with(|builder| builder.set(&settings::SHUTDOWN_GRACE, secs(4)).set(&settings::WRITE_TIMEOUT, secs(3)))
            .await;
    let mut raw = scene.server.pipes.raw_with(1).await;
    raw.shake_hands().await;
    join(&mut raw, "ada").await;
    scene.session("ada").push("n", Json("more than a byte")).await.unwrap();
    let start = Instant::now();
    scene.server.stop().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    drop(raw);
}

/// A task of the application is waited for as long as the grace period says, and then named as the reason.
#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_end_is_an_error() {
    let scene =
        scene_with(|builder| builder.set(&settings::SHUTDOWN_GRACE, secs(4)).set(&settings::WRITE_TIMEOUT, secs(3)))
            .await;
    let tasks = scene.server.app.tasks().clone();
    let stopping = tasks.stopping().clone();
    tasks.spawn("well-behaved", async move { stopping.cancelled().await });
    tasks.spawn("stuck", std::future::pending());
    let start = Instant::now();
    let stopped = scene.server.stop().await;
    assert!(matches!(stopped, Err(ServeError::NotDrained { count: 1 })), "{stopped:?}");
    assert_eq!(start.elapsed().as_secs(), 4);
}

/// Clients that do not close their end are not waited for long.
#[tokio::test(start_paused = true)]
async fn clients_that_ignore_the_kick_are_not_waited_for() {
    let scene = scene().await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(scene.server.pipes.established().await);
    }
    let start = Instant::now();
    scene.server.stop().await.unwrap();
    assert!(start.elapsed() <= secs(1), "{:?}", start.elapsed());
    for raw in &mut clients {
        assert_eq!(until_kicked(raw).await, (vec![], vec![]));
    }
}

/// Tells when the components stop.
struct Last(Events);

impl pitaya::Lifecycle for Last {
    async fn before_shutdown(&self, _app: &pitaya::App) -> Result<()> {
        self.0.add("before_shutdown");
        Ok(())
    }
}

/// Each callback of a close has a bound of its own, and a stop waits for all of them.
#[tokio::test(start_paused = true)]
async fn components_stop_after_the_last_callback_of_a_close() {
    let events = Events::default();
    let mut scene = scene_with(|mut builder| {
        builder = builder.module("last", Last(events.clone()));
        for _ in 0..4 {
            let told = events.clone();
            builder = builder.on_close(move |_, _| {
                let told = told.clone();
                async move {
                    sleep(secs(9)).await;
                    told.add("closed");
                }
            });
        }
        builder
    })
    .await;
    let (raw, session) = scene.joined("ada").await;
    for _ in 0..2 {
        let told = events.clone();
        session
            .on_close(async move |_| {
                sleep(secs(9)).await;
                told.add("own");
            })
            .unwrap();
    }
    scene.server.begin_stop();
    drop(raw);
    scene.server.stop().await.unwrap();
    assert_eq!(events.all(), ["own", "own", "closed", "closed", "closed", "closed", "before_shutdown"]);
}
