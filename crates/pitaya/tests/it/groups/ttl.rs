//! Groups that live for a time only.

use std::time::Duration;

use pitaya::{App, GroupError, Server, settings};
use tokio::time::{Instant, sleep_until};

use super::{groups_of, uid};
use crate::support::{Running, serve};

const SECOND: Duration = Duration::from_secs(1);

/// A server whose store looks every so often, and the time from which on it does.
async fn ticking(tick: Option<Duration>) -> (Running, Instant) {
    let builder = Server::frontend("game");
    let builder = match tick {
        Some(tick) => builder.set(&settings::GROUPS_MEMORY_TICK, tick),
        None => builder,
    };
    let server = serve(builder).await;
    let start = Instant::now();
    // The clock stands still until all tasks have had their turn.
    sleep_until(start + Duration::from_millis(1)).await;
    (server, start)
}

async fn exists(app: &App, group: &str) -> bool {
    match app.group(group).len().await {
        Ok(_) => true,
        Err(GroupError::NotFound) => false,
        Err(error) => panic!("{error}"),
    }
}

/// K85.
#[tokio::test(start_paused = true)]
async fn a_group_is_gone_at_its_time_to_live_rounded_up_to_the_next_tick() {
    let (server, start) = ticking(Some(SECOND * 10)).await;
    let app = &server.app;
    for (name, ttl) in [("short", SECOND / 2), ("long", SECOND * 15), ("endless", Duration::MAX)] {
        app.group(name).create_with_ttl(ttl).await.unwrap();
        app.group(name).add(&uid("ada")).await.unwrap();
    }
    app.group("kept").create().await.unwrap();
    let left = async |seconds: f64| {
        sleep_until(start + Duration::from_secs_f64(seconds)).await;
        (exists(app, "short").await, exists(app, "long").await)
    };
    assert_eq!(left(9.9).await, (true, true));
    assert_eq!(left(10.1).await, (false, true));
    assert_eq!(left(19.9).await, (false, true));
    assert_eq!(groups_of(app, "ada").await, ["endless", "long"]);
    assert_eq!(left(20.1).await, (false, false));
    assert_eq!(left(100_000.0).await, (false, false));
    assert!(exists(app, "kept").await);
    // Its members are not in it any more, and its name is free.
    assert_eq!(groups_of(app, "ada").await, ["endless"]);
    assert!(matches!(app.group("long").renew_ttl().await, Err(GroupError::NotFound)));
    app.group("long").create().await.unwrap();
    assert_eq!(app.group("long").len().await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_begins_the_time_to_live_anew() {
    let (server, start) = ticking(Some(SECOND)).await;
    let group = server.app.group("room");
    group.create_with_ttl(SECOND * 4).await.unwrap();
    for renewal in 1..=5 {
        sleep_until(start + SECOND * 3 * renewal).await;
        group.renew_ttl().await.unwrap();
    }
    // Nothing else is a renewal.
    sleep_until(start + SECOND * 18).await;
    group.add(&uid("ada")).await.unwrap();
    assert!(exists(&server.app, "room").await);
    sleep_until(start + SECOND * 19 + SECOND / 2).await;
    assert!(!exists(&server.app, "room").await);
}

#[tokio::test(start_paused = true)]
async fn without_a_setting_the_tick_is_half_a_minute() {
    let (server, start) = ticking(None).await;
    server.app.group("room").create_with_ttl(Duration::ZERO).await.unwrap();
    sleep_until(start + SECOND * 29).await;
    assert!(exists(&server.app, "room").await);
    sleep_until(start + SECOND * 31).await;
    assert!(!exists(&server.app, "room").await);
}
