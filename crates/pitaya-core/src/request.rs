//! What travels through the chain of a message.

use std::{
    any::{TypeId, type_name},
    ops::{Deref, DerefMut},
    sync::Arc,
};

use bytes::Bytes;

use crate::{App, Context, Error, Result, Route, Session};

/// What a handler answers: the encoded body, or an error. A coded error is a reply like any other.
pub type Reply = Result<Bytes, Error>;

/// Everything about a message but its payload: its context, and with `parts.route` and `parts.app` its [`Place`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Parts {
    /// The session, the id of the message, and whether anybody still waits.
    pub context: Context,
    place: Arc<Place>,
}

/// Where a message is handled: what all messages of one route have in common. A hook that changes it changes it for its
/// message alone.
// Engines hold one for each thread: the counter of the `Arc` around it must not lie beside another.
#[repr(align(128))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Place {
    /// The full route, server type included.
    pub route: Route,
    /// The app that handles the message.
    pub app: App,
}

impl Place {
    /// The place of the messages with this route.
    #[must_use]
    pub fn new(route: Route, app: App) -> Self {
        Self { route, app }
    }
}

impl Parts {
    /// The parts of a message that arrived now.
    #[must_use]
    pub fn new(place: Arc<Place>, context: Context) -> Self {
        Self { context, place }
    }

    /// The session that the message belongs to.
    ///
    /// # Errors
    ///
    /// There is none: the message is a call of another server.
    pub fn session(&self) -> Result<&Session> {
        self.context.session().ok_or_else(|| Error::plain("the call has no session"))
    }
}

impl Deref for Parts {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl DerefMut for Parts {
    fn deref_mut(&mut self) -> &mut Place {
        Arc::make_mut(&mut self.place)
    }
}

/// A message on its way to a handler. Hooks may change any part of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Request {
    /// Everything but the payload.
    pub parts: Parts,
    /// The payload as the client sent it, already inflated. An extractor that takes it leaves it empty.
    pub body: Bytes,
}

impl Request {
    /// A message with this payload.
    #[must_use]
    pub fn new(parts: Parts, body: Bytes) -> Self {
        Self { parts, body }
    }
}

/// What the arguments and the result of a handler need, so that `build()` can say what is missing.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    formats: Vec<&'static str>,
    states: Vec<(TypeId, &'static str)>,
    session: bool,
}

impl Needs {
    /// The payload is written in this format: the name of the serializer that the app must have.
    pub fn format(&mut self, name: &'static str) {
        if !self.formats.contains(&name) {
            self.formats.push(name);
        }
    }

    /// The app must hold a state of this type.
    pub fn state<T: 'static>(&mut self) {
        self.states.push((TypeId::of::<T>(), type_name::<T>()));
    }

    /// The message must be a client's.
    pub fn session(&mut self) {
        self.session = true;
    }

    /// Whether the message must be a client's; a call of another server has no session.
    #[must_use]
    pub fn needs_session(&self) -> bool {
        self.session
    }

    /// The formats that were asked for, each once.
    #[must_use]
    pub fn formats(&self) -> &[&'static str] {
        &self.formats
    }

    /// The states that were asked for: type and its name.
    #[must_use]
    pub fn states(&self) -> &[(TypeId, &'static str)] {
        &self.states
    }
}
