//! The stop of a server: who is still answered, what still arrives, how long it takes.
//!
//! What "read" means: a paused clock moves on only when no task can, so after a moment of sleep the
//! server has read whatever it was going to read.

mod drain;
mod ending;
mod patience;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pitaya::{
    Bytes, CloseReason, Error, Json, Result, Server, ServerBuilder, Session, code, extract::State, handlers, settings,
};
use pitaya_client::Client;
use pitaya_protocol::{Message, MessageKind, PacketKind};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::TcpStream,
    sync::Semaphore,
    time::{Duration, Instant, sleep},
};

use crate::support::{PATIENCE, Raw, Recorder, Running, encode_message, eventually, serve, soon};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What the handlers share with the test.
struct Shared {
    entered: AtomicUsize,
    finished: AtomicUsize,
    /// One permit lets one `hall.wait` end.
    gate: Semaphore,
}

impl Shared {
    fn entered(&self) -> usize {
        self.entered.load(Ordering::SeqCst)
    }

    fn finished(&self) -> usize {
        self.finished.load(Ordering::SeqCst)
    }
}

/// Notes that a handler's future is gone, whether it ended or was dropped.
struct Dropped<'a>(&'a AtomicUsize);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Hall {
    gone: Arc<AtomicUsize>,
}

#[handlers(name = "hall")]
impl Hall {
    #[request]
    async fn join(&self, session: Session, Json(name): Json<String>) -> Result<()> {
        session.bind(name.as_str()).await
    }

    /// Waits, pushes, and answers.
    #[request]
    async fn wait(&self, session: Session, shared: State<Shared>, body: Bytes) -> Result<Bytes> {
        let _gone = Dropped(&self.gone);
        shared.entered.fetch_add(1, Ordering::SeqCst);
        shared.gate.acquire().await.map_err(Error::internal)?.forget();
        // The client may be gone, which is not what these tests are about.
        drop(session.push("late", body.clone()).await);
        shared.finished.fetch_add(1, Ordering::SeqCst);
        Ok(body)
    }

    /// Answers at once with more than a socket takes for long.
    #[request]
    async fn much(&self, shared: State<Shared>) -> Bytes {
        shared.entered.fetch_add(1, Ordering::SeqCst);
        vec![b'x'; 8 * 1024].into()
    }

    #[request]
    async fn forever(&self, shared: State<Shared>) -> Bytes {
        let _gone = Dropped(&self.gone);
        shared.entered.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

struct Scene {
    server: Running,
    shared: Arc<Shared>,
    gone: Arc<AtomicUsize>,
    recorder: Recorder,
    /// Why sessions closed, as the callback was told.
    reasons: Arc<Mutex<Vec<CloseReason>>>,
}

async fn scene() -> Scene {
    scene_with(|builder| builder).await
}

async fn scene_with(describe: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Scene {
    let shared =
        Arc::new(Shared { entered: AtomicUsize::new(0), finished: AtomicUsize::new(0), gate: Semaphore::new(0) });
    let (gone, recorder) = (Arc::new(AtomicUsize::new(0)), Recorder::default());
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&reasons);
    let builder = Server::frontend("game")
        .handlers(Hall { gone: Arc::clone(&gone) })
        .shared_state(Arc::clone(&shared))
        .reporter(recorder.clone())
        .on_close(move |_, reason| {
            told.lock().unwrap().push(reason);
            async {}
        });
    Scene { server: serve(describe(builder)).await, shared, gone, recorder, reasons }
}

impl Scene {
    async fn joined(&self, name: &str) -> (Raw<DuplexStream>, Session) {
        let mut raw = self.server.pipes.established().await;
        join(&mut raw, name).await;
        (raw, self.session(name))
    }

    fn session(&self, name: &str) -> Session {
        self.server.app.session_of(&name.try_into().unwrap()).expect("a bound session")
    }

    fn reasons(&self) -> Vec<CloseReason> {
        self.reasons.lock().unwrap().clone()
    }
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>, name: &str) {
    raw.send_message(&Message::request(1_000_000, "hall.join", format!("\"{name}\""))).await;
    assert_eq!(raw.message().await, Some(Message::response(1_000_000, "")));
}

fn wait(id: u64) -> Message {
    Message::request(id, "hall.wait", id.to_string())
}

/// Reads answers and pushes until the Kick, and checks that nothing follows it. Sorts them into ids of answers and numbers
/// of pushes.
async fn until_kicked<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>) -> (Vec<u64>, Vec<u64>) {
    let (mut answers, mut pushes) = (Vec::new(), Vec::new());
    loop {
        let packet = raw.packet_but_heartbeat().await.expect("a Kick before the end");
        if packet.kind == PacketKind::Kick {
            assert_eq!(raw.packet().await, None);
            return (answers, pushes);
        }
        let message = Message::decode(packet.body, &pitaya_protocol::Dictionary::default(), 1 << 20).unwrap();
        match message.kind {
            MessageKind::Response => answers.push(message.id),
            _ => pushes.push(serde_json::from_slice(&message.body).unwrap()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_clients_stops_at_once() {
    let scene = scene().await;
    let start = Instant::now();
    scene.server.stop().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn requests_whose_handlers_run_are_answered_then_comes_the_kick() {
    let mut scene = scene().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut raw = scene.server.pipes.established().await;
        for id in 1..=10 {
            raw.send_message(&wait(id)).await;
        }
        clients.push(raw);
    }
    eventually("all handlers run", || scene.shared.entered() == 30).await;
    scene.server.begin_stop();
    sleep(secs(1)).await;
    assert_eq!(scene.server.app.session_count(), 3, "they are waited for");
    scene.shared.gate.add_permits(30);
    for raw in &mut clients {
        let (mut answers, mut pushes) = until_kicked(raw).await;
        answers.sort_unstable();
        pushes.sort_unstable();
        assert_eq!((&answers, &pushes), (&Vec::from_iter(1..=10), &Vec::from_iter(1..=10)));
    }
    drop(clients);
    scene.server.stop().await.unwrap();
    assert_eq!(*scene.reasons.lock().unwrap(), [CloseReason::Shutdown; 3]);
    assert_eq!(scene.recorder.value("session.closed{shutdown}"), 3);
    assert_eq!(scene.recorder.value("acceptor.connected_clients"), 0);
}

/// *Accepted* is what was read (design.md 5), also if its handler had not begun because the session had too many.
#[tokio::test(start_paused = true)]
async fn requests_that_were_read_and_wait_for_room_are_answered_too() {
    let mut scene = scene_with(|builder| builder.set(&settings::SESSION_UNFINISHED, 4)).await;
    let mut raw = scene.server.pipes.established().await;
    let bytes: Vec<u8> = (1..=30).flat_map(|id| encode_message(&wait(id))).collect();
    raw.send(&bytes).await;
    sleep(secs(1)).await;
    assert_eq!(scene.shared.entered(), 4);
    scene.server.begin_stop();
    sleep(secs(1)).await;
    // What is sent now is not read any more.
    raw.send_message(&wait(31)).await;
    scene.shared.gate.add_permits(100);
    let (mut answers, mut pushes) = until_kicked(&mut raw).await;
    answers.sort_unstable();
    pushes.sort_unstable();
    assert_eq!((answers, pushes), (Vec::from_iter(1..=30), Vec::from_iter(1..=30)));
    drop(raw);
    scene.server.stop().await.unwrap();
    assert_eq!(scene.shared.entered(), 30);
}

/// Or because the client has not read the answers before them.
#[tokio::test(start_paused = true)]
async fn requests_that_were_read_and_wait_for_the_client_are_answered_too() {
    let mut scene =
        scene_with(|builder| builder.set(&settings::OUTBOX_MESSAGES, 20).set(&settings::COMPRESSION, false)).await;
    let mut raw = scene.server.pipes.established().await;
    let bytes: Vec<u8> = (1..=60).flat_map(|id| encode_message(&Message::request(id, "hall.much", ""))).collect();
    raw.send(&bytes).await;
    sleep(secs(1)).await;
    let entered = scene.shared.entered();
    assert!(entered < 60, "the queue is full long before");
    scene.server.begin_stop();
    sleep(secs(1)).await;
    assert_eq!(scene.shared.entered(), entered);
    assert_eq!(until_kicked(&mut raw).await, (Vec::from_iter(1..=60), vec![]));
    drop(raw);
    scene.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_accepted_before_the_kick_arrive_without_a_gap() {
    const CLIENTS: usize = 20;
    let mut scene = scene_with(|builder| builder.set_text("pitaya.buffer.agent.bytes", "1GiB")).await;
    let mut readers = Vec::new();
    let mut pushers = Vec::new();
    let pushed = Arc::new(AtomicUsize::new(0));
    for client in 0..CLIENTS {
        let mut raw = Raw::established(scene.server.tcp).await;
        let name = format!("user{client}");
        join(&mut raw, &name).await;
        let session = scene.session(&name);
        readers.push(tokio::task::spawn(async move { until_kicked(&mut raw).await.1 }));
        let pushed = Arc::clone(&pushed);
        pushers.push(tokio::task::spawn(async move {
            for number in 0_u64.. {
                if let Err(error) = session.push("n", Json(number)).await {
                    assert_eq!(error.code(), code::CLIENT_CLOSED);
                    return number;
                }
                pushed.fetch_add(1, Ordering::SeqCst);
                if number % 8 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            unreachable!()
        }));
    }
    eventually("they are in the middle of it", || pushed.load(Ordering::SeqCst) > 100 * CLIENTS).await;
    scene.server.begin_stop();
    for (reader, pusher) in readers.into_iter().zip(pushers) {
        let accepted = soon("the pushes are refused", pusher).await.unwrap();
        let received = soon("the kick", reader).await.unwrap();
        assert_eq!(received, Vec::from_iter(0..accepted));
    }
    scene.server.stop().await.unwrap();
}

/// A busy client has sent more than is read; that must not cost it what it was owed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_asking_gets_all_answers_up_to_the_kick() {
    let mut scene =
        scene_with(|builder| builder.set(&settings::COMPRESSION, false).set(&settings::SESSION_UNFINISHED, 1000)).await;
    scene.shared.gate.add_permits(1_000_000);
    let raw = Raw::established(scene.server.tcp).await;
    let (reading, mut writing) = raw.stream.into_split();
    let filler = "7".repeat(15);
    let asking = tokio::task::spawn(async move {
        for id in 1.. {
            let request = Message::request(id, "hall.wait", filler.clone());
            if writing.write_all(&encode_message(&request)).await.is_err() {
                return;
            }
        }
    });
    eventually("it is served", || scene.shared.finished() > 100).await;
    scene.server.begin_stop();
    let mut raw = Raw::over(tokio::io::join(reading, tokio::io::sink()));
    let (mut answers, pushes) = until_kicked(&mut raw).await;
    let finished = scene.shared.finished();
    answers.sort_unstable();
    assert!(answers.iter().copied().eq(1..=finished as u64), "{} answers to {finished} requests", answers.len());
    assert_eq!(pushes.len(), finished);
    drop(raw);
    asking.abort();
    scene.server.stop().await.unwrap();
}

#[tokio::test]
async fn new_connections_are_refused_while_the_old_ones_are_waited_for() {
    let mut scene = scene().await;
    let (tcp, ws) = (scene.server.tcp, scene.server.ws);
    let mut raw = Raw::established(tcp).await;
    raw.send_message(&wait(1)).await;
    eventually("the handler runs", || scene.shared.entered() == 1).await;
    // One that is in the middle of establishing does not become a client any more.
    let mut half_way = TcpStream::connect(ws).await.unwrap();
    half_way.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();

    scene.server.begin_stop();
    for address in [tcp, ws] {
        let refused = async {
            loop {
                match TcpStream::connect(address).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                    // The listener is not closed yet: the kernel accepts, the server does not.
                    Err(_) | Ok(_) => tokio::task::yield_now().await,
                }
            }
        };
        soon("connections are refused", refused).await;
    }
    let end = soon("the one half way is closed", half_way.read_u8()).await;
    assert!(end.is_err());
    assert!(Client::connect(&format!("ws://{ws}")).await.is_err());
    assert_eq!(scene.server.app.session_count(), 1);
    scene.shared.gate.add_permits(1);
    assert_eq!(until_kicked(&mut raw).await, (vec![1], vec![1]));
    drop(raw);
    scene.server.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_close_callbacks_of_all_sessions_run_and_are_waited_for() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let scene = scene_with(|builder| {
        builder.on_close(move |_, _| {
            let count = Arc::clone(&count);
            async move {
                sleep(secs(5)).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
    })
    .await;
    let (_bound, session) = scene.joined("ada").await;
    let own = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&own);
    session
        .on_close(move |_| async move {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    let _established = scene.server.pipes.established().await;
    let _silent = scene.server.pipes.raw().await;
    eventually("all are there", || scene.server.app.session_count() == 3).await;
    let app = scene.server.app.clone();
    scene.server.stop().await.unwrap();
    assert_eq!((ended.load(Ordering::SeqCst), own.load(Ordering::SeqCst)), (3, 1));
    assert_eq!(*scene.reasons.lock().unwrap(), [CloseReason::Shutdown; 3]);
    assert_eq!(app.session_count(), 0);
}

/// Clients in every state get the Kick; one without handshake gets nothing else.
#[tokio::test(start_paused = true)]
async fn clients_in_the_middle_of_the_handshake_are_kicked() {
    let mut scene = scene().await;
    let mut silent = scene.server.pipes.raw().await;
    let mut without_ack = scene.server.pipes.raw().await;
    without_ack.send_packet(PacketKind::Handshake, b"{}").await;
    assert_eq!(without_ack.packet().await.unwrap().kind, PacketKind::Handshake);
    eventually("both are there", || scene.server.app.session_count() == 2).await;
    scene.server.begin_stop();
    for raw in [&mut silent, &mut without_ack] {
        assert_eq!(until_kicked(raw).await, (vec![], vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_future_is_dropped_stops_everything() {
    let scene = scene_with(|builder| builder.set(&settings::SHUTDOWN_GRACE, secs(4))).await;
    let (mut bound, session) = scene.joined("ada").await;
    let mut busy = scene.server.pipes.established().await;
    busy.send_message(&wait(1)).await;
    let mut stuck = scene.server.pipes.established().await;
    stuck.send_message(&Message::request(1, "hall.forever", "")).await;
    eventually("both run", || scene.shared.entered() == 2).await;
    session.push("n", Json(5)).await.unwrap();
    let start = Instant::now();
    scene.server.serving.abort();
    assert_eq!(until_kicked(&mut bound).await, (vec![], vec![5]));
    scene.shared.gate.add_permits(1);
    assert_eq!(until_kicked(&mut busy).await, (vec![1], vec![1]));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(until_kicked(&mut stuck).await, (vec![], vec![]));
    assert_eq!(start.elapsed().as_secs(), 4);
    drop((bound, busy, stuck));
    let app = &scene.server.app;
    eventually("all tasks have ended", || app.tasks().is_empty()).await;
    assert_eq!(app.session_count(), 0);
    assert_eq!(scene.reasons(), [CloseReason::Shutdown; 3]);
    assert!(scene.gone.load(Ordering::SeqCst) == 2 && start.elapsed() < PATIENCE);
    // Nobody listens any more.
    assert!(TcpStream::connect(scene.server.tcp).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn five_hundred_idle_connections_stop_at_once() {
    const CLIENTS: usize = 500;
    let mut scene = scene().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut raw = scene.server.pipes.established().await;
        clients.push(tokio::task::spawn(async move { until_kicked(&mut raw).await }));
    }
    eventually("all are there", || scene.server.app.session_count() == CLIENTS).await;
    let start = Instant::now();
    scene.server.begin_stop();
    for client in clients {
        assert_eq!(client.await.unwrap(), (vec![], vec![]));
    }
    scene.server.stop().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(scene.reasons.lock().unwrap().len(), CLIENTS);
}

#[tokio::test]
async fn idle_connections_on_sockets_are_kicked_and_closed() {
    let mut scene = scene().await;
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Raw::established(scene.server.tcp).await);
    }
    eventually("all are there", || scene.server.app.session_count() == 100).await;
    scene.server.begin_stop();
    for raw in &mut clients {
        assert_eq!(until_kicked(raw).await, (vec![], vec![]));
    }
    drop(clients);
    scene.server.stop().await.unwrap();
}
