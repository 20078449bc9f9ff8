//! What travels with a call: protocol.md 6.6.

use std::sync::Arc;

use pitaya::{App, Context, Json, Protobuf, Result, Server, cluster::Metadata, extract::State, handlers, remotes};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::{Node, Shared, Text, World, acquainted, in_each_world, number, request, text};

/// Entries as a client sees them.
fn shown(context: &Context) -> Value {
    Value::Object(context.metadata().map(Metadata::entries).unwrap_or_default())
}

/// On the frontend: begins with a message of a client.
struct Gate;

#[handlers(name = "gate")]
impl Gate {
    #[request]
    async fn begin(&self, app: App, mut context: Context) -> Result<Json<Value>> {
        context.metadata_mut().set("party", json!({"id": 9_007_199_254_740_993_u64}));
        let kept = context.clone();
        context.metadata_mut().set("later", true);
        let Protobuf(seen) = app.rpc("room.relay.pass", text("")).in_course_of(&kept).reply::<Protobuf<Text>>().await?;
        Ok(Json(serde_json::from_str(&seen.text).unwrap()))
    }
}

/// On the backends: each tells what it sees, and asks the next.
struct Relay;

#[handlers(name = "relay")]
impl Relay {
    #[request]
    async fn forwarded(&self, app: App, mut context: Context) -> Result<Json<Value>> {
        context.metadata_mut().set("party", "of a handler");
        let own = shown(&context);
        let Protobuf(seen) =
            app.rpc("shop.relay.pass", text("")).in_course_of(&context).reply::<Protobuf<Text>>().await?;
        Ok(Json(json!([own, serde_json::from_str::<Value>(&seen.text).unwrap()])))
    }
}

#[remotes(name = "relay")]
impl Relay {
    #[remote]
    async fn pass(&self, app: App, context: Context) -> Result<Protobuf<Text>> {
        let own = shown(&context);
        if app.server().kind.as_str() == "shop" {
            return Ok(text(json!([own]).to_string()));
        }
        let Protobuf(seen) =
            app.rpc("shop.relay.pass", text("")).in_course_of(&context).reply::<Protobuf<Text>>().await?;
        let mut all: Vec<Value> = serde_json::from_str(&seen.text).unwrap();
        all.insert(0, own);
        Ok(text(Value::from(all).to_string()))
    }

    /// Uses up a second, and calls one that takes too long.
    #[remote]
    async fn hurry(&self, app: App, context: Context, shared: State<Shared>) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        let late = app.rpc("shop.relay.sleep", number(10)).in_course_of(&context);
        let error = late.timeout(Duration::from_secs(4)).reply::<()>().await.unwrap_err();
        shared.events.add(format!("{} after {}", error.code(), start.elapsed().as_millis()));
        let over = app.rpc("shop.relay.pass", text("")).in_course_of(&context).reply::<()>().await;
        shared.events.add(over.unwrap_err().code());
        Err(error)
    }

    #[remote]
    async fn sleep(&self, context: Context, shared: State<Shared>) {
        shared.events.add(format!("left {}", context.time_left().unwrap().as_millis()));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

async fn relays(world: &World, shared: &Arc<Shared>) -> [Node; 3] {
    let gate = Node::start(world.gate("g1").handlers(Gate), true).await;
    let room = world.room("r1", shared).handlers(Relay).remotes(Relay);
    let room = Node::start(room, false).await;
    let shop = world.of(Server::backend("shop").id("s1")).shared_state(Arc::clone(shared)).remotes(Relay);
    let shop = Node::start(shop, false).await;
    acquainted(&[&gate, &room, &shop]).await;
    [gate, room, shop]
}

async fn what_is_put_into_the_context_arrives_two_hops_later(world: &World) {
    let [gate, _room, _shop] = relays(world, &Arc::default()).await;
    let mut raw = gate.client().await;
    let seen = request(&mut raw, "gate.gate.begin", "").await.unwrap();
    let id = seen[0]["request.id"].as_str().expect("an id where there was none");
    assert!(!id.is_empty());
    for (hop, peer, service, route) in [(0, "g1", "gate", "room.relay.pass"), (1, "r1", "room", "shop.relay.pass")] {
        let seen = &seen[hop];
        assert_eq!(seen["party"], json!({"id": 9_007_199_254_740_993_u64}), "{seen}");
        assert_eq!(seen["request.id"], id, "{seen}");
        assert_eq!((&seen["peer.id"], &seen["peer.service"]), (&json!(peer), &json!(service)), "{seen}");
        assert_eq!((&seen["req-route"], &seen["later"]), (&json!(route), &Value::Null), "{seen}");
    }

    // From a client's message that was forwarded.
    let seen = request(&mut raw, "room.relay.forwarded", "").await.unwrap();
    let (first, second) = (&seen[0], &seen[1][0]);
    assert_eq!((&first["peer.id"], &first["req-route"]), (&json!("g1"), &json!("room.relay.forwarded")));
    assert_eq!((&second["peer.id"], &second["req-route"]), (&json!("r1"), &json!("shop.relay.pass")));
    assert_eq!(second["party"], "of a handler");
    for same in ["request.id", "req-start-time"] {
        assert!(!first[same].is_null() && first[same] == second[same], "{same}: {seen}");
    }
    // Calls that belong to nothing have ids of their own.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let Protobuf(seen) = gate.app.rpc("shop.relay.pass", text("")).reply::<Protobuf<Text>>().await.unwrap();
        ids.push(serde_json::from_str::<Value>(&seen.text).unwrap()[0]["request.id"].as_str().unwrap().to_owned());
    }
    assert_ne!(ids[0], ids[1]);
}

/// The time of a request is not given anew at each server: of two seconds, one is left for the second call.
async fn a_deadline_shrinks_from_server_to_server(world: &World) {
    let shared = Arc::<Shared>::default();
    let [gate, _room, _shop] = relays(world, &shared).await;
    let start = Instant::now();
    let late = gate.app.rpc("room.relay.hurry", text("")).timeout(Duration::from_secs(2)).reply::<()>().await;
    assert_eq!(late.unwrap_err().code(), "PIT-408");
    assert!((1_900..4_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    crate::support::eventually("the remote has given up, too", || shared.events.all().len() == 3).await;
    let events = shared.events.all();
    let number = |text: &str, before: &str| text.strip_prefix(before).unwrap().parse::<u64>().unwrap();
    assert!((500..=1_000).contains(&number(&events[0], "left ")), "{events:?}");
    assert!((500..2_000).contains(&number(&events[1], "PIT-408 after ")), "{events:?}");
    assert_eq!(events[2], "PIT-408", "nothing is left for another call");
}

in_each_world!(what_is_put_into_the_context_arrives_two_hops_later, a_deadline_shrinks_from_server_to_server);
