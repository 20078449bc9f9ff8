//! A recording is played to servers of ours, which stand in the place of some of the recorded ones; what they send is
//! compared with what those sent.

mod checks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use pitaya::config::Preset;
use pitaya_fixtures::{Etcd, Nats};
use serde_json::{Value, json};

use crate::{
    clients::{Client, Entry, entries},
    compare::{self, Ids},
    ghosts::Ghosts,
    recording::{Event, Publish, Recording, What, kind_of, server_of_subject},
    servers::{Node, Recipe},
    tap::{Log, Seen},
    test::{Act, Test},
};

/// The longest that anything in a test may take; never waited for when the test passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Where ours did something else than Go.
pub(crate) struct Difference {
    /// The number of the event in the file.
    pub(crate) event: usize,
    /// The field, or what happened.
    pub(crate) path: String,
    /// For people.
    pub(crate) text: String,
}

/// One run of a recording.
pub(crate) struct Replay<'a> {
    test: &'a Test,
    recording: &'a Recording,
    /// The servers that are ours.
    ours: BTreeSet<String>,
    etcd: Etcd,
    _nats: Nats,
    ghosts: Ghosts,
    nodes: BTreeMap<String, Node>,
    log: Log,
    clients: HashMap<String, Client>,
    /// Recorded inboxes: who waits there, and where it really waits.
    inboxes: HashMap<String, (String, String)>,
    ids: Ids,
    /// What the recorded servers are subscribed to, by our servers that stand in their place.
    subscriptions: BTreeMap<String, BTreeMap<String, usize>>,
    ended_in_step: BTreeSet<(String, String)>,
    differences: Vec<Difference>,
}

impl<'a> Replay<'a> {
    /// Plays the file with these servers being ours, and returns where they differ from the recorded ones.
    pub(crate) async fn run(test: &'a Test, recording: &'a Recording, ours: &[&str]) -> Vec<Difference> {
        let mut replay = Self::start(test, recording, ours).await;
        for entry in entries(recording, &test.known) {
            replay.enter(entry, true).await;
        }
        replay.log.forget_messages();
        for event in &recording.events {
            replay.play(event).await;
        }
        replay.end().await;
        replay.differences
    }

    async fn start(test: &'a Test, recording: &'a Recording, ours: &[&str]) -> Self {
        let (etcd, nats) = tokio::join!(Etcd::start(), Nats::start());
        let (ghosts, log) = (Ghosts::connect(&nats.address()).await, Log::new());
        let ours: BTreeSet<_> = ours.iter().map(|id| (*id).to_owned()).collect();
        let all = recording.servers();
        for (number, id) in all.iter().enumerate().filter(|(_, id)| !ours.contains(*id)) {
            let kind = kind_of(id);
            ghosts.listen(&format!("pitaya/servers/{kind}/{id}"), number + 1).await;
            let value =
                json!({"id": id, "type": kind, "metadata": {}, "frontend": kind == "connector", "hostname": "vm"});
            etcd.put(&format!("pitaya/servers/{kind}/{id}"), &value.to_string()).await;
        }
        let mut settings = test.settings.clone();
        // Off wherever the file does not say otherwise; small messages are the same with it.
        if !["compression on", "default settings"].iter().any(|text| recording.source.contains(text)) {
            settings.push(("", "pitaya.handler.messages.compression", "off"));
        }
        let recipe = Recipe {
            etcd: &etcd,
            nats: nats.address(),
            log: &log,
            preset: if recording.is_v3() { Preset::GoV3 } else { Preset::GoV2 },
            protobuf: recording.source.contains("serializer protobuf"),
            settings: &settings,
        };
        let mut nodes = BTreeMap::new();
        for id in &ours {
            nodes.insert(id.clone(), Node::start(id, &recipe).await);
        }
        for node in nodes.values() {
            eventually("all servers are known", || node.app.servers().len() == all.len()).await;
        }
        if let Some(room) = nodes.get("r1") {
            let group = room.app.group("g");
            group.create().await.unwrap();
            for uid in ["u1", "u2", "u3"] {
                group.add(&uid.try_into().unwrap()).await.unwrap();
            }
        }
        let subscriptions = ours
            .iter()
            .map(|id| {
                let kind = kind_of(id);
                let subjects = [format!("pitaya/{kind}/bindings"), format!("pitaya/servers/{kind}/{id}")];
                (id.clone(), subjects.map(|subject| (subject, 1)).into())
            })
            .collect();
        Self {
            test,
            recording,
            ours,
            etcd,
            _nats: nats,
            ghosts,
            nodes,
            log,
            clients: HashMap::new(),
            inboxes: HashMap::new(),
            ids: Ids::new(),
            subscriptions,
            ended_in_step: BTreeSet::new(),
            differences: Vec::new(),
        }
    }

    /// Does what the recorder did at a step.
    async fn act(&mut self, event: &Event) {
        match self.test.acts.get(event.step.as_str()) {
            Some(Act::Stop(id)) => {
                if let Some(node) = self.nodes.get_mut(*id) {
                    node.begin_stop();
                }
            }
            Some(Act::Enter(conn, server, uid)) => self.enter(Entry::new(conn, server, uid), false).await,
            Some(Act::Leave(conn)) => {
                if let Some(client) = self.clients.get_mut(*conn) {
                    client.close().await;
                }
            }
            None => {}
        }
    }

    /// Lets a client in; `before` the recording began.
    async fn enter(&mut self, entry: Entry, before: bool) {
        let Some(node) = self.nodes.get(&entry.server) else { return };
        let client = Client::enter(&entry, node, &self.log).await;
        if let Some(uid) = &entry.uid {
            let unique =
                !self.test.settings.iter().any(|(_, key, value)| (*key, *value) == ("pitaya.session.unique", "false"));
            if unique {
                let told = |seen: &Seen| {
                    matches!(seen, Seen::Published { from, subject, payload, .. } if *from == entry.server
                        && subject.ends_with("/bindings")
                        && payload.windows(uid.len()).any(|part| part == uid.as_bytes()))
                };
                self.log.take(PATIENCE, told).await.expect("the bind is told");
            }
            for what in ["push", "kick"].into_iter().filter(|_| before) {
                let subject = format!("pitaya/connector/user/{uid}/{what}");
                self.subscriptions.get_mut(&entry.server).unwrap().insert(subject, 1);
            }
        }
        self.clients.insert(entry.conn, client);
    }

    async fn play(&mut self, event: &Event) {
        if self.test.is_left_out(&event.step) {
            return;
        }
        match &event.what {
            What::Step => {
                self.check_subscriptions(event).await;
                self.act(event).await;
            }
            What::Packet { conn, server, by_client, bytes, decoded } if self.ours.contains(server) => {
                if *by_client {
                    self.send(conn, server, bytes).await;
                } else {
                    self.expect_packet(event, conn, bytes, decoded).await;
                }
            }
            What::Closed { conn, server, by_client } if self.ours.contains(server) => {
                if *by_client {
                    self.clients.get_mut(conn).unwrap().close().await;
                } else if self.clients.contains_key(conn) {
                    let closed = |seen: &Seen| matches!(seen, Seen::Closed { conn: other } if other == conn);
                    self.expect(event, &format!("the connection of {conn} closes"), closed).await;
                }
            }
            What::Publish(publish) if self.ours.contains(&publish.from) => self.expect_publish(event, publish).await,
            What::Publish(publish) => self.publish(event, publish).await,
            What::Subscription { from, subject, begins } if self.ours.contains(from) => {
                if subject.starts_with("pitaya/") {
                    self.note_subscription(from, subject, *begins);
                }
            }
            What::Disconnected { from, connection } if self.ours.contains(from) => {
                let gone = |seen: &Seen| matches!(seen, Seen::Disconnected { from: other, connection: number } if (other, number) == (from, connection));
                self.expect(event, &format!("{from} leaves NATS ({connection})"), gone).await;
                self.subscriptions.remove(from);
            }
            What::Disconnected { from, .. } => {
                let number = self.recording.servers().iter().position(|id| id == from).unwrap();
                self.ghosts.die(number + 1).await;
            }
            What::Connected { from, connection, options } if self.ours.contains(from) => {
                self.expect_connection(event, from, *connection, options).await;
            }
            What::Written { key, value, ttl } => {
                if key.rsplit('/').next().is_some_and(|id| self.ours.contains(id)) {
                    let ours = registered(&self.etcd, key, *ttl).await;
                    self.compare(event, key, value, &ours);
                }
            }
            What::Deleted { key } => {
                if key.rsplit('/').next().is_some_and(|id| self.ours.contains(id)) {
                    let deadline = tokio::time::Instant::now() + PATIENCE;
                    while self.etcd.get(key).await.is_some() {
                        assert!(tokio::time::Instant::now() < deadline, "{key} stays");
                    }
                } else {
                    self.etcd.delete(key).await;
                }
            }
            What::Packet { .. }
            | What::Closed { .. }
            | What::Subscription { .. }
            | What::Connected { .. }
            | What::Other => {}
        }
    }

    async fn expect_connection(&mut self, event: &Event, from: &str, connection: u64, options: &Value) {
        let fits = |seen: &Seen| {
            matches!(seen, Seen::Connected { from: other, connection: number, .. }
                if other == from && *number == connection)
        };
        let what = format!("{from} connects to NATS ({connection})");
        let Some(Seen::Connected { options: ours, .. }) = self.expect(event, &what, fits).await else { return };
        let mut ours: Value = serde_json::from_str(&ours).unwrap();
        ours.as_object_mut().unwrap().retain(|key, _| options.get(key).is_some());
        // Which library it is.
        for key in ["lang", "version", "name"] {
            ours[key] = options[key].clone();
        }
        self.compare(event, &what, options, &ours);
    }

    async fn send(&mut self, conn: &str, server: &str, bytes: &[u8]) {
        if !self.clients.contains_key(conn) {
            let client = Client::connect(conn, &self.nodes[server], &self.log).await;
            self.clients.insert(conn.to_owned(), client);
        }
        self.clients.get_mut(conn).unwrap().send(bytes).await;
    }

    async fn expect_packet(&mut self, event: &Event, conn: &str, bytes: &[u8], decoded: &Value) {
        let go = crate::clients::packet(bytes);
        let name = compare::packet_name(&go);
        let fits = |seen: &Seen| matches!(seen, Seen::Packet { conn: other, packet } if other == conn && compare::packet_name(packet) == name);
        let Some(Seen::Packet { packet, .. }) = self.expect(event, &format!("{conn} gets {name}"), fits).await else {
            return;
        };
        let (go, ours) = (compare::packet(&go, decoded), compare::packet(&packet, decoded));
        self.compare(event, &format!("{conn} gets {name}"), &go, &ours);
    }

    async fn expect_publish(&mut self, event: &Event, publish: &Publish) {
        let subject = match self.inboxes.get(&publish.subject) {
            Some((_, real)) => real.clone(),
            // The answer to a call that the server did not get, since that was another difference.
            None if publish.subject.starts_with("_INBOX") => return,
            None => publish.subject.clone(),
        };
        let route = publish.decoded["msg"]["route"].as_str().unwrap_or_default();
        let name = format!("{} sends {} {route} to {}", publish.from, publish.kind, publish.subject);
        let fits = |seen: &Seen| {
            matches!(seen, Seen::Published { from, subject: other, payload, .. }
                if *from == publish.from && *other == subject
                    && payload.windows(route.len().max(1)).any(|part| part == route.as_bytes() || route.is_empty())
                    || *other == subject && payload.is_empty() && route.is_empty())
        };
        let Some(Seen::Published { connection, reply, headers, payload, .. }) = self.expect(event, &name, fits).await
        else {
            return;
        };
        if !publish.reply.is_empty() {
            self.inboxes.insert(publish.reply.clone(), (publish.from.clone(), reply.clone()));
        }
        let hint = &publish.decoded;
        let mut go = compare::message(&publish.kind, &publish.payload, hint);
        let mut ours = compare::message(&publish.kind, &payload, hint);
        // How it was sent is a part of it.
        let how = |connection: u64, reply: &str, headers: bool| json!({"connection": connection, "reply": !reply.is_empty(), "headers": headers});
        for (tree, how) in [
            (&mut go, how(publish.connection, &publish.reply, !publish.headers.is_empty())),
            (&mut ours, how(connection, &reply, headers)),
        ] {
            if let Some(tree) = tree.as_object_mut() {
                tree.insert("nats".into(), how);
            }
        }
        self.compare(event, &name, &go, &ours);
    }

    /// What a recorded server, or the recorder itself, says to one of ours.
    async fn publish(&mut self, event: &Event, publish: &Publish) {
        let subject = if publish.subject.starts_with("_INBOX") {
            match self.inboxes.get(&publish.subject) {
                Some((waiting, real)) if self.ours.contains(waiting) => real.clone(),
                _ => return,
            }
        } else {
            match server_of_subject(&publish.subject) {
                Some(id) if !self.ours.contains(id) => return,
                _ => publish.subject.clone(),
            }
        };
        let mut reply = String::new();
        if !publish.reply.is_empty() {
            reply = format!("_INBOX.replay.{}", event.number);
            self.inboxes.insert(publish.reply.clone(), (publish.from.clone(), reply.clone()));
        }
        if let Some(id) = publish.decoded["metadata"]["request.id"].as_str() {
            self.ids.insert(id.to_owned(), id.to_owned());
        }
        self.ghosts.publish(&subject, &reply, &publish.headers, &publish.payload).await;
    }

    async fn expect(&mut self, event: &Event, what: &str, fits: impl Fn(&Seen) -> bool) -> Option<Seen> {
        // Known to be missing: there is nothing to wait for.
        let patience = if self.test.allows(event.number, "missing") { Duration::ZERO } else { self.test.patience };
        let seen = self.log.take(patience, fits).await;
        if seen.is_none() {
            self.differ(event, "missing", &format!("missing: {what}"));
        }
        seen
    }

    fn compare(&mut self, event: &Event, what: &str, go: &Value, ours: &Value) {
        for (path, text) in compare::differences(go, ours, &mut self.ids) {
            self.differ(event, &path, &format!("{what}: {text}"));
        }
    }

    fn differ(&mut self, event: &Event, path: &str, text: &str) {
        let text = format!("[{}] «{}» {text}", event.number, event.step);
        self.differences.push(Difference { event: event.number, path: path.to_owned(), text });
    }
}

/// What one of our servers has written to etcd, without what only our servers look at there; its lease has this time.
pub(crate) async fn registered(etcd: &Etcd, key: &str, ttl: u64) -> Value {
    let mut value: Value = serde_json::from_str(&etcd.get(key).await.unwrap()).unwrap();
    let metadata = value["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| !matches!(key.as_str(), "pitaya-rs" | "handlers" | "instance"));
    assert!(value["hostname"].as_str().is_some_and(|host| !host.is_empty()));
    // That of the recorder.
    value["hostname"] = json!("vm");
    assert_eq!(etcd.granted_ttl(&etcd.lease(key).await.unwrap()).await, ttl, "the lease of {key}");
    value
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("{what}"));
}
