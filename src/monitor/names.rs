//! Names of the metrics that a filter counts in.
//!
//! Several filters of a proxy write to the same statistics: those of listeners for both directions, or two on one path. So
//! where the configuration names a scope each metric says which: it has the label `scope`. Without one the filters that
//! name none add up.

use std::rc::Rc;

use crate::monitor::metrics::name;
use crate::monitor::outcome::Outcome;
use crate::operation::Tier;

/// The names under one scope. By default there is none.
#[derive(Clone, Debug, Default)]
pub struct Names {
    scope: Option<Rc<str>>,
}

impl Names {
    /// The names under the configured scope.
    pub fn of(scope: Option<&str>) -> Self {
        Self { scope: scope.map(Rc::from) }
    }

    fn name(&self, labels: &[(&str, &str)], metric: &str) -> String {
        match &self.scope {
            Some(scope) => name(&[("scope", scope)], &name(labels, metric)),
            None => name(labels, metric),
        }
    }

    /// Name of the counter of requests by outcome.
    pub fn requests_total(&self, operation: &str, tier: Tier, outcome: Outcome) -> String {
        let labels = [("operation", operation), ("tier", tier.as_str()), ("outcome", outcome.as_str())];
        self.name(&labels, "outrigger_requests_total")
    }

    /// Name of the histogram of durations of forwarded requests.
    pub fn request_duration_milliseconds(&self, operation: &str) -> String {
        self.name(&[("operation", operation)], "outrigger_request_duration_milliseconds")
    }

    /// Name of the counter of refusals, real (`enforced`) and shadow.
    pub fn refusals_total(&self, reason: &str, enforced: &str) -> String {
        self.name(&[("reason", reason), ("enforced", enforced)], "outrigger_refusals_total")
    }

    /// Name of the counter of fallbacks served.
    pub fn fallbacks_total(&self, fallback: &str, reason: &str) -> String {
        self.name(&[("fallback", fallback), ("reason", reason)], "outrigger_fallbacks_total")
    }

    /// Name of the counter of answers that are not kept.
    pub fn stale_not_kept_total(&self, cause: &str) -> String {
        self.name(&[("cause", cause)], "outrigger_stale_not_kept_total")
    }

    /// Name of the histogram of waits in the limit's queue.
    pub fn queue_wait_milliseconds(&self, limit: &str) -> String {
        self.name(&[("limit", limit)], "outrigger_queue_wait_milliseconds")
    }

    /// Name of the counter of requests that held their place of a concurrency limit for too long.
    pub fn holds_expired_total(&self, limit: &str) -> String {
        self.name(&[("limit", limit)], "outrigger_holds_expired_total")
    }

    /// Name of the counter of evictions of a keyed limit's table; `kind` is `lossless` or `lossy`.
    pub fn table_evictions_total(&self, limit: &str, kind: &str) -> String {
        self.name(&[("limit", limit), ("kind", kind)], "outrigger_table_evictions_total")
    }

    /// Name of the counter of retries that were made, and of requests that got none.
    pub fn retries_total(&self, operation: &str, decision: &str) -> String {
        self.name(&[("operation", operation), ("decision", decision)], "outrigger_retries_total")
    }

    /// Name of the gauge of a breaker's phase: 0 closed, 1 half-open, 2 ramp, 3 open.
    pub fn breaker_state(&self, breaker: &str) -> String {
        self.name(&[("breaker", breaker)], "outrigger_breaker_state")
    }

    /// Name of the counter of a breaker's changes of phase.
    pub fn breaker_transitions_total(&self, breaker: &str, to: &str, cause: &str) -> String {
        self.name(&[("breaker", breaker), ("to", to), ("cause", cause)], "outrigger_breaker_transitions_total")
    }

    /// Name of the gauge that is 1 while a switch is on.
    pub fn switch_on(&self, switch: &str) -> String {
        self.name(&[("switch", switch)], "outrigger_switch_on")
    }

    /// Name of the gauge that is 1 while a configuration of this version is in use.
    pub fn config_info(&self, version: &str) -> String {
        self.name(&[("version", version)], "outrigger_config_info")
    }
}
