//! What the handles of a client and the task of its connection share.

use std::sync::{Arc, Mutex, PoisonError};

use pitaya_protocol::HandshakeResponse;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::CloseReason;
use crate::options::Options;
use crate::pending::Pending;
use crate::push::Hub;
use crate::state::State;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) pending: Pending,
    pub(crate) hub: Hub,
    /// Cancelled by [`Client::close`](crate::Client::close).
    pub(crate) closing: CancellationToken,
    state: watch::Sender<State>,
    /// Of the current connection, or of the last one.
    handshake: Mutex<Arc<HandshakeResponse>>,
}

impl Shared {
    pub(crate) fn new(options: Options, handshake: Arc<HandshakeResponse>) -> Self {
        Self {
            pending: Pending::new(options.max_in_flight),
            hub: Hub::new(options.push_limits),
            closing: CancellationToken::new(),
            state: watch::Sender::new(State::Connected),
            handshake: Mutex::new(handshake),
            options,
        }
    }

    pub(crate) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns why the client has closed, or is about to.
    pub(crate) fn close_reason(&self) -> CloseReason {
        match self.state() {
            State::Closed(reason) => reason,
            State::Connected | State::Reconnecting { .. } => CloseReason::ClientClosed,
        }
    }

    pub(crate) fn handshake(&self) -> Arc<HandshakeResponse> {
        // The lock holds one pointer, valid whatever happens.
        self.handshake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says that an attempt for a new connection is about to start.
    pub(crate) fn reconnecting(&self, attempt: u32, reason: &CloseReason) {
        self.state.send_replace(State::Reconnecting { attempt });
        self.pending.suspend(reason);
    }

    /// Says that there is a new connection; returns its epoch.
    pub(crate) fn reconnected(&self, handshake: Arc<HandshakeResponse>) -> u64 {
        *self.handshake.lock().unwrap_or_else(PoisonError::into_inner) = handshake;
        let epoch = self.pending.open();
        self.state.send_replace(State::Connected);
        epoch
    }

    /// Ends everything; only the first reason counts.
    pub(crate) fn finish(&self, reason: &CloseReason) {
        // The state comes first: who sees a request fail may ask why.
        self.state.send_if_modified(|state| {
            let first = !matches!(state, State::Closed(_));
            if first {
                *state = State::Closed(reason.clone());
            }
            first
        });
        self.pending.close(reason);
        self.hub.close();
    }
}
