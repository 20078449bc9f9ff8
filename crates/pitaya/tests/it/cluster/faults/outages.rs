//! etcd and NATS that are away for a while, or come back without what they knew.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use pitaya_fixtures::{Etcd, Nats};
use tokio::{task::JoinHandle, time::sleep};

use super::{Game, Ground, load::Load};
use crate::support::eventually;

/// As long as nobody should notice.
const OUTAGE: Duration = Duration::from_secs(30);

/// Leases end in an outage.
const TTL: u64 = 10;

/// These only wait, so they all do so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_minute_without_etcd_or_nats_is_survived() {
    let (one, two, three, four) = tokio::join!(
        ended("etcd frozen", Box::pin(etcd_is_frozen())),
        ended("etcd dead", Box::pin(etcd_is_dead())),
        ended("NATS frozen", Box::pin(nats_is_frozen())),
        ended("NATS dead", Box::pin(nats_is_dead())),
    );
    let failed: Vec<_> = [one, two, three, four].into_iter().flatten().collect();
    assert!(failed.is_empty(), "not survived: {failed:?}");
}

/// The name if it panics.
async fn ended(name: &'static str, outage: impl Future<Output = ()>) -> Option<&'static str> {
    AssertUnwindSafe(outage).catch_unwind().await.is_err().then_some(name)
}

/// The leases of all servers end, and each server goes on knowing the others.
async fn etcd_is_frozen() {
    let mut game = Game::start(TTL).await;
    let lease = game.etcd.lease("servers/gate/g1").await.unwrap();
    let missed = game.watch_lists();
    game.etcd.freeze().await;
    sleep(OUTAGE).await;
    game.load.is_healthy("without etcd").await;
    game.etcd.thaw().await;
    game.load.is_healthy("when etcd is back").await;
    registered_again(&game, &lease).await;
    nobody_has_noticed(&game, &missed);
    game.is_healthy_again().await;
    assert_eq!(game.load.failures().len(), 0, "{:?}", game.load.failures());
}

async fn etcd_is_dead() {
    let mut game = Game::start(TTL).await;
    let lease = game.etcd.lease("servers/gate/g1").await.unwrap();
    let missed = game.watch_lists();
    game.etcd.kill().await;
    sleep(OUTAGE).await;
    game.load.is_healthy("without etcd").await;
    game.etcd.restart().await;
    game.load.is_healthy("when etcd is back").await;
    registered_again(&game, &lease).await;
    // The leases of before end now: etcd has not counted while it was dead.
    sleep(Duration::from_secs(TTL)).await;
    nobody_has_noticed(&game, &missed);
    game.is_healthy_again().await;
    assert_eq!(game.load.failures().len(), 0, "{:?}", game.load.failures());
}

/// Waits until every server has a new lease.
async fn registered_again(game: &Game, old: &str) {
    let again = async {
        while game.etcd.keys("servers/").await.len() != game.nodes().count()
            || game.etcd.lease("servers/gate/g1").await.is_none_or(|lease| lease == old)
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    crate::support::soon("the servers are registered again", again).await;
}

fn nobody_has_noticed(game: &Game, missed: &[JoinHandle<()>]) {
    for (watching, node) in missed.iter().zip(game.nodes()) {
        assert!(!watching.is_finished(), "{} has missed a server", node.app.server().id);
        watching.abort();
    }
}

async fn nats_is_dead() {
    let mut game = Game::start(TTL).await;
    let missed = game.watch_lists();
    let answered = game.load.answered();
    game.nats.kill().await;
    sleep(OUTAGE).await;
    // Each request fails with a code, and most of them at once: many more than would by waiting.
    let failed = game.load.failures();
    assert!(failed.values().sum::<usize>() > 1_000, "{failed:?}, {answered} were answered before");
    assert!(failed.keys().all(|failure| failure.starts_with("PIT-")), "{failed:?}");
    game.nats.restart().await;
    game.load.is_healthy("when NATS is back").await;
    nobody_has_noticed(&game, &missed);
    game.is_healthy_again().await;
}

async fn nats_is_frozen() {
    let mut game = Game::start(TTL).await;
    let missed = game.watch_lists();
    game.nats.freeze().await;
    sleep(OUTAGE).await;
    let failed = game.load.failures();
    assert!(!failed.is_empty() && failed.keys().all(|failure| failure.starts_with("PIT-")), "{failed:?}");
    game.nats.thaw().await;
    game.load.is_healthy("when NATS is back").await;
    nobody_has_noticed(&game, &missed);
    game.is_healthy_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_and_nats_that_come_back_empty_are_filled_again() {
    let mut game = Game::start(TTL).await;
    // Revisions that will not come back soon.
    for number in 0..20 {
        game.etcd.put("other", &number.to_string()).await;
    }
    let missed = game.watch_lists();
    tokio::join!(game.etcd.restart_empty(), game.nats.restart());
    game.load.is_healthy("when both are back").await;
    nobody_has_noticed(&game, &missed);
    game.is_healthy_again().await;
}

/// One of three members of etcd dies, the one that everybody uses, and one of two NATS servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_dead_endpoint_of_several_is_no_outage() {
    let (mut members, mut pair) = tokio::join!(Etcd::cluster::<3>(), Nats::pair());
    let etcd = members.each_ref().map(Etcd::address).join(",");
    let nats = pair.each_ref().map(Nats::address).join(",");
    let ground = Ground::new(etcd, nats, TTL);
    let ((gate, address), room) = (ground.gate("g1").await, ground.room("r1").await);
    let knows = |count| move |node: &super::Node| node.app.servers().len() == count;
    let nodes = [&gate, &room];
    eventually("both are known", || nodes.into_iter().all(knows(2))).await;
    let mut load = Load::start(&[address], 6);
    load.is_healthy("at the beginning").await;
    let mut lists = nodes.map(|node| node.app.peers().unwrap().context().servers.watch());

    members[0].kill().await;
    pair[0].kill().await;
    load.is_healthy("with the others").await;
    // It starts with a list of members of which the first is dead.
    let late = ground.room("r2").await;
    eventually("a new server is found", || nodes.into_iter().chain([&late]).all(knows(3))).await;
    load.is_served_by("r2").await;
    // Longer than a lease lives that nobody renews.
    sleep(Duration::from_secs(TTL + 3)).await;
    assert_eq!(members[1].keys("servers/").await.len(), 3);
    tokio::join!(members[0].restart(), pair[0].restart());

    // The next ones die when the first ones are back.
    assert_eq!(members[0].keys("servers/").await.len(), 3);
    members[1].kill().await;
    pair[1].kill().await;
    load.is_healthy("in the end").await;
    for (number, node) in [&room, &gate].into_iter().enumerate() {
        let push = node.app.push("onNews", pitaya::Json(number)).to_users("gate", load.uids());
        push.await.unwrap().all().unwrap();
    }
    load.have_got(&[0, 1]).await;
    for list in &mut lists {
        assert!(list.borrow_and_update().len() == 3);
    }
    assert_eq!(gate.app.session_count(), 6);
    load.stop().await;
    assert_eq!(load.lost(), 0);
    ground.nothing_was_handled_twice();
}
