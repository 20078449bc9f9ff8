//! The own key: written with a lease, renewed, written again when it is lost, and taken away at the end.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pitaya_core::{Error, Result, Tasks, cluster::ClusterContext, code};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Signals;
use crate::{
    client::{Client, EtcdError},
    options::Options,
    settings,
};

/// Between two tries of a renewal that failed, while the lease still lives.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Registration {
    client: Client,
    options: Options,
    context: ClusterContext,
    signals: Arc<Signals>,
    key: String,
    lease: Mutex<Option<i64>>,
    outage: Mutex<Outage>,
    leaving: CancellationToken,
    keeping: TaskTracker,
}

/// What the renewals say about etcd.
#[derive(Clone, Copy)]
struct Outage {
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    /// For so long after an outage nobody is taken for dead.
    over: Instant,
}

/// A lease that was alive at a moment.
#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    /// When its last renewal was asked for.
    renewed: Instant,
}

impl Registration {
    pub(super) fn new(client: &Client, options: &Options, context: &ClusterContext, signals: &Arc<Signals>) -> Self {
        let me = context.me();
        Self {
            client: client.clone(),
            options: options.clone(),
            context: context.clone(),
            signals: Arc::clone(signals),
            key: format!("{}{}/{}", options.servers(), me.kind, me.id),
            lease: Mutex::default(),
            outage: Mutex::new(Outage { renewed: Instant::now(), over: Instant::now() }),
            leaving: context.tasks.stopping().child_token(),
            keeping: TaskTracker::new(),
        }
    }

    /// The own key, once it has been written and as long as it is wanted.
    pub(super) fn wanted_key(&self) -> Option<&str> {
        (self.lease().is_some() && !self.leaving.is_cancelled()).then_some(&self.key)
    }

    /// From when on a key that is missing now means that its server is gone.
    ///
    /// When no lease could be renewed for a while, those of healthy servers may have ended as well. They are writing their
    /// keys again as this one is, and get the time for it.
    pub(super) fn believes_from(&self, now: Instant) -> Instant {
        if self.lease().is_none() {
            // Not registered, so nothing is known.
            return now;
        }
        let Outage { renewed, over } = *self.outage();
        if now - renewed > self.too_long() { now + self.options.time_to_come_back() } else { over }
    }

    /// Notes that etcd has renewed a lease.
    fn note_renewal(&self, asked: Instant) {
        let mut outage = self.outage();
        if asked - outage.renewed > self.too_long() {
            outage.over = Instant::now() + self.options.time_to_come_back();
        }
        outage.renewed = asked;
    }

    /// A healthy server renews each third of the time of a lease. When etcd was away for less than this, no lease has ended
    /// for it.
    fn too_long(&self) -> Duration {
        self.options.ttl / 2
    }

    /// Writes the key, and keeps it in etcd from then on.
    ///
    /// # Errors
    ///
    /// etcd cannot be reached, or refuses.
    pub(super) async fn register(self: &Arc<Self>, tasks: &Tasks) -> Result<()> {
        self.outage().renewed = Instant::now();
        let lease = match self.options.grant_timeout {
            Some(limit) => {
                let late = || Error::new(code::TIMEOUT, format!("etcd: not registered within {limit:?}"));
                timeout(limit, self.enlist()).await.map_err(|_| late())??
            }
            None => self.enlist().await?,
        };
        tracing::info!(key = self.key, "registered at etcd");
        let this = Arc::clone(self);
        let keeping = self.keeping.track_future(async move {
            this.leaving.run_until_cancelled(Box::pin(this.keep(lease))).await;
        });
        tasks.spawn("etcd lease", keeping);
        Ok(())
    }

    /// Takes the key away. It waits no longer than the setting says: the lease ends by itself.
    pub(super) async fn leave(&self) {
        self.leaving.cancel();
        self.keeping.close();
        let limit = self.options.revoke_timeout;
        let left = timeout(limit, async {
            // Nobody may write the key again. What was sent already fails with its lease.
            self.keeping.wait().await;
            let lease = self.lease().take();
            match lease {
                Some(lease) => self.client.revoke(lease, limit).await,
                None => Ok(()),
            }
        });
        match left.await {
            Ok(Ok(())) => tracing::debug!(key = self.key, "left etcd"),
            Ok(Err(error)) => tracing::warn!(key = self.key, %error, "the key stays in etcd until its lease ends"),
            Err(_) => {
                tracing::warn!(key = self.key, ?limit, "etcd does not answer, the key stays until its lease ends")
            }
        }
    }

    /// Writes the key with a new lease.
    async fn enlist(&self) -> Result<Lease, EtcdError> {
        let id = self.client.grant(self.options.ttl.as_secs().try_into().unwrap_or(i64::MAX)).await?;
        // From here on whoever leaves takes this lease with them.
        *self.lease() = Some(id);
        let renewed = Instant::now();
        self.client.keep_alive(id, self.options.ttl).await?;
        self.client.put(&self.key, &self.context.me().to_json(), id).await?;
        self.note_renewal(renewed);
        Ok(Lease { id, renewed })
    }

    /// Renews the lease three times in its life, and sees to it that the key is there.
    async fn keep(&self, mut lease: Lease) {
        let every = self.options.ttl / 3;
        let mut next = lease.renewed + every;
        let mut missing = false;
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.signals.own_key_missing.notified() => missing = true,
            }
            let asked = Instant::now();
            let dies = lease.renewed + self.options.ttl;
            let renewed = timeout_at(dies.max(asked + every), self.renew(lease.id, missing)).await;
            match renewed {
                Ok(Ok(())) => {
                    self.note_renewal(asked);
                    (lease.renewed, next, missing) = (asked, asked + every, false);
                    if self.options.log_renewals {
                        tracing::debug!(key = self.key, lease = lease.id, "lease renewed");
                    }
                    continue;
                }
                Ok(Err(error)) if !matches!(error, EtcdError::LeaseEnded) && Instant::now() < dies => {
                    tracing::debug!(key = self.key, %error, "the lease is not renewed yet");
                    next = Instant::now() + (every / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    continue;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            match self.enlist_again().await {
                Some(new) => (lease, next, missing) = (new, new.renewed + every, false),
                None => return,
            }
            self.signals.registered_again.notify_one();
        }
    }

    async fn renew(&self, lease: i64, key_is_missing: bool) -> Result<(), EtcdError> {
        self.client.keep_alive(lease, self.options.ttl / 3).await?;
        // It may have been written since somebody missed it.
        if key_is_missing && self.client.get(self.key.clone().into()).await?.is_none() {
            tracing::warn!(key = self.key, "the own key is missing in etcd, it is written again");
            self.client.put(&self.key, &self.context.me().to_json(), lease).await?;
        }
        Ok(())
    }

    /// Writes the key with a new lease, as often as it takes or as the settings allow.
    async fn enlist_again(&self) -> Option<Lease> {
        tracing::warn!(key = self.key, "the lease at etcd is lost, the others do not see this server");
        let (key, tries) = (&self.key, self.options.grant_retries);
        let deadline = self.options.grant_timeout.map(|limit| Instant::now() + limit);
        let mut failures = 0;
        loop {
            let next = Instant::now() + self.options.grant_interval;
            let error = match within(deadline, self.enlist()).await {
                Some(Ok(lease)) => {
                    tracing::info!(key, "registered at etcd again");
                    return Some(lease);
                }
                Some(Err(error)) => error.to_string(),
                None => "time is up".to_owned(),
            };
            failures += 1;
            tracing::warn!(key, error, failures, "not registered at etcd again yet");
            if tries.is_some_and(|tries| failures >= tries) {
                let setting = settings::GRANT_MAX_RETRIES.name();
                self.give_up(&format!("{failures} times, the limit of {setting}: {error}"));
                return None;
            }
            if within(deadline, sleep_until(next)).await.is_none() {
                let (setting, limit) = (settings::GRANT_TIMEOUT.name(), self.options.grant_timeout.unwrap_or_default());
                self.give_up(&format!("within {limit:?}, the limit of {setting}: {error}"));
                return None;
            }
        }
    }

    fn give_up(&self, why: &str) {
        let text = format!("the lease at etcd was lost, and registering again failed {why}");
        self.context.give_up(Error::new(code::INTERNAL, text));
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        // Nothing panics while it is held.
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> MutexGuard<'_, Option<i64>> {
        // Nothing panics while it is held.
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for something until a moment, or for ever.
async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}
