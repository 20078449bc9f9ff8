//! Timers: work of an app that is due later, or again and again.

use std::{fmt, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{Tasks, panic_text};

/// The clock's resolution, and the shortest period.
const SHORTEST: Duration = Duration::from_millis(1);

/// Longer waits are none, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Tasks {
    /// Describes a timer; it starts with [`TimerBuilder::run`]. `name` is for the logs.
    ///
    /// The clock is tokio's, so that a test with a paused clock has exact timers. All timers stop with the app.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::time::Duration;
    /// use pitaya_core::Tasks;
    ///
    /// let tasks = Tasks::new();
    /// // Every second, ten times.
    /// tasks.timer("countdown").every(Duration::from_secs(1)).times(10).run(|| async { println!("tick") });
    /// // Once, in a minute.
    /// let timer = tasks.timer("end of round").after(Duration::from_secs(60)).run(|| async { println!("over") });
    /// timer.stop();
    /// # assert!(tasks.stop(Duration::from_secs(1)).await);
    /// # }
    /// ```
    pub fn timer(&self, name: &'static str) -> TimerBuilder {
        TimerBuilder { tasks: self.clone(), name, after: None, every: None, times: None, condition: None }
    }
}

/// The description of a timer; made by [`Tasks::timer`].
#[must_use = "a timer starts with `run`"]
pub struct TimerBuilder {
    tasks: Tasks,
    name: &'static str,
    after: Option<Duration>,
    every: Option<Duration>,
    times: Option<u64>,
    condition: Option<Box<dyn FnMut() -> bool + Send>>,
}

impl TimerBuilder {
    /// When it is first due, from now. Without [`every`](Self::every) it is due once.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = Some(delay.min(LONGEST));
        self
    }

    /// The time from one run to the next, at least a millisecond; also to the first one without [`after`](Self::after).
    ///
    /// Two runs never overlap: what falls due while one is under way is left out, and the next comes at its usual time.
    pub fn every(mut self, period: Duration) -> Self {
        self.every = Some(period.clamp(SHORTEST, LONGEST));
        self
    }

    /// After how many runs it ends.
    pub fn times(mut self, runs: u64) -> Self {
        self.times = Some(runs);
        self
    }

    /// Looked at whenever it is due: if it says no there is no run, and none is counted.
    pub fn when(mut self, condition: impl FnMut() -> bool + Send + 'static) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// Starts it. A run that panics is logged, and the timer goes on.
    ///
    /// The timer runs until it has run as often as it should, is [stopped](Timer::stop), or the app stops; a run under way
    /// ends first, and a stopping app waits for it. A timer without [`after`](Self::after) and [`every`](Self::every) is
    /// due at once.
    pub fn run<F, Fut>(mut self, mut work: F) -> Timer
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stop = self.tasks.stopping().child_token();
        let timer = Timer { stop: stop.clone() };
        let mut due_at = Instant::now() + self.after.or(self.every).unwrap_or(Duration::ZERO);
        let mut left = self.times.unwrap_or(u64::MAX);
        let name = self.name;
        self.tasks.spawn(name, async move {
            // Whoever asks whether the timer runs is told when it has ended by itself.
            let stop = stop.drop_guard();
            while left > 0 {
                tokio::select! {
                    biased;
                    () = stop.token().cancelled() => return,
                    () = sleep_until(due_at) => {}
                }
                let run = async {
                    let due = self.condition.as_mut().is_none_or(|condition| condition());
                    if due {
                        work().await;
                    }
                    due
                };
                let ran = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|panic| {
                    tracing::error!(timer = name, panic = panic_text(&*panic), "a run of a timer panicked");
                    true
                });
                let Some(period) = self.every else { return };
                due_at = next(due_at, period, Instant::now());
                left -= u64::from(ran);
            }
        });
        timer
    }
}

/// The first time after now at which a timer is due that was due before: those in between are left out.
fn next(due_at: Instant, period: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due_at);
    let into_period = late.as_nanos() % period.as_nanos();
    // Less than the period, which fits.
    due_at + (late - Duration::from_nanos_u128(into_period)) + period
}

impl fmt::Debug for TimerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerBuilder")
            .field("name", &self.name)
            .field("after", &self.after)
            .field("every", &self.every)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

/// A running timer. Dropping it does not stop it.
#[derive(Debug, Clone)]
pub struct Timer {
    stop: CancellationToken,
}

impl Timer {
    /// Ends the timer; a run under way ends first. The second call does nothing.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether there may be another run.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Counts its runs.
    #[derive(Clone, Default)]
    struct Runs(Arc<AtomicU64>);

    impl Runs {
        fn count(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        fn work(&self) -> impl FnMut() -> std::future::Ready<()> + Send + 'static + use<> {
            let runs = self.clone();
            move || {
                runs.0.fetch_add(1, Ordering::SeqCst);
                std::future::ready(())
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_periodic_timer_runs_each_period_until_it_is_stopped() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let timer = tasks.timer("test").every(SECOND).run(runs.work());
        sleep(SECOND / 2).await;
        assert_eq!(runs.count(), 0);
        sleep(SECOND * 3).await;
        assert_eq!(runs.count(), 3);
        timer.stop();
        sleep(SECOND * 3).await;
        assert_eq!((runs.count(), tasks.len()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn once_is_once_at_its_time() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let timer = tasks.timer("test").after(SECOND).run(runs.work());
        sleep(SECOND - SHORTEST).await;
        assert_eq!((runs.count(), timer.is_running()), (0, true));
        sleep(SHORTEST * 2).await;
        assert_eq!((runs.count(), timer.is_running()), (1, false));
        sleep(SECOND * 10).await;
        assert_eq!(runs.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_counted_timer_ends_by_itself() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let timer = tasks.timer("test").after(SECOND / 10).every(SECOND).times(3).run(runs.work());
        sleep(SECOND / 2).await;
        assert_eq!(runs.count(), 1);
        sleep(SECOND * 10).await;
        assert_eq!((runs.count(), timer.is_running(), tasks.len()), (3, false, 0));
        tasks.timer("never").every(SECOND).times(0).run(runs.work());
        sleep(SECOND * 2).await;
        assert_eq!(runs.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conditional_timer_counts_only_the_runs_that_were_due() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let open = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&open);
        let timer = tasks.timer("test").every(SECOND).times(2).when(move || seen.load(Ordering::SeqCst) == 1);
        let timer = timer.run(runs.work());
        sleep(SECOND * 5).await;
        assert_eq!((runs.count(), timer.is_running()), (0, true));
        open.store(1, Ordering::SeqCst);
        sleep(SECOND * 5).await;
        assert_eq!((runs.count(), timer.is_running()), (2, false));
    }

    #[tokio::test(start_paused = true)]
    async fn runs_never_overlap_and_what_is_missed_is_left_out() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let mut work = runs.work();
        let timer = tasks.timer("test").every(SECOND).run(move || {
            let counted = work();
            async move {
                counted.await;
                sleep(SECOND * 5 / 2).await;
            }
        });
        // Due at 1; at 2 and 3 it is under way; then at 4; at 5 and 6 it is under way.
        sleep(SECOND * 13 / 2).await;
        assert_eq!(runs.count(), 2);
        timer.stop();
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_panics_does_not_end_the_timer() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let mut work = runs.work();
        tasks.timer("test").every(SECOND).times(3).run(move || {
            drop(work());
            async { panic!("on purpose") }
        });
        sleep(SECOND * 10).await;
        assert_eq!((runs.count(), tasks.len()), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_app_ends_its_timers_and_waits_for_a_run_under_way() {
        let (tasks, ended) = (Tasks::new(), Runs::default());
        let timer = tasks.timer("waits").every(SECOND * 3600).run(|| async {});
        let seen = ended.clone();
        tasks.timer("works").run(move || {
            let mut end = seen.work();
            async move {
                sleep(SECOND * 5).await;
                end().await;
            }
        });
        sleep(SECOND).await;
        assert!(tasks.stop(SECOND * 60).await);
        assert_eq!((ended.count(), timer.is_running(), tasks.len()), (1, false, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn no_duration_is_too_short_or_too_long() {
        let (tasks, runs) = (Tasks::new(), Runs::default());
        let timer = tasks.timer("short").every(Duration::ZERO).run(runs.work());
        tasks.timer("long").after(Duration::MAX).every(Duration::MAX).run(|| async {});
        sleep(SHORTEST * 10).await;
        assert!((5..=11).contains(&runs.count()), "{}", runs.count());
        timer.stop();
        assert!(tasks.stop(SECOND).await);
    }
}
