//! Groups of users, and what is pushed to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pitaya::{
    App, BoxFuture, Bytes, Error, Group, GroupError, GroupName, GroupStore, IntoPayload, Json, Result, Server, Session,
    SessionId, Uid, code, handlers,
};
use pitaya_client::{Client, Pushes};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::support::{Events, Running, eventually, refused, serve, soon};

fn uid(name: &str) -> Uid {
    Uid::try_from(name).unwrap()
}

async fn bare() -> Running {
    serve(Server::frontend("game")).await
}

async fn sorted(group: &Group) -> Vec<String> {
    let mut members: Vec<_> = group.members().await.unwrap().iter().map(Uid::to_string).collect();
    members.sort();
    members
}

/// Works with one group from its beginning to its end.
async fn life_of_a_group(app: &App) {
    let group = app.group("room");
    group.create().await.unwrap();
    assert_eq!(group.len().await.unwrap(), 0);
    assert!(group.members().await.unwrap().is_empty());
    for name in ["ada", "bob", "cleo"] {
        group.add(&uid(name)).await.unwrap();
    }
    assert_eq!(sorted(&group).await, ["ada", "bob", "cleo"]);
    assert_eq!(group.len().await.unwrap(), 3);
    assert!(group.contains(&uid("bob")).await.unwrap());
    assert!(!group.contains(&uid("dora")).await.unwrap());

    group.remove(&uid("bob")).await.unwrap();
    assert_eq!(sorted(&group).await, ["ada", "cleo"]);
    assert!(!group.contains(&uid("bob")).await.unwrap());
    group.add(&uid("bob")).await.unwrap();
    assert_eq!(group.len().await.unwrap(), 3);

    group.clear().await.unwrap();
    assert_eq!(group.len().await.unwrap(), 0);
    group.add(&uid("ada")).await.unwrap();
    // Another handle of the same name is the same group; another name is not.
    assert_eq!(sorted(&app.group("room".to_owned())).await, ["ada"]);
    let other = app.group("room2");
    other.create().await.unwrap();
    assert_eq!(other.len().await.unwrap(), 0);

    group.delete().await.unwrap();
    assert!(matches!(group.members().await, Err(GroupError::NotFound)));
    assert_eq!(other.len().await.unwrap(), 0);
    group.create().await.unwrap();
    assert_eq!(group.len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_group_has_the_members_that_were_added_and_not_removed() {
    life_of_a_group(&bare().await.app).await;
}

/// Makes every mistake once, and expects its own error for each.
async fn mistakes(app: &App) {
    let (group, ada) = (app.group("room"), uid("ada"));
    assert!(matches!(group.add(&ada).await, Err(GroupError::NotFound)));
    assert!(matches!(group.remove(&ada).await, Err(GroupError::NotFound)));
    assert!(matches!(group.contains(&ada).await, Err(GroupError::NotFound)));
    assert!(matches!(group.members().await, Err(GroupError::NotFound)));
    assert!(matches!(group.len().await, Err(GroupError::NotFound)));
    assert!(matches!(group.clear().await, Err(GroupError::NotFound)));
    assert!(matches!(group.delete().await, Err(GroupError::NotFound)));

    group.create().await.unwrap();
    assert!(matches!(group.create().await, Err(GroupError::AlreadyExists)));
    group.add(&ada).await.unwrap();
    assert!(matches!(group.add(&ada).await, Err(GroupError::MemberAlreadyExists)));
    assert!(matches!(group.remove(&uid("bob")).await, Err(GroupError::MemberNotFound)));
    assert_eq!(group.len().await.unwrap(), 1);

    for name in ["", "a room", "a/b", "*", "a..b", &"x".repeat(129)] {
        let nameless = app.group(name);
        assert!(matches!(nameless.create().await, Err(GroupError::Name(_))), "{name:?}");
        assert!(matches!(nameless.add(&ada).await, Err(GroupError::Name(_))), "{name:?}");
        assert!(matches!(nameless.delete().await, Err(GroupError::Name(_))), "{name:?}");
        assert!(nameless.broadcast("game", "route", Json(1)).await.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn each_mistake_with_a_group_has_its_own_error() {
    mistakes(&bare().await.app).await;
}

#[test]
fn group_errors_have_the_texts_of_the_original_when_a_handler_passes_them_on() {
    let texts = [
        (GroupError::NotFound, "group not found"),
        (GroupError::AlreadyExists, "group already exists"),
        (GroupError::MemberAlreadyExists, "member already exists in group"),
        (GroupError::MemberNotFound, "member not found in the group"),
    ];
    for (error, text) in texts {
        let error = Error::from(error);
        assert_eq!((error.code(), error.message()), (code::UNKNOWN, text));
    }
    let error = Error::from(GroupError::Store(Error::new("ETCD-1", "unreachable")));
    assert_eq!((error.code(), error.message()), ("ETCD-1", "unreachable"));
    assert!(Uid::try_from("").is_err(), "an empty uid is no member");
}

/// A client with a session that is bound.
struct Player {
    _client: Client,
    session: Session,
    pushes: Pushes,
}

impl Player {
    async fn join(server: &Running, client: Client, name: &str) -> Self {
        let session = server.app.session(SessionId::new(server.app.session_count() as i64)).unwrap();
        session.bind(name).await.unwrap();
        Self { pushes: client.pushes(), _client: client, session }
    }

    /// Everything that was pushed up to now: a last push, behind all others, marks the end.
    async fn received(&mut self) -> Vec<(String, Value)> {
        self.session.push("end", Json(())).await.unwrap();
        let mut received = Vec::new();
        loop {
            let push = soon("the next push", self.pushes.next()).await.unwrap();
            if push.route == "end" {
                return received;
            }
            received.push((push.route.clone(), push.json().unwrap()));
        }
    }
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_additions_and_removals_are_each_done_once() {
    const MEMBERS: usize = 200;
    let server = bare().await;
    let group = server.app.group("room");
    let winners = |results: Vec<bool>| results.into_iter().filter(|won| *won).count();
    // Many create it: one succeeds.
    let creating = (0..8).map(|_| {
        let group = group.clone();
        tokio::task::spawn(async move { group.create().await.is_ok() })
    });
    let results = futures_util::future::join_all(creating).await.into_iter().map(|result| result.unwrap());
    assert_eq!(winners(results.collect()), 1);

    // Two add each member: for each, one succeeds.
    let adding = (0..2 * MEMBERS).map(|number| {
        let group = group.clone();
        tokio::task::spawn(async move { group.add(&uid(&format!("user{}", number / 2))).await.is_ok() })
    });
    let results = futures_util::future::join_all(adding).await.into_iter().map(|result| result.unwrap());
    assert_eq!(winners(results.collect()), MEMBERS);
    assert_eq!(group.len().await.unwrap(), MEMBERS);

    // Every second is removed by two, while others are added.
    let changing = (0..MEMBERS).map(|number| {
        let group = group.clone();
        tokio::task::spawn(async move {
            drop(group.add(&uid(&format!("late{number}"))).await);
            group.remove(&uid(&format!("user{}", number / 2 * 2))).await.is_ok()
        })
    });
    let results = futures_util::future::join_all(changing).await.into_iter().map(|result| result.unwrap());
    assert_eq!(winners(results.collect()), MEMBERS / 2);
    let members = sorted(&group).await;
    assert_eq!(members.len(), MEMBERS + MEMBERS / 2);
    for number in 0..MEMBERS {
        assert_eq!(members.contains(&format!("user{number}")), number % 2 == 1);
        assert!(members.contains(&format!("late{number}")));
    }
}

#[tokio::test]
async fn two_apps_share_no_groups() {
    let (one, other) = (bare().await, bare().await);
    one.app.group("room").create().await.unwrap();
    assert!(matches!(other.app.group("room").members().await, Err(GroupError::NotFound)));
    other.app.group("room").create().await.unwrap();
}

/// A store of the user, with nothing but what `pitaya` exports. Everything in it suspends, as one behind a network would.
#[derive(Default)]
struct TreeStore {
    groups: Mutex<BTreeMap<GroupName, BTreeSet<Uid>>>,
    calls: Events,
}

impl TreeStore {
    fn with<'a, T: Send + 'a>(
        &'a self,
        call: &'static str,
        group: &'a GroupName,
        operate: impl FnOnce(&mut BTreeSet<Uid>) -> Result<T, GroupError> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, GroupError>> {
        Box::pin(async move {
            self.calls.add(call);
            tokio::task::yield_now().await;
            if *group == "unreachable" {
                return Err(GroupError::Store(Error::new("TREE-1", "the store cannot be reached")));
            }
            operate(self.groups.lock().unwrap().get_mut(group).ok_or(GroupError::NotFound)?)
        })
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<TreeStore>);

impl GroupStore for Shared {
    fn create<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        Box::pin(async move {
            self.0.calls.add("create");
            let mut groups = self.0.groups.lock().unwrap();
            if groups.contains_key(group) {
                return Err(GroupError::AlreadyExists);
            }
            groups.insert(group.clone(), BTreeSet::new());
            Ok(())
        })
    }

    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        Box::pin(async move {
            self.0.calls.add("delete");
            self.0.groups.lock().unwrap().remove(group).map(drop).ok_or(GroupError::NotFound)
        })
    }

    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.with("add", group, |members| {
            if members.insert(uid.clone()) { Ok(()) } else { Err(GroupError::MemberAlreadyExists) }
        })
    }

    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.with(
            "remove",
            group,
            |members| {
                if members.remove(uid) { Ok(()) } else { Err(GroupError::MemberNotFound) }
            },
        )
    }

    fn clear<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.with("clear", group, |members| {
            members.clear();
            Ok(())
        })
    }

    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>> {
        self.0.with("members", group, |members| Ok(members.iter().cloned().collect()))
    }

    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>> {
        self.0.with("contains", group, |members| Ok(members.contains(uid)))
    }

    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>> {
        self.0.with("len", group, |members| Ok(members.len()))
    }
}

struct Rooms;

#[handlers(name = "rooms")]
impl Rooms {
    #[request]
    async fn join(&self, app: App, session: Session, Json(room): Json<String>) -> Result<Json<usize>> {
        session.bind("ada").await?;
        let group = app.group(room);
        group.add(&session.uid()?).await?;
        group.broadcast("game", "joined", Json(session.uid()?.as_str())).await?.all()?;
        Ok(Json(group.len().await?))
    }

    #[request]
    async fn look(&self, app: App, Json(room): Json<String>) -> Result<Json<usize>> {
        Ok(Json(app.group(room).len().await?))
    }
}

#[tokio::test]
async fn a_store_of_the_user_replaces_the_one_in_memory() {
    let store = Shared::default();
    let server = serve(Server::frontend("game").groups(store.clone())).await;
    life_of_a_group(&server.app).await;
    let server = serve(Server::frontend("game").groups(Shared::default())).await;
    mistakes(&server.app).await;
    for call in ["create", "add", "remove", "contains", "len", "members", "clear", "delete"] {
        assert!(store.0.calls.count(call) > 0, "{call}");
    }
}

#[tokio::test]
async fn handlers_work_with_the_store_of_the_user_and_its_errors_reach_the_client() {
    let store = Shared::default();
    let server = serve(Server::frontend("game").handlers(Rooms).groups(store.clone())).await;
    server.app.group("lobby").create().await.unwrap();
    let client = server.client().await;
    let mut joined = client.on("joined");
    assert_eq!(client.request::<usize>("rooms.join", "lobby").await.unwrap(), 1);
    let push = soon("the broadcast", joined.next()).await.unwrap();
    assert_eq!(push.json::<String>().unwrap(), "ada");
    eventually("it was asked for the members", || store.0.calls.count("members") == 1).await;
    assert!(store.0.groups.lock().unwrap()["lobby"].contains("ada"));

    let error = refused(client.request::<usize>("rooms.look", "unreachable").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), ("TREE-1", "the store cannot be reached"));
    let error = refused(client.request::<usize>("rooms.look", "nowhere").await);
    assert_eq!((error.code.as_str(), error.message.as_str()), (code::UNKNOWN, "group not found"));
    assert_eq!(refused(client.request::<usize>("rooms.look", "no name").await).code, code::UNKNOWN);
}
