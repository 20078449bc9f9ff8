//! The state machine of a connection, shared by server and client (protocol.md sections 2.1 and 2.6).

mod state;
mod timer;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::packet::{Packet, PacketKind};
use timer::Timers;

pub use state::{Event, Limits, ProtocolError, Role, State};
pub use timer::{CloseReason, TimeoutAction, Timeouts};

/// Decides which packet is allowed when, and when silence has lasted too long.
///
/// It does no I/O and reads no clock. The owner of the socket (the engine) reports packets, unfinished packets and the
/// time, and carries out what comes back:
///
/// 1. decode with [`max_body`](Self::max_body), then [`handle_packet`](Self::handle_packet);
/// 2. on [`Event::Handshake`] decide, then [`accept_handshake`](Self::accept_handshake) or
///    [`refuse_handshake`](Self::refuse_handshake);
/// 3. sleep until [`deadline`](Self::deadline), then call [`handle_timeout`](Self::handle_timeout) until it has nothing
///    more to say.
///
/// Two rules that Go Pitaya lacks (protocol.md section 15.1, items 6 and 7): no way leads to [`State::Working`] but a
/// handshake that the engine has accepted, and no way leads out of [`State::Closed`].
#[derive(Debug, Clone)]
pub struct Connection {
    role: Role,
    state: State,
    timers: Timers,
}

impl Connection {
    /// Returns the machine of a connection opened at `now`; the handshake timeout counts from here.
    #[must_use]
    pub fn new(role: Role, timeouts: Timeouts, now: Instant) -> Self {
        Self { role, state: State::Handshake, timers: Timers::new(timeouts, now) }
    }

    /// Returns which side of the connection this is.
    #[inline]
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the current state.
    #[inline]
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns when the last complete packet was handled, or the connection opened.
    #[inline]
    #[must_use]
    pub fn last_activity(&self) -> Instant {
        self.timers.last_packet()
    }

    /// Returns the longest body in bytes to accept in the next packet.
    ///
    /// Ask again before each packet: a peer that has not finished the handshake has no business sending big ones
    /// (protocol.md section 15.1, item 4).
    #[inline]
    #[must_use]
    pub fn max_body(&self, limits: &Limits) -> usize {
        match self.state {
            State::Working => limits.packet,
            State::Handshake | State::Accepting | State::AwaitingAck | State::Closed => limits.handshake,
        }
    }

    /// Takes in one complete packet.
    ///
    /// Every packet that is not an error counts as activity, and ends what
    /// [`partial_packet`](Self::partial_packet) reported.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::Unexpected`] if the packet has no place in the current state. The machine is closed then, and
    /// the engine closes the connection without an answer (protocol.md section 1.5).
    #[inline]
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) -> Result<Event, ProtocolError> {
        let Packet { kind, body } = packet;
        let event = match (self.state, kind) {
            (State::Working, PacketKind::Data) => Event::Data(body),
            (State::Closed, _) => return Err(self.violation(kind)),
            (_, PacketKind::Heartbeat) => Event::Heartbeat,
            _ => self.handle_control(kind, body)?,
        };
        self.timers.packet_completed(now);
        Ok(event)
    }

    fn handle_control(&mut self, kind: PacketKind, body: Bytes) -> Result<Event, ProtocolError> {
        match (self.role, self.state, kind) {
            (_, State::Handshake, PacketKind::Handshake) => {
                self.state = State::Accepting;
                Ok(Event::Handshake(body))
            }
            (Role::Server, State::AwaitingAck, PacketKind::HandshakeAck) => {
                self.state = State::Working;
                Ok(Event::Established)
            }
            (Role::Server, State::Working, PacketKind::HandshakeAck) => Ok(Event::Ignored),
            (Role::Client, _, PacketKind::Kick) => {
                self.state = State::Closed;
                Ok(Event::Kicked(body))
            }
            // Types of the wrong direction are tolerated (protocol.md section 1.1).
            (Role::Server, _, PacketKind::Kick) | (Role::Client, _, PacketKind::HandshakeAck) => Ok(Event::Ignored),
            _ => Err(self.violation(kind)),
        }
    }

    /// Closes the machine because of a packet that came at the wrong time.
    #[cold]
    fn violation(&mut self, kind: PacketKind) -> ProtocolError {
        let state = self.state;
        self.state = State::Closed;
        ProtocolError::Unexpected { role: self.role, kind, state }
    }

    /// Accepts the handshake that [`Event::Handshake`] brought; heartbeats start now.
    ///
    /// A server calls it when it sends its response and waits for the Ack then. A client calls it when it sends the
    /// Ack, and is working from then on.
    ///
    /// # Errors
    ///
    /// [`ProtocolError::NothingToAccept`] if no handshake is waiting for a decision, for instance because a timeout
    /// has closed the machine meanwhile. Nothing changes, and the engine must not send anything.
    pub fn accept_handshake(&mut self, now: Instant) -> Result<(), ProtocolError> {
        if self.state != State::Accepting {
            return Err(ProtocolError::NothingToAccept { state: self.state });
        }
        self.state = match self.role {
            Role::Server => State::AwaitingAck,
            Role::Client => State::Working,
        };
        self.timers.start_heartbeats(now);
        Ok(())
    }

    /// Refuses the handshake: the machine is closed. A server sends its response with code 400 first.
    pub fn refuse_handshake(&mut self) {
        self.close();
    }

    /// Closes the machine for good; no timer runs any more and every packet is an error.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Sets the heartbeat interval; `None` or zero sends none.
    ///
    /// For a client, which learns it from the response. It counts from the last heartbeat sent.
    pub fn set_heartbeat(&mut self, interval: Option<Duration>) {
        self.timers.timeouts.heartbeat = interval.unwrap_or_default();
    }

    /// Sets how long the peer may be silent; `None` or zero means for ever.
    ///
    /// For a client, which derives it from the heartbeat interval. It counts from the last packet.
    pub fn set_idle(&mut self, timeout: Option<Duration>) {
        self.timers.timeouts.idle = timeout.unwrap_or_default();
    }

    /// Tells whether bytes of an unfinished packet are in the read buffer.
    ///
    /// Call it after each read, when no complete packet is left. The time for the packet starts with the first `true`
    /// and goes on until a packet completes or the buffer is empty, so a peer cannot stretch it byte by byte.
    #[inline]
    pub fn partial_packet(&mut self, incomplete: bool, now: Instant) {
        self.timers.partial_packet(incomplete, now);
    }

    /// Says that we have stopped reading: silence is our own doing until [`resume`](Self::resume).
    ///
    /// Neither the idle nor the partial-packet timer runs meanwhile; heartbeats and the handshake timeout do.
    #[inline]
    pub fn pause(&mut self, now: Instant) {
        self.timers.pause(now);
    }

    /// Says that we read again; the stopped timers go on where they were.
    #[inline]
    pub fn resume(&mut self, now: Instant) {
        self.timers.resume(now);
    }

    /// Returns the earliest moment at which [`handle_timeout`](Self::handle_timeout) has something to say.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        self.timers.deadline(self.state)
    }

    /// Returns what is due at `now`, one thing per call; `None` if nothing is.
    ///
    /// After [`TimeoutAction::Close`] the machine is closed.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<TimeoutAction> {
        if self.state == State::Closed {
            return None;
        }
        let action = self.timers.due(self.state, now)?;
        if let TimeoutAction::Close(_) = action {
            self.state = State::Closed;
        }
        Some(action)
    }
}

#[cfg(test)]
mod tests;
