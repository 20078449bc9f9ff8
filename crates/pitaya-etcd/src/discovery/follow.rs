//! The task that follows the changes: a watch that is made again whenever it ends, and a comparison now and then.

use std::{sync::Arc, time::Duration};

use pitaya_core::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::watch::Watcher;
use crate::client::{EtcdError, Seen, Watch};

/// Between two tries to watch again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where the watch is.
pub(super) enum Following {
    /// A watch shall be made at this moment.
    Paused(Instant),
    /// A watch is being made; comparisons do not wait for it.
    Opening(BoxFuture<'static, Result<Box<Watch>, EtcdError>>),
    Open(Box<Watch>),
}

enum Step {
    Due,
    Opened(Result<Box<Watch>, EtcdError>),
    Seen(Result<Seen, EtcdError>),
}

impl Following {
    /// Waits for what happens next. May be dropped at any time.
    async fn step(&mut self) -> Step {
        match self {
            Self::Paused(until) => {
                sleep_until(*until).await;
                Step::Due
            }
            Self::Opening(opening) => Step::Opened(opening.await),
            Self::Open(watch) => Step::Seen(watch.next().await),
        }
    }
}

impl Watcher {
    /// Follows the changes, and compares everything now and then. It ends with its task.
    pub(super) async fn run(mut self) {
        let signals = Arc::clone(&self.signals);
        let (mut pause, mut is_failing) = (SHORTEST_PAUSE, false);
        loop {
            let result = tokio::select! {
                step = self.following.step() => {
                    let result = self.go_on(step).await;
                    match &result {
                        Ok(true) => pause = SHORTEST_PAUSE,
                        Ok(false) => {}
                        Err(_) => {
                            self.following = Following::Paused(Instant::now() + pause);
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        }
                    }
                    result.map(drop)
                }
                () = sleep_until(self.sync_at) => {
                    self.sync_at = Instant::now() + self.options.sync_interval;
                    self.sync().await
                }
                () = signals.registered_again.notified() => self.sync().await,
            };
            // A change is logged for everybody, the rest for those who look closely.
            let fails = result.is_err();
            match result {
                Err(error) if is_failing => tracing::debug!(%error, "the servers in etcd cannot be followed yet"),
                Err(error) => {
                    tracing::warn!(%error, "the servers in etcd cannot be followed now, those that were known stay known");
                }
                Ok(()) if is_failing => tracing::info!("the servers in etcd are followed again"),
                Ok(()) => {}
            }
            is_failing = fails;
        }
    }

    /// Does what a step asks for. Says whether the watch has shown that it works.
    async fn go_on(&mut self, step: Step) -> Result<bool, EtcdError> {
        match step {
            Step::Due => {
                if self.behind {
                    self.sync().await?;
                }
                let (client, prefix, next) = (self.client.clone(), self.prefix.clone(), self.next);
                let opening = async move { client.watch(&prefix, next).await };
                self.following = Following::Opening(Box::pin(opening));
                Ok(false)
            }
            Step::Opened(Ok(watch)) => {
                let is_old = watch.revision < self.next - 1;
                self.following = Following::Open(watch);
                if is_old {
                    // The member is behind the others, or its data is not what it was: a list knows.
                    self.sync().await?;
                }
                Ok(false)
            }
            Step::Seen(Ok(Seen::Nothing(revision))) => {
                self.next = self.next.max(revision + 1);
                Ok(true)
            }
            Step::Seen(Ok(Seen::Events(events))) => {
                events.into_iter().for_each(|event| self.apply(event));
                Ok(true)
            }
            Step::Opened(Err(error)) | Step::Seen(Err(error)) => {
                // Either changes have been missed that no watch will tell, or the log-in has expired: a list helps with both.
                self.behind |= !error.is_of_the_connection();
                Err(error)
            }
        }
    }

    /// Makes a new watch.
    pub(super) fn follow_anew(&mut self) {
        self.following = Following::Paused(Instant::now());
    }
}
