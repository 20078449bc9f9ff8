//! A child process that is spoken to by lines, and that never outlives its owner.

use super::Result;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How many lines may wait to be read; the children print one for each command.
const LINES: usize = 16;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);

/// A running child. It is killed on drop; and since its standard input is a pipe that the
/// programs of the benchmark watch, it also ends when xtask itself is killed.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `command`, which `name` stands for in messages.
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or("a child without standard output")?;
        let (sender, lines) = sync_channel(LINES);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { name, child, stdin, lines })
    }

    /// The id under which the system knows the child.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes one line to the child.
    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("the child's input is closed")?;
        writeln!(stdin, "{line}").map_err(|error| format!("{}: {error}", self.name).into())
    }

    /// Waits for the child's next line.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(format!("{} said nothing for {patience:?}", self.name).into()),
            Err(RecvTimeoutError::Disconnected) => Err(match self.wait(Duration::from_secs(1)) {
                Ok(()) => format!("{} ended too early", self.name).into(),
                Err(error) => error,
            }),
        }
    }

    /// Closes the child's input, which ends it, and waits for that.
    pub(crate) fn end(mut self, patience: Duration) -> Result<()> {
        self.stdin = None;
        self.wait(patience)
    }

    /// Waits for the end of the child, which must be a success.
    fn wait(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{} ended: {status}", self.name).into()),
                None if Instant::now() > deadline => {
                    return Err(format!("{} did not end within {patience:?}", self.name).into());
                }
                None => std::thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the child has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_child_answers_and_ends_with_its_input() {
        let mut cat = Process::spawn("cat", &mut Command::new("cat")).unwrap();
        cat.send("hello").unwrap();
        assert_eq!(cat.line(PATIENCE).unwrap(), "hello");
        cat.end(PATIENCE).unwrap();
    }

    #[test]
    fn silence_and_failure_are_errors() {
        let mut cat = Process::spawn("cat", &mut Command::new("cat")).unwrap();
        assert!(cat.line(Duration::from_millis(1)).is_err());
        let mut fails = Process::spawn("false", &mut Command::new("false")).unwrap();
        let error = fails.line(PATIENCE).unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
    }
}
