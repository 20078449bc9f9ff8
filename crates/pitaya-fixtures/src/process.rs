//! A child process with a port, which dies with its test.

use std::{net::TcpListener, process::Stdio, time::Duration};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::PATIENCE;

/// How often a server is started on other ports, because somebody took its port between the look and the start.
const ATTEMPTS: usize = 5;

/// A running server.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program, and waits until somebody listens on `port`. None if it ends before: its port may have been taken.
    pub(crate) async fn start(program: &str, args: &[String], port: u16) -> Option<Self> {
        // The kernel kills the child when the thread that started it ends; the test's own end does so as well.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]).args(args);
        // Where Debian puts servers, for those who are not root.
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
        let mut process = Self { child };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if process.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "{program} does not listen");
            sleep(Duration::from_millis(5)).await;
        }
        Some(process)
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) async fn signal(&self, name: &str) {
        let Some(id) = self.child.id() else { return };
        let status = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().await;
        assert!(status.unwrap().success(), "no signal {name}");
    }

    /// Kills it, and waits until its port is free.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Starts something on ports that nobody uses, again if somebody was faster.
pub(crate) async fn on_free_ports<P: Ports, T>(start: impl AsyncFn(P) -> Option<T>) -> T {
    for _ in 0..ATTEMPTS {
        if let Some(started) = start(P::free()).await {
            return started;
        }
    }
    panic!("the server ended {ATTEMPTS} times at its start");
}

/// Ports that nobody uses now, all different.
pub(crate) trait Ports {
    fn free() -> Self;
}

impl<const N: usize> Ports for [u16; N] {
    fn free() -> Self {
        let [ports] = <[Self; 1]>::free();
        ports
    }
}

impl<const N: usize, const M: usize> Ports for [[u16; N]; M] {
    fn free() -> Self {
        let listeners = [(); M].map(|()| [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()));
        listeners.map(|listeners| listeners.map(|listener| listener.local_addr().unwrap().port()))
    }
}
