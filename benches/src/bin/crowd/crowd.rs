//! All clients of one server, and what they do together.

use crate::member::Member;
use crate::news::News;
use pitaya_bench::{ROUTE_BROADCAST, ROUTE_JOIN, Transport, client};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How many clients connect, or wait for an answer, at once.
const AT_ONCE: usize = 64;

/// What is read at once; all clients share the space.
const READ_AT_ONCE: usize = 64 * 1024;

/// How long nothing may happen while something is waited for. The longest heartbeat is shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command prints.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Line {
    /// How long it took.
    pub(crate) seconds: f64,
    /// How many pushes the clients got of broadcasts.
    pub(crate) pushes: u64,
    /// For each broadcast, the microseconds until the last member had it.
    pub(crate) last_us: Vec<u64>,
}

/// What the clients of one server share.
pub(crate) struct Shared {
    /// Where everybody reads.
    pub(crate) space: RefCell<Vec<u8>>,
    pub(crate) news: RefCell<News>,
    answers: Cell<usize>,
    gifts: Cell<usize>,
    /// How many clients have answered as many heartbeats as were asked for.
    beaten: Cell<usize>,
    beats: Cell<u32>,
    failure: RefCell<Option<io::Error>>,
    changed: Notify,
}

/// The clients of one server.
pub(crate) struct Crowd {
    addr: SocketAddr,
    transport: Transport,
    shared: Rc<Shared>,
    members: Vec<Rc<Member>>,
    /// How many clients have asked for a route.
    asked: HashMap<String, usize>,
}

impl Crowd {
    pub(crate) fn new(addr: SocketAddr, transport: Transport) -> Self {
        let shared = Shared {
            space: RefCell::new(vec![0; READ_AT_ONCE]),
            news: RefCell::new(News::starting_at(1)),
            answers: Cell::new(0),
            gifts: Cell::new(0),
            beaten: Cell::new(0),
            beats: Cell::new(0),
            failure: RefCell::default(),
            changed: Notify::new(),
        };
        Self { addr, transport, shared: Rc::new(shared), members: Vec::new(), asked: HashMap::new() }
    }

    /// Opens more connections.
    pub(crate) async fn connect(&mut self, count: usize) -> io::Result<Line> {
        let start = Instant::now();
        let (mut opening, mut more) = (JoinSet::new(), 0..count);
        loop {
            while opening.len() < AT_ONCE
                && let Some(n) = more.next()
            {
                let from = client::source(self.members.len() + n);
                opening.spawn_local(client::open(self.addr, Some(from), self.transport));
            }
            let Some(opened) = opening.join_next().await else { break };
            let next_news = self.shared.news.borrow().next;
            let member = Rc::new(Member::new(opened??, self.transport, next_news));
            tokio::task::spawn_local(Rc::clone(&member).read(Rc::clone(&self.shared)));
            self.members.push(member);
        }
        Ok(since(start))
    }

    /// Lets the next clients that have not asked for `route` ask for it.
    pub(crate) async fn each(&mut self, route: &str, count: usize) -> io::Result<Line> {
        let start = Instant::now();
        let asked = self.asked.entry(route.to_owned()).or_default();
        let range = *asked..*asked + count;
        let members = self.members.get(range.clone()).ok_or_else(|| io::Error::other("so many are not connected"))?;
        *asked = range.end;
        self.shared.answers.set(0);
        for sent in 0..count {
            self.shared.until(|shared| sent - shared.answers.get() < AT_ONCE).await?;
            let at = shuffled(sent, count);
            // Id 0 would not be answered.
            members[at].ask(route, (range.start + at) as u32 + 1)?;
        }
        self.shared.until(|shared| shared.answers.get() == count).await?;
        if route == ROUTE_JOIN {
            self.shared.news.borrow_mut().members += count;
        }
        Ok(since(start))
    }

    /// Waits until every client has got its large push.
    pub(crate) async fn gifts(&self) -> io::Result<Line> {
        let start = Instant::now();
        self.shared.until(|shared| shared.gifts.get() == self.members.len()).await?;
        Ok(since(start))
    }

    /// Waits until every client has answered `count` heartbeats.
    pub(crate) async fn heartbeats(&self, count: u32) -> io::Result<Line> {
        let start = Instant::now();
        self.members.iter().for_each(|member| member.heartbeats.set(0));
        self.shared.beaten.set(0);
        self.shared.beats.set(count);
        self.shared.until(|shared| shared.beaten.get() == self.members.len()).await?;
        Ok(since(start))
    }

    /// Asks for broadcasts at fixed times; they are counted from when they are due.
    pub(crate) async fn broadcast(&self, rate: f64, window: Duration) -> io::Result<Line> {
        let start = Instant::now();
        let (count, gap) = ((window.as_secs_f64() * rate).round() as u32, Duration::from_secs_f64(1.0 / rate));
        for n in 0..count {
            let due = start + gap * n;
            tokio::time::sleep_until(due.into()).await;
            self.ask_for_news(due)?;
            self.shared.check()?;
        }
        tokio::time::sleep_until((start + window).into()).await;
        self.shared.until(|shared| shared.news.borrow().is_quiet()).await?;
        Ok(self.news_since(start))
    }

    /// Asks for one broadcast after the other.
    pub(crate) async fn chain(&self, window: Duration) -> io::Result<Line> {
        let start = Instant::now();
        while start.elapsed() < window {
            self.ask_for_news(Instant::now())?;
            self.shared.until(|shared| shared.news.borrow().is_quiet()).await?;
        }
        Ok(self.news_since(start))
    }

    fn ask_for_news(&self, due: Instant) -> io::Result<()> {
        let member = self.members.first().ok_or_else(|| io::Error::other("nobody is connected"))?;
        let number = self.shared.news.borrow_mut().begin(due);
        member.ask(ROUTE_BROADCAST, number)
    }

    fn news_since(&self, start: Instant) -> Line {
        let mut news = self.shared.news.borrow_mut();
        let last_us: Vec<u64> = news.take().iter().map(|took| took.as_micros() as u64).collect();
        Line { pushes: (last_us.len() * news.members) as u64, last_us, ..since(start) }
    }
}

/// Where `index` of `count` stands in another order. Clients do not log in or join in the order in which they connected,
/// and a server must not profit from finding the memory of neighbours side by side.
fn shuffled(index: usize, count: usize) -> usize {
    // A prime that divides no count in use goes through all of them.
    const STRIDE: usize = 7919;
    if count.is_multiple_of(STRIDE) { index } else { index * STRIDE % count }
}

fn since(start: Instant) -> Line {
    Line { seconds: start.elapsed().as_secs_f64(), ..Line::default() }
}

impl Shared {
    pub(crate) fn answer(&self) {
        self.answers.set(self.answers.get() + 1);
        self.look();
    }

    pub(crate) fn gift(&self) {
        self.gifts.set(self.gifts.get() + 1);
        self.look();
    }

    /// A client has answered its `nth` heartbeat.
    pub(crate) fn heartbeat(&self, nth: u32) {
        if nth == self.beats.get() {
            self.beaten.set(self.beaten.get() + 1);
            self.look();
        }
    }

    pub(crate) fn fail(&self, error: io::Error) {
        self.failure.replace(Some(error));
        self.look();
    }

    /// Lets who waits look again.
    pub(crate) fn look(&self) {
        self.changed.notify_one();
    }

    /// Fails if a connection has failed.
    fn check(&self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Waits until something holds.
    async fn until(&self, holds: impl Fn(&Self) -> bool) -> io::Result<()> {
        loop {
            self.check()?;
            if holds(self) {
                return Ok(());
            }
            let changed = tokio::time::timeout(PATIENCE, self.changed.notified()).await;
            changed.map_err(|_| io::Error::other(format!("nothing happened for {PATIENCE:?}")))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn everybody_has_a_turn() {
        for count in [1, 2, 500, 5000, 7919, 14_500] {
            let mut all: Vec<_> = (0..count).map(|index| shuffled(index, count)).collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..count));
        }
    }
}
