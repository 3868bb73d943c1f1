//! The table of every metric, and the handles to it.
//!
//! Proxy-wasm metrics have no labels. A label is written into the name as `label=.=value;.;`, which Istio's
//! `extraStatTags` and the `stats_tags` of the shipped bootstrap take out again. Values are configured names or words
//! of this crate, never a client's: a metric lives as long as the proxy.
//!
//! | metric | labels | kind | moves |
//! | --- | --- | --- | --- |
//! | `outrigger_requests_total` | operation, tier, outcome, scope | counter | once per request |
//! | `outrigger_request_duration_milliseconds` | operation, scope | histogram | once per forwarded request |
//! | `outrigger_refusals_total` | reason, enforced, scope | counter | per refusal, real or shadow |
//! | `outrigger_fallbacks_total` | fallback, reason, scope | counter | when one is served |
//! | `outrigger_stale_not_kept_total` | cause, scope | counter | when a 200 is not kept that a rule with `stale` selects |
//! | `outrigger_breaker_state` | breaker, scope | gauge | 0 closed, 1 half-open, 2 ramp, 3 open; at first sight, on change, and 0 when it is gone |
//! | `outrigger_breaker_transitions_total` | breaker, to, cause, scope | counter | on change |
//! | `outrigger_switch_on` | switch, scope | gauge | 1 while a configuration in use has it on |
//! | `outrigger_retries_total` | operation, decision, scope | counter | per retry made, and per request that got none |
//! | `outrigger_queue_wait_milliseconds` | limit, scope | histogram | when a request waited |
//! | `outrigger_holds_expired_total` | limit, scope | counter | when a request has held its place for `max_hold`, and goes on without |
//! | `outrigger_table_evictions_total` | limit, kind, scope | counter | when a key takes another one's cell |
//! | `outrigger_config_info` | version, scope | gauge | 1 while a configuration is in use |
//! | `outrigger_host_errors_total` | call | counter | when the proxy refuses a call, or a record or header is unusable |
//! | `outrigger_shared_conflicts_total` | call | counter | when another worker wrote first |
//! | `outrigger_config_rejected_total` | | counter | when a configuration is refused |
//!
//! The label `scope` is there if the configuration names one. The last three count what is no filter's own: what the virtual
//! machine met with.
//!
//! Defining a metric costs the proxy about 8 µs and some memory for good, so it is done once per worker: on first
//! use, or with the configuration.

use std::cell::Cell;

use crate::cx::Cx;
use crate::host::{HostError, MetricId, MetricKind};

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

/// The name of a metric with these labels.
pub(super) fn name(labels: &[(&str, &str)], metric: &str) -> String {
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

/// Name of the counter of things that could not be used.
pub fn host_errors_total(call: &str) -> String {
    name(&[("call", call)], "outrigger_host_errors_total")
}

/// Name of the counter of lost races for a shared record.
pub fn shared_conflicts_total(record: &str) -> String {
    name(&[("call", record)], "outrigger_shared_conflicts_total")
}

/// Name of the counter of refused configurations.
pub fn config_rejected_total() -> String {
    name(&[], "outrigger_config_rejected_total")
}
