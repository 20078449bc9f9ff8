//! What a store keeps, the one in memory and one of the user.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use pitaya::{
    App, BoxFuture, Error, GroupError, GroupName, GroupStore, Json, Result, Server, Session, Uid, code, handlers,
};

use tokio::sync::Semaphore;

use super::{bare, groups_of, sorted, uid};
use crate::support::{Events, eventually, refused, serve, soon};

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

    assert_eq!(groups_of(app, "bob").await, ["room"]);
    group.remove_all().await.unwrap();
    assert_eq!(group.len().await.unwrap(), 0);
    assert!(groups_of(app, "bob").await.is_empty());
    group.add(&uid("ada")).await.unwrap();
    // Another handle of the same name is the same group; another name is not.
    assert_eq!(sorted(&app.group("room".to_owned())).await, ["ada"]);
    let other = app.group("room2");
    other.create().await.unwrap();
    assert_eq!(other.len().await.unwrap(), 0);
    other.add(&uid("ada")).await.unwrap();
    assert_eq!(groups_of(app, "ada").await, ["room", "room2"]);

    group.delete().await.unwrap();
    assert!(matches!(group.members().await, Err(GroupError::NotFound)));
    assert_eq!(groups_of(app, "ada").await, ["room2"]);
    group.create_with_ttl(Duration::from_secs(60)).await.unwrap();
    assert_eq!(group.len().await.unwrap(), 0);
    group.renew_ttl().await.unwrap();
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
    assert!(matches!(group.remove_all().await, Err(GroupError::NotFound)));
    assert!(matches!(group.renew_ttl().await, Err(GroupError::NotFound)));
    assert!(matches!(group.delete().await, Err(GroupError::NotFound)));

    group.create().await.unwrap();
    assert!(matches!(group.create().await, Err(GroupError::AlreadyExists)));
    assert!(matches!(group.create_with_ttl(Duration::from_secs(60)).await, Err(GroupError::AlreadyExists)));
    assert!(matches!(group.renew_ttl().await, Err(GroupError::NoTtl)));
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
        (GroupError::NoTtl, "group TTL not found"),
        (GroupError::NotBound, "the session is not bound to a user"),
    ];
    for (error, text) in texts {
        let error = Error::from(error);
        assert_eq!((error.code(), error.message()), (code::UNKNOWN, text));
    }
    let error = Error::from(GroupError::Store(Error::new("ETCD-1", "unreachable")));
    assert_eq!((error.code(), error.message()), ("ETCD-1", "unreachable"));
    assert_eq!(Error::from(GroupError::SessionClosed).code(), code::CLIENT_CLOSED);
    assert!(Uid::try_from("").is_err(), "an empty uid is no member");
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
    /// Those with a time to live, which nobody looks at here.
    mortal: Mutex<BTreeSet<GroupName>>,
    calls: Events,
    /// Calls that wait for a permit.
    held: Mutex<BTreeMap<&'static str, Arc<Semaphore>>>,
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
            let gate = self.held.lock().unwrap().get(call).cloned();
            match gate {
                Some(gate) => gate.acquire().await.unwrap().forget(),
                None => tokio::task::yield_now().await,
            }
            if *group == "unreachable" {
                return Err(GroupError::Store(Error::new("TREE-1", "the store cannot be reached")));
            }
            operate(self.groups.lock().unwrap().get_mut(group).ok_or(GroupError::NotFound)?)
        })
    }
}

#[derive(Clone, Default)]
pub(super) struct Shared(Arc<TreeStore>);

impl Shared {
    /// Makes calls of one method wait for permits.
    pub(super) fn hold(&self, call: &'static str) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        self.0.held.lock().unwrap().insert(call, Arc::clone(&gate));
        gate
    }

    pub(super) fn count(&self, call: &str) -> usize {
        self.0.calls.count(call)
    }
}

impl GroupStore for Shared {
    fn create<'a>(&'a self, group: &'a GroupName, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), GroupError>> {
        Box::pin(async move {
            self.0.calls.add("create");
            let mut groups = self.0.groups.lock().unwrap();
            if groups.contains_key(group) {
                return Err(GroupError::AlreadyExists);
            }
            groups.insert(group.clone(), BTreeSet::new());
            if ttl.is_some() {
                self.0.mortal.lock().unwrap().insert(group.clone());
            }
            Ok(())
        })
    }

    fn renew_ttl<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.with("renew_ttl", group, |_| {
            self.0.mortal.lock().unwrap().contains(group).then_some(()).ok_or(GroupError::NoTtl)
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

    fn remove_all<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.0.with("remove_all", group, |members| {
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

    fn groups_of<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Vec<GroupName>, GroupError>> {
        Box::pin(async move {
            self.0.calls.add("groups_of");
            let groups = self.0.groups.lock().unwrap();
            Ok(groups.iter().filter(|(_, members)| members.contains(uid)).map(|(group, _)| group.clone()).collect())
        })
    }

    fn run<'a>(&'a self, app: &'a App) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.0.calls.add(format!("runs for {}", app.server().kind));
            let _stops = OnDrop(self.0.calls.clone());
            std::future::pending().await
        })
    }
}

/// Tells that the store's task was dropped.
struct OnDrop(Events);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add("stops");
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
    for call in
        ["create", "add", "remove", "contains", "len", "members", "remove_all", "delete", "groups_of", "renew_ttl"]
    {
        assert!(store.0.calls.count(call) > 0, "{call}");
    }
}

#[tokio::test]
async fn what_a_store_does_in_the_background_starts_and_stops_with_the_app() {
    let store = Shared::default();
    let server = serve(Server::frontend("game").groups(store.clone())).await;
    eventually("it runs", || store.0.calls.all() == ["runs for game"]).await;
    server.stop().await.unwrap();
    assert_eq!(store.0.calls.all(), ["runs for game", "stops"]);
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
