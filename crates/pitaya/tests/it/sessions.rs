//! Sessions: who they are, what they remember, and what reaches their clients.

mod all;
mod bind;
mod close;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use pitaya::{
    App, Component, Error, Json, Result, Server, ServerBuilder, Session, SessionId, Uid, acceptor::Incoming, code,
    handlers,
};
use pitaya_client::{Client, CloseReason};
use pitaya_protocol::{HandshakeData, Message, MessageKind, PacketKind};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, json};

use crate::support::{Events, PATIENCE, Raw, Running, eventually, serve, soon};

/// A server without handlers.
async fn bare() -> Running {
    serve(Server::frontend("game")).await
}

/// The `number`th client of a server, and its session.
async fn connect(server: &Running, number: i64) -> (Client, Session) {
    let client = server.client().await;
    let session = server.app.session(SessionId::new(number)).expect("sessions are numbered from 1");
    (client, session)
}

fn uid(name: &str) -> Uid {
    Uid::try_from(name).unwrap()
}

struct Counters;

#[handlers(name = "counters")]
impl Counters {
    #[request]
    async fn login(&self, session: Session, Json(name): Json<String>) -> Result<()> {
        session.bind(name).await
    }

    #[request]
    async fn put(&self, session: Session, Json(value): Json<u64>) -> Result<()> {
        session.set("counter", &value)
    }

    #[request]
    async fn look(&self, session: Session) -> Result<Json<(Option<u64>, Option<String>)>> {
        let uid = session.uid().ok().map(|uid| uid.to_string());
        Ok(Json((session.get("counter")?, uid)))
    }

    #[request]
    async fn who(&self, session: Session) -> Json<i64> {
        Json(session.id().get())
    }
}

#[tokio::test]
async fn what_one_request_stores_a_later_one_reads_and_a_new_connection_does_not() {
    let server = serve(Server::frontend("game").handlers(Counters)).await;
    let client = server.client().await;
    client.request_bytes("counters.login", r#""ada""#).await.unwrap();
    client.request_bytes("counters.put", "42").await.unwrap();
    let seen: (Option<u64>, Option<String>) = client.request("counters.look", &()).await.unwrap();
    assert_eq!(seen, (Some(42), Some("ada".to_owned())));

    let other = server.ws_client().await;
    let seen: (Option<u64>, Option<String>) = other.request("counters.look", &()).await.unwrap();
    assert_eq!(seen, (None, None));
}

#[tokio::test]
async fn ids_are_unique_increase_and_are_not_used_again() {
    let server = serve(Server::frontend("game").handlers(Counters)).await;
    let mut last = 0;
    for round in 0..5 {
        let client = if round % 2 == 0 { server.client().await } else { server.ws_client().await };
        let id: i64 = client.request("counters.who", &()).await.unwrap();
        assert!(id > last, "{id} after {last}");
        last = id;
        client.close();
        eventually("the session is gone", || server.app.session(SessionId::new(id)).is_none()).await;
    }
    let clients: Vec<_> = futures_util::future::join_all((0..20).map(|_| server.client())).await;
    let mut ids = Vec::new();
    for client in &clients {
        ids.push(client.request::<i64>("counters.who", &()).await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert!(ids[0] > last);
}

#[tokio::test]
async fn a_session_is_found_by_id_and_uid_until_it_closes_and_only_on_its_server() {
    let (server, other) = (bare().await, bare().await);
    let (client, session) = connect(&server, 1).await;
    assert_eq!(server.app.session_of(&uid("ada")), None);
    session.bind("ada").await.unwrap();
    assert_eq!(session.uid().unwrap(), "ada");
    assert_eq!(server.app.session_of(&uid("ada")), Some(session.clone()));
    assert_eq!(server.app.session(session.id()), Some(session.clone()));
    assert_eq!(server.app.session_count(), 1);
    assert_eq!(other.app.session_of(&uid("ada")), None);
    assert_eq!(other.app.session(session.id()), None);
    assert_eq!(other.app.session_count(), 0);

    client.close();
    soon("the session closes", session.closed()).await;
    assert_eq!(server.app.session_of(&uid("ada")), None);
    assert_eq!(server.app.session(session.id()), None);
    assert_eq!(server.app.session_count(), 0);
}

#[tokio::test]
async fn a_message_before_the_handshake_or_before_its_ack_is_not_handled_and_closes_the_session() {
    let handled = Events::default();
    let seen = handled.clone();
    let handler = Component::builder("any", Arc::new(()))
        .notify("thing", move || {
            let seen = seen.clone();
            async move { seen.add("handled") }
        })
        .build();
    let server = serve(Server::frontend("game").component(handler)).await;

    let mut early = Raw::connect(server.tcp).await;
    early.send_message(&Message::notify("any.thing", "")).await;
    assert_eq!(early.packet().await, None);

    let mut impatient = Raw::connect(server.tcp).await;
    impatient.send_packet(PacketKind::Handshake, &HandshakeData::default().to_json()).await;
    impatient.send_message(&Message::notify("any.thing", "")).await;
    while impatient.packet().await.is_some_and(|packet| packet.kind == PacketKind::Handshake) {}
    eventually("both sessions close", || server.app.session_count() == 0).await;
    assert!(handled.all().is_empty());
}

#[tokio::test]
async fn a_session_has_what_its_client_said_in_the_handshake() {
    let server = bare().await;
    let address = format!("tcp://{}", server.tcp);
    let client = Client::builder(&address).connect_timeout(PATIENCE).user(json!({"age": 30}));
    let _client = client.connect().await.unwrap();
    let session = server.app.session(SessionId::new(1)).unwrap();
    let handshake = session.handshake().unwrap();
    assert_eq!(handshake.user["age"], 30);
    assert!(!handshake.sys.platform.is_empty());
}

/// Stores a value and expects to read the same.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(session: &Session, value: T) {
    session.set("value", &value).unwrap();
    assert_eq!(session.get::<T>("value").unwrap(), Some(value));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Item {
    Sword { damage: u64 },
    Potions(u8),
    Nothing,
}

#[tokio::test]
async fn values_of_any_type_keep_their_value() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    round_trip(&session, i64::MAX);
    round_trip(&session, i64::MIN);
    round_trip(&session, u64::MAX);
    round_trip(&session, (1_u64 << 53) + 1);
    round_trip(&session, (i8::MIN, i16::MIN, i32::MIN, u8::MAX, u16::MAX, u32::MAX));
    round_trip(&session, 0.1_f64);
    round_trip(&session, f64::MAX);
    round_trip(&session, 0.25_f32);
    round_trip(&session, true);
    round_trip(&session, "Ünïcode \u{0} 玩家".to_owned());
    round_trip(&session, vec![Item::Sword { damage: u64::MAX }, Item::Potions(3), Item::Nothing]);
    round_trip(&session, BTreeMap::from([("a".to_owned(), vec![1, 2]), (String::new(), vec![])]));
    round_trip(&session, json!({"deep": [{"er": null}], "big": u64::MAX}));
}

#[tokio::test]
async fn a_getter_of_another_type_is_an_error_and_of_no_value_is_none() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    session.set("text", "seven").unwrap();
    session.set("big", &300).unwrap();
    session.set("negative", &-1).unwrap();
    assert!(session.get::<u64>("text").is_err());
    assert!(session.get::<u8>("big").is_err());
    assert!(session.get::<u64>("negative").is_err());
    assert!(session.get::<String>("big").is_err());
    assert!(session.get::<Item>("text").is_err());
    assert_eq!(session.get::<u64>("missing").unwrap(), None);
    // A failed look changes nothing.
    assert_eq!(session.get::<u16>("big").unwrap(), Some(300));
}

#[tokio::test]
async fn values_can_be_removed_copied_replaced_and_cleared() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    assert!(session.has("ipversion"));
    assert!(!session.has("a"));
    session.set("a", &1).unwrap();
    session.set("b", &2).unwrap();
    assert!(session.has("a"));
    session.set("a", &3).unwrap();
    let expected = json!({"ipversion": "ipv4", "a": 3, "b": 2});
    assert_eq!(Some(&session.data()), expected.as_object());

    session.remove("a");
    session.remove("never there");
    assert!(!session.has("a"));
    assert_eq!(session.get::<i32>("b").unwrap(), Some(2));

    let mut copy = session.data();
    copy.insert("c".to_owned(), json!([4]));
    assert!(!session.has("c"), "a copy is not the data");
    session.set_data(Map::from_iter([("d".to_owned(), json!(5))]));
    assert_eq!(session.data().len(), 1);
    assert_eq!(session.get::<i32>("d").unwrap(), Some(5));

    session.clear();
    assert!(session.data().is_empty());
    assert!(!session.has("ipversion"));
}

#[tokio::test]
async fn the_ip_version_is_that_of_the_peer() {
    let server = bare().await;
    let (_tcp, session) = connect(&server, 1).await;
    assert!(session.peer_addr().is_some());
    assert_eq!(session.get::<String>("ipversion").unwrap().as_deref(), Some("ipv4"));

    let (ours, theirs) = tokio::io::duplex(1024);
    server.pipes.arrive(Incoming::ready(Some("[2001:db8::1]:4000".parse().unwrap()), theirs)).await;
    let mut raw = Raw::over(ours);
    raw.shake_hands().await;
    let session = server.app.session(SessionId::new(2)).unwrap();
    assert_eq!(session.get::<String>("ipversion").unwrap().as_deref(), Some("ipv6"));
    session.set("other", &1).unwrap();
    assert_eq!(session.data()["ipversion"], "ipv6");
}

/// Refuses to be written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

#[tokio::test]
async fn a_value_without_json_form_is_an_error_and_the_old_value_stays() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    session.set("key", "old").unwrap();
    // JSON has texts as keys, and no integers of 128 bits.
    let error = session.set("key", &HashMap::from([((1, 2), 3)])).unwrap_err();
    assert_eq!(error.code(), code::UNKNOWN);
    assert!(session.set("key", &u128::MAX).is_err());
    assert!(session.set("key", &Unwritable).is_err());
    assert_eq!(session.get::<String>("key").unwrap().as_deref(), Some("old"));
    assert!(session.set("other", &Unwritable).is_err());
    assert!(!session.has("other"));
}

#[tokio::test]
async fn concurrent_writers_of_different_keys_lose_nothing() {
    let server = bare().await;
    let (_client, session) = connect(&server, 1).await;
    let writers = (0..8).map(|writer| {
        let session = session.clone();
        tokio::task::spawn(async move {
            for round in 0..100 {
                session.set(format!("{writer}.{round}"), &round).unwrap();
                tokio::task::yield_now().await;
            }
        })
    });
    futures_util::future::join_all(writers).await.into_iter().for_each(|writer| writer.unwrap());
    assert_eq!(session.data().len(), 8 * 100 + 1);
}

struct Pusher;

#[handlers(name = "pusher")]
impl Pusher {
    /// Pushes now, and once more from a task that outlives the request.
    #[request]
    async fn go(&self, app: App, session: Session) -> Result<Json<&'static str>> {
        session.push("now", Json(1)).await?;
        let later = session.clone();
        app.tasks().spawn("pusher", async move {
            later.push("later", Json(json!({"text": "ü"}))).await.unwrap();
        });
        session.push("now", Json(2)).await?;
        Ok(Json("done"))
    }

    #[request]
    async fn kick_me(&self, session: Session) -> Result<Json<&'static str>> {
        session.push("last", Json("words")).await?;
        session.kick().await?;
        Ok(Json("never seen"))
    }

    #[request]
    async fn close_me(&self, session: Session) -> Result<Json<&'static str>> {
        session.push("last", Json("words")).await?;
        session.close();
        Ok(Json("never seen"))
    }
}

#[tokio::test]
async fn pushes_of_a_handler_come_before_its_answer_and_those_of_a_task_come_too() {
    let server = serve(Server::frontend("game").handlers(Pusher)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(7, "pusher.go", "")).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let message = raw.message().await.unwrap();
        seen.push((message.kind, message.route, String::from_utf8(message.body.to_vec()).unwrap()));
    }
    let later = seen.iter().position(|(_, route, _)| route == "later").expect("the push of the task");
    assert_eq!(seen.remove(later), (MessageKind::Push, "later".to_owned(), r#"{"text":"ü"}"#.to_owned()));
    assert_eq!(
        seen,
        [
            (MessageKind::Push, "now".to_owned(), "1".to_owned()),
            (MessageKind::Push, "now".to_owned(), "2".to_owned()),
            (MessageKind::Response, String::new(), r#""done""#.to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_kick_writes_what_was_queued_then_the_kick_packet_then_closes() {
    let server = serve(Server::frontend("game").handlers(Pusher)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "pusher.kick_me", "")).await;
    let push = raw.message().await.unwrap();
    assert_eq!((push.kind, push.route.as_str()), (MessageKind::Push, "last"));
    let kick = raw.packet_but_heartbeat().await.unwrap();
    assert_eq!((kick.kind, kick.body.len()), (PacketKind::Kick, 0));
    assert_eq!(raw.packet().await, None);
}

#[tokio::test]
async fn a_close_writes_what_was_queued_and_sends_no_kick() {
    let server = serve(Server::frontend("game").handlers(Pusher)).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "pusher.close_me", "")).await;
    let push = raw.message().await.unwrap();
    assert_eq!((push.kind, push.route.as_str()), (MessageKind::Push, "last"));
    assert_eq!(raw.packet_but_heartbeat().await, None);
}

#[tokio::test]
async fn clients_on_both_transports_are_kicked_from_outside_of_a_handler() {
    let server = bare().await;
    let (tcp, first) = connect(&server, 1).await;
    let ws = server.ws_client().await;
    let second = server.app.session(SessionId::new(2)).unwrap();
    first.kick().await.unwrap();
    second.kick().await.unwrap();
    assert!(matches!(soon("the kick", tcp.closed()).await, CloseReason::Kicked));
    assert!(matches!(soon("the kick", ws.closed()).await, CloseReason::Kicked));
    eventually("both sessions are gone", || server.app.session_count() == 0).await;
}

#[tokio::test]
async fn a_closed_session_is_harmless_and_says_that_it_is_closed() {
    let server = bare().await;
    let (client, session) = connect(&server, 1).await;
    session.set("kept", &1).unwrap();
    assert!(!session.is_closed());
    client.close();
    soon("the session closes", session.closed()).await;
    assert!(session.is_closed());
    soon("it closed already", session.closed()).await;

    let gone = |result: Result<()>| assert_eq!(result.unwrap_err().code(), code::CLIENT_CLOSED);
    gone(session.push("route", Json(1)).await);
    gone(session.kick().await);
    gone(session.bind("ada").await);
    gone(session.on_close(|_| async {}));
    session.close();
    assert_eq!(server.app.session_of(&uid("ada")), None);
    assert_eq!(session.get::<i32>("kept").unwrap(), Some(1));
}

#[tokio::test]
async fn a_push_that_cannot_be_written_is_an_error_and_costs_nothing_else() {
    let server = bare().await;
    let (client, session) = connect(&server, 1).await;
    let mut pushes = client.pushes();
    assert!(session.push("route", Json(Unwritable)).await.is_err());
    assert!(session.push("", Json(1)).await.is_err());
    assert!(session.push(&"r".repeat(256), Json(1)).await.is_err());
    session.push(&"r".repeat(255), Json(1)).await.unwrap();
    let push = soon("the good push", pushes.next()).await.unwrap();
    assert_eq!(push.route.len(), 255);
}

const WRITERS: usize = 16;
const PUSHES: usize = 200;

#[derive(Debug, Serialize, Deserialize)]
struct Numbered {
    writer: usize,
    number: usize,
    filling: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_of_many_tasks_never_interleave_and_keep_the_order_of_each() {
    let server = bare().await;
    for over_ws in [false, true] {
        let address = if over_ws { format!("ws://{}", server.ws) } else { format!("tcp://{}", server.tcp) };
        let client = Client::builder(&address).connect_timeout(PATIENCE).push_capacity(WRITERS * PUSHES);
        let client = client.connect().await.unwrap();
        let mut pushes = client.pushes();
        let session = server.app.session(SessionId::new(1 + i64::from(over_ws))).unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let session = session.clone();
            tokio::task::spawn(async move {
                for number in 0..PUSHES {
                    let filling = "x".repeat((writer * 37 + number * 13) % 700);
                    session.push("numbered", Json(Numbered { writer, number, filling })).await.unwrap();
                    if number % 8 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        let writers = futures_util::future::join_all(writers);
        let reader = async {
            let mut next = [0; WRITERS];
            for _ in 0..WRITERS * PUSHES {
                let push = soon("the next push", pushes.next()).await.unwrap();
                let Numbered { writer, number, filling } = push.json().unwrap();
                assert_eq!(number, next[writer]);
                assert_eq!(filling.len(), (writer * 37 + number * 13) % 700);
                next[writer] += 1;
            }
        };
        let (written, ()) = futures_util::future::join(writers, reader).await;
        written.into_iter().for_each(|writer| writer.unwrap());
        assert_eq!(pushes.lagged(), 0);
    }
}

/// Tasks push while others close: each push is queued or refused as closed, and nothing panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_while_many_tasks_push_is_an_orderly_refusal() {
    let server = bare().await;
    for number in 1..=20 {
        let (client, session) = connect(&server, number).await;
        let pushers = (0..4).map(|_| {
            let session = session.clone();
            tokio::task::spawn(async move {
                loop {
                    match session.push("route", Json("x".repeat(100))).await {
                        Ok(()) => tokio::task::yield_now().await,
                        Err(error) => return error,
                    }
                }
            })
        });
        let pushers: Vec<_> = pushers.collect();
        match number % 3 {
            0 => client.close(),
            1 => session.close(),
            _ => drop(session.kick().await),
        }
        for pusher in pushers {
            let error: Error = soon("the pusher ends", pusher).await.unwrap();
            assert_eq!(error.code(), code::CLIENT_CLOSED);
        }
    }
    eventually("all sessions are gone", || server.app.session_count() == 0).await;
}

/// A frontend with one handler that takes the session.
fn with_handler<F, Fut>(builder: ServerBuilder, handler: F) -> ServerBuilder
where
    F: Fn(Session) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    builder.component(Component::builder("session", Arc::new(())).request("use", handler).build())
}
