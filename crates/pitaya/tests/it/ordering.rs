//! The ordering promise: message n+1 of a session is not touched until the chain of message n has finished or has
//! suspended for the first time; replies and pushes that one handler makes without suspending keep their order.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pitaya::{
    Error, FromRequest, Json, Next, Request, Result, Server, ServerBuilder, Session, SessionId,
    extract::{State, TakesNothing},
    from_fn, handlers, settings,
};
use pitaya_protocol::{Message, MessageKind};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use crate::support::{Raw, eventually, serve, soon};

pub(crate) const SESSIONS: usize = 64;
const MESSAGES: u64 = 10_000;

/// In which order the messages of each session were touched, and in which they were handled.
#[derive(Default)]
pub(crate) struct Log {
    touched: Mutex<HashMap<SessionId, u64>>,
    out_of_order: AtomicUsize,
    unfinished: Mutex<HashMap<SessionId, usize>>,
    too_many: AtomicUsize,
}

impl Log {
    fn touch(&self, session: &Session, number: u64) {
        let mut touched = self.touched.lock().unwrap();
        let last = touched.entry(session.id()).or_default();
        if number != *last + 1 {
            self.out_of_order.fetch_add(1, Ordering::SeqCst);
        }
        *last = number;
    }

    fn unfinished(&self, session: &Session, change: isize) {
        let mut unfinished = self.unfinished.lock().unwrap();
        let count = unfinished.entry(session.id()).or_default();
        *count = count.checked_add_signed(change).unwrap();
        if *count > 16 {
            self.too_many.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// All messages of all sessions were touched in order.
    pub(crate) fn check(&self, messages: u64) {
        assert_eq!(self.out_of_order.load(Ordering::SeqCst), 0, "messages were touched out of order");
        assert_eq!(self.too_many.load(Ordering::SeqCst), 0, "more than 16 were unfinished at once");
        assert_eq!(self.touched.lock().unwrap().len(), SESSIONS);
        assert!(self.touched.lock().unwrap().values().all(|last| *last == messages));
    }

    pub(crate) fn is_out_of_order(&self) -> bool {
        self.out_of_order.load(Ordering::SeqCst) > 0
    }
}

/// Suspends now and then, in ways that differ: through the scheduler, or until another task wakes it.
async fn maybe_suspend(seed: u64) {
    match RandomState::new().hash_one(seed) % 6 {
        0 => tokio::task::yield_now().await,
        1 => {
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        2 => {
            let notify = Arc::new(Notify::new());
            let waker = Arc::clone(&notify);
            tokio::task::spawn(async move { waker.notify_one() });
            notify.notified().await;
        }
        _ => {}
    }
}

/// An extractor that suspends.
struct Slowly;

impl<C: Send + Sync> FromRequest<C> for Slowly {
    type Takes = TakesNothing;

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        maybe_suspend(request.body.len() as u64).await;
        Ok(Self)
    }
}

struct Numbers;

#[handlers(name = "numbers")]
impl Numbers {
    /// Pushes the number and answers with it, before it suspends.
    #[request]
    async fn next(&self, _slowly: Slowly, session: Session, Json(number): Json<u64>) -> Result<Json<u64>> {
        session.push("number", Json(number)).await?;
        maybe_suspend(number).await;
        Ok(Json(number))
    }
}

/// 64 sessions, 10,000 numbered messages each way, 4 worker threads, hooks and extractors that suspend at random.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_is_touched_before_the_one_before_it_has_suspended() {
    exchange(Server::frontend("game"), MESSAGES).await.check(MESSAGES);
}

/// The test above would notice if each message were spawned as a task: here a layer does that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_for_each_message_would_be_noticed() {
    let log = exchange(spawning(Server::frontend("game")), 1_000).await;
    assert!(log.is_out_of_order());
}

/// A server that makes a task of each message.
pub(crate) fn spawning(builder: ServerBuilder) -> ServerBuilder {
    builder.layer(from_fn(|request: Request, next: Next| async move {
        tokio::task::spawn(next.run(request)).await.map_err(Error::internal)?
    }))
}

/// Lets 64 sessions send numbered messages, and returns what the server saw.
async fn exchange(builder: ServerBuilder, messages: u64) -> Arc<Log> {
    let log = Arc::new(Log::default());
    let server = serve(logging(builder, &log)).await;
    let address = server.tcp;
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|_| {
            tokio::task::spawn(async move {
                let raw = Raw::established(address).await;
                one_session(raw, "numbers.next", messages, Pushes::First).await;
            })
        })
        .collect();
    for session in sessions {
        session.await.unwrap();
    }
    log
}

/// Adds the handlers, and hooks that write down what they see.
pub(crate) fn logging(builder: ServerBuilder, log: &Arc<Log>) -> ServerBuilder {
    let (touching, counting) = (Arc::clone(log), Arc::clone(log));
    builder
        .handlers(Numbers)
        .layer(from_fn(move |request: Request, next: Next| {
            let log = Arc::clone(&touching);
            async move {
                // The first thing that happens to a message: nothing has suspended yet.
                let number: u64 = serde_json::from_slice(&request.body).map_err(Error::internal)?;
                log.touch(request.parts.session()?, number);
                maybe_suspend(number).await;
                next.run(request).await
            }
        }))
        .layer(from_fn(move |request: Request, next: Next| {
            let log = Arc::clone(&counting);
            async move {
                let session = request.parts.session()?.clone();
                log.unfinished(&session, 1);
                let reply = next.run(request).await;
                log.unfinished(&session, -1);
                reply
            }
        }))
}

/// When the push that a handler makes comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushes {
    /// Before its answer.
    First,
    /// From another server, by a way of its own.
    AnyTime,
}

/// Sends all numbers, and checks that each is answered once and pushed once.
pub(crate) async fn one_session<S>(raw: Raw<S>, route: &'static str, messages: u64, order: Pushes)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reading, writing) = tokio::io::split(raw.stream);
    let mut reading = Reading { stream: reading, received: bytes::BytesMut::new() };
    let writer = tokio::task::spawn(async move {
        let mut writing = writing;
        for batch in 0..messages / 100 {
            let mut bytes = bytes::BytesMut::new();
            for number in batch * 100 + 1..=batch * 100 + 100 {
                let message = Message::request(number, route, number.to_string());
                encode(&message, &mut bytes);
            }
            tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes).await.unwrap();
        }
        writing
    });
    let (mut answers, mut pushes) = (vec![false; messages as usize], vec![false; messages as usize]);
    for _ in 0..2 * messages {
        let message = soon("the next message", reading.message()).await;
        let number: u64 = serde_json::from_slice(&message.body).unwrap();
        let seen = match message.kind {
            MessageKind::Response => {
                assert_eq!(message.id, number);
                let pushed = order == Pushes::AnyTime || pushes[number as usize - 1];
                assert!(pushed, "the push that a handler made comes before its answer");
                &mut answers
            }
            MessageKind::Push => &mut pushes,
            kind => panic!("{kind:?}"),
        };
        assert!(!std::mem::replace(&mut seen[number as usize - 1], true), "{number} came twice");
    }
    drop(writer.await.unwrap());
}

fn encode(message: &Message, bytes: &mut bytes::BytesMut) {
    use pitaya_protocol::{EncodeOptions, PacketCodec as _, PacketKind, PomeloCodec};
    let body = message.encode(&EncodeOptions::default()).unwrap();
    PomeloCodec.encode(PacketKind::Data, &[&body], bytes).unwrap();
}

struct Reading<S> {
    stream: S,
    received: bytes::BytesMut,
}

impl<S: AsyncRead + Unpin> Reading<S> {
    async fn message(&mut self) -> Message {
        use pitaya_protocol::{Dictionary, PacketCodec as _, PacketKind, PomeloCodec};
        loop {
            if let Some(packet) = PomeloCodec.decode(&mut self.received, 1 << 20).unwrap() {
                if packet.kind == PacketKind::Data {
                    return Message::decode(packet.body, &Dictionary::default(), 1 << 20).unwrap();
                }
                continue;
            }
            let read = tokio::io::AsyncReadExt::read_buf(&mut self.stream, &mut self.received).await.unwrap();
            assert!(read > 0, "the server has closed");
        }
    }
}

struct Gate {
    opened: Notify,
    entered: Mutex<Vec<u64>>,
}

struct Doors;

#[handlers(name = "doors")]
impl Doors {
    #[request]
    async fn wait(&self, gate: State<Gate>, Json(number): Json<u64>) -> Json<u64> {
        gate.entered.lock().unwrap().push(number);
        gate.opened.notified().await;
        Json(number)
    }

    #[request(ordered)]
    async fn strict(&self, gate: State<Gate>, Json(number): Json<u64>) -> Json<u64> {
        gate.entered.lock().unwrap().push(number);
        gate.opened.notified().await;
        Json(number)
    }
}

fn gate() -> Arc<Gate> {
    Arc::new(Gate { opened: Notify::new(), entered: Mutex::default() })
}

/// A request that waits for a later one of the same client must not dead-lock it.
#[tokio::test]
async fn handlers_that_have_suspended_run_side_by_side() {
    let gate = gate();
    let server = serve(Server::frontend("game").handlers(Doors).shared_state(Arc::clone(&gate))).await;
    let mut raw = Raw::established(server.tcp).await;
    for number in 1..=3 {
        raw.send_message(&Message::request(number, "doors.wait", number.to_string())).await;
    }
    eventually("three handlers wait", || gate.entered.lock().unwrap().len() == 3).await;
    assert_eq!(*gate.entered.lock().unwrap(), [1, 2, 3]);
    gate.opened.notify_waiters();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(raw.message().await.unwrap().id);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

/// `ordered` waits for the end, not only for the first suspension.
#[tokio::test]
async fn an_ordered_handler_is_finished_before_the_next_message_is_touched() {
    let gate = gate();
    let server = serve(Server::frontend("game").handlers(Doors).shared_state(Arc::clone(&gate))).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "doors.strict", "1")).await;
    raw.send_message(&Message::request(2, "doors.wait", "2")).await;
    eventually("the first handler waits", || !gate.entered.lock().unwrap().is_empty()).await;
    // The second message is in the server's buffer or in the socket: an unknown route behind it is not answered either.
    raw.send_message(&Message::request(3, "no.such", "")).await;
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), raw.message()).await;
    assert!(early.is_err(), "nothing is answered while the ordered handler runs");
    assert_eq!(*gate.entered.lock().unwrap(), [1]);
    gate.opened.notify_waiters();
    assert_eq!(raw.message().await.unwrap().id, 1);
    eventually("the second handler waits", || gate.entered.lock().unwrap().len() == 2).await;
    gate.opened.notify_waiters();
    let mut ids = [raw.message().await.unwrap().id, raw.message().await.unwrap().id];
    ids.sort_unstable();
    assert_eq!(ids, [2, 3]);
}

/// A session with its limit of unfinished handlers is not handled further, and goes on when one ends.
#[tokio::test]
async fn the_number_of_unfinished_handlers_is_bounded() {
    let gate = gate();
    let builder = Server::frontend("game").handlers(Doors).shared_state(Arc::clone(&gate));
    let server = serve(builder.set(&settings::SESSION_UNFINISHED, 4)).await;
    let mut raw = Raw::established(server.tcp).await;
    for number in 1..=10 {
        raw.send_message(&Message::request(number, "doors.wait", number.to_string())).await;
    }
    let mut answered = Vec::new();
    while answered.len() < 10 {
        let waiting = 10.min(answered.len() + 4);
        eventually("the handlers that may run, run", || gate.entered.lock().unwrap().len() == waiting).await;
        // One more would have entered by now if it could: the messages came in one batch.
        tokio::task::yield_now().await;
        assert_eq!(gate.entered.lock().unwrap().len(), waiting);
        gate.opened.notify_waiters();
        for _ in 0..waiting - answered.len() {
            answered.push(raw.message().await.unwrap().id);
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, (1..=10).collect::<Vec<_>>());
}
