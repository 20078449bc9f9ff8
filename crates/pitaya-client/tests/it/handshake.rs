//! Servers that misbehave before the connection works.

use std::time::Duration;

use pitaya_client::{Client, CloseReason, ConnectError, HandshakeData, Violation};
use pitaya_protocol::{Compression, DictionaryError, HandshakeError, InflateError, PacketError};
use pitaya_protocol::{Message, PacketKind, ProtocolError};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{ACCEPTED, Peer, accept, builder, data, end_of, handshake, listen, packet, piped, refused, soon};

/// Runs an attempt against a server that answers the handshake with these bytes, and then waits.
async fn answered_with(bytes: Vec<u8>) -> ConnectError {
    refused(builder(), async |mut peer| {
        peer.packet().await;
        peer.send(&bytes).await;
        assert_eq!(peer.packet().await, None);
    })
    .await
}

#[tokio::test]
async fn a_response_that_arrives_byte_by_byte_is_read() {
    let (listener, address) = listen().await;
    let server = async {
        let mut peer = accept(&listener).await;
        peer.io.set_nodelay(true).unwrap();
        peer.packet().await.unwrap();
        for byte in handshake(ACCEPTED) {
            peer.send(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(peer.packet().await.unwrap().kind, PacketKind::HandshakeAck);
        peer.echo().await;
    };
    let client = async {
        let client = Client::connect(&address).await.unwrap();
        assert_eq!(client.request_bytes("a.b", "x").await.unwrap(), "x");
    };
    soon(async { tokio::join!(server, client) }).await;
}

#[tokio::test]
async fn a_response_of_exactly_1024_bytes_is_read() {
    for size in [1024, 2048, 4096, 8192] {
        // The packet as a whole has the size of the reads that the Go client hangs at.
        let json = format!("{ACCEPTED:<width$}", width = size - 4);
        assert_eq!(handshake(&json).len(), size);
        let (client, mut peer) = soon(piped(builder(), &json)).await;
        let body = vec![b'x'; size - 6];
        let served = async {
            let request = peer.message().await.unwrap();
            let answer = data(&Message::response(request.id, body.clone()));
            assert_eq!(answer.len(), size);
            peer.send(&answer).await;
        };
        let asked = client.request_bytes("a.b", "");
        let ((), answer) = soon(async { tokio::join!(served, asked) }).await;
        assert_eq!(answer.unwrap(), body);
    }
}

#[tokio::test]
async fn code_400_refuses_and_no_ack_is_sent() {
    let json = ACCEPTED.replace("200", "400");
    let error = answered_with(handshake(&json)).await;
    assert!(matches!(error, ConnectError::Refused { code: 400, reason: None }));
}

#[tokio::test]
async fn any_other_code_refuses_too() {
    for code in ["0", "201", "500", "65535"] {
        let error = answered_with(handshake(&ACCEPTED.replace("200", code))).await;
        assert!(matches!(error, ConnectError::Refused { .. }), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_the_handshake_times_out() {
    let started = Instant::now();
    let error = refused(builder().connect_timeout(Duration::from_secs(3)), async |mut peer| {
        peer.packet().await;
        assert_eq!(peer.packet().await, None);
    })
    .await;
    assert!(matches!(error, ConnectError::Timeout));
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_instead_of_an_answer_do_not_stretch_the_time() {
    let error = refused(builder().connect_timeout(Duration::from_secs(3)), async |mut peer| {
        peer.packet().await;
        let heartbeat = packet(PacketKind::Heartbeat, b"");
        while tokio::io::AsyncWriteExt::write_all(&mut peer.io, &heartbeat).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(matches!(error, ConnectError::Timeout));
}

#[tokio::test]
async fn a_heartbeat_before_the_response_is_tolerated() {
    let (near, far) = tokio::io::duplex(4096);
    let server = async {
        let mut peer = Peer::new(far);
        let response = [packet(PacketKind::Heartbeat, b""), handshake(ACCEPTED)].concat();
        peer.send(&response).await;
        peer
    };
    let (client, _peer) = soon(async { tokio::join!(builder().connect_io(near), server) }).await;
    client.unwrap();
}

#[tokio::test]
async fn a_kick_before_the_handshake_is_reported() {
    let error = answered_with(packet(PacketKind::Kick, b"")).await;
    assert!(matches!(error, ConnectError::Kicked));
}

#[tokio::test]
async fn data_before_the_handshake_is_a_violation() {
    let error = answered_with(data(&Message::push("onMessage", ""))).await;
    assert!(matches!(error, ConnectError::Protocol(Violation::State(ProtocolError::Unexpected { .. }))));
}

#[tokio::test]
async fn a_second_handshake_is_a_violation() {
    let (client, mut peer) = piped(builder(), ACCEPTED).await;
    peer.send(&handshake(ACCEPTED)).await;
    assert!(matches!(end_of(&client).await, CloseReason::Protocol(Violation::State(_))));
}

#[tokio::test]
async fn a_close_while_connecting_is_reported() {
    // Before our handshake is read, after it, and in the middle of the response.
    let error = refused(builder(), async |peer| drop(peer)).await;
    assert!(matches!(error, ConnectError::ServerClosed | ConnectError::Io(_)), "{error:?}");
    let error = refused(builder(), async |mut peer| {
        peer.packet().await;
    })
    .await;
    assert!(matches!(error, ConnectError::ServerClosed));
    let error = refused(builder(), async |mut peer| {
        peer.packet().await;
        peer.send(&handshake(ACCEPTED)[..40]).await;
    })
    .await;
    assert!(matches!(error, ConnectError::Protocol(Violation::Packet(PacketError::Truncated))));
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, address) = listen().await;
    drop(listener);
    for scheme in ["tcp", "ws"] {
        let error = soon(Client::connect(&format!("{scheme}://{address}"))).await;
        assert!(matches!(error, Err(ConnectError::Io(_))));
    }
}

#[tokio::test]
async fn a_connection_closed_right_behind_accept_is_reported() {
    let (listener, address) = listen().await;
    for scheme in ["tcp", "ws"] {
        let url = format!("{scheme}://{address}");
        let server = async { drop(listener.accept().await.unwrap()) };
        let (result, ()) = soon(async { tokio::join!(Client::connect(&url), server) }).await;
        assert!(matches!(result, Err(ConnectError::ServerClosed | ConnectError::Io(_))), "{result:?}");
    }
}

#[tokio::test]
async fn garbage_instead_of_a_packet_is_a_violation() {
    let error = answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    assert!(matches!(error, ConnectError::Protocol(Violation::Packet(PacketError::UnknownKind(b'H')))));
}

#[tokio::test]
async fn a_response_over_the_limit_is_refused_by_its_header() {
    // No body follows: the length alone must do.
    let error = answered_with(vec![1, 0xFF, 0xFF, 0xFF]).await;
    assert!(matches!(error, ConnectError::Protocol(Violation::Packet(PacketError::TooLarge { len: 0xFF_FFFF, .. }))));
}

#[tokio::test]
async fn a_handshake_bomb_is_not_inflated() {
    let bomb = Compression::Above { threshold: 0 }.apply(&vec![b' '; 20 * 1024 * 1024]).unwrap();
    assert!(bomb.len() < 100_000);
    let error = answered_with(packet(PacketKind::Handshake, &bomb)).await;
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Inflate(InflateError::TooLarge { .. }))));
}

#[tokio::test]
async fn broken_zlib_in_the_handshake_is_an_error() {
    let error = answered_with(packet(PacketKind::Handshake, b"\x78\x9cnot zlib")).await;
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Inflate(_))));
}

#[tokio::test]
async fn a_response_that_is_not_the_expected_json_is_an_error() {
    let deep = "[".repeat(100_000);
    for json in [
        "",
        "null",
        "[]",
        "{}",
        "{\"code\":\"200\"}",
        "{\"code\":-1}",
        "{\"code\":200,\"sys\":[1]}",
        "{\"code\":200,\"sys\":{\"heartbeat\":\"30\"}}",
        "{\"code\":200,\"sys\":{\"serializer\":7}}",
        "{\"code\":200} trailing",
        "\u{feff}{\"code\":200}",
        &deep,
    ] {
        let error = answered_with(handshake(json)).await;
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Json(_))), "{json}: {error:?}");
    }
}

#[tokio::test]
async fn duplicate_and_garbage_dictionaries_are_errors() {
    let with = |dict: &str| handshake(&ACCEPTED.replace("{}", dict));
    for dict in [
        r#"{"a.b":1,"c.d":1}"#,
        r#"{"a.b":1,"a.b":2}"#,
        r#"{"a.b":0}"#,
        r#"{"":1}"#,
        &format!(r#"{{"{}":1}}"#, "x".repeat(256)),
    ] {
        let error = answered_with(with(dict)).await;
        assert!(
            matches!(
                error,
                ConnectError::Handshake(HandshakeError::Dictionary(
                    DictionaryError::DuplicateCode { .. }
                        | DictionaryError::DuplicateRoute { .. }
                        | DictionaryError::ZeroCode { .. }
                        | DictionaryError::EmptyRoute { .. }
                        | DictionaryError::RouteTooLong { .. }
                ))
            ),
            "{dict}: {error:?}"
        );
    }
    for dict in
        [r#"{"a.b":65536}"#, r#"{"a.b":-1}"#, r#"{"a.b":1.5}"#, r#"{"a.b":"1"}"#, r#"{"a.b":null}"#, r#"["a.b"]"#, "7"]
    {
        let error = answered_with(with(dict)).await;
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Json(_))), "{dict}: {error:?}");
    }
}

#[tokio::test]
async fn the_server_gets_the_handshake_data() {
    let mut told = HandshakeData::default();
    told.sys.platform = String::from("test");
    let builder = builder().handshake(told).user(json!({"age": 30}));
    let (near, far) = tokio::io::duplex(4096);
    let mut peer = Peer::new(far);
    let (client, hello) = soon(async { tokio::join!(builder.connect_io(near), peer.welcome(ACCEPTED)) }).await;
    let hello = HandshakeData::parse(&hello).unwrap();
    assert_eq!(hello.sys.platform, "test");
    assert_eq!(hello.user["age"], json!(30));
    let response = client.unwrap().handshake();
    assert_eq!(response.heartbeat, Some(Duration::from_secs(30)));
    assert_eq!(response.serializer, "json");
}

#[tokio::test]
async fn user_data_that_is_no_object_is_an_error() {
    for user in [json!([1]), json!("x"), json!(null)] {
        let error = builder().user(user).connect().await;
        assert!(matches!(error, Err(ConnectError::User(None))));
    }
    let unserialisable = std::collections::HashMap::from([((1, 2), 3)]);
    let error = builder().user(unserialisable).connect().await;
    assert!(matches!(error, Err(ConnectError::User(Some(_)))));
}

#[tokio::test]
async fn dropping_the_attempt_closes_the_connection() {
    let (near, far) = tokio::io::duplex(4096);
    let mut peer = Peer::new(far);
    let attempt = builder().connect_io(near);
    soon(async {
        tokio::select! {
            _ = attempt => panic!("connected without a response"),
            packet = peer.packet() => assert!(packet.is_some()),
        }
        assert_eq!(peer.packet().await, None);
    })
    .await;
}
