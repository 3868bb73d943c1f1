//! The metrics that a worker has defined, and the handles to them. All there may be are in the [table](super::table).
//!
//! Defining a metric costs the proxy about 8 µs and some memory for good, so it is done once per worker: on first
//! use, or [with the configuration](super::foretold).

use std::cell::{Cell, RefCell};

use crate::host::{Host, HostError, MetricId, MetricKind};
use crate::monitor::table::{CONFIG_REJECTED_TOTAL, HOST_ERRORS_TOTAL, SHARED_CONFLICTS_TOTAL};
use crate::sorted::SortedMap;

/// What `outrigger_fallbacks_total` calls an answer that was kept.
pub const STALE: &str = "stale";

/// The metrics that one worker has defined, by name.
#[derive(Debug, Default)]
pub struct Metrics {
    defined: RefCell<SortedMap<String, MetricId>>,
}

impl Metrics {
    /// The handle of the metric, which is defined if it is not yet.
    ///
    /// # Errors
    ///
    /// The proxy refused to define it.
    pub fn id(&self, host: &dyn Host, kind: MetricKind, name: String) -> Result<MetricId, HostError> {
        if let Some(id) = self.defined.borrow().get(&name) {
            return Ok(*id);
        }
        let id = host.define_metric(kind, &name)?;
        self.defined.borrow_mut().insert(name, id);
        Ok(id)
    }

    /// Raises a counter by one that is rare enough for its name to be looked up each time.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to raise it.
    pub fn count(&self, host: &dyn Host, name: String) -> Result<(), HostError> {
        host.increment_metric(self.id(host, MetricKind::Counter, name)?, 1)
    }

    /// Sets a gauge.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to set it.
    pub fn set(&self, host: &dyn Host, name: String, value: u64) -> Result<(), HostError> {
        host.record_metric(self.id(host, MetricKind::Gauge, name)?, value)
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
    pub fn count(&self, host: &dyn Host, metrics: &Metrics, name: impl FnOnce() -> String) -> Result<(), HostError> {
        self.add(host, metrics, 1, name)
    }

    /// Raises the counter by `amount`, which is not zero.
    ///
    /// # Errors
    ///
    /// The proxy refused to define or to raise it.
    pub fn add(
        &self,
        host: &dyn Host,
        metrics: &Metrics,
        amount: u64,
        name: impl FnOnce() -> String,
    ) -> Result<(), HostError> {
        host.increment_metric(self.id(host, metrics, MetricKind::Counter, name)?, amount)
    }

    /// Adds a value to the histogram. `name` is asked for only the first time.
    ///
    /// # Errors
    ///
    /// The proxy refused to define it or to take the value.
    pub fn observe(
        &self,
        host: &dyn Host,
        metrics: &Metrics,
        value: u64,
        name: impl FnOnce() -> String,
    ) -> Result<(), HostError> {
        host.record_metric(self.id(host, metrics, MetricKind::Histogram, name)?, value)
    }

    fn id(
        &self,
        host: &dyn Host,
        metrics: &Metrics,
        kind: MetricKind,
        name: impl FnOnce() -> String,
    ) -> Result<MetricId, HostError> {
        if let Some(id) = self.0.get() {
            return Ok(id);
        }
        let id = metrics.id(host, kind, name())?;
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
