use std::{sync::Arc, time::Duration};

use pitaya_core::{BoxFuture, Endpoint, Error, Layer, Reply, Request, Result, Route, code};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bounds how many handlers run at once: what is one too many waits or is refused with `PIT-429`.
///
/// The bound is over all routes that the layer is around, and over all sessions. Those who wait are served in the order of
/// their arrival.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    running: usize,
    shared: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    running: Semaphore,
    waiting: Semaphore,
    patience: Duration,
}

impl ConcurrencyLimit {
    /// So many run at once, at least one. One more is refused, unless some may [wait](Self::waiting).
    #[must_use]
    pub fn new(running: usize) -> Self {
        Self::of(running, 0, Duration::ZERO)
    }

    /// So many may wait for their turn, each for at most `patience`; one more, or one that has waited for that long, is
    /// refused.
    #[must_use]
    pub fn waiting(self, waiting: usize, patience: Duration) -> Self {
        Self::of(self.running, waiting, patience)
    }

    fn of(running: usize, waiting: usize, patience: Duration) -> Self {
        let (running, waiting) = (running.clamp(1, Semaphore::MAX_PERMITS), waiting.min(Semaphore::MAX_PERMITS));
        let shared = Places { running: Semaphore::new(running), waiting: Semaphore::new(waiting), patience };
        Self { running, shared: Arc::new(shared) }
    }
}

impl Layer for ConcurrencyLimit {
    fn layer(&self, _route: &Route, inner: Arc<dyn Endpoint>) -> Arc<dyn Endpoint> {
        Arc::new(Limited { inner, places: Arc::clone(&self.shared) })
    }
}

struct Limited {
    inner: Arc<dyn Endpoint>,
    places: Arc<Places>,
}

impl Endpoint for Limited {
    fn call(&self, request: Request) -> BoxFuture<'static, Reply> {
        let (inner, places) = (Arc::clone(&self.inner), Arc::clone(&self.places));
        Box::pin(async move {
            let _running = places.enter().await?;
            inner.call(request).await
        })
    }
}

impl Places {
    async fn enter(&self) -> Result<SemaphorePermit<'_>> {
        // The semaphores are never closed, so `acquire` fails for nobody.
        if let Ok(running) = self.running.try_acquire() {
            return Ok(running);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Err(full()) };
        match tokio::time::timeout(self.patience, self.running.acquire()).await {
            Ok(Ok(running)) => Ok(running),
            Ok(Err(_)) | Err(_) => Err(full()),
        }
    }
}

#[cold]
fn full() -> Error {
    Error::new(code::TOO_MANY, "too many requests at once, try again later")
}
