//! Calls other servers.

use std::{
    fmt::{self, Write as _},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use pitaya_core::{
    BoxFuture, Result, ServerInfo, Tasks,
    cluster::{ClusterContext, RpcClient, RpcError, Topic},
    config::Config,
};
use tokio::time::timeout;

use crate::{
    connection::Connection,
    echo::Echo,
    intake::{BOUND, ID},
    keeper::{self, End},
    link::Link,
    options::Options,
    pending::{Answer, Pending},
    settings::CLIENT_REQUEST_TIMEOUT,
    subject,
    subscription::{Handle, Reader, split},
};

/// What headers with an id and a time take on the wire, at the most.
const HEADER_LEN: usize = 136;

/// Calls other servers on NATS.
pub struct NatsClient {
    options: Options,
    timeout: Duration,
    link: Arc<Link>,
    inbox: Arc<Inbox>,
    /// How many messages have been published.
    published: AtomicU64,
}

/// Where answers come to.
struct Inbox {
    /// What the subjects of all answers begin with, and nobody else's.
    prefix: String,
    pending: Pending,
}

impl NatsClient {
    /// Makes a client by the settings of [`settings`](crate::settings). It connects when it starts.
    ///
    /// # Errors
    ///
    /// The addresses cannot be read.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            options: Options::of_client(config)?,
            timeout: config.get(&CLIENT_REQUEST_TIMEOUT),
            link: Arc::default(),
            inbox: Arc::new(Inbox { prefix: unique_prefix(), pending: Pending::default() }),
            published: AtomicU64::new(0),
        })
    }

    async fn exchange(&self, server: &ServerInfo, request: Bytes) -> Result<Bytes, RpcError> {
        let connection = self.link.current()?;
        let (len, limit) = (request.len(), connection.max_payload());
        if len > limit {
            return Err(RpcError::TooLarge { len, limit });
        }
        let mut waiting = self.inbox.pending.wait()?;
        let (subject, reply) = (subject::server(&server.kind, &server.id), self.inbox.name(waiting.number()));
        connection.publish(subject, Some(reply.into()), None, request).await?;
        drop(connection);
        match waiting.answer().await {
            Answer::Response(response) => Ok(response),
            Answer::NotDelivered => Err(RpcError::NotDelivered(server.id.clone())),
            Answer::Disconnected(reason) => Err(reason),
        }
    }

    async fn send(&self, topic: Topic<'_>, message: Bytes) -> Result<(), RpcError> {
        let connection = self.link.current()?;
        // A message that fits only without headers goes without.
        let with_id = connection.has_headers() && message.len() + HEADER_LEN <= connection.max_payload();
        let headers = with_id.then(|| {
            let mut headers = HeaderMap::new();
            headers.insert(ID, self.inbox.name(self.published.fetch_add(1, Ordering::Relaxed)));
            if let Topic::Bindings(_, at) = topic {
                headers.insert(BOUND, at.to_string());
            }
            headers
        });
        connection.publish(subject::topic(topic), None, headers, message).await
    }
}

impl RpcClient for NatsClient {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        let end = Answers { inbox: Arc::clone(&self.inbox), tasks: context.tasks.clone(), attached: Vec::new() };
        Box::pin(keeper::start(&self.options, Arc::clone(&self.link), end, context))
    }

    fn call<'a>(
        &'a self,
        server: &'a ServerInfo,
        request: Bytes,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RpcError>> {
        Box::pin(async move {
            let answer = timeout(limit, self.exchange(server, request)).await;
            answer.unwrap_or(Err(RpcError::Timeout(limit)))
        })
    }

    fn publish<'a>(&'a self, topic: Topic<'a>, message: Bytes) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(async move {
            let sent = timeout(self.timeout, self.send(topic, message)).await;
            sent.unwrap_or(Err(RpcError::Timeout(self.timeout)))
        })
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Inbox {
    /// A name with this number: the subject of an answer, or the id of a message.
    fn name(&self, number: u64) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 16);
        name.push_str(&self.prefix);
        // Writing into a String cannot fail.
        let _ = write!(name, "{number:x}");
        name
    }

    fn number(&self, subject: &Subject) -> Option<u64> {
        u64::from_str_radix(subject.strip_prefix(self.prefix.as_str())?, 16).ok()
    }
}

/// 128 random bits: the hasher's keys are seeded by the operating system, and each `RandomState` differs.
fn unique_prefix() -> String {
    let [high, low] = [0, 1].map(|part| RandomState::new().hash_one((part, std::process::id())));
    format!("_INBOX.{high:016x}{low:016x}.")
}

/// The subscription to answers. It has the same subject on each connection, so an answer finds its call by any of them.
struct Answers {
    inbox: Arc<Inbox>,
    tasks: Tasks,
    attached: Vec<Handle>,
}

impl End for Answers {
    type Command = std::convert::Infallible;

    async fn attach(&mut self, connection: Arc<Connection>, mut echo: Echo) -> Result<(), RpcError> {
        let subject = format!("{}*", self.inbox.prefix);
        let (handle, reader) = split(connection.subscribe(subject.into()).await?);
        self.tasks.spawn("answers on NATS", read(reader, Arc::clone(&self.inbox)));
        if !echo.heard(&connection).await {
            return Err(RpcError::Disconnected("no answer from NATS".into()));
        }
        self.attached.push(handle);
        Ok(())
    }

    async fn detach(&mut self) {
        if let Some(newest) = self.attached.pop() {
            for old in std::mem::replace(&mut self.attached, vec![newest]) {
                old.end().await;
            }
        }
    }

    fn disconnected(&mut self, reason: &RpcError) {
        self.inbox.pending.fail(reason);
    }

    async fn next(&mut self) -> Self::Command {
        std::future::pending().await
    }

    async fn run(&mut self, command: Self::Command) {
        match command {}
    }
}

async fn read(mut answers: Reader, inbox: Arc<Inbox>) {
    while let Some(message) = answers.next().await {
        let Some(number) = inbox.number(&message.subject) else { continue };
        let nobody = message.status == Some(StatusCode::NO_RESPONDERS);
        let answer = if nobody { Answer::NotDelivered } else { Answer::Response(message.payload) };
        inbox.pending.answer(number, answer);
    }
}

impl fmt::Debug for NatsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsClient").field("addresses", &self.options.shown()).finish_non_exhaustive()
    }
}
