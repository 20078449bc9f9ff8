//! Handlers, on the server that the client is connected to and on another.

use crate::world::{World, ask};

/// What is called, with what, and the answer.
type Case<'a> = (&'a str, &'a str, Result<&'a str, &'a str>);

const BOTH: [Case<'_>; 5] = [
    ("testrequestonlysessionreturnsptr", "", Ok(r#"{"code":200,"msg":"hello"}"#)),
    ("testrequestreturnsptr", r#"{"msg":"good"}"#, Ok(r#"{"code":200,"msg":"good"}"#)),
    ("testrequestreturnsraw", r#"{"msg":"good"}"#, Ok("good")),
    ("testrequestreceivereturnsraw", "woow", Ok("woow")),
    ("testrequestreturnserror", "woow", Err(r#"{"code":"PIT-555","msg":"somerror"}"#)),
];

const FRONT: [Case<'_>; 3] = [
    ("testrequestonlysessionreturnsptrnil", "", Err(r#"{"code":"PIT-000","msg":"reply must not be null"}"#)),
    ("testrequestonlysessionreturnsrawnil", "", Err(r#"{"code":"PIT-000","msg":"reply must not be null"}"#)),
    (
        "nonexistenthandler",
        "woow",
        Err(r#"{"code":"PIT-404","msg":"pitaya/handler: connector.testsvc.nonexistenthandler not found"}"#),
    ),
];

const BACK: [Case<'_>; 1] = [(
    "nonexistenthandler",
    "woow",
    Err(r#"{"code":"PIT-404","msg":"pitaya/handler: game.testsvc.nonexistenthandler not found"}"#),
)];

async fn all(client: &pitaya_client::Client, kind: &str, cases: &[Case<'_>]) {
    for (method, body, expected) in cases {
        let answer = ask(client, &format!("{kind}.testsvc.{method}"), body).await;
        assert_eq!(answer, expected.map(str::to_owned).map_err(str::to_owned), "{kind} {method}");
    }
}

#[tokio::test]
async fn handler_call_to_front() {
    let world = World::new().await;
    let connector = world.frontend("connector").await;
    let client = connector.client().await;
    all(&client, "connector", &BOTH).await;
    all(&client, "connector", &FRONT).await;
}

#[tokio::test]
async fn forward_to_backend() {
    let world = World::new().await;
    let _game = world.backend("game").await;
    let connector = world.frontend("connector").await;
    let client = connector.client().await;
    all(&client, "game", &BOTH).await;
    all(&client, "game", &BACK).await;
}
