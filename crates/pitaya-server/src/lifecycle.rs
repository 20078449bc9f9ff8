//! Starting and stopping modules and components.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use pitaya_core::{App, Error, Module, Phase, code, panic_text};

/// Everything with a lifecycle, in the order of its start. What was registered twice is in it once.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    parts: Vec<Module>,
    start_timeout: Duration,
    stop_timeout: Duration,
}

/// A part that failed, and where.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) part: String,
    pub(crate) phase: Phase,
    pub(crate) error: Error,
}

impl Parts {
    pub(crate) fn new(
        parts: impl IntoIterator<Item = Module>,
        start_timeout: Duration,
        stop_timeout: Duration,
    ) -> Self {
        let mut once: Vec<Module> = Vec::new();
        for part in parts {
            if !once.iter().any(|known| known.is_same(&part)) {
                once.push(part);
            }
        }
        Self { parts: once, start_timeout, stop_timeout }
    }

    /// Initialises all parts, then calls `after_init` of all. `initialised` counts those that have to be stopped, whatever
    /// becomes of the rest.
    pub(crate) async fn start(&self, app: &App, initialised: &mut usize) -> Result<(), Failure> {
        for part in &self.parts {
            self.call(part, Phase::Init, app).await?;
            *initialised += 1;
        }
        for part in &self.parts {
            self.call(part, Phase::AfterInit, app).await?;
        }
        Ok(())
    }

    /// Calls one phase of the stop of the first so many parts, in reverse. A failure stops nothing.
    pub(crate) async fn stop(&self, app: &App, phase: Phase, initialised: usize) -> Vec<Failure> {
        let mut failures = Vec::new();
        for part in self.parts[..initialised].iter().rev() {
            if let Err(failure) = self.call(part, phase, app).await {
                tracing::error!(part = failure.part, %phase, error = %failure.error, "a part did not stop well");
                failures.push(failure);
            }
        }
        failures
    }

    async fn call(&self, part: &Module, phase: Phase, app: &App) -> Result<(), Failure> {
        let patience = match phase {
            Phase::Init | Phase::AfterInit => self.start_timeout,
            Phase::BeforeShutdown | Phase::Shutdown => self.stop_timeout,
        };
        let calling = AssertUnwindSafe(async { part.call(phase, app).await }).catch_unwind();
        let error = match tokio::time::timeout(patience, calling).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => Error::new(code::INTERNAL, format!("panicked: {}", panic_text(&*panic))),
            Err(_) => Error::new(code::TIMEOUT, format!("took longer than {patience:?}")),
        };
        Err(Failure { part: part.name().to_owned(), phase, error })
    }
}
