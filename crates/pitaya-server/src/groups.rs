//! Groups in the memory of this process.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use pitaya_core::{BoxFuture, GroupError, GroupName, GroupStore, Uid};

/// The default group store: seen by this app only, gone with it.
#[derive(Debug, Default)]
pub struct MemoryGroups {
    /// Locked for one operation, never across an await.
    groups: Mutex<Groups>,
}

type Groups = HashMap<GroupName, HashSet<Uid>>;

impl MemoryGroups {
    /// No groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // Nothing panics while the map is locked; a poisoned one is still whole.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<'a, T: Send + 'a>(
        &self,
        group: &GroupName,
        operate: impl FnOnce(&mut HashSet<Uid>) -> Result<T, GroupError>,
    ) -> BoxFuture<'a, Result<T, GroupError>> {
        let result = match self.lock().get_mut(group) {
            Some(members) => operate(members),
            None => Err(GroupError::NotFound),
        };
        Box::pin(async { result })
    }
}

impl GroupStore for MemoryGroups {
    fn create<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        let mut groups = self.lock();
        let result = if groups.contains_key(group) {
            Err(GroupError::AlreadyExists)
        } else {
            groups.insert(group.clone(), HashSet::new());
            Ok(())
        };
        Box::pin(async { result })
    }

    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        let removed = self.lock().remove(group);
        Box::pin(async { removed.map(drop).ok_or(GroupError::NotFound) })
    }

    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.with(group, |members| members.insert(uid.clone()).then_some(()).ok_or(GroupError::MemberAlreadyExists))
    }

    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        self.with(group, |members| members.remove(uid).then_some(()).ok_or(GroupError::MemberNotFound))
    }

    fn clear<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        self.with(group, |members| {
            members.clear();
            Ok(())
        })
    }

    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>> {
        self.with(group, |members| Ok(members.iter().cloned().collect()))
    }

    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>> {
        self.with(group, |members| Ok(members.contains(uid)))
    }

    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>> {
        self.with(group, |members| Ok(members.len()))
    }
}
