//! Sessions whose client is connected to another server, and what a frontend knows of those that handle its messages.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Phase, Session, SessionLink};
use crate::{BoxFuture, Error, Result, ServerId, ServerInfo, SessionId, Uid, cluster::protos};

/// How many servers a frontend remembers to have handled the messages of one session.
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
        let pushed = remote.push_data(changes.clone(), data).await;
        if pushed.is_err() {
            self.state().cluster.get_or_insert_default().changes.merge(changes);
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

    /// Notes that a server has got a message of this session. For engines.
    pub(crate) fn handled_by(&self, server: &ServerInfo) {
        if !server.is_ours() {
            return;
        }
        let mut state = self.state();
        let known = &mut state.cluster.get_or_insert_default().handled_by;
        if known.len() < MAX_HANDLED_BY && !known.contains(&server.id) {
            known.push(server.id.clone());
        }
    }

    /// The servers of this framework that have got messages of this session. For engines.
    #[must_use]
    pub fn take_handled_by(&self) -> Vec<ServerId> {
        self.state().cluster.as_mut().map(|cluster| std::mem::take(&mut cluster.handled_by)).unwrap_or_default()
    }

    /// Notes a change of the data, if that has to be pushed to another server later.
    pub(super) fn changed(&self, note: impl FnOnce(&mut DataChanges)) {
        if self.remote().is_some() {
            note(&mut self.state().cluster.get_or_insert_default().changes);
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
