//! What every server of the benchmark offers to `cargo xtask bench`.
#![allow(
    clippy::exit,
    clippy::print_stdout,
    reason = "for main functions: the address is the server's output, and stdin its life line"
)]

use crate::{Transport, args::Args};
use std::io::Read;
use std::net::SocketAddr;

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

    /// Says on standard output where the server listens and, if asked to, ties the process to
    /// standard input: so that no server outlives the benchmark, however that ends.
    pub fn announce(&self, bound: SocketAddr) {
        println!("listening {bound}");
        if self.exit_with_stdin {
            std::thread::spawn(|| {
                let mut sink = [0; 64];
                while matches!(std::io::stdin().read(&mut sink), Ok(1..)) {}
                std::process::exit(0);
            });
        }
    }
}
