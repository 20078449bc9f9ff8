//! The circumstances of a message.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    Route, Session,
    cluster::{Metadata, new_request_id},
};

/// The circumstances of one message: whose it is, which number it has, and whether its client is still there.
///
/// Handlers run to the end even when their client goes away; one that wants to stop early asks
/// [`is_cancelled`](Self::is_cancelled) or awaits [`cancelled`](Self::cancelled).
///
/// Hooks leave values for those behind them: what was [inserted](Self::insert) is found by its type, or taken as an argument
/// with [`Extension<T>`](crate::extract::Extension). A message without such values carries none of the machinery.
#[derive(Debug, Clone, Default)]
pub struct Context {
    session: Option<Session>,
    message_id: u64,
    extensions: Option<Arc<Extensions>>,
    /// For messages of other servers.
    call: Option<Arc<CallInfo>>,
    /// What the request id of a client's message is made of when somebody needs one; all clones have the same. 0 for a
    /// context that belongs to no message.
    seed: u64,
}

/// What came with a message of another server.
#[derive(Debug, Clone, Default)]
struct CallInfo {
    metadata: Metadata,
    /// When its caller no longer waits.
    deadline: Option<Instant>,
}

/// Few values, so a list. Copied when a context that has a clone gets another value.
#[derive(Clone, Default)]
struct Extensions(Vec<Arc<dyn Any + Send + Sync>>);

/// The route of a client's message, for calls that are made in its course.
struct RouteOfMessage(Route);

impl Context {
    /// The context of a client's message. A notify has the id 0.
    #[must_use]
    pub fn of_message(session: Session, message_id: u64) -> Self {
        Self { session: Some(session), message_id, extensions: None, call: None, seed: fastrand::u64(1..) }
    }

    /// The context of a message that another server has sent now: of one of its clients, then it has a session, or its own.
    #[must_use]
    pub fn of_call(session: Option<Session>, message_id: u64, metadata: Metadata) -> Self {
        let deadline = metadata.timeout().and_then(|timeout| Instant::now().checked_add(timeout));
        let call = Some(Arc::new(CallInfo { metadata, deadline }));
        Self { session, message_id, extensions: None, call, seed: 0 }
    }

    /// What other servers are told with each call that is made in the course of this message (protocol.md 6.6); none for a
    /// client's message that was not changed.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        Some(&self.call.as_ref()?.metadata)
    }

    /// As [`metadata`](Self::metadata), to be changed. Clones of this context that were made before keep theirs.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        &mut Arc::make_mut(self.call.get_or_insert_default()).metadata
    }

    /// Keeps the route of a client's message. Few handlers ask for their context, so not every message has the room for it.
    pub(crate) fn with_route(mut self, route: &Route) -> Self {
        self.insert(RouteOfMessage(route.clone()));
        self
    }

    /// The route of a client's message, if it was kept.
    pub(crate) fn route(&self) -> Option<Route> {
        self.get::<RouteOfMessage>().map(|kept| kept.0.clone())
    }

    /// How long the caller, another server, still waits; none if it does not say, or if the message is a client's.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        Some(self.call.as_ref()?.deadline?.saturating_duration_since(Instant::now()))
    }

    /// When the caller, another server, no longer waits. For engines.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.call.as_ref()?.deadline
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

    /// Names this message in logs and in the text of an internal error: `<session>-<message>`, or what its caller calls it.
    #[must_use]
    pub fn request_id(&self) -> String {
        if let Some(id) = self.metadata().and_then(|metadata| metadata.text(Metadata::REQUEST_ID)) {
            return id;
        }
        let session = self.session.as_ref().map_or(0, |session| session.id().get());
        format!("{session}-{}", self.message_id)
    }

    /// The `request.id` that other servers get: that of the message, which is the same for all calls that are made in its
    /// course, or a new one if this context belongs to no message.
    pub(crate) fn call_id(&self) -> String {
        let given = self.metadata().and_then(|metadata| metadata.text(Metadata::REQUEST_ID));
        match given.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => new_request_id(self.call_seed()),
        }
    }

    /// What a [`call_id`](Self::call_id) is made of where the metadata has none; none for a context of no message.
    pub(crate) fn call_seed(&self) -> Option<u64> {
        (self.seed != 0).then_some(self.seed)
    }

    /// Leaves a value for those who get this context or a clone that is made later, in place of an earlier one of its type.
    pub fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        let extensions = Arc::make_mut(self.extensions.get_or_insert_default());
        extensions.0.retain(|other| !other.is::<T>());
        extensions.0.push(Arc::new(value));
    }

    /// The value of this type that a hook has left.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self.extensions.as_ref()?.0.iter().find(|value| value.is::<T>())?;
        Arc::clone(value).downcast().ok()
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

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_type_counts_and_a_clone_keeps_what_it_had() {
        let mut context = Context::default();
        assert_eq!(context.get::<u8>(), None);
        context.insert(1_u8);
        context.insert("one");
        let before = context.clone();
        context.insert(2_u8);
        assert_eq!((context.get::<u8>().as_deref(), context.get::<&str>().as_deref()), (Some(&2), Some(&"one")));
        assert_eq!((before.get::<u8>().as_deref(), before.get::<&str>().as_deref()), (Some(&1), Some(&"one")));
    }

    #[test]
    fn all_clones_of_a_message_have_one_call_id_and_contexts_of_nothing_have_none() {
        let message = Context { seed: 7, ..Context::default() };
        let id = message.call_id();
        assert!(id.len() == 22 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        let mut changed = message.clone();
        changed.metadata_mut().set("x", 1);
        assert_eq!((changed.call_id(), message.call_id()), (id.clone(), id.clone()));
        changed.metadata_mut().set(Metadata::REQUEST_ID, "given");
        assert_eq!(changed.call_id(), "given");
        changed.metadata_mut().set(Metadata::REQUEST_ID, 5);
        assert_eq!(changed.call_id(), id, "what is no text is none");
        let other = Context { seed: 8, ..Context::default() };
        assert_ne!(other.call_id(), id);
        let nothing = Context::default();
        assert_ne!(nothing.call_id(), nothing.call_id());
    }
}
