//! Process signals, for `main`.

/// Waits until the process is asked to stop: Ctrl-C, or SIGTERM where there is one.
///
/// The library reads no signals by itself; pass this to
/// [`with_graceful_shutdown`](crate::Serve::with_graceful_shutdown).
pub async fn shutdown() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    () = interrupted() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "cannot listen for SIGTERM");
                interrupted().await;
            }
        }
    }
    #[cfg(not(unix))]
    interrupted().await;
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "cannot listen for Ctrl-C");
        // Without signals the server runs until it is killed.
        std::future::pending::<()>().await;
    }
}
