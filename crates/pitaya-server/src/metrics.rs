//! The counts of the engine, as handles that were asked for once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use pitaya_core::{
    CloseReason, HandlerKind,
    reporter::{Counter, Desc, Gauge, Histogram, Reporter},
};

const CONNECTED_CLIENTS: Desc = Desc::new("acceptor", "connected_clients", "Clients that are connected now.", &[]);
const CLOSED: Desc = Desc::new("session", "closed", "Sessions that have closed, by reason.", &["reason"]);
const ACCEPT_ERRORS: Desc =
    Desc::new("acceptor", "establish_errors", "Connections that failed before their first packet.", &[]);
const BAD_MESSAGES: Desc = Desc::new(
    "handler",
    "refused_messages",
    "Messages that were refused before any handler saw them, by reason.",
    &["reason"],
);
const PANICS: Desc = Desc::new("handler", "panics", "Handlers that panicked, by route.", &["route"]);
const SLOW_POLLS: Desc = Desc::new(
    "handler",
    "slow_polls",
    "Handlers that kept a thread busy for more than 10 ms without suspending, by route.",
    &["route"],
);
const RESPONSE_TIME: Desc = Desc::new(
    "handler",
    "response_time_ns",
    "Time from reading a message to its answer, in nanoseconds.",
    &["route", "status", "type", "code"],
);

/// How many error codes of one route have a label of their own; the others count as `other`.
const MAX_CODES: usize = 64;

/// Why a message never reached a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A request with the id 0: the client would wait for an answer that cannot be sent.
    RequestIdZero,
    /// The message cannot be decoded.
    Undecodable,
    /// Its route cannot be parsed.
    BadRoute,
    /// There is no such handler.
    NotFound,
    /// The route names another server type, and there is no cluster.
    NoServers,
    /// A request to a notify handler.
    NotifyRoute,
    /// A message that only servers send.
    WrongKind,
}

impl Refused {
    const ALL: [(Self, &'static str); 7] = [
        (Self::RequestIdZero, "request_id_zero"),
        (Self::Undecodable, "undecodable"),
        (Self::BadRoute, "bad_route"),
        (Self::NotFound, "not_found"),
        (Self::NoServers, "no_servers"),
        (Self::NotifyRoute, "notify_route"),
        (Self::WrongKind, "wrong_kind"),
    ];
}

/// The counts that do not depend on the route.
pub(crate) struct Metrics {
    pub(crate) connected: Arc<dyn Gauge>,
    pub(crate) establish_errors: Arc<dyn Counter>,
    closed: Vec<(CloseReason, Arc<dyn Counter>)>,
    refused: Vec<(Refused, Arc<dyn Counter>)>,
}

impl Metrics {
    pub(crate) fn new(reporter: &dyn Reporter) -> Self {
        let closed = CloseReason::ALL.map(|reason| (reason, reporter.counter(&CLOSED, &[reason.as_str()])));
        let refused = Refused::ALL.map(|(reason, label)| (reason, reporter.counter(&BAD_MESSAGES, &[label])));
        Self {
            connected: reporter.gauge(&CONNECTED_CLIENTS, &[]),
            establish_errors: reporter.counter(&ACCEPT_ERRORS, &[]),
            closed: closed.into(),
            refused: refused.into(),
        }
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        if let Some((_, counter)) = self.closed.iter().find(|(candidate, _)| *candidate == reason) {
            counter.add(1);
        }
    }

    #[cold]
    pub(crate) fn refused(&self, reason: Refused) {
        if let Some((_, counter)) = self.refused.iter().find(|(candidate, _)| *candidate == reason) {
            counter.add(1);
        }
    }
}

/// The counts of one route.
pub(crate) struct RouteMetrics {
    reporter: Arc<dyn Reporter>,
    route: String,
    kind: &'static str,
    ok: Arc<dyn Histogram>,
    /// By error code, made when one first occurs; codes are the application's own.
    failed: Mutex<HashMap<String, Arc<dyn Histogram>>>,
    pub(crate) panics: Arc<dyn Counter>,
    pub(crate) slow_polls: Arc<dyn Counter>,
}

impl RouteMetrics {
    pub(crate) fn new(reporter: &Arc<dyn Reporter>, route: &str, kind: HandlerKind) -> Self {
        let kind = match kind {
            HandlerKind::Request => "request",
            HandlerKind::Notify => "notify",
        };
        Self {
            reporter: Arc::clone(reporter),
            route: route.to_owned(),
            kind,
            failed: Mutex::default(),
            ok: reporter.histogram(&RESPONSE_TIME, &[route, "ok", kind, ""]),
            panics: reporter.counter(&PANICS, &[route]),
            slow_polls: reporter.counter(&SLOW_POLLS, &[route]),
        }
    }

    /// Records the time of one message, in nanoseconds, with the code of its error if it failed.
    pub(crate) fn response(&self, nanoseconds: f64, error_code: Option<&str>) {
        match error_code {
            None => self.ok.record(nanoseconds),
            Some(code) => self.failed(code).record(nanoseconds),
        }
    }

    #[cold]
    fn failed(&self, code: &str) -> Arc<dyn Histogram> {
        // Nothing panics while the map is locked but a reporter; the map stays whole.
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = failed.get(code) {
            return Arc::clone(known);
        }
        // A code that is made of a client's text must not become a label each time.
        let code = if failed.len() < MAX_CODES { code } else { "other" };
        let made = failed
            .entry(code.to_owned())
            .or_insert_with(|| self.reporter.histogram(&RESPONSE_TIME, &[&self.route, "failed", self.kind, code]));
        Arc::clone(made)
    }
}
