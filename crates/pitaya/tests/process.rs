//! What is measured of a whole process: these tests have one of their own.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{collections::HashSet, future::IntoFuture as _, time::Duration};

use pitaya::{Cluster, Json, Server, TcpAcceptor, handlers, remotes};
use pitaya_client::Client;
use tokio::task::JoinSet;

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn echo(&self, Json(text): Json<String>) -> Json<String> {
        // Half of the requests suspend.
        if text.len() % 2 == 0 {
            tokio::task::yield_now().await;
        }
        Json(text)
    }
}

#[remotes(name = "room")]
impl Room {
    #[remote]
    async fn ping(&self) {}
}

/// The sockets of this process that listen on TCP.
fn listening() -> usize {
    let own: HashSet<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok())
        .collect();
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap());
    let listens = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.get(3) == Some(&"0A") && fields.get(9).is_some_and(|inode| own.contains(&inode.parse().unwrap()))
    };
    tables.iter().flat_map(|table| table.lines().skip(1)).filter(listens).count()
}

/// The memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// F021: a backend opens no port. F102: a session of another server lives as long as its message, and leaves neither tasks
/// nor memory behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_listens_to_no_clients_and_keeps_nothing_of_their_messages() {
    const CLIENTS: usize = 16;
    const REQUESTS: usize = 10_000;
    let (cluster, mut servers) = (Cluster::in_process(), JoinSet::new());

    let room = Server::backend("room").cluster(cluster.clone()).handlers(Room).remotes(Room).build().unwrap();
    let room_app = room.app();
    servers.spawn(room.serve().into_future());
    tokio::time::timeout(Duration::from_secs(10), room_app.ready()).await.unwrap();
    assert_eq!(listening(), 0, "the backend");

    let acceptor = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", acceptor.address());
    let gate = Server::frontend("gate").cluster(cluster).acceptor(acceptor).build().unwrap();
    let gate_app = gate.app();
    servers.spawn(gate.serve().into_future());
    tokio::time::timeout(Duration::from_secs(10), gate_app.ready()).await.unwrap();
    assert_eq!(listening(), 1, "the frontend");

    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&address).await.unwrap());
    }
    let round = async || {
        let mut asking = JoinSet::new();
        for client in &clients {
            let client = client.clone();
            asking.spawn(async move {
                for count in 0..REQUESTS / CLIENTS {
                    let text = "x".repeat(count % 100);
                    let answer: String = client.request("room.room.echo", &text).await.unwrap();
                    assert_eq!(answer, text);
                }
            });
        }
        asking.join_all().await;
        (resident(), [&room_app, &gate_app].map(|app| app.tasks().len()))
    };
    // The first makes what is made once, and fills what is kept for reuse.
    let (before, tasks_before) = round().await;
    let (after, tasks_after) = round().await;
    assert_eq!(tasks_after, tasks_before);
    assert_eq!(room_app.sessions().len(), 0);
    // 10,000 sessions that stay would need ten times as much.
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}
