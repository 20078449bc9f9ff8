//! The kit: what it does, and above all how it fails.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fmt::Debug, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use pitaya::{
    App, Bytes, Error, Json, Lifecycle, Result, Serializer, Server, ServerBuilder, Session, handlers, settings,
};
use pitaya_test::{CloseReason, ConnectError, TestClient, TestGame};
use serde_json::{Value, json};
use tokio::time::Instant;

struct Desk;

#[handlers(name = "desk")]
impl Desk {
    #[request]
    async fn echo(&self, Json(value): Json<Value>) -> Json<Value> {
        Json(value)
    }

    #[request]
    async fn refuse(&self) -> Result<()> {
        Err(Error::new("DESK-1", "closed today"))
    }

    #[notify]
    async fn bell(&self, session: Session, Json(times): Json<u32>) -> Result<()> {
        for time in 0..times {
            session.push("onBell", Json(time)).await?;
        }
        Ok(())
    }

    /// Pushes once in ten minutes, and ends at once.
    #[request]
    async fn wake_me(&self, app: App, session: Session) -> Result<()> {
        app.tasks().timer("alarm").after(Duration::from_secs(600)).run(move || {
            let session = session.clone();
            async move { drop(session.push("onAlarm", Json(())).await) }
        });
        Ok(())
    }
}

fn desk() -> ServerBuilder {
    Server::frontend("game").handlers(Desk)
}

async fn desk_and_client() -> (TestGame, TestClient) {
    let game = TestGame::start(desk()).await;
    let client = game.client().await;
    (game, client)
}

/// The text with which an assertion fails, without the line, which must be one of this file.
async fn failure<T: Debug>(assertion: impl Future<Output = T>) -> String {
    let panic = match AssertUnwindSafe(assertion).catch_unwind().await {
        Ok(value) => panic!("it should have failed: {value:?}"),
        Err(panic) => panic,
    };
    let text = panic.downcast_ref::<String>().unwrap();
    let (text, line) = text.rsplit_once("\n  asserted at ").unwrap();
    assert!(line.contains("kit.rs:"), "{line}");
    text.to_owned()
}

#[tokio::test(start_paused = true)]
async fn requests_notifies_and_pushes_go_through() {
    let (game, mut client) = desk_and_client().await;
    assert_eq!(client.request::<Value>("desk.echo", &json!({"a": [1]})).await, json!({"a": [1]}));
    client.notify("desk.bell", &3).await;
    for time in 0..3 {
        assert_eq!(client.expect_push::<u32>("onBell").await, time);
    }
    client.expect_no_push("onBell").await;
    let error = client.expect_error("desk.refuse", &(), "DESK-1").await;
    assert_eq!(error.message, "closed today");
    game.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pushes_wait_until_they_are_asked_for() {
    let (game, mut client) = desk_and_client().await;
    let session = client.session();
    for (route, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("b", 5)] {
        session.push(route, Json(value)).await.unwrap();
    }
    assert_eq!(client.expect_push::<u32>("c").await, 4);
    assert_eq!(client.expect_push::<u32>("b").await, 2);
    assert_eq!(client.expect_push::<u32>("b").await, 5);
    let left: Vec<_> = client.take_pushes().into_iter().map(|push| push.json::<u32>().unwrap()).collect();
    assert_eq!(left, [1, 3]);
    assert!(client.take_pushes().is_empty());
    game.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_clock_leaps_and_nothing_takes_real_time() {
    let (game, mut client) = desk_and_client().await;
    let start = Instant::now();
    let () = client.request("desk.wake_me", &()).await;
    assert!(start.elapsed() < Duration::from_millis(10));
    client.expect_no_push("onAlarm").await;
    client.set_patience(Duration::from_secs(3600));
    let () = client.expect_push("onAlarm").await;
    assert_eq!(start.elapsed().as_secs(), 600);
    game.stop().await;
}

#[tokio::test(start_paused = true)]
async fn each_client_has_its_session() {
    let game = TestGame::start(desk()).await;
    let (mut ada, mut bob) = (game.client().await, game.client_with(|builder| builder.user(json!({"age": 7}))).await);
    ada.session().bind("ada").await.unwrap();
    bob.session().bind("bob").await.unwrap();
    assert_eq!(bob.session().handshake().unwrap().user["age"], 7);
    assert_eq!(game.app().session_of(&"ada".try_into().unwrap()), Some(ada.session()));
    bob.session().push("onlyBob", Json(1)).await.unwrap();
    assert_eq!(bob.expect_push::<u32>("onlyBob").await, 1);
    ada.expect_no_push("onlyBob").await;
    ada.leave().await;
    assert_eq!(game.app().sessions(), [bob.session()]);
    bob.session().kick().await.unwrap();
    bob.expect_kick().await;
    assert!(matches!(bob.expect_closed().await, CloseReason::Kicked));
    game.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_push_that_does_not_come_fails_with_what_came_instead() {
    let (_game, mut client) = desk_and_client().await;
    assert_eq!(
        failure(client.expect_push::<u32>("onStart")).await,
        "no push on onStart came within 5s; nothing else came either"
    );
    let session = client.session();
    session.push("onJoin", Json(json!({"name": "bob"}))).await.unwrap();
    session.push("onEmpty", Vec::new()).await.unwrap();
    session.push("onLong", Json("x".repeat(1000))).await.unwrap();
    client.set_patience(Duration::from_millis(1500));
    let long = format!("\"{}… (1002 bytes)", "x".repeat(199));
    assert_eq!(
        failure(client.expect_push::<u32>("onStart")).await,
        format!(
            "no push on onStart came within 1.5s; these came instead:\n  onJoin {{\"name\":\"bob\"}}\n  onEmpty (empty)\n  \
             onLong {long}"
        )
    );
    assert_eq!(
        failure(client.expect_push::<u32>("onJoin")).await,
        "the push on onJoin is no u32: invalid type: map, expected u32 at line 1 column 0\n  it is {\"name\":\"bob\"}"
    );
    session.kick().await.unwrap();
    assert!(
        failure(client.expect_push::<u32>("onStart")).await.starts_with(
            "no push on onStart came before the end (kicked by the server); these came instead:\n  onEmpty"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn pushes_that_the_client_could_not_keep_are_told() {
    let game = TestGame::start(desk()).await;
    let mut client = game.client_with(|builder| builder.push_capacity(2)).await;
    client.notify("desk.bell", &5).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let text = failure(client.expect_push::<u32>("onStart")).await;
    assert!(text.contains("onBell 1\n  (and 3 more than the client keeps"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_push_that_should_not_come_fails_also_if_it_waits_already() {
    let (_game, mut client) = desk_and_client().await;
    client.notify("desk.bell", &2).await;
    assert_eq!(failure(client.expect_no_push("onBell")).await, "a push on onBell came: 0");
    client.expect_no_push("onAlarm").await;
    assert_eq!(failure(client.expect_no_push("onBell")).await, "a push on onBell came: 1");
    client.expect_no_push("onBell").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_with_the_error_of_the_server_or_the_answer_that_does_not_fit() {
    let (_game, client) = desk_and_client().await;
    assert_eq!(
        failure(client.request::<()>("desk.refuse", &())).await,
        "request desk.refuse failed: the server answered with error \"DESK-1\": closed today"
    );
    let text = failure(client.request::<u32>("desk.echo", "hi")).await;
    assert!(text.starts_with("the answer to desk.echo is no u32: invalid type: string"), "{text}");
    assert!(text.ends_with("\n  it is \"hi\""), "{text}");
    assert_eq!(
        failure(client.expect_error("desk.echo", &1, "DESK-1")).await,
        "request desk.echo should have failed with DESK-1, but was answered: 1"
    );
    let text = failure(client.expect_error("desk.refuse", &(), "DESK-2")).await;
    assert!(text.starts_with("request desk.refuse should have failed with DESK-2, but failed otherwise: "), "{text}");
    assert!(text.contains("DESK-1"), "{text}");
    client.session().close();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let text = failure(client.notify("desk.bell", &1)).await;
    assert_eq!(text, "notify desk.bell failed: connection closed: closed by the server");
    let session = async { client.session() };
    assert_eq!(failure(session).await, "the session of this client has closed");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_does_not_come_or_is_another_fails() {
    let (_game, mut client) = desk_and_client().await;
    assert_eq!(failure(client.expect_kick()).await, "the client was not kicked within 5s");
    assert_eq!(failure(client.expect_closed()).await, "the connection did not end within 5s");
    client.session().close();
    assert_eq!(failure(client.expect_kick()).await, "the client was not kicked, but: closed by the server");
    assert!(matches!(client.expect_closed().await, CloseReason::ServerClosed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_fails_or_is_told() {
    let game =
        TestGame::start(desk().handshake_validator("no", |_, _| async { Err(Error::new("OLD", "too old")) })).await;
    assert_eq!(failure(game.client()).await, "a client cannot connect: handshake refused with code 400: OLD: too old");
    let refused = game.try_client_with(|builder| builder).await;
    assert!(matches!(refused, Err(ConnectError::Refused { code: 400, .. })), "{refused:?}");
    game.stop().await;
}

struct Broken;

impl Lifecycle for Broken {
    async fn init(&self, _app: &App) -> Result<()> {
        Err(Error::plain("no database"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_game_that_cannot_start_fails_with_the_reason() {
    let wrong = desk().handlers(Desk).set_text("pitaya.session.unfinished", "0");
    let text = failure(TestGame::start(wrong)).await;
    assert!(text.starts_with("the game cannot be built: "), "{text}");
    assert!(text.contains("pitaya.session.unfinished") && text.contains("desk"), "{text}");
    let text = failure(TestGame::start(desk().module("db", Broken))).await;
    assert!(text.starts_with("the game does not start: db failed in ") && text.contains("no database"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_game_that_does_not_stop_well_fails() {
    let (game, _client) = desk_and_client().await;
    let grace = game.app().config().get(&settings::SHUTDOWN_GRACE);
    game.app().tasks().spawn("endless", std::future::pending());
    let start = Instant::now();
    assert_eq!(
        failure(game.stop()).await,
        "the game did not stop well: 1 handlers and tasks did not end within the grace period"
    );
    assert!(start.elapsed() >= grace);
}

/// A serializer that the typed methods do not write.
struct Packed;

impl Serializer for Packed {
    fn name(&self) -> &'static str {
        "packed"
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        Bytes::from(error.code().to_owned())
    }
}

#[tokio::test(start_paused = true)]
async fn a_game_that_does_not_speak_json_is_tested_with_bytes() {
    let echo = pitaya::Component::builder("raw", std::sync::Arc::new(()))
        .request("echo", |body: Bytes| async { body })
        .build();
    let game = TestGame::start(Server::frontend("game").serializer(Packed).component(echo)).await;
    let client = game.client().await;
    assert_eq!(
        failure(client.request::<()>("raw.echo", &1)).await,
        "the game speaks packed, not json: use the client's `request_bytes`"
    );
    assert_eq!(client.client().request_bytes("raw.echo", "hi").await.unwrap(), "hi");
    game.stop().await;
}

/// The page shows the test of the example, all of it.
#[test]
fn the_crate_page_shows_the_test_of_the_example() {
    let (page, test) = (include_str!("../docs/crate.md"), include_str!("../../../examples/tested-game/tests/quiz.rs"));
    assert!(page.contains(&format!("```ignore\n{test}```")), "copy tests/quiz.rs into docs/crate.md");
    assert!(test.lines().count() <= 40);
}
