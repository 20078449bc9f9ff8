//! The members of etcd: one of them is used at a time, until it fails.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt as _, future::Shared};
use pitaya_core::BoxFuture;
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
    members: Arc<Members>,
    live: Mutex<Live>,
    /// Whoever logs in again has the permit, so that the others wait for the same token.
    logging_in: Semaphore,
}

struct Members {
    list: Vec<Endpoint>,
    dial_timeout: Duration,
    login: Option<Login>,
    /// A key of ours, asked for to see whether a member serves.
    probe: String,
}

#[derive(Default)]
struct Live {
    connection: Option<Connection>,
    /// The member that is tried first.
    first: usize,
    /// How many connections there have been.
    count: u64,
    /// A connection that is being made. All who need one drive it: if it belonged to the first of them, who may be waiting
    /// for something else meanwhile, the others could wait for ever.
    dialing: Option<(u64, Dialing)>,
}

type Dialing = Shared<BoxFuture<'static, Result<Dialed, EtcdError>>>;

/// What dialing has come to: the member, and how to call it.
#[derive(Clone)]
struct Dialed {
    at: usize,
    channel: Channel,
    token: Option<Token>,
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
        let members = Arc::new(Members { list: list.collect(), dial_timeout, login, probe });
        Self { members, live: Mutex::default(), logging_in: Semaphore::new(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.list.len()
    }

    /// The connection that is used now, or a new one, and whether it is new.
    ///
    /// # Errors
    ///
    /// No member serves: each has been tried for the dial time-out.
    pub(crate) async fn connection(&self) -> Result<(Connection, bool), EtcdError> {
        let (number, dialing) = {
            let mut live = self.live();
            if let Some(connection) = &live.connection {
                return Ok((connection.clone(), false));
            }
            let (first, number) = (live.first, live.count + 1);
            let dial = || (number, Arc::clone(&self.members).dial(first).boxed().shared());
            live.dialing.get_or_insert_with(dial).clone()
        };
        let dialed = dialing.await;
        let mut live = self.live();
        if live.dialing.as_ref().is_some_and(|(current, _)| *current == number) {
            // The first who sees the end writes it down.
            (live.dialing, live.count) = (None, number);
            if let Ok(Dialed { at, channel, token }) = &dialed {
                live.first = *at;
                let (channel, token) = (channel.clone(), token.clone());
                live.connection = Some(Connection { channel, endpoint: self.members.name(*at), token, number });
            }
        }
        let Dialed { at, channel, token } = dialed?;
        Ok((Connection { channel, endpoint: self.members.name(at), token, number }, true))
    }

    /// Uses this connection no more: the next one is to the next member.
    pub(crate) fn give_up(&self, connection: &Connection) {
        let mut live = self.live();
        if live.connection.as_ref().is_some_and(|current| current.number == connection.number) {
            live.connection = None;
            live.first = (live.first + 1) % self.members.list.len();
        }
    }

    /// Logs in again on this connection, unless somebody has done so already.
    ///
    /// # Errors
    ///
    /// The log-in fails.
    pub(crate) async fn log_in_again(&self, stale: &Connection) -> Result<(), EtcdError> {
        let Some(login) = &self.members.login else {
            return Err(EtcdError::Login("it wants a user and a password".to_owned()));
        };
        // The semaphore is never closed.
        let _permit = self.logging_in.acquire().await;
        let is_stale = |current: &Connection| current.number == stale.number && current.token == stale.token;
        if !self.live().connection.as_ref().is_some_and(is_stale) {
            return Ok(());
        }
        let token = self
            .members
            .in_time(&stale.endpoint, Box::pin(auth::log_in(&stale.channel, &stale.endpoint, login)))
            .await?;
        if let Some(current) = self.live().connection.as_mut().filter(|current| is_stale(current)) {
            current.token = token;
        }
        Ok(())
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing panics while it is held.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Members {
    /// Tries each member once, from the one on whose turn it is.
    async fn dial(self: Arc<Self>, first: usize) -> Result<Dialed, EtcdError> {
        let mut reasons = Vec::new();
        for at in (0..self.list.len()).map(|step| (first + step) % self.list.len()) {
            let name = self.name(at);
            match self.in_time(&name, self.dial_one(&self.list[at], &name)).await {
                Ok((channel, token)) => {
                    tracing::debug!(endpoint = %name, "connected to etcd");
                    return Ok(Dialed { at, channel, token });
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

    fn name(&self, at: usize) -> String {
        self.list[at].uri().to_string()
    }
}
