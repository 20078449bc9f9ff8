//! The timers of a connection: each is a moment it counts from, and a duration that may change.

use std::time::{Duration, Instant};

use super::State;

/// How long things may take; zero switches a timer off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the opening of the connection until it works.
    pub handshake: Duration,
    /// From the first byte of a packet until it is complete.
    pub partial_packet: Duration,
    /// Between two heartbeats that we send, the first one interval after the handshake was accepted.
    pub heartbeat: Duration,
    /// Without any complete packet of the peer. A server sets 2.5 heartbeat intervals: Go's closes between 2 and 3
    /// (protocol.md section 2.6).
    pub idle: Duration,
}

/// What is to be done because time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeoutAction {
    /// Send a Heartbeat packet, behind the messages already waiting.
    SendHeartbeat,
    /// Close the connection without an answer.
    Close(CloseReason),
}

/// Which timeout closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The handshake took too long.
    HandshakeTimeout,
    /// A packet was begun and not finished.
    PartialPacketTimeout,
    /// The peer was silent too long.
    Idle,
}

#[derive(Debug, Clone)]
pub(super) struct Timers {
    pub(super) timeouts: Timeouts,
    opened: Instant,
    last_packet: Instant,
    /// When the bytes of the unfinished packet were first seen.
    partial_since: Option<Instant>,
    /// When the last heartbeat was due, or the handshake accepted.
    last_heartbeat: Option<Instant>,
    paused_at: Option<Instant>,
}

impl Timers {
    pub(super) fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self { timeouts, opened: now, last_packet: now, partial_since: None, last_heartbeat: None, paused_at: None }
    }

    #[inline]
    pub(super) fn last_packet(&self) -> Instant {
        self.last_packet
    }

    #[inline]
    pub(super) fn packet_completed(&mut self, now: Instant) {
        self.last_packet = now;
        self.partial_since = None;
    }

    #[inline]
    pub(super) fn partial_packet(&mut self, incomplete: bool, now: Instant) {
        if incomplete {
            self.partial_since.get_or_insert(now);
        } else {
            self.partial_since = None;
        }
    }

    pub(super) fn start_heartbeats(&mut self, now: Instant) {
        self.last_heartbeat = Some(now);
    }

    #[inline]
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_at.get_or_insert(now);
    }

    #[inline]
    pub(super) fn resume(&mut self, now: Instant) {
        let Some(paused_at) = self.paused_at.take() else {
            return;
        };
        self.partial_since = self.partial_since.map(|since| without_pause(since, paused_at, now));
        self.last_packet = without_pause(self.last_packet, paused_at, now);
    }

    fn close_deadlines(&self, state: State) -> [(CloseReason, Option<Instant>); 3] {
        let Timeouts { handshake, partial_packet, idle, .. } = self.timeouts;
        let in_handshake = (state < State::Working).then_some(self.opened);
        let reading = self.paused_at.is_none();
        let partial = self.partial_since.filter(|_| reading);
        let last_packet = reading.then_some(self.last_packet);
        [
            (CloseReason::HandshakeTimeout, after(in_handshake, handshake)),
            (CloseReason::PartialPacketTimeout, after(partial, partial_packet)),
            (CloseReason::Idle, after(last_packet, idle)),
        ]
    }

    fn heartbeat_deadline(&self) -> Option<Instant> {
        after(self.last_heartbeat, self.timeouts.heartbeat)
    }

    pub(super) fn deadline(&self, state: State) -> Option<Instant> {
        self.close_deadlines(state).into_iter().filter_map(|(_, at)| at).chain(self.heartbeat_deadline()).min()
    }

    pub(super) fn due(&mut self, state: State, now: Instant) -> Option<TimeoutAction> {
        for (reason, at) in self.close_deadlines(state) {
            if at.is_some_and(|at| at <= now) {
                return Some(TimeoutAction::Close(reason));
            }
        }
        let due_at = self.heartbeat_deadline().filter(|at| *at <= now)?;
        // Counting from the due moment keeps the rhythm; but heartbeats missed altogether are not made up for.
        let keeps_up = after(Some(due_at), self.timeouts.heartbeat).is_some_and(|next| next > now);
        self.last_heartbeat = Some(if keeps_up { due_at } else { now });
        Some(TimeoutAction::SendHeartbeat)
    }
}

/// Returns the end of a timer; `None` if it is off, does not run, or ends beyond what the clock can express.
fn after(from: Option<Instant>, duration: Duration) -> Option<Instant> {
    if duration.is_zero() {
        return None;
    }
    from?.checked_add(duration)
}

/// Moves the start of a timer that stood still from `paused_at`, or from its start if that was later, until `now`.
fn without_pause(from: Instant, paused_at: Instant, now: Instant) -> Instant {
    let stood = now.saturating_duration_since(from.max(paused_at));
    from.checked_add(stood).unwrap_or(now)
}
