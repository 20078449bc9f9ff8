//! The one timer of a connection.

use std::{
    future::Future as _,
    pin::{Pin, pin},
    task::Context,
};

use pitaya_core::CloseReason;
use pitaya_protocol::{CloseReason as ProtocolClose, TimeoutAction};
use tokio::{
    task::coop,
    time::{Instant, Sleep},
};

use super::Connection;

/// A timer that is armed for the earliest deadline. It is moved only to an earlier one: one that has moved away is noticed
/// when the timer fires, so a busy connection does not touch it.
pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed: Instant,
    /// The task's waker has to be registered again.
    registered: bool,
}

impl Timer {
    pub(super) fn new(first: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(first)), armed: first, registered: false }
    }

    fn arm(&mut self, cx: &mut Context<'_>, deadline: Instant, now: Instant) {
        if deadline < self.armed || self.armed <= now {
            self.sleep.as_mut().reset(deadline);
            self.armed = deadline;
            self.registered = false;
        }
        if !self.registered {
            // Always polled with the waker of the same task, so once is enough. Outside of the task's budget: a timer that
            // is refused for lack of it would not be registered, and never wake anybody.
            self.registered = pin!(coop::unconstrained(self.sleep.as_mut())).poll(cx).is_pending();
            if !self.registered {
                // The deadline has passed meanwhile.
                cx.waker().wake_by_ref();
            }
        }
    }
}

impl Connection {
    /// Does what is due. Returns why the connection ends, if it does.
    ///
    /// Called when everything that is here has been read and handled: a thread that was busy, or a process that stood
    /// still, must not make a client look silent.
    pub(super) fn keep_time(&mut self, now: Instant) -> Option<CloseReason> {
        if now < self.timer.armed {
            return None;
        }
        while let Some(action) = self.protocol.handle_timeout(now.into_std()) {
            match action {
                TimeoutAction::SendHeartbeat => {
                    self.outbox.shrink();
                    self.outbox.push_heartbeat();
                    self.wire.release_buffers();
                }
                TimeoutAction::Close(reason) => return Some(reason_of(reason)),
            }
        }
        let write_timeout = self.engine.options.write_timeout;
        if self.wire.stalled_since().is_some_and(|since| since + write_timeout <= now) {
            return Some(CloseReason::WriteTimeout);
        }
        self.flush_deadline.filter(|(deadline, _)| *deadline <= now).map(|(_, reason)| reason)
    }

    /// Arms the timer for the earliest deadline.
    pub(super) fn arm_timer(&mut self, cx: &mut Context<'_>, now: Instant) {
        let protocol = self.protocol.deadline().map(Instant::from_std);
        let write = self.wire.stalled_since().map(|since| since + self.engine.options.write_timeout);
        let drain = self.drain.map(|(deadline, _)| deadline).filter(|deadline| *deadline > now);
        let flush = self.flush_deadline.map(|(deadline, _)| deadline);
        let earliest = [protocol, write, drain, flush].into_iter().flatten().min();
        // Without any deadline the timer stays where it is: firing for nothing costs a look.
        if let Some(earliest) = earliest {
            self.timer.arm(cx, earliest, now);
        }
    }
}

fn reason_of(reason: ProtocolClose) -> CloseReason {
    match reason {
        ProtocolClose::HandshakeTimeout => CloseReason::HandshakeTimeout,
        ProtocolClose::PartialPacketTimeout => CloseReason::PartialPacket,
        ProtocolClose::Idle => CloseReason::Idle,
    }
}
