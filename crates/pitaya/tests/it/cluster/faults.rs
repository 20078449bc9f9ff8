//! Faults under load: servers that are killed, etcd and NATS that are away. Each of these tests ends with everybody served
//! again, nothing handled or answered twice, and all sessions there that should be.

mod crashes;
mod full;
mod load;
mod outages;
mod process;

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use pitaya::{App, Json, Result, Server, ServerBuilder, Session, TcpAcceptor, handlers};
use pitaya_fixtures::{Etcd, Nats};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Node;

/// Where the servers of a test find each other, and where they write down what they do.
struct Ground {
    etcd: String,
    nats: String,
    /// How long a server that has died is seen, in seconds.
    ttl: u64,
    folder: TempDir,
}

impl Ground {
    fn new(etcd: impl Into<String>, nats: impl Into<String>, ttl: u64) -> Self {
        Self { etcd: etcd.into(), nats: nats.into(), ttl, folder: tempfile::tempdir().unwrap() }
    }

    fn of(&self, builder: ServerBuilder) -> ServerBuilder {
        at(builder, &self.etcd, &self.nats, self.ttl)
    }

    /// A frontend of this process, and where its clients connect.
    async fn gate(&self, id: &str) -> (Node, SocketAddr) {
        let tcp = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.address();
        (Node::start(self.of(Server::frontend("gate").id(id).acceptor(tcp)), true).await, address)
    }

    /// A backend of this process.
    async fn room(&self, id: &str) -> Node {
        let room = Server::backend("room").id(id).handlers(Work::new(self.folder.path(), id));
        Node::start(self.of(room), false).await
    }

    /// What all servers have written down under this title, with how often.
    fn written(&self, title: &str) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for file in std::fs::read_dir(self.folder.path()).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_string_lossy().ends_with(title) {
                for line in std::fs::read_to_string(file.path()).unwrap().lines() {
                    *lines.entry(line.to_owned()).or_default() += 1;
                }
            }
        }
        lines
    }

    /// The sessions of which servers of this kind have heard that they closed.
    fn closed(&self) -> BTreeMap<String, usize> {
        self.written("closed")
    }

    /// No message was handled more than once, wherever.
    fn nothing_was_handled_twice(&self) {
        let twice: Vec<_> = self.written("jobs").into_iter().filter(|(_, count)| *count > 1).collect();
        assert!(twice.is_empty(), "handled twice: {twice:?}");
    }
}

/// Makes a server one of the cluster there.
fn at(builder: ServerBuilder, etcd: &str, nats: &str, ttl: u64) -> ServerBuilder {
    builder
        .cluster(pitaya::Cluster::from_config())
        .set_text("pitaya.cluster.sd.etcd.endpoints", etcd)
        .set_text("pitaya.cluster.sd.etcd.heartbeatinterval", format!("{ttl}s"))
        .set_text("pitaya.cluster.sd.etcd.shutdowndelay", "100ms")
        .set_text("pitaya.cluster.rpc.client.nats.connect", nats)
        .set_text("pitaya.cluster.rpc.server.nats.connect", nats)
}

/// The handlers of the backends. What they do is written to files, which outlive a process that is killed.
struct Work {
    jobs: Mutex<File>,
    closed: Arc<Mutex<File>>,
}

impl Work {
    fn new(folder: &Path, id: &str) -> Self {
        let open = |title: &str| {
            let path = folder.join(format!("{id}-{}-{title}", std::process::id()));
            Mutex::new(OpenOptions::new().create(true).append(true).open(path).unwrap())
        };
        Self { jobs: open("jobs"), closed: Arc::new(open("closed")) }
    }
}

fn write(file: &Mutex<File>, line: &str) {
    file.lock().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[handlers(name = "room")]
impl Work {
    /// Logs in, and leaves something in the session.
    #[request]
    async fn enter(&self, session: Session, Json(name): Json<String>) -> Result<()> {
        if session.uid().is_err() {
            session.bind(name.as_str()).await?;
        }
        session.set("name", &name)?;
        session.push_to_front().await?;
        let closed = Arc::clone(&self.closed);
        session.on_close(move |session| async move {
            let frontend = session.frontend().map(ToString::to_string).unwrap_or_default();
            write(&closed, &format!("{frontend}/{}", session.id()));
        })
    }

    /// Does a job, and says whose it was.
    #[request]
    async fn work(&self, app: App, session: Session, Json(job): Json<Value>) -> Result<Json<Value>> {
        write(&self.jobs, &job.to_string());
        let (uid, name) = (session.uid()?.to_string(), session.get::<String>("name")?);
        Ok(Json(json!({"job": job, "uid": uid, "name": name, "server": app.server().id.as_str()})))
    }
}

/// A small game on an etcd and a NATS of its own: two frontends, two backends, and players.
struct Game {
    etcd: Etcd,
    nats: Nats,
    ground: Ground,
    gates: [Node; 2],
    rooms: [Node; 2],
    load: load::Load,
}

impl Game {
    const PLAYERS: usize = 6;

    async fn start(ttl: u64) -> Self {
        let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
        let ground = Ground::new(etcd.address(), nats.address(), ttl);
        let (one, two) = (ground.gate("g1").await, ground.gate("g2").await);
        let rooms = [ground.room("r1").await, ground.room("r2").await];
        super::acquainted(&[&one.0, &two.0, &rooms[0], &rooms[1]]).await;
        let load = load::Load::start(&[one.1, two.1], Self::PLAYERS);
        load.is_healthy("at the beginning").await;
        Self { etcd, nats, ground, gates: [one.0, two.0], rooms, load }
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.gates.iter().chain(&self.rooms)
    }

    /// Watches that every server knows all others all the time, until it is asked.
    fn watch_lists(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let all = self.nodes().count();
        let watch = |node: &Node| {
            let mut servers = node.app.peers().unwrap().context().servers.watch();
            tokio::task::spawn(async move { drop(servers.wait_for(|list| list.len() < all).await) })
        };
        self.nodes().map(watch).collect()
    }

    /// Ends a test: everybody is served, can be pushed to, and has the session of the beginning; a new server is found.
    async fn is_healthy_again(&mut self) {
        self.load.is_healthy("in the end").await;
        for (number, node) in [&self.rooms[0], &self.gates[0]].into_iter().enumerate() {
            let uids = self.load.uids();
            node.app.push("onNews", Json(number)).to_users("gate", uids).await.unwrap().all().unwrap();
        }
        self.load.have_got(&[0, 1]).await;
        let all = self.nodes().count();
        let (ground, etcd) = (&self.ground, &self.etcd);
        let keys = async {
            while etcd.keys("servers/").await.len() != all {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        crate::support::soon("all servers are registered", keys).await;
        let late = ground.room("r3").await;
        let found = || self.nodes().chain([&late]).all(|node| node.app.servers().len() == all + 1);
        crate::support::eventually("a new server is found", found).await;
        self.load.is_served_by("r3").await;
        assert_eq!(ground.closed(), BTreeMap::new(), "no session has closed");
        assert_eq!(self.gates.iter().map(|gate| gate.app.session_count()).sum::<usize>(), Self::PLAYERS);
        self.load.stop().await;
        assert_eq!(self.load.lost(), 0, "no connection was lost");
        ground.nothing_was_handled_twice();
    }
}
