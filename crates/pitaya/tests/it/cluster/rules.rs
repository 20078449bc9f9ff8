//! F020, F021, F069: what a frontend and a backend of a cluster need, and which cluster there is if nothing is said.

use std::sync::Arc;

use pitaya::{Cluster, Problem, Server, TcpAcceptor};

use super::{Node, Shared, World, acquainted, in_each_world};
use crate::support::{Pipes, logs};

async fn a_frontend_needs_an_acceptor_and_a_backend_must_have_none(world: &World) {
    let shared = Arc::<Shared>::default();
    let without = world.gate("g1").build().err().unwrap();
    assert!(matches!(without.problems(), [Problem::NoAcceptor]), "{without}");
    assert_eq!(without.to_string(), "a frontend needs an acceptor");

    let with = || world.room("r1", &shared);
    let tcp = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    for with in [with().acceptor(tcp), with().acceptor(Pipes::new().1)] {
        let with = with.build().err().unwrap();
        assert!(matches!(with.problems(), [Problem::AcceptorOnBackend]), "{with}");
        assert_eq!(with.to_string(), "a backend takes no clients, and so no acceptor");
    }

    // What was refused was never part of the cluster.
    let gate = Node::start(world.gate("g1"), true).await;
    let room = Node::start(with(), false).await;
    acquainted(&[&gate, &room]).await;
    assert!(gate.app.server().frontend && !room.app.server().frontend);
    let seen = gate.app.servers().get(&room.app.server().id).map(|room| room.frontend);
    assert_eq!(seen, Some(false));
}

in_each_world!(a_frontend_needs_an_acceptor_and_a_backend_must_have_none);

/// Without a cluster, a backend is nothing.
#[tokio::test]
async fn a_backend_needs_a_cluster() {
    let alone = Server::backend("room").build().err().unwrap();
    assert!(matches!(alone.problems(), [Problem::NoCluster { what: "a backend" }]), "{alone}");
}

/// F069: cluster mode without settings is etcd and NATS, where both listen by default, and it says so.
#[tokio::test]
async fn a_cluster_without_settings_is_etcd_and_nats() {
    let (logged, _guard) = logs();
    let builder = Server::backend("room").cluster(Cluster::from_config());
    let server = builder.build().unwrap();
    let said = logged.all().into_iter().filter(|line| line.contains("the cluster is on etcd and NATS")).count();
    assert_eq!(said, 1, "{:?}", logged.all());
    drop(server);
}
