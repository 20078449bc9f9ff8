//! Groups on a backend, which the users of other servers' sessions leave when these close.

use std::sync::Arc;

use pitaya::{App, Json, Result, Server, ServerBuilder, Session, extract::State, handlers, settings};
use serde_json::json;

use super::{Node, Room, Shared, World, acquainted, in_each_world, request};
use crate::support::eventually;

struct Hall;

#[handlers(name = "hall")]
impl Hall {
    #[request]
    async fn join(&self, app: App, session: Session, Json(group): Json<String>) -> Result<()> {
        app.group(group).join(&session).leave_on_close().await?;
        Ok(())
    }

    /// Moves to this group, and stays there.
    #[request]
    async fn settle(&self, app: App, session: Session, Json(group): Json<String>) -> Result<()> {
        app.group(group).join(&session).leave_others().await?;
        Ok(())
    }

    #[request]
    async fn leave(&self, app: App, session: Session, Json(group): Json<String>) -> Result<()> {
        Ok(app.group(group).leave(&session).await?)
    }

    /// Tells when the session has closed, and with it has left its groups.
    #[request]
    async fn watch(&self, session: Session, shared: State<Shared>) -> Result<()> {
        let events = shared.events.clone();
        session.on_close(move |session| async move { events.add(format!("closed {}", session.frontend().unwrap())) })
    }
}

fn hall(world: &World, shared: &Arc<Shared>) -> ServerBuilder {
    world.of(Server::backend("room").id("r1")).handlers(Room).handlers(Hall).shared_state(Arc::clone(shared))
}

async fn members(room: &Node, group: &str) -> Vec<String> {
    let mut members: Vec<_> = room.app.group(group).members().await.unwrap().iter().map(ToString::to_string).collect();
    members.sort();
    members
}

/// A player who comes back on another frontend before the old connection ends is a member until the new one ends.
async fn a_user_with_a_newer_session_on_another_frontend_stays(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = |id| world.gate(id).set(&settings::SESSION_UNIQUE, false);
    let (one, two) = (Node::start(gate("g1"), true).await, Node::start(gate("g2"), true).await);
    let room = Node::start(hall(world, &shared), false).await;
    acquainted(&[&one, &two, &room]).await;
    for group in ["duel", "guild"] {
        room.app.group(group).create().await.unwrap();
    }
    let (mut old, mut new) = (one.client().await, two.client().await);
    for raw in [&mut old, &mut new] {
        for (route, body) in [("room.bind", "\"ada\""), ("hall.join", "\"duel\""), ("hall.watch", "")] {
            assert!(request(raw, &format!("room.{route}"), body).await.is_ok());
        }
    }
    // Of what only the old one has joined, the new one has to take the user out.
    assert!(request(&mut old, "room.hall.join", "\"guild\"").await.is_ok());
    drop(old);
    eventually("the old one has closed", || shared.events.all() == ["closed g1"]).await;
    assert_eq!((members(&room, "duel").await, members(&room, "guild").await), (vec!["ada".into()], vec!["ada".into()]));
    drop(new);
    eventually("the new one has closed", || shared.events.all() == ["closed g1", "closed g2"]).await;
    assert_eq!((members(&room, "duel").await, members(&room, "guild").await), (vec![], vec![]));
}

/// A session is made for each message, and one of them leaves all groups.
async fn a_client_joins_as_many_groups_as_it_likes(world: &World) {
    let shared = Arc::<Shared>::default();
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(hall(world, &shared), false).await;
    acquainted(&[&gate, &room]).await;
    let mut raw = gate.client().await;
    let unbound = request(&mut raw, "room.hall.join", "\"0\"").await.unwrap_err();
    assert_eq!(unbound["msg"], "the session is not bound to a user");
    assert!(request(&mut raw, "room.room.bind", "\"ada\"").await.is_ok());
    for number in 0..1_100 {
        let name = number.to_string();
        let body = json!(name).to_string();
        // One that is not there changes nothing.
        assert!(request(&mut raw, "room.hall.join", &body).await.is_err());
        room.app.group(name.as_str()).create().await.unwrap();
        assert!(request(&mut raw, "room.hall.join", &body).await.is_ok());
        if number % 2 == 0 {
            assert!(request(&mut raw, "room.hall.leave", &body).await.is_ok());
        }
    }
    // Whoever has moved to another group is left there.
    assert!(request(&mut raw, "room.hall.join", "\"0\"").await.is_ok());
    assert!(request(&mut raw, "room.hall.settle", "\"1\"").await.is_ok());
    assert!(request(&mut raw, "room.hall.watch", "").await.is_ok());
    let ada = "ada".try_into().unwrap();
    assert_eq!(room.app.groups_of(&ada).await.unwrap().len(), 1);
    room.app.group("0").add(&ada).await.unwrap();
    drop(raw);
    eventually("the session has closed", || shared.events.all() == ["closed g1"]).await;
    assert_eq!((members(&room, "0").await, members(&room, "3").await), (vec!["ada".to_owned()], vec![]));
}

in_each_world!(a_user_with_a_newer_session_on_another_frontend_stays, a_client_joins_as_many_groups_as_it_likes,);
