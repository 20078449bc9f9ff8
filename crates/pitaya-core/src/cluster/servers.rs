//! The servers of a cluster, as this one knows them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{ServerId, ServerInfo, ServerType};

/// How many servers are kept. More than any cluster has; a discovery that goes mad cannot fill the memory.
pub const MAX_SERVERS: usize = 65_536;

/// How many servers that have left are remembered.
const MAX_LEFT: usize = 1_024;

/// The list of known servers: written by a [`Discovery`](super::Discovery), read by everybody. Reading never waits, and a
/// discovery that has lost its connection leaves the last list.
#[derive(Clone)]
pub struct Servers(Arc<Shared>);

struct Shared {
    me: Arc<ServerInfo>,
    /// Types that this server does not want to know of.
    ignored: Vec<ServerType>,
    list: watch::Sender<Arc<ServerList>>,
    /// Those that have left last, the newest at the end.
    left: Mutex<VecDeque<Arc<ServerInfo>>>,
}

/// The servers at one moment.
#[derive(Debug, Clone, Default)]
pub struct ServerList {
    by_id: HashMap<ServerId, Arc<ServerInfo>>,
    by_kind: BTreeMap<ServerType, Vec<Arc<ServerInfo>>>,
}

impl Servers {
    /// A list with this server alone. Servers of the `ignored` types are left out, whoever adds them, but this server.
    #[must_use]
    pub fn new(me: ServerInfo, ignored: Vec<ServerType>) -> Self {
        let me = Arc::new(me);
        let list = ServerList::of([Arc::clone(&me)]);
        Self(Arc::new(Shared { me, ignored, list: watch::Sender::new(Arc::new(list)), left: Mutex::default() }))
    }

    /// This server.
    #[must_use]
    pub fn me(&self) -> &Arc<ServerInfo> {
        &self.0.me
    }

    /// The servers that are known now, this one included.
    #[must_use]
    pub fn now(&self) -> Arc<ServerList> {
        Arc::clone(&self.0.list.borrow())
    }

    /// A server that is known now, or was known before it left: one that stops leaves the list long before its last client has
    /// gone, and one whose lease was lost serves its clients as before.
    #[must_use]
    pub fn last_known(&self, id: &ServerId) -> Option<Arc<ServerInfo>> {
        let listed = self.now().get(id).cloned();
        listed.or_else(|| self.left().iter().rev().find(|server| server.id == *id).cloned())
    }

    /// Sees each list that follows. Those between two looks are left out.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<ServerList>> {
        self.0.list.subscribe()
    }

    /// Adds a server, or replaces what was known of it.
    pub fn add(&self, server: ServerInfo) {
        self.change(|list| {
            if !self.wants(&server) || list.by_id.get(&server.id).is_some_and(|known| **known == server) {
                return false;
            }
            list.insert(Arc::new(server))
        });
    }

    /// Removes a server; this one stays.
    pub fn remove(&self, id: &ServerId) {
        if *id != self.0.me.id {
            self.change(|list| list.remove(id));
        }
    }

    /// Replaces all servers but this one.
    pub fn replace(&self, servers: impl IntoIterator<Item = ServerInfo>) {
        self.change(|list| {
            let wanted = servers.into_iter().filter(|server| self.wants(server));
            let others = wanted.map(|server| match list.by_id.get(&server.id) {
                Some(known) if **known == server => Arc::clone(known),
                _ => Arc::new(server),
            });
            let new = ServerList::of([Arc::clone(&self.0.me)].into_iter().chain(others));
            let changed = new.by_id != list.by_id;
            *list = new;
            changed
        });
    }

    fn wants(&self, server: &ServerInfo) -> bool {
        server.id != self.0.me.id && !self.0.ignored.contains(&server.kind)
    }

    /// Changes a copy, so that whoever reads the list keeps a whole one.
    fn change(&self, change: impl FnOnce(&mut ServerList) -> bool) {
        self.0.list.send_if_modified(|list| {
            let mut new = ServerList::clone(list);
            let changed = change(&mut new);
            if changed {
                self.note_left(list.iter().filter(|server| !new.by_id.contains_key(&server.id)));
                *list = Arc::new(new);
            }
            changed
        });
    }
}

impl Servers {
    fn note_left<'a>(&self, servers: impl Iterator<Item = &'a Arc<ServerInfo>>) {
        let mut left = self.left();
        for server in servers {
            left.retain(|other| other.id != server.id);
            if left.len() >= MAX_LEFT {
                left.pop_front();
            }
            left.push_back(Arc::clone(server));
        }
    }

    fn left(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<ServerInfo>>> {
        // Nothing panics while it is locked.
        self.0.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerList {
    fn of(servers: impl IntoIterator<Item = Arc<ServerInfo>>) -> Self {
        let mut list = Self::default();
        for server in servers {
            list.insert(server);
        }
        list
    }

    /// The server with this id.
    #[must_use]
    pub fn get(&self, id: &ServerId) -> Option<&Arc<ServerInfo>> {
        self.by_id.get(id)
    }

    /// The servers of a type, in no particular order.
    #[must_use]
    pub fn of_kind(&self, kind: &str) -> &[Arc<ServerInfo>] {
        self.by_kind.get(kind).map_or(&[], Vec::as_slice)
    }

    /// The types of which a server is known, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &ServerType> {
        self.by_kind.keys()
    }

    /// All servers, by type.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ServerInfo>> {
        self.by_kind.values().flatten()
    }

    /// How many servers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known. Never so for a list of [`Servers`], which has its own.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The list without one server.
    #[must_use]
    pub fn without(&self, id: &ServerId) -> Self {
        let mut list = self.clone();
        list.remove(id);
        list
    }

    fn insert(&mut self, server: Arc<ServerInfo>) -> bool {
        if !self.by_id.contains_key(&server.id) && self.by_id.len() >= MAX_SERVERS {
            tracing::error!(server = %server.id, limit = MAX_SERVERS, "too many servers, one is left out");
            return false;
        }
        self.remove(&server.id);
        self.by_kind.entry(server.kind.clone()).or_default().push(Arc::clone(&server));
        self.by_id.insert(server.id.clone(), server);
        true
    }

    fn remove(&mut self, id: &ServerId) -> bool {
        let Some(server) = self.by_id.remove(id) else { return false };
        if let Some(servers) = self.by_kind.get_mut(&server.kind) {
            servers.retain(|other| other.id != *id);
            if servers.is_empty() {
                self.by_kind.remove(&server.kind);
            }
        }
        true
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("me", &self.0.me.id).field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(kind: &str, id: &str) -> ServerInfo {
        let mut server = ServerInfo::backend(kind).unwrap();
        server.id = id.try_into().unwrap();
        server
    }

    fn ids(servers: &Servers, kind: &str) -> Vec<String> {
        let list = servers.now();
        let mut ids: Vec<_> = list.of_kind(kind).iter().map(|server| server.id.to_string()).collect();
        ids.sort();
        ids
    }

    #[test]
    fn servers_come_change_and_go_and_this_one_stays() {
        let servers = Servers::new(server("gate", "g1"), vec!["secret".try_into().unwrap()]);
        let mut seen = servers.watch();
        servers.add(server("room", "r1"));
        servers.add(server("room", "r2"));
        servers.add(server("secret", "s1"));
        assert_eq!((ids(&servers, "room"), ids(&servers, "secret")), (vec!["r1".into(), "r2".into()], vec![]));
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();

        // The same again is no change; other metadata is.
        servers.add(server("room", "r1"));
        assert!(!seen.has_changed().unwrap());
        let mut changed = server("room", "r1");
        changed.metadata.insert("version".into(), "2".into());
        let before = servers.now();
        servers.add(changed);
        assert!(seen.has_changed().unwrap());
        let id = "r1".try_into().unwrap();
        assert!(before.get(&id).unwrap().metadata.is_empty(), "who reads keeps a whole list");
        assert_eq!(servers.now().get(&id).unwrap().metadata["version"], "2");
        // One that comes back as another type is no longer of the old one.
        servers.add(server("hall", "r1"));
        assert_eq!((ids(&servers, "room"), ids(&servers, "hall")), (vec!["r2".into()], vec!["r1".into()]));

        servers.remove(&"g1".try_into().unwrap());
        servers.replace([server("room", "r3"), server("gate", "g1"), server("secret", "s1")]);
        assert_eq!(ids(&servers, "gate"), ["g1"]);
        assert_eq!((ids(&servers, "room"), servers.now().len()), (vec!["r3".to_owned()], 2));
        servers.remove(&"r3".try_into().unwrap());
        assert_eq!(servers.now().kinds().count(), 1);
    }

    #[test]
    fn servers_that_have_left_are_remembered_but_not_for_ever() {
        let servers = Servers::new(server("gate", "g1"), vec![]);
        let id = |id: &str| ServerId::try_from(id).unwrap();
        servers.add(server("room", "r1"));
        assert!(servers.last_known(&id("r1")).is_some() && servers.last_known(&id("r2")).is_none());
        servers.remove(&id("r1"));
        assert_eq!(servers.last_known(&id("r1")).unwrap().kind, "room");
        // The newest that was known counts, and the list before it.
        servers.add(server("hall", "r1"));
        servers.replace([]);
        assert_eq!(servers.last_known(&id("r1")).unwrap().kind, "hall");
        servers.add(server("shop", "r1"));
        assert_eq!(servers.last_known(&id("r1")).unwrap().kind, "shop");
        servers.replace((0..MAX_LEFT).map(|number| server("room", &format!("x{number}"))));
        servers.replace([]);
        assert!(servers.last_known(&id("r1")).is_none() && servers.last_known(&id("x0")).is_some());
        assert_eq!(servers.left().len(), MAX_LEFT);
    }

    #[test]
    fn more_servers_than_any_cluster_has_are_left_out() {
        let servers = Servers::new(server("gate", "g1"), vec![]);
        servers.replace((0..MAX_SERVERS + 5).map(|number| server("room", &format!("r{number}"))));
        assert_eq!(servers.now().len(), MAX_SERVERS);
    }
}
