//! A nats-server and an etcd for the pairs: says where they listen, and ends them when its input is closed.
#![allow(clippy::print_stdout, reason = "the addresses are the output")]

use pitaya_fixtures::{Etcd, Nats};
use std::io::{self, Read as _};

// One thread: the two end with the thread that has started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let (nats, etcd) = tokio::join!(Nats::start(), Etcd::start());
    println!("--nats {} --etcd {}", nats.address(), etcd.address());
    let mut sink = Vec::new();
    io::stdin().read_to_end(&mut sink).map(drop)
}
