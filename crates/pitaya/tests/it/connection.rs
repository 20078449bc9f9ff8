//! One client's connection: what it may send, what it gets, and what ends it.

mod bodies;
mod closing;
mod framing;
mod handshake;
mod slow;
mod time;

use std::sync::atomic::{AtomicUsize, Ordering};

use pitaya::{Bytes, Error, Json, Result, Server, ServerBuilder, Session, extract::State, handlers};
use pitaya_protocol::{Message, PacketKind};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    sync::{Notify, Semaphore},
};

use crate::support::{Raw, Recorder, Running, encode_message, eventually, serve, soon};

/// What the handlers of these tests share with the test.
struct Shared {
    calls: AtomicUsize,
    notified: Notify,
    /// One permit lets one `club.wait` end.
    gate: Semaphore,
}

impl Shared {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

struct Club;

#[handlers(name = "club")]
impl Club {
    /// Binds the session, so that the test finds it.
    #[request]
    async fn join(&self, session: Session, Json(name): Json<String>) -> Result<()> {
        session.bind(name.as_str()).await
    }

    #[request]
    async fn echo(&self, shared: State<Shared>, body: Bytes) -> Bytes {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        body
    }

    #[notify]
    async fn note(&self, shared: State<Shared>, body: Bytes) {
        shared.calls.fetch_add(body.len(), Ordering::SeqCst);
        shared.notified.notify_one();
    }

    #[request]
    async fn wait(&self, shared: State<Shared>, body: Bytes) -> Result<Bytes> {
        shared.calls.fetch_add(1, Ordering::SeqCst);
        shared.gate.acquire().await.map_err(Error::internal)?.forget();
        Ok(body)
    }
}

/// A server with the routes `club.join`, `club.echo`, `club.note` and `club.wait`, and what they leave behind.
struct Scene {
    server: Running,
    shared: std::sync::Arc<Shared>,
    recorder: Recorder,
}

async fn scene() -> Scene {
    scene_with(|builder| builder).await
}

async fn scene_with(describe: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Scene {
    let shared = Shared { calls: AtomicUsize::new(0), notified: Notify::new(), gate: Semaphore::new(0) };
    let (shared, recorder) = (std::sync::Arc::new(shared), Recorder::default());
    let builder =
        Server::frontend("game").handlers(Club).shared_state(std::sync::Arc::clone(&shared)).reporter(recorder.clone());
    Scene { server: serve(describe(builder)).await, shared, recorder }
}

impl Scene {
    /// How many sessions have closed for a reason.
    fn closed(&self, reason: &str) -> i64 {
        self.recorder.value(&format!("session.closed{{{reason}}}"))
    }

    /// Waits until so many sessions have closed for a reason, and checks that no other reason was given.
    async fn assert_closed(&self, reason: &str, count: i64) {
        eventually(reason, || self.closed(reason) >= count).await;
        for other in pitaya::CloseReason::ALL {
            let expected = if other.as_str() == reason { count } else { 0 };
            assert_eq!(self.closed(other.as_str()), expected, "{other:?}");
        }
    }

    async fn raw(&self) -> Raw<DuplexStream> {
        self.server.pipes.raw().await
    }

    async fn established(&self) -> Raw<DuplexStream> {
        self.server.pipes.established().await
    }

    /// A client that is bound, with its session. What it does not read waits in the server: the pipe holds one byte.
    async fn narrow(&self, name: &str) -> (Raw<DuplexStream>, Session) {
        let mut raw = self.server.pipes.raw_with(1).await;
        raw.shake_hands().await;
        join(&mut raw, name).await;
        (raw, self.session(name))
    }

    /// A client that is bound, with its session.
    async fn joined(&self, name: &str) -> (Raw<DuplexStream>, Session) {
        let mut raw = self.established().await;
        join(&mut raw, name).await;
        (raw, self.session(name))
    }

    fn session(&self, name: &str) -> Session {
        self.server.app.session_of(&name.try_into().unwrap()).expect("a bound session")
    }
}

async fn join<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>, name: &str) {
    raw.send_message(&Message::request(1_000_000, "club.join", format!("\"{name}\""))).await;
    assert_eq!(raw.message().await, Some(Message::response(1_000_000, "")));
}

fn echo(id: u64, body: &str) -> Message {
    Message::request(id, "club.echo", body.to_owned())
}

/// Sends a request and checks that its answer is the next message.
async fn assert_served<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut Raw<S>, id: u64) {
    raw.send_message(&echo(id, "hi")).await;
    assert_eq!(raw.message().await, Some(Message::response(id, "hi")));
}

/// The number of a push whose body is one.
fn number(message: &Message) -> u32 {
    serde_json::from_slice(&message.body).unwrap()
}
