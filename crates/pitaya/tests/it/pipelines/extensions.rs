//! What hooks leave in the context of a message.

use std::sync::Arc;

use pitaya::{Component, Json, Request, Server, code, extract::Extension};

use crate::support::{refused, serve};

struct Player {
    level: u32,
}

fn levels() -> Component {
    Component::builder("player", Arc::new(()))
        .request("level", async |player: Extension<Player>| Json(player.level))
        .request("perhaps", async |player: Option<Extension<Player>>| Json(player.map(|player| player.level)))
        .build()
}

#[tokio::test]
async fn a_handler_takes_what_a_hook_has_left_in_its_message() {
    // The payload says which level; without one, nothing is left.
    let server = serve(Server::frontend("game").component(levels()).before(async |mut request: Request| {
        if let Ok(level) = serde_json::from_slice(&request.body) {
            request.parts.context.insert(Player { level: 0 });
            request.parts.context.insert(Player { level });
        }
        Ok(request)
    }))
    .await;
    let client = server.client().await;
    assert_eq!(client.request::<u32>("player.level", &7).await.unwrap(), 7);
    assert_eq!(client.request::<Option<u32>>("player.perhaps", &8).await.unwrap(), Some(8));
    // Nothing of an earlier message is left in a later one.
    assert_eq!(client.request::<Option<u32>>("player.perhaps", &()).await.unwrap(), None);
    let error = refused(client.request::<u32>("player.level", &()).await);
    assert_eq!(error.code, code::INTERNAL);
    assert!(error.message.contains("extensions::Player"), "{}", error.message);
}
