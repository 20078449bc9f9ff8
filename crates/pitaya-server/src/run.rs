//! The life of a server: start, accept, stop.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{Shared, pending},
};
use pitaya_core::{BoxFuture, CloseReason, Error, Phase, Result as CoreResult};
use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior},
};

use crate::{ServeError, acceptor::AnyAcceptor, connection, engine::Engine, lifecycle::Failure};

/// What the end of connections may take beyond its own deadlines: time to be scheduled.
const SLACK: Duration = Duration::from_secs(1);

/// Resolves when a stop shall be short, with when that was.
type Hurry = Shared<BoxFuture<'static, Instant>>;

/// Runs a server from its start to its end.
pub(crate) async fn run(
    engine: Arc<Engine>,
    acceptors: Vec<Box<dyn AnyAcceptor>>,
    mut shutdown: BoxFuture<'static, ()>,
    hurry: BoxFuture<'static, ()>,
) -> Result<(), ServeError> {
    let hurry: Hurry = hurry.map(|()| Instant::now()).boxed().shared();
    let guard = StopOnDrop(engine);
    let engine = &guard.0;
    let mut initialised = 0;
    spawn_groups(engine);
    let mut of_cluster = None;
    let started = tokio::select! {
        started = start(engine, &mut initialised, &mut of_cluster) => started,
        () = &mut shutdown => None,
    };
    if let Some(Ok(())) = started {
        for acceptor in acceptors {
            if let Some(address) = acceptor.address() {
                tracing::info!(%address, "accepting clients");
            }
            engine.work.spawn("acceptor", accept_clients(Arc::clone(engine), acceptor));
        }
        of_cluster = serve(engine, &mut shutdown).await.err();
    }
    tracing::info!("stopping");
    engine.app.set_ready(false);
    if let Some(cluster) = &engine.cluster {
        tokio::select! {
            () = cluster.leave() => {}
            _ = hurry.clone() => tracing::info!("no longer waiting for the other servers to know"),
        }
    }
    engine.stop_accepting.cancel();
    if engine.options.drain && hurry.peek().is_none() {
        tokio::select! {
            () = drain(engine) => {}
            _ = hurry.clone() => tracing::info!(sessions = engine.sessions.len(), "no longer waiting for clients to go"),
        }
    }
    close_clients(engine, &hurry).await;
    let mut failures = engine.parts.stop(&engine.app, Phase::BeforeShutdown, initialised).await;
    engine.app.tasks().stop(engine.options.shutdown_grace).await;
    failures.extend(engine.parts.stop(&engine.app, Phase::Shutdown, initialised).await);
    if let Some(cluster) = &engine.cluster {
        cluster.stop(engine.options.shutdown_grace, moment_after(&hurry)).await;
    }
    flush_reporter(engine).await;

    if let Some(error) = of_cluster {
        return Err(ServeError::Cluster(error));
    }
    if let Some(Err(failure)) = started {
        return Err(ServeError::start(failure));
    }
    match engine.app.tasks().len() + engine.cut_off.load(Ordering::Relaxed) {
        0 => failures.into_iter().next().map_or(Ok(()), |failure| Err(ServeError::stop(failure))),
        count => Err(ServeError::NotDrained { count }),
    }
}

/// Connects to the cluster, if there is one, starts modules and components, and takes calls of other servers then. None if
/// the cluster cannot be joined.
async fn start(
    engine: &Arc<Engine>,
    initialised: &mut usize,
    of_cluster: &mut Option<Error>,
) -> Option<Result<(), Failure>> {
    let Some(cluster) = &engine.cluster else {
        return Some(engine.parts.start(&engine.app, initialised).await);
    };
    let service = match cluster.start(engine).await {
        Ok(service) => service,
        Err(error) => {
            *of_cluster = Some(error);
            return None;
        }
    };
    if let Err(failure) = engine.parts.start(&engine.app, initialised).await {
        return Some(Err(failure));
    }
    match cluster.take_calls(service).await {
        Ok(()) => Some(Ok(())),
        Err(error) => {
            *of_cluster = Some(error);
            None
        }
    }
}

/// Serves until it is told to stop, or cannot stay in its cluster.
async fn serve(engine: &Engine, shutdown: &mut BoxFuture<'static, ()>) -> CoreResult<()> {
    let Some(cluster) = &engine.cluster else {
        engine.app.set_ready(true);
        shutdown.await;
        return Ok(());
    };
    tokio::select! {
        registered = cluster.register() => registered?,
        // What has been registered by then is taken away.
        () = &mut *shutdown => return Ok(()),
    }
    engine.app.set_ready(true);
    tokio::select! {
        error = cluster.peers.context().given_up() => Err(error),
        () = shutdown => Ok(()),
    }
}

/// Runs what the group store does in the background until the app stops.
fn spawn_groups(engine: &Engine) {
    let app = engine.app.clone();
    let store = Arc::clone(engine.sessions.groups());
    engine.app.tasks().spawn("groups", async move {
        tokio::select! {
            () = store.run(&app) => {}
            () = app.tasks().stopping().cancelled() => {}
        }
    });
}

/// Accepts clients until the server stops.
async fn accept_clients(engine: Arc<Engine>, mut acceptor: Box<dyn AnyAcceptor>) {
    loop {
        let accepted = tokio::select! {
            accepted = AssertUnwindSafe(acceptor.accept()).catch_unwind() => accepted,
            () = engine.stop_accepting.cancelled() => return,
        };
        match accepted {
            Ok(incoming) => {
                let connection = connection::serve(Arc::clone(&engine), incoming);
                engine.work.spawn("connection", connection);
            }
            Err(_) => {
                tracing::error!("an acceptor panicked and accepts no more clients");
                return;
            }
        }
    }
}

/// Waits until all clients have gone, at most as long as the setting says.
async fn drain(engine: &Engine) {
    let mut ticks = tokio::time::interval(engine.options.drain_period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = tokio::time::sleep(engine.options.drain_timeout);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = engine.sessions.emptied() => return,
            () = &mut deadline => {
                return tracing::warn!(sessions = engine.sessions.len(), "clients did not go in time");
            }
            _ = ticks.tick() => tracing::info!(sessions = engine.sessions.len(), "waiting for clients to go"),
        }
    }
}

/// Resolves a moment after a stop shall be short: other servers that answer do so by then.
async fn moment_after(hurry: &Hurry) {
    let since = hurry.clone().await;
    tokio::time::sleep_until(since + SLACK).await;
}

/// Makes each connection end (no more reading, then its handlers, its queue, the kick) and waits for all. Handlers are not
/// waited for in a hurry, unless that has ended the wait for clients to go.
async fn close_clients(engine: &Engine, hurry: &Hurry) {
    let has_ended_drain = engine.options.drain && hurry.peek().is_some();
    begin_close(engine);
    let patience = patience(engine);
    let ended = async {
        if let Some(cluster) = &engine.cluster {
            // Backends bind and change sessions whose messages they handle, so their calls are taken until the last client
            // has gone.
            drop(tokio::time::timeout(patience, engine.sessions.emptied()).await);
            tokio::select! {
                () = cluster.drain() => {}
                () = moment_after(hurry) => {}
            }
        }
        engine.work.stop(patience).await;
    };
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => return,
        _ = hurry.clone(), if !has_ended_drain => {
            tracing::info!(sessions = engine.sessions.len(), "no longer waiting for handlers");
            engine.hurry.cancel();
        }
    }
    // The connections look at it when they are woken.
    begin_close(engine);
    ended.await;
}

/// The longest that the end of all connections takes.
fn patience(engine: &Engine) -> Duration {
    let options = &engine.options;
    // Handlers, then what is queued, then the steps of the close, each with its own bound.
    let bounded = options.shutdown_grace + options.write_timeout + SLACK;
    engine.sessions.longest_close().saturating_add(bounded)
}

fn begin_close(engine: &Engine) {
    engine.closing.cancel();
    engine.sessions.drain_all(CloseReason::Shutdown);
}

async fn flush_reporter(engine: &Engine) {
    let flushing = AssertUnwindSafe(async { engine.app.reporter().flush().await }).catch_unwind();
    match tokio::time::timeout(engine.options.write_timeout, flushing).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => tracing::error!("the reporter panicked at the stop"),
        Err(_) => tracing::error!("the reporter did not hand over its values in time"),
    }
}

/// A server whose future is dropped stops all the same; nobody waits for it then.
struct StopOnDrop(Arc<Engine>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.app.set_ready(false);
        self.0.stop_accepting.cancel();
        begin_close(&self.0);
        self.0.app.tasks().stopping().cancel();
        leave_cluster(&self.0);
    }
}

/// Ends what connects a server to its cluster, if its stop has not done so: somebody has dropped it.
fn leave_cluster(engine: &Arc<Engine>) {
    let Some(cluster) = &engine.cluster else { return };
    let stopping = cluster.peers.context().tasks.stopping();
    if stopping.is_cancelled() {
        return;
    }
    if Handle::try_current().is_err() {
        // Nobody can wait here. The others will find out.
        return stopping.cancel();
    }
    let (engine, cluster) = (Arc::clone(engine), Arc::clone(cluster));
    // It ends by itself: everything that it waits for has its bound.
    engine.app.tasks().clone().spawn("leaving the cluster", async move {
        cluster.leave().await;
        cluster.drain().await;
        // Connections tell backends that they have closed.
        engine.work.stop(patience(&engine)).await;
        cluster.stop(engine.options.shutdown_grace, pending()).await;
    });
}
