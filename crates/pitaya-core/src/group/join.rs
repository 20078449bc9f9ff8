//! Joining a group with a session.

use std::fmt;

use super::{Group, GroupError, Joined};
use crate::{BoxFuture, GroupName, Session};

/// A session's user about to join a group; made by [`Group::join`]. Await it.
#[must_use = "nobody joins before this is awaited"]
pub struct Join<'a> {
    group: &'a Group,
    session: &'a Session,
    leaves: Option<Box<Leaves<'a>>>,
    leave_on_close: bool,
}

/// Says of another group whether it is left.
type Leaves<'a> = dyn Fn(&GroupName) -> bool + Send + Sync + 'a;

impl<'a> Join<'a> {
    pub(super) fn new(group: &'a Group, session: &'a Session) -> Self {
        Self { group, session, leaves: None, leave_on_close: false }
    }

    /// Takes the user out of all other groups, in the same step if the store can do that; the one in memory can.
    pub fn leave_others(self) -> Self {
        self.leave_others_if(|_| true)
    }

    /// Takes the user out of those other groups whose names `leaves` accepts: the other rooms, say, but not the guild.
    ///
    /// It is asked while the store is locked, so it should only look at the name.
    pub fn leave_others_if(mut self, leaves: impl Fn(&GroupName) -> bool + Send + Sync + 'a) -> Self {
        self.leaves = Some(Box::new(leaves));
        self
    }

    /// Takes the user out of the group when the session closes, before its close callbacks.
    ///
    /// If the user has another session on this server by then (a player who came back before the old connection ended),
    /// the user stays, and leaves when that one closes. Until it has left, a new session of the user waits in its bind.
    /// Sessions of clients that are connected to other servers count if they have joined a group here in this way; those wait
    /// in their next join.
    ///
    /// A server of Go Pitaya does not tell others when its sessions close: nobody joins then, and the join fails with
    /// [`GroupError::Store`].
    pub fn leave_on_close(mut self) -> Self {
        self.leave_on_close = true;
        self
    }

    async fn run(self) -> Result<Joined, GroupError> {
        let Self { group, session, leaves, leave_on_close } = self;
        let (name, store) = (group.name()?, group.store());
        let uid = session.member_uid()?;
        // Before the store is asked: whoever gives up waiting for it may have joined all the same.
        let member = if leave_on_close { Some(session.member(&uid)?) } else { None };
        let noted = match &member {
            Some(member) => member.will_leave(&uid, name).await?,
            None => false,
        };
        let joined = match &leaves {
            Some(leaves) => store.move_to(name, &uid, &**leaves).await,
            None => match store.add(name, &uid).await {
                Ok(()) => Ok(Joined::default()),
                Err(GroupError::MemberAlreadyExists) => Ok(Joined { was_member: true, left: Vec::new() }),
                Err(error) => Err(error),
            },
        };
        let joined = joined.inspect_err(|_| {
            if let Some(member) = member.as_ref().filter(|_| noted) {
                member.forget_group(name);
            }
        })?;
        for left in &joined.left {
            session.forget_group(left);
            group.app.forget_group(&uid, left);
        }
        if let Some(member) = member {
            member.leave_on_close(&uid, name).await?;
        }
        Ok(joined)
    }
}

impl<'a> IntoFuture for Join<'a> {
    type Output = Result<Joined, GroupError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Join<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join")
            .field("group", &self.group.name)
            .field("session", &self.session)
            .field("leave_others", &self.leaves.is_some())
            .field("leave_on_close", &self.leave_on_close)
            .finish()
    }
}
