//! All that is done in the course of one client's message has one `request.id` (protocol.md 6.6).

use std::collections::BTreeSet;

use pitaya::{
    App, Context, Json, Next, Protobuf, Reply, Request, Result, Server, cluster::Metadata, from_fn, handlers, remotes,
};
use serde_json::{Value, json};

use super::{Node, Text, World, acquainted, in_each_world, request, text};

struct Gate;

/// What a remote of the room sees.
async fn seen(app: &App, context: &Context) -> Result<Value> {
    let Protobuf(seen) = app.rpc("room.mirror.look", text("")).in_course_of(context).reply::<Protobuf<Text>>().await?;
    Ok(serde_json::from_str(&seen.text).unwrap())
}

#[handlers(name = "gate")]
impl Gate {
    /// Calls three times, with the context as it is, with a clone of it, and with one that was changed.
    #[request]
    async fn thrice(&self, app: App, mut context: Context) -> Result<Json<Value>> {
        let (first, second) = (seen(&app, &context).await?, seen(&app, &context.clone()).await?);
        context.metadata_mut().set("x", 1);
        Ok(Json(json!([first, second, seen(&app, &context).await?])))
    }

    #[request]
    async fn given(&self, app: App, mut context: Context) -> Result<Json<Value>> {
        context.metadata_mut().set(Metadata::REQUEST_ID, "mine");
        Ok(Json(json!([seen(&app, &context).await?, seen(&app, &context).await?])))
    }
}

/// On the room: shows the context of what it gets.
struct Mirror;

fn entries(context: &Context) -> Value {
    Value::Object(context.metadata().map(Metadata::entries).unwrap_or_default())
}

#[handlers(name = "mirror")]
impl Mirror {
    #[request]
    async fn gaze(&self, context: Context) -> Json<Value> {
        Json(entries(&context))
    }
}

#[remotes(name = "mirror")]
impl Mirror {
    #[remote]
    async fn look(&self, context: Context) -> Protobuf<Text> {
        text(entries(&context).to_string())
    }
}

/// Around what is forwarded: asks the room first, and tells what it has seen.
async fn look_first(mut message: Request, next: Next) -> Reply {
    let before = seen(&message.parts.app, &message.parts.context).await?;
    message.parts.context.metadata_mut().set("before", before["request.id"].clone());
    next.run(message).await
}

async fn pair(world: &World, layered: bool) -> [Node; 2] {
    let mut gate = world.gate("g1").handlers(Gate);
    if layered {
        gate = gate.forward_layer(from_fn(look_first));
    }
    let gate = Node::start(gate, true).await;
    let room = Node::start(world.of(Server::backend("room")).handlers(Mirror).remotes(Mirror), false).await;
    acquainted(&[&gate, &room]).await;
    [gate, room]
}

async fn all_calls_of_one_message_have_one_id_and_those_of_another_message_another(world: &World) {
    let [gate, _room] = pair(world, false).await;
    let mut raw = gate.client().await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let calls = request(&mut raw, "gate.gate.thrice", "").await.unwrap();
        let id = calls[0]["request.id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 22);
        assert!(calls.as_array().unwrap().iter().all(|call| call["request.id"] == id.as_str()), "{calls}");
        assert_eq!((&calls[1]["x"], &calls[2]["x"]), (&Value::Null, &json!(1)));
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20);
    let given = request(&mut raw, "gate.gate.given", "").await.unwrap();
    assert_eq!((&given[0]["request.id"], &given[1]["request.id"]), (&json!("mine"), &json!("mine")));
}

/// What a layer on the frontend calls, and what is forwarded then; what it puts into the context arrives.
async fn a_forwarded_message_has_the_id_of_the_calls_that_were_made_for_it(world: &World) {
    let [gate, _room] = pair(world, true).await;
    let mut raw = gate.client().await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let seen = request(&mut raw, "room.mirror.gaze", "").await.unwrap();
        assert_eq!(seen["before"], seen["request.id"], "{seen}");
        assert_eq!((&seen["peer.id"], &seen["req-route"]), (&json!("g1"), &json!("room.mirror.gaze")));
        assert!(seen["req-start-time"].is_u64() && seen["reqTimeout"] == "5s", "{seen}");
        ids.insert(seen["request.id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 20);
}

in_each_world!(
    all_calls_of_one_message_have_one_id_and_those_of_another_message_another,
    a_forwarded_message_has_the_id_of_the_calls_that_were_made_for_it,
);
