//! Many who come and go at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use pitaya::{App, Json, Result, Server, Session, handlers};
use pitaya_client::Client;
use pitaya_protocol::Message;

use super::{bare, made, sorted, uid};
use crate::support::{serve, soon};

struct Hall;

#[handlers(name = "hall")]
impl Hall {
    #[request]
    async fn login(&self, session: Session, Json(name): Json<String>) -> Result<()> {
        session.bind(name).await
    }

    #[request]
    async fn join(&self, app: App, session: Session) -> Result<()> {
        Ok(app.group("hall").join(&session).await.map(drop)?)
    }

    /// Joins until the session closes.
    #[request]
    async fn stay(&self, app: App, session: Session) -> Result<()> {
        Ok(app.group("hall").join(&session).leave_on_close().await.map(drop)?)
    }

    #[request]
    async fn leave(&self, app: App, session: Session) -> Result<()> {
        Ok(app.group("hall").leave(&session).await?)
    }

    #[request]
    async fn last(&self, session: Session) -> Result<()> {
        session.push("last", Json(0)).await
    }
}

/// Moments in one order for all, and how many broadcasts have ended.
#[derive(Clone, Default)]
struct Clock(Arc<(AtomicU64, AtomicU64)>);

impl Clock {
    fn now(&self) -> u64 {
        self.0.0.fetch_add(1, Ordering::SeqCst)
    }

    fn broadcasts(&self) -> u64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// One stay in the group: surely a member from `joined` to `leaving`, surely none before `joining` and after `left`.
struct Stay {
    joining: u64,
    joined: u64,
    leaving: u64,
    left: u64,
}

/// Joins and leaves again and again.
async fn come_and_go(client: &Client, clock: &Clock, times: usize) -> Vec<Stay> {
    let mut stays = Vec::with_capacity(times);
    for time in 0..times {
        let joining = clock.now();
        client.request_bytes("hall.join", "").await.unwrap();
        let joined = clock.now();
        // Some stay for a whole broadcast and a part of others, some go at once.
        let stay = clock.broadcasts() + 2;
        while time % 4 == 0 && clock.broadcasts() < stay {
            tokio::task::yield_now().await;
        }
        let leaving = clock.now();
        client.request_bytes("hall.leave", "").await.unwrap();
        stays.push(Stay { joining, joined, leaving, left: clock.now() });
    }
    stays
}

/// A thousand joins and leaves of real connections while numbered broadcasts go out.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joins_and_leaves_during_broadcasts_lose_and_double_nothing() {
    const PLAYERS: usize = 50;
    const TIMES: usize = 20;
    let server = serve(Server::frontend("game").handlers(Hall)).await;
    let [hall] = made(&server.app, ["hall"]).await;
    let clock = Clock::default();
    let done = Arc::new(AtomicBool::new(false));
    let broadcasting = {
        let (hall, clock, done) = (hall.clone(), clock.clone(), done.clone());
        tokio::task::spawn(async move {
            let mut broadcasts = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let begun = clock.now();
                hall.broadcast("game", "number", Json(broadcasts.len())).await.unwrap().all().unwrap();
                broadcasts.push((begun, clock.now()));
                clock.0.1.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            broadcasts
        })
    };
    let players = join_all((0..PLAYERS).map(|number| {
        let client = server.client();
        let clock = clock.clone();
        async move {
            let client = client.await;
            client.request_bytes("hall.login", format!("\"user{number}\"")).await.unwrap();
            let playing = tokio::task::spawn(async move {
                let mut pushes = client.pushes();
                // Reads all the while, so that nothing is dropped.
                let reading = tokio::task::spawn(async move {
                    let mut numbers: HashMap<usize, usize> = HashMap::new();
                    loop {
                        let push = pushes.next().await.unwrap();
                        if push.route == "last" {
                            return numbers;
                        }
                        *numbers.entry(push.json().unwrap()).or_default() += 1;
                    }
                });
                let stays = come_and_go(&client, &clock, TIMES).await;
                client.request_bytes("hall.last", "").await.unwrap();
                // Connected to the end, so that each broadcast reaches all that it is for.
                (client, stays, reading.await.unwrap())
            });
            soon("a player has played", playing).await.unwrap()
        }
    }))
    .await;
    done.store(true, Ordering::SeqCst);
    let broadcasts = broadcasting.await.unwrap();

    let (mut whole, mut outside) = (0, 0);
    for (_, stays, numbers) in &players {
        for (number, (begun, ended)) in broadcasts.iter().enumerate() {
            let got = numbers.get(&number).copied().unwrap_or_default();
            assert!(got <= 1, "broadcast {number} came {got} times");
            if stays.iter().any(|stay| stay.joined < *begun && *ended < stay.leaving) {
                whole += 1;
                assert_eq!(got, 1, "broadcast {number} is lost");
            } else if stays.iter().all(|stay| *ended < stay.joining || stay.left < *begun) {
                outside += 1;
                assert_eq!(got, 0, "broadcast {number} reached somebody who was no member");
            }
        }
    }
    assert!(whole > 0 && outside > 0, "of {} broadcasts {whole} and {outside}", broadcasts.len());
    assert_eq!(hall.len().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_end_leave_no_member_behind() {
    let server = serve(Server::frontend("game").handlers(Hall)).await;
    let [hall] = made(&server.app, ["hall"]).await;
    let coming = (0..20).map(|worker| {
        let pipes = server.pipes.clone();
        tokio::task::spawn(async move {
            for round in 0..25 {
                let mut raw = pipes.established().await;
                // One of a few users, so that sessions replace each other.
                let user = format!("\"user{}\"", (worker + round) % 7);
                raw.send_message(&Message::request(1, "hall.login", user)).await;
                raw.send_message(&Message::request(2, "hall.stay", "")).await;
                // Some go without waiting; the others may have been replaced already.
                for _ in 0..round % 3 {
                    raw.packet().await;
                }
            }
        })
    });
    for ended in join_all(coming).await {
        ended.unwrap();
    }
    soon("nobody is left", async {
        while hall.len().await.unwrap() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    soon("all sessions have closed", async {
        while server.app.session_count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(hall.len().await.unwrap(), 0);
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
    let results = join_all(creating).await.into_iter().map(|result| result.unwrap());
    assert_eq!(winners(results.collect()), 1);

    // Two add each member: for each, one succeeds.
    let adding = (0..2 * MEMBERS).map(|number| {
        let group = group.clone();
        tokio::task::spawn(async move { group.add(&uid(&format!("user{}", number / 2))).await.is_ok() })
    });
    let results = join_all(adding).await.into_iter().map(|result| result.unwrap());
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
    let results = join_all(changing).await.into_iter().map(|result| result.unwrap());
    assert_eq!(winners(results.collect()), MEMBERS / 2);
    let members = sorted(&group).await;
    assert_eq!(members.len(), MEMBERS + MEMBERS / 2);
    for number in 0..MEMBERS {
        assert_eq!(members.contains(&format!("user{number}")), number % 2 == 1);
        assert!(members.contains(&format!("late{number}")));
    }
}
