//! The handlers `testsvc.*`.

use pitaya::{GroupError, Lifecycle, prelude::*};
use serde::Deserialize;

use crate::remotes::{TestRequest, TestResponse};

/// The group that every user joins who binds.
const GROUP: &str = "g1";

/// The server type that clients of the suite connect to.
const FRONTEND: &str = "connector";

/// What clients can call.
pub(crate) struct TestSvc;

/// A user RPC that a client wants to be made.
#[derive(Deserialize)]
struct Rpc {
    route: String,
    #[serde(default)]
    data: String,
}

/// A push that a client wants to be sent to users.
#[derive(Deserialize)]
struct SendToUsers {
    uids: Vec<String>,
    msg: String,
}

impl Lifecycle for TestSvc {
    async fn init(&self, app: &App) -> Result<()> {
        Ok(app.group(GROUP).create().await?)
    }
}

#[handlers(name = "testsvc", rename_all = "lowercase")]
impl TestSvc {
    #[request]
    async fn test_request_kick_user(&self, app: App, uid: Bytes) -> Result<Json<TestResponse>> {
        let session = app.session_of(&user(&uid)?).ok_or_else(|| Error::not_found("session not found"))?;
        session.kick().await?;
        Ok(Json(TestResponse::ok("ok")))
    }

    #[request]
    async fn test_request_kick_me(&self, session: Session) -> Result<Json<TestResponse>> {
        session.kick().await?;
        Ok(Json(TestResponse::ok("ok")))
    }

    #[request]
    async fn test_request_only_session_returns_ptr(&self) -> Json<TestResponse> {
        Json(TestResponse::ok("hello"))
    }

    #[request]
    async fn test_request_only_session_returns_ptr_nil(&self) -> Option<Json<TestResponse>> {
        None
    }

    #[request]
    async fn test_request_only_session_returns_raw_nil(&self) -> Option<Bytes> {
        None
    }

    #[request]
    async fn test_request_returns_ptr(&self, Json(request): Json<TestRequest>) -> Json<TestResponse> {
        Json(TestResponse::ok(request.msg))
    }

    #[request]
    async fn test_request_returns_raw(&self, Json(request): Json<TestRequest>) -> Bytes {
        request.msg.into()
    }

    #[request]
    async fn test_request_receive_returns_raw(&self, body: Bytes) -> Bytes {
        body
    }

    #[request]
    async fn test_request_returns_error(&self) -> Result<Bytes> {
        Err(Error::new("PIT-555", "somerror"))
    }

    /// Binds to a user that nobody else is.
    #[request]
    async fn test_bind(&self, app: App, session: Session) -> Result<Bytes> {
        bind_and_join(&app, &session, format!("{:032x}", fastrand::u128(..)).try_into()?).await
    }

    #[request]
    async fn test_bind_id(&self, app: App, session: Session, uid: Bytes) -> Result<Bytes> {
        bind_and_join(&app, &session, user(&uid)?).await
    }

    #[request]
    async fn test_only_bind_id(&self, session: Session, uid: Bytes) -> Result<Bytes> {
        bind(&session, user(&uid)?).await?;
        Ok(Bytes::from_static(b"ack"))
    }

    #[notify]
    async fn test_send_group_msg(&self, app: App, msg: Bytes) -> Result<()> {
        app.group(GROUP).broadcast(FRONTEND, "route.test", msg).await?.all()
    }

    #[notify]
    async fn test_send_group_msg_ptr(&self, app: App, Json(msg): Json<TestRequest>) -> Result<()> {
        app.group(GROUP).broadcast(FRONTEND, "route.testptr", Json(msg)).await?.all()
    }

    #[notify]
    async fn test_send_to_users(&self, app: App, Json(send): Json<SendToUsers>) -> Result<()> {
        let uids = send.uids.iter().map(|uid| Ok(Uid::try_from(uid)?)).collect::<Result<Vec<_>>>()?;
        app.push("route.sendtousers", Bytes::from(send.msg)).to_users(FRONTEND, uids).await?.all()
    }

    #[request]
    async fn test_send_rpc(&self, app: App, context: Context, Json(rpc): Json<Rpc>) -> Result<Json<TestResponse>> {
        let argument = Protobuf(TestRequest { msg: rpc.data });
        let call = app.rpc(&rpc.route, argument).in_course_of(&context);
        let Protobuf(answer) = call.reply().await?;
        Ok(Json(answer))
    }

    #[request]
    async fn test_send_rpc_no_args(
        &self,
        app: App,
        context: Context,
        Json(rpc): Json<Rpc>,
    ) -> Result<Json<TestResponse>> {
        let call = app.rpc(&rpc.route, Protobuf(())).in_course_of(&context);
        let Protobuf(answer) = call.reply().await?;
        Ok(Json(answer))
    }
}

/// A body that is the id of a user.
fn user(body: &Bytes) -> Result<Uid> {
    let text = str::from_utf8(body).map_err(|_| Error::bad_request("a uid is text"))?;
    Ok(Uid::try_from(text)?)
}

async fn bind_and_join(app: &App, session: &Session, uid: Uid) -> Result<Bytes> {
    bind(session, uid.clone()).await?;
    app.group(GROUP).add(&uid).await.map_err(|error| not_a_member(&error))?;
    Ok(Bytes::from_static(b"ack"))
}

async fn bind(session: &Session, uid: Uid) -> Result<()> {
    session.bind(uid).await.map_err(|error| Error::new("PIT-444", error.message().to_owned()))
}

fn not_a_member(error: &GroupError) -> Error {
    Error::new("PIT-441", error.to_string())
}
