//! What a server is subscribed to: its calls, the binds on servers of its type, and pushes and kicks for its users.

use std::{
    collections::{HashMap, hash_map},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{Message, Subject};
use futures_util::{StreamExt as _, stream::SelectAll};
use pitaya_core::{
    Result, ServerType, Tasks, Uid,
    cluster::{ClusterContext, RpcError},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use crate::{
    calls::{self, Calls},
    connection::Connection,
    echo::Echo,
    intake::Intake,
    keeper::End,
    subject,
    subscription::{Handle, Reader, split},
};

/// How many commands are done before those who asked are told.
const MAX_BATCH: usize = 256;

/// The longest that a subscription waits for room in the queue of the connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many new subscriptions may wait for their reader, which never waits itself.
const NEW_READERS: usize = 1024;

/// What the task that keeps the subscriptions is asked for.
pub(crate) enum Command {
    Subscribe(Uid, oneshot::Sender<Result<Subscribed>>),
    Unsubscribe(Uid, oneshot::Sender<()>),
    Drain(oneshot::Sender<()>),
}

/// A user that is subscribed once more. It is undone unless it is kept: who asked may have gone before the answer was read.
pub(crate) struct Subscribed {
    uid: Option<Uid>,
    given_up: Arc<GivenUp>,
}

/// Subscriptions to be undone; no more than have been asked for.
#[derive(Default)]
struct GivenUp {
    uids: Mutex<Vec<Uid>>,
    some: Notify,
}

impl Subscribed {
    pub(crate) fn keep(mut self) {
        self.uid = None;
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        if let Some(uid) = self.uid.take() {
            self.given_up.uids().push(uid);
            self.given_up.some.notify_one();
        }
    }
}

impl GivenUp {
    fn uids(&self) -> MutexGuard<'_, Vec<Uid>> {
        // Nothing panics while it is locked.
        self.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All subscriptions of a server, on one connection or, for a while, on two.
pub(crate) struct Subscriptions {
    kind: ServerType,
    calls: Subject,
    intake: Arc<Intake>,
    tasks: Tasks,
    asked: mpsc::Receiver<Command>,
    given_up: Arc<GivenUp>,
    /// How often each user is subscribed.
    users: HashMap<Uid, usize>,
    /// What has been read and not handed over yet.
    queue: mpsc::Sender<Message>,
    /// The newest last.
    attached: Vec<Attached>,
    draining: bool,
}

/// The subscriptions on one connection.
struct Attached {
    connection: Arc<Connection>,
    echo: Echo,
    calls: Option<Calls>,
    /// Kept until it ends.
    _bindings: Handle,
    /// Push and kick.
    users: HashMap<Uid, [Handle; 2]>,
    readers: mpsc::Sender<Reader>,
}

impl Subscriptions {
    pub(crate) fn new(
        context: &ClusterContext,
        intake: Intake,
        asked: mpsc::Receiver<Command>,
        waiting: usize,
    ) -> Self {
        let me = context.me();
        let intake = Arc::new(intake);
        let (queue, queued) = mpsc::channel(waiting);
        context.tasks.spawn("pushes on NATS", hand_over(queued, Arc::clone(&intake)));
        Self {
            kind: me.kind.clone(),
            calls: subject::server(&me.kind, &me.id),
            intake,
            tasks: context.tasks.clone(),
            asked,
            given_up: Arc::default(),
            users: HashMap::new(),
            queue,
            attached: Vec::new(),
            draining: false,
        }
    }

    /// Subscribes a user once more. Returns whether NATS has to be told.
    async fn add(&mut self, uid: &Uid) -> Result<bool, RpcError> {
        match self.users.entry(uid.clone()) {
            hash_map::Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                Ok(false)
            }
            hash_map::Entry::Vacant(count) => {
                if let Some(attached) = self.attached.last_mut() {
                    attached.add(&self.kind, uid).await?;
                }
                count.insert(1);
                Ok(true)
            }
        }
    }

    /// Undoes [`add`](Self::add) once.
    async fn remove(&mut self, uid: &Uid) {
        let Some(count) = self.users.get_mut(uid) else { return };
        *count -= 1;
        if *count == 0 {
            self.users.remove(uid);
            for attached in &mut self.attached {
                // On a broken connection nobody takes anything from a full queue, so it is not waited for, not even for the
                // tick of a timer: many users leave at once. The library ends the subscription when there is room.
                let up = attached.connection.health().borrow().up;
                for handle in attached.users.remove(uid).into_iter().flatten() {
                    if up {
                        drop(timeout(PATIENCE, handle.end()).await);
                    } else {
                        drop(handle);
                    }
                }
            }
        }
    }

    async fn drain(&mut self) {
        self.draining = true;
        for attached in &mut self.attached {
            if let Some(calls) = attached.calls.take() {
                calls.drain().await;
            }
        }
    }

    /// Waits until NATS knows of all subscriptions. If that takes too long it is not our fault: nothing gets through.
    async fn settle(&mut self) {
        if let Some(Attached { connection, echo, .. }) = self.attached.last_mut()
            && !echo.heard(connection).await
        {
            tracing::debug!("NATS has not confirmed a subscription");
        }
    }
}

impl Attached {
    /// How long to wait for room in the queue of the connection.
    fn patience(&self) -> Duration {
        // On a broken connection nothing is taken from a full queue.
        if self.connection.health().borrow().up { PATIENCE } else { Duration::ZERO }
    }

    async fn add(&mut self, kind: &ServerType, uid: &Uid) -> Result<(), RpcError> {
        let both = timeout(self.patience(), async {
            let push = self.connection.subscribe(subject::push(kind, uid)).await?;
            let kick = self.connection.subscribe(subject::kick(kind, uid)).await?;
            Ok::<_, RpcError>([push, kick])
        });
        let both = both.await.map_err(|_| RpcError::Disconnected("the connection to NATS is full".into()))??;
        let mut handles = Vec::with_capacity(2);
        for subscriber in both {
            let (handle, reader) = split(subscriber);
            // The reader ends after this, or with the whole server.
            drop(self.readers.send(reader).await);
            handles.push(handle);
        }
        if let Ok(handles) = handles.try_into() {
            self.users.insert(uid.clone(), handles);
        }
        Ok(())
    }
}

impl End for Subscriptions {
    type Command = Vec<Command>;

    async fn attach(&mut self, connection: Arc<Connection>, echo: Echo) -> Result<(), RpcError> {
        let (readers, new) = mpsc::channel(NEW_READERS);
        self.tasks.spawn("subscriptions on NATS", read(new, self.queue.clone()));
        let bindings = connection.subscribe(subject::bindings(&self.kind)).await?;
        let (bindings, reader) = split(bindings);
        drop(readers.send(reader).await);
        let users = HashMap::with_capacity(self.users.len());
        let connected = Arc::clone(&connection);
        let mut attached = Attached { connection, echo, calls: None, _bindings: bindings, users, readers };
        for uid in self.users.keys() {
            attached.add(&self.kind, uid).await?;
        }
        if !self.draining {
            let (calls, ended) = Calls::new();
            let subscriber = connected.subscribe(self.calls.clone()).await?;
            let (subject, intake) = (self.calls.clone(), Arc::clone(&self.intake));
            self.tasks.spawn("calls on NATS", calls::read(subscriber, subject, Arc::clone(&connected), intake, ended));
            attached.calls = Some(calls);
        }
        if !attached.echo.heard(&connected).await {
            return Err(RpcError::Disconnected("no answer from NATS".into()));
        }
        self.attached.push(attached);
        Ok(())
    }

    fn overlap(&mut self) {
        self.intake.recent.begin();
    }

    async fn detach(&mut self) {
        if let Some(newest) = self.attached.pop() {
            // All ends with the others.
            self.attached = vec![newest];
        }
    }

    fn settled(&mut self) {
        self.intake.recent.end();
    }

    async fn next(&mut self) -> Vec<Command> {
        let mut batch = Vec::new();
        tokio::select! {
            count = self.asked.recv_many(&mut batch, MAX_BATCH) => if count == 0 {
                // Nobody can ask any more.
                pending::<()>().await;
            },
            () = self.given_up.some.notified() => {}
        }
        batch
    }

    async fn run(&mut self, batch: Vec<Command>) {
        let given_up = std::mem::take(&mut *self.given_up.uids());
        for uid in given_up {
            self.remove(&uid).await;
        }
        let (mut subscribed, mut new) = (Vec::new(), false);
        for command in batch {
            // Whoever does not wait for the reply has given up.
            match command {
                Command::Subscribe(uid, reply) => match self.add(&uid).await {
                    Ok(first) => {
                        new |= first;
                        subscribed.push((Subscribed { uid: Some(uid), given_up: Arc::clone(&self.given_up) }, reply));
                    }
                    Err(error) => drop(reply.send(Err(error.into()))),
                },
                Command::Unsubscribe(uid, reply) => {
                    self.remove(&uid).await;
                    let _ = reply.send(());
                }
                Command::Drain(mut reply) => {
                    // Users who leave meanwhile wait behind this, so it ends with who asked.
                    tokio::select! {
                        () = self.drain() => {}
                        () = reply.closed() => {}
                    }
                    let _ = reply.send(());
                }
            }
        }
        if new {
            self.settle().await;
        }
        for (subscribed, reply) in subscribed {
            // What nobody waits for comes back, and is undone.
            drop(reply.send(Ok(subscribed)));
        }
    }
}

/// Reads pushes, kicks and binds as they arrive, as long as there is room for them.
async fn read(mut new: mpsc::Receiver<Reader>, queue: mpsc::Sender<Message>) {
    let mut subscriptions = SelectAll::new();
    let mut open = true;
    while open || !subscriptions.is_empty() {
        let some = !subscriptions.is_empty();
        let next = async {
            let room = queue.reserve().await;
            (room, subscriptions.next().await)
        };
        tokio::select! {
            reader = new.recv(), if open => match reader {
                Some(reader) => subscriptions.push(reader),
                None => open = false,
            },
            (room, message) = next, if some => match (room, message) {
                (Ok(room), Some(message)) => room.send(message),
                (Ok(_), None) => {}
                // Everything ends.
                (Err(_), _) => return,
            },
        }
    }
}

/// Hands over what was read, in its order.
async fn hand_over(mut queued: mpsc::Receiver<Message>, intake: Arc<Intake>) {
    while let Some(message) = queued.recv().await {
        intake.other(message);
    }
}
