//! The circumstances of a message.

use crate::Session;

/// The circumstances of one message: whose it is, which number it has, and whether its client is still there.
///
/// Handlers run to the end even when their client goes away; one that wants to stop early asks
/// [`is_cancelled`](Self::is_cancelled) or awaits [`cancelled`](Self::cancelled).
#[derive(Debug, Clone, Default)]
pub struct Context {
    session: Option<Session>,
    message_id: u64,
}

impl Context {
    /// The context of a client's message. A notify has the id 0.
    #[must_use]
    pub fn of_message(session: Session, message_id: u64) -> Self {
        Self { session: Some(session), message_id }
    }

    /// The session that the message belongs to; none for a call of another server.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The id that the client gave to its request; 0 for a notify.
    #[must_use]
    pub fn message_id(&self) -> u64 {
        self.message_id
    }

    /// Names this message in logs and in the text of an internal error: `<session>-<message>`.
    #[must_use]
    pub fn request_id(&self) -> String {
        let session = self.session.as_ref().map_or(0, |session| session.id().get());
        format!("{session}-{}", self.message_id)
    }

    /// Whether nobody waits for the answer any more: the session has closed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_closed)
    }

    /// Waits until nobody waits for the answer any more. Never ends for a message without session.
    ///
    /// # Cancel safety
    ///
    /// It may be dropped and called again.
    pub async fn cancelled(&self) {
        match &self.session {
            Some(session) => session.closed().await,
            None => std::future::pending().await,
        }
    }
}
