//! The table of every metric: what it is called, what its labels are, and when it moves.
//!
//! Proxy-wasm metrics have no labels. A label is written into the name as `label=.=value;.;`, and [the name](Metric::name_with)
//! is made in one place. Istio's `extraStatTags` and the `stats_tags` of a bootstrap take labels out again, each by a regular
//! expression that looks for `label=.=` anywhere in the name. So no label may end in another one, and no value has any of `=`
//! and `;`. Values are configured names or words of closed lists, never a client's: a metric lives as long as
//! the proxy.
//!
//! From this table come the rules of the shipped bootstraps and manifests too, and the tables of the page of metrics. Its
//! sentences are for that page alone: the macro `metric!` drops them from the shipped module.

use crate::host::MetricKind;

/// A metric. `L` is an array of as many labels as it has, so that a name with one more or less does not compile; in [`METRICS`]
/// it is a slice.
#[derive(Debug)]
pub struct Metric<L: ?Sized = [&'static str]> {
    /// What Prometheus calls it.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricKind,
    /// Whose it is.
    pub owner: Owner,
    /// When it moves, or what it says, in Markdown.
    #[cfg(not(target_arch = "wasm32"))]
    pub moves: &'static str,
    /// Its labels, in the order in which they are written.
    pub labels: L,
}

/// Whose a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A filter's: with the label [`SCOPE`] besides, where the configuration names a scope.
    Filter,
    /// The virtual machine's, which may run several filters: never with a scope.
    Proxy,
}

/// The label of all metrics of a filter whose configuration names a scope. It is written before the others.
pub const SCOPE: &str = "scope";

impl<const N: usize> Metric<[&'static str; N]> {
    /// What the proxy is told to call the metric with these values of its labels.
    pub fn name_with(&self, scope: Option<&str>, values: [&str; N]) -> String {
        written(self, scope, &values)
    }
}

/// The one place that writes labels into a name. Not generic, so that the module has it once.
fn written(metric: &Metric, scope: Option<&str>, values: &[&str]) -> String {
    let mut name = String::new();
    let labels = metric.labels.iter().copied().zip(values.iter().copied());
    for (label, value) in scope.map(|scope| (SCOPE, scope)).into_iter().chain(labels) {
        for part in [label, "=.=", value, ";.;"] {
            name.push_str(part);
        }
    }
    name.push_str(metric.name);
    name
}

/// Makes a [`Metric`] of name, kind, owner, labels and a sentence, which the shipped module does without.
macro_rules! metric {
    ($name:literal, $kind:ident, $owner:ident, [$($label:literal),*], $moves:literal) => {
        Metric {
            name: $name,
            kind: MetricKind::$kind,
            owner: Owner::$owner,
            #[cfg(not(target_arch = "wasm32"))]
            moves: $moves,
            labels: [$($label),*],
        }
    };
}

/// Requests by outcome.
#[rustfmt::skip]
pub static REQUESTS_TOTAL: Metric<[&str; 3]> = metric!("outrigger_requests_total", Counter, Filter, ["operation", "tier", "outcome"],
    "every request, once");

/// Durations of forwarded requests.
#[rustfmt::skip]
pub static REQUEST_DURATION_MILLISECONDS: Metric<[&str; 1]> = metric!("outrigger_request_duration_milliseconds", Histogram, Filter, ["operation"],
    "how long forwarded requests took");

/// Refusals, real and shadow.
#[rustfmt::skip]
pub static REFUSALS_TOTAL: Metric<[&str; 2]> = metric!("outrigger_refusals_total", Counter, Filter, ["reason", "enforced"],
    "refusals; with `enforced=\"false\"` what limits, switches and breakers in shadow mode would refuse. A failure that was replaced is no refusal");

/// Fallbacks served.
#[rustfmt::skip]
pub static FALLBACKS_TOTAL: Metric<[&str; 2]> = metric!("outrigger_fallbacks_total", Counter, Filter, ["fallback", "reason"],
    "fallbacks served; `fallback=\"stale\"` are kept answers");

/// Answers that are not kept.
#[rustfmt::skip]
pub static STALE_NOT_KEPT_TOTAL: Metric<[&str; 1]> = metric!("outrigger_stale_not_kept_total", Counter, Filter, ["cause"],
    "answers with 200 that a rule with `stale` selects and that are not kept, see [below](#why-an-answer-is-not-kept)");

/// The phase of a breaker.
#[rustfmt::skip]
pub static BREAKER_STATE: Metric<[&str; 1]> = metric!("outrigger_breaker_state", Gauge, Filter, ["breaker"],
    "0 closed, 1 half-open, 2 ramp, 3 open; set at the first request after a configuration, and at each change; 0 again when no configuration has the breaker");

/// Changes of a breaker's phase.
#[rustfmt::skip]
pub static BREAKER_TRANSITIONS_TOTAL: Metric<[&str; 3]> = metric!("outrigger_breaker_transitions_total", Counter, Filter, ["breaker", "to", "cause"],
    "changes of the breaker's phase");

/// Switches that are on.
#[rustfmt::skip]
pub static SWITCH_ON: Metric<[&str; 1]> = metric!("outrigger_switch_on", Gauge, Filter, ["switch"],
    "1 while a configuration in use has the switch on, also in shadow mode, else 0");

/// Retries, and requests that got none.
#[rustfmt::skip]
pub static RETRIES_TOTAL: Metric<[&str; 2]> = metric!("outrigger_retries_total", Counter, Filter, ["operation", "decision"],
    "retries, each; and requests that a rule for retries selects and that get none, by why");

/// Waits in a limit's queue.
#[rustfmt::skip]
pub static QUEUE_WAIT_MILLISECONDS: Metric<[&str; 1]> = metric!("outrigger_queue_wait_milliseconds", Histogram, Filter, ["limit"],
    "how long requests waited in a queue");

/// Requests that held a place of a concurrency limit for too long.
#[rustfmt::skip]
pub static HOLDS_EXPIRED_TOTAL: Metric<[&str; 1]> = metric!("outrigger_holds_expired_total", Counter, Filter, ["limit"],
    "requests that have held a place for [`max_hold`](reference/limits.md) and go on without");

/// Keys that lost their place in a table.
#[rustfmt::skip]
pub static TABLE_EVICTIONS_TOTAL: Metric<[&str; 2]> = metric!("outrigger_table_evictions_total", Counter, Filter, ["limit", "kind"],
    "keys that lost their place in the table of a limit with a `key` to another one");

/// Configurations in use.
#[rustfmt::skip]
pub static CONFIG_INFO: Metric<[&str; 1]> = metric!("outrigger_config_info", Gauge, Filter, ["version"],
    "1 for each version in use, 0 for one that was");

/// What could not be used.
#[rustfmt::skip]
pub static HOST_ERRORS_TOTAL: Metric<[&str; 1]> = metric!("outrigger_host_errors_total", Counter, Proxy, ["call"],
    "calls that the proxy refused, and things that the filter could not use");

/// Lost races for shared state.
#[rustfmt::skip]
pub static SHARED_CONFLICTS_TOTAL: Metric<[&str; 1]> = metric!("outrigger_shared_conflicts_total", Counter, Proxy, ["call"],
    "lost races between workers for a piece of state, by kind; each is tried again");

/// Refused configurations.
#[rustfmt::skip]
pub static CONFIG_REJECTED_TOTAL: Metric<[&str; 0]> = metric!("outrigger_config_rejected_total", Counter, Proxy, [],
    "configurations refused");

/// All of them, in the order of the page of metrics.
pub static METRICS: [&Metric; 16] = [
    &REQUESTS_TOTAL,
    &REQUEST_DURATION_MILLISECONDS,
    &REFUSALS_TOTAL,
    &FALLBACKS_TOTAL,
    &STALE_NOT_KEPT_TOTAL,
    &BREAKER_STATE,
    &BREAKER_TRANSITIONS_TOTAL,
    &SWITCH_ON,
    &RETRIES_TOTAL,
    &QUEUE_WAIT_MILLISECONDS,
    &HOLDS_EXPIRED_TOTAL,
    &TABLE_EVICTIONS_TOTAL,
    &CONFIG_INFO,
    &HOST_ERRORS_TOTAL,
    &SHARED_CONFLICTS_TOTAL,
    &CONFIG_REJECTED_TOTAL,
];

/// Every label, once, in the order of the table; [`SCOPE`] last. What takes labels out of names must know them all.
pub fn labels() -> Vec<&'static str> {
    let mut labels: Vec<&'static str> = Vec::new();
    for label in METRICS.iter().flat_map(|it| it.labels.iter().copied()).chain([SCOPE]) {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}
