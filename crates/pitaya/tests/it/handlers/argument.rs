//! What a handler can take: the extractors, and those that a user writes.

use std::{collections::HashMap, sync::Arc};

use pitaya::{
    App, Bytes, Component, Context, Error, FromRequest, Json, Request, Result, Route, Server, Session, Uid, code,
    extract::{State, TakesNothing, TakesPayload},
    handlers,
};
use pitaya_protocol::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Move;
use crate::support::{Events, Raw, eventually, refused, serve};

/// As a project would call it.
type Msg<T> = Json<T>;
type Answer<T, E = Error> = std::result::Result<Msg<T>, E>;

struct Prices(HashMap<String, u32>);

#[derive(Default)]
struct Missing;

struct Arguments;

#[handlers(name = "arguments")]
impl Arguments {
    #[request]
    async fn everything(
        self: Arc<Self>,
        session: Session,
        app: App,
        context: Context,
        route: Route,
        State(prices): State<Prices>,
        Json(item): Json<String>,
    ) -> Result<Json<Value>> {
        assert_eq!(context.session(), Some(&session));
        assert_eq!(app.session(session.id()), Some(session.clone()));
        Ok(Json(json!({
            "id": context.message_id(),
            "session": session.id().get(),
            "route": route.as_str(),
            "server": app.server().kind.as_str(),
            "price": prices.0.get(&item),
        })))
    }

    #[request]
    async fn twice(self: Arc<Self>, one: Session, this: Arc<Self>, other: Session) -> Json<bool> {
        Json(one == other && Arc::ptr_eq(&self, &this))
    }

    #[request]
    async fn optional_payload(&self, payload: Option<Json<Move>>) -> Json<Option<Move>> {
        Json(payload.map(|Json(payload)| payload))
    }

    #[request]
    async fn optional_bytes(&self, payload: Option<Bytes>) -> Json<Option<usize>> {
        Json(payload.map(|payload| payload.len()))
    }

    #[request]
    async fn optional_session(&self, session: Option<Session>) -> Json<Option<i64>> {
        Json(session.map(|session| session.id().get()))
    }

    #[request]
    async fn optional_state(
        &self,
        there: Option<State<Prices>>,
        missing: Option<State<Missing>>,
    ) -> Json<(bool, bool)> {
        Json((there.is_some(), missing.is_some()))
    }

    #[request]
    async fn alias(&self, Json(here): Msg<Move>) -> Answer<Move> {
        Ok(Json(Move { x: here.x + 1, ..here }))
    }

    #[notify]
    async fn number(&self, context: Context, State(events): State<Events>) {
        events.add(format!("notify {}", context.message_id()));
    }
}

async fn arguments(events: &Events) -> crate::support::Running {
    let prices = Prices(HashMap::from([("sword".to_owned(), 12)]));
    serve(Server::frontend("game").handlers(Arguments).state(prices).state(events.clone())).await
}

#[tokio::test]
async fn all_extractors_stand_side_by_side() {
    let server = arguments(&Events::default()).await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(77, "arguments.everything", r#""sword""#)).await;
    let answer: Value = serde_json::from_slice(&raw.message().await.unwrap().body).unwrap();
    // The route is the full one, however the client wrote it.
    let expected = json!({"id": 77, "session": 1, "route": "game.arguments.everything", "server": "game", "price": 12});
    assert_eq!(answer, expected);
    raw.send_message(&Message::request(78, "arguments.twice", "")).await;
    assert_eq!(raw.message().await.unwrap().body, "true");
}

#[tokio::test]
async fn a_notify_has_the_id_0() {
    let events = Events::default();
    let server = arguments(&events).await;
    server.client().await.notify_bytes("arguments.number", "").await.unwrap();
    eventually("the notify is handled", || events.count("notify 0") == 1).await;
}

#[tokio::test]
async fn optional_arguments_are_none_where_there_is_nothing_and_errors_where_it_is_wrong() {
    let server = arguments(&Events::default()).await;
    let client = server.client().await;
    let ask = async |method: &str, body: &'static str| client.request_bytes(&format!("arguments.{method}"), body).await;
    assert_eq!(ask("optional_payload", "").await.unwrap(), "null");
    assert_eq!(ask("optional_payload", r#"{"x":1,"y":2}"#).await.unwrap(), r#"{"x":1,"y":2}"#);
    assert_eq!(refused(ask("optional_payload", "{").await).code, code::BAD_REQUEST);
    assert_eq!(ask("optional_bytes", "").await.unwrap(), "null");
    assert_eq!(ask("optional_bytes", "abc").await.unwrap(), "3");
    assert_eq!(ask("optional_session", "").await.unwrap(), "1");
    assert_eq!(ask("optional_state", "").await.unwrap(), "[true,false]");
}

#[tokio::test]
async fn type_aliases_of_payloads_work() {
    let server = arguments(&Events::default()).await;
    let client = server.client().await;
    let answer: Move = client.request("arguments.alias", &Move { x: 1, y: 2 }).await.unwrap();
    assert_eq!(answer, Move { x: 2, y: 2 });
    assert_eq!(refused(client.request_bytes("arguments.alias", "[]").await).code, code::BAD_REQUEST);
}

#[tokio::test]
async fn a_state_is_the_same_object_for_all_handlers() {
    let state = Arc::new(Events::default());
    let adding = Component::builder("state", Arc::new(()))
        .request("one", async |state: State<Events>| state.add("one"))
        .request("two", async |State(state): State<Events>| state.add("two"))
        .build();
    let server = serve(Server::frontend("game").component(adding).shared_state(Arc::clone(&state))).await;
    let client = server.client().await;
    client.request_bytes("state.one", "").await.unwrap();
    client.request_bytes("state.two", "").await.unwrap();
    assert_eq!(state.all(), ["one", "two"]);
    assert!(Arc::ptr_eq(&server.app.state::<Events>().unwrap(), &state));
    assert!(server.app.state::<Missing>().is_none());
}

/// The logged-in user: nobody else reaches a handler that takes it.
struct User(Uid);

impl<C: Send + Sync> FromRequest<C> for User {
    type Takes = TakesNothing;

    fn is_absent(request: &Request) -> bool {
        request.parts.session().and_then(Session::uid).is_err()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let session = request.parts.session()?;
        // Suspends, as one that asks a database would.
        tokio::task::yield_now().await;
        Ok(Self(session.uid().map_err(|_| Error::new("AUTH-001", "log in first").with("try", "login"))?))
    }
}

/// A payload with a rule: positive coordinates only.
struct OnBoard<T>(T);

impl<T, C> FromRequest<C> for OnBoard<T>
where
    T: AsRef<Move> + for<'de> Deserialize<'de> + Send,
    C: Send + Sync,
{
    type Takes = TakesPayload;

    fn needs(needs: &mut pitaya::Needs) {
        <Json<T> as FromRequest<C>>::needs(needs);
    }

    async fn from_request(request: &mut Request, component: &Arc<C>) -> Result<Self> {
        let Json(value) = Json::<T>::from_request(request, component).await?;
        if value.as_ref().x < 0 || value.as_ref().y < 0 {
            return Err(Error::new("GAME-002", "off the board"));
        }
        Ok(Self(value))
    }
}

impl AsRef<Self> for Move {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// What only one component can give its handlers.
struct Title(&'static str);

impl FromRequest<Custom> for Title {
    type Takes = TakesNothing;

    async fn from_request(_request: &mut Request, component: &Arc<Custom>) -> Result<Self> {
        Ok(Self(component.title))
    }
}

#[derive(Serialize)]
struct Placed {
    by: String,
    title: &'static str,
}

struct Custom {
    title: &'static str,
    calls: Events,
}

#[handlers(name = "custom")]
impl Custom {
    #[request]
    async fn login(&self, session: Session) -> Result<()> {
        session.bind("ada").await
    }

    #[request]
    async fn place(&self, user: User, Title(title): Title, OnBoard(to): OnBoard<Move>) -> Json<Placed> {
        self.calls.add(format!("place {},{}", to.x, to.y));
        Json(Placed { by: user.0.to_string(), title })
    }

    #[request]
    async fn maybe(&self, user: Option<User>) -> Json<bool> {
        Json(user.is_some())
    }
}

#[tokio::test]
async fn extractors_of_the_user_refuse_and_deliver_like_ours() {
    let calls = Events::default();
    let server = serve(Server::frontend("game").handlers(Custom { title: "king", calls: calls.clone() })).await;
    let client = server.client().await;
    let place = async |x, y| client.request::<Value>("custom.place", &Move { x, y }).await;
    let error = refused(place(1, 1).await);
    assert_eq!(error.code, "AUTH-001");
    assert_eq!(error.metadata["try"], "login");
    assert!(!client.request::<bool>("custom.maybe", &()).await.unwrap());

    client.request_bytes("custom.login", "").await.unwrap();
    assert!(client.request::<bool>("custom.maybe", &()).await.unwrap());
    assert_eq!(refused(place(-1, 1).await).code, "GAME-002");
    assert_eq!(refused(client.request_bytes("custom.place", "x").await).code, code::BAD_REQUEST);
    assert!(calls.all().is_empty(), "a refused argument calls no handler");
    assert_eq!(place(1, 2).await.unwrap(), json!({"by": "ada", "title": "king"}));
    assert_eq!(calls.all(), ["place 1,2"]);
}
