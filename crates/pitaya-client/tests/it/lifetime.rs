//! How a client ends, and that nothing is left of it.

use std::time::Duration;

use pitaya_client::{CloseReason, RequestError, State};
use pitaya_protocol::PacketKind;
use tokio::time::Instant;

use crate::support::{ACCEPTED, Peer, builder, end_of, no_tasks_left, piped, soon, waits, web};

#[tokio::test]
async fn dropping_the_last_clone_sends_what_is_queued_closes_and_ends_the_task() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let pushes = client.pushes();
    let clone = client.clone();
    for _ in 0..100 {
        client.notify_bytes("a.b", "").await.unwrap();
    }
    drop(client);
    clone.notify_bytes("a.last", "").await.unwrap();
    drop(clone);
    for _ in 0..100 {
        assert_eq!(soon(peer.message()).await.unwrap().route, "a.b");
    }
    assert_eq!(soon(peer.message()).await.unwrap().route, "a.last");
    assert_eq!(soon(peer.packet()).await, None);
    no_tasks_left().await;
    drop(pushes);
}

#[tokio::test]
async fn close_sends_what_is_queued_and_fails_what_is_in_flight() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let request = client.request_bytes("a.b", "");
    tokio::pin!(request);
    assert!(waits(request.as_mut()).await);
    assert_eq!(soon(peer.message()).await.unwrap().route, "a.b");
    client.notify_bytes("a.last", "").await.unwrap();
    client.close();
    client.close();
    for result in [
        soon(request).await.map(drop),
        soon(client.request_bytes("a.b", "")).await.map(drop),
        soon(client.notify_bytes("a.b", "")).await,
    ] {
        assert!(matches!(result, Err(RequestError::Closed(CloseReason::ClientClosed))));
    }
    assert_eq!(soon(peer.message()).await.unwrap().route, "a.last");
    assert_eq!(soon(peer.packet()).await, None);
    assert!(matches!(end_of(&client).await, CloseReason::ClientClosed));
    assert!(matches!(client.state(), State::Closed(_)));
    assert!(client.connected().await.is_err());
    no_tasks_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_cannot_hold_up_the_close() {
    let (near, far) = tokio::io::duplex(1024);
    let mut peer = Peer::new(far);
    let (client, _) = tokio::join!(builder().connect_io(near), peer.welcome(ACCEPTED));
    let client = client.unwrap();
    client.notify_bytes("a.b", vec![0; 1 << 20]).await.unwrap();
    let started = Instant::now();
    client.close();
    assert!(matches!(client.closed().await, CloseReason::ClientClosed));
    assert!(started.elapsed() < Duration::from_millis(1010));
    no_tasks_left().await;
}

#[tokio::test]
async fn the_task_ends_when_the_server_closes() {
    let (client, peer) = piped(builder(), ACCEPTED).await;
    drop(peer);
    assert!(matches!(end_of(&client).await, CloseReason::ServerClosed));
    no_tasks_left().await;
}

#[tokio::test]
async fn a_websocket_client_ends_without_rest() {
    let (client, mut peer) = web(pitaya_client::Client::builder).await;
    client.notify_bytes("a.b", "").await.unwrap();
    drop(client);
    let last = soon(peer.packet()).await.unwrap();
    assert_eq!(last.kind, PacketKind::Data);
    // The close frame comes, then the end.
    assert_eq!(soon(peer.packet()).await, None);
    no_tasks_left().await;
}

#[test]
fn a_runtime_that_shuts_down_ends_the_client() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, _peer) = runtime.block_on(piped(builder(), ACCEPTED));
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        assert!(matches!(end_of(&client).await, CloseReason::Aborted));
        let answer = soon(client.request_bytes("a.b", "")).await;
        assert!(matches!(answer, Err(RequestError::Closed(CloseReason::Aborted))));
    });
}
