//! What works when the server behaves.

use pitaya_client::{Client, CloseReason};
use pitaya_protocol::{Message, MessageKind, PacketKind};
use serde_json::{Value, json};

use crate::support::{ACCEPTED, WebPeer, accept, data, end_of, listen, packet, soon};

#[tokio::test]
async fn the_main_path_over_tcp() {
    let (listener, address) = listen().await;
    let server = async {
        let mut peer = accept(&listener).await;
        peer.welcome(ACCEPTED).await;
        let request = peer.message().await.unwrap();
        assert_eq!((request.kind, request.id), (MessageKind::Request, 1));
        assert_eq!(request.route, "room.room.join");
        let answer = Message::response(1, request.body);
        let push = Message::push("onMessage", &b"{\"n\":1}"[..]);
        peer.send(&[data(&push), data(&answer)].concat()).await;
        let notify = peer.message().await.unwrap();
        assert_eq!((notify.kind, notify.id), (MessageKind::Notify, 0));
        assert_eq!(&notify.body[..], b"[1,2]");
        peer.send(&packet(PacketKind::Kick, b"")).await;
        assert_eq!(peer.packet().await, None);
    };
    let client = async {
        let client = Client::connect(&format!("tcp://{address}")).await.unwrap();
        let mut pushes = client.pushes();
        let argument = json!({"name": "ada"});
        let answer: Value = client.request("room.room.join", &argument).await.unwrap();
        assert_eq!(answer, argument);
        let push = pushes.try_next().unwrap();
        assert_eq!(push.route, "onMessage");
        assert_eq!(push.json::<Value>().unwrap(), json!({"n": 1}));
        client.notify("room.room.say", &[1, 2]).await.unwrap();
        assert!(matches!(client.closed().await, CloseReason::Kicked));
        assert_eq!(pushes.next().await, None);
    };
    soon(async { tokio::join!(server, client) }).await;
}

#[tokio::test]
async fn the_main_path_over_websocket() {
    let (listener, address) = listen().await;
    let server = async {
        let mut peer = WebPeer::accept(&listener).await;
        peer.welcome(ACCEPTED).await;
        let request = peer.message().await.unwrap();
        assert_eq!(request.route, "room.join");
        peer.send(data(&Message::push("onMessage", "x"))).await;
        peer.send(data(&Message::response(request.id, request.body))).await;
        assert_eq!(peer.message().await.unwrap().route, "room.say");
        // The close frame of the client.
        assert_eq!(peer.packet().await, None);
    };
    let client = async {
        let client = Client::connect(&format!("ws://{address}/any/path")).await.unwrap();
        let mut pushes = client.on("onMessage");
        let answer = client.request_bytes("room.join", "body").await.unwrap();
        assert_eq!(&answer[..], b"body");
        assert_eq!(&pushes.next().await.unwrap().body[..], b"x");
        client.notify_bytes("room.say", "").await.unwrap();
        client.close();
        assert!(matches!(end_of(&client).await, CloseReason::ClientClosed));
    };
    soon(async { tokio::join!(server, client) }).await;
}
