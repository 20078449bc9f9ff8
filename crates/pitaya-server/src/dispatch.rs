//! From a message to its handler, and from the reply to the client.

use std::{any::Any, error::Error as _, sync::Arc, task::Context as TaskContext, time::Duration};

use bytes::{Buf as _, Bytes};
use pitaya_core::{App, Context, Error, HandlerKind, Parts, Request, code, panic_text, reporter::Counter};
use pitaya_protocol::{Head, MAX_BODY_LEN, MAX_HEAD_LEN, MessageError, MessageKind, ResponseHead, RouteParts, inflate};
use tokio::time::Instant;

use crate::{
    cluster::forward::Forwarded,
    connection::{Connection, Lane, Permit},
    metrics::Refused,
    registry::{HandlerIndex, Registered},
    runner::{Observe, Outcome},
    settings,
};

/// A handler that keeps its thread longer than this is counted.
const SLOW_POLL: Duration = Duration::from_millis(10);

/// The longest reply in bytes that a packet holds together with its head.
const MAX_REPLY_LEN: usize = MAX_BODY_LEN - MAX_HEAD_LEN;

/// Whose reply it is.
pub(crate) struct Tag {
    /// 0 for a notify.
    id: u64,
    target: Target,
    /// If anybody looks at the times.
    watch: Option<Watch>,
    permit: Permit,
}

/// Who handles a message.
pub(crate) enum Target {
    /// A handler here.
    Local(HandlerIndex),
    /// Another server.
    Forward(Arc<Forwarded>),
}

/// What it takes to report the times of one message.
struct Watch {
    /// When the message was read.
    started: Instant,
    slow_polls: Arc<dyn Counter>,
}

impl Observe for Tag {
    fn observe<R>(&self, poll: impl FnOnce() -> R) -> R {
        let Some(watch) = &self.watch else { return poll() };
        let from = Instant::now();
        let polled = poll();
        if from.elapsed() > SLOW_POLL {
            watch.slow_polls.add(1);
        }
        polled
    }
}

/// What stops a message before any handler sees it.
enum Stop {
    /// The client gets an error, if it waits for an answer.
    Answer(Refused, Error),
    /// The client broke the protocol: its connection closes.
    Close(Refused, Box<dyn std::error::Error>),
}

impl Connection {
    /// Handles the body of a Data packet. Gives the permit back unless the handler has suspended, and keeps it.
    pub(crate) fn handle_message(
        &mut self,
        cx: &mut TaskContext<'_>,
        message: Bytes,
        permit: Permit,
        now: Instant,
    ) -> Option<Permit> {
        match self.prepare(message) {
            Ok((id, handler, body)) => self.call(cx, (id, handler, body), permit, now),
            Err((id, stop)) => {
                self.stop(id, stop);
                Some(permit)
            }
        }
    }

    /// Which permits a message needs. Without a cluster, nobody looks.
    pub(crate) fn lane(&self, message: &[u8]) -> Lane {
        if self.engine.forwarder.is_none() {
            return Lane::Local;
        }
        let Ok(head) = Head::decode(message) else { return Lane::Local };
        match head.route.resolve(&self.engine.dictionary) {
            Ok(route) if self.engine.registry.find(route).is_none() => Lane::Forward,
            _ => Lane::Local,
        }
    }

    /// Decodes a message: its id, its handler and its body.
    fn prepare(&self, mut message: Bytes) -> Result<(u64, Target, Bytes), (u64, Stop)> {
        // A route that is found by its bytes need not be checked for being text.
        let mut found = None;
        let known = |name: &[u8]| {
            found = self.engine.registry.find_bytes(name);
            Some(self.engine.registry.get(found?).route.as_str())
        };
        let head = Head::decode_with(&message, known)
            .map_err(|error| (0, Stop::Close(Refused::Undecodable, Box::new(error))))?;
        let (kind, id, body_at, compressed) = (head.kind, head.id, head.body_at, head.compressed);
        if kind == MessageKind::Request && id == 0 {
            return Err((0, Stop::Close(Refused::RequestIdZero, Box::new(RequestIdZero))));
        }
        let handler = self.find(&head, found).map_err(|stop| (id, stop))?;
        message.advance(body_at);
        if compressed {
            let stop = |error| (id, Stop::Close(Refused::Undecodable, Box::new(MessageError::Inflate(error))));
            message = inflate(&message, self.engine.options.max_inflated).map_err(stop)?.into();
        }
        Ok((id, handler, message))
    }

    /// Finds the handler unless it is `found` already, or what to say instead (protocol.md 4).
    fn find(&self, head: &Head<'_>, found: Option<HandlerIndex>) -> Result<Target, Stop> {
        if head.kind == MessageKind::Response {
            let error = Error::bad_request("route field can not be empty");
            return Err(Stop::Answer(Refused::WrongKind, error));
        }
        let handler = match found {
            Some(handler) => handler,
            None => {
                let route = match head.route.resolve(&self.engine.dictionary) {
                    Ok(route) => route,
                    Err(error) => return Err(Stop::Close(Refused::Undecodable, Box::new(error))),
                };
                match self.engine.registry.find(route) {
                    Some(handler) => handler,
                    None => return self.find_elsewhere(route),
                }
            }
        };
        if head.kind == MessageKind::Request && self.engine.registry.get(handler).kind == HandlerKind::Notify {
            return Err(Stop::Answer(Refused::NotifyRoute, Error::bad_request("tried to request a notify route")));
        }
        Ok(Target::Local(handler))
    }

    /// A route without handler here: of another server type, or wrong.
    fn find_elsewhere(&self, route: &str) -> Result<Target, Stop> {
        let own_type = &self.engine.app.server().kind;
        let stop = |refused, error| Err(Stop::Answer(refused, error));
        match RouteParts::parse(route) {
            Err(error) => stop(Refused::BadRoute, Error::bad_request(error.to_string())),
            Ok(RouteParts { server_type: Some(kind), .. }) if *own_type != *kind => {
                let forwarder = self.engine.forwarder.as_ref();
                if let Some(forwarded) = forwarder.and_then(|forwarder| forwarder.find(route, kind, &self.engine.app)) {
                    return Ok(Target::Forward(forwarded));
                }
                stop(Refused::NoServers, Error::new(code::INTERNAL, "no servers available of this type"))
            }
            Ok(parts) => {
                let error = Error::not_found(format!("pitaya/handler: {own_type}.{} not found", parts.short));
                stop(Refused::NotFound, error)
            }
        }
    }

    #[cold]
    fn stop(&mut self, id: u64, stop: Stop) {
        match stop {
            Stop::Answer(refused, error) => {
                self.engine.metrics.refused(refused);
                tracing::debug!(session = %self.session.id(), %error, "message refused");
                self.answer(id, Err(error));
            }
            Stop::Close(refused, error) => {
                self.engine.metrics.refused(refused);
                self.refuse(&*error);
            }
        }
    }

    fn call(
        &mut self,
        cx: &mut TaskContext<'_>,
        (id, target, body): (u64, Target, Bytes),
        permit: Permit,
        now: Instant,
    ) -> Option<Permit> {
        if id != 0 {
            self.outbox.request_started();
        }
        let Self { engine, session, runner, .. } = self;
        // Kept beside the tag, which the runner takes; what is here lives in the registry.
        let kept;
        let (place, chain, ordered, slow_polls) = match &target {
            Target::Local(handler) => {
                let registered = engine.registry.get(*handler);
                let place = engine.places.get(*handler);
                (place, &registered.chain, registered.ordered, Some(&registered.metrics.slow_polls))
            }
            Target::Forward(forwarded) => {
                kept = Arc::clone(forwarded);
                (Arc::clone(&kept.place), &kept.chain, false, None)
            }
        };
        let parts = Parts::new(place, Context::of_message(session.clone(), id));
        let request = Request::new(parts, body);
        let slow_polls = slow_polls.filter(|_| engine.measures);
        let watch = slow_polls.map(|slow_polls| Watch { started: now, slow_polls: Arc::clone(slow_polls) });
        // A notify to a request handler is handled, and its result thrown away.
        let tag = Tag { id, target, watch, permit };
        let ready = runner.start(cx, tag, ordered, || chain.call(request));
        let (tag, outcome) = ready?;
        self.finish(&tag, outcome);
        Some(tag.permit)
    }

    /// Takes the outcome of a chain: counts it, logs what only we may know, and answers.
    pub(crate) fn finish(&mut self, tag: &Tag, outcome: Outcome) {
        let reply = match outcome {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => Err(self.public_error(self.route(tag), tag.id, error)),
            Err(panic) => Err(self.panicked(tag, &*panic)),
        };
        if let (Some(watch), Some(registered)) = (&tag.watch, self.registered(tag)) {
            let code = reply.as_ref().err().map(Error::code);
            registered.metrics.response(watch.started.elapsed().as_nanos() as f64, code);
        }
        if tag.id != 0 {
            self.outbox.request_ended();
        }
        self.answer(tag.id, reply);
    }

    fn answer(&mut self, id: u64, reply: Result<Bytes, Error>) {
        if id == 0 || self.outbox.is_closed() {
            return;
        }
        let (body, error) = match reply {
            Ok(body) if body.len() <= MAX_REPLY_LEN => (body, false),
            reply => (self.engine.encode_error(reply), true),
        };
        let deflated = self.engine.compression.apply(&body);
        let head = ResponseHead::new(id, error, deflated.is_some());
        // A session that closes gets no more answers.
        drop(self.outbox.push_message(head.as_slice(), deflated.as_deref().unwrap_or(&body)));
    }

    /// Keeps the cause of an internal error for ourselves.
    #[cold]
    pub(crate) fn public_error(&self, route: &str, id: u64, error: Error) -> Error {
        internal_error(route, &self.request_id(id), error)
    }

    #[cold]
    fn panicked(&self, tag: &Tag, panic: &(dyn Any + Send)) -> Error {
        if let Some(registered) = self.registered(tag) {
            registered.metrics.panics.add(1);
        }
        panic_error(&self.engine.app, self.route(tag), &self.request_id(tag.id), panic)
    }

    /// The handler of a message that is handled here.
    fn registered(&self, tag: &Tag) -> Option<&Registered> {
        match &tag.target {
            Target::Local(handler) => Some(self.engine.registry.get(*handler)),
            Target::Forward(_) => None,
        }
    }

    fn route<'a>(&'a self, tag: &'a Tag) -> &'a str {
        match &tag.target {
            Target::Local(handler) => self.engine.registry.get(*handler).route.as_str(),
            Target::Forward(forwarded) => forwarded.place.route.as_str(),
        }
    }

    fn request_id(&self, id: u64) -> String {
        Context::of_message(self.session.clone(), id).request_id()
    }
}

/// Keeps the cause of an internal error in the log.
#[cold]
pub(crate) fn internal_error(route: &str, request: &str, error: Error) -> Error {
    let Some(source) = error.source() else {
        tracing::debug!(route, request, %error, "handler failed");
        return error;
    };
    let chain = std::iter::successors(Some(source), |error| (*error).source()).map(ToString::to_string);
    let chain = chain.collect::<Vec<_>>().join(": ");
    tracing::error!(route, request, code = error.code(), chain, "handler failed");
    error.with_message(format!("internal error, request {request}"))
}

/// What a client is told of a panic; the rest goes into the log.
#[cold]
pub(crate) fn panic_error(app: &App, route: &str, request: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic_text(panic);
    tracing::error!(route, request, panic = text, "handler panicked");
    if app.config().get(&settings::PANIC_TEXT) {
        return Error::plain(text.to_owned());
    }
    Error::new(code::INTERNAL, format!("internal error, request {request}"))
}

/// A request that could never be answered: a bug of the client.
#[derive(Debug, thiserror::Error)]
#[error("a request has the id 0")]
struct RequestIdZero;
