//! Servers of a cluster without engines: what arrives is written down, and answered as the test says.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pitaya_core::{
    Result, ServerInfo, Tasks, Uid,
    cluster::{ClusterContext, Responder, RpcClient as _, RpcError, RpcServer as _, RpcService, Servers, Topic},
    config::{Config, Preset, Sources, Table},
    reporter::{Counter, Desc, Gauge, Histogram, NoReporter, Reporter},
};
use pitaya_nats::{NatsClient, NatsServer, settings};
use tokio::time::{Instant, sleep, timeout};

/// The longest that a test waits for what must happen; never waited for when it does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long calls wait unless a test is about that.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits until something is true.
pub(crate) async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// What must resolve, soon or at all.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it takes too long")
}

/// A configuration with these settings, as text.
pub(crate) fn config(preset: Option<Preset>, set: &[(&str, &str)]) -> Config {
    let mut sources = Sources::default();
    if let Some(preset) = preset {
        sources.set_preset(preset);
    }
    for (name, value) in set {
        sources.set_text(*name, *value);
    }
    Table::new(settings::rows()).resolve(sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Both ends at the same addresses.
pub(crate) fn at(urls: &str) -> Vec<(&'static str, String)> {
    vec![(settings::CLIENT_CONNECT.name(), urls.to_owned()), (settings::SERVER_CONNECT.name(), urls.to_owned())]
}

/// A server of the cluster.
pub(crate) struct Node {
    pub(crate) client: NatsClient,
    pub(crate) server: NatsServer,
    pub(crate) context: ClusterContext,
    pub(crate) seen: Arc<Seen>,
    pub(crate) dropped: Dropped,
}

/// What arrived, in order.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) requests: Mutex<Vec<Bytes>>,
    pub(crate) pushes: Mutex<Vec<Bytes>>,
    pub(crate) kicks: Mutex<Vec<(Bytes, bool)>>,
    pub(crate) binds: Mutex<Vec<Bytes>>,
    /// When those were.
    pub(crate) bound_at: Mutex<Vec<Option<u64>>>,
    /// Requests that are not answered.
    pub(crate) kept: Mutex<Vec<Responder>>,
    /// Locked as long as a request or a push may block.
    pub(crate) blocked: Mutex<()>,
    tasks: Tasks,
}

impl Node {
    /// Starts a server with both ends at these addresses.
    pub(crate) async fn start(kind: &str, id: &str, urls: &str) -> Self {
        Self::start_with(kind, id, &at(urls)).await.unwrap()
    }

    /// Starts a server with these settings.
    pub(crate) async fn start_with(kind: &str, id: &str, set: &[(&'static str, String)]) -> Result<Self> {
        let set: Vec<_> = set.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Self::start_by(kind, id, config(None, &set)).await
    }

    pub(crate) async fn start_by(kind: &str, id: &str, config: Config) -> Result<Self> {
        let mut me = ServerInfo::frontend(kind).unwrap();
        me.id = id.try_into().unwrap();
        let (client, server) = (NatsClient::new(&config)?, NatsServer::new(&config)?);
        let dropped = Dropped::default();
        let servers = Servers::new(me, vec![]);
        let context = ClusterContext::new(servers, Arc::new(config), Tasks::new(), Arc::new(dropped.clone()));
        let seen = Arc::new(Seen { tasks: context.tasks.clone(), ..Seen::default() });
        soon(server.start(&context, Arc::clone(&seen) as _)).await?;
        soon(client.start(&context)).await?;
        Ok(Self { client, server, context, seen, dropped })
    }

    pub(crate) fn info(&self) -> &ServerInfo {
        self.context.me()
    }

    /// Calls another server with a text.
    pub(crate) async fn call(&self, other: &Self, text: &str) -> Result<Bytes, RpcError> {
        self.call_within(other, text, LONG).await
    }

    pub(crate) async fn call_within(&self, other: &Self, text: &str, limit: Duration) -> Result<Bytes, RpcError> {
        soon(self.client.call(other.info(), Bytes::copy_from_slice(text.as_bytes()), limit)).await
    }

    /// Calls another server until it answers, and says how long that took.
    pub(crate) async fn until_answered(&self, other: &Self) -> Duration {
        let start = Instant::now();
        while self.call_within(other, "until", Duration::from_millis(300)).await.is_err() {
            assert!(start.elapsed() < PATIENCE, "calls never work again");
            sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }

    pub(crate) async fn push(&self, kind: &str, user: &str, text: &str) -> Result<(), RpcError> {
        let (kind, user) = (kind.try_into().unwrap(), uid(user));
        soon(self.client.publish(Topic::Push(&kind, &user), Bytes::copy_from_slice(text.as_bytes()))).await
    }

    pub(crate) async fn subscribe(&self, user: &str) {
        soon(self.server.subscribe(&uid(user))).await.unwrap();
    }

    pub(crate) async fn unsubscribe(&self, user: &str) {
        soon(self.server.unsubscribe(&uid(user))).await;
    }

    /// What was pushed so far, when a last message of each kind has come as well.
    pub(crate) async fn pushes(&self, count: usize) -> Vec<String> {
        eventually("pushes arrive", || self.seen.pushes.lock().unwrap().len() >= count).await;
        texts(&self.seen.pushes)
    }
}

pub(crate) fn uid(uid: &str) -> Uid {
    uid.try_into().unwrap()
}

pub(crate) fn texts(list: &Mutex<Vec<Bytes>>) -> Vec<String> {
    list.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

impl Seen {
    /// Keeps a task where it is. Other tasks of its thread go on.
    fn block(&self) {
        tokio::task::block_in_place(|| drop(self.blocked.lock().unwrap()));
    }
}

impl RpcService for Seen {
    /// `keep` is not answered, `block` waits until the test says so, `large <n>` is answered with so many bytes, `panic` panics, the rest is echoed.
    fn request(&self, request: Bytes, responder: Responder) {
        self.requests.lock().unwrap().push(request.clone());
        match std::str::from_utf8(&request).unwrap_or_default().split(' ').collect::<Vec<_>>()[..] {
            ["keep"] => self.kept.lock().unwrap().push(responder),
            ["block"] => self.block(),
            ["panic"] => panic!("on purpose"),
            ["large", len] => {
                let answer = vec![b'x'; len.parse().unwrap()];
                self.tasks.spawn("answer", responder.send(answer.into()));
            }
            _ => self.tasks.spawn("answer", responder.send(request)),
        }
    }

    fn push(&self, push: Bytes) {
        let blocks = push == "block";
        self.pushes.lock().unwrap().push(push);
        if blocks {
            self.block();
        }
    }

    fn kick(&self, kick: Bytes, responder: Option<Responder>) {
        self.kicks.lock().unwrap().push((kick, responder.is_some()));
        if let Some(responder) = responder {
            self.tasks.spawn("answer", responder.send("kicked".into()));
        }
    }

    fn bound(&self, bind: Bytes, at: Option<u64>) {
        self.bound_at.lock().unwrap().push(at);
        self.binds.lock().unwrap().push(bind);
    }
}

/// Counts what was dropped.
#[derive(Clone, Default)]
pub(crate) struct Dropped(Arc<AtomicI64>);

impl Dropped {
    pub(crate) fn count(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Gauge for Dropped {
    fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::SeqCst);
    }

    fn set(&self, value: i64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

impl Reporter for Dropped {
    fn counter(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Counter> {
        NoReporter.counter(desc, labels)
    }

    fn gauge(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Gauge> {
        assert_eq!((desc.subsystem, desc.name, labels), ("rpc_server", "dropped_messages", &[][..]));
        Arc::new(self.clone())
    }

    fn histogram(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Histogram> {
        NoReporter.histogram(desc, labels)
    }
}
