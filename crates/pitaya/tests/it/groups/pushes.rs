//! Broadcasts and multicasts.

use std::sync::atomic::{AtomicUsize, Ordering};

use pitaya::{Bytes, IntoPayload, Json, Member, Result, code};
use serde::{Serialize, Serializer};
use serde_json::json;

use super::{Player, bare, made, uid};
use crate::support::soon;

/// Counts how often it is written.
struct Counted<'a>(&'a AtomicUsize);

impl Serialize for Counted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        serializer.serialize_str("hello")
    }
}

#[tokio::test]
async fn a_broadcast_reaches_each_member_once_and_nobody_else_and_is_written_once() {
    let server = bare().await;
    let mut players = Vec::new();
    for (number, name) in ["ada", "bob", "cleo", "dora"].iter().enumerate() {
        let client = if number % 2 == 0 { server.client().await } else { server.ws_client().await };
        players.push(Player::join(&server, client, name).await);
    }
    let group = server.app.group("room");
    group.create().await.unwrap();
    for name in ["ada", "bob", "cleo", "elsewhere"] {
        group.add(&uid(name)).await.unwrap();
    }

    let written = AtomicUsize::new(0);
    let delivery = group.broadcast("game", "onMessage", Json(Counted(&written))).await.unwrap();
    assert_eq!(delivery.failed, [uid("elsewhere")]);
    assert_eq!(written.load(Ordering::SeqCst), 1);
    for player in &mut players[..3] {
        assert_eq!(player.received().await, [("onMessage".to_owned(), json!("hello"))]);
    }
    assert_eq!(players[3].received().await, []);
}

/// F026.
#[tokio::test]
async fn a_multicast_reaches_those_members_that_the_filter_accepts() {
    let server = bare().await;
    let mut players = Vec::new();
    for name in ["ada", "bob", "cleo", "dora"] {
        players.push(Player::join(&server, server.client().await, name).await);
    }
    let [group] = made(&server.app, ["room"]).await;
    for (player, team) in players.iter().zip(["red", "blue", "red", "red"]) {
        player.session.set("team", team).unwrap();
    }
    for name in ["ada", "bob", "cleo", "elsewhere"] {
        group.add(&uid(name)).await.unwrap();
    }
    let written = AtomicUsize::new(0);
    let not_bob = |member: &Member| *member.uid() != "bob";
    let delivery = group.multicast("game", "byUser", Json(Counted(&written)), not_bob).await.unwrap();
    assert_eq!((delivery.failed, written.load(Ordering::SeqCst)), (vec![uid("elsewhere")], 1));
    let mut asked = Vec::new();
    let red = |member: &Member| {
        asked.push(member.uid().to_string());
        member.session().is_some_and(|session| session.get::<String>("team").unwrap().unwrap() == "red")
    };
    group.multicast("game", "bySession", Json("go"), red).await.unwrap().all().unwrap();
    asked.sort();
    assert_eq!(asked, ["ada", "bob", "cleo", "elsewhere"], "members are asked for, each once");
    group.multicast("game", "nobody", Json(1), |_| false).await.unwrap().all().unwrap();

    let both = [("byUser".to_owned(), json!("hello")), ("bySession".to_owned(), json!("go"))];
    assert_eq!(players[0].received().await, both);
    assert_eq!(players[1].received().await, []);
    assert_eq!(players[2].received().await, both);
    assert_eq!(players[3].received().await, []);
    let error = server.app.group("nowhere").multicast("game", "route", Json(1), |_| true).await.unwrap_err();
    assert_eq!(error.message(), "group not found");
}

#[tokio::test]
async fn members_that_cannot_be_reached_are_named_and_the_others_get_it() {
    let server = bare().await;
    let ada_client = server.client().await;
    let mut ada = Player::join(&server, ada_client, "ada").await;
    let bob_client = server.client().await;
    let bob = Player::join(&server, bob_client, "bob").await;
    let group = server.app.group("room");
    group.create().await.unwrap();
    for name in ["ada", "bob", "never"] {
        group.add(&uid(name)).await.unwrap();
    }
    bob.session.close();
    soon("bob has left", bob.session.closed()).await;

    let delivery = group.broadcast("game", "route", Json(1)).await.unwrap();
    let mut failed = delivery.failed.clone();
    failed.sort();
    assert_eq!(failed, [uid("bob"), uid("never")]);
    let error = delivery.all().unwrap_err();
    assert_eq!(error.code(), code::UNKNOWN);
    let mut named: Vec<_> = error.metadata()["failed"].split(',').collect();
    named.sort_unstable();
    assert_eq!(named, ["bob", "never"]);
    assert_eq!(ada.received().await, [("route".to_owned(), json!(1))]);

    group.remove(&uid("bob")).await.unwrap();
    group.remove(&uid("never")).await.unwrap();
    group.broadcast("game", "route", Json(2)).await.unwrap().all().unwrap();
    assert_eq!(ada.received().await, [("route".to_owned(), json!(2))]);
}

#[tokio::test]
async fn a_broadcast_to_another_frontend_type_reaches_nobody_here() {
    let server = bare().await;
    let client = server.client().await;
    let mut ada = Player::join(&server, client, "ada").await;
    let group = server.app.group("room");
    group.create().await.unwrap();
    group.add(&uid("ada")).await.unwrap();
    let delivery = group.broadcast("other", "route", Json(1)).await.unwrap();
    assert_eq!(delivery.failed, [uid("ada")]);
    assert!(group.broadcast("not a name", "route", Json(1)).await.is_err());
    assert_eq!(ada.received().await, []);
}

#[tokio::test]
async fn a_broadcast_to_an_empty_group_is_none_and_to_no_group_is_an_error() {
    let server = bare().await;
    let group = server.app.group("room");
    let error = group.broadcast("game", "route", Json(1)).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (code::UNKNOWN, "group not found"));
    group.create().await.unwrap();
    assert!(group.broadcast("game", "route", Json(1)).await.unwrap().failed.is_empty());
}

/// A payload of a serializer that the app does not speak.
struct Foreign<'a>(&'a AtomicUsize);

impl IntoPayload for Foreign<'_> {
    const FORMAT: Option<&'static str> = Some("msgpack");

    fn into_payload(self) -> Result<Bytes> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from_static(b"\x01"))
    }
}

#[tokio::test]
async fn a_payload_that_clients_cannot_read_fails_before_anything_is_sent() {
    let server = bare().await;
    let client = server.client().await;
    let mut ada = Player::join(&server, client, "ada").await;
    let group = server.app.group("room");
    group.create().await.unwrap();
    group.add(&uid("ada")).await.unwrap();
    let written = AtomicUsize::new(0);
    assert!(group.broadcast("game", "route", Foreign(&written)).await.is_err());
    assert!(ada.session.push("route", Foreign(&written)).await.is_err());
    assert!(server.app.push("route", Foreign(&written)).to_users("game", [uid("ada")]).await.is_err());
    assert_eq!(written.load(Ordering::SeqCst), 0);
    assert!(group.broadcast("game", "", Json(1)).await.is_err());
    assert!(group.broadcast("game", &"r".repeat(256), Json(1)).await.is_err());
    assert_eq!(ada.received().await, []);
    // Bytes belong to no serializer.
    group.broadcast("game", "route", Bytes::from_static(b"[7]")).await.unwrap().all().unwrap();
    assert_eq!(ada.received().await, [("route".to_owned(), json!([7]))]);
}

#[tokio::test]
async fn a_push_to_users_reaches_those_users_and_names_the_others() {
    let server = bare().await;
    let client = server.client().await;
    let mut ada = Player::join(&server, client, "ada").await;
    let client = server.ws_client().await;
    let mut bob = Player::join(&server, client, "bob").await;
    let delivery = server.app.push("route", Json("hi")).to_users("game", [uid("bob"), uid("nobody")]).await.unwrap();
    assert_eq!(delivery.failed, [uid("nobody")]);
    assert_eq!(bob.received().await, [("route".to_owned(), json!("hi"))]);
    assert_eq!(ada.received().await, []);
}

#[tokio::test]
async fn broadcasts_of_one_task_arrive_in_order() {
    let server = bare().await;
    let client = server.client().await;
    let mut ada = Player::join(&server, client, "ada").await;
    let group = server.app.group("room");
    group.create().await.unwrap();
    group.add(&uid("ada")).await.unwrap();
    for number in 0..500 {
        group.broadcast("game", "number", Json(number)).await.unwrap().all().unwrap();
    }
    let numbers: Vec<_> = ada.received().await.into_iter().map(|(_, number)| number.as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
}
