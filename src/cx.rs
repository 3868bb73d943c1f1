//! The context of one callback: the only way to the proxy below the pipeline.
//!
//! Whoever has to do with the proxy is given a [`Cx`]: the proxy itself, the instant of the callback, and what the worker reports
//! trouble and metrics through. Policies are not: they take state, parameters and an instant.
//!
//! A `Cx` is made by whoever the proxy calls, and lives as long as the callback. So all that is done in one callback is done at
//! one instant, and the clock, which costs a call, is read at most once, and only if somebody asks. What is reported through it
//! is in [`monitor`](crate::monitor): its methods for metrics and for trouble are defined there.

use std::cell::{Cell, RefCell};

use crate::host::{Host, MetricId};
use crate::sorted::SortedMap;
use crate::time::Timestamp;

/// What one worker reports trouble and metrics through. Lasts as long as the worker, because a metric that is defined again costs
/// the proxy memory for good.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// The metrics that the worker has defined, by name.
    pub(crate) defined: RefCell<SortedMap<String, MetricId>>,
    /// When each kind of trouble was last logged.
    pub(crate) logged: RefCell<SortedMap<&'static str, Timestamp>>,
}

/// The context of one callback.
pub struct Cx<'a> {
    /// The proxy.
    pub host: &'a dyn Host,
    pub(crate) telemetry: &'a Telemetry,
    now: Cell<Option<Timestamp>>,
}

impl<'a> Cx<'a> {
    /// The context of a callback that begins.
    pub fn new(host: &'a dyn Host, telemetry: &'a Telemetry) -> Self {
        Self { host, telemetry, now: Cell::new(None) }
    }

    /// The context of a callback whose instant is known.
    pub fn at(host: &'a dyn Host, telemetry: &'a Telemetry, now: Timestamp) -> Self {
        Self { host, telemetry, now: Cell::new(Some(now)) }
    }

    /// The callback's instant: the same whenever it is asked for. The first time it costs a call of the proxy.
    pub fn now(&self) -> Timestamp {
        if let Some(now) = self.now.get() {
            return now;
        }
        let now = self.host.now();
        self.now.set(Some(now));
        now
    }
}
