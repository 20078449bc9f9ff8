//! What clients do.

use super::connection::{Connection, wrong};
use super::process::HEARTBEAT;
use crate::{ROUTE_BROADCAST, ROUTE_JOIN, Transport, client, payload};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// After how long a silent client is found out.
pub(crate) const SILENCE: Duration = Duration::from_millis(HEARTBEAT * 2500);

/// One kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Logs in, joins, asks, gets pushes, and closes.
    Polite,
    /// The same, and is kicked in the end.
    Kicked,
    /// Logs in on a second connection: the first is closed.
    Replaced,
    /// Goes without waiting for its answers.
    Impatient,
    /// Goes with half a packet sent.
    Half,
    /// Its connection is reset.
    Reset,
    /// Connects and goes before the handshake.
    Stranger,
    /// Joins, and then neither says anything nor closes.
    Silent,
}

impl Behaviour {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Polite,
        Self::Kicked,
        Self::Replaced,
        Self::Impatient,
        Self::Half,
        Self::Reset,
        Self::Stranger,
        Self::Silent,
    ];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Polite => "polite",
            Self::Kicked => "kicked",
            Self::Replaced => "replaced by a second login",
            Self::Impatient => "gone before the answers",
            Self::Half => "gone with half a packet sent",
            Self::Reset => "reset",
            Self::Stranger => "gone before the handshake",
            Self::Silent => "silent until found out",
        }
    }
}

/// How many clients got to the end of what they wanted to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    done: [u64; Behaviour::ALL.len()],
    /// Clients that lost their connection on the way. A machine that stands still for seconds may cause it.
    pub cut_off: u64,
}

impl Counts {
    /// How many did this.
    #[must_use]
    pub fn of(&self, behaviour: Behaviour) -> u64 {
        self.done[behaviour as usize]
    }

    #[cfg(test)]
    pub(crate) fn all(count: u64) -> Self {
        Self { done: [count; Behaviour::ALL.len()], cut_off: 0 }
    }
}

/// What all clients share.
#[derive(Debug)]
pub(crate) struct Site {
    tcp: SocketAddr,
    ws: SocketAddr,
    next_user: AtomicU32,
    done: [AtomicU64; Behaviour::ALL.len()],
    cut_off: AtomicU64,
}

impl Site {
    pub(crate) fn new(tcp: SocketAddr, ws: SocketAddr) -> Self {
        Self { tcp, ws, next_user: AtomicU32::new(1), done: Default::default(), cut_off: AtomicU64::new(0) }
    }

    pub(crate) fn counts(&self) -> Counts {
        let done = self.done.each_ref().map(|count| count.load(Ordering::Relaxed));
        Counts { done, cut_off: self.cut_off.load(Ordering::Relaxed) }
    }

    pub(crate) fn reset(&self) {
        self.done.iter().chain([&self.cut_off]).for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn addr(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Tcp => self.tcp,
            Transport::WebSocket => self.ws,
        }
    }
}

/// Where a client comes from, and how it comes.
#[derive(Clone, Copy, Debug)]
struct Way<'a> {
    site: &'a Site,
    from: Ipv4Addr,
    transport: Transport,
}

impl Way<'_> {
    async fn connect(self) -> io::Result<Connection> {
        Connection::open(self.site.addr(self.transport), Some(self.from), self.transport).await
    }

    /// Connects and logs in as a user that nobody has been before; returns the user's number.
    async fn join(self) -> io::Result<(Connection, u32)> {
        let user = self.site.next_user.fetch_add(1, Ordering::Relaxed);
        let mut connection = self.connect().await?;
        connection.ask_with(ROUTE_JOIN, user).await?;
        Ok((connection, user))
    }
}

/// Is one client after the other until the time is up.
pub(crate) async fn misbehave(site: Arc<Site>, number: usize, until: Instant) -> io::Result<()> {
    // An address for each, so that ports do not run out which the system keeps for a minute.
    let from = client::source(number * 1000);
    let mut dice = Dice((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    while Instant::now() < until {
        // Silent clients take seconds, so they are rare.
        let behaviour = match dice.roll(64) {
            0 => Behaviour::Silent,
            n => Behaviour::ALL[n as usize % (Behaviour::ALL.len() - 1)],
        };
        let transport = if dice.roll(2) == 0 { Transport::Tcp } else { Transport::WebSocket };
        match behave(behaviour, Way { site: &site, from, transport }, &mut dice).await {
            Ok(()) => site.done[behaviour as usize].fetch_add(1, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
            Err(_) => site.cut_off.fetch_add(1, Ordering::Relaxed),
        };
        // Otherwise a few clients would take the whole machine.
        tokio::time::sleep(Duration::from_millis(5 + dice.roll(20))).await;
    }
    Ok(())
}

async fn behave(behaviour: Behaviour, way: Way<'_>, dice: &mut Dice) -> io::Result<()> {
    match behaviour {
        Behaviour::Polite => {
            let (mut connection, _) = way.join().await?;
            for _ in 0..=dice.roll(8) {
                let sequence = dice.roll(1 << 30) as u32;
                let route = if dice.roll(2) == 0 { "bench.echo" } else { "bench.suspends" };
                if !payload::is_body(&connection.ask_with(route, sequence).await?, sequence) {
                    return Err(wrong("the answer is not the echo"));
                }
            }
            connection.ask("bench.gift").await?;
            if dice.roll(4) == 0 {
                connection.ask(ROUTE_BROADCAST).await?;
            }
            Ok(())
        }
        Behaviour::Kicked => {
            let (mut connection, _) = way.join().await?;
            connection.send_request("bench.kick", 0).await?;
            if connection.until_closed().await? { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
        }
        Behaviour::Replaced => {
            let (mut first, user) = way.join().await?;
            let mut second = way.connect().await?;
            second.ask_with("bench.bind", user).await?;
            first.until_closed().await.map(drop)
        }
        Behaviour::Impatient => {
            let (mut connection, _) = way.join().await?;
            for route in ["bench.gift", "bench.suspends", "bench.echo", ROUTE_BROADCAST] {
                connection.send_request(route, 0).await?;
            }
            Ok(())
        }
        Behaviour::Half => {
            let (connection, _) = way.join().await?;
            connection.leave_half_a_packet().await
        }
        Behaviour::Reset => {
            let (mut connection, _) = way.join().await?;
            connection.send_request("bench.gift", 0).await?;
            connection.reset()
        }
        Behaviour::Stranger => client::connect(way.site.addr(way.transport), Some(way.from)).await.map(drop),
        Behaviour::Silent => {
            let (mut connection, _) = way.join().await?;
            connection.until_closed().await.map(drop)
        }
    }
}

/// Numbers without a pattern, the same in each run.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}
