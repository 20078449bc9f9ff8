//! The first server of the README.

use pitaya::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Hello {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    text: String,
}

struct Lobby;

#[handlers(name = "lobby")]
impl Lobby {
    #[request]
    async fn hello(&self, session: Session, Json(hello): Json<Hello>) -> Result<Json<Greeting>> {
        session.bind(hello.name.as_str()).await?;
        Ok(Json(Greeting { text: format!("Welcome, {}!", hello.name) }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::frontend("game")
        .acceptor(TcpAcceptor::bind("127.0.0.1:3250").await?)
        .acceptor(WsAcceptor::bind("127.0.0.1:3251").await?)
        .handlers(Lobby)
        .build()?;
    server.serve().with_signals().await?;
    Ok(())
}
