//! Calls from server to server.

use pitaya_client::Client;

use crate::world::{World, ask};

const HEARD: &str = r#"{"code":200,"msg":"got thisthis"}"#;
const FAILED: &str = r#"{"code":"PIT-433","msg":"test error","metadata":{"some":"meta"}}"#;
const LOCAL: &str = r#"{"code":"PIT-000","msg":"you are making a rpc that may be processed locally, either specify a different server type or specify a server id"}"#;
const NOT_FOUND: &str =
    r#"{"code":"PIT-404","msg":"route not found","metadata":{"route":"testremotesvc.rpctestnotfound"}}"#;

/// All calls of the suite; `same_server` is what the one of the own type is answered with.
async fn all(client: &Client, same_server: Result<&str, &str>) {
    let cases = [
        ("connector.testsvc.testsendrpc", "game", "rpctestrawptrreturnsptr", Ok(HEARD)),
        ("game.testsvc.testsendrpc", "connector", "rpctestrawptrreturnsptr", Ok(HEARD)),
        ("connector.testsvc.testsendrpc", "game", "rpctestreturnserror", Err(FAILED)),
        ("game.testsvc.testsendrpc", "connector", "rpctestreturnserror", Err(FAILED)),
        ("connector.testsvc.testsendrpc", "connector", "rpctestrawptrreturnsptr", same_server),
        ("connector.testsvc.testsendrpc", "game", "rpctestptrreturnsptr", Ok(HEARD)),
        ("connector.testsvc.testsendrpcnoargs", "game", "rpctestnoargs", Ok(r#"{"code":200,"msg":"got nothing"}"#)),
        ("connector.testsvc.testsendrpc", "game", "rpctestnotfound", Err(NOT_FOUND)),
    ];
    for (route, kind, remote, expected) in cases {
        let body = format!(r#"{{"route":"{kind}.testremotesvc.{remote}","data":"thisthis"}}"#);
        let answer = ask(client, route, &body).await;
        assert_eq!(answer, expected.map(str::to_owned).map_err(str::to_owned), "{route} {kind} {remote}");
    }
}

#[tokio::test]
async fn user_rpc() {
    let world = World::new().await;
    let _game = world.backend("game").await;
    let connector = world.frontend("connector").await;
    all(&connector.client().await, Err(LOCAL)).await;
}

#[tokio::test]
async fn loopback_rpc() {
    let world = World::new().await;
    let _game = world.backend("game").await;
    let loopback = [("PITAYA_CLUSTER_RPC_SERVER_LOOPBACKENABLED", "true")];
    let connector = world.start("connector", true, &loopback).await;
    all(&connector.client().await, Ok(HEARD)).await;
}
