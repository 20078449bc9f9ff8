//! The messages of one session of another server, in order: a task that lives as long as one of them is unfinished.

use std::{
    future::{Future, poll_fn},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use pitaya_core::{App, BoxFuture, Context, Error, Reply, Result, cluster::Responder};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSemaphore;

use super::service::{Job, Key, RemoteService, respond, too_late};
use crate::{
    dispatch::{internal_error, panic_error},
    engine::Engine,
    runner::{Observe, Outcome, SessionRunner},
};

/// Whose reply it is.
struct Tag {
    route: pitaya_core::Route,
    context: Context,
    is_notify: bool,
    /// None when the caller has been told that its time is over.
    responder: Option<Responder>,
    /// When its caller is told so.
    late: Option<Instant>,
    seat: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
}

impl Observe for Tag {
    fn observe<R>(&self, poll: impl FnOnce() -> R) -> R {
        poll()
    }
}

impl Tag {
    /// When a caller that has not been answered does not wait any more.
    fn deadline(&self) -> Option<Instant> {
        self.responder.as_ref().and(self.late)
    }

    /// The way to a caller whose time is over, to tell it so. The handler goes on.
    fn take_late(&mut self) -> Option<Responder> {
        let late = self.deadline().is_some_and(|deadline| deadline <= Instant::now());
        self.responder.take_if(|_| late)
    }
}

/// Rings when the time of an unfinished message is over.
#[derive(Default)]
struct Alarm {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn set<'a>(&mut self, tags: impl Iterator<Item = &'a mut Tag>) {
        let at = tags.filter_map(|tag| tag.deadline()).min();
        if self.at == at {
            return;
        }
        self.at = at;
        match (at, &mut self.sleep) {
            (Some(at), Some(sleep)) => sleep.as_mut().reset(at),
            (Some(at), None) => self.sleep = Some(Box::pin(tokio::time::sleep_until(at))),
            (None, _) => {}
        }
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        match (self.at, &mut self.sleep) {
            (Some(_), Some(sleep)) => {
                let rung = sleep.as_mut().poll(cx);
                if rung.is_ready() {
                    self.at = None;
                }
                rung
            }
            _ => Poll::Pending,
        }
    }
}

/// Handles the messages of a session until none is left.
pub(super) async fn run(
    service: Arc<RemoteService>,
    engine: Arc<Engine>,
    key: Key,
    mut jobs: mpsc::UnboundedReceiver<Box<Job>>,
) {
    let Some(cluster) = engine.cluster.clone() else { return };
    let mut runner: SessionRunner<Tag> = SessionRunner::new(engine.options.unfinished);
    let mut running = PollSemaphore::new(Arc::clone(&cluster.running));
    // Those that the transport does not take at once.
    let mut answers: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut next: Option<Box<Job>> = None;
    let mut alarm = Alarm::default();
    poll_fn(|cx| {
        loop {
            let mut moved = false;
            // First, so that an error which ends at the same moment comes too late.
            if alarm.poll(cx).is_ready() {
                let late = runner.tags().filter_map(Tag::take_late);
                answers.extend(late.map(|responder| respond(responder, Err(too_late()))));
                alarm.set(runner.tags());
                moved = true;
            }
            while let Poll::Ready((tag, outcome)) = runner.poll_next(cx) {
                answers.extend(answer(cx, &engine, tag, outcome));
                moved = true;
            }
            if next.is_none()
                && runner.room() > 0
                && let Poll::Ready(job) = jobs.poll_recv(cx)
            {
                next = job;
            }
            if next.is_some()
                && let Poll::Ready(Some(permit)) = running.poll_acquire(cx)
                && let Some(job) = next.take()
            {
                let job = *job;
                let registered = engine.registry.get(job.handler);
                let tag = Tag {
                    route: registered.route.clone(),
                    context: job.request.parts.context.clone(),
                    is_notify: job.is_notify,
                    responder: Some(job.responder),
                    late: job.late,
                    seat: job.seat,
                    _permit: permit,
                };
                let request = job.request;
                if let Some((tag, outcome)) =
                    runner.start(cx, tag, registered.ordered, || registered.chain.call(request))
                {
                    answers.extend(answer(cx, &engine, tag, outcome));
                } else {
                    alarm.set(runner.tags());
                }
                moved = true;
            }
            while let Poll::Ready(Some(())) = answers.poll_next_unpin(cx) {}
            if moved {
                continue;
            }
            let idle = next.is_none() && runner.is_empty() && answers.is_empty();
            if idle && service.end_mailbox(&key, &jobs) {
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
    })
    .await;
}

/// Sends an answer. One that the transport does not take at once has to be waited for, and keeps its seat.
fn answer(cx: &mut task::Context<'_>, engine: &Engine, tag: Tag, outcome: Outcome) -> Option<BoxFuture<'static, ()>> {
    let reply = match outcome {
        Ok(Ok(body)) => Ok(if tag.is_notify { Bytes::from_static(b"ack") } else { body }),
        Ok(Err(error)) => Err(internal_error(tag.route.as_str(), &tag.context.request_id(), error)),
        Err(panic) => Err(panic_error(&engine.app, tag.route.as_str(), &tag.context.request_id(), &*panic)),
    };
    let mut sending = respond(tag.responder?, reply);
    // Its waker is that of the whole mailbox, until it is among the answers.
    if sending.as_mut().poll(cx).is_ready() {
        return None;
    }
    let seat = tag.seat;
    Some(Box::pin(async move {
        sending.await;
        drop(seat);
    }))
}

/// Runs a chain outside of a runner; its panic becomes an error, and the cause of an internal error stays here.
pub(super) async fn guarded(
    app: &App,
    route: &str,
    context: &Context,
    chain: impl Future<Output = Reply>,
) -> Result<Bytes, Error> {
    match AssertUnwindSafe(chain).catch_unwind().await {
        Ok(reply) => reply.map_err(|error| internal_error(route, &context.request_id(), error)),
        Err(panic) => Err(panic_error(app, route, &context.request_id(), &*panic)),
    }
}
