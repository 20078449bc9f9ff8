//! A message whose server has gone: tried once more if it is proved that nobody got it, and never if it is not.

use std::sync::{Arc, atomic::Ordering};

use pitaya::{Error, Protobuf, ServerBuilder, ServerId, cluster::Routing};
use pitaya_protocol::Message;
use serde_json::json;

use super::{
    Node, Shared, Text, World, acquainted,
    adapters::{ghost, with_ghosts},
    in_each_world, request, text,
};
use crate::support::{Events, eventually};

/// A gate that knows servers which have gone without a word.
fn haunted(world: &World, ghosts: &[(&str, &str)]) -> ServerBuilder {
    let ghosts = ghosts.iter().map(|(kind, id)| ghost(kind, id)).collect();
    world.of_with(with_ghosts(world.wiring(), ghosts), pitaya::Server::frontend("gate").id("g1"))
}

/// Chooses the first by name, and writes down among which.
fn first_by_name(builder: ServerBuilder, kind: &str, asked: &Events) -> ServerBuilder {
    let asked = asked.clone();
    builder.router(kind, move |routing: Routing| {
        let mut ids: Vec<_> = routing.servers().iter().map(|server| server.id.to_string()).collect();
        ids.sort();
        asked.add(ids.join(" "));
        async move { ServerId::try_from(ids[0].as_str()).map_err(Error::internal) }
    })
}

async fn a_message_whose_server_is_gone_goes_to_the_next_one_once(world: &World) {
    const MESSAGES: usize = 20;
    let (asked, shared) = (Events::default(), Arc::<Shared>::default());
    let gate = first_by_name(haunted(world, &[("room", "r0")]), "room", &asked);
    let (gate, one) = (Node::start(gate, true).await, Node::start(world.room("r1", &shared), false).await);
    let two = Node::start(world.room("r2", &shared), false).await;
    eventually("the gate knows all three", || gate.app.servers().of_kind("room").len() == 3).await;
    let mut raw = gate.client().await;
    for count in 0..MESSAGES {
        assert_eq!(request(&mut raw, "room.room.count", "").await, Ok(json!(count)));
        raw.send_message(&Message::notify("room.room.note", format!("\"note {count}\""))).await;
    }
    eventually("the notifies have arrived", || shared.events.all().len() >= MESSAGES).await;
    assert_eq!(request(&mut raw, "room.room.count", "").await, Ok(json!(MESSAGES)), "each was run once");
    assert!(shared.events.all().iter().cloned().eq((0..MESSAGES).map(|count| format!("note {count}"))));
    let (all, rest) = ("r0 r1 r2", "r1 r2");
    assert_eq!([all, rest].map(|among| asked.count(among)), [2 * MESSAGES + 1; 2], "{:?}", asked.all());
    drop((one, two));
}

/// A call by type goes to another server, once; one by id is for that server alone.
async fn a_remote_whose_server_is_gone_is_asked_of_the_next_one_once(world: &World) {
    let (asked, shared) = (Events::default(), Arc::<Shared>::default());
    let gate = haunted(world, &[("room", "r0"), ("inn", "i1"), ("inn", "i2"), ("inn", "i3")]);
    let gate = first_by_name(first_by_name(gate, "room", &asked), "inn", &asked);
    let (gate, _room) =
        (Node::start(gate, true).await, Node::start(world.room("r1", &shared).remotes(Liar), false).await);
    eventually("the gate knows both", || gate.app.servers().of_kind("room").len() == 2).await;
    let answer = gate.app.rpc("room.liar.echo", text("hi")).reply::<Protobuf<Text>>().await.unwrap();
    assert_eq!(answer.0.text, "hi");
    let there = gate.app.rpc("room.liar.echo", text("hi")).to(&"r0".try_into().unwrap());
    let error = there.reply::<Protobuf<Text>>().await.unwrap_err();
    assert_eq!((error.code(), error.metadata()["peer.id"].as_str()), ("PIT-000", "r0"));
    let error = gate.app.rpc("inn.liar.echo", text("hi")).reply::<Protobuf<Text>>().await.unwrap_err();
    assert_eq!((error.code(), error.metadata()["peer.id"].as_str()), ("PIT-000", "i2"));
    assert_eq!(asked.all(), ["r0 r1", "r1", "i1 i2 i3", "i2 i3"]);
}

/// The second server may be gone as well: the client is told, and no third is tried.
async fn when_the_next_server_is_gone_too_the_client_is_told(world: &World) {
    let asked = Events::default();
    let ghosts = [("vault", "v1"), ("shop", "s1"), ("shop", "s2"), ("shop", "s3"), ("inn", "i1"), ("inn", "i2")];
    let gate = first_by_name(haunted(world, &ghosts), "shop", &asked);
    let gate = Node::start(first_by_name(gate, "vault", &asked), true).await;
    let mut raw = gate.client().await;
    for (route, last) in [("vault.vault.open", "v1"), ("shop.shop.buy", "s2")] {
        let error = request(&mut raw, route, "").await.unwrap_err();
        let metadata = json!({"peer.id": last, "route": route, "server": "g1"});
        let text = "nats: no responders available for request";
        assert_eq!(error, json!({"code": "PIT-000", "msg": text, "metadata": metadata}));
    }
    assert_eq!(asked.all(), ["v1", "s1 s2 s3", "s2 s3"]);
    assert_eq!(request(&mut raw, "inn.inn.sleep", "").await.unwrap_err()["code"], "PIT-000");
    // A route of this server is still answered.
    assert_eq!(request(&mut raw, "gate.inn.sleep", "").await.unwrap_err()["code"], "PIT-404");
}

/// Nobody knows whether it was run, so it is not run again: neither after a time-out nor after an error that reads like one
/// of the transport.
async fn what_may_have_been_delivered_is_not_sent_again(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let one = Node::start(world.room("r1", &shared).handlers(Liar), false).await;
    let two = Node::start(world.room("r2", &shared).handlers(Liar), false).await;
    acquainted(&[&gate, &one, &two]).await;
    let mut raw = gate.client().await;
    let late = request(&mut raw, "room.room.never", "").await.unwrap_err();
    assert_eq!(late["code"], "PIT-408");
    for _ in 0..10 {
        let lie = request(&mut raw, "room.liar.gone", "").await.unwrap_err();
        assert_eq!(lie["msg"], "nats: no responders available for request");
    }
    assert_eq!(shared.calls.load(Ordering::SeqCst), 1 + 10, "each was run once");
}

struct Liar;

#[pitaya::remotes(name = "liar")]
impl Liar {
    #[remote]
    async fn echo(&self, said: Protobuf<Text>) -> Protobuf<Text> {
        said
    }
}

#[pitaya::handlers(name = "liar")]
impl Liar {
    #[request]
    async fn gone(&self, shared: pitaya::extract::State<Shared>) -> pitaya::Result<()> {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        Err(Error::plain("nats: no responders available for request"))
    }
}

in_each_world!(
    a_message_whose_server_is_gone_goes_to_the_next_one_once,
    a_remote_whose_server_is_gone_is_asked_of_the_next_one_once,
    when_the_next_server_is_gone_too_the_client_is_told,
    what_may_have_been_delivered_is_not_sent_again,
);
