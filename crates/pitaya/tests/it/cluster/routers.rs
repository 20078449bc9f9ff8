//! F066, F105, A.0.6 and A.0.11: routers of the application.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
};

use pitaya::{Error, Server, ServerBuilder, ServerId, cluster::Routing, remotes};
use serde_json::json;
use tokio::time::Duration;

use super::{Node, Protobuf, Shared, Sticky, Text, World, acquainted, in_each_world, number, request, text};
use crate::support::logs;

struct Who;

#[remotes(name = "who")]
impl Who {
    #[remote]
    async fn am_i(&self, app: pitaya::App) -> Protobuf<Text> {
        text(app.server().id.as_str())
    }
}

/// Looks at everything that a router gets, waits, and does what the payload says.
fn routed(builder: ServerBuilder, shared: &Arc<Shared>) -> ServerBuilder {
    let shared = Arc::clone(shared);
    builder.router("room", move |routing: Routing| {
        let shared = Arc::clone(&shared);
        async move {
            let uid = routing.context.session().and_then(|session| session.get::<String>("name").unwrap());
            let mut servers: Vec<_> = routing.servers().iter().map(|server| server.id.to_string()).collect();
            servers.sort();
            shared.events.add(format!("{uid:?} {} {}", routing.route, servers.join(",")));
            tokio::time::sleep(Duration::from_millis(20)).await;
            shared.calls.fetch_add(1, Ordering::SeqCst);
            match &routing.body[..] {
                b"\"refuse\"" => Err(Error::new("ROUTE-1", "no room for you").with("why", "full")),
                b"\"nobody\"" => Ok(ServerId::try_from("r9")?),
                b"\"gate\"" => Ok(ServerId::try_from("g1")?),
                _ => Ok(ServerId::try_from("r2")?),
            }
        }
    })
}

async fn a_router_sees_the_message_and_chooses_after_it_has_waited(world: &World) {
    let (seen, shared) = (Arc::<Shared>::default(), Arc::<Shared>::default());
    let gate = Node::start(routed(world.gate("g1"), &seen), true).await;
    let mut nodes = vec![gate];
    for id in ["r1", "r2", "r3"] {
        nodes.push(Node::start(world.room(id, &shared).remotes(Who), false).await);
    }
    for id in ["s1", "s2"] {
        nodes.push(Node::start(world.of(Server::backend("shop").id(id)).remotes(Who), false).await);
    }
    let all: Vec<_> = nodes.iter().collect();
    acquainted(&all).await;
    let gate = &nodes[0];
    let mut raw = gate.client().await;
    gate.app.sessions()[0].set("name", "ada").unwrap();

    for _ in 0..10 {
        assert_eq!(request(&mut raw, "room.room.who", "").await.unwrap()["server"], "r2");
    }
    let chosen = seen.events.count("Some(\"ada\") room.room.who r1,r2,r3");
    assert_eq!((chosen, seen.calls.load(Ordering::SeqCst)), (10, 10), "{:?}", seen.events.all());

    // Its error is the client's answer; what it chose has to be there, and of the type.
    let refused = request(&mut raw, "room.room.echo", "\"refuse\"").await.unwrap_err();
    assert_eq!(refused, json!({"code": "ROUTE-1", "msg": "no room for you", "metadata": {"why": "full"}}));
    for (body, id) in [("\"nobody\"", "r9"), ("\"gate\"", "g1")] {
        let unknown = request(&mut raw, "room.room.echo", body).await.unwrap_err();
        let text = format!("the router chose {id}, which is no room that is known");
        assert_eq!((&unknown["code"], &unknown["msg"]), (&json!("PIT-500"), &json!(text)));
    }

    // Calls of servers: by type it is asked, by id it is not.
    let before = seen.events.all().len();
    for _ in 0..10 {
        let Protobuf(who) = gate.app.rpc("room.who.am_i", number(1)).reply::<Protobuf<Text>>().await.unwrap();
        assert_eq!(who.text, "r2");
    }
    assert_eq!(seen.events.count("None room.who.am_i r1,r2,r3"), 10);
    let call = gate.app.rpc("room.who.am_i", number(1)).to(&"r3".try_into().unwrap());
    assert_eq!(call.reply::<Protobuf<Text>>().await.unwrap().0.text, "r3");
    // Other types keep the random choice.
    let mut shops = BTreeSet::new();
    for _ in 0..100 {
        let Protobuf(who) = gate.app.rpc("shop.who.am_i", number(1)).reply::<Protobuf<Text>>().await.unwrap();
        shops.insert(who.text);
    }
    assert_eq!(shops.len(), 2);
    assert_eq!(seen.events.all().len(), before + 10);

    // One that it keeps choosing and that has left is an error, not somebody else.
    nodes.remove(2).stop().await.unwrap();
    let all: Vec<_> = nodes.iter().collect();
    acquainted(&all).await;
    let gone = request(&mut raw, "room.room.echo", "").await.unwrap_err();
    assert_eq!(gone["msg"], "the router chose r2, which is no room that is known");
}

#[tokio::test(start_paused = true)]
async fn a_second_router_of_a_type_replaces_the_first_with_a_warning() {
    let (logged, _guard) = logs();
    let (world, seen, shared) = (World::bus(), Arc::<Shared>::default(), Arc::<Shared>::default());
    let gate = routed(routed(world.gate("g1"), &seen).router("shop", Sticky), &shared);
    let warnings = logged.all().into_iter().filter(|line| line.contains("is replaced")).collect::<Vec<_>>();
    assert!(matches!(&warnings[..], [one] if one.contains("WARN") && one.contains("room")), "{warnings:?}");
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.room("r2", &Arc::default()), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    assert_eq!(request(&mut raw, "room.room.who", "").await.unwrap()["server"], "r2");
    assert_eq!([&seen, &shared].map(|shared| shared.calls.load(Ordering::SeqCst)), [0, 1]);
}

in_each_world!(a_router_sees_the_message_and_chooses_after_it_has_waited);
