//! What every server of the benchmark offers to `cargo xtask bench`.
#![allow(
    clippy::exit,
    clippy::print_stdout,
    reason = "for main functions: the address is the server's output, and stdin its life line"
)]

use crate::{Transport, args::Args};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::net::SocketAddr;

/// What a server says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Its clients.
    pub sessions: usize,
    /// The tasks of its runtime, those that serve clients and all others.
    pub tasks: usize,
}

/// Lets this process have as many open files as it may, for one connection is one of them.
///
/// # Errors
///
/// If the system refuses.
pub fn raise_file_limit() -> io::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX).map(drop)
}

/// The arguments that all servers of the benchmark understand.
#[derive(Clone, Debug)]
pub struct ServerArgs {
    /// `--listen`: where to listen; port 0 asks the system for a free one.
    pub listen: SocketAddr,
    /// `--transport`: tcp (the default) or ws.
    pub transport: Transport,
    /// `--exit-with-stdin`: end the process when standard input is closed.
    pub exit_with_stdin: bool,
}

impl ServerArgs {
    /// Takes these arguments off the command line.
    ///
    /// # Errors
    ///
    /// If a value cannot be parsed.
    pub fn take(args: &mut Args) -> Result<Self, String> {
        let listen = args.value("--listen")?;
        Ok(Self {
            listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            transport: args.value("--transport")?.unwrap_or(Transport::Tcp),
            exit_with_stdin: args.flag("--exit-with-stdin"),
        })
    }

    /// Says on standard output where the server listens, one line for each address, and, if asked to, ties the process to
    /// standard input: so that no server outlives the benchmark, however that ends.
    pub fn announce(&self, bound: &[SocketAddr]) {
        for address in bound {
            println!("listening {address}");
        }
        if self.exit_with_stdin {
            std::thread::spawn(|| {
                let mut sink = [0; 64];
                while matches!(io::stdin().read(&mut sink), Ok(1..)) {}
                std::process::exit(0);
            });
        }
    }
}
