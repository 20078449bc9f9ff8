//! A cluster in one process: a bus that carries the encoded messages, as the network would.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use pitaya_core::{
    BoxFuture, Error, Result, ServerId, ServerInfo, Uid,
    cluster::{
        Adapters, ClusterContext, Discovery, Responder, RpcClient, RpcError, RpcServer, RpcService, Servers, Topic,
        Wiring, protos,
    },
    code,
};
use prost::Message as _;
use tokio::sync::oneshot;

/// The longest message, as on a NATS server that nobody has configured.
const MAX_LEN: usize = 1024 * 1024;

/// How long a call waits, as on NATS.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The wiring of servers that live in one process: all servers that are built with it, or a clone of it, find each other.
///
/// Messages are encoded, and limits, time-outs and errors are those of NATS: a game that works here works there.
#[must_use]
pub fn in_process() -> Wiring {
    let bus = Arc::new(Bus::default());
    Wiring::new([], move |_config| {
        let node = Arc::new(Node { bus: Arc::clone(&bus), context: OnceLock::new() });
        Ok(Adapters { discovery: Arc::clone(&node) as _, client: Arc::clone(&node) as _, server: node })
    })
}

#[derive(Default)]
struct Bus(Mutex<HashMap<ServerId, Member>>);

/// A server on the bus.
struct Member {
    servers: Servers,
    /// Whether the others see it.
    registered: bool,
    /// What takes its messages; none when it takes no more calls.
    service: Option<Arc<dyn RpcService>>,
    /// Whose pushes and kicks come here, and how often that was asked for.
    users: HashMap<Uid, usize>,
}

impl Bus {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Member>> {
        // Nothing panics while the map is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn services(&self, wanted: impl Fn(&Member) -> bool) -> Vec<Arc<dyn RpcService>> {
        self.lock().values().filter(|member| wanted(member)).filter_map(|member| member.service.clone()).collect()
    }
}

/// One server's end of the bus: all three adapters.
struct Node {
    bus: Arc<Bus>,
    context: OnceLock<ClusterContext>,
}

impl Node {
    fn me(&self) -> Result<&Arc<ServerInfo>, RpcError> {
        self.context.get().map(ClusterContext::me).ok_or(RpcError::Closed)
    }

    fn with_member<T>(&self, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let me = self.me().ok()?;
        self.bus.lock().get_mut(&me.id).map(change)
    }
}

/// A server's place on the bus. It ends with the server's tasks, also when its runtime is dropped without a stop: for the
/// others that is a server that has crashed.
struct Membership {
    bus: Arc<Bus>,
    me: Arc<ServerInfo>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let member = {
            let mut members = self.bus.lock();
            members.values().for_each(|member| member.servers.remove(&self.me.id));
            members.remove(&self.me.id)
        };
        // What it holds may hold the bus.
        drop(member);
    }
}

impl Discovery for Node {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            let members = self.bus.lock();
            for member in members.values().filter(|member| member.registered) {
                context.servers.add(ServerInfo::clone(member.servers.me()));
            }
            Ok(())
        })
    }

    fn register(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            let me = Arc::clone(self.me()?);
            let mut members = self.bus.lock();
            if let Some(member) = members.get_mut(&me.id) {
                member.registered = true;
            }
            members.values().for_each(|member| member.servers.add(ServerInfo::clone(&me)));
            Ok(())
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Ok(me) = self.me() else { return };
            let mut members = self.bus.lock();
            if let Some(member) = members.get_mut(&me.id) {
                member.registered = false;
            }
            members.values().for_each(|member| member.servers.remove(&me.id));
        })
    }

    fn spreading(&self) -> Duration {
        Duration::ZERO
    }
}

impl RpcClient for Node {
    fn start<'a>(&'a self, context: &'a ClusterContext) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            let context = self.context.get_or_init(|| context.clone());
            let member =
                Member { servers: context.servers.clone(), registered: false, service: None, users: HashMap::new() };
            let me = Arc::clone(context.me());
            match self.bus.lock().entry(me.id.clone()) {
                Entry::Vacant(place) => drop(place.insert(member)),
                Entry::Occupied(_) => return Err(Error::plain(format!("two servers have the id {}", me.id))),
            }
            let (place, stopping) = (Membership { bus: Arc::clone(&self.bus), me }, context.tasks.stopping().clone());
            context.tasks.spawn("place on the bus", async move {
                stopping.cancelled().await;
                drop(place);
            });
            Ok(())
        })
    }

    fn call<'a>(
        &'a self,
        server: &'a ServerInfo,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Bytes, RpcError>> {
        Box::pin(async move {
            if request.len() > MAX_LEN {
                return Err(RpcError::TooLarge { len: request.len(), limit: MAX_LEN });
            }
            let service = self.bus.lock().get(&server.id).and_then(|member| member.service.clone());
            let service = service.ok_or_else(|| RpcError::NotDelivered(server.id.clone()))?;
            let (sender, receiver) = oneshot::channel();
            let mut call = Some((request, responder(sender)));
            // One that is ready at once is answered without another task.
            poll_fn(|cx| {
                if let Some((request, responder)) = call.take() {
                    service.request_in_place(cx, request, responder);
                }
                Poll::Ready(())
            })
            .await;
            match tokio::time::timeout(timeout, receiver).await {
                Ok(answer) => answer.map_err(|_| RpcError::Failed("the server has dropped the call".into())),
                Err(_) => Err(RpcError::Timeout(timeout)),
            }
        })
    }

    fn publish<'a>(&'a self, topic: Topic<'a>, message: Bytes) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(async move {
            if message.len() > MAX_LEN {
                return Err(RpcError::TooLarge { len: message.len(), limit: MAX_LEN });
            }
            match topic {
                Topic::Push(kind, uid) => {
                    let services =
                        self.bus.services(|member| member.servers.me().kind == *kind && member.users.contains_key(uid));
                    services.iter().for_each(|service| service.push(message.clone()));
                }
                Topic::Kick(kind, uid) => {
                    let services =
                        self.bus.services(|member| member.servers.me().kind == *kind && member.users.contains_key(uid));
                    services.iter().for_each(|service| service.kick(message.clone(), None));
                }
                Topic::Bindings(kind, at) => {
                    let services = self.bus.services(|member| member.servers.me().kind == *kind);
                    services.iter().for_each(|service| service.bound(message.clone(), Some(at)));
                }
            }
            Ok(())
        })
    }

    fn timeout(&self) -> Duration {
        TIMEOUT
    }
}

impl RpcServer for Node {
    fn start<'a>(&'a self, _context: &'a ClusterContext, service: Arc<dyn RpcService>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.with_member(|member| member.service = Some(service));
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            self.with_member(|member| *member.users.entry(uid.clone()).or_default() += 1);
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, ()> {
        Box::pin(async {
            self.with_member(|member| {
                if let Some(count) = member.users.get_mut(uid) {
                    *count -= 1;
                    if *count == 0 {
                        member.users.remove(uid);
                    }
                }
            });
        })
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.with_member(|member| member.service = None);
        })
    }
}

/// An answer that is too long for the bus becomes an error, so that nobody waits for it in vain.
fn responder(sender: oneshot::Sender<Bytes>) -> Responder {
    Responder::new(move |answer| {
        let answer = if answer.len() > MAX_LEN {
            let text = format!("the answer is {} bytes, over the limit of {MAX_LEN}", answer.len());
            protos::Response::failed(&Error::new(code::INTERNAL, text)).encode_to_vec().into()
        } else {
            answer
        };
        // The caller may no longer wait.
        drop(sender.send(answer));
        Box::pin(async {})
    })
}
