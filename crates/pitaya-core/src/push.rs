//! Pushes: encoded once, queued for one session or for many users.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use pitaya_protocol::{Compression, Dictionary, Head, HeadBuf, MAX_BODY_LEN, MessageKind, RouteRef};

use crate::{App, Error, IntoPayload, Result, Serializer, ServerType, Uid};

/// How an app writes its pushes.
#[derive(Debug, Clone)]
pub struct PushFormat {
    serializer: Arc<dyn Serializer>,
    compression: Compression,
    dictionary: Option<Arc<Dictionary>>,
}

impl PushFormat {
    /// Pushes are written by `serializer`, compressed as `compression` says, and carry codes of `dictionary` if one is
    /// given. Give one only if every client can read codes (libpitaya cannot: protocol.md 2.5).
    #[must_use]
    pub fn new(serializer: Arc<dyn Serializer>, compression: Compression, dictionary: Option<Arc<Dictionary>>) -> Self {
        Self { serializer, compression, dictionary }
    }

    /// The serializer of the app.
    #[must_use]
    pub fn serializer(&self) -> &Arc<dyn Serializer> {
        &self.serializer
    }

    /// Writes a push.
    ///
    /// # Errors
    ///
    /// The payload belongs to another serializer than the one that the handshake announced, cannot be written, or the
    /// route is empty or longer than 255 bytes, or the message is longer than a packet can be.
    pub fn encode<P: IntoPayload>(&self, route: &str, payload: P) -> Result<EncodedPush> {
        if let Some(format) = P::FORMAT
            && format != self.serializer.name()
        {
            return Err(Error::plain(format!(
                "cannot push {format} on route {route}: this app speaks {}",
                self.serializer.name()
            )));
        }
        if route.is_empty() {
            return Err(Error::plain("a push needs a route"));
        }
        self.encode_bytes(route, payload.into_payload()?)
    }

    /// Writes a push whose payload another server has written.
    ///
    /// # Errors
    ///
    /// The route is longer than 255 bytes, or the message is longer than a packet can be. An empty route is what the other
    /// server wants.
    pub fn encode_bytes(&self, route: &str, body: Bytes) -> Result<EncodedPush> {
        let deflated = self.compression.apply(&body);
        let code = self.dictionary.as_ref().and_then(|dictionary| dictionary.code(route));
        let head = Head {
            kind: MessageKind::Push,
            id: 0,
            route: code.map_or(RouteRef::Name(route), RouteRef::Code),
            error: false,
            compressed: deflated.is_some(),
            body_at: 0,
        };
        let mut buffer = HeadBuf::default();
        let head =
            head.encode(&mut buffer).map_err(|error| Error::plain(format!("cannot push on route {route}: {error}")))?;
        let wire_body = deflated.as_deref().unwrap_or(&body);
        let len = head.len() + wire_body.len();
        if len > MAX_BODY_LEN {
            return Err(Error::plain(format!("push on route {route} is {len} bytes, more than a packet holds")));
        }
        let mut message = BytesMut::with_capacity(len);
        message.put_slice(head);
        message.put_slice(wire_body);
        Ok(EncodedPush { route: route.into(), body, message: message.freeze() })
    }
}

/// A push that has been written once and can be queued for any number of sessions of its app.
#[derive(Debug, Clone)]
pub struct EncodedPush {
    route: Arc<str>,
    body: Bytes,
    message: Bytes,
}

impl EncodedPush {
    /// The route that the client listens on.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The payload, not compressed: what travels inside a cluster.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The message as a client gets it: the body of a Data packet (protocol.md 3.1).
    #[must_use]
    pub fn message(&self) -> &Bytes {
        &self.message
    }
}

/// What became of a push to several users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "some users may not have been reached"]
#[non_exhaustive]
pub struct Delivery {
    /// The users that are known not to get it: no session here, or a session that has closed.
    pub failed: Vec<Uid>,
}

impl Delivery {
    /// Fails unless all were reached.
    ///
    /// # Errors
    ///
    /// Some user was not reached; the metadata `failed` names them.
    pub fn all(self) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let failed: Vec<_> = self.failed.iter().map(Uid::as_str).collect();
        Err(Error::plain("failed to push message to users").with("failed", failed.join(",")))
    }
}

/// A push that waits to be told whom it is for; made by [`App::push`].
#[derive(Debug)]
#[must_use = "a push is sent by `to_users`"]
pub struct PushBuilder {
    app: App,
    push: Result<EncodedPush>,
}

impl PushBuilder {
    pub(crate) fn new(app: App, push: Result<EncodedPush>) -> Self {
        Self { app, push }
    }

    /// Queues the push for users that are connected to frontends of this type.
    ///
    /// # Errors
    ///
    /// The push cannot be written, or the frontend type is not a valid name. Users that cannot be reached are no error:
    /// they are named in the [`Delivery`].
    pub async fn to_users<T>(self, frontend: T, uids: impl IntoIterator<Item = Uid>) -> Result<Delivery>
    where
        T: TryInto<ServerType>,
        T::Error: Into<Error>,
    {
        let push = self.push?;
        let frontend = frontend.try_into().map_err(Into::into)?;
        Ok(self.app.deliver(&frontend, &push, uids).await)
    }
}
