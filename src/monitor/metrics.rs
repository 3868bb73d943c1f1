//! The metrics that a worker has defined, and the handles to them. All there may be are in the [table](super::table).
//!
//! Defining a metric costs the proxy about 8 µs and some memory for good, so it is done once per worker: on first
//! use, or with the configuration.

use std::cell::Cell;

use crate::cx::Cx;
use crate::host::{HostError, MetricId, MetricKind};
use crate::monitor::table::{CONFIG_REJECTED_TOTAL, HOST_ERRORS_TOTAL, SHARED_CONFLICTS_TOTAL};

/// What `outrigger_fallbacks_total` calls an answer that was kept.
pub const STALE: &str = "stale";

impl Cx<'_> {
    /// The handle of the metric, which is defined if the worker has not done so before.
    ///
    /// # Errors
    ///
    /// The proxy refused to define it.
    pub fn metric(&self, kind: MetricKind, name: String) -> Result<MetricId, HostError> {
        if let Some(id) = self.telemetry.defined.borrow().get(&name) {
            return Ok(*id);
        }
        let id = self.host.define_metric(kind, &name)?;
        self.telemetry.defined.borrow_mut().insert(name, id);
        Ok(id)
    }

    /// Raises a counter by one that is rare enough for its name to be looked up each time.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to raise it.
    pub fn count(&self, name: String) -> Result<(), HostError> {
        self.host.increment_metric(self.metric(MetricKind::Counter, name)?, 1)
    }

    /// Sets a gauge.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to set it.
    pub fn set(&self, name: String, value: u64) -> Result<(), HostError> {
        self.host.record_metric(self.metric(MetricKind::Gauge, name)?, value)
    }
}

/// A place in the compiled configuration for one metric's handle, filled on first use.
#[derive(Debug, Default)]
pub struct Handle(Cell<Option<MetricId>>);

impl Handle {
    /// Raises the counter by one. `name` is asked for only the first time.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to raise it.
    pub fn count(&self, cx: &Cx<'_>, name: impl FnOnce() -> String) -> Result<(), HostError> {
        self.add(cx, 1, name)
    }

    /// Raises the counter by `amount`, which is not zero.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to raise it.
    pub fn add(&self, cx: &Cx<'_>, amount: u64, name: impl FnOnce() -> String) -> Result<(), HostError> {
        cx.host.increment_metric(self.id(cx, MetricKind::Counter, name)?, amount)
    }

    /// Adds a value to the histogram. `name` is asked for only the first time.
    ///
    /// # Errors
    ///
    /// The proxy refused to define it or to take the value.
    pub fn observe(&self, cx: &Cx<'_>, value: u64, name: impl FnOnce() -> String) -> Result<(), HostError> {
        cx.host.record_metric(self.id(cx, MetricKind::Histogram, name)?, value)
    }

    fn id(&self, cx: &Cx<'_>, kind: MetricKind, name: impl FnOnce() -> String) -> Result<MetricId, HostError> {
        if let Some(id) = self.0.get() {
            return Ok(id);
        }
        let id = cx.metric(kind, name())?;
        self.0.set(Some(id));
        Ok(id)
    }
}

/// Name of the counter of things that could not be used.
pub fn host_errors_total(call: &str) -> String {
    HOST_ERRORS_TOTAL.name_with(None, [call])
}

/// Name of the counter of lost races for a shared record.
pub fn shared_conflicts_total(record: &str) -> String {
    SHARED_CONFLICTS_TOTAL.name_with(None, [record])
}

/// Name of the counter of refused configurations.
pub fn config_rejected_total() -> String {
    CONFIG_REJECTED_TOTAL.name_with(None, [])
}
