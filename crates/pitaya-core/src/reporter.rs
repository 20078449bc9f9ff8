//! The port through which every count leaves the framework.
//!
//! Instruments are asked for once, when an app is built, and kept as handles: nothing is looked up by name while
//! messages flow.

use std::{fmt, sync::Arc};

use crate::BoxFuture;

/// What is counted: its name, its meaning, and the names of its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Desc {
    /// The subsystem, the second part of the exported name (`pitaya_<subsystem>_<name>`).
    pub subsystem: &'static str,
    /// The name within the subsystem.
    pub name: &'static str,
    /// One sentence for the reader of a dashboard, with the unit.
    pub help: &'static str,
    /// The names of the labels, in the order in which their values are given.
    pub labels: &'static [&'static str],
}

impl Desc {
    /// Describes an instrument.
    #[must_use]
    pub const fn new(
        subsystem: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { subsystem, name, help, labels }
    }
}

/// A number that only grows.
pub trait Counter: Send + Sync {
    /// Adds to the count.
    fn add(&self, amount: u64);
}

/// A number that goes up and down.
pub trait Gauge: Send + Sync {
    /// Adds to the value, or takes from it.
    fn add(&self, amount: i64);
    /// Replaces the value.
    fn set(&self, value: i64);
}

/// A distribution of values.
pub trait Histogram: Send + Sync {
    /// Records one value, in the unit that the instrument's help text names.
    fn record(&self, value: f64);
}

/// Receives the framework's metrics.
///
/// Methods are called when an app is built and, for label values that are only known later (an error code), when they
/// first occur; the handles are called from many threads and must neither block nor fail.
pub trait Reporter: Send + Sync + 'static {
    /// A counter with these label values (as many as `desc.labels`).
    fn counter(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Counter>;
    /// A gauge with these label values.
    fn gauge(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Gauge>;
    /// A histogram with these label values.
    fn histogram(&self, desc: &Desc, labels: &[&str]) -> Arc<dyn Histogram>;
    /// Hands over what is held back (a batch of datagrams, say). Called once at the end of a stop, which waits for it.
    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
    /// Whether anybody looks at the values. The engine reads no clock for a reporter that answers `false`.
    fn is_enabled(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// The default: nobody looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReporter;

#[derive(Debug)]
struct Nothing;

impl Counter for Nothing {
    fn add(&self, _amount: u64) {}
}

impl Gauge for Nothing {
    fn add(&self, _amount: i64) {}
    fn set(&self, _value: i64) {}
}

impl Histogram for Nothing {
    fn record(&self, _value: f64) {}
}

impl Reporter for NoReporter {
    fn counter(&self, _desc: &Desc, _labels: &[&str]) -> Arc<dyn Counter> {
        Arc::new(Nothing)
    }

    fn gauge(&self, _desc: &Desc, _labels: &[&str]) -> Arc<dyn Gauge> {
        Arc::new(Nothing)
    }

    fn histogram(&self, _desc: &Desc, _labels: &[&str]) -> Arc<dyn Histogram> {
        Arc::new(Nothing)
    }

    fn is_enabled(&self) -> bool {
        false
    }
}
