//! A serializer of the user, with nothing but what `pitaya` exports: lines of `key=value`.

use std::{collections::BTreeMap, sync::Arc};

use pitaya::{
    App, Bytes, Error, FromRequest, IntoPayload, IntoReply, Needs, Reply, Request, Result, Serializer, Server, Session,
    code, extract::TakesPayload, handlers,
};
use pitaya_client::{Client, RequestError, ServerError};
use pitaya_protocol::Message;

use super::game;
use crate::support::{Raw, Running, serve, soon};

const NAME: &str = "plain";

type Lines = BTreeMap<String, String>;

fn write(lines: &Lines) -> Bytes {
    lines.iter().map(|(key, value)| format!("{key}={value}\n")).collect::<String>().into()
}

fn read(body: &[u8]) -> Result<Lines> {
    let text = std::str::from_utf8(body).map_err(|_| Error::bad_request("not text"))?;
    let line = |line: &str| {
        let (key, value) = line.split_once('=').ok_or_else(|| Error::bad_request("a line without ="))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    text.lines().map(line).collect()
}

struct PlainSerializer;

impl Serializer for PlainSerializer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode_error(&self, error: &Error) -> Bytes {
        let mut lines = Lines::from([
            ("code".to_owned(), error.code().to_owned()),
            ("text".to_owned(), error.message().to_owned()),
        ]);
        lines.extend(error.metadata().iter().map(|(key, value)| (format!("with.{key}"), value.clone())));
        write(&lines)
    }
}

/// The payload type that belongs to it.
struct Plain<T>(T);

impl<T, C> FromRequest<C> for Plain<T>
where
    T: TryFrom<Lines, Error = Error>,
    C: Send + Sync,
{
    type Takes = TakesPayload;

    fn needs(needs: &mut Needs) {
        needs.format(NAME);
    }

    fn is_absent(request: &Request) -> bool {
        request.body.is_empty()
    }

    async fn from_request(request: &mut Request, _component: &Arc<C>) -> Result<Self> {
        let body = std::mem::take(&mut request.body);
        T::try_from(read(&body)?).map(Self)
    }
}

impl<T: Into<Lines> + Send> IntoPayload for Plain<T> {
    const FORMAT: Option<&'static str> = Some(NAME);

    fn into_payload(self) -> Result<Bytes> {
        Ok(write(&self.0.into()))
    }
}

impl<T: Into<Lines> + Send> IntoReply for Plain<T> {
    fn needs(needs: &mut Needs) {
        needs.format(NAME);
    }

    fn into_reply(self) -> Reply {
        self.into_payload()
    }
}

struct Move {
    x: i32,
    y: i32,
}

impl TryFrom<Lines> for Move {
    type Error = Error;

    fn try_from(lines: Lines) -> Result<Self> {
        let number = |key: &str| {
            let value = lines.get(key).ok_or_else(|| Error::bad_request(format!("{key} is missing")))?;
            value.parse().map_err(|_| Error::bad_request(format!("{key} is no number")))
        };
        Ok(Self { x: number("x")?, y: number("y")? })
    }
}

impl From<Move> for Lines {
    fn from(Move { x, y }: Move) -> Self {
        Self::from([("x".to_owned(), x.to_string()), ("y".to_owned(), y.to_string())])
    }
}

struct Board;

#[handlers(name = "board")]
impl Board {
    #[request]
    async fn turn(&self, session: Session, Plain(to): Plain<Move>) -> Result<Plain<Move>> {
        if to.x > 100 {
            return Err(Error::new("BOARD-1", "off the board").with("limit", 100));
        }
        session.push("turned", Plain(Move { x: to.y, y: to.x })).await?;
        Ok(Plain(Move { x: to.y, y: to.x }))
    }

    #[request]
    async fn perhaps(&self, to: Option<Plain<Move>>) -> Bytes {
        Bytes::from(if to.is_some() { "some" } else { "none" })
    }

    #[request]
    async fn enter(&self, app: App, session: Session) -> Result<()> {
        session.bind("ada").await?;
        let group = app.group("board");
        group.create().await?;
        group.add(&session.uid()?).await?;
        group.broadcast("game", "entered", Plain(Move { x: 0, y: 1 })).await?.all()
    }

    #[request]
    async fn wrong_format(&self, session: Session) -> Result<()> {
        session.push("never", pitaya::Json(1)).await
    }
}

async fn board() -> (Running, Client) {
    let server = serve(Server::frontend("game").serializer(PlainSerializer).handlers(Board)).await;
    let client = server.client().await;
    (server, client)
}

/// The error, read in its own format.
fn lines_of(answer: std::result::Result<Bytes, RequestError>) -> Lines {
    let ServerError { raw, .. } = crate::support::refused(answer);
    read(&raw).unwrap()
}

#[tokio::test]
async fn the_handshake_announces_the_serializer_of_the_user() {
    let (server, client) = board().await;
    assert_eq!(client.handshake().serializer, NAME);
    assert_eq!(server.ws_client().await.handshake().serializer, NAME);
    assert_eq!(serve(Server::frontend("game")).await.client().await.handshake().serializer, "json");
}

#[tokio::test]
async fn arguments_results_and_pushes_are_written_in_the_format_of_the_user() {
    let (_server, client) = board().await;
    let mut turned = client.on("turned");
    assert_eq!(client.request_bytes("board.turn", "x=1\ny=-2").await.unwrap(), "x=-2\ny=1\n");
    assert_eq!(soon("the push", turned.next()).await.unwrap().body, "x=-2\ny=1\n");
    let mut entered = client.on("entered");
    assert_eq!(client.request_bytes("board.enter", "").await.unwrap(), "");
    assert_eq!(soon("the broadcast", entered.next()).await.unwrap().body, "x=0\ny=1\n");
    assert_eq!(client.request_bytes("board.perhaps", "").await.unwrap(), "none");
    assert_eq!(client.request_bytes("board.perhaps", "x=1\ny=2").await.unwrap(), "some");
}

#[tokio::test]
async fn errors_of_handlers_arguments_and_of_the_server_are_written_in_the_format_of_the_user() {
    let (_server, client) = board().await;
    let lines = lines_of(client.request_bytes("board.turn", "x=101\ny=0").await);
    let expected = [("code", "BOARD-1"), ("text", "off the board"), ("with.limit", "100")];
    assert_eq!(lines, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let lines = lines_of(client.request_bytes("board.turn", "x=1").await);
    assert_eq!((lines["code"].as_str(), lines["text"].as_str()), (code::BAD_REQUEST, "y is missing"));
    let lines = lines_of(client.request_bytes("board.none", "").await);
    assert_eq!(lines["code"], code::NOT_FOUND);
    assert_eq!(lines["text"], "pitaya/handler: game.board.none not found");
    let lines = lines_of(client.request_bytes("other.board.turn", "").await);
    assert_eq!(lines["code"], code::INTERNAL);
}

#[tokio::test]
async fn a_push_in_another_format_is_refused() {
    let (_server, client) = board().await;
    assert_eq!(lines_of(client.request_bytes("board.wrong_format", "").await)["code"], code::UNKNOWN);
}

#[tokio::test]
async fn the_bytes_on_the_wire_are_those_of_the_user() {
    let (server, _client) = board().await;
    let mut raw = Raw::established(server.tcp).await;
    raw.send_message(&Message::request(1, "board.turn", "x=\u{fc}")).await;
    let answer = raw.message().await.unwrap();
    assert!(answer.error);
    assert_eq!(answer.body, "code=PIT-400\ntext=x is no number\n");
}

#[test]
fn a_payload_of_the_user_needs_the_serializer_of_the_user() {
    let error = game().handlers(Board).build().unwrap_err();
    let routes: Vec<_> = error
        .problems()
        .iter()
        .map(|problem| match problem {
            pitaya::Problem::Format { route, format: NAME, serializer: "json" } => route.method().to_owned(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(routes, ["turn", "perhaps"]);
}
