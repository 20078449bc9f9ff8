//! The clusters that a server can belong to.

use pitaya_core::cluster::Wiring;

/// The clusters that a server can belong to, for [`ServerBuilder::cluster`](crate::ServerBuilder::cluster).
///
/// ```
/// use pitaya::{Cluster, Server};
///
/// // Two servers of one process, which find each other.
/// let cluster = Cluster::in_process();
/// let gate = Server::frontend("gate").cluster(cluster.clone());
/// let room = Server::backend("room").cluster(cluster);
/// # drop((gate, room));
/// ```
#[derive(Debug)]
pub struct Cluster(());

impl Cluster {
    /// All servers of this process that are built with this wiring, or a clone of it. Messages are encoded, and limits,
    /// time-outs and errors are those of NATS: a game that works here works there.
    #[must_use]
    pub fn in_process() -> Wiring {
        pitaya_server::in_process()
    }

    /// The servers that etcd knows, called through NATS: what the configuration says under `pitaya.cluster`, or
    /// `localhost:2379` and `localhost:4222`. The keys and messages are those of Go Pitaya.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn from_config() -> Wiring {
        use std::sync::Arc;

        use pitaya_core::cluster::Adapters;

        let rows = pitaya_etcd::settings::rows().into_iter().chain(pitaya_nats::settings::rows());
        Wiring::new(rows, |config| {
            tracing::info!("the cluster is on etcd and NATS");
            Ok(Adapters {
                discovery: Arc::new(pitaya_etcd::EtcdDiscovery::new(config)?),
                client: Arc::new(pitaya_nats::NatsClient::new(config)?),
                server: Arc::new(pitaya_nats::NatsServer::new(config)?),
            })
        })
    }
}
