//! The one place that spawns tasks.

use std::{any::Any, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one app: each has a name, is counted, sees the stop signal and is waited for.
///
/// Cheap to clone; all clones are the same set. A task is told to stop and waited for, not dropped: one that loops has to
/// look at [`stopping`](Self::stopping), or it delays each stop by the grace period.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// The set that this one is a part of.
    whole: Option<TaskTracker>,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of this set, with a stop of its own: its tasks count as tasks of the whole, and a stop of the whole stops them.
    #[must_use]
    pub fn part(&self) -> Self {
        Self { tracker: TaskTracker::new(), whole: Some(self.tracker.clone()), stop: self.stop.child_token() }
    }

    /// Runs a future as a task of its own. A panic in it is logged under `name` and ends only this task.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let task = self.tracker.track_future(async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                tracing::error!(task = name, panic = panic_text(&*panic), "task panicked");
            }
        });
        #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
        match &self.whole {
            Some(whole) => drop(tokio::spawn(whole.track_future(task))),
            None => drop(tokio::spawn(task)),
        }
    }

    /// How many tasks are running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// The signal that the tasks of this set watch to end.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Tells all tasks to stop and waits for them, at most `patience`. Returns whether all have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

/// The text of a panic, for logs.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_only_its_task_and_stop_waits_for_all() {
        let tasks = Tasks::new();
        tasks.spawn("panics", async { panic!("on purpose") });
        let stopping = tasks.stopping().clone();
        tasks.spawn("waits", async move { stopping.cancelled().await });
        assert!(tasks.stop(Duration::from_secs(10)).await);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn a_part_is_stopped_alone_and_counts_in_the_whole() {
        let whole = Tasks::new();
        let part = whole.part();
        for tasks in [&whole, &part] {
            let stopping = tasks.stopping().clone();
            tasks.spawn("waits", async move { stopping.cancelled().await });
        }
        assert_eq!((whole.len(), part.len()), (2, 1));
        assert!(part.stop(Duration::from_secs(10)).await);
        assert_eq!((whole.len(), part.len(), whole.stopping().is_cancelled()), (1, 0, false));
        let part = whole.part();
        let stopping = part.stopping().clone();
        part.spawn("waits", async move { stopping.cancelled().await });
        assert!(whole.stop(Duration::from_secs(10)).await);
        assert!(part.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stop_does_not_wait_longer_than_it_is_told() {
        let tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        assert!(!tasks.stop(Duration::from_secs(1)).await);
    }
}
