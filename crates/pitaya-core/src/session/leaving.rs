//! Groups that a user leaves when the session closes.

use std::collections::{HashMap, HashSet};

use super::{Phase, Session, SessionPool, binding::guard, pool::Departure};
use crate::{GroupError, GroupName, Uid};

/// From how many groups on the list is cleared of those that the user is no longer in.
const FIRST_CLEARING: usize = 64;

/// The groups that a session leaves when it closes.
///
/// A group can vanish, or the user be taken out of it, without the session being told. So that such entries do not heap up
/// they are cleared whenever the list has doubled.
#[derive(Debug, Default)]
pub(super) struct LeaveList {
    /// Each with the number of its entry: what was entered after a look at the store is not judged by that look.
    groups: HashMap<GroupName, u64>,
    entered: u64,
    clear_at: usize,
}

impl LeaveList {
    fn enter(&mut self, group: GroupName) {
        self.entered += 1;
        self.groups.insert(group, self.entered);
    }

    fn is_due(&self) -> bool {
        self.groups.len() >= self.clear_at.max(FIRST_CLEARING)
    }

    /// Removes what had been entered by `entered` and is not in `current`.
    fn clear_old(&mut self, entered: u64, current: &HashSet<GroupName>) {
        self.groups.retain(|group, number| *number > entered || current.contains(group));
        self.clear_at = self.groups.len() * 2;
    }

    pub(super) fn into_groups(self) -> Vec<GroupName> {
        self.groups.into_keys().collect()
    }
}

impl Session {
    /// The user with whom this session can join a group.
    pub(crate) fn member_uid(&self) -> Result<Uid, GroupError> {
        match &self.state().phase {
            Phase::Bound(uid) => Ok(uid.clone()),
            Phase::Unbound | Phase::Binding(_) => Err(GroupError::NotBound),
            Phase::Closed(_) => Err(GroupError::SessionClosed),
        }
    }

    /// The session that leaves the groups of this user when the client's session closes: this one, unless it stands for one of
    /// another server's client only, and an earlier one of the same client does it already.
    ///
    /// # Errors
    ///
    /// The server of the client would not tell, or has told already.
    pub(crate) fn member(&self, uid: &Uid) -> Result<Self, GroupError> {
        match self.remote() {
            Some(remote) => remote.member(self, uid).map_err(GroupError::Store),
            None => Ok(self.clone()),
        }
    }

    /// Notes that its user, who is about to join, leaves this group when the session closes. Returns whether that is new.
    /// A user who is being taken out of groups is waited for; that has a bound.
    pub(crate) async fn will_leave(&self, uid: &Uid, group: &GroupName) -> Result<bool, GroupError> {
        loop {
            let departing = {
                let mut state = self.state();
                if !matches!(&state.phase, Phase::Bound(bound) if bound == uid) {
                    drop(state);
                    return Err(self.member_uid().err().unwrap_or(GroupError::SessionClosed));
                }
                let found = if self.remote().is_some() { self.0.pool.insert_elsewhere(uid, self) } else { Ok(()) };
                match found {
                    Ok(()) => {
                        let list = state.leave_list.get_or_insert_default();
                        let known = list.groups.contains_key(group);
                        if !known {
                            list.enter(group.clone());
                        }
                        return Ok(!known);
                    }
                    Err(departing) => departing,
                }
            };
            departing.cancelled().await;
        }
    }

    /// Notes that its user, who has just joined, leaves this group when the session closes. If it has closed meanwhile, the
    /// user leaves at once.
    pub(crate) async fn leave_on_close(&self, uid: &Uid, group: &GroupName) -> Result<(), GroupError> {
        if !self.enter(uid, std::slice::from_ref(group)) {
            leave(&self.0.pool, uid, std::slice::from_ref(group)).await;
            return Err(self.member_uid().err().unwrap_or(GroupError::SessionClosed));
        }
        let due = self.state().leave_list.as_deref().filter(|list| list.is_due()).map(|list| list.entered);
        if let Some(entered) = due {
            let current = self.0.pool.groups().groups_of(uid).await?.into_iter().collect();
            if let Some(list) = &mut self.state().leave_list {
                list.clear_old(entered, &current);
            }
        }
        Ok(())
    }

    /// The user has left this group already.
    pub(crate) fn forget_group(&self, group: &GroupName) {
        if let Some(list) = &mut self.state().leave_list {
            list.groups.remove(group);
        }
    }

    /// Enters groups that are left when this session closes; `false` if it is not the one of this user, or no longer.
    fn enter(&self, uid: &Uid, groups: &[GroupName]) -> bool {
        let mut state = self.state();
        let bound = matches!(&state.phase, Phase::Bound(bound) if bound == uid);
        if bound {
            let list = state.leave_list.get_or_insert_default();
            groups.iter().for_each(|group| list.enter(group.clone()));
        }
        bound
    }
}

impl SessionPool {
    /// A user has left a group already.
    pub(crate) fn forget_group(&self, uid: &Uid, group: &GroupName) {
        for session in self.by_uid(uid).into_iter().chain(self.elsewhere(uid)) {
            session.forget_group(group);
        }
    }
}

/// Takes a user out of groups. If the user has another session here, that one does it when it closes. A bind of this user
/// waits meanwhile, so that nobody who has just joined again is taken out.
pub(super) async fn leave(pool: &SessionPool, uid: &Uid, groups: &[GroupName]) {
    if groups.is_empty() {
        return;
    }
    let departure = loop {
        match pool.depart(uid) {
            Departure::Stays(session) if session.enter(uid, groups) => return,
            // It has closed between the two looks, and can no longer be found.
            Departure::Stays(_) => {}
            Departure::UnderWay(ended) => ended.cancelled().await,
            Departure::Begun(departure) => break departure,
        }
    };
    let leaving = async || {
        for group in groups {
            match pool.groups().remove(group, uid).await {
                Ok(()) | Err(GroupError::NotFound | GroupError::MemberNotFound) => {}
                Err(error) => tracing::error!(%error, %uid, %group, "cannot leave a group"),
            }
        }
    };
    if let Err(error) = guard(pool.step_timeout(), "group", leaving).await {
        tracing::error!(%error, %uid, "cannot leave the groups");
    }
    drop(departure);
}
