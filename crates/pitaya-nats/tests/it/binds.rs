//! Binds say when they were, beside the message: its bytes are those of every Pitaya.

use std::time::Duration;

use async_nats::client::RequestErrorKind::NoResponders;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use pitaya_core::cluster::{RpcClient as _, RpcServer as _, Topic};
use pitaya_fixtures::Nats;

use crate::support::{Node, eventually, soon, uid};

/// The message of protocol.md 5.4 for the user u1 on the frontend c1.
const BIND: &[u8] = b"\x0a\x02u1\x12\x02c1";

#[tokio::test]
async fn the_time_of_a_bind_travels_in_a_header_and_is_none_where_there_is_none() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let go = async_nats::connect(nats.url()).await.unwrap();
    let mut binds = go.subscribe("pitaya/connector/bindings").await.unwrap();
    go.flush().await.unwrap();
    // An answer proves that NATS knows of the subscription.
    soon(go.request("pitaya/servers/connector/c1", "known".into())).await.unwrap();
    let kind = "connector".try_into().unwrap();
    soon(c1.client.publish(Topic::Bindings(&kind, u64::MAX), Bytes::from_static(BIND))).await.unwrap();
    let seen = soon(binds.next()).await.unwrap();
    assert_eq!((&seen.payload[..], seen.reply), (BIND, None));
    assert_eq!(seen.headers.unwrap().get("Pitaya-Bound").unwrap().as_str(), "18446744073709551615");

    // From a Go server, and from one that says nonsense.
    go.publish("pitaya/connector/bindings", Bytes::from_static(BIND)).await.unwrap();
    let mut nonsense = async_nats::HeaderMap::new();
    nonsense.insert("Pitaya-Bound", "-1");
    go.publish_with_headers("pitaya/connector/bindings", nonsense, Bytes::from_static(BIND)).await.unwrap();
    eventually("all have come", || c1.seen.binds.lock().unwrap().len() == 3).await;
    assert_eq!(*c1.seen.bound_at.lock().unwrap(), [Some(u64::MAX), None, None]);
    assert!(c1.seen.binds.lock().unwrap().iter().all(|bind| bind == BIND));
}

/// Whoever gives up a bind may do so when the answer is there and has not been read.
#[tokio::test]
async fn a_bind_that_is_given_up_leaves_no_subscription() {
    let nats = Nats::start().await;
    let c1 = Node::start("connector", "c1", &nats.url()).await;
    let go = async_nats::connect(nats.url()).await.unwrap();
    // NATS says at once if nobody is subscribed; a subscriber does not answer.
    let is_heard = async || {
        let asking = go.request("pitaya/connector/user/ada/push", Bytes::new());
        let answer = tokio::time::timeout(Duration::from_millis(300), asking).await;
        !answer.is_ok_and(|answer| answer.is_err_and(|error| error.kind() == NoResponders))
    };
    let ada = uid("ada");
    let mut binding = c1.server.subscribe(&ada);
    assert!((&mut binding).now_or_never().is_none());
    // Twice, so that the answer has come for sure.
    soon(async { while !(is_heard().await && is_heard().await) {} }).await;
    drop(binding);
    soon(async { while is_heard().await {} }).await;
    // One that is kept is not touched by that.
    c1.subscribe("ada").await;
    assert!(is_heard().await);
}
