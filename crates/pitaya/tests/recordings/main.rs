//! Recorded conversations of Go Pitaya clusters, with servers of ours in the place of the recorded ones, on real etcd and
//! NATS.
//!
//! What Go servers and clients said is said again, byte for byte; what our servers say is read by a proxy in front of NATS,
//! and compared with what Go said. Equal means all fields but ids, clock values, inboxes, span keys and metadata keys of our
//! own, and error codes instead of texts that quote Go's parsers. Each other difference that is wanted is a row of
//! `docs/compatibility.md`, which its test names.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "also in the helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the tasks of a test end with it")]

mod clients;
mod compare;
mod compatibility;
mod ghosts;
mod recording;
mod registration;
mod replay;
mod servers;
mod tap;
mod test;

use pitaya_client::{Client, RequestError};
use serde_json::{Value, json};
use test::{Act, Test};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_request_unbound() {
    Test::of("forward-request-unbound").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_request_bound() {
    Test::of("forward-request-bound").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_notify() {
    Test::of("forward-notify").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_errors() {
    Test::of("forward-errors").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forward_and_rpc_v3() {
    Test::of("forward-and-rpc-v3").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression() {
    Test::of("compression").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_serializer() {
    Test::of("protobuf-serializer")
        .without("serializer-mismatch", "handler whose argument is no protobuf message")
        .without(
            "serializer-mismatch",
            "handler whose result is no protobuf message (error payload without the error bit)",
        )
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn context_propagation() {
    Test::of("context-propagation")
        .with_users()
        .differs("numbers", &[2], "metadata.app-big")
        .differs("numbers", &[8], "metadata.app-num")
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_rpc() {
    Test::of("user-rpc").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_rpc_errors() {
    Test::of("user-rpc-errors").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_no_responders() {
    Test::of("rpc-no-responders").differs("not-delivered", &[7, 12], "body.metadata").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rpc_timeout() {
    const TIMEOUT: &str = "pitaya.cluster.rpc.client.nats.requesttimeout";
    Test::of("rpc-timeout").set("c1", TIMEOUT, "500ms").set("r1", TIMEOUT, "1500ms").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_bind() {
    Test::of("backend-bind").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_push_session() {
    Test::of("backend-push-session").client("A", "c1", "u1").differs("numbers", &[3], "msg.data.data.big").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn push_users() {
    Test::of("push-users").with_users().differs("frontend-type", &[35], "data.info.err").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_broadcast() {
    Test::of("group-broadcast").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kick() {
    Test::of("kick").with_users().run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_close() {
    Test::of("session-close").client("A2", "c1", "same-user").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_session() {
    Test::of("unique-session").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_session_and_kick_v3() {
    Test::of("unique-session-and-kick-v3")
        .client("A", "c1", "u1")
        .differs("bind-broadcast", &[], "c2 publishes on pitaya/connector/bindings")
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unique_off_metrics_on() {
    Test::of("unique-off-metrics-on").set("c1", "pitaya.session.unique", "false").run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown() {
    Test::of("shutdown")
        .at("SIGTERM to r1", Act::Stop("r1"))
        .at("SIGTERM to c2", Act::Stop("c2"))
        .at("SIGTERM to c1", Act::Stop("c1"))
        .run()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_subscriptions() {
    Test::of("nats-subscriptions")
        .at("a client binds uid u1 on c1", Act::Enter("A", "c1", "u1"))
        .at("client A closes", Act::Leave("A"))
        .at("r1 stops", Act::Stop("r1"))
        .at("c1 stops", Act::Stop("c1"))
        .run_as_one()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_requests() {
    Test::of("raw-requests")
        .client("A", "c1", "u1")
        .client("B", "c1", "")
        .differs("unreadable-requests", &[], "r1 publishes on _INBOX.replay.38")
        .differs("unreadable-requests", &[], "r1 publishes on _INBOX.replay.41")
        .differs("kick-answer", &[], "c1 publishes on _INBOX.replay.167")
        .run_as_one()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_crashes() {
    Test::of("raw-crashes")
        .differs("crashes", &[], "r1 publishes on _INBOX.replay.1")
        .differs("crashes", &[], "r1 publishes on _INBOX.replay.5")
        .differs("null-data", &[10], "error.msg")
        .run_as_one()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_crashes_v3() {
    Test::of("raw-crashes-v3")
        .differs("crashes", &[], "r1 publishes on _INBOX.replay.1")
        .differs("crashes", &[], "r1 publishes on _INBOX.replay.5")
        .differs("null-data", &[10], "error.msg")
        .differs("spans-of-others", &[18], "data")
        .differs("spans-of-others", &[18], "error")
        .run_as_one()
        .await;
}

/// No recording has such a packet: Go's servers take up to 16 MiB.
#[tokio::test]
async fn packets_of_100_kb() {
    assert!(compatibility::has_row("large-packets"));
    let body = vec![b'x'; 100_000];
    for (settings, taken) in [(&[][..], false), (&[("pitaya.packet.maxsize", "1MiB")][..], true)] {
        let (address, serving) = servers::alone(settings).await;
        let client = Client::connect(&format!("tcp://{address}")).await.unwrap();
        let answer = client.request_bytes("room.raw", body.clone()).await;
        assert_eq!(answer.is_ok_and(|answer| answer == body), taken, "{settings:?}");
        serving.abort();
    }
}

/// No recording has such a user.
#[tokio::test]
async fn users_whose_names_are_refused() {
    assert!(compatibility::has_row("uids"));
    let (address, serving) = servers::alone(&[]).await;
    for uid in ["a b", "a.*", ".a", &"u".repeat(129)] {
        let client = Client::connect(&format!("tcp://{address}")).await.unwrap();
        let bound = client.request::<Value>("room.bind", &json!({"uid": uid})).await;
        assert!(matches!(&bound, Err(RequestError::Server(error)) if error.code == "PIT-000"), "{uid}: {bound:?}");
        client.request::<Value>("room.bind", &json!({"uid": "a.b/c"})).await.unwrap();
    }
    serving.abort();
}

/// No recording has such a payload.
#[tokio::test]
async fn values_in_values() {
    assert!(compatibility::has_row("deep-values"));
    let (address, serving) = servers::alone(&[]).await;
    let client = Client::connect(&format!("tcp://{address}")).await.unwrap();
    for (depth, taken) in [(100, true), (200, false)] {
        let body = format!("{{\"data\":{{\"d\":{}{}}}}}", "[".repeat(depth), "]".repeat(depth));
        let answer = client.request_bytes("room.setdata", body).await;
        match answer {
            Ok(_) => assert!(taken, "{depth}"),
            Err(RequestError::Server(error)) => assert_eq!((error.code.as_str(), taken), ("PIT-400", false), "{depth}"),
            Err(error) => panic!("{error}"),
        }
    }
    serving.abort();
}
