//! Servers of a cluster, reduced to their discovery.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use pitaya_core::{
    Error, ServerInfo, Tasks,
    cluster::{ClusterContext, Discovery as _, Servers},
    config::{Config, ConfigError, Preset, Sources, Table},
    reporter::NoReporter,
};
use pitaya_etcd::{EtcdDiscovery, settings};
use tokio::time::{Instant, sleep, timeout};

/// The longest that anything is waited for; never reached when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const KEY: &str = "pitaya.cluster.sd.etcd.";

/// The configuration of these settings, named by what follows [`KEY`].
pub(crate) fn config(settings: &[(&str, &str)]) -> Config {
    resolved(sources(settings)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn sources(settings: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::default();
    for (name, value) in settings {
        sources.set_text(format!("{KEY}{name}"), *value);
    }
    sources
}

fn resolved(sources: Sources) -> Result<Config, Vec<ConfigError>> {
    Table::new(settings::rows()).resolve(sources)
}

/// What is wrong with one setting.
pub(crate) fn problems(name: &str, value: &str) -> Vec<ConfigError> {
    resolved(sources(&[(name, value)])).err().unwrap_or_default()
}

/// One server.
pub(crate) struct Node {
    pub(crate) discovery: EtcdDiscovery,
    pub(crate) context: ClusterContext,
}

impl Node {
    /// A server that has not started yet.
    pub(crate) fn new(kind: &str, id: &str, config: Config) -> Self {
        Self::with_info(info(kind, id), config)
    }

    pub(crate) fn with_info(info: ServerInfo, config: Config) -> Self {
        let discovery = EtcdDiscovery::new(&config).unwrap();
        let servers = Servers::new(info, settings::blacklist(&config).unwrap());
        let context = ClusterContext::new(servers, Arc::new(config), Tasks::new(), Arc::new(NoReporter));
        Self { discovery, context }
    }

    /// A server that has started and registered.
    pub(crate) async fn start(kind: &str, id: &str, settings: &[(&str, &str)]) -> Self {
        let node = Self::new(kind, id, config(settings));
        node.up().await.unwrap();
        node
    }

    pub(crate) async fn up(&self) -> Result<(), Error> {
        self.discovery.start(&self.context).await?;
        self.discovery.register().await
    }

    /// The ids of the servers that it knows, in order, without its own.
    pub(crate) fn knows(&self) -> Vec<String> {
        let list = self.context.servers.now();
        let others = list.iter().filter(|server| server.id != self.context.me().id);
        let mut ids: Vec<_> = others.map(|server| server.id.to_string()).collect();
        ids.sort();
        ids
    }

    /// Waits until it knows exactly these others.
    pub(crate) async fn sees(&self, ids: &[&str]) {
        let mut changes = self.context.servers.watch();
        let seen = timeout(PATIENCE, async {
            while self.knows() != ids {
                changes.changed().await.unwrap();
            }
        });
        assert!(seen.await.is_ok(), "it knows {:?}, not {ids:?}", self.knows());
    }

    /// Dies without leaving: nothing is said any more.
    pub(crate) async fn die(self) {
        assert!(self.context.tasks.stop(PATIENCE).await);
    }
}

pub(crate) fn info(kind: &str, id: &str) -> ServerInfo {
    let mut info = ServerInfo::backend(kind).unwrap();
    info.id = id.try_into().unwrap();
    info
}

/// The JSON of a server.
pub(crate) fn json(kind: &str, id: &str) -> String {
    info(kind, id).to_json()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// How long something takes.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let value = timeout(PATIENCE, future).await.expect("it takes too long");
    (value, begin.elapsed())
}

/// Says that a preset counts, beside these settings.
pub(crate) fn preset(preset: Preset, settings: &[(&str, &str)]) -> Config {
    let mut sources = sources(settings);
    sources.set_preset(preset);
    resolved(sources).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// All that is logged by a test's thread while this lives.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// From now on everything is kept, as long as the guard lives.
    pub(crate) fn keep() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// The lines in which all of these occur.
    pub(crate) fn lines(&self, parts: &[&str]) -> Vec<String> {
        self.text().lines().filter(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
