//! Groups in the memory of this process.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pitaya_core::{App, BoxFuture, GroupError, GroupName, GroupStore, Joined, Uid};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::settings;

/// The default group store: seen by this app only, gone with it.
///
/// A group whose time to live is over goes at the next tick of `pitaya.groups.memory.tickduration`; until then it is there.
#[derive(Debug, Default)]
pub struct MemoryGroups {
    /// Locked for one operation, never across an await.
    groups: Mutex<Groups>,
}

#[derive(Debug, Default)]
struct Groups {
    by_name: HashMap<GroupName, Group>,
    /// The other direction; a user without groups has no entry.
    by_user: HashMap<Uid, HashSet<GroupName>>,
}

#[derive(Debug)]
struct Group {
    members: HashSet<Uid>,
    ttl: Option<Ttl>,
}

#[derive(Debug)]
struct Ttl {
    length: Duration,
    /// `None` if it is beyond what the clock can tell.
    end: Option<Instant>,
}

impl Ttl {
    fn from_now(length: Duration) -> Self {
        Self { length, end: Instant::now().checked_add(length) }
    }
}

impl MemoryGroups {
    /// No groups.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Groups> {
        // Nothing panics while the maps are being changed; poisoned ones are still whole.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    fn get(&self, group: &GroupName) -> Result<&Group, GroupError> {
        self.by_name.get(group).ok_or(GroupError::NotFound)
    }

    fn get_mut(&mut self, group: &GroupName) -> Result<&mut Group, GroupError> {
        self.by_name.get_mut(group).ok_or(GroupError::NotFound)
    }

    fn create(&mut self, group: &GroupName, ttl: Option<Duration>) -> Result<(), GroupError> {
        if self.by_name.contains_key(group) {
            return Err(GroupError::AlreadyExists);
        }
        let ttl = ttl.map(Ttl::from_now);
        self.by_name.insert(group.clone(), Group { members: HashSet::new(), ttl });
        Ok(())
    }

    fn renew_ttl(&mut self, group: &GroupName) -> Result<(), GroupError> {
        let ttl = self.get_mut(group)?.ttl.as_mut().ok_or(GroupError::NoTtl)?;
        *ttl = Ttl::from_now(ttl.length);
        Ok(())
    }

    fn delete(&mut self, group: &GroupName) -> Result<(), GroupError> {
        self.remove_all(group)?;
        self.by_name.remove(group);
        Ok(())
    }

    fn add(&mut self, group: &GroupName, uid: &Uid) -> Result<(), GroupError> {
        if !self.get_mut(group)?.members.insert(uid.clone()) {
            return Err(GroupError::MemberAlreadyExists);
        }
        self.by_user.entry(uid.clone()).or_default().insert(group.clone());
        Ok(())
    }

    fn remove(&mut self, group: &GroupName, uid: &Uid) -> Result<(), GroupError> {
        if !self.get_mut(group)?.members.remove(uid) {
            return Err(GroupError::MemberNotFound);
        }
        self.forget(group, uid);
        Ok(())
    }

    fn remove_all(&mut self, group: &GroupName) -> Result<(), GroupError> {
        for uid in std::mem::take(&mut self.get_mut(group)?.members) {
            self.forget(group, &uid);
        }
        Ok(())
    }

    fn forget(&mut self, group: &GroupName, uid: &Uid) {
        if let Some(groups) = self.by_user.get_mut(uid) {
            groups.remove(group);
            if groups.is_empty() {
                self.by_user.remove(uid);
            }
        }
    }

    fn move_to(
        &mut self,
        group: &GroupName,
        uid: &Uid,
        leaves: &dyn Fn(&GroupName) -> bool,
    ) -> Result<Joined, GroupError> {
        // Asked before anything is changed, since it may panic.
        let others = self.by_user.get(uid).into_iter().flatten();
        let left: Vec<_> = others.filter(|other| *other != group && leaves(other)).cloned().collect();
        let was_member = match self.add(group, uid) {
            Ok(()) => false,
            Err(GroupError::MemberAlreadyExists) => true,
            Err(error) => return Err(error),
        };
        for other in &left {
            self.remove(other, uid)?;
        }
        Ok(Joined { was_member, left })
    }

    fn remove_expired(&mut self, now: Instant) {
        let is_over = |group: &Group| group.ttl.as_ref().and_then(|ttl| ttl.end).is_some_and(|end| end <= now);
        let over: Vec<_> =
            self.by_name.iter().filter(|(_, group)| is_over(group)).map(|(name, _)| name.clone()).collect();
        for name in over {
            tracing::debug!(group = %name, "the time to live of a group is over");
            // It is there: nobody else holds the lock.
            let _ = self.delete(&name);
        }
    }
}

/// What is done at once, as the future that the port wants.
fn ready<'a, T: Send + 'a>(result: Result<T, GroupError>) -> BoxFuture<'a, Result<T, GroupError>> {
    Box::pin(std::future::ready(result))
}

impl GroupStore for MemoryGroups {
    fn create<'a>(&'a self, group: &'a GroupName, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().create(group, ttl))
    }

    fn renew_ttl<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().renew_ttl(group))
    }

    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().delete(group))
    }

    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().add(group, uid))
    }

    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().remove(group, uid))
    }

    fn remove_all<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>> {
        ready(self.lock().remove_all(group))
    }

    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>> {
        ready(self.lock().get(group).map(|group| group.members.iter().cloned().collect()))
    }

    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>> {
        ready(self.lock().get(group).map(|group| group.members.contains(uid)))
    }

    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>> {
        ready(self.lock().get(group).map(|group| group.members.len()))
    }

    fn groups_of<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Vec<GroupName>, GroupError>> {
        ready(Ok(self.lock().by_user.get(uid).into_iter().flatten().cloned().collect()))
    }

    fn move_to<'a>(
        &'a self,
        group: &'a GroupName,
        uid: &'a Uid,
        leaves: &'a (dyn Fn(&GroupName) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<Joined, GroupError>> {
        ready(self.lock().move_to(group, uid, leaves))
    }

    fn run<'a>(&'a self, app: &'a App) -> BoxFuture<'a, ()> {
        let period = app.config().get(&settings::GROUPS_MEMORY_TICK);
        Box::pin(async move {
            let mut ticks = interval_at(Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                self.lock().remove_expired(Instant::now());
            }
        })
    }
}
