//! The members of etcd: one of them is used at a time, until it fails.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{EtcdError, auth, auth::Login};

/// Without traffic for this long, a ping is sent. etcd closes the connections of those who do so each five seconds or more
/// often; a little more keeps away from that.
const PING_AFTER: Duration = Duration::from_millis(5_500);

/// A ping that is not answered for this long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The members, and the connection to one of them.
pub(crate) struct Endpoints {
    list: Vec<Endpoint>,
    dial_timeout: Duration,
    login: Option<Login>,
    /// A key of ours, asked for to see whether a member serves.
    probe: String,
    live: Mutex<Live>,
    /// Whoever dials has the permit, so that the others wait for the same connection.
    dialing: Semaphore,
}

#[derive(Default)]
struct Live {
    connection: Option<Connection>,
    /// The member that is tried first.
    first: usize,
    /// How many connections there have been.
    count: u64,
}

/// A connection that served when it was made.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    pub(crate) endpoint: String,
    pub(crate) token: Option<Token>,
    number: u64,
}

pub(crate) type Token = MetadataValue<Ascii>;

impl Endpoints {
    pub(crate) fn new(list: Vec<Endpoint>, dial_timeout: Duration, login: Option<Login>, probe: String) -> Self {
        let list = list.into_iter().map(|endpoint| {
            endpoint
                .connect_timeout(dial_timeout)
                .http2_keep_alive_interval(PING_AFTER)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
        });
        let live = Mutex::default();
        Self { list: list.collect(), dial_timeout, login, probe, live, dialing: Semaphore::new(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The connection that is used now, or a new one, and whether it is new.
    ///
    /// # Errors
    ///
    /// No member serves: each has been tried for the dial time-out.
    pub(crate) async fn connection(&self) -> Result<(Connection, bool), EtcdError> {
        if let Some(connection) = self.current() {
            return Ok((connection, false));
        }
        // The semaphore is never closed.
        let _permit = self.dialing.acquire().await;
        match self.current() {
            Some(connection) => Ok((connection, false)),
            // Boxed: it is large and rare.
            None => Ok((Box::pin(self.dial()).await?, true)),
        }
    }

    /// Uses this connection no more: the next one is to the next member.
    pub(crate) fn give_up(&self, connection: &Connection) {
        let mut live = self.live();
        if live.connection.as_ref().is_some_and(|current| current.number == connection.number) {
            live.connection = None;
            live.first = (live.first + 1) % self.list.len();
        }
    }

    /// Logs in again on this connection, unless somebody has done so already.
    ///
    /// # Errors
    ///
    /// The log-in fails.
    pub(crate) async fn log_in_again(&self, stale: &Connection) -> Result<(), EtcdError> {
        let Some(login) = &self.login else {
            return Err(EtcdError::Login("it wants a user and a password".to_owned()));
        };
        // The semaphore is never closed.
        let _permit = self.dialing.acquire().await;
        let is_stale = |current: &Connection| current.number == stale.number && current.token == stale.token;
        if !self.current().as_ref().is_some_and(is_stale) {
            return Ok(());
        }
        let token =
            self.in_time(&stale.endpoint, Box::pin(auth::log_in(&stale.channel, &stale.endpoint, login))).await?;
        if let Some(current) = self.live().connection.as_mut().filter(|current| is_stale(current)) {
            current.token = token;
        }
        Ok(())
    }

    /// Tries each member once, from the one on whose turn it is.
    async fn dial(&self) -> Result<Connection, EtcdError> {
        let first = self.live().first;
        let mut reasons = Vec::new();
        for at in (0..self.list.len()).map(|step| (first + step) % self.list.len()) {
            let endpoint = &self.list[at];
            let name = endpoint.uri().to_string();
            match self.in_time(&name, self.dial_one(endpoint, &name)).await {
                Ok((channel, token)) => {
                    tracing::debug!(endpoint = %name, "connected to etcd");
                    let mut live = self.live();
                    (live.first, live.count) = (at, live.count + 1);
                    let connection = Connection { channel, endpoint: name, token, number: live.count };
                    live.connection = Some(connection.clone());
                    return Ok(connection);
                }
                // The others know the same users.
                Err(error @ EtcdError::Login(_)) => return Err(error),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        Err(EtcdError::Unreachable(reasons.join("; ")))
    }

    /// Connects, logs in, and sees that the member serves: it answers, and it has a leader.
    async fn dial_one(&self, endpoint: &Endpoint, name: &str) -> Result<(Channel, Option<Token>), EtcdError> {
        let connected = endpoint.connect().await;
        let channel = connected.map_err(|error| EtcdError::of(name, &tonic::Status::from_error(error.into())))?;
        let token = match &self.login {
            Some(login) => auth::log_in(&channel, name, login).await?,
            None => None,
        };
        auth::probe(&channel, name, token.as_ref(), &self.probe).await?;
        Ok((channel, token))
    }

    async fn in_time<T>(
        &self,
        endpoint: &str,
        call: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, EtcdError> {
        let late = || EtcdError::Timeout { endpoint: endpoint.to_owned(), limit: self.dial_timeout };
        timeout(self.dial_timeout, call).await.map_err(|_| late())?
    }

    fn current(&self) -> Option<Connection> {
        self.live().connection.clone()
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        // Nothing panics while it is held.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
