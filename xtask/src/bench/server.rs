//! A server under test.

use super::Result;
use super::case::Transport;
use super::cpu;
use super::memory;
use super::process::Process;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a server may take to listen; under valgrind that is seconds.
const START: Duration = Duration::from_secs(30);

/// A running server, and the processes that work for it.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    /// Its backends.
    others: Vec<Process>,
    address: String,
}

impl Server {
    /// Starts `program` with nothing but its transport: in its default configuration.
    pub(crate) fn start(program: &Path, transport: Transport) -> Result<Self> {
        Self::start_with(&mut Command::new(program), transport, &[])
    }

    /// Starts `program` with more arguments.
    pub(crate) fn start_args(program: &Path, transport: Transport, more: &[&str]) -> Result<Self> {
        Self::start_with(&mut Command::new(program), transport, more)
    }

    /// Starts the byte echo, which the limit server can be as well.
    pub(crate) fn start_echo(limit: &Path, transport: Transport) -> Result<Self> {
        Self::start_with(&mut Command::new(limit), transport, &["--mode", "echo"])
    }

    /// Starts `command` with the arguments that every server understands, and `more`.
    pub(crate) fn start_with(command: &mut Command, transport: Transport, more: &[&str]) -> Result<Self> {
        command.args(["--listen", "127.0.0.1:0", "--transport", transport.name()]);
        let mut process = Process::spawn("server", command.arg("--exit-with-stdin").args(more))?;
        let line = process.line(START)?;
        let address = line
            .strip_prefix("listening ")
            .ok_or_else(|| format!("the server said `{line}` and not where it listens"))?;
        let address = address.to_owned();
        Ok(Self { process, others: Vec::new(), address })
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Starts `command` as a backend, and waits until it can be called.
    pub(crate) fn start_backend(command: &mut Command) -> Result<Process> {
        let mut process = Process::spawn("backend", command.arg("--exit-with-stdin"))?;
        match process.line(START)?.as_str() {
            "ready" => Ok(process),
            line => Err(format!("the backend said `{line}`").into()),
        }
    }

    /// Counts the CPU time of this process as well, and ends it with the server.
    pub(crate) fn with(mut self, other: Process) -> Self {
        self.others.push(other);
        self
    }

    /// The CPU time that the server has used so far, and those that work for it.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let all = self.others.iter().chain([&self.process]);
        all.map(|process| cpu::used(process.id())).sum()
    }

    /// The memory of the server that is in use, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        memory::resident(self.process.id())
    }

    /// Ends the server by closing its input.
    pub(crate) fn end(self, patience: Duration) -> Result<()> {
        self.process.end(patience)
    }
}
