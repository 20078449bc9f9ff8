//! What all connections of one app share.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use pitaya_core::{App, Error, Serializer, SessionPool, Tasks, code};
use pitaya_protocol::{
    Compression, Dictionary, HandshakeError, HandshakeReason, HandshakeResponse, Limits, PacketCodec, Timeouts,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, forward::Forwarder},
    connection::Dispatch,
    lifecycle::Parts,
    metrics::Metrics,
    registry::{Places, Registry},
};

/// Made once by the builder; only read afterwards.
pub(crate) struct Engine {
    pub(crate) app: App,
    pub(crate) sessions: SessionPool,
    pub(crate) registry: Registry,
    pub(crate) places: Places,
    /// Of the remotes, if this server belongs to a cluster.
    pub(crate) remote_places: Option<Places>,
    pub(crate) codec: Arc<dyn PacketCodec>,
    pub(crate) serializer: Arc<dyn Serializer>,
    pub(crate) dictionary: Arc<Dictionary>,
    pub(crate) compression: Compression,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) options: Options,
    pub(crate) handshake: HandshakeBodies,
    pub(crate) dispatch: Dispatch,
    /// What starts and stops with the app.
    pub(crate) parts: Parts,
    /// If this server belongs to a cluster.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Where messages of other server types go, if this is a frontend of a cluster.
    pub(crate) forwarder: Option<Forwarder>,
    pub(crate) metrics: Metrics,
    /// Whether response times are measured: somebody looks at them.
    pub(crate) measures: bool,
    /// Cancelled when the server stops accepting: connections that are still being established end then.
    pub(crate) stop_accepting: CancellationToken,
    /// Cancelled when the server closes its clients.
    pub(crate) closing: CancellationToken,
    /// Cancelled when a stop no longer waits for handlers.
    pub(crate) hurry: CancellationToken,
    /// The tasks of acceptors and connections.
    pub(crate) work: Tasks,
    /// How many handlers did not end in the grace period of the stop.
    pub(crate) cut_off: AtomicUsize,
}

/// The numbers of the settings, ready to use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) outbox_messages: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) write_timeout: Duration,
    pub(crate) unfinished: usize,
    pub(crate) max_inflated: usize,
    pub(crate) drain: bool,
    pub(crate) drain_timeout: Duration,
    pub(crate) drain_period: Duration,
    pub(crate) shutdown_kick: bool,
    pub(crate) shutdown_grace: Duration,
}

/// The bodies of the handshake response, written once per app (protocol.md 2.3).
pub(crate) struct HandshakeBodies {
    pub(crate) accepted: Bytes,
    refused: Bytes,
    /// What a refusal with a reason is made of.
    refusal: HandshakeResponse,
    compression: bool,
}

impl HandshakeBodies {
    pub(crate) fn new(accepted: HandshakeResponse, compression: bool) -> Result<Self, HandshakeError> {
        let encoded = accepted.encode(compression)?.into();
        let refusal = HandshakeResponse { code: HandshakeResponse::REFUSED, ..accepted };
        Ok(Self { accepted: encoded, refused: refusal.encode(compression)?.into(), refusal, compression })
    }

    /// Refuses a handshake, with the reason if a validator has one.
    pub(crate) fn refused(&self, reason: Option<Error>) -> Bytes {
        let Some(error) = reason else { return self.refused.clone() };
        let reason = HandshakeReason { code: error.code().to_owned(), msg: error.message().to_owned() };
        let refusal = HandshakeResponse { reason: Some(reason), ..self.refusal.clone() };
        // Only the heartbeat can be wrong, which was checked when the app was built.
        refusal.encode(self.compression).map_or_else(|_| self.refused.clone(), Bytes::from)
    }
}

impl Engine {
    /// Writes an error for a client. A reply here is one that no packet can hold.
    #[cold]
    pub(crate) fn encode_error(&self, reply: Result<Bytes, Error>) -> Bytes {
        let too_long = |body: Bytes| {
            Error::new(code::INTERNAL, format!("the reply is {} bytes, more than a packet holds", body.len()))
        };
        self.serializer.encode_error(&reply.map_or_else(|error| error, too_long))
    }
}
