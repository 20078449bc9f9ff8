//! Thousands of clients in one process: they connect, say little, answer heartbeats, and note what is pushed to them.
//!
//! `crowd --addr HOST:PORT [--addr HOST:PORT ..] [--transport tcp|ws]`
//!
//! It prints `ready` and then obeys the lines on its standard input until `quit` or the end of the input:
//!
//! | line | what it does |
//! |---|---|
//! | `target N` | talks to the Nth address, counted from 0 |
//! | `connect N` | opens N more connections, which answer every heartbeat from now on |
//! | `each ROUTE N` | the next N clients that have not asked for this route ask for it, once each |
//! | `gifts` | waits until each client has got the large push that it asked for |
//! | `heartbeats N` | waits until each client has answered N heartbeats from now on |
//! | `broadcast R S` | one client asks for R broadcasts a second for S seconds, at times that are fixed beforehand |
//! | `chain S` | one client asks for a broadcast as soon as the last member has the one before, for S seconds |
//!
//! Each but the first prints one line of JSON when it is done, see [`crowd::Line`].
//! A wrong answer or a lost connection ends the process with an error.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a benchmark measures real time and owns its tasks itself; its output is stdout"
)]

mod crowd;
mod member;
mod news;

use crowd::{Crowd, Line};
use pitaya_bench::server::raise_file_limit;
use pitaya_bench::{Transport, args::Args};
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::task::LocalSet;

fn main() -> ExitCode {
    match obey() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Obeys the commands.
fn obey() -> Result<(), Box<dyn Error>> {
    let mut args = Args::from_env();
    let transport = args.value("--transport")?.unwrap_or(Transport::Tcp);
    let mut crowds = Vec::new();
    while let Some(addr) = args.value::<SocketAddr>("--addr")? {
        crowds.push(Crowd::new(addr, transport));
    }
    args.finish()?;
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    println!("ready");

    let mut current = 0;
    let (sender, mut lines) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    // The clients answer heartbeats also while there is no command.
    local.block_on(&runtime, async {
        while let Some(line) = lines.recv().await {
            let words: Vec<&str> = line.split_whitespace().collect();
            let crowd = crowds.get_mut(current).ok_or("no such target")?;
            let done = match words[..] {
                ["quit"] => break,
                ["target", n] => {
                    current = n.parse()?;
                    continue;
                }
                ["connect", n] => crowd.connect(n.parse()?).await?,
                ["each", route, n] => crowd.each(route, n.parse()?).await?,
                ["gifts"] => crowd.gifts().await?,
                ["heartbeats", n] => crowd.heartbeats(n.parse()?).await?,
                ["broadcast", rate, s] => crowd.broadcast(rate.parse()?, seconds(s)?).await?,
                ["chain", s] => crowd.chain(seconds(s)?).await?,
                _ => return Err(format!("unknown command `{line}`").into()),
            };
            print(&done)?;
        }
        Ok(())
    })
}

fn print(line: &Line) -> Result<(), Box<dyn Error>> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}

fn seconds(text: &str) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
