//! Servers that misbehave in the WebSocket upgrade.

use std::time::Duration;

use pitaya_client::{Client, ConnectError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::{refused, soon};

/// Runs an attempt against a server that answers the HTTP request with these bytes, and then waits.
async fn answered_with(bytes: &[u8]) -> ConnectError {
    let builder = Client::builder("ws://test/").connect_timeout(Duration::from_millis(300));
    refused(builder, async |mut peer| {
        request(&mut peer.io).await;
        peer.io.write_all(bytes).await.ok();
        while peer.io.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    })
    .await
}

async fn request(io: &mut DuplexStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

#[tokio::test]
async fn the_request_is_an_upgrade_of_the_path() {
    let builder = Client::builder("ws://some.host:1234/any/path?q=1").connect_timeout(Duration::from_millis(50));
    refused(builder, async |mut peer| {
        let request = request(&mut peer.io).await;
        assert!(request.starts_with("GET /any/path?q=1 HTTP/1.1\r\n"));
        assert!(request.contains("\r\nHost: some.host:1234\r\n"));
    })
    .await;
}

#[tokio::test]
async fn answers_that_do_not_upgrade_are_refused() {
    let accept = |value: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {value}\r\n\r\n"
        )
    };
    let headers = "a: b\r\n".repeat(200);
    for answer in [
        String::from("HTTP/1.1 200 OK\r\n\r\n"),
        String::from("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        String::from("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        String::from("\u{1}\u{0}\u{0}\u{0}\r\n\r\n"),
        String::from("HTTP/9.9 101 x\r\n\r\n"),
        format!("HTTP/1.1 101 x\r\n{headers}\r\n"),
        // The digest of another key, one that is too short, and two that are too long: the last would make the
        // library panic.
        accept("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        accept("AAAA"),
        accept(&"A".repeat(28)),
        accept(&"A".repeat(4000)),
    ] {
        let error = answered_with(answer.as_bytes()).await;
        assert!(matches!(error, ConnectError::Upgrade(_)), "{answer}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = [b"HTTP/1.1 101 x\r\na: ", &[b'x'; 100_000][..]].concat();
    let error = answered_with(&endless).await;
    assert!(matches!(error, ConnectError::Upgrade(_)));
}

#[tokio::test]
async fn half_an_answer_times_out() {
    let error = answered_with(b"HTTP/1.1 101 Switch").await;
    assert!(matches!(error, ConnectError::Timeout));
}

#[tokio::test]
async fn a_close_in_the_upgrade_is_reported() {
    let builder = Client::builder("ws://test/");
    let error = refused(builder, async |mut peer| {
        request(&mut peer.io).await;
        peer.io.write_all(b"HTTP/1.1 101 Switch").await.unwrap();
    })
    .await;
    assert!(matches!(error, ConnectError::ServerClosed));
}

#[tokio::test]
async fn an_upgrade_byte_by_byte_with_the_handshake_behind_it_works() {
    let (near, far) = tokio::io::duplex(4096);
    // The tungstenite server behind a pipe that passes single bytes on.
    let (inner, outer) = tokio::io::duplex(4096);
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let (mut outer_read, mut outer_write) = tokio::io::split(outer);
    let down = async {
        let mut byte = [0];
        while outer_read.read(&mut byte).await.is_ok_and(|read| read > 0) {
            if far_write.write_all(&byte).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let up = async { tokio::io::copy(&mut far_read, &mut outer_write).await };
    let server = async {
        use futures_util::{SinkExt, StreamExt};
        use tokio_tungstenite::tungstenite::Message;
        let mut socket = tokio_tungstenite::accept_async(inner).await.unwrap();
        socket.next().await.unwrap().unwrap();
        let response = crate::support::handshake(crate::support::ACCEPTED);
        socket.send(Message::binary(response)).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket
    };
    let connect = Box::pin(Client::builder("ws://test/").connect_io(near));
    let server = Box::pin(server);
    soon(async {
        tokio::select! {
            (client, _socket) = async { tokio::join!(connect, server) } => {
                client.unwrap();
            }
            _ = async { tokio::join!(down, up) } => panic!("the pipes ended"),
        }
    })
    .await;
}
