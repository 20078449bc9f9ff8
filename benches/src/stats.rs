//! What the load generator counts while one of its commands runs.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The longest latency that the histogram holds: a minute, in microseconds.
const LONGEST_US: u64 = 60_000_000;

/// The counts of one command.
#[derive(Debug)]
pub struct Stats {
    latencies: Histogram<u32>,
    /// Requests that were due, whether or not they could be written at once.
    pub offered: u64,
    /// Answers.
    pub answered: u64,
    /// Answers that came before the window closed, and the grace after it.
    pub in_time: u64,
    /// Writes to sockets.
    pub writes: u64,
    /// When answers stop counting as in time.
    pub in_time_until: Option<Instant>,
}

/// The line that a command prints.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Requests that were due in the window.
    pub sent: u64,
    /// Answers that came in time; fewer than sent means that the server did not keep up.
    pub done: u64,
    /// All answers, with those that came later: what the server's CPU time was spent on.
    pub answered: u64,
    /// The length of the window.
    pub seconds: f64,
    /// `done` in a second.
    pub per_second: f64,
    /// Requests in one write, on average: how much one wake-up of the server can do.
    pub batch: f64,
    /// Median latency, from the time the request was due.
    pub p50_us: u64,
    /// 99th percentile of the latency.
    pub p99_us: u64,
    /// The longest latency.
    pub max_us: u64,
}

impl Default for Stats {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the constructor accepts")]
        let latencies = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds are valid");
        Self { latencies, offered: 0, answered: 0, in_time: 0, writes: 0, in_time_until: None }
    }
}

impl Stats {
    /// Counts an answer to a request that was due at `intended`.
    pub fn answer(&mut self, intended: Instant, now: Instant) {
        self.answered += 1;
        if self.in_time_until.is_none_or(|until| now <= until) {
            self.in_time += 1;
        }
        let latency = now.saturating_duration_since(intended).as_micros();
        let latency = u64::try_from(latency).unwrap_or(u64::MAX);
        self.latencies.saturating_record(latency.max(1));
    }

    /// Sums up a window of the length `window`.
    #[must_use]
    pub fn line(&self, window: Duration) -> Line {
        let seconds = window.as_secs_f64();
        Line {
            sent: self.offered,
            done: self.in_time,
            answered: self.answered,
            seconds,
            per_second: self.in_time as f64 / seconds,
            batch: self.answered as f64 / self.writes.max(1) as f64,
            p50_us: self.latencies.value_at_quantile(0.5),
            p99_us: self.latencies.value_at_quantile(0.99),
            max_us: self.latencies.max(),
        }
    }
}
