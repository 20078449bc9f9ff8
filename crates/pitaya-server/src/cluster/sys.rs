//! The remotes of the framework, which backends call on frontends and the reverse (protocol.md 9.2).

use std::sync::Arc;

use bytes::Bytes;
use pitaya_core::{
    CloseReason, Error, Result, Session, SessionId, Uid,
    cluster::{Metadata, Peers, protos},
};
use prost::Message;
use serde_json::{Map, Value};

use super::{link::DELTA, service::RemoteService};

pub(super) const BIND: &str = "sys.bindsession";
pub(super) const PUSH_SESSION: &str = "sys.pushsession";
pub(super) const KICK: &str = "sys.kick";
/// Among servers of this framework only: a frontend says that a session has closed.
pub(super) const CLOSED: &str = Peers::SESSION_CLOSED;
/// Among servers of this framework only: somebody asks whether this server lives.
pub(super) const ALIVE: &str = "sys.alive";

/// A remote of the framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sys {
    Bind,
    PushSession,
    Kick,
    Closed,
    Alive,
}

/// The remote of this route, with or without a server type before it.
pub(super) fn find(route: &str) -> Option<Sys> {
    let (head, method) = route.rsplit_once('.')?;
    let service = head.rsplit_once('.').map_or(head, |(_, service)| service);
    let known = [
        (BIND, Sys::Bind),
        (PUSH_SESSION, Sys::PushSession),
        (KICK, Sys::Kick),
        (CLOSED, Sys::Closed),
        (ALIVE, Sys::Alive),
    ];
    known.into_iter().find(|(name, _)| *name == format!("{service}.{method}")).map(|(_, sys)| sys)
}

impl Sys {
    pub(super) async fn call(self, service: &Arc<RemoteService>, data: Bytes, metadata: Metadata) -> Result<Bytes> {
        match self {
            Self::Bind => {
                let described: protos::Session = decode(data)?;
                let session = session(service, &described)?;
                session.bind(Uid::try_from(described.uid)?).await?;
                Ok(ack())
            }
            Self::PushSession => {
                let described: protos::Session = decode(data)?;
                let session = session(service, &described)?;
                check_uid(&session, &described, service, &metadata)?;
                match metadata.get(DELTA) {
                    Some(_) => {
                        let (set, unset) = parse_delta(&described.data)?;
                        session.apply_changes(set, &unset);
                    }
                    None => session.replace_data(&described.data)?,
                }
                Ok(ack())
            }
            Self::Kick => {
                let kick: protos::KickMsg = decode(data)?;
                let uid = Uid::try_from(kick.user_id)?;
                let session = service.engine()?.sessions.by_uid(&uid).ok_or_else(not_found)?;
                session.kick().await?;
                Ok(protos::KickAnswer { kicked: true }.encode_to_vec().into())
            }
            Self::Closed => {
                let described: protos::Session = decode(data)?;
                let frontend = metadata.text(Metadata::PEER_ID).unwrap_or_default().try_into()?;
                let engine = service.engine()?;
                let key = (frontend, SessionId::new(described.id));
                service.ended.note(&key);
                for session in service.watched.take(&key) {
                    engine.sessions.close(&session, CloseReason::ClientClosed).await;
                }
                Ok(ack())
            }
            Self::Alive => Ok(ack()),
        }
    }
}

fn session(service: &RemoteService, described: &protos::Session) -> Result<Session> {
    service.engine()?.sessions.by_id(SessionId::new(described.id)).ok_or_else(not_found)
}

/// Among servers of this framework, the user has to be the one that the caller thinks it is. What a Go server knows may be
/// older than the bind.
fn check_uid(
    session: &Session,
    described: &protos::Session,
    service: &RemoteService,
    metadata: &Metadata,
) -> Result<()> {
    let caller = metadata.text(Metadata::PEER_ID).and_then(|id| id.try_into().ok());
    let servers = service.cluster()?.peers.servers();
    let ours = caller.is_some_and(|id| servers.get(&id).is_some_and(|server| server.is_ours()));
    let uid = session.uid().map(|uid| uid.to_string()).unwrap_or_default();
    if ours && !described.uid.is_empty() && uid != described.uid {
        return Err(not_found());
    }
    Ok(())
}

fn parse_delta(delta: &[u8]) -> Result<(Map<String, Value>, Vec<String>)> {
    #[derive(serde::Deserialize)]
    struct Delta {
        set: Map<String, Value>,
        unset: Vec<String>,
    }
    let delta: Delta =
        serde_json::from_slice(delta).map_err(|error| Error::bad_request(format!("{DELTA}: {error}")))?;
    Ok((delta.set, delta.unset))
}

fn decode<M: Message + Default>(data: Bytes) -> Result<M> {
    M::decode(data).map_err(|error| Error::bad_request(format!("the argument cannot be read: {error}")))
}

/// What Pitaya's remotes answer: a response within the response.
fn ack() -> Bytes {
    protos::Response::of("ack").encode_to_vec().into()
}

fn not_found() -> Error {
    Error::plain("session not found")
}
