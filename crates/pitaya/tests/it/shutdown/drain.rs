//! Waiting for the clients to go before a stop closes them.

use std::{future::IntoFuture as _, io};

use pitaya::{CloseReason, settings};
use pitaya_protocol::Message;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, sleep},
};

use super::{Scene, scene_with, secs, until_kicked, wait};
use crate::support::{Pipes, desk, eventually, logs, soon};

async fn draining(timeout: Duration) -> Scene {
    let drains = scene_with(|builder| {
        builder
            .set(&settings::DRAIN_ENABLED, true)
            .set(&settings::DRAIN_TIMEOUT, timeout)
            .set(&settings::DRAIN_PERIOD, secs(20))
            // Clients that send nothing for long are no matter here.
            .set(&settings::HEARTBEAT_INTERVAL, secs(3600))
    });
    drains.await
}

#[tokio::test(start_paused = true)]
async fn a_draining_server_serves_the_clients_it_has_until_they_have_gone() {
    let mut scene = draining(secs(3600)).await;
    let (mut ada, _) = scene.joined("ada").await;
    let bob = scene.server.pipes.established().await;
    let start = Instant::now();
    scene.server.begin_stop();
    sleep(secs(600)).await;
    drop(bob);
    assert!(!scene.server.app.is_ready());
    let refused = TcpStream::connect(scene.server.tcp).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);

    // Who stays is served as ever.
    scene.shared.gate.add_permits(1);
    ada.send_message(&wait(1)).await;
    assert_eq!(ada.message().await.unwrap().route, "late");
    assert_eq!(ada.message().await, Some(Message::response(1, "1")));

    // The last one that goes ends it, and nobody was kicked.
    drop(ada);
    scene.server.stop().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 600);
    assert_eq!(scene.reasons.lock().unwrap()[..], [CloseReason::ClientClosed; 2]);
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_go_in_time_are_answered_and_kicked() {
    let mut scene = draining(secs(90)).await;
    let mut raw = scene.server.pipes.established().await;
    raw.send_message(&wait(1)).await;
    eventually("the handler runs", || scene.shared.entered() == 1).await;
    let start = Instant::now();
    scene.server.begin_stop();
    sleep(secs(89)).await;
    raw.send_message(&wait(2)).await;
    eventually("it is still read", || scene.shared.entered() == 2).await;
    sleep(secs(2)).await;
    raw.send_message(&wait(3)).await;
    scene.shared.gate.add_permits(3);
    assert_eq!(until_kicked(&mut raw).await, (vec![1, 2], vec![1, 2]));
    assert_eq!(start.elapsed().as_secs(), 91);
    drop(raw);
    scene.server.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_need_not_drain_closes_its_clients_at_once() {
    let mut scene = scene_with(|builder| builder.set(&settings::DRAIN_TIMEOUT, secs(90))).await;
    let mut raw = scene.server.pipes.established().await;
    let start = Instant::now();
    scene.server.begin_stop();
    assert_eq!(until_kicked(&mut raw).await, (vec![], vec![]));
    drop(raw);
    scene.server.stop().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn how_many_clients_are_waited_for_is_logged_each_period() {
    let (logged, _guard) = logs();
    let scene = draining(secs(50)).await;
    let mut raw = scene.server.pipes.established().await;
    let leaves = async move { while raw.packet_but_heartbeat().await.is_some() {} };
    let (stopped, ()) = tokio::join!(scene.server.stop(), leaves);
    stopped.unwrap();
    let lines: Vec<_> = logged.all().into_iter().filter(|line| line.contains("sessions=")).collect();
    let waits = "INFO waiting for clients to go sessions=1";
    assert_eq!(lines, [waits, waits, waits, "WARN clients did not go in time sessions=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_the_drain_and_handlers_still_have_their_grace() {
    let mut scene = draining(secs(3600)).await;
    let mut raw = scene.server.pipes.established().await;
    raw.send_message(&wait(1)).await;
    eventually("the handler runs", || scene.shared.entered() == 1).await;
    let start = Instant::now();
    scene.server.begin_stop();
    sleep(secs(60)).await;
    scene.server.hurry();
    sleep(secs(2)).await;
    scene.shared.gate.add_permits(1);
    assert_eq!(until_kicked(&mut raw).await, (vec![1], vec![1]));
    assert_eq!(start.elapsed().as_secs(), 62);
    drop(raw);
    scene.server.stop().await.unwrap();
}

/// The real signal, which this process sends to itself.
fn terminate() {
    let sent = std::process::Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn the_signals_of_the_process_stop_and_hurry() {
    let (pipes, acceptor) = Pipes::new();
    let server = desk()
        .acceptor(acceptor)
        .set(&settings::DRAIN_ENABLED, true)
        .set(&settings::HEARTBEAT_INTERVAL, secs(3600))
        .build()
        .unwrap();
    let app = server.app();
    let serving = tokio::task::spawn(server.serve().with_signals().into_future());
    // It listens for signals from then on.
    soon("it has started", app.ready()).await;
    let mut raw = pipes.established().await;
    terminate();
    eventually("it stops", || !app.is_ready()).await;
    raw.send_message(&Message::request(1, "desk.echo", "served")).await;
    assert_eq!(raw.message().await, Some(Message::response(1, "served")));
    terminate();
    assert_eq!(until_kicked(&mut raw).await, (vec![], vec![]));
    drop(raw);
    soon("it has stopped", serving).await.unwrap().unwrap();
}
