//! What joins bind and close.

use std::{fmt, future::Future, sync::Arc};

use pitaya_protocol::HandshakeData;

use crate::{BoxFuture, CloseReason, Result, Session, Uid};

/// Something that takes part when a session is bound and when it closes: a callback of the application, a module that
/// allows one session per user, an adapter that subscribes for a user's pushes.
///
/// All methods have defaults that do nothing. Each call has a time-out, and a panic in one is an error of that step only.
///
/// A session that was replaced by a newer one of the same user closes after the newer one has been bound: what a step
/// keeps by uid may be the newer session's by then. Compare with [`App::session_of`](crate::App::session_of), or keep it by
/// session. A step whose `bind` failed or timed out gets no `unbind`.
pub trait SessionStep: Send + Sync + 'static {
    /// Before the session can be found by its uid. An error refuses the bind.
    fn bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        let _ = (session, uid);
        Box::pin(async { Ok(()) })
    }

    /// Undoes [`bind`](Self::bind): a later step failed, the bind was given up, or the bound session closes. It is called
    /// once more if whoever waited for the bind gave up while this was running.
    fn unbind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, ()> {
        let _ = (session, uid);
        Box::pin(async {})
    }

    /// After the session can be found by its uid. An error undoes the bind.
    fn after_bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        let _ = (session, uid);
        Box::pin(async { Ok(()) })
    }

    /// After a session has been removed from all look-ups, bound or not; after the session's own callbacks.
    fn close<'a>(&'a self, session: &'a Session, reason: CloseReason) -> BoxFuture<'a, ()> {
        let _ = (session, reason);
        Box::pin(async {})
    }
}

/// What looks at a client's handshake.
#[derive(Clone)]
pub(super) struct Validator {
    /// For the logs.
    pub(super) name: Arc<str>,
    pub(super) check: Arc<Check>,
}

type Check = dyn Fn(Session, Arc<HandshakeData>) -> BoxFuture<'static, Result<()>> + Send + Sync;

/// The steps of an app, in the order of registration.
#[derive(Clone, Default)]
pub struct StepList {
    steps: Vec<Arc<dyn SessionStep>>,
    validators: Vec<Validator>,
}

impl StepList {
    /// No steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: impl SessionStep) {
        self.steps.push(Arc::new(step));
    }

    /// Adds something that looks at each handshake and may refuse it, or bind the session at once (protocol.md 2.4).
    pub fn validator<F, Fut>(&mut self, name: impl Into<Arc<str>>, check: F)
    where
        F: Fn(Session, Arc<HandshakeData>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let check = move |session, handshake| Box::pin(check(session, handshake)) as BoxFuture<'static, _>;
        self.validators.push(Validator { name: name.into(), check: Arc::new(check) });
    }

    /// Adds a callback for each bind, which may refuse it.
    pub fn on_bind<F, Fut>(&mut self, callback: F)
    where
        F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.push(OnBind(callback));
    }

    /// Adds a callback for each bind that has been stored.
    pub fn on_after_bind<F, Fut>(&mut self, callback: F)
    where
        F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.push(OnAfterBind(callback));
    }

    /// Adds a callback for each session that closes.
    pub fn on_close<F, Fut>(&mut self, callback: F)
    where
        F: Fn(Session, CloseReason) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.push(OnClose(callback));
    }

    pub(super) fn as_slice(&self) -> &[Arc<dyn SessionStep>] {
        &self.steps
    }

    pub(super) fn validators(&self) -> &[Validator] {
        &self.validators
    }
}

impl fmt::Debug for StepList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StepList({}, validators: {})", self.steps.len(), self.validators.len())
    }
}

struct OnBind<F>(F);

impl<F, Fut> SessionStep for OnBind<F>
where
    F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin((self.0)(session.clone(), uid.clone()))
    }
}

struct OnAfterBind<F>(F);

impl<F, Fut> SessionStep for OnAfterBind<F>
where
    F: Fn(Session, Uid) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn after_bind<'a>(&'a self, session: &'a Session, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin((self.0)(session.clone(), uid.clone()))
    }
}

struct OnClose<F>(F);

impl<F, Fut> SessionStep for OnClose<F>
where
    F: Fn(Session, CloseReason) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn close<'a>(&'a self, session: &'a Session, reason: CloseReason) -> BoxFuture<'a, ()> {
        Box::pin((self.0)(session.clone(), reason))
    }
}
