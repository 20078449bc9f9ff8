//! Takes the calls of other servers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use pitaya_core::{
    BoxFuture, Error, Result, Uid,
    cluster::{Capacity, ClusterContext, RpcServer, RpcService},
    config::Config,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    intake::Intake,
    keeper,
    link::Link,
    options::Options,
    recent::Recent,
    settings,
    subscriptions::{Command, Subscriptions},
};

/// How many binds and closes may wait for their turn; one more waits to get there.
const MAX_COMMANDS: usize = 1024;

/// Takes the calls, pushes, kicks and binds of other servers on NATS.
pub struct NatsServer {
    options: Options,
    capacity: Capacity,
    /// How many messages that are no calls may wait.
    waiting: usize,
    link: Arc<Link>,
    commands: OnceLock<mpsc::Sender<Command>>,
}

impl NatsServer {
    /// Makes a server by the settings of [`settings`](crate::settings). It connects when it starts.
    ///
    /// # Errors
    ///
    /// The addresses cannot be read.
    pub fn new(config: &Config) -> Result<Self> {
        let capacity =
            Capacity { running: config.get(&settings::SERVICES), waiting: config.get(&settings::BUFFER_MESSAGES) };
        let (options, waiting) = (Options::of_server(config)?, config.get(&settings::BUFFER_PUSH));
        Ok(Self { options, capacity, waiting, link: Arc::default(), commands: OnceLock::new() })
    }

    /// Asks the task that keeps the subscriptions. None if there is none (any more).
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.get()?.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl RpcServer for NatsServer {
    fn start<'a>(&'a self, context: &'a ClusterContext, service: Arc<dyn RpcService>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (commands, asked) = mpsc::channel(MAX_COMMANDS);
            let intake = Intake { service, link: Arc::clone(&self.link), recent: Recent::default() };
            let end = Subscriptions::new(context, intake, asked, self.waiting);
            keeper::start(&self.options, Arc::clone(&self.link), end, context).await?;
            self.commands.set(commands).map_err(|_| Error::plain("the RPC server was started twice"))
        })
    }

    fn subscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let subscribed = self.ask(|reply| Command::Subscribe(uid.clone(), reply)).await;
            subscribed.unwrap_or_else(|| Err(Error::plain("the connection to other servers is closed")))?.keep();
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, uid: &'a Uid) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            // Without the task there is no subscription either.
            self.ask(|reply| Command::Unsubscribe(uid.clone(), reply)).await;
        })
    }

    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ask(Command::Drain).await;
        })
    }

    fn capacity(&self) -> Capacity {
        self.capacity
    }
}

impl fmt::Debug for NatsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsServer").field("addresses", &self.options.shown()).finish_non_exhaustive()
    }
}
