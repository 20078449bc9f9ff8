//! How many messages are handled at once over all sessions, and what becomes of the others.

use std::sync::{Arc, Mutex};

use pitaya::{Bytes, Error, Json, Result, Server, ServerBuilder, extract::State, handlers, settings};
use pitaya_protocol::{Message, PacketKind};
use tokio::{
    io::DuplexStream,
    sync::Semaphore,
    time::{Duration, sleep, timeout},
};

use crate::support::{ConfigFile, Pipes, Raw, Running, encode_message, eventually, serve};

/// One permit lets one handler end.
struct Gate {
    entered: Mutex<Vec<u64>>,
    open: Semaphore,
}

impl Gate {
    fn entered(&self) -> Vec<u64> {
        self.entered.lock().unwrap().clone()
    }
}

struct Desk;

#[handlers(name = "desk")]
impl Desk {
    #[request]
    async fn wait(&self, gate: State<Gate>, Json(number): Json<u64>) -> Result<Json<u64>> {
        gate.entered.lock().unwrap().push(number);
        gate.open.acquire().await.map_err(Error::internal)?.forget();
        if number == 13 { panic!("an unlucky number") } else { Ok(Json(number)) }
    }

    #[request]
    async fn quick(&self, gate: State<Gate>, Json(number): Json<u64>) -> Json<u64> {
        gate.entered.lock().unwrap().push(number);
        Json(number)
    }

    /// A quarter of what may be queued for a client.
    #[request]
    async fn large(&self) -> Bytes {
        Bytes::from(
            (0..1_u32 << 18).flat_map(|number| number.wrapping_mul(0x9E37_79B1).to_be_bytes()).collect::<Vec<_>>(),
        )
    }
}

async fn serve_desk(settings: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Running, Arc<Gate>) {
    let gate = Arc::new(Gate { entered: Mutex::default(), open: Semaphore::new(0) });
    let builder = Server::frontend("game").handlers(Desk).shared_state(Arc::clone(&gate));
    (serve(settings(builder)).await, gate)
}

fn wait(number: u64) -> Message {
    Message::request(number, "desk.wait", number.to_string())
}

/// What the server reads is read when the paused clock moves on: it does so only when no task can.
async fn all_is_still() {
    sleep(Duration::from_millis(1)).await;
}

async fn answers<const N: usize>(raw: &mut Raw<DuplexStream>) -> [u64; N] {
    let mut ids = [0; N];
    for id in &mut ids {
        *id = raw.message().await.unwrap().id;
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn as_many_messages_as_the_setting_says_are_handled_at_once_and_one_more_waits() {
    let file = ConfigFile::toml("pitaya.concurrency.handler.dispatch = 3");
    let (server, gate) = serve_desk(|builder| builder.config_file(file.path())).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    for number in [1, 2] {
        ada.send_message(&wait(number)).await;
    }
    all_is_still().await;
    for number in [11, 12, 13] {
        bob.send_message(&wait(number)).await;
    }
    all_is_still().await;
    // One of a session that has none unfinished waits like the others, also if it would end at once.
    ada.send_message(&Message::request(3, "desk.quick", "3")).await;
    all_is_still().await;
    assert_eq!(gate.entered(), [1, 2, 11]);

    // Each that ends makes room for the one that has waited longest.
    gate.open.add_permits(1);
    assert_eq!(answers(&mut ada).await, [1]);
    all_is_still().await;
    assert_eq!(gate.entered(), [1, 2, 11, 12]);
    gate.open.add_permits(1);
    assert_eq!(answers(&mut ada).await, [2, 3]);
    all_is_still().await;
    assert_eq!(gate.entered(), [1, 2, 11, 12, 3, 13]);
    gate.open.add_permits(3);
    assert_eq!(answers(&mut bob).await, [11, 12, 13], "a handler that panics has ended, too");

    // Nothing is held on to.
    for number in [21, 22, 23] {
        ada.send_message(&wait(number)).await;
    }
    all_is_still().await;
    assert_eq!(gate.entered()[6..], [21, 22, 23]);
}

/// A client that leaves takes what waits along, and gives nothing back that its handlers still need.
#[tokio::test(start_paused = true)]
async fn handlers_whose_client_has_left_still_count() {
    let (server, gate) = serve_desk(|builder| builder.set(&settings::DISPATCH_CONCURRENCY, 1)).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    for number in [1, 2] {
        ada.send_message(&wait(number)).await;
    }
    eventually("the first is handled", || gate.entered() == [1]).await;
    drop(ada);
    eventually("its session has closed", || server.app.session_count() == 1).await;
    bob.send_message(&wait(11)).await;
    all_is_still().await;
    assert_eq!(gate.entered(), [1]);
    gate.open.add_permits(2);
    assert_eq!(answers(&mut bob).await, [11]);
    assert_eq!(gate.entered(), [1, 11]);
}

/// Only so many messages wait, over all sessions; the connection of one more is not read, and loses nothing.
#[tokio::test(start_paused = true)]
async fn connections_whose_messages_find_no_place_to_wait_are_not_read() {
    const MESSAGES: u64 = 20_000;
    let file = ConfigFile::toml(
        "[pitaya]\nconcurrency.handler.dispatch = 1\nbuffer.handler.localprocess = 5\nsession.unfinished = 1000",
    );
    let (server, gate) = serve_desk(|builder| builder.config_file(file.path())).await;
    let mut blocker = server.pipes.established().await;
    blocker.send_message(&wait(1_000_000)).await;
    eventually("the only place is taken", || gate.entered() == [1_000_000]).await;

    let client = server.pipes.established().await;
    let (mut reading, mut writing) = tokio::io::split(client.stream);
    let bytes: Vec<u8> = (1..=MESSAGES)
        .flat_map(|number| encode_message(&Message::request(number, "desk.quick", number.to_string())))
        .collect();
    assert!(bytes.len() > 4 * Pipes::CAPACITY);
    let mut sending = tokio::task::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut writing, &bytes).await.unwrap();
        writing
    });
    // Also not in a long time: that it is not read does not count as its silence.
    let sent = timeout(Duration::from_secs(3600), &mut sending).await;
    assert!(sent.is_err(), "the client would have to wait until it is read");
    assert_eq!(gate.entered(), [1_000_000]);

    gate.open.add_permits(1);
    let sink = tokio::io::sink();
    let mut raw = Raw::over(tokio::io::join(&mut reading, sink));
    for number in 1..=MESSAGES {
        assert_eq!(raw.message().await.unwrap().id, number);
    }
    sending.await.unwrap();
    assert!(gate.entered().into_iter().skip(1).eq(1..=MESSAGES), "in order, and each once");
}

/// What has been read and waits is answered before a stop closes its connection.
#[tokio::test(start_paused = true)]
async fn messages_that_wait_are_handled_before_a_stop() {
    let (mut server, gate) = serve_desk(|builder| builder.set(&settings::DISPATCH_CONCURRENCY, 1)).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    ada.send_message(&wait(1)).await;
    all_is_still().await;
    for number in [11, 12] {
        bob.send_message(&wait(number)).await;
    }
    all_is_still().await;
    assert_eq!(gate.entered(), [1]);
    server.begin_stop();
    all_is_still().await;
    gate.open.add_permits(3);
    assert_eq!(answers(&mut ada).await, [1]);
    assert_eq!(answers(&mut bob).await, [11, 12]);
    drop((ada, bob));
    server.stop().await.unwrap();
}

/// A client that leaves while a message of its waits keeps no permit from others, also while a handler of its goes on.
#[tokio::test(start_paused = true)]
async fn a_message_whose_client_has_left_takes_no_permit() {
    let (server, gate) = serve_desk(|builder| builder.set(&settings::DISPATCH_CONCURRENCY, 2)).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    // Bob's handler ends first: the gate lets in whoever has waited longest.
    bob.send_message(&wait(11)).await;
    all_is_still().await;
    ada.send_message(&wait(1)).await;
    ada.send_message(&Message::request(2, "desk.quick", "2")).await;
    all_is_still().await;
    assert_eq!(gate.entered(), [11, 1]);
    drop(ada);
    eventually("her session has closed", || server.app.session_count() == 1).await;
    gate.open.add_permits(1);
    assert_eq!(answers(&mut bob).await, [11]);
    bob.send_message(&Message::request(12, "desk.quick", "12")).await;
    assert_eq!(answers(&mut bob).await, [12]);
    assert_eq!(gate.entered(), [11, 1, 12]);
}

/// As with messages that have not waited: behind one that breaks the protocol nothing is handled.
#[tokio::test(start_paused = true)]
async fn nothing_that_waits_is_handled_when_the_connection_closes() {
    let (server, gate) = serve_desk(|builder| builder.set(&settings::DISPATCH_CONCURRENCY, 1)).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    bob.send_message(&wait(11)).await;
    all_is_still().await;
    ada.send_message(&Message::request(1, "desk.quick", "1")).await;
    ada.send_packet(PacketKind::Data, b"\xff").await;
    ada.send_message(&Message::request(3, "desk.quick", "3")).await;
    all_is_still().await;
    gate.open.add_permits(1);
    assert_eq!(answers(&mut ada).await, [1]);
    assert_eq!(ada.packet().await, None);
    assert_eq!(answers(&mut bob).await, [11]);
    assert_eq!(gate.entered(), [11, 1]);
}

/// Messages that have waited are handled no faster than their client reads the answers.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_is_not_overrun_by_the_answers_to_what_has_waited() {
    let permits = |builder: ServerBuilder| builder.set(&settings::DISPATCH_CONCURRENCY, 1);
    let (server, gate) = serve_desk(permits).await;
    let (mut ada, mut bob) = (server.pipes.established().await, server.pipes.established().await);
    bob.send_message(&wait(11)).await;
    all_is_still().await;
    for number in 1..=10 {
        ada.send_message(&Message::request(number, "desk.large", "")).await;
    }
    all_is_still().await;
    gate.open.add_permits(1);
    assert_eq!(answers(&mut bob).await, [11]);
    // Her answers are not read yet: she has given back what she cannot use.
    bob.send_message(&Message::request(12, "desk.quick", "12")).await;
    assert_eq!(answers(&mut bob).await, [12]);
    assert_eq!(answers(&mut ada).await, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}
