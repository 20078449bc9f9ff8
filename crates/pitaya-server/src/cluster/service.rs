//! What other servers send: checked, and handed over. Nothing here waits, so that nobody delays anybody else.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use pitaya_core::{
    BoxFuture, CloseReason, Context, Error, HandlerKind, Parts, Request, Result, ServerId, Session, SessionId, Uid,
    cluster::{
        Metadata, Responder, RpcService, TIMED_OUT,
        protos::{self, MsgType, RpcType},
    },
    code,
};
use pitaya_protocol::RouteParts;
use prost::Message as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use super::{Cluster, ended::Ended, link, mailbox, step, sys, unique::Verdict, watched::Watched};
use crate::{
    engine::Engine,
    registry::{HandlerIndex, Registry},
};

/// How many refusals may wait for the transport; the callers of more get no answer.
const MAX_REFUSALS: usize = 1_024;

/// Handles what arrives from other servers. Holds its engine weakly: the adapters hold it.
pub(crate) struct RemoteService {
    engine: Weak<Engine>,
    /// The messages of sessions that are being handled: one task for each such session.
    mailboxes: Mutex<HashMap<Key, mpsc::UnboundedSender<Box<Job>>>>,
    /// Sessions whose callbacks run here when they close on their frontend.
    pub(super) watched: Watched,
    /// Those that have closed lately.
    pub(super) ended: Ended,
    /// How many more refusals may wait for the transport.
    refusals: Arc<Semaphore>,
}

/// Names a session in a cluster.
pub(super) type Key = (ServerId, SessionId);

/// A client's message on its way to its handler.
pub(super) struct Job {
    pub(super) handler: HandlerIndex,
    pub(super) request: Request,
    pub(super) is_notify: bool,
    pub(super) responder: Responder,
    /// When its frontend is told that its time is over; one of ours knows by itself.
    pub(super) late: Option<Instant>,
    /// Held until it has been answered.
    pub(super) seat: OwnedSemaphorePermit,
}

impl RemoteService {
    pub(crate) fn new(engine: &Arc<Engine>) -> Arc<Self> {
        let engine = Arc::downgrade(engine);
        Arc::new(Self {
            engine,
            mailboxes: Mutex::default(),
            watched: Watched::default(),
            ended: Ended::default(),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        })
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(stopping)
    }

    pub(super) fn cluster(&self) -> Result<Arc<Cluster>> {
        self.engine()?.cluster.clone().ok_or_else(stopping)
    }

    fn take_or_refuse(self: &Arc<Self>, cx: Option<&mut task::Context<'_>>, encoded: Bytes, responder: Responder) {
        if let Err((responder, error)) = self.take(cx, encoded, responder) {
            tracing::debug!(%error, "a call of another server is refused");
            let mut refusal = respond(responder, Err(error));
            // The transport takes it at once, or else it is full: those who are refused must not wait in great numbers.
            if (&mut refusal).now_or_never().is_some() {
                return;
            }
            let (Ok(engine), Ok(permit)) = (self.engine(), Arc::clone(&self.refusals).try_acquire_owned()) else {
                return;
            };
            engine.work.spawn("refusal", async move {
                refusal.await;
                drop(permit);
            });
        }
    }

    /// Takes a call; with the context of a task, a client's message begins in its place.
    fn take(
        self: &Arc<Self>,
        cx: Option<&mut task::Context<'_>>,
        encoded: Bytes,
        responder: Responder,
    ) -> Result<(), (Responder, Error)> {
        let checked = self.check(encoded);
        let (engine, request, metadata, seat) = match checked {
            Ok(checked) => checked,
            Err(error) => return Err((responder, error)),
        };
        let taken = match RpcType::try_from(request.r#type) {
            Ok(RpcType::Sys) => self.message(&engine, request, metadata),
            Ok(RpcType::User) => return self.call(&engine, request, metadata, (responder, seat)),
            Err(_) => {
                let route = request.msg.as_ref().map_or("", |msg| &msg.route);
                Err(Error::bad_request("invalid rpc type").with("route", route))
            }
        };
        match taken {
            Ok((key, handler, request, is_notify, late)) => {
                self.deliver(cx, &engine, key, Box::new(Job { handler, request, is_notify, responder, late, seat }));
                Ok(())
            }
            Err(error) => Err((responder, error)),
        }
    }

    /// What holds for all calls (protocol.md 6.3).
    fn check(&self, encoded: Bytes) -> Result<(Arc<Engine>, protos::Request, Metadata, OwnedSemaphorePermit)> {
        let engine = self.engine()?;
        let cluster = engine.cluster.clone().ok_or_else(stopping)?;
        let seats = Arc::clone(&cluster.seats);
        let request =
            protos::Request::decode(encoded).map_err(|error| Error::bad_request(format!("not a request: {error}")))?;
        let Some(msg) = &request.msg else { return Err(Error::bad_request("a request without message")) };
        let metadata = Metadata::received(request.metadata.clone(), &msg.route)?;
        if metadata.timeout().is_some_and(|timeout| timeout.is_zero()) {
            return Err(too_late());
        }
        let seat = seats.try_acquire_owned().map_err(|_| {
            cluster.dropped.add(1);
            Error::new(code::TOO_MANY, "this server has as many calls as it can take")
        })?;
        Ok((engine, request, metadata, seat))
    }

    /// Finds the handler of a client's message, and makes its session.
    fn message(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        request: protos::Request,
        metadata: Metadata,
    ) -> Result<(Key, HandlerIndex, Request, bool, Option<Instant>)> {
        let msg = request.msg.unwrap_or_default();
        let is_notify = msg.r#type == i32::from(MsgType::Notify);
        let handler = match find(&engine.registry, &msg.route)? {
            (Some(handler), _) => handler,
            (None, parts) => {
                let kind = parts.server_type.unwrap_or(engine.app.server().kind.as_str());
                return Err(Error::not_found(format!("pitaya/handler: {kind}.{} not found", parts.short)));
            }
        };
        let registered = engine.registry.get(handler);
        if !is_notify && registered.kind == HandlerKind::Notify {
            return Err(Error::bad_request("tried to request a notify route"));
        }
        // Nothing is a session that is not bound (protocol.md 6.3).
        let session = request.session.unwrap_or_default();
        let (session, ours) = link::session(self, engine, &request.frontend_id, session, &metadata)?;
        let frontend = session.frontend().cloned().ok_or_else(stopping)?;
        let key = (frontend, session.id());
        let context = Context::of_call(Some(session), msg.id, metadata);
        let late = if ours { None } else { context.deadline() };
        let parts = Parts::new(engine.places.get(handler), context);
        Ok((key, handler, Request::new(parts, msg.data), is_notify, late))
    }

    /// Puts a message into the mailbox of its session; the first one begins it.
    fn deliver(self: &Arc<Self>, cx: Option<&mut task::Context<'_>>, engine: &Arc<Engine>, key: Key, job: Box<Job>) {
        let mut mailboxes = self.mailboxes();
        let job = match mailboxes.get(&key) {
            Some(mailbox) => match mailbox.send(job) {
                Ok(()) => return,
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        // A channel makes room for 32 at once, so they are boxed.
        #[expect(clippy::disallowed_methods, reason = "bounded by the seats, of which each message holds one")]
        let (sender, receiver) = mpsc::unbounded_channel();
        // The receiver is here.
        drop(sender.send(job));
        mailboxes.insert(key.clone(), sender);
        // Its handlers look for mailboxes as well.
        drop(mailboxes);
        let mailbox = mailbox::run(Arc::clone(self), Arc::clone(engine), key, receiver);
        match cx {
            None => engine.work.spawn("mailbox", mailbox),
            Some(cx) => {
                let mut mailbox = Box::pin(mailbox);
                if mailbox.as_mut().poll(cx).is_pending() {
                    engine.work.spawn("mailbox", mailbox);
                }
            }
        }
    }

    /// Ends a mailbox if nothing is in it. Whoever sends holds the same lock.
    pub(super) fn end_mailbox(&self, key: &Key, jobs: &mpsc::UnboundedReceiver<Box<Job>>) -> bool {
        let mut mailboxes = self.mailboxes();
        let empty = jobs.is_empty();
        if empty {
            mailboxes.remove(key);
        }
        empty
    }

    /// Runs a remote, of the application or of the framework, in a task of its own.
    fn call(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        request: protos::Request,
        metadata: Metadata,
        (responder, seat): (Responder, OwnedSemaphorePermit),
    ) -> Result<(), (Responder, Error)> {
        let msg = request.msg.unwrap_or_default();
        let Some(cluster) = engine.cluster.clone() else { return Err((responder, stopping())) };
        if let Some(sys) = sys::find(&msg.route) {
            let service = Arc::clone(self);
            engine.work.spawn("sys remote", async move {
                let answer = sys.call(&service, msg.data, metadata).await;
                respond(responder, answer).await;
                drop(seat);
            });
            return Ok(());
        }
        let remote = match find(&cluster.remotes, &msg.route) {
            Ok((Some(remote), _)) => remote,
            Ok((None, parts)) => {
                return Err((responder, Error::not_found("route not found").with("route", parts.short)));
            }
            Err(error) => return Err((responder, error)),
        };
        let registered = cluster.remotes.get(remote);
        let context = Context::of_call(None, 0, metadata);
        let Some(places) = &engine.remote_places else { return Err((responder, stopping())) };
        let parts = Parts::new(places.get(remote), context.clone());
        let request = Request::new(parts, msg.data);
        let (route, chain, running) =
            (registered.route.clone(), Arc::clone(&registered.chain), Arc::clone(&cluster.running));
        let (app, engine) = (engine.app.clone(), Arc::clone(engine));
        let work = engine.work.clone();
        work.spawn("remote", async move {
            // The semaphore is never closed.
            let waiting = running.acquire();
            let permit = match context.time_left() {
                Some(left) => tokio::time::timeout(left, waiting).await.ok(),
                None => Some(waiting.await),
            };
            let Some(permit) = permit else {
                // Nobody waits for the answer any more, so it is not run.
                respond(responder, Err(too_late())).await;
                drop(seat);
                return;
            };
            let patience = context.time_left();
            let mut answer =
                pin!(mailbox::guarded(&app, route.as_str(), &context, async { chain.call(request).await }));
            match in_time(patience, answer.as_mut()).await {
                Some(answer) => {
                    drop(permit);
                    respond(responder, answer).await;
                }
                None if waits_by_itself(&engine, &context) => {
                    let answer = answer.await;
                    drop(permit);
                    respond(responder, answer).await;
                }
                None => {
                    respond(responder, Err(too_late())).await;
                    // Remotes run to their end.
                    drop(answer.await);
                    drop(permit);
                }
            }
            drop(seat);
        });
        Ok(())
    }

    /// Closes what is kept of a session that has closed on its frontend.
    pub(super) fn close_watched(&self, key: &Key) {
        let sessions = self.watched.take(key);
        let Ok(engine) = self.engine() else { return };
        let pool = engine.sessions.clone();
        engine.work.spawn("close", async move {
            for session in sessions {
                pool.close(&session, CloseReason::ClientClosed).await;
            }
        });
    }

    fn mailboxes(&self) -> MutexGuard<'_, HashMap<Key, mpsc::UnboundedSender<Box<Job>>>> {
        // Nothing panics while a map is locked.
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of this server, by its user.
    fn local(&self, uid: &str) -> Option<Session> {
        let uid = Uid::try_from(uid).ok()?;
        self.engine().ok()?.sessions.by_uid(&uid)
    }
}

/// Hands over what arrives. A reference to itself is what the tasks that it starts keep.
pub(crate) struct Handle(pub(crate) Arc<RemoteService>);

impl RpcService for Handle {
    fn request(&self, request: Bytes, responder: Responder) {
        self.0.take_or_refuse(None, request, responder);
    }

    fn request_in_place(&self, cx: &mut task::Context<'_>, request: Bytes, responder: Responder) {
        self.0.take_or_refuse(Some(cx), request, responder);
    }

    fn push(&self, push: Bytes) {
        let push = match protos::Push::decode(push) {
            Ok(push) => push,
            Err(error) => return tracing::warn!(%error, "a push of another server cannot be read"),
        };
        let Some(session) = self.0.local(&push.uid) else {
            return tracing::debug!(uid = push.uid, "a push for a user who is not here");
        };
        let Ok(engine) = self.0.engine() else { return };
        match engine.sessions.format().encode_bytes(&push.route, push.data) {
            // A client that does not read is disconnected; nobody waits for it.
            Ok(encoded) => drop(session.queue(&encoded)),
            Err(error) => tracing::warn!(%error, route = push.route, "a push of another server cannot be written"),
        }
    }

    fn kick(&self, kick: Bytes, responder: Option<Responder>) {
        let kick = match protos::KickMsg::decode(kick) {
            Ok(kick) => kick,
            Err(error) => return tracing::warn!(%error, "a kick of another server cannot be read"),
        };
        let session = self.0.local(&kick.user_id);
        let Ok(engine) = self.0.engine() else { return };
        engine.work.spawn("kick", async move {
            let kicked = match session {
                Some(session) => session.kick().await.is_ok(),
                None => false,
            };
            if let Some(responder) = responder {
                responder.send(protos::KickAnswer { kicked }.encode_to_vec().into()).await;
            }
        });
    }

    fn bound(&self, bind: Bytes, at: Option<u64>) {
        let bind = match protos::BindMsg::decode(bind) {
            Ok(bind) => bind,
            Err(error) => return tracing::warn!(%error, "a bind of another server cannot be read"),
        };
        let (Ok(engine), Ok(cluster)) = (self.0.engine(), self.0.cluster()) else { return };
        let me = engine.app.server();
        let Some(unique) = cluster.unique.as_ref().filter(|_| bind.fid != me.id.as_str()) else { return };
        let session = self.0.local(&bind.uid);
        let verdict = unique.hear(at, &bind.fid, me.id.as_str(), session.as_ref().map(Session::id));
        match (verdict, session) {
            (Some(Verdict::Goes), Some(session)) => {
                tracing::info!(uid = bind.uid, frontend = bind.fid, "the user has logged in elsewhere");
                engine.work.spawn("kick", async move { drop(session.kick().await) });
            }
            (Some(Verdict::Insists(at)), _) => {
                let peers = cluster.peers.clone();
                engine.work.spawn("bind", async move { step::tell(&peers, bind.uid, at).await });
            }
            _ => {}
        }
    }
}

/// Sends an answer.
pub(super) fn respond(responder: Responder, answer: Result<Bytes>) -> BoxFuture<'static, ()> {
    let response = match answer {
        Ok(data) => protos::Response::of(data),
        Err(error) => protos::Response::failed(&error),
    };
    responder.send(response.encode_to_vec().into())
}

/// The handler of a route, and the parts of the route. That a route names another type is no matter here: whoever calls has
/// chosen this server (protocol.md 4).
fn find<'a>(registry: &Registry, route: &'a str) -> Result<(Option<HandlerIndex>, RouteParts<'a>)> {
    let parts = RouteParts::parse(route);
    let parts = parts.map_err(|_| Error::bad_request("cannot decode route").with("route", route))?;
    Ok((registry.find(route).or_else(|| registry.find(parts.short)), parts))
}

/// Waits for an answer, but not longer than its caller does.
async fn in_time<T>(patience: Option<Duration>, answer: impl Future<Output = T>) -> Option<T> {
    match patience {
        Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
        None => Some(answer.await),
    }
}

/// Whether the caller is a server of this framework: it knows by itself when its time is over, and its own error tells its
/// client more than ours.
fn waits_by_itself(engine: &Engine, context: &Context) -> bool {
    let caller = context.metadata().and_then(|metadata| metadata.text(Metadata::PEER_ID));
    let caller = caller.and_then(|id| ServerId::try_from(id).ok());
    let servers = engine.cluster.as_ref().map(|cluster| cluster.peers.servers());
    caller.zip(servers).is_some_and(|(id, servers)| servers.get(&id).is_some_and(|server| server.is_ours()))
}

/// What a caller is told whose time is over (protocol.md 6.3).
pub(super) fn too_late() -> Error {
    Error::new(code::INTERNAL, TIMED_OUT)
}

pub(super) fn stopping() -> Error {
    Error::new(code::INTERNAL, "this server is stopping")
}
