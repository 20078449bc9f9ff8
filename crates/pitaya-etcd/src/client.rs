//! A client of etcd v3, as small as what we need of it: one connection at a time, which moves on to the next endpoint when it
//! fails; a log-in that is renewed; and a time-out on each call.

mod auth;
mod call;
mod endpoints;
mod error;
mod kv;
mod lease;
mod messages;
mod watch;

use std::{sync::Arc, time::Duration};

use prost::Message;
use tokio::time::timeout;
use tonic::transport::Endpoint;

pub(crate) use auth::Login;
pub(crate) use error::EtcdError;
pub(crate) use messages::{Event, EventType, KeyValue};
pub(crate) use watch::{Seen, Watch};

use endpoints::Endpoints;

/// How long a member may take for a call. etcd itself gives up after seven seconds when it has no leader.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls etcd. All clones use the same connection.
#[derive(Clone)]
pub(crate) struct Client {
    endpoints: Arc<Endpoints>,
}

impl Client {
    /// A client of these members; nothing is connected yet. `probe` is a key that it may read.
    pub(crate) fn new(endpoints: Vec<Endpoint>, dial_timeout: Duration, login: Option<Login>, probe: String) -> Self {
        Self { endpoints: Arc::new(Endpoints::new(endpoints, dial_timeout, login, probe)) }
    }

    /// Connects to the first member that serves.
    ///
    /// # Errors
    ///
    /// None does, or the log-in is refused.
    pub(crate) async fn connect(&self) -> Result<(), EtcdError> {
        self.endpoints.connection().await.map(drop)
    }

    /// Calls a method that may be called twice: it is called again on another connection when one fails, once on each member
    /// at the most. `limit` is for each of them.
    async fn call<Q, A>(&self, method: &'static str, message: Q, limit: Duration) -> Result<A, EtcdError>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let (mut tries, mut logged_in) = (0, false);
        loop {
            let (connection, is_new) = self.endpoints.connection().await?;
            let call = call::one(
                &connection.channel,
                &connection.endpoint,
                connection.token.as_ref(),
                method,
                message.clone(),
            );
            let late = || EtcdError::Timeout { endpoint: connection.endpoint.clone(), limit };
            let error = match timeout(limit, Box::pin(call)).await.unwrap_or_else(|_| Err(late())) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(error, EtcdError::Token) && !logged_in {
                self.endpoints.log_in_again(&connection).await?;
                logged_in = true;
                continue;
            }
            if !error.is_of_the_connection() {
                return Err(error);
            }
            tracing::debug!(method, %error, "a call of etcd failed");
            self.endpoints.give_up(&connection);
            // A connection that has broken while nobody used it says nothing about its member.
            let broken = !is_new && tries == 0 && matches!(error, EtcdError::Unavailable { .. });
            tries += usize::from(!broken);
            if tries >= self.endpoints.len() {
                return Err(error);
            }
        }
    }
}
