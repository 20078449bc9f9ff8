//! The task that keeps one end connected.
//!
//! The library connects again by itself when a connection breaks, with all subscriptions. What it does not do is done here:
//! to tell calls that it takes long, to leave a NATS server that is about to stop, and to say when all is lost.

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use async_nats::ServerAddr;
use pitaya_core::{
    Error, Result, Tasks,
    cluster::{ClusterContext, DROPPED_MESSAGES, RpcError},
    code,
    reporter::Gauge,
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    connection::{Connection, Health},
    echo::Echo,
    link::Link,
    options::Options,
};

/// For so long calls wait for a broken connection to be there again.
const MOMENT: Duration = Duration::from_millis(500);

/// For so long the connection to a stopping server is read after another one has taken its place. By then the other servers
/// of the NATS cluster know of the new one, and everything that was on its way has come.
const OVERLAP: Duration = Duration::from_secs(2);

/// Between two attempts to find another server than the one that is about to stop.
const NEXT_ATTEMPT: Duration = Duration::from_millis(500);

/// How long the end of a connection may take.
const CLOSING: Duration = Duration::from_secs(1);

/// How often lost messages are logged at the most.
const COMPLAINT: Duration = Duration::from_secs(1);

/// What hangs on a connection.
pub(crate) trait End: Send + 'static {
    /// What it is asked for while it runs.
    type Command: Send;

    /// Subscribes to everything on one more connection, which is the one to use from then on. When it resolves, the NATS
    /// server knows.
    fn attach(&mut self, connection: Arc<Connection>, echo: Echo) -> impl Future<Output = Result<(), RpcError>> + Send;

    /// Says that there will be two connections for a while, on which the same messages come.
    fn overlap(&mut self) {}

    /// Leaves all connections but the newest that was attached.
    fn detach(&mut self) -> impl Future<Output = ()> + Send;

    /// Says that no message comes twice any more.
    fn settled(&mut self) {}

    /// The connection has been broken for more than a moment.
    fn disconnected(&mut self, _reason: &RpcError) {}

    /// The next command. Nothing is lost when this future is dropped.
    fn next(&mut self) -> impl Future<Output = Self::Command> + Send;

    /// Does what it is asked.
    fn run(&mut self, command: Self::Command) -> impl Future<Output = ()> + Send;
}

/// What makes connections for one end.
#[derive(Clone)]
pub(crate) struct Connector {
    options: Options,
    name: String,
    dropped: Arc<dyn Gauge>,
    tasks: Tasks,
}

/// Connects, attaches the end, and keeps both so in a task.
pub(crate) async fn start<E: End>(
    options: &Options,
    link: Arc<Link>,
    mut end: E,
    context: &ClusterContext,
) -> Result<()> {
    let connector = Connector {
        options: options.clone(),
        name: context.me().id.to_string(),
        dropped: context.reporter.gauge(&DROPPED_MESSAGES, &[]),
        tasks: context.tasks.clone(),
    };
    let failed = |reason: String| {
        let (key, addresses) = (options.connect_key, options.shown());
        Error::new(code::INTERNAL, format!("no connection to NATS at {addresses} ({key}): {reason}"))
    };
    let (connection, echo) = connector.open(&options.addresses).await.map_err(failed)?;
    // Who has the id of a server that has crashed is called in the moment in which it subscribes, and has to answer.
    link.set(Arc::clone(&connection));
    let attached = timeout(options.timeout, end.attach(Arc::clone(&connection), echo)).await;
    let attached = attached
        .map_err(|_| failed("timed out".into()))
        .and_then(|attached| attached.map_err(|error| failed(error.to_string())));
    if let Err(error) = attached {
        link.close();
        return Err(error);
    }
    let keeper = Keeper { connector, link, end, context: context.clone(), connection, leaving: None };
    context.tasks.spawn("connection to NATS", keeper.run());
    Ok(())
}

impl Connector {
    async fn open(&self, addresses: &[ServerAddr]) -> Result<(Arc<Connection>, Echo), String> {
        let dropped = Arc::clone(&self.dropped);
        let connection = Connection::open(&self.options, addresses, &self.name, dropped, &self.tasks).await?;
        let echo = Echo::new(&connection).await.map_err(|error| error.to_string())?;
        Ok((Arc::new(connection), echo))
    }

    /// Connects to another server of the NATS cluster than this connection's, however long it takes.
    async fn another(self, than: Arc<Connection>) -> (Arc<Connection>, Echo) {
        let old = than.server_id();
        loop {
            let addresses = than.pool().await;
            match self.open(&addresses).await {
                Ok((connection, echo)) if connection.server_id() != old => return (connection, echo),
                Ok(_) => tracing::debug!("the NATS server that is about to stop still takes connections"),
                Err(error) => tracing::warn!(%error, "no other NATS server than the one that is about to stop"),
            }
            sleep(NEXT_ATTEMPT).await;
        }
    }
}

struct Keeper<E> {
    connector: Connector,
    link: Arc<Link>,
    end: E,
    context: ClusterContext,
    connection: Arc<Connection>,
    /// What is left of the connection before this one.
    leaving: Option<Leaving>,
}

struct Leaving {
    /// Still read.
    old: Option<Arc<Connection>>,
    /// When the next step is taken: to close it, or to forget which messages came by it.
    next: Instant,
}

type Opening = Pin<Box<dyn Future<Output = (Arc<Connection>, Echo)> + Send>>;

impl<E: End> Keeper<E> {
    async fn run(mut self) {
        let stopping = self.context.tasks.stopping().clone();
        // Nothing that is being done keeps a stop waiting.
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.keep() => {}
        }
        self.link.close();
        self.end.disconnected(&RpcError::Closed);
        self.connection.close(CLOSING).await;
        if let Some(old) = self.leaving.and_then(|leaving| leaving.old) {
            old.close(CLOSING).await;
        }
    }

    /// Keeps the connection until the library has given it up.
    async fn keep(&mut self) {
        let mut health = self.connection.health();
        let mut opening: Option<Opening> = None;
        // When the connection broke, and whether that was told.
        let mut broken: Option<(Instant, bool)> = None;
        let mut complaints = Complaints::default();
        loop {
            let now = *health.borrow_and_update();
            match (now.up, broken) {
                (false, None) => broken = Some((Instant::now(), false)),
                (true, Some((_, told))) => {
                    broken = None;
                    if told {
                        tracing::info!("connected to NATS again");
                        self.link.allow();
                    }
                }
                (true, None) | (false, Some(_)) => {}
            }
            complaints.note(&now);
            if !now.up {
                // The library finds another server itself.
                opening = None;
            } else if now.lame && opening.is_none() && self.leaving.is_none() {
                tracing::info!("the NATS server is about to stop, another one is looked for");
                opening = Some(Box::pin(self.connector.clone().another(Arc::clone(&self.connection))));
            }
            let told_at = broken.and_then(|(since, told)| (!told).then_some(since + MOMENT));
            let leave_at = self.leaving.as_ref().map(|leaving| leaving.next);
            tokio::select! {
                command = self.end.next() => self.end.run(command).await,
                changed = health.changed() => if changed.is_err() {
                    return self.give_up();
                },
                () = at(told_at) => {
                    broken = broken.map(|(since, _)| (since, true));
                    self.disconnected();
                }
                (connection, echo) = opened(&mut opening) => {
                    opening = None;
                    if self.change_to(connection, echo).await {
                        health = self.connection.health();
                        complaints = Complaints::default();
                    }
                }
                () = at(leave_at) => self.leave().await,
                () = at(complaints.due()) => {}
            }
        }
    }

    fn disconnected(&mut self) {
        tracing::warn!("no connection to NATS at {}", self.connector.options.shown());
        // Clients are told of this one, and need not know where.
        let reason = RpcError::Disconnected("no connection to NATS".to_owned());
        self.link.refuse(reason.clone());
        self.end.disconnected(&reason);
    }

    /// The library has ended the connection.
    fn give_up(&mut self) {
        self.disconnected();
        let Options { retries, retries_key, .. } = self.connector.options;
        let addresses = self.connector.options.shown();
        self.context.give_up(Error::new(
            code::INTERNAL,
            format!("no connection to NATS at {addresses} after {retries} attempts ({retries_key})"),
        ));
    }

    /// Takes another connection into use, beside the one that there is.
    async fn change_to(&mut self, connection: Arc<Connection>, echo: Echo) -> bool {
        self.end.overlap();
        let attached = self.end.attach(Arc::clone(&connection), echo);
        if let Err(error) = timeout(self.connector.options.timeout, attached).await.unwrap_or(Err(RpcError::Closed)) {
            tracing::warn!(%error, "another NATS server was found, but could not be used");
            self.end.detach().await;
            self.leaving = Some(Leaving { old: None, next: Instant::now() + OVERLAP });
            return false;
        }
        tracing::info!("another NATS server is used now");
        self.link.set(Arc::clone(&connection));
        let old = std::mem::replace(&mut self.connection, connection);
        self.leaving = Some(Leaving { old: Some(old), next: Instant::now() + OVERLAP });
        true
    }

    /// Takes the next step of a change.
    async fn leave(&mut self) {
        if let Some(old) = self.leaving.take().and_then(|leaving| leaving.old) {
            self.end.detach().await;
            old.close(CLOSING).await;
            // What came by it last may still be on its way by the other one.
            self.leaving = Some(Leaving { old: None, next: Instant::now() + OVERLAP });
        } else {
            self.end.settled();
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn opened(opening: &mut Option<Opening>) -> (Arc<Connection>, Echo) {
    match opening {
        Some(opening) => opening.await,
        None => pending().await,
    }
}

/// Logs lost messages, not each of them.
#[derive(Default)]
struct Complaints {
    seen: u64,
    logged: u64,
    last: Option<Instant>,
}

impl Complaints {
    fn note(&mut self, health: &Health) {
        self.seen = health.dropped;
        if self.due().is_some_and(|due| due <= Instant::now()) {
            let messages = self.seen - self.logged;
            tracing::warn!(messages, "messages were thrown away: this machine is too slow for what it is sent");
            (self.logged, self.last) = (self.seen, Some(Instant::now()));
        }
    }

    fn due(&self) -> Option<Instant> {
        (self.seen > self.logged).then(|| self.last.map_or_else(Instant::now, |last| last + COMPLAINT))
    }
}
