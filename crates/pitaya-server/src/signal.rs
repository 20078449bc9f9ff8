//! Process signals, for `main`.

use std::io;

use tokio::sync::oneshot;

/// Waits until the process is asked to stop: Ctrl-C, or SIGTERM where there is one.
///
/// The library reads no signals by itself; pass this to
/// [`with_graceful_shutdown`](crate::Serve::with_graceful_shutdown), or use
/// [`with_signals`](crate::Serve::with_signals), which also hurries at the second signal.
pub async fn shutdown() {
    Signals::listen().next().await;
}

/// The signals that ask the process to stop, none of which is missed from the first look on.
pub(crate) struct Signals(io::Result<Streams>);

#[cfg(unix)]
struct Streams {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(not(unix))]
struct Streams;

impl Signals {
    fn listen() -> Self {
        #[cfg(unix)]
        let streams = {
            use tokio::signal::unix::{SignalKind, signal};
            signal(SignalKind::interrupt()).and_then(|interrupt| {
                let terminate = signal(SignalKind::terminate())?;
                Ok(Streams { interrupt, terminate })
            })
        };
        #[cfg(not(unix))]
        let streams = Ok(Streams);
        Self(streams)
    }

    /// Two futures: the first resolves at the first signal, the second at the one after it.
    pub(crate) fn first_and_second() -> (impl Future<Output = ()> + Send, impl Future<Output = ()> + Send) {
        let (sender, receiver) = oneshot::channel();
        let first = async move {
            let mut signals = Self::listen();
            signals.next().await;
            // Nobody may wait for the second any more.
            drop(sender.send(signals));
        };
        let second = async move {
            match receiver.await {
                Ok(mut signals) => signals.next().await,
                Err(_) => std::future::pending().await,
            }
        };
        (first, second)
    }

    async fn next(&mut self) {
        let heard = match &mut self.0 {
            Ok(streams) => streams.next().await,
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        if let Err(error) = heard {
            tracing::error!(%error, "cannot listen for signals");
            // Without signals the server runs until it is killed.
            std::future::pending::<()>().await;
        }
    }
}

impl Streams {
    #[cfg(unix)]
    async fn next(&mut self) -> io::Result<()> {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        Ok(())
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> io::Result<()> {
        tokio::signal::ctrl_c().await
    }
}
