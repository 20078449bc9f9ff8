//! The connection that is used now.

use std::sync::{Arc, PoisonError, RwLock};

use pitaya_core::cluster::RpcError;

use crate::connection::Connection;

/// Shared by those who send and the task that keeps the connection.
#[derive(Default)]
pub(crate) struct Link(RwLock<State>);

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// Why nothing can be sent now.
    refusal: Option<RpcError>,
}

impl Link {
    /// The connection to send on.
    ///
    /// # Errors
    ///
    /// There is none, and there was none for a while.
    pub(crate) fn current(&self) -> Result<Arc<Connection>, RpcError> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match (&state.refusal, &state.connection) {
            (Some(refusal), _) => Err(refusal.clone()),
            (None, Some(connection)) => Ok(Arc::clone(connection)),
            (None, None) => Err(RpcError::Disconnected("not started".into())),
        }
    }

    /// Sends on this connection from now on.
    pub(crate) fn set(&self, connection: Arc<Connection>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *state = State { connection: Some(connection), refusal: None };
    }

    /// Refuses to send, until told otherwise.
    pub(crate) fn refuse(&self, refusal: RpcError) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).refusal = Some(refusal);
    }

    /// Sends again.
    pub(crate) fn allow(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).refusal = None;
    }

    /// Nothing is sent any more.
    pub(crate) fn close(&self) {
        let closed = State { connection: None, refusal: Some(RpcError::Closed) };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }
}
