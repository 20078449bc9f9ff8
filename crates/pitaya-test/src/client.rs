//! A client that asserts what it gets.

use std::{any::type_name, collections::VecDeque, future::Future, net::SocketAddr, panic::Location, time::Duration};

use bytes::Bytes;
use pitaya::{App, Session};
use pitaya_client::{Client, CloseReason, Push, Pushes, RequestError, ServerError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::fail::{body, chain, fail, list};

/// How long an answer, a push or the end is waited for if the test does not say.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long nothing has to come so that nothing counts as having come.
const QUIET: Duration = Duration::from_millis(100);

/// A client of a [`TestGame`](crate::TestGame); dropping it closes the connection.
///
/// All its times are of tokio's clock. Pushes that a test does not ask for wait until it does.
#[derive(Debug)]
pub struct TestClient {
    client: Client,
    app: App,
    address: SocketAddr,
    pushes: Pushes,
    /// What has been looked at already, and was not what was asked for.
    waiting: VecDeque<Push>,
    patience: Duration,
}

impl TestClient {
    pub(crate) fn new(client: Client, app: App, address: SocketAddr) -> Self {
        Self { pushes: client.pushes(), client, app, address, waiting: VecDeque::new(), patience: PATIENCE }
    }

    /// Sets how long answers, pushes and the end are waited for from now on; 5 seconds if not set.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
        self.client = self.client.with_timeout(patience);
    }

    /// Sends a request and returns its answer; an empty one is read as `null`, so that `()` fits. Fails if the answer is an
    /// error, of another type, or does not come.
    #[track_caller]
    pub fn request<T: DeserializeOwned>(
        &self,
        route: &str,
        argument: &(impl Serialize + ?Sized),
    ) -> impl Future<Output = T> {
        let at = Location::caller();
        async move {
            let argument = self.encode(at, argument);
            match self.client.request_bytes(route, argument).await {
                Ok(answer) => decode(at, format_args!("the answer to {route}"), &answer),
                Err(error) => fail(at, format_args!("request {route} failed: {}", chain(&error))),
            }
        }
    }

    /// Sends a request and returns the error that it is answered with, which must have this code. Fails otherwise.
    #[track_caller]
    pub fn expect_error(
        &self,
        route: &str,
        argument: &(impl Serialize + ?Sized),
        code: &str,
    ) -> impl Future<Output = ServerError> {
        let at = Location::caller();
        async move {
            let argument = self.encode(at, argument);
            match self.client.request_bytes(route, argument).await {
                Err(RequestError::Server(error)) if error.code == code => error,
                Err(error) => fail(
                    at,
                    format_args!(
                        "request {route} should have failed with {code}, but failed otherwise: {}",
                        chain(&error)
                    ),
                ),
                Ok(answer) => fail(
                    at,
                    format_args!("request {route} should have failed with {code}, but was answered: {}", body(&answer)),
                ),
            }
        }
    }

    /// Sends a notify. It resolves when it is under way; what it does is seen in what happens. Fails if the connection has
    /// closed.
    #[track_caller]
    pub fn notify(&self, route: &str, argument: &(impl Serialize + ?Sized)) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let argument = self.encode(at, argument);
            if let Err(error) = self.client.notify_bytes(route, argument).await {
                fail(at, format_args!("notify {route} failed: {}", chain(&error)));
            }
        }
    }

    /// Waits for the next push on a route and returns it; an empty one is read as `null`. Those on other routes wait until
    /// they are asked for. Fails if none comes in time, with a list of those that wait, or if it is of another type.
    #[track_caller]
    pub fn expect_push<T: DeserializeOwned>(&mut self, route: &str) -> impl Future<Output = T> {
        let at = Location::caller();
        async move {
            match timeout(self.patience, self.find(route)).await {
                Ok(Some(push)) => decode(at, format_args!("the push on {route}"), &push.body),
                Ok(None) => {
                    let reason = self.client.closed().await;
                    fail(at, format_args!("no push on {route} came before the end ({reason}); {}", self.instead()))
                }
                Err(_) => {
                    let instead = self.instead();
                    fail(at, format_args!("no push on {route} came within {:?}; {instead}", self.patience))
                }
            }
        }
    }

    /// Checks that no push on a route waits, and that none comes for a tenth of a second. With a paused clock that is: none
    /// comes of anything that is under way, but for timers that are due later.
    #[track_caller]
    pub fn expect_no_push(&mut self, route: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            if let Ok(Some(push)) = timeout(QUIET, self.find(route)).await {
                fail(at, format_args!("a push on {route} came: {}", body(&push.body)));
            }
        }
    }

    /// Takes all pushes that have arrived and that nobody has asked for, in order.
    pub fn take_pushes(&mut self) -> Vec<Push> {
        self.look();
        self.waiting.drain(..).collect()
    }

    /// Waits until the server kicks this client. Fails if it does not in time, or closes the connection otherwise. What was
    /// pushed before can still be asked for.
    #[track_caller]
    pub fn expect_kick(&mut self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            match timeout(self.patience, self.client.closed()).await {
                Ok(CloseReason::Kicked) => {}
                Ok(reason) => fail(at, format_args!("the client was not kicked, but: {}", chain(&reason))),
                Err(_) => fail(at, format_args!("the client was not kicked within {:?}", self.patience)),
            }
        }
    }

    /// Waits until the connection ends, whoever ends it, and returns why. Fails if it does not in time.
    #[track_caller]
    pub fn expect_closed(&mut self) -> impl Future<Output = CloseReason> {
        let at = Location::caller();
        async move {
            match timeout(self.patience, self.client.closed()).await {
                Ok(reason) => reason,
                Err(_) => fail(at, format_args!("the connection did not end within {:?}", self.patience)),
            }
        }
    }

    /// Closes the connection, as a player who leaves, and waits until the server has noticed: the session is found no
    /// more, and its close callbacks are under way.
    #[track_caller]
    pub fn leave(self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let session = self.find_session();
            self.client.close();
            self.client.closed().await;
            if let Some(session) = session
                && timeout(self.patience, session.closed()).await.is_err()
            {
                fail(at, format_args!("the session of a client that left did not close within {:?}", self.patience));
            }
        }
    }

    /// The server's side of this connection. Fails if it has closed.
    #[track_caller]
    #[must_use]
    pub fn session(&self) -> Session {
        match self.find_session() {
            Some(session) => session,
            None => fail(Location::caller(), "the session of this client has closed"),
        }
    }

    /// The client itself, for what is not wrapped here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn find_session(&self) -> Option<Session> {
        self.app.sessions().into_iter().find(|session| session.peer_addr() == Some(self.address))
    }

    /// The next push on a route; `None` when the connection has ended.
    async fn find(&mut self, route: &str) -> Option<Push> {
        if let Some(index) = self.waiting.iter().position(|push| push.route == route) {
            return self.waiting.remove(index);
        }
        loop {
            let push = self.pushes.next().await?;
            if push.route == route {
                return Some(push);
            }
            self.waiting.push_back(push);
        }
    }

    /// Takes what has arrived.
    fn look(&mut self) {
        while let Some(push) = self.pushes.try_next() {
            self.waiting.push_back(push);
        }
    }

    /// What came, for the text of a failure.
    fn instead(&mut self) -> String {
        self.look();
        let lost = match self.pushes.lagged() {
            0 => String::new(),
            lost => format!("\n  (and {lost} more than the client keeps: see Builder::push_capacity)"),
        };
        if self.waiting.is_empty() {
            return format!("nothing else came either{lost}");
        }
        format!("these came instead:{}{lost}", list(&self.waiting))
    }

    fn encode(&self, at: &Location<'_>, argument: &(impl Serialize + ?Sized)) -> Bytes {
        let serializer = &self.client.handshake().serializer;
        if serializer != "json" {
            fail(at, format_args!("the game speaks {serializer}, not json: use the client's `request_bytes`"));
        }
        match serde_json::to_vec(argument) {
            Ok(bytes) => bytes.into(),
            Err(error) => fail(at, format_args!("the argument cannot be written: {error}")),
        }
    }
}

fn decode<T: DeserializeOwned>(at: &Location<'_>, what: std::fmt::Arguments<'_>, bytes: &[u8]) -> T {
    let json = if bytes.is_empty() { b"null" } else { bytes };
    match serde_json::from_slice(json) {
        Ok(value) => value,
        Err(error) => fail(at, format_args!("{what} is no {}: {error}\n  it is {}", type_name::<T>(), body(bytes))),
    }
}
