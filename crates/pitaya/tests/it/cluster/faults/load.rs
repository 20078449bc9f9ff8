//! Players that never rest, and notice everything that is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pitaya::Uid;
use pitaya_client::HandshakeData;
use pitaya_protocol::{Dictionary, Message, MessageKind, PacketKind};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{PATIENCE, Raw, encode_message, encode_packet, eventually, soon};

/// How many requests a player has in flight.
pub(super) const IN_FLIGHT: u64 = 4;

/// Between two handfuls of requests.
const PAUSE: Duration = Duration::from_millis(100);

/// So many answers in a row make a player content.
const IN_A_ROW: usize = 20;

/// Players at work. One whose connection ends connects again, to the next frontend if that one is gone.
pub(super) struct Load {
    players: Arc<Vec<Player>>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// What has happened to one player.
#[derive(Default)]
pub(super) struct Player {
    in_a_row: AtomicUsize,
    answered: AtomicUsize,
    lost: AtomicUsize,
    /// By code.
    failed: Mutex<BTreeMap<String, usize>>,
    /// Who has answered, with how often.
    servers: Mutex<BTreeMap<String, usize>>,
    pushed: Mutex<Vec<Value>>,
    wrong: Mutex<Vec<String>>,
}

impl Load {
    pub(super) fn start(frontends: &[SocketAddr], players: usize) -> Self {
        let players: Arc<Vec<Player>> = Arc::new((0..players).map(|_| Player::default()).collect());
        let (stop, stopped) = watch::channel(false);
        // No two jobs of a test have the same number.
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let first = LOADS.fetch_add(1, Ordering::SeqCst) << 32;
        let task = |number| {
            let at_work = AtWork {
                number,
                frontends: frontends.to_vec(),
                turn: number,
                players: Arc::clone(&players),
                stopped: stopped.clone(),
                last: first,
            };
            tokio::task::spawn(at_work.run())
        };
        let tasks = (0..players.len()).map(task).collect();
        Self { players, tasks, stop }
    }

    pub(super) fn uids(&self) -> Vec<Uid> {
        (0..self.players.len()).map(|number| name(number).try_into().unwrap()).collect()
    }

    /// Waits until every player is served, and goes on being served.
    pub(super) async fn is_healthy(&self, when: &str) {
        for player in &*self.players {
            player.in_a_row.store(0, Ordering::SeqCst);
        }
        let content = || self.players.iter().all(|player| player.in_a_row.load(Ordering::SeqCst) >= IN_A_ROW);
        let deadline = Instant::now() + PATIENCE;
        while !content() {
            assert!(Instant::now() < deadline, "{when}: {:?} {:?}", self.failures(), self.wrong());
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(self.wrong(), Vec::<String>::new(), "{when}");
    }

    /// Waits until this server answers, too.
    pub(super) async fn is_served_by(&self, server: &str) {
        let answers = || {
            let by = |player: &Player| player.servers.lock().unwrap().get(server).copied().unwrap_or_default();
            self.players.iter().map(by).sum::<usize>() > 20
        };
        eventually(&format!("{server} answers, too"), answers).await;
    }

    /// Waits until each player has got these pushes, each once.
    pub(super) async fn have_got(&self, pushes: &[usize]) {
        let expected: Vec<_> = pushes.iter().map(|push| json!(push)).collect();
        let complete = || {
            self.players.iter().all(|player| {
                let mut pushed = player.pushed.lock().unwrap().clone();
                // Those of two servers have no order.
                pushed.sort_by_key(Value::as_u64);
                assert!(pushed.len() <= expected.len(), "{pushed:?}");
                pushed == expected
            })
        };
        eventually("everybody has got the pushes", complete).await;
    }

    /// How many answers came that are no errors.
    pub(super) fn answered(&self) -> usize {
        self.players.iter().map(|player| player.answered.load(Ordering::SeqCst)).sum()
    }

    /// How many connections have ended.
    pub(super) fn lost(&self) -> usize {
        self.players.iter().map(|player| player.lost.load(Ordering::SeqCst)).sum()
    }

    /// How many requests have failed, by code.
    pub(super) fn failures(&self) -> BTreeMap<String, usize> {
        let mut all = BTreeMap::new();
        for player in &*self.players {
            for (code, count) in &*player.failed.lock().unwrap() {
                *all.entry(code.clone()).or_default() += count;
            }
        }
        all
    }

    fn wrong(&self) -> Vec<String> {
        self.players.iter().flat_map(|player| player.wrong.lock().unwrap().clone()).collect()
    }

    /// Lets the players end what they have begun. Nothing that they saw was wrong.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            soon("the players stop", task).await.unwrap();
        }
        assert_eq!(self.wrong(), Vec::<String>::new());
    }
}

fn name(number: usize) -> String {
    format!("player-{number}")
}

/// The task of one player.
struct AtWork {
    number: usize,
    frontends: Vec<SocketAddr>,
    /// Which frontend is the next.
    turn: usize,
    players: Arc<Vec<Player>>,
    stopped: watch::Receiver<bool>,
    /// The last id of a request.
    last: u64,
}

/// The connection has ended.
struct Ended;

impl AtWork {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            let Ok(mut raw) = self.connect().await else {
                self.turn += 1;
                sleep(PAUSE).await;
                continue;
            };
            if self.work(&mut raw).await.is_err() {
                self.me().lost.fetch_add(1, Ordering::SeqCst);
                self.me().in_a_row.store(0, Ordering::SeqCst);
            }
        }
    }

    fn me(&self) -> &Player {
        &self.players[self.number]
    }

    fn is_wrong(&self, what: &str) {
        self.me().wrong.lock().unwrap().push(format!("{}: {what}", name(self.number)));
    }

    async fn connect(&self) -> Result<Raw, Ended> {
        let address = self.frontends[self.turn % self.frontends.len()];
        let mut raw = Raw::over(TcpStream::connect(address).await.map_err(|_| Ended)?);
        let hello = encode_packet(PacketKind::Handshake, &HandshakeData::default().to_json());
        raw.stream.write_all(&hello).await.map_err(|_| Ended)?;
        raw.packet().await.ok_or(Ended)?;
        let ack = encode_packet(PacketKind::HandshakeAck, b"");
        raw.stream.write_all(&ack).await.map_err(|_| Ended)?;
        Ok(raw)
    }

    /// Plays until it is time to stop, or the connection ends.
    async fn work(&mut self, raw: &mut Raw) -> Result<(), Ended> {
        // Whose log-in fails tries again, as a player does.
        while !*self.stopped.borrow() {
            let name = name(self.number);
            let answers = self.exchange(raw, "room.room.enter", 1, |_| json!(name)).await?;
            if answers.iter().all(|(_, answer)| answer.is_ok()) {
                break;
            }
            sleep(PAUSE).await;
        }
        while !*self.stopped.borrow() {
            let number = self.number;
            let job = move |id| json!({"player": number, "job": id});
            for (id, answer) in self.exchange(raw, "room.room.work", IN_FLIGHT, job).await? {
                self.judge(id, answer);
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Sends so many requests, and reads until each is answered, whatever else comes.
    async fn exchange(
        &mut self,
        raw: &mut Raw,
        route: &str,
        requests: u64,
        body: impl Fn(u64) -> Value,
    ) -> Result<Vec<(u64, Result<Value, Value>)>, Ended> {
        let mut waiting: BTreeSet<_> = (self.last + 1..=self.last + requests).collect();
        self.last += requests;
        for id in &waiting {
            let request = Message::request(*id, route, body(*id).to_string());
            raw.stream.write_all(&encode_message(&request)).await.map_err(|_| Ended)?;
        }
        let mut answers = Vec::new();
        while !waiting.is_empty() {
            let packet = raw.packet_but_heartbeat().await.ok_or(Ended)?;
            if packet.kind != PacketKind::Data {
                self.is_wrong(&format!("got a {:?}", packet.kind));
                continue;
            }
            let message = Message::decode(packet.body, &Dictionary::default(), 1 << 20).unwrap();
            let value = serde_json::from_slice(&message.body).unwrap_or_default();
            if message.kind == MessageKind::Push {
                self.me().pushed.lock().unwrap().push(value);
            } else if !waiting.remove(&message.id) {
                self.is_wrong(&format!("{} was answered, and nobody waits for it: {value}", message.id));
            } else {
                answers.push((message.id, if message.error { Err(value) } else { Ok(value) }));
            }
        }
        Ok(answers)
    }

    /// Looks at an answer to a job. One that is no error is of this job, and was given in the session of the beginning.
    fn judge(&self, id: u64, answer: Result<Value, Value>) {
        let me = self.me();
        match answer {
            Ok(mut answer) => {
                let server = answer["server"].take();
                let name = name(self.number);
                let job = json!({"player": self.number, "job": id});
                if answer != json!({"job": job, "uid": name, "name": name, "server": null}) {
                    self.is_wrong(&format!("{id} was answered with {answer}"));
                }
                me.answered.fetch_add(1, Ordering::SeqCst);
                me.in_a_row.fetch_add(1, Ordering::SeqCst);
                let server = server.as_str().unwrap_or_default().to_owned();
                *me.servers.lock().unwrap().entry(server).or_default() += 1;
            }
            Err(error) => {
                me.in_a_row.store(0, Ordering::SeqCst);
                let Some(code) = error["code"].as_str().filter(|code| !code.is_empty()) else {
                    return self.is_wrong(&format!("{id} failed without a code: {error}"));
                };
                *me.failed.lock().unwrap().entry(format!("{code} {}", error["msg"])).or_default() += 1;
            }
        }
    }
}
