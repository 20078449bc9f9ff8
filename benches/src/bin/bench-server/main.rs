//! Our server as a user would write it: default configuration, one before-hook, two handlers.
//!
//! `bench-server [--listen 127.0.0.1:0] [--transport tcp|ws] [--exit-with-stdin]`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures real time and owns its tasks itself"
)]

use pitaya::prelude::*;
use pitaya_bench::{Transport, args::Args, payload::Chat, server::ServerArgs};

struct Bench;

#[handlers(name = "bench")]
impl Bench {
    /// Never suspends.
    #[request]
    async fn echo(&self, Json(chat): Json<Chat>) -> Json<Chat> {
        Json(chat)
    }

    /// Suspends once before it answers.
    #[request]
    async fn suspends(&self, Json(chat): Json<Chat>) -> Json<Chat> {
        tokio::task::yield_now().await;
        Json(chat)
    }
}

/// The before-hook: lets everything pass that is not empty.
async fn not_empty(request: Request, next: Next) -> Reply {
    if request.body.is_empty() {
        return Err(Error::bad_request("say something"));
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = Args::from_env();
    let options = ServerArgs::take(&mut args)?;
    args.finish()?;

    let builder = Server::frontend("bench").handlers(Bench).layer(from_fn(not_empty));
    let server = match options.transport {
        Transport::Tcp => builder.acceptor(TcpAcceptor::bind(options.listen).await?),
        Transport::WebSocket => builder.acceptor(WsAcceptor::bind(options.listen).await?),
    }
    .build()?;
    for address in server.addresses() {
        options.announce(address);
    }
    server.serve().await?;
    Ok(())
}
