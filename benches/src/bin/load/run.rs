//! Runs the commands against one server.

use crate::Options;
use crate::connection::Connection;
use crate::schedule::Schedule;
use pitaya_bench::lane::Lane;
use pitaya_bench::stats::{Line, Stats};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;

/// The read buffer of a connection.
const READ_BUFFER: usize = 16 * 1024;

/// How long after the end of its window an answer still counts as in time. A server that keeps up
/// needs a fraction of it; the rest is for hiccups of the machine.
const GRACE: Duration = Duration::from_millis(20);

/// How long the last answers may take after the end of a window.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long `count` may take: under valgrind a server is fifty times slower.
const COUNT_PATIENCE: Duration = Duration::from_secs(300);

/// Who adds requests.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The schedule, or nobody.
    Schedule,
    /// Whoever reads answers, until this time.
    Until(Instant),
    /// Whoever reads answers, so many more.
    Count(usize),
}

/// What the tasks of one server's connections share.
struct Shared {
    route: RefCell<String>,
    source: Cell<Source>,
    stats: RefCell<Stats>,
    failure: RefCell<Option<io::Error>>,
    /// Woken by the last answer and by a failure.
    changed: Notify,
}

/// One server, and the connections to it.
pub(crate) struct Target {
    shared: Rc<Shared>,
    connections: Vec<Rc<Connection>>,
}

impl Target {
    /// Opens all connections to `addr`.
    pub(crate) async fn connect(addr: SocketAddr, options: &Options) -> io::Result<Self> {
        let shared = Rc::new(Shared {
            route: RefCell::default(),
            source: Cell::new(Source::Schedule),
            stats: RefCell::default(),
            failure: RefCell::default(),
            changed: Notify::new(),
        });
        let mut connections = Vec::new();
        for _ in 0..options.connections {
            let open = Connection::open(addr, options.transport, options.in_flight);
            let (connection, read) = open.await?;
            let connection = Rc::new(connection);
            connections.push(Rc::clone(&connection));
            tokio::task::spawn_local(Rc::clone(&shared).read(connection, read));
        }
        Ok(Self { shared, connections })
    }

    /// Offers requests at the times of `schedule`.
    pub(crate) async fn rate(&self, route: &str, schedule: Schedule) -> io::Result<Line> {
        let start = Instant::now() + schedule.tick;
        let stats = self.begin(route, Source::Schedule);
        stats.borrow_mut().in_time_until = Some(start + schedule.window + GRACE);

        let ticks = schedule.ticks();
        let metronome = Metronome::start(start, schedule.tick, ticks);
        let mut next = 0;
        while next < ticks {
            metronome.0.notified().await;
            let now = Instant::now();
            while next < ticks && start + schedule.tick * next <= now {
                let intended = start + schedule.tick * next;
                for (lane, requests) in schedule.turn(next) {
                    self.shared.offer(&self.connections[lane], requests, intended)?;
                }
                next += 1;
            }
            self.shared.check()?;
        }
        self.finish(schedule.window, PATIENCE).await
    }

    /// Keeps every connection full for the length of `window`.
    pub(crate) async fn saturate(&self, route: &str, window: Duration) -> io::Result<Line> {
        let start = Instant::now();
        let stats = self.begin(route, Source::Until(start + window));
        stats.borrow_mut().in_time_until = Some(start + window);
        self.start_all(start)?;
        self.finish(window, window + PATIENCE).await
    }

    /// Sends exactly `count` requests.
    pub(crate) async fn count(&self, route: &str, count: usize) -> io::Result<Line> {
        let start = Instant::now();
        self.begin(route, Source::Count(count));
        self.start_all(start)?;
        let line = self.finish(Duration::ZERO, COUNT_PATIENCE).await?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Line { seconds, per_second: line.done as f64 / seconds, ..line })
    }

    /// Resets the counts.
    fn begin(&self, route: &str, source: Source) -> &RefCell<Stats> {
        route.clone_into(&mut self.shared.route.borrow_mut());
        self.shared.source.set(source);
        self.shared.stats.replace(Stats::default());
        &self.shared.stats
    }

    /// Fills every connection for the first time.
    fn start_all(&self, now: Instant) -> io::Result<()> {
        self.connections
            .iter()
            .try_for_each(|connection| self.shared.advance(connection, &mut connection.lane.borrow_mut(), now))
    }

    /// Waits for the last answer.
    async fn finish(&self, window: Duration, patience: Duration) -> io::Result<Line> {
        let wait = async {
            while !self.shared.is_finished() {
                self.shared.changed.notified().await;
                self.shared.check()?;
            }
            Ok::<_, io::Error>(())
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(finished) => finished?,
            Err(_) => {
                let stats = self.shared.stats.borrow();
                let missing = stats.offered - stats.answered;
                return Err(io::Error::other(format!("{missing} requests were not answered")));
            }
        }
        Ok(self.shared.stats.borrow().line(window))
    }
}

impl Shared {
    /// Reads the answers on one connection.
    async fn read(self: Rc<Self>, connection: Rc<Connection>, read: OwnedReadHalf) {
        if let Err(error) = self.read_answers(&connection, read).await {
            self.failure.replace(Some(error));
            self.changed.notify_one();
        }
    }

    async fn read_answers(&self, connection: &Connection, mut read: OwnedReadHalf) -> io::Result<()> {
        let mut input = vec![0; READ_BUFFER];
        let mut filled = 0;
        loop {
            let length = read.read(&mut input[filled..]).await?;
            if length == 0 {
                return Err(io::Error::other("the server closed a connection"));
            }
            filled += length;
            let now = Instant::now();
            let mut lane = connection.lane.borrow_mut();
            let used = lane.receive(&input[..filled], now, &mut self.stats.borrow_mut())?;
            input.copy_within(used..filled, 0);
            filled -= used;
            self.advance(connection, &mut lane, now)?;
            if self.is_finished() {
                self.changed.notify_one();
            }
        }
    }

    /// Adds the requests that take the place of answered ones, and writes.
    fn advance(&self, connection: &Connection, lane: &mut Lane, now: Instant) -> io::Result<()> {
        let mut stats = self.stats.borrow_mut();
        let more = match self.source.get() {
            Source::Until(end) if now < end => lane.room(),
            Source::Until(_) | Source::Schedule => 0,
            Source::Count(left) => {
                let more = lane.room().min(left);
                self.source.set(Source::Count(left - more));
                more
            }
        };
        (0..more).for_each(|_| lane.offer(now));
        stats.offered += more as u64;
        lane.fill(&self.route.borrow());
        connection.flush(lane, &mut stats)
    }

    /// Adds requests that are due at `intended`, and writes as many as may be in flight.
    fn offer(&self, connection: &Connection, more: usize, intended: Instant) -> io::Result<()> {
        let mut lane = connection.lane.borrow_mut();
        let mut stats = self.stats.borrow_mut();
        (0..more).for_each(|_| lane.offer(intended));
        stats.offered += more as u64;
        lane.fill(&self.route.borrow());
        connection.flush(&mut lane, &mut stats)
    }

    /// Whether every request has been answered and nobody adds another.
    fn is_finished(&self) -> bool {
        let stats = self.stats.borrow();
        stats.offered == stats.answered
    }

    /// Fails if a connection has failed.
    fn check(&self) -> io::Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

/// A thread that beats once a tick: the runtime's own timer only knows milliseconds.
struct Metronome(Arc<Notify>);

impl Metronome {
    fn start(start: Instant, tick: Duration, ticks: u32) -> Self {
        let notify = Arc::new(Notify::new());
        let beat = Arc::downgrade(&notify);
        std::thread::spawn(move || {
            for n in 0..ticks {
                let due = start + tick * n;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let Some(notify) = beat.upgrade() else { return };
                notify.notify_one();
            }
        });
        Self(notify)
    }
}
