//! One connection of the load generator, without its socket: bytes in, bytes out.

use crate::packet::{self, kind};
use crate::{Transport, client, invalid, payload, stats::Stats, websocket};
use std::collections::VecDeque;
use std::io;
use std::time::Instant;

/// A request that has been written and not been answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: u32,
    intended: Instant,
}

/// The requests of one connection.
#[derive(Debug)]
pub struct Lane {
    transport: Transport,
    in_flight: usize,
    next_id: u32,
    pending: Vec<Pending>,
    /// When the requests were due that wait until fewer are in flight.
    waiting: VecDeque<Instant>,
    /// Bytes to write. The socket's side clears what it has written.
    pub output: Vec<u8>,
}

impl Lane {
    /// Makes a connection that writes at most `in_flight` requests ahead of their answers.
    #[must_use]
    pub fn new(transport: Transport, in_flight: usize) -> Self {
        let pending = Vec::with_capacity(in_flight);
        let (waiting, output) = (VecDeque::new(), Vec::new());
        Self { transport, in_flight, next_id: 1, pending, waiting, output }
    }

    /// Adds a request that is due at `intended`; [`Lane::fill`] writes it when it may.
    pub fn offer(&mut self, intended: Instant) {
        self.waiting.push_back(intended);
    }

    /// How many requests could be written now, beyond those that wait.
    #[must_use]
    pub fn room(&self) -> usize {
        self.in_flight.saturating_sub(self.pending.len() + self.waiting.len())
    }

    /// Whether everything that was offered has been answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }

    /// Writes waiting requests into the output.
    pub fn fill(&mut self, route: &str) {
        while self.pending.len() < self.in_flight
            && let Some(intended) = self.waiting.pop_front()
        {
            let id = self.next_id;
            // Id 0 would not be answered.
            self.next_id = id.checked_add(1).unwrap_or(1);
            self.pending.push(Pending { id, intended });
            client::put_request(&mut self.output, self.transport, id, route, id);
        }
    }

    /// Reads the complete packets at the start of `input`; returns how many bytes they took.
    ///
    /// # Errors
    ///
    /// If an answer is not the one that its request must get.
    pub fn receive(&mut self, input: &[u8], now: Instant, stats: &mut Stats) -> io::Result<usize> {
        let mut used = 0;
        while let Some((kind, body, length)) = next_packet(&input[used..], self.transport)? {
            used += length;
            match kind {
                kind::DATA => self.take_answer(body, now, stats)?,
                kind::HEARTBEAT => {}
                _ => return Err(invalid(&format!("unexpected packet of type {kind}"))),
            }
        }
        Ok(used)
    }

    fn take_answer(&mut self, message: &[u8], now: Instant, stats: &mut Stats) -> io::Result<()> {
        let (id, body) = packet::parse_response(message)?;
        let at = self.pending.iter().position(|pending| pending.id == id);
        let at = at.ok_or_else(|| invalid(&format!("an answer to {id}, which was not asked")))?;
        if !payload::is_body(body, id) {
            let text = String::from_utf8_lossy(body);
            return Err(invalid(&format!("the answer to {id} is not its echo: {text}")));
        }
        stats.answer(self.pending.remove(at).intended, now);
        Ok(())
    }
}

/// Takes the first packet off `input`, out of its frame if there are frames.
///
/// # Errors
///
/// If a frame does not hold exactly one packet.
pub fn next_packet(input: &[u8], transport: Transport) -> io::Result<Option<(u8, &[u8], usize)>> {
    if transport == Transport::Tcp {
        return Ok(packet::split(input));
    }
    let Some(frame) = websocket::peek(input)? else {
        return Ok(None);
    };
    let whole = frame.header + frame.payload;
    match packet::split(&input[frame.header..whole]) {
        Some((kind, body, length)) if length == frame.payload => Ok(Some((kind, body, whole))),
        _ => Err(invalid("a frame is not one packet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Limit, Mode};

    #[test]
    fn the_limit_answers_what_a_lane_asks() {
        for transport in [Transport::Tcp, Transport::WebSocket] {
            for mode in [Mode::Json, Mode::Echo] {
                let mut lane = Lane::new(transport, 3);
                let now = Instant::now();
                (0..5).for_each(|_| lane.offer(now));
                let (mut stats, mut answers) = (Stats::default(), Vec::new());
                for expected in [3, 5] {
                    lane.fill("bench.echo");
                    let limit = Limit { mode, transport };
                    let mut requests = std::mem::take(&mut lane.output);
                    let used = limit.answer(&mut requests, &mut answers).unwrap();
                    assert_eq!(used, requests.len());
                    let used = lane.receive(&answers, now, &mut stats).unwrap();
                    answers.drain(..used);
                    assert_eq!(stats.answered, expected);
                }
                assert!(lane.is_idle() && answers.is_empty());
            }
        }
    }

    #[test]
    fn a_wrong_answer_is_noticed() {
        let now = Instant::now();
        let mut stats = Stats::default();
        let mut lane = Lane::new(Transport::Tcp, 1);
        assert!(lane.receive(b"\x04\0\0\x02\x04\x01", now, &mut stats).is_err());
        lane.offer(now);
        lane.fill("bench.echo");
        assert!(lane.receive(b"\x04\0\0\x04\x04\x01{}", now, &mut stats).is_err());
    }
}
