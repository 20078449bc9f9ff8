//! A server of ours in the place of Go Pitaya's test server: what the end-to-end suite of Pitaya starts, connects to and
//! calls. Tests of ours drive it through the same cases.
//!
//! `e2e-server -type connector -port 32222 -frontend=true -sdprefix pitaya/ [-debug]`; etcd and NATS are on their usual
//! ports of this machine, unless variables such as `PITAYA_CLUSTER_SD_ETCD_ENDPOINTS` say otherwise.

mod args;
mod remotes;
mod service;

use std::{error::Error, process::ExitCode};

use args::{Args, USAGE};
use pitaya::{
    Cluster, Server, ServerBuilder, TcpAcceptor,
    config::{self, Preset},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// What the suite waits for on stderr before it connects.
const READY: &str = "all modules started!";

/// The server types of the suite. Go's servers do not say that they have handlers for clients, so each is named.
const TYPES: [&str; 4] = ["connector", "connector1", "connector2", "game"];

/// Where etcd and NATS are, if the environment does not say.
const LINKS: [(&str, &str); 3] = [
    ("PITAYA_CLUSTER_SD_ETCD_ENDPOINTS", "127.0.0.1:2379"),
    ("PITAYA_CLUSTER_RPC_CLIENT_NATS_CONNECT", "nats://127.0.0.1:4222"),
    ("PITAYA_CLUSTER_RPC_SERVER_NATS_CONNECT", "nats://127.0.0.1:4222"),
];

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    log(args.debug);
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr. Only the framework says more with `debug`: the suite reads ten lines a second until it finds [`READY`],
/// and the frames of HTTP/2 are a hundred.
fn log(debug: bool) {
    let level = if debug { LevelFilter::DEBUG } else { LevelFilter::INFO };
    let targets = Targets::new().with_default(LevelFilter::INFO).with_target("pitaya", level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(targets).init();
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    if args.grpc {
        return Err("-grpc=true: this server speaks NATS only; there is no gRPC adapter yet".into());
    }
    let mut builder = if args.frontend {
        let acceptor = TcpAcceptor::bind(("127.0.0.1", args.port)).await?;
        Server::frontend(args.kind.as_str()).acceptor(acceptor)
    } else {
        Server::backend(args.kind.as_str())
    };
    builder = game(builder, &args.sd_prefix);
    let server = builder.build()?;
    let app = server.app();
    let serving = server.serve().with_signals();
    let announced = async {
        // It accepts clients then, the others can find it, and it knows all that were there before it.
        app.ready().await;
        eprintln!("{READY}");
        std::future::pending().await
    };
    tokio::select! {
        ended = async { serving.await } => Ok(ended?),
        never = announced => never,
    }
}

/// What is the same for all types: the cluster, as Go Pitaya v2 has it, and what can be called.
fn game(builder: ServerBuilder, sd_prefix: &str) -> ServerBuilder {
    // A later variable of a name wins over an earlier one.
    let links = LINKS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    builder
        .cluster(Cluster::from_config())
        .preset(Preset::GoV2)
        .environment(links.into_iter().chain(config::environment()))
        .set_text("pitaya.cluster.sd.etcd.prefix", sd_prefix)
        .expose(TYPES)
        .handlers(service::TestSvc)
        .remotes(remotes::TestRemoteSvc)
}
