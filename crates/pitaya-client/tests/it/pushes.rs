//! Subscriptions.

use futures_util::StreamExt;
use pitaya_client::{Client, Pushes};
use pitaya_protocol::{Message, PacketKind};
use tokio::io::DuplexStream;

use crate::support::{ACCEPTED, Peer, builder, data, end_of, packet, piped, soon};

/// Sends pushes and waits until the client has taken them in.
async fn push(client: &Client, peer: &mut Peer<DuplexStream>, pushes: &[(&str, &'static str)]) {
    for (route, body) in pushes {
        peer.send(&data(&Message::push(*route, *body))).await;
    }
    let asked = client.request_bytes("a.b", "");
    let server = async {
        let id = peer.message().await.unwrap().id;
        peer.send(&data(&Message::response(id, ""))).await;
    };
    let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
    answer.unwrap();
}

fn bodies(pushes: &mut Pushes) -> Vec<String> {
    std::iter::from_fn(|| pushes.try_next()).map(|push| String::from_utf8(push.body.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn every_subscription_gets_its_own_copy() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let (mut all, mut a, mut again) = (client.pushes(), client.on("a"), client.on("a"));
    push(&client, &mut peer, &[("a", "1"), ("b", "2"), ("a", "3")]).await;
    assert_eq!(bodies(&mut all), ["1", "2", "3"]);
    assert_eq!(bodies(&mut a), ["1", "3"]);
    assert_eq!(bodies(&mut again), ["1", "3"]);
    drop(all);
    push(&client, &mut peer, &[("a", "4")]).await;
    assert_eq!(bodies(&mut a), ["4"]);
}

#[tokio::test]
async fn pushes_wait_for_their_subscription() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    push(&client, &mut peer, &[("a", "1"), ("b", "2"), ("a", "3")]).await;
    assert_eq!(bodies(&mut client.on("c")), [""; 0]);
    assert_eq!(bodies(&mut client.on("a")), ["1", "3"]);
    assert_eq!(bodies(&mut client.pushes()), ["2"]);
    assert_eq!(bodies(&mut client.pushes()), [""; 0]);
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_counts_them_and_does_not_hold_up_answers() {
    let (client, mut peer) = piped(builder().push_capacity(2), ACCEPTED).await;
    let (mut all, mut b) = (client.pushes(), client.on("b"));
    let sent = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")];
    push(&client, &mut peer, &sent).await;
    assert_eq!((all.lagged(), b.lagged()), (2, 0));
    assert_eq!(bodies(&mut all), ["1", "2"]);
    assert_eq!(bodies(&mut b), ["4"]);
    push(&client, &mut peer, &[("a", "5")]).await;
    assert_eq!(bodies(&mut all), ["5"]);
    assert_eq!(all.lagged(), 2);
}

#[tokio::test]
async fn queues_are_bounded_by_bytes_too() {
    let (client, mut peer) = piped(builder().push_bytes(1000), ACCEPTED).await;
    let mut pushes = client.pushes();
    let big = "x".repeat(2000);
    let big: &'static str = big.leak();
    push(&client, &mut peer, &[("a", big), ("a", "2"), ("a", "3")]).await;
    // One is taken however big it is.
    assert_eq!(bodies(&mut pushes), [big]);
    assert_eq!(pushes.lagged(), 2);
}

#[tokio::test]
async fn unclaimed_pushes_are_bounded() {
    let (client, mut peer) = piped(builder().push_capacity(2), ACCEPTED).await;
    push(&client, &mut peer, &[("a", "1"), ("a", "2"), ("a", "3")]).await;
    let mut pushes = client.pushes();
    assert_eq!(bodies(&mut pushes), ["1", "2"]);
    assert_eq!(pushes.lagged(), 1);
}

#[tokio::test]
async fn a_subscription_is_a_stream_that_ends_with_the_client() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let pushes = client.pushes();
    let parts = [data(&Message::push("a", "1")), data(&Message::push("a", "2")), packet(PacketKind::Kick, b"")];
    peer.send(&parts.concat()).await;
    let all: Vec<_> = soon(pushes.map(|push| push.body).collect()).await;
    assert_eq!(all, ["1", "2"]);
    end_of(&client).await;
    assert_eq!(soon(client.pushes().next()).await, None);
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let mut pushes = client.pushes();
    let waiting = tokio::spawn(async move { (pushes.next().await, pushes.next().await) });
    tokio::task::yield_now().await;
    push(&client, &mut peer, &[("a", "1")]).await;
    client.close();
    let (first, second) = soon(waiting).await.unwrap();
    assert_eq!(first.unwrap().body, "1");
    assert_eq!(second, None);
}
