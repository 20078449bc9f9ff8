//! Dictionary and compression.

use pitaya_client::{Compression, Dictionary};
use pitaya_protocol::{EncodeOptions, Message, PacketKind, RouteRef};

use crate::support::{ACCEPTED, builder, packet, piped, soon};

#[tokio::test]
async fn the_dictionary_is_used_in_both_directions() {
    let dictionary = Dictionary::new([("room.join", 7), ("onMessage", 258)]).unwrap();
    let json = ACCEPTED.replace("{}", r#"{"room.join":7,"onMessage":258}"#);
    let (client, mut peer) = piped(builder(), &json).await;
    assert_eq!(client.handshake().dictionary, dictionary);
    let mut pushes = client.on("onMessage");
    client.notify_bytes("room.join", "x").await.unwrap();
    let sent = soon(peer.packet()).await.unwrap();
    assert_eq!(sent.body, &b"\x03\x00\x07x"[..]);
    client.notify_bytes("room.leave", "").await.unwrap();
    let sent = soon(peer.packet()).await.unwrap();
    assert_eq!(sent.body, &b"\x02\x0aroom.leave"[..]);
    peer.send(&packet(PacketKind::Data, b"\x07\x01\x02{}")).await;
    let push = soon(pushes.next()).await.unwrap();
    assert_eq!((&*push.route, &push.body[..]), ("onMessage", &b"{}"[..]));
}

#[tokio::test]
async fn the_handshake_response_may_be_compressed() {
    let routes: Vec<_> = (1..100).map(|n| format!(r#""room.room.m{n}":{n}"#)).collect();
    let json = ACCEPTED.replace("{}", &format!("{{{}}}", routes.join(",")));
    let deflated = Compression::Above { threshold: 0 }.apply(json.as_bytes()).unwrap();
    let (near, far) = tokio::io::duplex(4096);
    let mut peer = crate::support::Peer::new(far);
    let server = async {
        peer.packet().await.unwrap();
        peer.send(&packet(PacketKind::Handshake, &deflated)).await;
    };
    let (client, ()) = soon(async { tokio::join!(builder().connect_io(near), server) }).await;
    assert_eq!(client.unwrap().handshake().dictionary.len(), 99);
}

#[tokio::test]
async fn bodies_are_compressed_as_configured_and_inflated_always() {
    let body = "long and boring ".repeat(50);
    for (compression, expected) in [
        (Compression::Off, false),
        (Compression::Above { threshold: 100 }, true),
        (Compression::Above { threshold: 10_000 }, false),
    ] {
        let (client, mut peer) = piped(builder().compression(compression), ACCEPTED).await;
        let server = async {
            let sent = peer.packet().await.unwrap();
            let head = pitaya_protocol::Head::decode(&sent.body).unwrap();
            assert_eq!(head.compressed, expected, "{compression:?}");
            assert_eq!(head.route, RouteRef::Name("a.b"));
            let request = Message::decode(sent.body.clone(), &Dictionary::default(), 1 << 20);
            let request = request.unwrap();
            let options =
                EncodeOptions { compression: Compression::Above { threshold: 0 }, ..EncodeOptions::default() };
            let answer = Message::response(request.id, request.body).encode(&options);
            let answer = answer.unwrap();
            assert!(answer.len() < 200);
            peer.send(&packet(PacketKind::Data, &answer)).await;
        };
        let asked = client.request_bytes("a.b", body.clone());
        let (answer, ()) = soon(async { tokio::join!(asked, server) }).await;
        assert_eq!(answer.unwrap(), body);
    }
}
