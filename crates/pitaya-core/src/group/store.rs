//! Where groups are kept: the port of group stores.

use std::{fmt, time::Duration};

use crate::{App, BoxFuture, Error, GroupName, NameError, Result, Uid, code};

/// Where groups are kept.
///
/// All methods are atomic: two calls at once behave as one after the other.
pub trait GroupStore: Send + Sync + 'static {
    /// Makes an empty group. One with a time to live is removed, with its members, when it has not been
    /// [renewed](Self::renew_ttl) for so long; a store may take some time more to notice.
    fn create<'a>(&'a self, group: &'a GroupName, ttl: Option<Duration>) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Lets the time to live of a group begin anew.
    fn renew_ttl<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes a group with its members.
    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Adds a user.
    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes a user.
    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes all users and keeps the group.
    fn remove_all<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// A copy of the members.
    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>>;
    /// Whether a user is a member.
    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>>;
    /// How many members there are.
    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>>;
    /// The groups that a user is in.
    fn groups_of<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<Vec<GroupName>, GroupError>>;

    /// Makes a user a member of a group, unless the user is one already, and takes the user out of all other groups whose
    /// names `leaves` accepts. Without the group, nothing happens.
    ///
    /// This default is made of the other methods, so that somebody may see the user in several groups half-way; a store
    /// that can do it in one step should.
    fn move_to<'a>(
        &'a self,
        group: &'a GroupName,
        uid: &'a Uid,
        leaves: &'a (dyn Fn(&GroupName) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<Joined, GroupError>> {
        Box::pin(async move {
            let mut joined = match self.add(group, uid).await {
                Ok(()) => Joined { was_member: false, left: Vec::new() },
                Err(GroupError::MemberAlreadyExists) => Joined { was_member: true, left: Vec::new() },
                Err(error) => return Err(error),
            };
            for other in self.groups_of(uid).await? {
                if other != *group && leaves(&other) {
                    match self.remove(&other, uid).await {
                        Ok(()) => joined.left.push(other),
                        // Somebody else was faster.
                        Err(GroupError::NotFound | GroupError::MemberNotFound) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(joined)
        })
    }

    /// What the store does in the background: a task of the app, started before its modules, dropped when the app stops.
    /// It may end at any time; this default does nothing.
    fn run<'a>(&'a self, app: &'a App) -> BoxFuture<'a, ()> {
        let _ = app;
        Box::pin(async {})
    }
}

impl fmt::Debug for dyn GroupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupStore")
    }
}

/// What a join changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    /// Whether the user was a member before.
    pub was_member: bool,
    /// The groups that the user was taken out of.
    pub left: Vec<GroupName>,
}

/// Why a group operation failed (protocol.md 10).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There is no such group.
    #[error("group not found")]
    NotFound,
    /// There is such a group already.
    #[error("group already exists")]
    AlreadyExists,
    /// The user is a member already.
    #[error("member already exists in group")]
    MemberAlreadyExists,
    /// The user is not a member.
    #[error("member not found in the group")]
    MemberNotFound,
    /// The group lives until it is deleted: there is nothing to renew.
    #[error("group TTL not found")]
    NoTtl,
    /// The session that should join or leave is not bound to a user.
    #[error("the session is not bound to a user")]
    NotBound,
    /// The session that should join has closed.
    #[error("the session has closed")]
    SessionClosed,
    /// The group's name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The store cannot be reached, or refused.
    #[error("group store failed")]
    Store(#[source] Error),
}

impl From<GroupError> for Error {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Store(error) => error,
            GroupError::SessionClosed => Self::new(code::CLIENT_CLOSED, error.to_string()),
            GroupError::NotFound
            | GroupError::AlreadyExists
            | GroupError::MemberAlreadyExists
            | GroupError::MemberNotFound
            | GroupError::NoTtl
            | GroupError::NotBound
            | GroupError::Name(_) => Self::plain(error.to_string()),
        }
    }
}
