//! Hands over what arrives, at once.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use async_nats::{HeaderName, Message, Subject};
use bytes::Bytes;
use pitaya_core::{
    Error,
    cluster::{Responder, RpcError, RpcService, protos::Response},
    panic_text,
};
use prost::Message as _;
use tokio::time::timeout;

use crate::{link::Link, recent::Recent};

/// The header with the id of a message that has no reply subject.
pub(crate) const ID: HeaderName = HeaderName::from_static("Pitaya-Id");

/// The header with the time of a bind.
pub(crate) const BOUND: HeaderName = HeaderName::from_static("Pitaya-Bound");

/// The longest that an answer waits for room in the queue of the connection.
const ANSWERING: Duration = Duration::from_secs(5);

pub(crate) struct Intake {
    pub(crate) service: Arc<dyn RpcService>,
    pub(crate) link: Arc<Link>,
    pub(crate) recent: Recent,
}

impl Intake {
    /// Takes a call.
    pub(crate) fn request(&self, message: Message) {
        if message.reply.as_ref().is_some_and(|reply| !self.recent.is_first(reply)) {
            return;
        }
        let responder = self.responder(message.reply);
        unharmed(|| self.service.request(message.payload, responder));
    }

    /// Takes a push, a kick or a bind.
    pub(crate) fn other(&self, message: Message) {
        let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name)).map(|value| value.as_str());
        let id = header(ID);
        let name = id.or(message.reply.as_deref());
        if name.is_some_and(|name| !self.recent.is_first(name)) {
            return;
        }
        // No name has a slash, so the end of the subject tells.
        unharmed(|| match message.subject.rsplit('/').next() {
            Some("push") => self.service.push(message.payload),
            Some("kick") => {
                let responder = message.reply.map(|reply| self.responder(Some(reply)));
                self.service.kick(message.payload, responder);
            }
            _ => {
                let at = header(BOUND).and_then(|at| at.parse().ok());
                self.service.bound(message.payload, at);
            }
        });
    }

    fn responder(&self, reply: Option<Subject>) -> Responder {
        let link = Arc::clone(&self.link);
        Responder::new(move |response| Box::pin(respond(link, reply, response)))
    }
}

async fn respond(link: Arc<Link>, reply: Option<Subject>, response: Bytes) {
    let Some(reply) = reply else {
        tracing::debug!("a call without reply subject was answered");
        return;
    };
    let sent = timeout(ANSWERING, async {
        let connection = link.current()?;
        match connection.publish(reply.clone(), None, None, response).await {
            Err(error @ RpcError::TooLarge { .. }) => {
                tracing::error!(%error, "an answer was not sent");
                let failure = Response::failed(&Error::from(error)).encode_to_vec();
                connection.publish(reply, None, None, failure.into()).await
            }
            sent => sent,
        }
    });
    match sent.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "an answer was not sent"),
        Err(_) => tracing::warn!("an answer was not sent: the connection to NATS is full"),
    }
}

/// A panic must not end the task that reads.
fn unharmed(handle: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(handle)) {
        tracing::error!(panic = panic_text(&*panic), "a message of another server was not handled");
    }
}
