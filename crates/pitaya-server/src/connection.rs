//! A client's connection: one task that reads, runs handlers, writes and keeps time.
//!
//! The task never awaits a write. Its poll function looks at everything in turn (timers, messages that are here,
//! unfinished handlers, what is queued, the socket) until nothing moves, and sleeps on one waker and one timer.

mod io;
mod outbox;
mod timer;
mod waiting;
mod ws;

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use pitaya_core::{
    BoxFuture, CloseReason, Error, Result as CoreResult, Session,
    acceptor::{Established, Incoming, Link},
};
use pitaya_protocol::{Connection as Protocol, Event, HandshakeData, Packet, Role};
use tokio::{task::coop, time::Instant};

pub(crate) use outbox::Outbox;
pub(crate) use waiting::{Dispatch, Lane, Permit};

use crate::{dispatch::Tag, engine::Engine, runner::SessionRunner};
use io::{Wire, WireError};
use outbox::Phase;
use timer::Timer;
use waiting::Waiting;

/// How many packets a connection handles before others get their turn. A quarter of a task's budget, so that handlers which
/// find what they ask for (a channel with room, say) do not suspend for lack of it.
const PACKETS_AT_ONCE: u32 = 32;

/// Serves one client from its arrival until its last handler has ended.
pub(crate) async fn serve(engine: Arc<Engine>, incoming: Incoming) {
    let accepted = Instant::now();
    let Some(link) = establish(&engine, incoming.establish).await else { return };
    let mut connection = Connection::open(engine, link, incoming.peer, accepted);
    connection.run().await;
}

/// Does what comes before the first packet, within the time for the handshake.
async fn establish(engine: &Engine, establishing: impl Future<Output = std::io::Result<Established>>) -> Option<Link> {
    let established = tokio::select! {
        established = tokio::time::timeout(engine.timeouts.handshake, AssertUnwindSafe(establishing).catch_unwind()) => established,
        () = engine.stop_accepting.cancelled() => return None,
    };
    match established {
        Ok(Ok(Ok(Established::Link(link)))) => return Some(link),
        Ok(Ok(Ok(Established::Served))) => return None,
        Ok(Ok(Err(error))) => tracing::debug!(%error, "a connection could not be established"),
        Ok(Err(_)) => tracing::error!("establishing a connection panicked"),
        Err(_) => tracing::debug!("a connection was not established in time"),
    }
    engine.metrics.establish_errors.add(1);
    None
}

/// What is left of the messages that have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// No whole one.
    Nothing,
    /// They wait for an unfinished handler.
    NoRoom,
    /// They wait for something else, if there are any.
    Later,
}

/// What one look at everything may do before others get their turn.
struct Turn {
    packets: u32,
    /// Kept from one message to the next: most end at once and give it back.
    permit: Option<Permit>,
}

/// Everything that the connection's task owns.
pub(crate) struct Connection {
    pub(crate) engine: Arc<Engine>,
    pub(crate) session: Session,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) runner: SessionRunner<Tag>,
    protocol: Protocol,
    wire: Wire,
    timer: Timer,
    /// The validators look at the handshake; meanwhile nothing is handled.
    validating: Option<BoxFuture<'static, CoreResult<()>>>,
    /// Messages that wait for a permit.
    waiting: Option<Box<Waiting>>,
    /// When whoever drains this connection no longer waits for its handlers, and why it drains.
    drain: Option<(Instant, CloseReason)>,
    /// Until when a closing connection may write what is queued, and why it closes. A client that reads a byte now and
    /// then makes progress for ever.
    flush_deadline: Option<(Instant, CloseReason)>,
}

impl Connection {
    fn open(engine: Arc<Engine>, link: Link, peer: Option<SocketAddr>, accepted: Instant) -> Self {
        let outbox = Arc::new(Outbox::new(Arc::clone(&engine), link.framing));
        let session = engine.sessions.open(peer, Arc::clone(&outbox) as _);
        engine.metrics.connected.add(1);
        Self {
            session,
            outbox,
            runner: SessionRunner::new(engine.options.unfinished),
            protocol: Protocol::new(Role::Server, engine.timeouts, accepted.into_std()),
            wire: Wire::new(link),
            timer: Timer::new(accepted + engine.timeouts.handshake),
            validating: None,
            waiting: None,
            drain: None,
            flush_deadline: None,
            engine,
        }
    }

    async fn run(&mut self) {
        if self.engine.closing.is_cancelled() {
            // It arrived while the server closed its clients, and was not seen when all sessions were.
            self.outbox.advance(Phase::Draining(CloseReason::Shutdown));
        }
        let reason = std::future::poll_fn(|cx| {
            // A panic here is a bug of ours or of a user's codec; it costs this connection only.
            let polled = std::panic::catch_unwind(AssertUnwindSafe(|| self.poll_serve(cx)));
            polled.unwrap_or(Poll::Ready(CloseReason::Closed))
        })
        .await;
        self.outbox.advance(Phase::Dead(reason));
        tracing::debug!(session = %self.session.id(), reason = reason.as_str(), "connection closes");
        self.engine.metrics.closed(reason);
        self.engine.metrics.connected.add(-1);
        // Boxed, so that an open connection does not carry the space for its end.
        Box::pin(self.close(reason)).await;
    }

    /// Runs the callbacks, then closes the socket, then lets the handlers end that are still unfinished.
    async fn close(&mut self, reason: CloseReason) {
        let (engine, session) = (Arc::clone(&self.engine), self.session.clone());
        self.drop_what_waits();
        let mut closing = pin!(engine.sessions.close(&session, reason));
        std::future::poll_fn(|cx| {
            let closing = closing.as_mut().poll(cx);
            // A callback may wait for a handler of the same session.
            self.poll_rest(cx);
            closing
        })
        .await;
        let io = self.wire.close();
        if owes_goodbye(reason) {
            // Writing what was queued and waiting for the client have one deadline.
            let patience = match self.flush_deadline {
                Some((deadline, _)) => deadline.saturating_duration_since(Instant::now()),
                None => engine.options.write_timeout,
            };
            let mut goodbye = pin!(io::say_goodbye(io, patience));
            std::future::poll_fn(|cx| {
                self.poll_rest(cx);
                goodbye.as_mut().poll(cx)
            })
            .await;
        } else {
            drop(io);
        }
        self.finish_handlers().await;
        let handlers = self.runner.len();
        if handlers > 0 {
            tracing::warn!(session = %session.id(), handlers, "handlers were cut off by the stop");
            engine.cut_off.fetch_add(handlers, Ordering::Relaxed);
        }
    }

    /// Drops what has not begun: messages that wait and validators. Nobody goes on with it, so it must not keep a permit, or
    /// whatever a validator holds, from others.
    fn drop_what_waits(&mut self) {
        let dropping = AssertUnwindSafe(|| drop((self.waiting.take(), self.validating.take())));
        if std::panic::catch_unwind(dropping).is_err() {
            tracing::error!(session = %self.session.id(), "a handshake validator panicked when it was dropped");
        }
    }

    /// Lets unfinished handlers end; when the server stops, only within the grace period.
    async fn finish_handlers(&mut self) {
        let (stopping, grace) = (self.engine.closing.clone(), self.engine.options.shutdown_grace);
        let (hurry, drain) = (self.engine.hurry.clone(), self.drain);
        let mut grace_over = pin!(hurry.run_until_cancelled_owned(async move {
            // Nothing but a stop cuts handlers off.
            if let Some((deadline, CloseReason::Shutdown)) = drain {
                return tokio::time::sleep_until(deadline).await;
            }
            stopping.cancelled().await;
            tokio::time::sleep(grace).await;
        }));
        std::future::poll_fn(|cx| {
            self.poll_rest(cx);
            if self.runner.is_empty() { Poll::Ready(()) } else { grace_over.as_mut().poll(cx).map(drop) }
        })
        .await;
    }

    /// Goes on with unfinished handlers of a connection that has ended. A panic outside of them (in a reporter, say) costs
    /// one of them its end, and nobody else.
    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.poll_unfinished(cx))).is_err() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.outbox.wake_up();
        let mut turn = Turn { packets: PACKETS_AT_ONCE, permit: None };
        let mut now = Instant::now();
        loop {
            let all_handled = self.handle_messages(cx, &mut turn, now);

            let look = self.outbox.look();
            match look.phase {
                Phase::Dead(reason) => return Poll::Ready(reason),
                Phase::Draining(reason) => {
                    if self.validating.take().is_some() {
                        // A client that is not in yet is not waited for.
                        now = Instant::now();
                        continue;
                    }
                    let deadline = self.drain_deadline(reason, now);
                    let hurried = reason == CloseReason::Shutdown && self.engine.hurry.is_cancelled();
                    if (all_handled && self.runner.is_empty()) || deadline <= now || hurried {
                        // Every handler has answered or had its time; what they queued goes out before the end.
                        self.end_drain(reason);
                        now = Instant::now();
                        continue;
                    }
                }
                Phase::Flushing(reason) => {
                    let patience = self.engine.options.write_timeout;
                    self.flush_deadline.get_or_insert_with(|| (now + patience, reason));
                }
                Phase::Open => {}
            }
            let written = self.wire.poll_write(cx, &self.outbox, now);
            let writing = written.is_pending();
            match (written, look.phase) {
                (Poll::Ready(Err(_)), _) => return Poll::Ready(CloseReason::ClientClosed),
                (Poll::Ready(Ok(())), Phase::Flushing(reason)) => return Poll::Ready(reason),
                // There is room again for the messages that waited for it, and nobody else would tell.
                (Poll::Ready(Ok(())), _) if look.is_crowded && !self.outbox.look().is_crowded => {
                    now = Instant::now();
                    continue;
                }
                _ => {}
            }
            if self.reads(look.is_crowded, look.phase, now) && turn.packets > 0 {
                match self.wire.poll_read(cx) {
                    Poll::Ready(Ok(true)) => {
                        // As long as nothing has been handled, no time has passed.
                        if turn.packets < PACKETS_AT_ONCE || !self.runner.is_empty() {
                            now = Instant::now();
                        }
                        continue;
                    }
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(CloseReason::ClientClosed),
                    Poll::Pending => {}
                }
            }
            if let Some(reason) = self.keep_time(now) {
                return Poll::Ready(reason);
            }
            self.arm_timer(cx, now);
            if self.outbox.fall_asleep(look.phase, writing, cx.waker()) {
                return Poll::Pending;
            }
            now = Instant::now();
        }
    }

    /// Handles the messages that are here, and goes on with unfinished handlers, until neither moves. Returns whether no
    /// message is left.
    fn handle_messages(&mut self, cx: &mut Context<'_>, turn: &mut Turn, now: Instant) -> bool {
        self.poll_validating(cx, now);
        // Older messages first: they were here before, and new ones may use up the task's budget.
        self.poll_unfinished(cx);
        loop {
            let rest = self.handle_packets(cx, turn, now);
            let started = self.handle_waiting(cx, turn, now);
            let finished = self.poll_unfinished(cx);
            // What ended may have made room for messages that wait in the buffer, or for a permit.
            let stuck = rest == Rest::NoRoom || self.waiting.is_some();
            if !stuck || !(started || finished) {
                return rest == Rest::Nothing && self.waiting.is_none();
            }
        }
    }

    /// Handles packets as long as it may. What has been read is handled also when the server stops.
    fn handle_packets(&mut self, cx: &mut Context<'_>, turn: &mut Turn, now: Instant) -> Rest {
        loop {
            if self.validating.is_some() {
                return Rest::Later;
            }
            if !self.has_room() {
                return Rest::NoRoom;
            }
            if turn.packets == 0 || !coop::has_budget_remaining() {
                // The others get their turn; this one comes again.
                turn.packets = 0;
                cx.waker().wake_by_ref();
                return Rest::Later;
            }
            let look = self.outbox.look();
            if !look.phase.takes() || look.is_crowded {
                return Rest::Later;
            }
            let packet = match self.wire.next_packet(&self.engine, &self.protocol, &self.outbox) {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.protocol.partial_packet(self.wire.has_partial_packet(), now.into_std());
                    return Rest::Nothing;
                }
                Err(WireError::WebSocketClosed) => {
                    // In good order: the answer to its close frame goes out, then the connection closes.
                    self.protocol.close();
                    self.outbox.advance(Phase::Flushing(CloseReason::ClientClosed));
                    return Rest::Later;
                }
                Err(error) => {
                    self.refuse(&error);
                    return Rest::Later;
                }
            };
            turn.packets -= 1;
            self.handle_packet(cx, packet, turn, now);
        }
    }

    fn handle_packet(&mut self, cx: &mut Context<'_>, packet: Packet, turn: &mut Turn, now: Instant) {
        match self.protocol.handle_packet(packet, now.into_std()) {
            Ok(Event::Data(body)) => {
                let lane = self.lane(&body);
                let permit = if self.waiting.is_none() { self.permit(lane, turn) } else { None };
                match permit {
                    Some(permit) => turn.permit = self.handle_message(cx, body, permit, now),
                    None => {
                        let dispatch = &self.engine.dispatch;
                        let waiting = self.waiting.get_or_insert_with(|| Box::new(Waiting::new(lane, dispatch)));
                        waiting.push(body, lane, dispatch);
                    }
                }
            }
            Ok(Event::Handshake(body)) => match HandshakeData::parse(&body) {
                Ok(handshake) => {
                    // Kept as bytes, cut loose from the read buffer: few handlers look at it, and its JSON tree is larger
                    // than the rest of a session.
                    self.session.set_handshake(Bytes::copy_from_slice(&body));
                    self.validating = self.engine.sessions.validate(&self.session, handshake);
                    match self.validating {
                        Some(_) => self.poll_validating(cx, now),
                        None => self.accept_handshake(now),
                    }
                }
                Err(error) => {
                    tracing::debug!(session = %self.session.id(), %error, "handshake refused");
                    self.refuse_handshake(None);
                }
            },
            Ok(Event::Established) => self.outbox.establish(),
            Ok(Event::Heartbeat | Event::Ignored | Event::Kicked(_)) => {}
            Err(error) => self.refuse(&error),
        }
    }

    /// Goes on with the validators, and answers the handshake when they have decided.
    fn poll_validating(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(validating) = &mut self.validating else { return };
        let Poll::Ready(valid) = validating.as_mut().poll(cx) else { return };
        self.validating = None;
        match valid {
            Ok(()) => self.accept_handshake(now),
            Err(error) => self.refuse_handshake(Some(error)),
        }
    }

    fn refuse_handshake(&mut self, error: Option<Error>) {
        let refused = self.engine.handshake.refused(error.map(|error| self.public_error("handshake", 0, error)));
        self.protocol.refuse_handshake();
        self.outbox.push_handshake(&refused, Some(CloseReason::HandshakeRefused));
    }

    fn accept_handshake(&mut self, now: Instant) {
        match self.protocol.accept_handshake(now.into_std()) {
            Ok(()) => self.outbox.push_handshake(&self.engine.handshake.accepted, None),
            Err(error) => self.refuse(&error),
        }
    }

    /// Starts messages that waited for a permit. Returns whether any has been started.
    fn handle_waiting(&mut self, cx: &mut Context<'_>, turn: &mut Turn, now: Instant) -> bool {
        let mut started = false;
        while let Some(waiting) = &mut self.waiting {
            let look = self.outbox.look();
            if !look.phase.takes() {
                // It closes: what has not begun is not handled, here as in the buffer.
                self.waiting = None;
                break;
            }
            if look.is_crowded || self.runner.room() == 0 {
                // Whoever can use a permit goes first.
                waiting.give_way();
                break;
            }
            if turn.packets == 0 {
                cx.waker().wake_by_ref();
                break;
            }
            let lane = waiting.lane();
            let held = turn.permit.take().filter(|permit| permit.is_of(lane));
            let permit = held.map_or_else(|| waiting.poll_permit(cx, &self.engine.dispatch), Poll::Ready);
            let Poll::Ready(permit) = permit else { break };
            let message = waiting.pop();
            if waiting.len() == 0 {
                self.waiting = None;
            }
            let Some(message) = message else { break };
            turn.packets -= 1;
            turn.permit = self.handle_message(cx, message, permit, now);
            started = true;
        }
        started
    }

    fn permit(&self, lane: Lane, turn: &mut Turn) -> Option<Permit> {
        let held = turn.permit.take().filter(|permit| permit.is_of(lane));
        held.or_else(|| self.engine.dispatch.try_permit(lane))
    }

    /// Whether another message may be taken from the wire.
    fn has_room(&self) -> bool {
        let waiting = self.waiting.as_deref();
        self.runner.room() > waiting.map_or(0, Waiting::len) && !waiting.is_some_and(Waiting::is_full)
    }

    /// Until when the handlers of a draining connection are waited for. A stop that takes over from something else has the
    /// whole grace period.
    fn drain_deadline(&mut self, reason: CloseReason, now: Instant) -> Instant {
        match self.drain {
            Some((deadline, began)) if began == reason => deadline,
            _ => {
                let deadline = now + self.engine.options.shutdown_grace;
                self.drain = Some((deadline, reason));
                deadline
            }
        }
    }

    fn end_drain(&mut self, reason: CloseReason) {
        if reason == CloseReason::Shutdown && self.engine.options.shutdown_kick {
            // One that is closing already needs no kick.
            drop(self.outbox.kick_and_close(reason));
        } else {
            self.outbox.advance(Phase::Flushing(reason));
        }
    }

    /// The client broke the protocol: what it is owed is written, then the connection closes (protocol.md 1.5).
    pub(crate) fn refuse(&mut self, error: &(dyn std::error::Error + 'static)) {
        tracing::debug!(session = %self.session.id(), error, "the client broke the protocol");
        self.protocol.close();
        self.outbox.advance(Phase::Flushing(CloseReason::Protocol));
    }

    /// Returns whether any handler has ended.
    fn poll_unfinished(&mut self, cx: &mut Context<'_>) -> bool {
        let mut finished = false;
        while let Poll::Ready((tag, outcome)) = self.runner.poll_next(cx) {
            finished = true;
            self.finish(&tag, outcome);
        }
        finished
    }

    /// Whether to read. While no more messages are handled, the client's silence does not count against it; a little is
    /// read all the same, to notice that it has gone.
    fn reads(&mut self, is_crowded: bool, phase: Phase, now: Instant) -> bool {
        let open = phase == Phase::Open && !is_crowded;
        let handles = open && self.validating.is_none() && self.has_room();
        if handles {
            self.protocol.resume(now.into_std());
        } else {
            self.protocol.pause(now.into_std());
        }
        handles || (open && self.wire.has_space())
    }
}

/// Whether something has been written that the client may not have received yet, and waits for.
fn owes_goodbye(reason: CloseReason) -> bool {
    match reason {
        CloseReason::Closed
        | CloseReason::Kicked
        | CloseReason::Replaced
        | CloseReason::HandshakeRefused
        | CloseReason::Protocol
        | CloseReason::Shutdown => true,
        // It has closed, or does not read, or has not said anything for a long time.
        _ => false,
    }
}
