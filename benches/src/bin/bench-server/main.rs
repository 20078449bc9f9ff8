//! Our server as a user would write it: default configuration, one before-hook, a few handlers.
//!
//! `bench-server [--listen 127.0.0.1:0] [--transport tcp|ws] [--and-ws] [--heartbeat SECONDS] [--exit-with-stdin]`
//!
//! `--and-ws` listens on a second port, for WebSocket. `--nats ADDRESS --etcd ADDRESS` make it the frontend of a cluster.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures real time and owns its tasks itself"
)]

use pitaya::Cluster;
use pitaya::prelude::*;
use pitaya::settings::HEARTBEAT_INTERVAL;
use pitaya_bench::server::{ServerArgs, Vitals, raise_file_limit};
use pitaya_bench::{PUSH_GIFT, PUSH_NEWS, Transport, args::Args, payload::Chat};
use std::time::Duration;

/// The server's type.
const KIND: &str = "bench";

/// The one group.
const GROUP: &str = "everybody";

/// The size of a large push.
const GIFT: usize = 4096;

struct Bench {
    /// What a client gets that asks for a large push: bytes that do not shrink when they are compressed.
    gift: Bytes,
}

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

    /// Logs the client in; its name is the number in the payload.
    #[request]
    async fn bind(&self, session: Session, Json(chat): Json<Chat>) -> Result<Json<Chat>> {
        session.bind(chat.id.to_string()).await?;
        Ok(Json(chat))
    }

    /// Pushes something large to the client.
    #[request]
    async fn gift(&self, session: Session, Json(chat): Json<Chat>) -> Result<Json<Chat>> {
        session.push(PUSH_GIFT, self.gift.clone()).await?;
        Ok(Json(chat))
    }

    /// Logs the client in, and makes it a member of the group for as long as it is connected.
    #[request]
    async fn join(&self, app: App, session: Session, Json(chat): Json<Chat>) -> Result<Json<Chat>> {
        session.bind(chat.id.to_string()).await?;
        let uid = session.uid()?;
        app.group(GROUP).add(&uid).await?;
        session.on_close(async move |_| {
            // It may have been removed with the group.
            drop(app.group(GROUP).remove(&uid).await);
        })?;
        Ok(Json(chat))
    }

    /// Pushes the payload to all members. Those that go meanwhile need not get it.
    #[request]
    async fn broadcast(&self, app: App, Json(chat): Json<Chat>) -> Result<Json<Chat>> {
        let _: pitaya::Delivery = app.group(GROUP).broadcast(KIND, PUSH_NEWS, Json(&chat)).await?;
        Ok(Json(chat))
    }

    /// Kicks the client that asks.
    #[request]
    async fn kick(&self, session: Session, Json(chat): Json<Chat>) -> Result<Json<Chat>> {
        session.kick().await?;
        Ok(Json(chat))
    }

    /// What this process holds, as far as only it knows.
    #[request]
    async fn vitals(&self, app: App) -> Json<Vitals> {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        Json(Vitals { sessions: app.session_count(), tasks })
    }
}

/// Bytes without a pattern.
fn noise(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(byte).collect()
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
    let heartbeat = args.value("--heartbeat")?.map(Duration::from_secs);
    let and_ws = args.flag("--and-ws");
    let (nats, etcd): (Option<String>, Option<String>) = (args.value("--nats")?, args.value("--etcd")?);
    args.finish()?;
    raise_file_limit()?;

    let mut builder = Server::frontend(KIND).handlers(Bench { gift: noise(GIFT) }).layer(from_fn(not_empty));
    if let Some(heartbeat) = heartbeat {
        builder = builder.set(&HEARTBEAT_INTERVAL, heartbeat);
    }
    if let (Some(nats), Some(etcd)) = (nats, etcd) {
        builder = builder
            .cluster(Cluster::from_config())
            .set_text("pitaya.cluster.sd.etcd.endpoints", etcd)
            .set_text("pitaya.cluster.rpc.client.nats.address", &*nats)
            .set_text("pitaya.cluster.rpc.server.nats.address", &*nats);
    }
    builder = match options.transport {
        Transport::Tcp => builder.acceptor(TcpAcceptor::bind(options.listen).await?),
        Transport::WebSocket => builder.acceptor(WsAcceptor::bind(options.listen).await?),
    };
    if and_ws {
        builder = builder.acceptor(WsAcceptor::bind((options.listen.ip(), 0)).await?);
    }
    let server = builder.build()?;
    server.app().group(GROUP).create().await?;
    options.announce(&server.addresses());
    server.serve().await?;
    Ok(())
}
