//! The table of every metric, and the handles to it.
//!
//! Proxy-wasm metrics have no labels. A label is written into the name as `label=.=value;.;`, which Istio's
//! `extraStatTags` and the `stats_tags` of the shipped bootstrap take out again. Values are configured names or words
//! of this crate, never a client's: a metric lives as long as the proxy.
//!
//! | metric | labels | kind | moves |
//! | --- | --- | --- | --- |
//! | `outrigger_requests_total` | operation, tier, outcome | counter | once per request |
//! | `outrigger_request_duration_milliseconds` | operation | histogram | once per forwarded request |
//! | `outrigger_refusals_total` | reason, enforced | counter | per refusal, real or shadow |
//! | `outrigger_fallbacks_total` | fallback, reason | counter | when one is served |
//! | `outrigger_breaker_state` | breaker | gauge | 0 closed, 1 half-open, 2 ramp, 3 open; at first sight, on change, and 0 when it is gone |
//! | `outrigger_breaker_transitions_total` | breaker, to, cause | counter | on change |
//! | `outrigger_switch_on` | switch | gauge | 1 while a configuration in use has it on |
//! | `outrigger_retries_total` | operation, decision | counter | per retry made, and per request that got none |
//! | `outrigger_queue_wait_milliseconds` | limit | histogram | when a request waited |
//! | `outrigger_table_evictions_total` | limit, kind | counter | when a key takes another one's cell |
//! | `outrigger_host_errors_total` | call | counter | when the proxy refuses a call, or a record or header is unusable |
//! | `outrigger_shared_conflicts_total` | call | counter | when another worker wrote first |
//! | `outrigger_config_info` | version | gauge | 1 while a configuration is in use |
//! | `outrigger_config_rejected_total` | | counter | when a configuration is refused |
//!
//! Defining a metric costs the proxy about 8 µs and some memory for good, so it is done once per worker: on first
//! use, or [with the configuration](super::foretold).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use crate::host::{Host, HostError, MetricId, MetricKind};
use crate::monitor::outcome::Outcome;
use crate::operation::Tier;

/// What `outrigger_fallbacks_total` calls an answer that was kept.
pub const STALE: &str = "stale";

/// The metrics that one worker has defined, by name.
#[derive(Debug, Default)]
pub struct Metrics {
    defined: RefCell<BTreeMap<String, MetricId>>,
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

fn name(labels: &[(&str, &str)], metric: &str) -> String {
    let mut name = String::new();
    for (label, value) in labels {
        name.push_str(label);
        name.push_str("=.=");
        name.push_str(value);
        name.push_str(";.;");
    }
    name.push_str(metric);
    name
}

/// Name of the counter of requests by outcome.
pub fn requests_total(operation: &str, tier: Tier, outcome: Outcome) -> String {
    let labels = [("operation", operation), ("tier", tier.as_str()), ("outcome", outcome.as_str())];
    name(&labels, "outrigger_requests_total")
}

/// Name of the histogram of durations of forwarded requests.
pub fn request_duration_milliseconds(operation: &str) -> String {
    name(&[("operation", operation)], "outrigger_request_duration_milliseconds")
}

/// Name of the counter of refusals, real (`enforced`) and shadow.
pub fn refusals_total(reason: &str, enforced: &str) -> String {
    name(&[("reason", reason), ("enforced", enforced)], "outrigger_refusals_total")
}

/// Name of the counter of fallbacks served.
pub fn fallbacks_total(fallback: &str, reason: &str) -> String {
    name(&[("fallback", fallback), ("reason", reason)], "outrigger_fallbacks_total")
}

/// Name of the histogram of waits in the limit's queue.
pub fn queue_wait_milliseconds(limit: &str) -> String {
    name(&[("limit", limit)], "outrigger_queue_wait_milliseconds")
}

/// Name of the counter of evictions of a keyed limit's table; `kind` is `lossless` or `lossy`.
pub fn table_evictions_total(limit: &str, kind: &str) -> String {
    name(&[("limit", limit), ("kind", kind)], "outrigger_table_evictions_total")
}

/// Name of the counter of things that could not be used.
pub fn host_errors_total(call: &str) -> String {
    name(&[("call", call)], "outrigger_host_errors_total")
}

/// Name of the counter of lost races for a shared record.
pub fn shared_conflicts_total(record: &str) -> String {
    name(&[("call", record)], "outrigger_shared_conflicts_total")
}

/// Name of the counter of retries that were made, and of requests that got none.
pub fn retries_total(operation: &str, decision: &str) -> String {
    name(&[("operation", operation), ("decision", decision)], "outrigger_retries_total")
}

/// Name of the gauge of a breaker's phase: 0 closed, 1 half-open, 2 ramp, 3 open.
pub fn breaker_state(breaker: &str) -> String {
    name(&[("breaker", breaker)], "outrigger_breaker_state")
}

/// Name of the counter of a breaker's changes of phase.
pub fn breaker_transitions_total(breaker: &str, to: &str, cause: &str) -> String {
    name(&[("breaker", breaker), ("to", to), ("cause", cause)], "outrigger_breaker_transitions_total")
}

/// Name of the gauge that is 1 while a switch is on.
pub fn switch_on(switch: &str) -> String {
    name(&[("switch", switch)], "outrigger_switch_on")
}

/// Name of the gauge that is 1 while a configuration of this version is in use.
pub fn config_info(version: &str) -> String {
    name(&[("version", version)], "outrigger_config_info")
}

/// Name of the counter of refused configurations.
pub fn config_rejected_total() -> String {
    name(&[], "outrigger_config_rejected_total")
}
