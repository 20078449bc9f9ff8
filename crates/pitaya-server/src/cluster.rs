//! The cluster's side of the engine: what arrives from other servers, and what goes to them.

mod ended;
pub(crate) mod forward;
mod in_process;
mod link;
mod mailbox;
mod service;
mod step;
mod sys;
mod unique;
mod watched;

use std::{sync::Arc, time::Duration};

use pitaya_core::{
    Result,
    cluster::{DROPPED_MESSAGES, Peers, RpcService},
    reporter::Gauge,
};
use tokio::sync::Semaphore;

pub use in_process::in_process;
use service::{Handle, RemoteService};
pub(crate) use step::ClusterStep;
pub(crate) use unique::Unique;

use crate::{engine::Engine, registry::Registry};

/// What an engine of a cluster has beside that of a server alone.
pub(crate) struct Cluster {
    pub(crate) peers: Peers,
    /// What other servers may call.
    pub(crate) remotes: Registry,
    /// There if a user may have one session only, over all frontends of this type.
    pub(crate) unique: Option<Arc<Unique>>,
    /// How many calls of other servers run at once.
    pub(crate) running: Arc<Semaphore>,
    /// How many calls there may be at all, running or waiting; one more is refused.
    pub(crate) seats: Arc<Semaphore>,
    /// Counts those that were refused for that.
    pub(crate) dropped: Arc<dyn Gauge>,
}

impl Cluster {
    pub(crate) fn new(peers: Peers, remotes: Registry, unique: Option<Arc<Unique>>) -> Self {
        let capacity = peers.adapters().server.capacity();
        let seats = Semaphore::new((capacity.running + capacity.waiting).min(Semaphore::MAX_PERMITS));
        let running = Semaphore::new(capacity.running.min(Semaphore::MAX_PERMITS));
        let dropped = peers.context().reporter.gauge(&DROPPED_MESSAGES, &[]);
        Self { peers, remotes, unique, running: Arc::new(running), seats: Arc::new(seats), dropped }
    }

    /// Connects, so that the other servers can be called. The service is for [`take_calls`](Self::take_calls).
    pub(crate) async fn start(&self, engine: &Arc<Engine>) -> Result<Arc<dyn RpcService>> {
        let context = self.peers.context();
        let adapters = self.peers.adapters();
        let remote = RemoteService::new(engine);
        engine.work.spawn("frontends", Arc::clone(&remote).follow_frontends());
        let service: Arc<dyn RpcService> = Arc::new(Handle(remote));
        self.peers.set_service(Arc::downgrade(&service));
        adapters.client.start(context).await?;
        adapters.discovery.start(context).await?;
        Ok(service)
    }

    /// Takes what the other servers send. One that comes back under the id of a crashed one is called before it has
    /// registered, so this has to wait until its modules and components are there.
    pub(crate) async fn take_calls(&self, service: Arc<dyn RpcService>) -> Result<()> {
        self.peers.adapters().server.start(self.peers.context(), service).await
    }

    /// Lets the other servers see this one.
    pub(crate) async fn register(&self) -> Result<()> {
        self.peers.adapters().discovery.register().await
    }

    /// Takes this server away from the others, and waits until they know.
    pub(crate) async fn leave(&self) {
        let discovery = &self.peers.adapters().discovery;
        discovery.leave().await;
        if self.peers.servers().len() > 1 {
            tokio::time::sleep(discovery.spreading()).await;
        }
    }

    /// Takes no more calls; those that have arrived are handled.
    pub(crate) async fn drain(&self) {
        self.peers.adapters().server.drain().await;
    }

    /// Ends the adapters. Backends are told of closes first, until `hurry` says that there is no more time for that.
    pub(crate) async fn stop(&self, patience: Duration, hurry: impl Future<Output = ()>) {
        let told = tokio::select! {
            told = self.peers.said_goodbye(patience) => told,
            () = hurry => false,
        };
        if !told {
            tracing::warn!("not all backends have heard that their sessions have closed");
        }
        if !self.peers.context().tasks.stop(patience).await {
            tracing::warn!("the connections to other servers did not end in time");
        }
    }
}
