//! What is queued for a client: the meeting point of replies, pushes and the kick.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
};

use bytes::BytesMut;
use pitaya_core::{CloseReason, EncodedPush, Error, Pushed, SessionLink, acceptor::Framing, code};
use pitaya_protocol::PacketKind;

use super::ws::{self, OpCode};
use crate::engine::Engine;

/// The outgoing side of a connection. The connection's task takes what is queued; everybody else only adds.
///
/// Packets are encoded straight into one buffer, which is made when something is queued and given away when it is written:
/// an idle connection holds none. Its bounds are the settings `pitaya.buffer.agent.messages` and `.bytes`; a client that
/// lets them be exceeded is disconnected as a slow consumer, and nobody waits for it.
pub(crate) struct Outbox {
    engine: Arc<Engine>,
    framing: Framing,
    /// Locked for moments, never across an await.
    state: Mutex<State>,
    /// Says without the lock that [`look`](Self::look) would see something else than an open connection with room.
    attention: AtomicBool,
    /// Requests that are being handled; counted by the task, read by anybody.
    in_flight: AtomicU32,
}

struct State {
    /// Encoded packets that the task has not taken yet.
    queued: BytesMut,
    /// How many packets are in `queued`.
    messages: usize,
    /// What was pushed before the client acknowledged the handshake; `None` once it has, or while there is nothing.
    early: Option<Box<Early>>,
    /// The client has acknowledged the handshake and can take messages.
    established: bool,
    /// What the task has taken and not yet written.
    taken: Taken,
    phase: Phase,
    task: Task,
    waker: Option<Waker>,
}

/// What the connection's task is doing, so that it is woken only when that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// It is in its poll function, and looks at the queue before it sleeps.
    Awake,
    /// It sleeps until something happens.
    Asleep,
    /// It waits for the socket: more to write makes no difference, another phase does.
    Writing,
}

/// Messages that wait for the handshake's Ack. A client that is kicked before does not get them.
#[derive(Debug, Default)]
struct Early {
    bytes: BytesMut,
    messages: usize,
}

/// A batch that the task is writing.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    messages: usize,
    bytes: usize,
}

/// How far the connection has come in closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything is taken.
    Open,
    /// No more is read: handlers end, their replies and pushes are still taken, then the connection closes.
    Draining(CloseReason),
    /// Nothing is taken any more; what is queued is written, then the connection closes.
    Flushing(CloseReason),
    /// Nothing is taken, and what is queued is thrown away.
    Dead(CloseReason),
}

impl Phase {
    /// Whether messages in both directions are still taken: those of the client that have been read are handled to the end.
    pub(super) fn takes(self) -> bool {
        matches!(self, Self::Open | Self::Draining(_))
    }
}

/// What the task sees when it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) phase: Phase,
    /// So much is queued that requests should wait until the client has read some of it.
    pub(super) is_crowded: bool,
}

impl Outbox {
    pub(crate) fn new(engine: Arc<Engine>, framing: Framing) -> Self {
        let state = State {
            queued: BytesMut::new(),
            messages: 0,
            early: None,
            established: false,
            taken: Taken::default(),
            phase: Phase::Open,
            task: Task::Awake,
            waker: None,
        };
        Self {
            engine,
            framing,
            state: Mutex::new(state),
            attention: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
        }
    }

    /// Queues a message of the server: the head and the body of a Data packet.
    pub(crate) fn push_message(&self, head: &[u8], body: &[u8]) -> Result<(), Error> {
        self.add(PacketKind::Data, &[head, body], None)
    }

    /// Queues a heartbeat, unless something is queued already, which tells the client as much.
    pub(super) fn push_heartbeat(&self) {
        let mut state = self.state();
        if state.queued.is_empty() && state.taken.bytes == 0 && state.phase.takes() {
            self.encode(&mut state, PacketKind::Heartbeat, &[]);
            self.settle(&state);
        }
    }

    /// Queues bytes that are no packet: the answer to a WebSocket control frame.
    pub(super) fn push_control(&self, opcode: OpCode, payload: &[u8]) {
        let mut state = self.state();
        // A client that sends pings and reads nothing gets no more than the bound allows.
        if state.phase.takes() && !self.is_full(&state) {
            ws::put_header(opcode, payload.len(), &mut state.queued);
            state.queued.extend_from_slice(payload);
            state.messages += 1;
            self.settle(&state);
        }
    }

    /// Queues a Kick packet and closes behind it.
    pub(super) fn kick_and_close(&self, reason: CloseReason) -> Result<(), Error> {
        self.add(PacketKind::Kick, &[], Some(Phase::Flushing(reason)))
    }

    /// Queues the handshake response (protocol.md 16: one write, and the first packet).
    pub(super) fn push_handshake(&self, body: &[u8], then: Option<CloseReason>) {
        // A connection that is closing already answers no handshake.
        drop(self.add(PacketKind::Handshake, &[body], then.map(Phase::Flushing)));
    }

    fn add(&self, kind: PacketKind, body: &[&[u8]], then: Option<Phase>) -> Result<(), Error> {
        let (overflowed, waker) = {
            let mut state = self.state();
            if !state.phase.takes() {
                return Err(Error::new(code::CLIENT_CLOSED, "the session has closed"));
            }
            if self.is_full(&state) {
                state.phase = Phase::Dead(CloseReason::SlowConsumer);
                state.queued = BytesMut::new();
                state.early = None;
            } else {
                self.encode(&mut state, kind, body);
                if let Some(phase) = then {
                    state.phase = phase;
                }
            }
            let phase_changed = then.is_some() || matches!(state.phase, Phase::Dead(_));
            self.settle(&state);
            (matches!(state.phase, Phase::Dead(_)), state.wake(phase_changed))
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        if overflowed {
            return Err(Error::new(code::CLIENT_CLOSED, "the client does not read what is queued for it"));
        }
        Ok(())
    }

    /// Both bounds count what is queued and what is being written. The message that finds them reached is one too many.
    fn is_full(&self, state: &State) -> bool {
        let options = &self.engine.options;
        let early = state.early.as_ref().map_or((0, 0), |early| (early.messages, early.bytes.len()));
        state.messages + state.taken.messages + early.0 >= options.outbox_messages
            || state.queued.len() + state.taken.bytes + early.1 >= options.outbox_bytes
    }

    fn encode(&self, state: &mut State, kind: PacketKind, body: &[&[u8]]) {
        // A client that waits for the handshake response takes nothing else for it.
        let waits = kind == PacketKind::Data && !state.established;
        let (dst, messages) = if waits {
            let early = state.early.get_or_insert_default();
            (&mut early.bytes, &mut early.messages)
        } else {
            (&mut state.queued, &mut state.messages)
        };
        let (start, body_len) = (dst.len(), body.iter().map(|part| part.len()).sum());
        if self.framing == Framing::WebSocket {
            let len = self.engine.codec.encoded_len(body_len);
            ws::put_header(OpCode::Binary, len, dst);
        }
        match self.engine.codec.encode(kind, body, dst) {
            Ok(()) => *messages += 1,
            Err(error) => {
                // Lengths are checked before anything is queued; a codec of the user may still refuse.
                tracing::error!(%error, "the packet codec refused a packet");
                dst.truncate(start);
            }
        }
    }

    /// The client has acknowledged the handshake: what was pushed before goes out now.
    pub(super) fn establish(&self) {
        let mut state = self.state();
        state.established = true;
        if let Some(early) = state.early.take() {
            state.queued.extend_from_slice(&early.bytes);
            state.messages += early.messages;
        }
        self.settle(&state);
    }

    /// Moves to another phase, never back.
    pub(super) fn advance(&self, phase: Phase) {
        let waker = {
            let mut state = self.state();
            let forward = match state.phase {
                Phase::Open => true,
                // A stop takes over what was told to drain for another reason.
                Phase::Draining(_) => {
                    matches!(phase, Phase::Draining(CloseReason::Shutdown) | Phase::Flushing(_) | Phase::Dead(_))
                }
                Phase::Flushing(_) => matches!(phase, Phase::Dead(_)),
                Phase::Dead(_) => false,
            };
            // The same phase again wakes the task: it looks at what has changed around it.
            if !forward && phase != state.phase {
                return;
            }
            state.phase = phase;
            self.settle(&state);
            state.wake(true)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The task begins its poll.
    pub(super) fn wake_up(&self) {
        self.state().task = Task::Awake;
    }

    /// How far the connection is in closing, and whether there is room. Cheap as long as nothing is special.
    pub(super) fn look(&self) -> Look {
        if !self.attention.load(Ordering::Acquire) {
            return Look { phase: Phase::Open, is_crowded: false };
        }
        let state = self.state();
        Look { phase: state.phase, is_crowded: self.is_crowded_in(&state) }
    }

    /// Gives the task everything that is queued, in exchange for an empty buffer. What it took before has been written.
    pub(super) fn take(&self, buffer: &mut BytesMut) {
        let mut state = self.state();
        std::mem::swap(&mut state.queued, buffer);
        state.taken = Taken { messages: std::mem::take(&mut state.messages), bytes: buffer.len() };
        self.settle(&state);
    }

    /// The task has written a part of what it took.
    pub(super) fn written(&self, bytes: usize) {
        let mut state = self.state();
        state.taken.bytes = state.taken.bytes.saturating_sub(bytes);
        self.settle(&state);
    }

    /// What waits for the handshake does not count: the task cannot write it.
    fn is_crowded_in(&self, state: &State) -> bool {
        let options = &self.engine.options;
        state.queued.len() + state.taken.bytes >= options.outbox_bytes.div_ceil(2)
            || state.messages + state.taken.messages >= options.outbox_messages.div_ceil(2)
    }

    /// Keeps `attention` true to the state. Called with the lock held, after each change.
    fn settle(&self, state: &State) {
        let special = state.phase != Phase::Open || self.is_crowded_in(state);
        self.attention.store(special, Ordering::Release);
    }

    /// The task wants to sleep. Returns whether it may: nothing has been queued since it looked. `writing` says that it
    /// waits for the socket anyway.
    pub(super) fn fall_asleep(&self, seen: Phase, writing: bool, waker: &Waker) -> bool {
        let mut state = self.state();
        if state.phase != seen || (!writing && !state.queued.is_empty()) {
            return false;
        }
        state.task = if writing { Task::Writing } else { Task::Asleep };
        match &mut state.waker {
            Some(current) => current.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        true
    }

    /// A request begins to be handled.
    pub(crate) fn request_started(&self) {
        // Only the connection's task writes it, so this needs no atomic addition.
        self.in_flight.store(self.in_flight.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A request has been answered.
    pub(crate) fn request_ended(&self) {
        self.in_flight.store(self.in_flight.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_closed(&self) -> bool {
        !self.look().phase.takes()
    }

    /// Gives back memory that nothing is in.
    pub(super) fn shrink(&self) {
        let mut state = self.state();
        if state.queued.is_empty() {
            state.queued = BytesMut::new();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing but a user's packet codec could panic while the state is locked; the buffer stays usable then.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whom to wake: nobody if the task is awake, or if it would only sleep again.
    fn wake(&mut self, phase_changed: bool) -> Option<Waker> {
        let asleep = match self.task {
            Task::Awake => false,
            Task::Asleep => true,
            Task::Writing => phase_changed,
        };
        if !asleep {
            return None;
        }
        self.task = Task::Awake;
        self.waker.clone()
    }
}

impl SessionLink for Outbox {
    fn push(&self, push: &EncodedPush) -> Pushed {
        Pushed::Now(self.push_message(&[], push.message()))
    }

    fn kick(&self) -> Pushed {
        Pushed::Now(self.kick_and_close(CloseReason::Kicked))
    }

    fn close(&self, reason: CloseReason) {
        // Where a user has one session in the cluster, the client of an older one is kicked, on whichever frontend it is
        // (protocol.md 9.4).
        let unique = || self.engine.cluster.as_ref().is_some_and(|cluster| cluster.unique.is_some());
        if reason == CloseReason::Replaced && unique() && self.kick_and_close(reason).is_ok() {
            return;
        }
        self.advance(Phase::Flushing(reason));
    }

    fn drain(&self, reason: CloseReason) {
        self.advance(Phase::Draining(reason));
    }

    fn requests_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed) as usize
    }

    fn is_crowded(&self) -> bool {
        self.look().is_crowded
    }
}
