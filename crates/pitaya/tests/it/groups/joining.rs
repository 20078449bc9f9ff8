//! Sessions that join and leave.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pitaya::{App, CloseReason, Error, GroupError, GroupStore as _, Json, Server, Session, settings};
use tokio::time::Instant;

use super::{Player, bare, groups_of, made, sorted, store, uid};
use crate::support::{Events, Running, eventually, serve, soon};

async fn player(server: &Running, name: &str) -> Player {
    Player::join(server, server.client().await, name).await
}

/// Closes the connection as a client does, and waits until the user is in no group but those.
async fn gone(server: &Running, player: Player, left: &[&str]) {
    let name = player.session.uid().unwrap().to_string();
    drop(player);
    soon("the user has left", async {
        while groups_of(&server.app, &name).await != left {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_joins_and_leaves_with_its_user() {
    let server = bare().await;
    let ada_player = player(&server, "ada").await;
    let ada = ada_player.session.clone();
    let [room] = made(&server.app, ["room"]).await;
    let joined = room.join(&ada).await.unwrap();
    assert!(!joined.was_member && joined.left.is_empty());
    assert_eq!(sorted(&room).await, ["ada"]);
    // Once more changes nothing, and is told.
    assert!(room.join(&ada).await.unwrap().was_member);
    assert_eq!(room.len().await.unwrap(), 1);
    room.leave(&ada).await.unwrap();
    assert_eq!(room.len().await.unwrap(), 0);
    assert!(matches!(room.leave(&ada).await, Err(GroupError::MemberNotFound)));
}

#[tokio::test]
async fn a_session_that_cannot_join_has_an_error_for_it() {
    let server = bare().await;
    let [room] = made(&server.app, ["room"]).await;
    let ada_player = player(&server, "ada").await;
    let ada = ada_player.session.clone();
    let nowhere = server.app.group("nowhere");
    assert!(matches!(nowhere.join(&ada).await, Err(GroupError::NotFound)));
    assert!(matches!(nowhere.join(&ada).leave_on_close().await, Err(GroupError::NotFound)));
    assert!(matches!(nowhere.leave(&ada).await, Err(GroupError::NotFound)));
    assert!(matches!(server.app.group("no name").join(&ada).await, Err(GroupError::Name(_))));

    let _client = server.client().await;
    let unbound = server.app.sessions().into_iter().find(|session| session.uid().is_err()).unwrap();
    assert!(matches!(room.join(&unbound).await, Err(GroupError::NotBound)));
    assert!(matches!(room.leave(&unbound).await, Err(GroupError::NotBound)));

    room.join(&ada).await.unwrap();
    ada.close();
    soon("it has closed", ada.closed()).await;
    assert!(matches!(room.join(&ada).leave_others().await, Err(GroupError::SessionClosed)));
    // Without `leave_on_close` the user stays, and leaves with a session that has closed.
    assert_eq!(sorted(&room).await, ["ada"]);
    room.leave(&ada).await.unwrap();
}

async fn moves(server: &Running) {
    let ada_player = player(server, "ada").await;
    let ada = ada_player.session.clone();
    let [red, blue, green, guild] = made(&server.app, ["room-red", "room-blue", "room-green", "guild"]).await;
    for group in [&red, &blue, &guild] {
        group.join(&ada).await.unwrap();
        group.add(&uid("bob")).await.unwrap();
    }
    let mut joined = green.join(&ada).leave_others_if(|other| other.as_str().starts_with("room-")).await.unwrap();
    joined.left.sort();
    assert!(!joined.was_member);
    assert_eq!(joined.left, ["room-blue", "room-red"]);
    assert_eq!(groups_of(&server.app, "ada").await, ["guild", "room-green"]);

    // In the group already, it still leaves the others.
    let joined = guild.join(&ada).leave_others().await.unwrap();
    assert!(joined.was_member);
    assert_eq!(joined.left, ["room-green"]);
    assert_eq!(groups_of(&server.app, "ada").await, ["guild"]);

    // Without the group nothing happens.
    let missing = server.app.group("room-none").join(&ada).leave_others().await;
    assert!(matches!(missing, Err(GroupError::NotFound)));
    assert_eq!(groups_of(&server.app, "ada").await, ["guild"]);
    assert_eq!(groups_of(&server.app, "bob").await, ["guild", "room-blue", "room-red"]);
}

#[tokio::test]
async fn a_join_may_leave_the_others() {
    moves(&bare().await).await;
    moves(&serve(Server::frontend("game").groups(store::Shared::default())).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_moves_is_in_exactly_one_group_at_any_time() {
    let server = bare().await;
    let ada_player = player(&server, "ada").await;
    let ada = ada_player.session.clone();
    let rooms = made(&server.app, ["a", "b", "c"]).await;
    rooms[0].join(&ada).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let (app, seen) = (server.app.clone(), Arc::clone(&done));
    let watching = tokio::task::spawn(async move {
        while !seen.load(Ordering::SeqCst) {
            assert_eq!(app.groups_of(&uid("ada")).await.unwrap().len(), 1);
            tokio::task::yield_now().await;
        }
    });
    let moving = rooms.map(|room| {
        let ada = ada.clone();
        tokio::task::spawn(async move {
            for _ in 0..300 {
                room.join(&ada).leave_others().await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    for task in moving {
        task.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    watching.await.unwrap();
}

#[tokio::test]
async fn a_user_leaves_with_the_session_those_groups_that_it_was_told_to() {
    let events = Events::default();
    let heard = events.clone();
    let store = store::Shared::default();
    let seen = store.clone();
    let builder = Server::frontend("game").groups(store).on_close(move |session: Session, _: CloseReason| {
        let (heard, seen) = (heard.clone(), seen.clone());
        async move {
            let groups = seen.groups_of(&session.uid().unwrap()).await.unwrap();
            heard.add(format!("{groups:?}"));
        }
    });
    let server = serve(builder).await;
    let [room, guild, team] = made(&server.app, ["room", "guild", "team"]).await;
    let ada = player(&server, "ada").await;
    let bob = player(&server, "bob").await;
    for player in [&ada, &bob] {
        room.join(&player.session).leave_on_close().await.unwrap();
        guild.join(&player.session).await.unwrap();
        team.join(&player.session).leave_on_close().await.unwrap();
    }
    // What was left by hand and joined without the promise is kept.
    team.leave(&ada.session).await.unwrap();
    team.add(&uid("ada")).await.unwrap();
    gone(&server, ada, &["guild", "team"]).await;
    assert_eq!(sorted(&room).await, ["bob"]);
    eventually("the close callback has run", || events.all().len() == 1).await;
    let [groups] = &events.all()[..] else { panic!() };
    assert!(groups.contains("guild") && groups.contains("team") && !groups.contains("room"), "{groups}");
    assert_eq!(groups_of(&server.app, "bob").await, ["guild", "room", "team"]);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_moved_user_leaves_the_new_group_with_the_session() {
    let server = bare().await;
    let [red, blue] = made(&server.app, ["red", "blue"]).await;
    let ada = player(&server, "ada").await;
    red.join(&ada.session).leave_on_close().await.unwrap();
    blue.join(&ada.session).leave_others().leave_on_close().await.unwrap();
    // Added by somebody else: the promise of the session was for the time before.
    red.add(&uid("ada")).await.unwrap();
    gone(&server, ada, &["red"]).await;
    assert_eq!(blue.len().await.unwrap(), 0);
}

#[tokio::test]
async fn a_user_with_a_newer_session_stays_until_that_closes() {
    let server = bare().await;
    let [room] = made(&server.app, ["room"]).await;
    let old = player(&server, "ada").await;
    room.join(&old.session).leave_on_close().await.unwrap();
    let mut new = player(&server, "ada").await;
    soon("the old session has been replaced", old.session.closed()).await;
    soon("its connection has ended", old.client.closed()).await;
    assert_eq!(sorted(&room).await, ["ada"]);
    room.broadcast("game", "hello", Json(1)).await.unwrap().all().unwrap();
    assert_eq!(new.received().await.len(), 1);
    gone(&server, new, &[]).await;
}

/// Far more groups than a session remembers without looking whether they are still there.
#[tokio::test]
async fn a_user_leaves_many_groups_and_no_other() {
    let server = bare().await;
    let ada = player(&server, "ada").await;
    for number in 0..500 {
        let group = server.app.group(format!("room-{number}"));
        group.create().await.unwrap();
        group.join(&ada.session).leave_on_close().await.unwrap();
        if number % 3 == 0 {
            group.delete().await.unwrap();
        }
    }
    assert_eq!(groups_of(&server.app, "ada").await.len(), 333);
    let [guild] = made(&server.app, ["guild"]).await;
    guild.join(&ada.session).await.unwrap();
    gone(&server, ada, &["guild"]).await;
}

#[tokio::test]
async fn a_bind_that_is_undone_leaves_what_it_has_joined() {
    let app = Arc::new(OnceLock::<App>::new());
    let seen = Arc::clone(&app);
    let builder = Server::frontend("game").on_after_bind(move |session: Session, _| {
        let room = seen.get().unwrap().group("room");
        async move {
            room.join(&session).leave_on_close().await?;
            assert_eq!(sorted(&room).await, ["ada"]);
            Err(Error::plain("no"))
        }
    });
    let server = serve(builder).await;
    app.set(server.app.clone()).unwrap();
    let [room] = made(&server.app, ["room"]).await;
    let _client = server.client().await;
    let session = server.app.sessions().pop().unwrap();
    assert_eq!(session.bind("ada").await.unwrap_err().message(), "no");
    assert_eq!(room.len().await.unwrap(), 0);
    assert!(matches!(room.join(&session).await, Err(GroupError::NotBound)));
}

/// A player comes back while the store still takes the old session out of its groups: the new one must not be taken out.
#[tokio::test]
async fn a_player_who_comes_back_at_once_is_a_member_of_what_is_joined_then() {
    let store = store::Shared::default();
    let server = serve(Server::frontend("game").groups(store.clone())).await;
    let [room] = made(&server.app, ["room"]).await;
    let old = player(&server, "ada").await;
    room.join(&old.session).leave_on_close().await.unwrap();
    let gate = store.hold("remove");
    old.session.close();
    eventually("the store is asked to remove the user", || store.count("remove") == 1).await;

    let client = server.client().await;
    let session = server.app.sessions().pop().unwrap();
    let coming = session.clone();
    let binding = tokio::task::spawn(async move { coming.bind("ada").await });
    tokio::task::yield_now().await;
    assert!(server.app.session_of(&uid("ada")).is_none());
    assert!(session.uid().is_err());
    gate.add_permits(1);
    soon("the bind", binding).await.unwrap().unwrap();
    let joined = room.join(&session).leave_on_close().await.unwrap();
    assert!(!joined.was_member);
    assert_eq!(sorted(&room).await, ["ada"]);
    gate.add_permits(1);
    let new = Player { pushes: client.pushes(), client, session };
    gone(&server, new, &[]).await;
}

/// The store of a group may be slow, or gone: neither the close nor the next bind waits for it longer than for a step.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_holds_up_a_close_and_a_bind_for_one_step_only() {
    let (store, events) = (store::Shared::default(), Events::default());
    let heard = events.clone();
    let builder = Server::frontend("game")
        .groups(store.clone())
        .set(&settings::SESSION_STEP_TIMEOUT, Duration::from_secs(3))
        .on_close(move |_, _| {
            heard.add("closed");
            async {}
        });
    let server = serve(builder).await;
    let rooms = made(&server.app, ["a", "b", "c"]).await;
    let old = player(&server, "ada").await;
    for room in &rooms {
        room.join(&old.session).leave_on_close().await.unwrap();
    }
    let new = server.client().await;
    let session = server.app.sessions().into_iter().max_by_key(Session::id).unwrap();
    let _gate = store.hold("remove");
    let start = Instant::now();
    old.session.close();
    eventually("the store is asked to remove the user", || store.count("remove") == 1).await;
    session.bind("ada").await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    eventually("the callback behind it", || events.count("closed") == 1).await;
    assert_eq!(start.elapsed().as_secs(), 3);
    drop(new);
}

#[tokio::test]
async fn a_session_that_closes_while_it_joins_is_no_member() {
    let store = store::Shared::default();
    let server = serve(Server::frontend("game").groups(store.clone())).await;
    let [room] = made(&server.app, ["room"]).await;
    let ada_player = player(&server, "ada").await;
    let ada = ada_player.session.clone();
    let gate = store.hold("add");
    let (joining, late) = (room.clone(), ada.clone());
    let joining = tokio::task::spawn(async move { joining.join(&late).leave_on_close().await });
    eventually("the store is asked to add the user", || store.count("add") == 1).await;
    ada.close();
    soon("the session has closed", ada.closed()).await;
    gate.add_permits(1);
    let joined = soon("the join ends", joining).await.unwrap();
    assert!(matches!(joined, Err(GroupError::SessionClosed)), "{joined:?}");
    assert_eq!(room.len().await.unwrap(), 0);
    // With a newer session the user stays.
    let old_player = player(&server, "ada").await;
    let old = old_player.session.clone();
    let (joining, late) = (room.clone(), old.clone());
    let joining = tokio::task::spawn(async move { joining.join(&late).leave_on_close().await });
    eventually("the store is asked again", || store.count("add") == 2).await;
    let new = player(&server, "ada").await;
    soon("the old session has closed", old.closed()).await;
    gate.add_permits(1);
    assert!(matches!(soon("the join ends", joining).await.unwrap(), Err(GroupError::SessionClosed)));
    assert_eq!(sorted(&room).await, ["ada"]);
    gone(&server, new, &[]).await;
}

/// A handler may be given up (by a time-out, say) while its join waits for the store.
#[tokio::test]
async fn a_join_that_is_given_up_half_way_is_left_on_close_all_the_same() {
    let store = store::Shared::default();
    let server = serve(Server::frontend("game").groups(store.clone())).await;
    let [old, room] = made(&server.app, ["old", "room"]).await;
    let ada = player(&server, "ada").await;
    old.join(&ada.session).await.unwrap();
    let gate = store.hold("remove");
    let (joining, session) = (room.clone(), ada.session.clone());
    let joining = tokio::task::spawn(async move { joining.join(&session).leave_others().leave_on_close().await });
    eventually("the store is asked to remove the user from the other", || store.count("remove") == 1).await;
    joining.abort();
    assert!(joining.await.is_err());
    assert_eq!(groups_of(&server.app, "ada").await, ["old", "room"]);
    gate.add_permits(2);
    gone(&server, ada, &["old"]).await;
    // One that fails is not noted.
    let bob = player(&server, "bob").await;
    let nowhere = server.app.group("nowhere");
    assert!(matches!(nowhere.join(&bob.session).leave_on_close().await, Err(GroupError::NotFound)));
    nowhere.create().await.unwrap();
    nowhere.join(&bob.session).await.unwrap();
    gone(&server, bob, &["nowhere"]).await;
}

#[tokio::test]
async fn all_members_of_a_group_are_kicked_and_nobody_else() {
    let server = bare().await;
    let [room] = made(&server.app, ["room"]).await;
    let (ada, bob, cleo) = (player(&server, "ada").await, player(&server, "bob").await, player(&server, "cleo").await);
    room.join(&ada.session).leave_on_close().await.unwrap();
    room.join(&bob.session).await.unwrap();
    room.add(&uid("elsewhere")).await.unwrap();
    assert_eq!(room.kick().await.unwrap().failed, [uid("elsewhere")]);
    for kicked in [&ada, &bob] {
        let reason = soon("the kick", kicked.client.closed()).await;
        assert!(matches!(reason, pitaya_client::CloseReason::Kicked), "{reason:?}");
        soon("the session has closed", kicked.session.closed()).await;
    }
    gone(&server, ada, &[]).await;
    assert_eq!(sorted(&room).await, ["bob", "elsewhere"]);
    assert!(!cleo.session.is_closed());
    assert!(matches!(server.app.group("nowhere").kick().await, Err(GroupError::NotFound)));
}
