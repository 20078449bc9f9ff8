//! Sessions whose client is connected to another server, and what a frontend knows of those that handle its messages.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Phase, Session, SessionLink};
use crate::{BoxFuture, Error, Result, ServerId, ServerInfo, SessionId, Uid, cluster::protos};

/// How many servers a frontend remembers to have handled the messages of one session. When there were more, all are told of
/// the close.
const MAX_HANDLED_BY: usize = 64;

/// The way from a session that is handled here to its frontend: implemented by engines.
pub trait RemoteLink: Send + Sync + 'static {
    /// Where the client is connected.
    fn frontend(&self) -> &ServerId;
    /// Binds the session there.
    fn bind<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>>;
    /// Changes its data there.
    fn push_data(&self, changes: DataChanges, data: Map<String, Value>) -> BoxFuture<'_, Result<()>>;
    /// Lets the session's callbacks run here when it closes there.
    ///
    /// # Errors
    ///
    /// The frontend does not tell.
    fn watch_close(&self, session: &Session) -> Result<()>;
    /// The session here that leaves the groups of its user when the client's session closes there: an earlier one of the same
    /// client that is watched already, or else this one, which is watched from now on. A session is made for each message, and
    /// a client that plays for long joins many groups.
    ///
    /// # Errors
    ///
    /// As [`watch_close`](Self::watch_close).
    fn member(&self, session: &Session, uid: &Uid) -> Result<Session>;
}

/// Which values have changed since the last push to the frontend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataChanges {
    /// All of them, those that are no longer there included.
    pub replaced: bool,
    /// These.
    pub keys: BTreeSet<String>,
}

impl DataChanges {
    fn is_empty(&self) -> bool {
        !self.replaced && self.keys.is_empty()
    }

    fn merge(&mut self, other: Self) {
        self.replaced |= other.replaced;
        self.keys.extend(other.keys);
    }
}

/// What only sessions of a cluster keep.
#[derive(Debug, Default)]
pub(super) struct ClusterState {
    pub(super) changes: DataChanges,
    /// On a frontend: who has to be told when the session closes.
    handled_by: Vec<ServerId>,
    /// Others, too, for whom there was no room.
    and_others: bool,
    /// These have been told, so whoever gets another message has to be told as well.
    told: bool,
}

/// Who has got messages of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandledBy {
    /// These servers.
    These(Vec<ServerId>),
    /// More than are remembered.
    Many,
}

impl Session {
    /// The server that the client is connected to, if it is another one than this.
    #[must_use]
    pub fn frontend(&self) -> Option<&ServerId> {
        Some(self.remote()?.frontend())
    }

    pub(super) fn remote(&self) -> Option<&dyn RemoteLink> {
        self.0.link.remote()
    }

    /// Sends the changes of the session's data to the server that the client is connected to; where that is this server,
    /// there is nothing to send, and it succeeds. Only then do others see them.
    ///
    /// Among servers of this framework, only what has changed is sent, so that two servers that change different values do not
    /// undo each other. A server of Go Pitaya gets all values.
    ///
    /// # Errors
    ///
    /// The session has closed there, or there is no answer. The changes are kept for the next time.
    pub async fn push_to_front(&self) -> Result<()> {
        let Some(remote) = self.remote() else { return Ok(()) };
        let (changes, data) = {
            let mut state = self.state();
            let changes = state.cluster.as_mut().map(|cluster| std::mem::take(&mut cluster.changes));
            (changes.unwrap_or_default(), state.data.map(self.0.peer).clone())
        };
        if changes.is_empty() {
            return Ok(());
        }
        // Kept as well if whoever waits gives up.
        let mut unsent = Unsent { session: self, changes: Some(changes.clone()) };
        let pushed = remote.push_data(changes, data).await;
        if pushed.is_ok() {
            unsent.changes = None;
        }
        pushed
    }

    /// Changes some values and removes others: what another server has pushed. For engines.
    pub fn apply_changes(&self, set: Map<String, Value>, unset: &[String]) {
        let mut state = self.state();
        let data = state.data.map(self.0.peer);
        data.extend(set);
        unset.iter().for_each(|key| drop(data.remove(key)));
    }

    /// Replaces all values by what another server has pushed; nothing pushed leaves them as they are. For engines.
    ///
    /// # Errors
    ///
    /// It is no JSON object.
    pub fn replace_data(&self, encoded: &Bytes) -> Result<()> {
        if !encoded.is_empty() {
            *self.state().data.map(self.0.peer) = parse_data(encoded)?;
        }
        Ok(())
    }

    /// The session as it travels with a message. For engines.
    #[must_use]
    pub fn snapshot(&self) -> protos::Session {
        let state = self.state();
        let uid = match &state.phase {
            Phase::Bound(uid) => uid.to_string(),
            Phase::Unbound | Phase::Binding(_) | Phase::Closed(_) => String::new(),
        };
        let data = state.data.to_json(self.0.peer);
        protos::Session { id: self.0.id.get(), uid, data }
    }

    /// Notes that a server gets a message of this session. Returns whether that has to be told of the close by whoever sends
    /// the message, since the others have been told already.
    pub(crate) fn handled_by(&self, server: &ServerInfo) -> bool {
        if !server.is_ours() {
            return false;
        }
        let mut state = self.state();
        let cluster = state.cluster.get_or_insert_default();
        if !cluster.told && !cluster.handled_by.contains(&server.id) {
            if cluster.handled_by.len() < MAX_HANDLED_BY {
                cluster.handled_by.push(server.id.clone());
            } else {
                cluster.and_others = true;
            }
        }
        cluster.told
    }

    /// The servers of this framework that have got messages of this session, to be told that it has closed: once. For
    /// engines.
    #[must_use]
    pub fn take_handled_by(&self) -> HandledBy {
        let mut state = self.state();
        let cluster = state.cluster.get_or_insert_default();
        cluster.told = true;
        let servers = std::mem::take(&mut cluster.handled_by);
        if std::mem::take(&mut cluster.and_others) { HandledBy::Many } else { HandledBy::These(servers) }
    }

    /// Notes a change of the data, if that has to be pushed to another server later.
    pub(super) fn changed(&self, note: impl FnOnce(&mut DataChanges)) {
        if self.remote().is_some() {
            note(&mut self.state().cluster.get_or_insert_default().changes);
        }
    }
}

/// Gives changes back to their session unless they have arrived.
struct Unsent<'a> {
    session: &'a Session,
    changes: Option<DataChanges>,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if let Some(changes) = self.changes.take() {
            self.session.state().cluster.get_or_insert_default().changes.merge(changes);
        }
    }
}

impl super::SessionPool {
    /// Makes the session of a client of another server, as that server described it. It is in no look-up. For engines.
    ///
    /// # Errors
    ///
    /// The uid is no valid name, or the data no JSON object.
    pub fn remote(&self, session: protos::Session, link: std::sync::Arc<dyn SessionLink>) -> Result<Session> {
        let made = Session::new(SessionId::new(session.id), None, self.clone(), link);
        {
            let mut state = made.state();
            if !session.uid.is_empty() {
                state.phase = Phase::Bound(session.uid.try_into()?);
            }
            state.data.set_json(&session.data)?;
        }
        Ok(made)
    }
}

/// Reads the data of a session that travelled. Nothing, and Go's `null`, are no values (protocol.md 9.1).
pub(super) fn parse_data(encoded: &Bytes) -> Result<Map<String, Value>> {
    if encoded.is_empty() || **encoded == *b"null" {
        return Ok(Map::new());
    }
    serde_json::from_slice(encoded).map_err(|error| Error::plain(format!("session data is no object: {error}")))
}
