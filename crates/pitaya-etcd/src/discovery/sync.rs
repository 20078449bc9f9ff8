//! Comparing all keys with what is known: for changes that the watch has not seen.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pitaya_core::cluster::MAX_SERVERS;
use tokio::time::Instant;

use super::watch::Watcher;
use crate::client::EtcdError;

impl Watcher {
    /// Lists all keys, reads the values of those that are new or have changed, and forgets those that are gone.
    pub(super) async fn sync(&mut self) -> Result<(), EtcdError> {
        let listed = self.client.list(&self.prefix, true, MAX_SERVERS).await?;
        if listed.revision < self.next - 1 {
            self.begin_anew(listed.revision);
        }
        let new = listed.kvs.iter().filter(|kv| self.seen.get(&kv.key) != Some(&kv.mod_revision));
        let new: Vec<_> = new.map(|kv| kv.key.clone()).collect();
        let client = self.client.clone();
        let mut values = stream::iter(new).map(|key| client.get(key)).buffer_unordered(self.options.sync_parallelism);
        while let Some(value) = values.try_next().await? {
            if let Some(kv) = value {
                self.put(&kv);
            }
        }
        let listed_keys: HashSet<&[u8]> = listed.kvs.iter().map(|kv| &*kv.key).collect();
        let gone = self.seen.iter().filter(|(key, seen)| **seen <= listed.revision && !listed_keys.contains(&***key));
        let gone: Vec<_> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.delete(key));
        if self.registration.wanted_key().is_some_and(|own| !listed_keys.contains(own.as_bytes())) {
            self.signals.own_key_missing.notify_one();
        }
        (self.synced, self.behind) = (listed.revision, false);
        self.next = self.next.max(listed.revision + 1);
        Ok(())
    }

    /// Revisions have gone backwards: this etcd is not the one that we knew. Nothing that was seen can be compared, and the
    /// servers that are missing are writing their keys again as this one is.
    fn begin_anew(&mut self, revision: i64) {
        tracing::warn!(was = self.next - 1, now = revision, "etcd has lost its data");
        self.seen.values_mut().for_each(|seen| *seen = 0);
        (self.synced, self.next, self.behind) = (0, revision + 1, true);
        self.forget_after = Instant::now() + self.options.time_to_come_back();
        self.sync_at = self.sync_at.min(self.forget_after);
        self.follow_anew();
        self.signals.own_key_missing.notify_one();
    }
}
