//! Servers of ours with the handlers and remotes of the recorded ones.

use std::{future::IntoFuture as _, net::SocketAddr, time::Duration};

use pitaya::{
    App, Bytes, Cluster, Context, Error, Json, Protobuf, ProtobufSerializer, Result, ServeError, Server, ServerBuilder,
    ServerId, Session, TcpAcceptor, Uid, config::Preset, handlers, remotes,
};
use pitaya_fixtures::Etcd;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    recording::kind_of,
    replay::{PATIENCE, eventually},
    tap::{Log, Tap},
};

/// `test.TestRequest` of the recordings.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestRequest {
    #[prost(string, tag = "1")]
    pub(crate) msg: String,
}

/// `test.TestResponse` of the recordings.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TestResponse {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) msg: String,
}

fn text(code: i32, msg: impl Into<String>) -> Protobuf<TestResponse> {
    Protobuf(TestResponse { code, msg: msg.into() })
}

/// What handlers with any arguments are asked.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    msg: String,
    uid: String,
    uids: Vec<String>,
    r#type: String,
    group: String,
    route: String,
    id: String,
    data: Map<String, Value>,
    noarg: bool,
    ms: u64,
}

fn ok() -> Json<Value> {
    Json(json!({"ok": true}))
}

fn users(uids: &[String]) -> Result<Vec<Uid>> {
    uids.iter().map(|uid| Ok(Uid::try_from(uid.as_str())?)).collect()
}

/// As the recorded handlers wrote what the framework said of users.
fn delivered(asked: &Asked, result: Result<pitaya::Delivery>) -> Json<Value> {
    match result {
        Ok(delivery) if delivery.failed.is_empty() => {
            Json(json!({"ok": true, "info": {"err": "<nil>", "failed": null}}))
        }
        Ok(delivery) => {
            let failed: Vec<_> = delivery.failed.iter().map(Uid::as_str).collect();
            Json(json!({"ok": false, "info": {"err": "some failed", "failed": failed}}))
        }
        Err(error) => Json(json!({"ok": false, "info": {"err": error.message(), "failed": asked.uids}})),
    }
}

struct Room;

#[handlers(name = "room")]
impl Room {
    #[request]
    async fn echo(&self, Json(asked): Json<Asked>) -> Json<Value> {
        Json(json!({"msg": asked.msg}))
    }

    #[request]
    async fn raw(&self, body: Bytes) -> Bytes {
        body
    }

    #[request]
    async fn who(&self, session: Session) -> Json<Value> {
        let uid = session.uid().map(|uid| uid.to_string()).unwrap_or_default();
        Json(json!({"ok": true, "info": {"data": session.data(), "uid": uid}}))
    }

    #[request]
    async fn bind(&self, session: Session, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        session.bind(asked.uid.as_str()).await?;
        Ok(ok())
    }

    #[request]
    async fn setdata(&self, session: Session, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        for (key, value) in &asked.data {
            session.set(key, value)?;
        }
        session.push_to_front().await?;
        Ok(ok())
    }

    #[request]
    async fn errcoded(&self) -> Result<()> {
        Err(Error::new("ROOM-42", "no gold").with("need", 10).with("have", 3))
    }

    #[request]
    async fn errplain(&self) -> Result<()> {
        Err(Error::plain("plain trouble"))
    }

    #[request]
    async fn panic(&self) -> Bytes {
        panic!("boom")
    }

    #[notify]
    async fn note(&self, Json(_asked): Json<Asked>) {}

    #[notify]
    async fn noteerr(&self, Json(_asked): Json<Asked>) -> Result<()> {
        Err(Error::plain("note failed"))
    }

    #[request]
    async fn slow(&self, Json(asked): Json<Asked>) -> Json<Value> {
        tokio::time::sleep(Duration::from_millis(asked.ms)).await;
        ok()
    }

    #[request]
    async fn rpc(&self, app: App, mut context: Context, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        for (key, value) in asked.data {
            context.metadata_mut().set(key, value);
        }
        // No argument and the empty one are the same bytes.
        let msg = if asked.noarg { String::new() } else { asked.msg };
        let mut call = app.rpc(&asked.route, Protobuf(TestRequest { msg })).in_course_of(&context);
        if !asked.id.is_empty() {
            call = call.to(&ServerId::try_from(asked.id)?);
        }
        let Protobuf(reply) = call.reply::<Protobuf<TestResponse>>().await?;
        Ok(Json(json!({"ok": true, "info": {"code": reply.code, "msg": reply.msg}})))
    }

    #[request]
    async fn pushusers(&self, app: App, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        let push = app.push("onPush", Json(json!({"msg": asked.msg})));
        let result = push.to_users(asked.r#type.as_str(), users(&asked.uids)?).await;
        Ok(delivered(&asked, result))
    }

    #[request]
    async fn kickusers(&self, app: App, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        let result = app.kick(asked.r#type.as_str(), users(&asked.uids)?).await;
        Ok(delivered(&asked, result))
    }

    #[request]
    async fn selfpush(&self, session: Session, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        session.push("onSelf", Json(json!({"msg": asked.msg}))).await?;
        Ok(ok())
    }

    #[request]
    async fn kickme(&self, session: Session) -> Result<Json<Value>> {
        session.kick().await?;
        Ok(ok())
    }

    #[request]
    async fn closeme(&self, session: Session) -> Json<Value> {
        session.close();
        ok()
    }

    #[request]
    async fn group(&self, app: App, Json(asked): Json<Asked>) -> Result<Json<Value>> {
        assert_eq!(asked.route, "broadcast");
        let group = app.group(asked.group.as_str());
        group.broadcast(asked.r#type.as_str(), "onGroup", Json(json!({"msg": asked.msg}))).await?.all()?;
        Ok(ok())
    }
}

/// The handlers of servers whose serializer is protobuf.
struct ProtobufRoom;

#[handlers(name = "room")]
impl ProtobufRoom {
    #[request]
    async fn pbecho(&self, Protobuf(asked): Protobuf<TestRequest>) -> Result<Protobuf<TestResponse>> {
        if asked.msg == "fail" {
            return Err(Error::new("ROOM-43", "pb failed").with("k", "v"));
        }
        Ok(text(200, asked.msg))
    }
}

struct Svc;

#[remotes(name = "svc")]
impl Svc {
    #[remote]
    async fn echo(&self, Protobuf(asked): Protobuf<TestRequest>) -> Protobuf<TestResponse> {
        text(200, asked.msg)
    }

    #[remote]
    async fn noarg(&self) -> Protobuf<TestResponse> {
        text(201, "")
    }

    #[remote]
    async fn empty(&self) -> Protobuf<TestResponse> {
        text(0, "")
    }

    #[remote]
    async fn ctx(&self, context: Context) -> Protobuf<TestResponse> {
        let entries = context.metadata().unwrap().entries();
        text(200, Value::Object(entries).to_string())
    }

    #[remote]
    async fn chain(&self, app: App, mut context: Context, Protobuf(asked): Protobuf<TestRequest>) -> Result<Bytes> {
        context.metadata_mut().set("hop", 2);
        let call = app.rpc(&asked.msg, Protobuf(TestRequest { msg: "from chain".into() }));
        call.in_course_of(&context).reply().await
    }

    #[remote]
    async fn slow(&self, Protobuf(asked): Protobuf<TestRequest>) -> Protobuf<TestResponse> {
        let ms = asked.msg.strip_suffix("ms").unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(ms)).await;
        text(200, asked.msg)
    }

    #[remote]
    async fn errcoded(&self) -> Result<()> {
        Err(Error::new("SVC-7", "remote refused").with("why", "closed"))
    }

    #[remote]
    async fn errplain(&self) -> Result<()> {
        Err(Error::plain("plain remote trouble"))
    }

    #[remote]
    async fn panic(&self) -> Bytes {
        panic!("remote boom")
    }
}

/// One of our servers, in the place of a recorded one.
pub(crate) struct Node {
    pub(crate) app: App,
    /// Where clients connect; of no use on a backend.
    pub(crate) tcp: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ServeError>>,
    _taps: [Tap; 2],
}

/// A frontend of ours without a cluster, for what concerns clients only, under the preset of a Go version.
pub(crate) async fn alone(
    settings: &[(&'static str, &'static str)],
) -> (SocketAddr, JoinHandle<Result<(), ServeError>>) {
    let acceptor = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
    let address = acceptor.address();
    let mut builder = Server::frontend("connector").preset(Preset::GoV2).acceptor(acceptor).handlers(Room);
    for (key, value) in settings {
        builder = builder.set_text(*key, *value);
    }
    (address, tokio::spawn(builder.build().unwrap().serve().into_future()))
}

/// How servers of a test are made.
pub(crate) struct Recipe<'a> {
    pub(crate) etcd: &'a Etcd,
    pub(crate) nats: String,
    pub(crate) log: &'a Log,
    pub(crate) preset: Preset,
    pub(crate) protobuf: bool,
    /// Settings of all servers, or of one.
    pub(crate) settings: &'a [(&'static str, &'static str, &'static str)],
}

impl Node {
    /// Starts the server of this id; its type is that of the recordings.
    pub(crate) async fn start(id: &str, recipe: &Recipe<'_>) -> Self {
        let kind = kind_of(id);
        let builder = if kind == "connector" { Server::frontend(kind) } else { Server::backend(kind) };
        Self::start_with(builder.id(id), id, kind == "connector", recipe).await
    }

    pub(crate) async fn start_with(builder: ServerBuilder, id: &str, frontend: bool, recipe: &Recipe<'_>) -> Self {
        let taps = [1, 2].map(|connection| Tap::new(recipe.nats.clone(), id, connection, recipe.log));
        let [client, server] = taps;
        let taps = [client.await, server.await];
        // The line that makes a server fit a running Go cluster, and where that cluster is.
        let mut builder = builder
            .preset(recipe.preset)
            .cluster(Cluster::from_config())
            .set_text("pitaya.cluster.sd.etcd.endpoints", recipe.etcd.address())
            .set_text("pitaya.cluster.rpc.client.nats.connect", taps[0].url())
            .set_text("pitaya.cluster.rpc.server.nats.connect", taps[1].url())
            // Go servers do not say that they have handlers.
            .expose(["room", "game", "absent"])
            .remotes(Svc);
        builder = if recipe.protobuf {
            builder.serializer(ProtobufSerializer).handlers(ProtobufRoom)
        } else {
            builder.handlers(Room)
        };
        for (of, key, value) in recipe.settings {
            if of.is_empty() || *of == id {
                builder = builder.set_text(*key, *value);
            }
        }
        let mut tcp = None;
        if frontend {
            let acceptor = TcpAcceptor::bind("127.0.0.1:0").await.unwrap();
            tcp = Some(acceptor.address());
            builder = builder.acceptor(acceptor);
        }
        let server = builder.build().unwrap();
        let app = server.app();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = server.serve().with_graceful_shutdown(async { drop(stopped.await) });
        let serving = tokio::spawn(serve.into_future());
        eventually("a server starts", || app.is_ready()).await;
        Self { app, tcp, stop: Some(stop), serving, _taps: taps }
    }

    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    pub(crate) async fn stop(mut self) {
        self.begin_stop();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("a server stops").unwrap().unwrap();
    }
}
