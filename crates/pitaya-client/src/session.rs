//! One connection: from its opening to the handshake, then the meaning of its packets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pitaya_protocol::{
    Connection, Event, HandshakeResponse, Head, HeadBuf, Limits, Message, MessageError, MessageKind, PacketKind, Role,
    RouteRef, TimeoutAction, Timeouts,
};
use tokio::time::Instant;

use crate::error::{CloseReason, ConnectError, RequestError, ServerError, Violation};
use crate::link::{Link, LinkEvent};
use crate::options::Options;
use crate::push::Push;
use crate::shared::Shared;

/// Heartbeats are sent no faster than this, whatever the server asks for.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

/// No server is given up for silence sooner than this, whatever interval it announced.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);

/// A connection that has shaken hands.
pub(crate) struct Session {
    pub(crate) link: Link,
    pub(crate) handshake: Arc<HandshakeResponse>,
    pub(crate) opened: Instant,
    connection: Connection,
    limits: Limits,
    max_inflated: usize,
}

/// A message on its way out, compressed already if that is wanted.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) kind: MessageKind,
    pub(crate) id: u64,
    pub(crate) route: String,
    pub(crate) body: Bytes,
    pub(crate) compressed: bool,
}

impl Session {
    /// Shakes hands. The caller bounds the time.
    pub(crate) async fn establish(mut link: Link, options: &Options) -> Result<Self, ConnectError> {
        let opened = Instant::now();
        let limits = Limits { handshake: options.max_packet, packet: options.max_packet };
        let timeouts = Timeouts {
            handshake: Duration::ZERO,
            partial_packet: options.packet_timeout,
            heartbeat: Duration::ZERO,
            idle: Duration::ZERO,
        };
        let mut connection = Connection::new(Role::Client, timeouts, opened.into_std());
        link.queue(PacketKind::Handshake, &[&options.handshake])?;
        let body = loop {
            let LinkEvent::Packet(packet) = link.next(connection.max_body(&limits)).await? else {
                continue;
            };
            let event =
                connection.handle_packet(packet, now()).map_err(|error| ConnectError::Protocol(error.into()))?;
            match event {
                Event::Handshake(body) => break body,
                Event::Kicked(_) => return Err(ConnectError::Kicked),
                // Early heartbeats are bad style and do no harm; data is an error of `handle_packet`.
                Event::Heartbeat | Event::Ignored | Event::Established | Event::Data(_) => {}
            }
        };
        let handshake = HandshakeResponse::parse(&body, options.max_inflated).map_err(ConnectError::Handshake)?;
        if handshake.code != HandshakeResponse::OK {
            return Err(ConnectError::Refused { code: handshake.code, reason: handshake.reason });
        }
        let heartbeat = handshake.heartbeat.map(|interval| interval.max(SHORTEST_HEARTBEAT));
        connection.set_heartbeat(heartbeat);
        connection.set_idle(silence(handshake.heartbeat, options.silence));
        connection.accept_handshake(now()).map_err(|error| ConnectError::Protocol(error.into()))?;
        link.queue(PacketKind::HandshakeAck, &[])?;
        Ok(Self {
            link,
            handshake: Arc::new(handshake),
            opened,
            connection,
            limits,
            max_inflated: options.max_inflated,
        })
    }

    /// Sends what is queued and waits for a packet, then handles it and those that came with it.
    ///
    /// Cancel safe: it waits only for the link, which keeps its bytes.
    pub(crate) async fn receive(&mut self, shared: &Shared) -> Result<(), CloseReason> {
        let max_body = self.connection.max_body(&self.limits);
        match self.link.next(max_body).await? {
            LinkEvent::Drained => return Ok(()),
            LinkEvent::Partial => {}
            LinkEvent::Packet(packet) => {
                let mut next = Some(packet);
                while let Some(packet) = next {
                    let event = self
                        .connection
                        .handle_packet(packet, now())
                        .map_err(|error| CloseReason::Protocol(error.into()))?;
                    match event {
                        Event::Data(message) => self.deliver(message, shared)?,
                        Event::Kicked(_) => return Err(CloseReason::Kicked),
                        Event::Heartbeat | Event::Ignored | Event::Established | Event::Handshake(_) => {}
                    }
                    next = self.link.buffered(max_body)?;
                }
            }
        }
        let incomplete = self.link.has_partial();
        self.connection.partial_packet(incomplete, now());
        Ok(())
    }

    /// Brings a message to whoever waits for it.
    fn deliver(&self, message: Bytes, shared: &Shared) -> Result<(), CloseReason> {
        let message = Message::decode(message, &self.handshake.dictionary, self.max_inflated).map_err(violation)?;
        match message.kind {
            MessageKind::Response => {
                let answer = if message.error {
                    let error = ServerError::parse(message.body, &self.handshake.serializer);
                    Err(RequestError::Server(error))
                } else {
                    Ok(message.body)
                };
                if !shared.pending.answer(message.id, answer) {
                    tracing::debug!(id = message.id, "ignored an answer nobody waits for");
                }
            }
            MessageKind::Push => shared.hub.publish(Push { route: message.route, body: message.body }),
            // Go's client ignores them too.
            MessageKind::Request | MessageKind::Notify => {
                tracing::debug!(route = message.route, "ignored a message for servers");
            }
        }
        Ok(())
    }

    /// Queues a message, its route as a code where the dictionary has one.
    ///
    /// It fails only if the link is over: route and body were checked by the handle.
    pub(crate) fn send(&mut self, message: &Outgoing) -> Result<(), CloseReason> {
        let route = RouteRef::shorten(&message.route, &self.handshake.dictionary);
        let head = Head { compressed: message.compressed, ..Head::new(message.kind, message.id, route) };
        let mut buf = HeadBuf::new();
        let head = head.encode(&mut buf).map_err(violation)?;
        self.link.queue(PacketKind::Data, &[head, &message.body])?;
        Ok(())
    }

    /// Returns when [`handle_timers`](Self::handle_timers) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.connection.deadline().map(Instant::from_std)
    }

    /// Sends a heartbeat that is due, and ends a connection that has been silent too long.
    pub(crate) fn handle_timers(&mut self) -> Result<(), CloseReason> {
        use pitaya_protocol::CloseReason as Overdue;
        while let Some(action) = self.connection.handle_timeout(now()) {
            match action {
                // With so much unsent the server does not read; more heartbeats would only pile up.
                TimeoutAction::SendHeartbeat if self.link.is_full() => {}
                TimeoutAction::SendHeartbeat => self.link.queue(PacketKind::Heartbeat, &[])?,
                TimeoutAction::Close(Overdue::PartialPacketTimeout) => {
                    return Err(CloseReason::HalfPacket);
                }
                TimeoutAction::Close(Overdue::Idle | Overdue::HandshakeTimeout) => {
                    return Err(CloseReason::Silence);
                }
            }
        }
        Ok(())
    }
}

fn violation(error: MessageError) -> CloseReason {
    CloseReason::Protocol(Violation::Message(error))
}

/// The protocol crate has no clock and takes the standard library's moments.
#[expect(clippy::disallowed_types, reason = "taken from tokio's clock, so a paused clock works")]
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Returns how long the server may be silent.
fn silence(heartbeat: Option<Duration>, intervals: Option<u32>) -> Option<Duration> {
    let silence = heartbeat?.saturating_mul(intervals?);
    Some(silence.max(SHORTEST_SILENCE))
}
