//! The load generator. One thread, so that one core is left for the server under test.
//!
//! `load --addr HOST:PORT [--addr HOST:PORT ..] [--transport tcp|ws] [--connections 64]
//! [--in-flight 8] [--route bench.echo]`
//!
//! It opens the connections to every address, prints `ready` and then obeys the lines on its
//! standard input until `quit` or the end of the input:
//!
//! | line | what it does |
//! |---|---|
//! | `target N` | sends to the Nth address, counted from 0 |
//! | `route R` | sends requests for this route |
//! | `rate R S` | offers R requests a second for S seconds, at times that are fixed beforehand |
//! | `saturate S` | keeps every connection full for S seconds |
//! | `count N` | sends exactly N requests, as fast as they are answered |
//!
//! Each of the last three prints one line of JSON, see [`pitaya_bench::stats::Line`].
//! A wrong answer or a lost connection ends the process with an error.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark measures real time and owns its tasks itself; its output is stdout"
)]

mod connection;
mod run;
mod schedule;

use pitaya_bench::{ROUTE_READY, Transport, args::Args};
use run::Target;
use schedule::Schedule;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::LocalSet;

/// The command line.
struct Options {
    addrs: Vec<SocketAddr>,
    transport: Transport,
    connections: usize,
    in_flight: usize,
    route: String,
}

fn main() -> ExitCode {
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Connects and obeys the commands.
fn obey() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let mut targets = Vec::new();
    for addr in &options.addrs {
        let connect = Target::connect(*addr, &options);
        targets.push(local.block_on(&runtime, connect)?);
    }
    println!("ready");

    let (mut current, mut route) = (0, options.route.clone());
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let target = targets.get(current).ok_or("no such target")?;
        let result = match words[..] {
            ["quit"] => break,
            ["target", n] => {
                current = n.parse()?;
                continue;
            }
            ["route", name] => {
                route = String::from(name);
                continue;
            }
            ["rate", rate, seconds] => {
                let window = Duration::try_from_secs_f64(seconds.parse()?)?;
                let (lanes, in_flight) = (options.connections, options.in_flight);
                let schedule = Schedule::new(rate.parse()?, window, lanes, in_flight);
                local.block_on(&runtime, target.rate(&route, schedule))?
            }
            ["saturate", seconds] => {
                let window = Duration::try_from_secs_f64(seconds.parse()?)?;
                local.block_on(&runtime, target.saturate(&route, window))?
            }
            ["count", n] => local.block_on(&runtime, target.count(&route, n.parse()?))?,
            _ => return Err(format!("unknown command `{line}`").into()),
        };
        println!("{}", serde_json::to_string(&result)?);
    }
    Ok(())
}

/// Reads the command line.
fn options() -> Result<Options, String> {
    let mut args = Args::from_env();
    let mut addrs = Vec::new();
    while let Some(addr) = args.value("--addr")? {
        addrs.push(addr);
    }
    let options = Options {
        addrs,
        transport: args.value("--transport")?.unwrap_or(Transport::Tcp),
        connections: args.value("--connections")?.unwrap_or(64),
        in_flight: args.value("--in-flight")?.unwrap_or(8),
        route: args.value("--route")?.unwrap_or_else(|| String::from(ROUTE_READY)),
    };
    args.finish()?;
    if options.addrs.is_empty() {
        return Err(String::from("--addr HOST:PORT is missing"));
    }
    if options.in_flight == 0 || options.route.len() > 255 {
        return Err(String::from("--in-flight is at least 1, a route at most 255 bytes"));
    }
    Ok(options)
}
