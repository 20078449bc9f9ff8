//! Calls of remotes on other servers.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::{App, Context, Error, IntoPayload, Protobuf, Result, Route, ServerId, cluster::Call, code};

/// A call that waits to be sent; made by [`App::rpc`].
#[derive(Debug)]
#[must_use = "a call is sent by `reply`"]
pub struct RpcBuilder {
    app: App,
    route: String,
    data: Result<Bytes>,
    context: Context,
    to: Option<ServerId>,
    timeout: Option<Duration>,
}

impl RpcBuilder {
    pub(crate) fn new(app: App, route: &str, argument: impl IntoPayload) -> Self {
        Self {
            app,
            route: route.to_owned(),
            data: argument.into_payload(),
            context: Context::default(),
            to: None,
            timeout: None,
        }
    }

    /// A certain server; without this, any of the route's type is chosen.
    pub fn to(mut self, server: &ServerId) -> Self {
        self.to = Some(server.clone());
        self
    }

    /// The longest to wait. Never longer than the caller of the handler that calls, if it [says so](Self::in_course_of).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Makes the call in the course of a message: its metadata travels on, and its time is what is left of the message's. All
    /// calls in the course of one message have the same `request.id`; without this, each has one of its own.
    pub fn in_course_of(mut self, context: &Context) -> Self {
        self.context = context.clone();
        self
    }

    /// Sends the call and waits for its answer.
    ///
    /// # Errors
    ///
    /// There is no cluster, the route names no server type, there is no such server, it does not answer in time
    /// (`PIT-408`), or its answer is an error, which arrives with its code, text and metadata (protocol.md 4 and 6.3).
    pub async fn reply<R: FromRpc>(self) -> Result<R> {
        let peers = self.app.peers().ok_or_else(|| Error::plain("this server belongs to no cluster"))?;
        let route = Route::try_from(self.route.as_str()).map_err(|error| Error::plain(error.to_string()))?;
        let call = Call { route, data: self.data?, context: self.context, to: self.to, timeout: self.timeout };
        R::from_rpc(peers.call(call).await?)
    }
}

/// What the answer of a remote is read as.
pub trait FromRpc: Sized {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// It is something else.
    fn from_rpc(answer: Bytes) -> Result<Self>;
}

impl<T: Message + Default> FromRpc for Protobuf<T> {
    fn from_rpc(answer: Bytes) -> Result<Self> {
        let decoded = T::decode(answer).map(Self);
        decoded.map_err(|error| {
            Error::new(code::INTERNAL, format!("the answer of the remote is no such message: {error}"))
        })
    }
}

impl FromRpc for Bytes {
    fn from_rpc(answer: Bytes) -> Result<Self> {
        Ok(answer)
    }
}

/// Whatever it is.
impl FromRpc for () {
    fn from_rpc(_answer: Bytes) -> Result<Self> {
        Ok(())
    }
}
