//! Names of the metrics that a filter counts in.
//!
//! Several filters of a proxy write to the same statistics: those of listeners for both directions, or two on one path. So
//! where the configuration names a scope each metric says which: it has the label `scope`. Without one the filters that
//! name none add up.

use std::rc::Rc;

use crate::monitor::outcome::Outcome;
use crate::monitor::table::{self, Metric};
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

    fn name<const N: usize>(&self, metric: &Metric<[&'static str; N]>, values: [&str; N]) -> String {
        metric.name_with(self.scope.as_deref(), values)
    }

    /// Name of the counter of requests by outcome.
    pub fn requests_total(&self, operation: &str, tier: Tier, outcome: Outcome) -> String {
        self.name(&table::REQUESTS_TOTAL, [operation, tier.as_str(), outcome.as_str()])
    }

    /// Name of the histogram of durations of forwarded requests.
    pub fn request_duration_milliseconds(&self, operation: &str) -> String {
        self.name(&table::REQUEST_DURATION_MILLISECONDS, [operation])
    }

    /// Name of the counter of refusals, real (`enforced`) and shadow.
    pub fn refusals_total(&self, reason: &str, enforced: &str) -> String {
        self.name(&table::REFUSALS_TOTAL, [reason, enforced])
    }

    /// Name of the counter of fallbacks served.
    pub fn fallbacks_total(&self, fallback: &str, reason: &str) -> String {
        self.name(&table::FALLBACKS_TOTAL, [fallback, reason])
    }

    /// Name of the counter of answers that are not kept.
    pub fn stale_not_kept_total(&self, cause: &str) -> String {
        self.name(&table::STALE_NOT_KEPT_TOTAL, [cause])
    }

    /// Name of the histogram of waits in the limit's queue.
    pub fn queue_wait_milliseconds(&self, limit: &str) -> String {
        self.name(&table::QUEUE_WAIT_MILLISECONDS, [limit])
    }

    /// Name of the counter of requests that held their place of a concurrency limit for too long.
    pub fn holds_expired_total(&self, limit: &str) -> String {
        self.name(&table::HOLDS_EXPIRED_TOTAL, [limit])
    }

    /// Name of the counter of evictions of a keyed limit's table; `kind` is `lossless` or `lossy`.
    pub fn table_evictions_total(&self, limit: &str, kind: &str) -> String {
        self.name(&table::TABLE_EVICTIONS_TOTAL, [limit, kind])
    }

    /// Name of the counter of retries that were made, and of requests that got none.
    pub fn retries_total(&self, operation: &str, decision: &str) -> String {
        self.name(&table::RETRIES_TOTAL, [operation, decision])
    }

    /// Name of the gauge of a breaker's phase: 0 closed, 1 half-open, 2 ramp, 3 open.
    pub fn breaker_state(&self, breaker: &str) -> String {
        self.name(&table::BREAKER_STATE, [breaker])
    }

    /// Name of the counter of a breaker's changes of phase.
    pub fn breaker_transitions_total(&self, breaker: &str, to: &str, cause: &str) -> String {
        self.name(&table::BREAKER_TRANSITIONS_TOTAL, [breaker, to, cause])
    }

    /// Name of the gauge that is 1 while a switch is on.
    pub fn switch_on(&self, switch: &str) -> String {
        self.name(&table::SWITCH_ON, [switch])
    }

    /// Name of the gauge that is 1 while a configuration of this version is in use.
    pub fn config_info(&self, version: &str) -> String {
        self.name(&table::CONFIG_INFO, [version])
    }
}
