//! The port [`Discovery`], on etcd (protocol.md 8).

mod follow;
mod register;
mod sync;
mod watch;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use pitaya_core::{
    BoxFuture, Error, Result, ServerType,
    cluster::{ClusterContext, Discovery},
    config::Config,
};
use tokio::sync::Notify;

use crate::{
    client::Client,
    options::{self, Options},
    settings,
};
use register::Registration;
use watch::Watcher;

/// Finds other servers through etcd.
pub struct EtcdDiscovery {
    client: Client,
    options: Options,
    ignored: Vec<ServerType>,
    started: OnceLock<Started>,
}

struct Started {
    context: ClusterContext,
    registration: Arc<Registration>,
}

/// What the task that watches and the task that renews the lease tell each other.
#[derive(Default)]
struct Signals {
    /// The own key is missing, or may be.
    own_key_missing: Notify,
    /// The server has been registered again: changes may have been missed.
    registered_again: Notify,
}

impl EtcdDiscovery {
    /// Reads the settings of [`settings`](crate::settings); nothing is connected yet.
    ///
    /// # Errors
    ///
    /// An endpoint is no address, a file of TLS cannot be read, or a type that is not wanted is no valid name.
    pub fn new(config: &Config) -> Result<Self> {
        let (client, ignored) = (options::client(config)?, settings::blacklist(config)?);
        Ok(Self { client, options: Options::new(config), ignored, started: OnceLock::new() })
    }
}

impl Discovery for EtcdDiscovery {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.client.connect().await?;
            let signals = Arc::new(Signals::default());
            let registration = Arc::new(Registration::new(&self.client, &self.options, context, &signals));
            let watcher = Watcher::start(&self.client, &self.options, context, &registration, &signals).await?;
            let started = Started { context: context.clone(), registration };
            self.started.set(started).map_err(|_| Error::plain("this discovery has been started before"))?;
            let stopping = context.tasks.stopping().clone();
            context.tasks.spawn("etcd watch", async move {
                stopping.run_until_cancelled_owned(Box::pin(watcher.run())).await;
            });
            Ok(())
        })
    }

    fn register(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let started = self.started.get().ok_or_else(|| Error::plain("discovery has not been started"))?;
            started.registration.register(&started.context.tasks).await
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(started) = self.started.get() {
                started.registration.leave().await;
            }
        })
    }

    fn spreading(&self) -> Duration {
        let knows_others = self.started.get().is_some_and(|started| started.context.servers.now().len() > 1);
        if knows_others { self.options.shutdown_delay } else { Duration::ZERO }
    }

    fn ignored(&self) -> Vec<ServerType> {
        self.ignored.clone()
    }
}

impl fmt::Debug for EtcdDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdDiscovery").field("options", &self.options).finish_non_exhaustive()
    }
}
