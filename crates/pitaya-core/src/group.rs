//! Groups of users.

use std::fmt;

use crate::{App, BoxFuture, Delivery, Error, GroupName, IntoPayload, NameError, Result, ServerType, Uid};

/// Where groups are kept.
///
/// All methods are atomic: two calls at once behave as one after the other.
pub trait GroupStore: Send + Sync + 'static {
    /// Makes an empty group.
    fn create<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes a group with its members.
    fn delete<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Adds a user.
    fn add<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes a user.
    fn remove<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<(), GroupError>>;
    /// Removes all users and keeps the group.
    fn clear<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<(), GroupError>>;
    /// A copy of the members.
    fn members<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<Vec<Uid>, GroupError>>;
    /// Whether a user is a member.
    fn contains<'a>(&'a self, group: &'a GroupName, uid: &'a Uid) -> BoxFuture<'a, Result<bool, GroupError>>;
    /// How many members there are.
    fn len<'a>(&'a self, group: &'a GroupName) -> BoxFuture<'a, Result<usize, GroupError>>;
}

impl fmt::Debug for dyn GroupStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupStore")
    }
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
            GroupError::NotFound
            | GroupError::AlreadyExists
            | GroupError::MemberAlreadyExists
            | GroupError::MemberNotFound
            | GroupError::Name(_) => Self::plain(error.to_string()),
        }
    }
}

/// A group of users, by name; made by [`App::group`]. The handle is cheap and may name a group that does not exist.
#[derive(Debug, Clone)]
pub struct Group {
    app: App,
    name: Result<GroupName, NameError>,
}

impl Group {
    pub(crate) fn new(app: App, name: Result<GroupName, NameError>) -> Self {
        Self { app, name }
    }

    /// Makes the group, empty.
    ///
    /// # Errors
    ///
    /// [`GroupError::AlreadyExists`].
    pub async fn create(&self) -> Result<(), GroupError> {
        self.store().create(self.name()?).await
    }

    /// Removes the group with its members.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn delete(&self) -> Result<(), GroupError> {
        self.store().delete(self.name()?).await
    }

    /// Adds a user.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], [`GroupError::MemberAlreadyExists`].
    pub async fn add(&self, uid: &Uid) -> Result<(), GroupError> {
        self.store().add(self.name()?, uid).await
    }

    /// Removes a user.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`], [`GroupError::MemberNotFound`].
    pub async fn remove(&self, uid: &Uid) -> Result<(), GroupError> {
        self.store().remove(self.name()?, uid).await
    }

    /// Removes all users and keeps the group.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotFound`].
    pub async fn clear(&self) -> Result<(), GroupError> {
        self.store().clear(self.name()?).await
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

    fn name(&self) -> Result<&GroupName, GroupError> {
        self.name.as_ref().map_err(|error| error.clone().into())
    }

    fn store(&self) -> &dyn GroupStore {
        self.app.group_store()
    }
}
