//! A frontend and a backend of this framework as a user would write them: default configuration, one before-hook on the
//! backend, one handler; on etcd and NATS, or in one process.
//!
//! `bench-pair --role front|back|both [--name NAME] [--nats ADDRESS] [--etcd ADDRESS] [--listen 127.0.0.1:0]
//! [--exit-with-stdin]`
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark measures real time and owns its tasks itself; that it is ready is a backend's output"
)]

use pitaya::cluster::Wiring;
use pitaya::prelude::*;
use pitaya::{Cluster, ServerBuilder};
use pitaya_bench::pair::{BACK, FRONT, PairArgs, Role};
use pitaya_bench::server::{ServerArgs, raise_file_limit};
use pitaya_bench::{args::Args, payload::Chat};
use std::error::Error as StdError;
use std::time::Duration;

/// How long the two may take to find each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked whether they have.
const POLL: Duration = Duration::from_millis(5);

struct Bench;

#[handlers(name = "bench")]
impl Bench {
    /// Never suspends.
    #[request]
    async fn echo(&self, Json(chat): Json<Chat>) -> Json<Chat> {
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
async fn main() -> Result<(), Box<dyn StdError>> {
    let mut args = Args::from_env();
    let options = ServerArgs::take(&mut args)?;
    let pair = PairArgs::take(&mut args)?;
    args.finish()?;
    raise_file_limit()?;

    let network = |builder: ServerBuilder| {
        builder
            .cluster(Cluster::from_config())
            .set_text("pitaya.cluster.sd.etcd.endpoints", &*pair.etcd)
            .set_text("pitaya.cluster.rpc.client.nats.address", format!("nats://{}", pair.nats))
            .set_text("pitaya.cluster.rpc.server.nats.address", format!("nats://{}", pair.nats))
    };
    match pair.role {
        Role::Back => {
            let app = serve(network(back(&pair)))?;
            known(&app, 1).await?;
            println!("ready");
            options.announce(&[]);
        }
        Role::Front => front(network(Server::frontend(FRONT)), &pair, &options).await?,
        Role::Both => {
            let cluster: Wiring = Cluster::in_process();
            let app = serve(back(&pair).cluster(cluster.clone()))?;
            known(&app, 1).await?;
            front(Server::frontend(FRONT).cluster(cluster), &pair, &options).await?;
        }
    }
    // The servers end with the process.
    std::future::pending().await
}

fn back(pair: &PairArgs) -> ServerBuilder {
    Server::backend(BACK).id(format!("{BACK}-{}", pair.name)).handlers(Bench).layer(from_fn(not_empty))
}

/// Starts the frontend, and says where it listens when it knows the backend.
async fn front(builder: ServerBuilder, pair: &PairArgs, options: &ServerArgs) -> Result<(), Box<dyn StdError>> {
    let acceptor = TcpAcceptor::bind(options.listen).await?;
    let server = builder.id(format!("{FRONT}-{}", pair.name)).acceptor(acceptor).build()?;
    let addresses = server.addresses();
    let app = server.app();
    run(server);
    known(&app, 2).await?;
    options.announce(&addresses);
    Ok(())
}

fn serve(builder: ServerBuilder) -> Result<App, Box<dyn StdError>> {
    let server = builder.build()?;
    let app = server.app();
    run(server);
    Ok(app)
}

fn run(server: Server) {
    tokio::spawn(async move {
        if let Err(error) = server.serve().await {
            eprintln!("bench-pair: {error}");
        }
    });
}

/// Waits until a server has started and knows so many, itself included.
async fn known(app: &App, count: usize) -> Result<(), Box<dyn StdError>> {
    let found = async {
        while !app.is_ready() || app.servers().len() < count {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.map_err(|_| "the servers do not find each other".into())
}
