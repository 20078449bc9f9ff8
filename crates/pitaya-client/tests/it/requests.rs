//! Requests and notifies.

use std::time::Duration;

use bytes::Bytes;
use pitaya_client::{Client, CloseReason, RequestError};
use pitaya_protocol::{Message, MessageError, PacketKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{ACCEPTED, builder, data, end_of, packet, piped, soon, waits};

#[tokio::test]
async fn ids_count_from_1_and_answers_find_their_requests_in_any_order() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let server = async {
        let mut requests = Vec::new();
        for _ in 0..200 {
            requests.push(peer.message().await.unwrap());
        }
        let mut ids: Vec<u64> = requests.iter().map(|request| request.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=200).collect::<Vec<u64>>());
        for request in requests.into_iter().rev() {
            peer.send(&data(&Message::response(request.id, request.body))).await;
        }
    };
    let asked = futures_util::future::join_all((0..200_u32).map(|n| {
        let client = client.clone();
        async move { client.request::<u32>("a.b", &n).await.unwrap() }
    }));
    let ((), answers) = soon(async { tokio::join!(server, asked) }).await;
    assert_eq!(answers, (0..200).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_a_client() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let server = tokio::spawn(async move { peer.echo().await });
    let tasks: Vec<_> = (0..20_u32)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let sent = json!([task, n]);
                    let answer: Value = client.request("a.b", &sent).await.unwrap();
                    assert_eq!(answer, sent);
                }
            })
        })
        .collect();
    drop(client);
    for task in tasks {
        soon(task).await.unwrap();
    }
    // The last clone is gone with the last task, and so is the connection.
    soon(server).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_times_out_and_its_late_answer_is_ignored() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let started = Instant::now();
    let answer = client.request_bytes("a.slow", "").await;
    assert!(matches!(answer, Err(RequestError::Timeout)));
    assert_eq!(started.elapsed(), Duration::from_secs(5));

    let hurried = client.with_timeout(Duration::from_millis(100));
    let answer = hurried.request_bytes("a.slow", "").await;
    assert!(matches!(answer, Err(RequestError::Timeout)));
    assert_eq!(started.elapsed(), Duration::from_millis(5100));

    let server = async {
        for id in 1..=2 {
            assert_eq!(peer.message().await.unwrap().id, id);
            peer.send(&data(&Message::response(id, "late"))).await;
        }
        assert_eq!(peer.message().await.unwrap().id, 3);
        peer.send(&data(&Message::response(3, "in time"))).await;
    };
    let asked = client.request_bytes("a.quick", "");
    let ((), answer) = tokio::join!(server, asked);
    assert_eq!(answer.unwrap(), "in time");
}

#[tokio::test]
async fn extreme_timeouts_are_no_problem() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let answer = client.with_timeout(Duration::ZERO).request_bytes("a.b", "").await;
    assert!(matches!(answer, Err(RequestError::Timeout)));
    let endless = client.with_timeout(Duration::MAX);
    let asked = endless.request_bytes("a.b", "x");
    soon(async {
        tokio::select! {
            answer = asked => assert_eq!(answer.unwrap(), "x"),
            () = peer.echo() => panic!("the client has gone"),
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_are_bounded_and_given_up_ones_do_not_count() {
    let (client, mut peer) = piped(builder().max_in_flight(2), ACCEPTED).await;
    let (first, second) = (client.request_bytes("a.b", ""), client.request_bytes("a.b", ""));
    tokio::pin!(first);
    {
        tokio::pin!(second);
        for request in [first.as_mut(), second.as_mut()] {
            assert!(waits(request).await);
        }
        let third = client.request_bytes("a.b", "").await;
        assert!(matches!(third, Err(RequestError::TooMany)));
        // A notify needs no place.
        client.notify_bytes("a.b", "").await.unwrap();
    }
    // The second is dropped now, and its place free.
    let third = client.request_bytes("a.b", "");
    let server = async {
        while let Some(message) = peer.message().await {
            if message.id == 3 {
                peer.send(&data(&Message::response(3, ""))).await;
                break;
            }
        }
    };
    let (answer, ()) = tokio::join!(third, server);
    answer.unwrap();
    let first = first.await;
    assert!(matches!(first, Err(RequestError::Timeout)));
}

#[tokio::test]
async fn a_given_up_request_is_not_sent() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    {
        let request = client.request_bytes("a.given.up", "");
        tokio::pin!(request);
        // Polled once: it is in the queue, and the task of the connection has not run yet.
        assert!(waits(request.as_mut()).await);
    }
    client.notify_bytes("a.notify", "").await.unwrap();
    assert_eq!(soon(peer.message()).await.unwrap().route, "a.notify");
}

#[tokio::test]
async fn error_answers_are_read() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let cases: [(&'static [u8], &str, &str); 6] = [
        (br#"{"code":"PIT-404","msg":"not found","metadata":{"k":"v","n":1}}"#, "PIT-404", "not found"),
        (br#"{"code":"RH-1"}"#, "RH-1", ""),
        (br#"{"metadata":null}"#, "", ""),
        (br#"{"code":7,"msg":["x"]}"#, "7", "[\"x\"]"),
        (b"not json", "", ""),
        (b"", "", ""),
    ];
    for (payload, code, message) in cases {
        let server = async {
            let id = peer.message().await.unwrap().id;
            peer.send(&data(&Message::error_response(id, payload))).await;
        };
        let asked = client.request::<Value>("a.b", &());
        let ((), answer) = soon(async { tokio::join!(server, asked) }).await;
        let Err(RequestError::Server(error)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((&*error.code, &*error.message), (code, message));
        assert_eq!(error.raw, payload);
        if code == "PIT-404" {
            assert_eq!(error.metadata["k"], "v");
            assert_eq!(error.metadata["n"], "1");
        }
    }
}

#[tokio::test]
async fn with_another_serializer_only_bytes_go() {
    let (client, mut peer) = piped(builder(), &ACCEPTED.replace("json", "protobuf")).await;
    let answer = client.request::<Value>("a.b", &()).await;
    assert!(matches!(answer, Err(RequestError::Serializer(name)) if name == "protobuf"));
    let server = async {
        let id = peer.message().await.unwrap().id;
        peer.send(&data(&Message::error_response(id, &b"\x0a\x07PIT-404"[..]))).await;
    };
    let asked = client.request_bytes("a.b", "");
    let ((), answer) = soon(async { tokio::join!(server, asked) }).await;
    let Err(RequestError::Server(error)) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((&*error.code, &error.raw[..]), ("", &b"\x0a\x07PIT-404"[..]));
}

#[tokio::test]
async fn answers_of_another_type_are_decode_errors() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let asked = client.request::<u8>("a.b", "text");
    let answer = soon(async {
        tokio::select! {
            answer = asked => answer,
            () = peer.echo() => panic!("the client has gone"),
        }
    })
    .await;
    assert!(matches!(answer, Err(RequestError::Decode(_))));
    let unserialisable = std::collections::HashMap::from([((1, 2), 3)]);
    let answer = client.request::<u8>("a.b", &unserialisable).await;
    assert!(matches!(answer, Err(RequestError::Encode(_))));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_it_is_sent() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let route = "x".repeat(256);
    let answer = client.request_bytes(&route, "").await;
    assert!(matches!(answer, Err(RequestError::Message(MessageError::RouteTooLong { len: 256 }))));
    let big = Bytes::from(vec![0; 1 << 24]);
    for result in [client.request_bytes("a.b", big.clone()).await.map(drop), client.notify_bytes("a.b", big).await] {
        assert!(matches!(result, Err(RequestError::TooLarge { len: 0x100_0000 })));
    }
    client.notify_bytes(&route[1..], "").await.unwrap();
    assert_eq!(soon(peer.message()).await.unwrap().route, route[1..]);
}

#[tokio::test]
async fn answers_and_pushes_come_in_the_order_of_arrival() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    let mut pushes = client.pushes();
    let server = async {
        let id = peer.message().await.unwrap().id;
        let parts = [
            data(&Message::push("p", "1")),
            data(&Message::push("p", "2")),
            data(&Message::response(id, "")),
            packet(PacketKind::Kick, b""),
        ];
        peer.send(&parts.concat()).await;
    };
    let asked = client.request_bytes("a.b", "");
    let ((), answer) = soon(async { tokio::join!(server, asked) }).await;
    // The kick is right behind the answer, and both were read at once: the answer counts.
    answer.unwrap();
    let got: Vec<_> = [pushes.try_next(), pushes.try_next()].map(|push| push.unwrap().body).into();
    assert_eq!(got, ["1", "2"]);
    assert!(matches!(end_of(&client).await, CloseReason::Kicked));
}

#[tokio::test]
async fn futures_are_send_and_small() {
    fn check<T: Send>(future: &T) -> usize {
        size_of_val(future)
    }
    let (client, _peer) = piped(builder(), ACCEPTED).await;
    let client: &Client = &client;
    assert!(check(&client.request_bytes("a.b", "")) < 1024);
    assert!(check(&Client::connect("ws://test")) < 4096);
}
