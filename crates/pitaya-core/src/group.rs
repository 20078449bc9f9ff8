//! Groups of users.

mod join;
mod store;

use std::time::Duration;

use crate::{App, Delivery, Error, GroupName, IntoPayload, NameError, Result, ServerType, Session, Uid};

pub use join::Join;
pub use store::{GroupError, GroupStore, Joined};

/// A group of users, by name; made by [`App::group`]. The handle is cheap and may name a group that does not exist.
///
/// ```
/// # use pitaya_core::{App, Json, Result, Session};
/// # async fn example(app: App, session: Session) -> Result<()> {
/// let room = app.group("room-7");
/// let joined = room.join(&session).leave_others().leave_on_close().await?;
/// if !joined.was_member {
///     room.broadcast("game", "onJoin", Json(session.uid()?.as_str())).await?.all()?;
/// }
/// // Only those who are ready.
/// let ready = |session: &Session| session.has("ready");
/// let filter = move |member: &pitaya_core::Member| member.session().is_some_and(ready);
/// room.multicast("game", "onStart", Json(()), filter).await?.all()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Group {
    app: App,
    name: Result<GroupName, NameError>,
}

impl Group {
    pub(crate) fn new(app: App, name: Result<GroupName, NameError>) -> Self {
        Self { app, name }
    }

    /// Makes the group, empty. It lives until it is deleted.
    ///
    /// # Errors
    ///
    /// [`GroupError::AlreadyExists`].
    pub async fn create(&self) -> Result<(), GroupError> {
        self.store().create(self.name()?, None).await
    }

    /// Makes the group, empty, with a time to live: when it has not been [renewed](Self::renew_ttl) for so long it is
    /// removed with its members, by the store in memory at its next tick (`pitaya.groups.memory.tickduration`).
    ///
    /// # Errors
    ///
    /// [`GroupError::AlreadyExists`].
    pub async fn create_with_ttl(&self, ttl: Duration) -> Result<(), GroupError> {
        self.store().create(self.name()?, Some(ttl)).await
    }

    /// Lets the time to live begin anew.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], also if the group was removed because its time was over; [`GroupError::NoTtl`] if it was made
    /// without one.
    pub async fn renew_ttl(&self) -> Result<(), GroupError> {
        self.store().renew_ttl(self.name()?).await
    }

    /// Removes the group with its members.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn delete(&self) -> Result<(), GroupError> {
        self.store().delete(self.name()?).await
    }

    /// Adds a user, connected or not.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], [`GroupError::MemberAlreadyExists`].
    pub async fn add(&self, uid: &Uid) -> Result<(), GroupError> {
        self.store().add(self.name()?, uid).await
    }

    /// Makes the user of a session a member, unless the user is one already. Say how with the methods of [`Join`], and
    /// await it.
    ///
    /// # Errors
    ///
    /// Awaiting it fails with [`GroupError::NotFound`], [`GroupError::NotBound`], [`GroupError::SessionClosed`].
    pub fn join<'a>(&'a self, session: &'a Session) -> Join<'a> {
        Join::new(self, session)
    }

    /// Removes a user.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], [`GroupError::MemberNotFound`].
    pub async fn remove(&self, uid: &Uid) -> Result<(), GroupError> {
        let name = self.name()?;
        self.store().remove(name, uid).await?;
        self.app.forget_group(uid, name);
        Ok(())
    }

    /// Removes the user of a session, which may have closed.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], [`GroupError::MemberNotFound`], [`GroupError::NotBound`].
    pub async fn leave(&self, session: &Session) -> Result<(), GroupError> {
        let uid = session.uid().map_err(|_| GroupError::NotBound)?;
        self.remove(&uid).await
    }

    /// Removes all users and keeps the group.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn remove_all(&self) -> Result<(), GroupError> {
        self.store().remove_all(self.name()?).await
    }

    /// A copy of the members, in no particular order.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn members(&self) -> Result<Vec<Uid>, GroupError> {
        self.store().members(self.name()?).await
    }

    /// Whether a user is a member.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn contains(&self, uid: &Uid) -> Result<bool, GroupError> {
        self.store().contains(self.name()?, uid).await
    }

    /// How many members there are.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn len(&self) -> Result<usize, GroupError> {
        self.store().len(self.name()?).await
    }

    /// Pushes to all members that are connected to frontends of this type. The payload is written once.
    ///
    /// Whoever is a member all the while gets it once. Who joins or leaves meanwhile may get it or not.
    ///
    /// # Errors
    ///
    /// The group does not exist, or the payload cannot be written. Members that cannot be reached are no error: they are
    /// named in the [`Delivery`].
    pub async fn broadcast<T, P>(&self, frontend: T, route: &str, payload: P) -> Result<Delivery>
    where
        T: TryInto<ServerType>,
        T::Error: Into<Error>,
        P: IntoPayload,
    {
        let push = self.app.push(route, payload);
        let members = self.members().await?;
        push.to_users(frontend, members).await
    }

    /// As [`broadcast`](Self::broadcast), to those members only that `filter` accepts. The others are not in the
    /// [`Delivery`].
    ///
    /// # Errors
    ///
    /// As [`broadcast`](Self::broadcast).
    pub async fn multicast<T, P, F>(&self, frontend: T, route: &str, payload: P, mut filter: F) -> Result<Delivery>
    where
        T: TryInto<ServerType>,
        T::Error: Into<Error>,
        P: IntoPayload,
        F: FnMut(&Member) -> bool + Send,
    {
        let push = self.app.push(route, payload);
        let members = self.members().await?.into_iter();
        let members = members.map(|uid| Member { session: self.app.session_of(&uid), uid });
        push.to_users(frontend, members.filter(|member| filter(member)).map(|member| member.uid)).await
    }

    /// [Kicks](Session::kick) all members that are connected to this server. They stay members, unless they joined with
    /// [`Join::leave_on_close`].
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`]. Members that cannot be reached are no error: they are named in the [`Delivery`].
    pub async fn kick(&self) -> Result<Delivery, GroupError> {
        Ok(self.app.kick_users(self.members().await?).await)
    }

    fn name(&self) -> Result<&GroupName, GroupError> {
        self.name.as_ref().map_err(|error| error.clone().into())
    }

    fn store(&self) -> &dyn GroupStore {
        self.app.group_store()
    }
}

/// A member of a group, as the filter of a [multicast](Group::multicast) sees it.
#[derive(Debug, Clone)]
pub struct Member {
    uid: Uid,
    session: Option<Session>,
}

impl Member {
    /// The user.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        &self.uid
    }

    /// The user's session, if it is connected to this server.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }
}
