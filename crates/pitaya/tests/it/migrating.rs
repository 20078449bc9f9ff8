//! The names in `docs/migrating.md`: what its table has for those of Go exists, and is used as it says.

use std::{future, time::Duration};

use pitaya::{
    Cluster, GroupError, JsonSerializer, Lifecycle, ServerId, SessionId,
    cluster::Routing,
    config::Preset,
    prelude::{App, Context, Error, Json, Protobuf, Reply, Request, Result, Server, Session, Uid},
};
use serde_json::Map;

struct Module;

impl Lifecycle for Module {}

#[tokio::test]
async fn the_names_of_a_server_are_there() {
    let server = Server::backend("game")
        .preset(Preset::GoV2)
        .id("game-1")
        .cluster(Cluster::from_config())
        .serializer(JsonSerializer)
        .router("room", async |routing: Routing| -> Result<ServerId> {
            let first = routing.servers().first().map(|server| server.id.clone());
            first.ok_or_else(|| Error::not_found("no room"))
        })
        .dictionary([("game.room.score", 1_u16)])
        .push_codes()
        .expose(["room"])
        .before(|request: Request| future::ready(Ok(request)))
        .after(|_, reply: Reply| future::ready(reply))
        .on_bind(|_, _| future::ready(Ok(())))
        .on_after_bind(|_, _| future::ready(Ok(())))
        .on_close(|_, _| future::ready(()))
        .handshake_validator("version", |_, _| future::ready(Ok(())))
        .module("module", Module)
        .module_before("earlier", Module)
        .build()
        .unwrap();
    let app = server.app();
    assert_eq!(app.server().id.as_str(), "game-1");
    assert!(!app.is_ready());
    assert!(app.servers().of_kind("room").is_empty());
    assert_eq!(app.servers().iter().count(), usize::from(app.servers().get(&app.server().id).is_some()));
    assert!(app.module_named::<Module>("earlier").is_ok());
    assert!(app.config().report().to_string().contains("pitaya.cluster.sd.etcd.heartbeatinterval"));
    drop(server.serve().with_graceful_shutdown(future::ready(())).with_signals());
}

/// Only compiled: what these do is shown by the tests of each.
#[expect(dead_code, reason = "the names are what counts")]
async fn of_sessions(app: App, session: Session, mut context: Context, uid: Uid, id: SessionId) -> Result<()> {
    session.bind(uid.clone()).await?;
    session.push("onScore", Json(1)).await?;
    session.set("score", &1)?;
    let _: Option<u64> = session.get("score")?;
    let _: bool = session.has("score");
    session.remove("score");
    session.set_data(Map::new());
    let _: Map<_, _> = session.data();
    session.clear();
    session.push_to_front().await?;
    session.on_close(|_| future::ready(()))?;
    let _: Uid = session.uid()?;
    session.kick().await?;
    session.close();
    let _: Option<String> = context.metadata().and_then(|metadata| metadata.text("key"));
    context.metadata_mut().set("key", "value");
    let _: (Option<Session>, Option<Session>) = (app.session_of(&uid), app.session(id));
    let _: (usize, usize) = (app.session_count(), app.close_all());
    Ok(())
}

/// Only compiled, too.
#[expect(dead_code, reason = "the names are what counts")]
async fn of_the_app(app: App, uid: Uid, id: ServerId) -> Result<()> {
    app.ready().await;
    app.push("onScore", Json(1)).to_users("connector", [uid.clone()]).await?.all()?;
    app.kick("connector", [uid]).await?.all()?;
    let _: Protobuf<()> = app.rpc("game.room.ping", Protobuf(())).reply().await?;
    let _: Protobuf<()> = app.rpc("game.room.ping", Protobuf(())).to(&id).reply().await?;
    app.tasks()
        .timer("tick")
        .after(Duration::ZERO)
        .every(Duration::from_secs(1))
        .times(3)
        .when(|| true)
        .run(async || {});
    Err(Error::new("GAME-1", "why").with("key", "value"))
}

/// Only compiled, too.
#[expect(dead_code, reason = "the names are what counts")]
async fn of_groups(app: App, uid: Uid) -> std::result::Result<(), GroupError> {
    let group = app.group("all");
    group.create().await?;
    group.create_with_ttl(Duration::from_secs(60)).await?;
    group.renew_ttl().await?;
    group.add(&uid).await?;
    let _: (Vec<Uid>, bool, usize) = (group.members().await?, group.contains(&uid).await?, group.len().await?);
    drop(group.broadcast("connector", "onScore", Json(1)).await);
    group.remove(&uid).await?;
    group.remove_all().await?;
    group.delete().await
}
