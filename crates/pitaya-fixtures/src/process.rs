//! A child process with a port, which dies with its test.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    ops::Range,
    process::Stdio,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

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

    /// Stops it without its knowing, and waits until each of its threads stands still: those that run when the signal is sent
    /// go on for a moment, in which they may answer.
    pub(crate) async fn freeze(&self) {
        let Some(id) = self.child.id() else { return };
        self.signal("STOP").await;
        let deadline = Instant::now() + PATIENCE;
        while !stands_still(id) {
            assert!(Instant::now() < deadline, "it does not stop");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets it go on after a [`freeze`](Self::freeze).
    pub(crate) async fn thaw(&self) {
        self.signal("CONT").await;
    }

    /// Kills it, and waits until its port is free.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Whether all threads of a process are stopped.
fn stands_still(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // A thread that has ended meanwhile has no state, and answers nothing.
    let states = threads.filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    // The state comes after the name, which is in parentheses.
    states.into_iter().all(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T")))
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
        [(); N].map(|()| free_port())
    }
}

impl<const N: usize, const M: usize> Ports for [[u16; N]; M] {
    fn free() -> Self {
        [(); M].map(|()| Ports::free())
    }
}

/// Below those that the kernel gives to connections and to listeners that name no port, so that nobody takes one while its
/// server is down.
const PORTS: Range<u16> = 12_000..32_000;

/// A port that nobody uses now, and that no other server of this process gets soon.
fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        // Other processes of tests begin elsewhere.
        AtomicU64::new(RandomState::new().hash_one(()) >> 32)
    });
    let mut candidates = PORTS.map(|_| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u64;
        // Less than the length of the range.
        PORTS.start + u16::try_from(number).unwrap()
    });
    candidates.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("no port is free")
}
