//! The task that owns the connection of a client.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::error::{CloseReason, ConnectError};
use crate::reconnect::Reconnect;
use crate::session::{Outgoing, Session};
use crate::shared::Shared;

/// How many messages may wait between the handles and the task; senders wait when it is full.
pub(crate) const COMMANDS: usize = 256;

/// How long a closing client tries to get rid of what is unsent.
const LINGER: Duration = Duration::from_secs(1);

/// A message for the connection of that epoch.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) epoch: u64,
    pub(crate) message: Outgoing,
}

/// The owner of the connection. Whatever ends it, dropping it included, ends the client.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    /// Where to reconnect to; `None` for a stream that was handed in.
    address: Option<Address>,
    epoch: u64,
    /// Failed attempts in a row.
    failures: u32,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Receiver<Command>, address: Option<Address>) -> Self {
        Self { shared, commands, address, epoch: 0, failures: 0 }
    }

    /// Serves the connection, and those that replace it, until the client is closed.
    pub(crate) async fn run(mut self, session: Session) {
        let reason = self.live(session).await;
        // All sockets are gone by now, as `Client::closed` promises.
        self.shared.finish(&reason);
    }

    async fn live(&mut self, mut session: Session) -> CloseReason {
        loop {
            let broken = self.serve(&mut session).await;
            tracing::debug!(reason = %broken, "connection ended");
            if let CloseReason::ClientClosed = broken {
                self.take_leave(&mut session).await;
                return broken;
            }
            let (Some(reconnect), Some(address)) = (self.shared.options.reconnect, self.address.clone()) else {
                return broken;
            };
            if let CloseReason::Kicked = broken {
                return broken;
            }
            if session.opened.elapsed() >= reconnect.max {
                self.failures = 0;
            }
            drop(session);
            match self.reconnect(reconnect, &address, &broken).await {
                Ok(replacement) => session = replacement,
                Err(reason) => return reason,
            }
            self.epoch = self.shared.reconnected(Arc::clone(&session.handshake));
        }
    }

    /// Carries messages in both directions until the connection ends.
    async fn serve(&mut self, session: &mut Session) -> CloseReason {
        let shared = Arc::clone(&self.shared);
        let closing = shared.closing.cancelled();
        let timer = sleep(Duration::ZERO);
        tokio::pin!(closing, timer);
        loop {
            let deadline = session.deadline();
            if let Some(deadline) = deadline
                && timer.deadline() != deadline
            {
                timer.as_mut().reset(deadline);
            }
            let full = session.link.is_full();
            // All branches are cancel safe: the link keeps its bytes, the channel its messages.
            let step = tokio::select! {
                () = &mut closing => Err(CloseReason::ClientClosed),
                received = session.receive(&shared) => received,
                command = self.commands.recv(), if !full => match command {
                    Some(command) => self.send(session, command),
                    None => Err(CloseReason::ClientClosed),
                },
                () = &mut timer, if deadline.is_some() => session.handle_timers(),
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    /// Queues a message and those that wait behind it, so that they leave with one write.
    fn send(&mut self, session: &mut Session, command: Command) -> Result<(), CloseReason> {
        let mut next = Some(command);
        while let Some(Command { epoch, message }) = next {
            // Nothing is sent for a caller that has gone, or for a connection that was there before.
            let wanted = message.id == 0 || self.shared.pending.wants(message.id);
            if wanted && epoch == self.epoch {
                session.send(&message)?;
            }
            if session.link.is_full() {
                break;
            }
            next = self.commands.try_recv().ok();
        }
        Ok(())
    }

    /// Sends what was handed over before the client was closed, and closes the connection properly, in bounded time.
    async fn take_leave(&mut self, session: &mut Session) {
        self.shared.pending.close(&CloseReason::ClientClosed);
        self.commands.close();
        while let Ok(Command { epoch, message }) = self.commands.try_recv() {
            if epoch == self.epoch && message.id == 0 && session.send(&message).is_err() {
                return;
            }
        }
        if !matches!(timeout(LINGER, session.link.shut_down()).await, Ok(Ok(()))) {
            tracing::debug!("closed without sending everything");
        }
    }

    /// Makes a new connection.
    async fn reconnect(
        &mut self,
        reconnect: Reconnect,
        address: &Address,
        broken: &CloseReason,
    ) -> Result<Session, CloseReason> {
        let mut last = None;
        loop {
            if reconnect.attempts.is_some_and(|attempts| self.failures >= attempts) {
                return Err(CloseReason::ReconnectFailed { attempts: self.failures, last });
            }
            self.failures = self.failures.saturating_add(1);
            self.shared.reconnecting(self.failures, broken);
            let delay = reconnect.delay(self.failures);
            let attempt = async {
                sleep(delay).await;
                connect(address, &self.shared).await
            };
            let closing = self.shared.closing.cancelled();
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = closing => return Err(CloseReason::ClientClosed),
                () = discard(&mut self.commands) => return Err(CloseReason::ClientClosed),
            };
            match outcome {
                Ok(session) => return Ok(session),
                Err(ConnectError::Kicked) => return Err(CloseReason::Kicked),
                Err(error @ ConnectError::Refused { .. }) => {
                    return Err(CloseReason::ReconnectFailed { attempts: self.failures, last: Some(Arc::new(error)) });
                }
                Err(error) => {
                    tracing::debug!(attempt = self.failures, %error, "cannot reconnect");
                    last = Some(Arc::new(error));
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Without effect after a regular end. This is for a runtime that drops its tasks: nobody shall wait for ever.
        self.shared.finish(&CloseReason::Aborted);
    }
}

/// Throws away messages for the broken connection; ends when the last handle is dropped.
async fn discard(commands: &mut mpsc::Receiver<Command>) {
    while commands.recv().await.is_some() {}
}

async fn connect(address: &Address, shared: &Shared) -> Result<Session, ConnectError> {
    let options = &shared.options;
    let connecting = async {
        let link = address.open(options.max_packet).await?;
        Session::establish(link, options).await
    };
    timeout(options.connect_timeout, connecting).await.unwrap_or(Err(ConnectError::Timeout))
}
