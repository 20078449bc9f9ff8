//! Bind and close as sequences of steps that can fail and are undone.

use std::{error::Error as _, future::Future, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;

use super::{CloseReason, Phase, RemoteLink, Session, closed, leaving};
use crate::{Error, GroupName, Result, Uid, code, tasks::panic_text};

/// Runs the sequence of protocol.md 9.3.
pub(super) async fn bind(session: &Session, uid: Uid) -> Result<()> {
    begin(session, &uid)?;
    let mut bind =
        Bind { session: session.clone(), uid, steps_done: 0, stored: false, joined: Vec::new(), settled: false };
    let result = bind.run().await;
    if result.is_err() {
        bind.undo().await;
    }
    bind.settled = true;
    result
}

fn begin(session: &Session, uid: &Uid) -> Result<()> {
    let mut state = session.state();
    match state.phase {
        Phase::Unbound => {
            state.phase = Phase::Binding(uid.clone());
            Ok(())
        }
        Phase::Binding(_) | Phase::Bound(_) => Err(Error::plain("session is already bound to an uid")),
        Phase::Closed(_) => Err(closed()),
    }
}

/// A bind under way. If its future is dropped half-way, a task of the app undoes what was done.
struct Bind {
    session: Session,
    uid: Uid,
    steps_done: usize,
    stored: bool,
    /// Groups that an after-bind step has joined with the session, to be left when the bind is undone.
    joined: Vec<GroupName>,
    settled: bool,
}

impl Bind {
    async fn run(&mut self) -> Result<()> {
        let pool = self.session.0.pool.clone();
        for step in pool.steps() {
            guard(pool.step_timeout(), "bind", || step.bind(&self.session, &self.uid)).await??;
            self.steps_done += 1;
        }
        self.store().await?;
        for step in pool.steps() {
            guard(pool.step_timeout(), "after-bind", || step.after_bind(&self.session, &self.uid)).await??;
        }
        Ok(())
    }

    /// Makes the session the one of its user, and closes the older one. A session that closed meanwhile is not stored:
    /// both happen under the lock of its state. A user who is being taken out of groups is waited for; that has a bound.
    async fn store(&mut self) -> Result<()> {
        if let Some(remote) = self.session.remote() {
            return self.store_elsewhere(remote).await;
        }
        let older = loop {
            let departing = {
                let mut state = self.session.state();
                if matches!(state.phase, Phase::Closed(_)) {
                    return Err(closed());
                }
                match self.session.0.pool.insert_uid(&self.uid, &self.session) {
                    Ok(older) => {
                        state.phase = Phase::Bound(self.uid.clone());
                        self.stored = true;
                        break older;
                    }
                    Err(departing) => departing,
                }
            };
            departing.cancelled().await;
        };
        if let Some(older) = older {
            older.0.link.close(CloseReason::Replaced);
        }
        Ok(())
    }

    /// Lets the frontend bind; the session here is bound when that has agreed.
    async fn store_elsewhere(&self, remote: &dyn RemoteLink) -> Result<()> {
        remote.bind(&self.uid).await?;
        let mut state = self.session.state();
        if matches!(state.phase, Phase::Closed(_)) {
            return Err(closed());
        }
        state.phase = Phase::Bound(self.uid.clone());
        Ok(())
    }

    /// May be dropped half-way and called again: what it has not finished is still written down then.
    async fn undo(&mut self) {
        let pool = self.session.0.pool.clone();
        {
            let mut state = self.session.state();
            match state.phase {
                // No longer bound, so a close leaves the unbinding to us.
                Phase::Binding(_) | Phase::Bound(_) => state.phase = Phase::Binding(self.uid.clone()),
                // It closed when it was bound: the close sequence unbinds.
                Phase::Closed(Some(_)) => self.steps_done = 0,
                Phase::Closed(None) | Phase::Unbound => {}
            }
            if std::mem::take(&mut self.stored) {
                pool.remove_uid(&self.uid, &self.session);
            }
            if let Some(list) = state.leave_list.take() {
                self.joined = list.into_groups();
                pool.remove_elsewhere(&self.uid, &self.session);
            }
        }
        leaving::leave(&pool, &self.uid, &self.joined).await;
        self.joined.clear();
        while let Some(last) = self.steps_done.checked_sub(1) {
            let step = &pool.steps()[last];
            log_failure("unbind", guard(pool.step_timeout(), "unbind", || step.unbind(&self.session, &self.uid)).await);
            self.steps_done = last;
        }
        let mut state = self.session.state();
        match state.phase {
            Phase::Binding(_) | Phase::Bound(_) => state.phase = Phase::Unbound,
            // One that closed before it was bound has no uid; one that closed after keeps it for its callbacks.
            Phase::Closed(_) | Phase::Unbound => {}
        }
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut rest = Self {
            session: self.session.clone(),
            uid: self.uid.clone(),
            steps_done: self.steps_done,
            stored: self.stored,
            joined: std::mem::take(&mut self.joined),
            settled: true,
        };
        let tasks = self.session.0.pool.tasks().clone();
        tasks.spawn("undo of a bind", async move { rest.undo().await });
    }
}

/// Closes a session: look-ups first, then the groups that its user leaves, then the bind steps in reverse, then the session's own callbacks, then those of
/// all sessions, each in order (protocol.md 9.5). A callback that panics or takes too long does not stop the others.
pub(super) async fn close(session: &Session, reason: CloseReason) {
    let (pool, is_remote) = (session.0.pool.clone(), session.remote().is_some());
    // Steps are the frontend's business.
    let steps = if is_remote { &[] } else { pool.steps() };
    let (bound, leave_list, callbacks, closed) = {
        let mut state = session.state();
        // A bind under way sees the closed phase when it wants to store the uid, and undoes itself.
        let bound = match &state.phase {
            Phase::Closed(_) => return,
            Phase::Bound(uid) => Some(uid.clone()),
            Phase::Unbound | Phase::Binding(_) => None,
        };
        state.phase = Phase::Closed(bound.clone());
        // One whose client is elsewhere is found for its groups only.
        match &bound {
            Some(uid) if is_remote => pool.remove_elsewhere(uid, session),
            Some(uid) => pool.remove_uid(uid, session),
            None => {}
        }
        if !is_remote {
            pool.remove_id(session);
        }
        (bound, state.leave_list.take(), std::mem::take(&mut state.on_close), state.closed.take())
    };
    if let Some(closed) = closed {
        closed.notify_waiters();
    }
    if let Some(uid) = &bound {
        let groups = leave_list.map(|list| list.into_groups()).unwrap_or_default();
        leaving::leave(&pool, uid, &groups).await;
        for step in steps.iter().rev() {
            log_failure("unbind", guard(pool.step_timeout(), "unbind", || step.unbind(session, uid)).await);
        }
    }
    for callback in callbacks {
        log_failure("close", guard(pool.step_timeout(), "close callback", || callback(session.clone())).await);
    }
    for step in steps {
        log_failure("close", guard(pool.step_timeout(), "close callback", || step.close(session, reason)).await);
    }
}

/// Waits for a step with a bound, and turns its panic into an error, also one that comes before its first await.
pub(super) async fn guard<T, F>(patience: Duration, what: &'static str, step: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = T>,
{
    let step = AssertUnwindSafe(async { step().await });
    match tokio::time::timeout(patience, step.catch_unwind()).await {
        Ok(Ok(value)) => Ok(value),
        // The text of the panic is for our logs.
        Ok(Err(panic)) => Err(Error::internal(format!("a {what} step panicked: {}", panic_text(&*panic)))),
        Err(_) => Err(Error::new(code::TIMEOUT, format!("a {what} step took longer than {patience:?}"))),
    }
}

fn log_failure<T>(what: &'static str, result: Result<T>) {
    if let Err(error) = result {
        let cause = error.source().map(ToString::to_string);
        tracing::error!(%error, cause, "session {what} step failed");
    }
}
