//! The keys of the others, as they change.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use pitaya_core::{
    ServerId, ServerInfo, ServerType,
    cluster::{ClusterContext, MAX_SERVERS},
};
use tokio::time::Instant;

use super::{Signals, follow::Following, register::Registration};
use crate::{
    client::{Client, EtcdError, Event, EventType, KeyValue},
    options::Options,
};

/// Keeps the list of servers as etcd has it.
pub(super) struct Watcher {
    pub(super) client: Client,
    pub(super) options: Options,
    pub(super) context: ClusterContext,
    pub(super) registration: Arc<Registration>,
    pub(super) signals: Arc<Signals>,
    /// What the keys of servers begin with.
    pub(super) prefix: String,
    /// All keys, good or bad, with the revision at which each was read.
    pub(super) seen: HashMap<Bytes, i64>,
    /// Everything up to this revision has been compared.
    pub(super) synced: i64,
    /// The first revision that has not been seen yet.
    pub(super) next: i64,
    /// When everything is compared again.
    pub(super) sync_at: Instant,
    /// Missing keys are not believed before: etcd has lost its data, and their servers are writing them again.
    pub(super) forget_after: Instant,
    /// Whether changes may have been missed that no watch will tell: a comparison is due.
    pub(super) behind: bool,
    pub(super) following: Following,
}

impl Watcher {
    /// Reads all servers, and begins to watch.
    pub(super) async fn start(
        client: &Client,
        options: &Options,
        context: &ClusterContext,
        registration: &Arc<Registration>,
        signals: &Arc<Signals>,
    ) -> Result<Self, EtcdError> {
        let mut this = Self {
            client: client.clone(),
            options: options.clone(),
            context: context.clone(),
            registration: Arc::clone(registration),
            signals: Arc::clone(signals),
            prefix: options.servers(),
            seen: HashMap::new(),
            synced: 0,
            next: 0,
            sync_at: Instant::now() + options.sync_interval,
            forget_after: Instant::now(),
            behind: false,
            following: Following::Paused(Instant::now()),
        };
        let listed = this.client.list(&this.prefix, false, MAX_SERVERS).await?;
        let servers: Vec<_> = listed.kvs.iter().filter_map(|kv| this.read(kv)).collect();
        context.servers.replace(servers);
        (this.synced, this.next) = (listed.revision, listed.revision + 1);
        this.following = Following::Open(this.client.watch(&this.prefix, this.next).await?);
        Ok(this)
    }

    /// Takes a change.
    pub(super) fn apply(&mut self, event: Event) {
        let is_deletion = event.r#type() == EventType::Delete;
        let Some(kv) = event.kv else { return };
        self.next = self.next.max(kv.mod_revision + 1);
        if kv.mod_revision <= self.synced {
            return;
        }
        if !is_deletion {
            self.put(&kv);
        } else if self.seen.get(&kv.key).is_none_or(|seen| *seen < kv.mod_revision) {
            self.delete(&kv.key);
        }
    }

    /// Takes a key and its value, unless it has been seen.
    pub(super) fn put(&mut self, kv: &KeyValue) {
        let Some(server) = self.read(kv) else { return };
        if self.context.servers.now().get(&server.id).is_none() {
            tracing::debug!(server = %server.id, kind = %server.kind, "server found");
        }
        self.context.servers.add(server);
    }

    /// The server of a key and its value, unless it has been seen or is none.
    fn read(&mut self, kv: &KeyValue) -> Option<ServerInfo> {
        let seen = self.seen.get(&kv.key).copied();
        if seen.is_some_and(|seen| seen >= kv.mod_revision) || (seen.is_none() && self.seen.len() >= MAX_SERVERS) {
            return None;
        }
        self.seen.insert(kv.key.clone(), kv.mod_revision);
        let server = self.server(kv).inspect_err(|reason| {
            let key = shown(&kv.key);
            tracing::warn!(key, revision = kv.mod_revision, reason, "a key that is no server of ours is left out");
        });
        server.ok()
    }

    /// Takes it that a key is gone.
    pub(super) fn delete(&mut self, key: &Bytes) {
        if self.registration.wanted_key().is_some_and(|own| own.as_bytes() == key) {
            self.seen.remove(key);
            self.signals.own_key_missing.notify_one();
            return;
        }
        if self.doubts() {
            // It stays among what was seen, so the comparison that is due then finds out.
            tracing::debug!(
                key = shown(key),
                "a key is missing after an outage of etcd, its server has time to come back"
            );
            return;
        }
        self.seen.remove(key);
        let Ok((kind, id)) = self.names(key) else { return };
        // The server may have another type by now, and another key.
        if self.context.servers.now().get(&id).is_some_and(|server| server.kind == kind) {
            tracing::debug!(server = %id, %kind, "server gone");
            self.context.servers.remove(&id);
        }
    }

    /// Whether missing keys are not believed yet. Everything is compared when they are.
    fn doubts(&mut self) -> bool {
        let now = Instant::now();
        self.forget_after = self.forget_after.max(self.registration.believes_from(now));
        let doubts = now < self.forget_after;
        if doubts {
            self.sync_at = self.sync_at.min(self.forget_after);
        }
        doubts
    }

    /// The server of a key and its value, which say the same.
    fn server(&self, kv: &KeyValue) -> Result<ServerInfo, String> {
        let (kind, id) = self.names(&kv.key)?;
        let server = ServerInfo::parse(&kv.value).map_err(|error| error.to_string())?;
        if server.kind == kind && server.id == id {
            Ok(server)
        } else {
            Err(format!("the value is of {}/{}", server.kind, server.id))
        }
    }

    /// The names in a key.
    fn names(&self, key: &[u8]) -> Result<(ServerType, ServerId), String> {
        let text = std::str::from_utf8(key).map_err(|error| error.to_string())?;
        let names = text.strip_prefix(&self.prefix).and_then(|names| names.split_once('/'));
        let (kind, id) = names.ok_or("the key is not <type>/<id>")?;
        let kind = ServerType::try_from(kind).map_err(|error| error.to_string())?;
        let id = ServerId::try_from(id).map_err(|error| error.to_string())?;
        Ok((kind, id))
    }
}

/// A key for the log: somebody else wrote it.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).escape_debug().take(256).collect()
}
