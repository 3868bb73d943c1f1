//! Counters that are there from the configuration on.
//!
//! Prometheus sees an increase only between two values: a counter that is first seen at 1 never increased, and the first
//! trip, refusal or rejected configuration of each pod would be missed. So what an alert is about is defined at 0, as far as
//! its labels are known then. What is left out is counted by the request and for nobody to be called about: requests by
//! outcome and retries of every operation, and lost races.

use std::cell::Cell;

use crate::config::Config;
use crate::degrade::breaker::rule::BreakerSpec;
use crate::degrade::breaker::state::Transition;
use crate::degrade::stale::Cause;
use crate::host::{Host, HostError, MetricKind};
use crate::limit::concurrency::Concurrency;
use crate::limit::policy::Policy;
use crate::monitor::metrics::{self, Metrics};
use crate::monitor::names::Names;
use crate::monitor::reason::{self, Enforcement};
use crate::monitor::trouble;
use crate::operation::selection::Selection;

/// Defines all of them. One that is there already keeps its value. One that cannot be defined keeps no other from it.
///
/// # Errors
///
/// The proxy refused to define some: how it refused the last.
pub fn define(host: &dyn Host, metrics: &Metrics, config: &Config) -> Result<(), HostError> {
    let names = Names::of(config.scope.as_deref());
    let foretold = Foretold { host, metrics, config, names, refused: Cell::new(None) };
    foretold.counter(metrics::config_rejected_total());
    trouble::CALLS.iter().for_each(|call| foretold.counter(metrics::host_errors_total(call)));
    foretold.limits();
    foretold.degradation();
    foretold.failures();
    foretold.refused.take().map_or(Ok(()), Err)
}

/// The counters of one configuration.
struct Foretold<'a> {
    host: &'a dyn Host,
    metrics: &'a Metrics,
    config: &'a Config,
    names: Names,
    refused: Cell<Option<HostError>>,
}

impl Foretold<'_> {
    fn counter(&self, name: String) {
        if let Err(error) = self.metrics.id(self.host, MetricKind::Counter, name) {
            self.refused.set(Some(error));
        }
    }

    fn fallback(&self, fallback: Option<usize>, reason: &str) {
        if let Some(fallback) = fallback.and_then(|index| self.config.fallbacks.get(index)) {
            self.counter(self.names.fallbacks_total(&fallback.name, reason));
        }
    }

    /// What a policy refuses, or would refuse, and the fallback that it serves then.
    fn refusals(&self, reason: &str, enforcement: Enforcement, fallback: Option<usize>) {
        self.counter(self.names.refusals_total(reason, enforcement.as_str()));
        if enforcement == Enforcement::Enforced {
            self.fallback(fallback, reason);
        }
    }

    fn limits(&self) {
        for limit in &self.config.limits {
            let reason = reason::text("limit", &limit.name);
            self.refusals(&reason, Enforcement::of(limit.enforced), limit.fallback);
            if let Policy::Concurrency(Concurrency { max_hold: Some(_), .. }) = limit.policy {
                self.counter(self.names.holds_expired_total(&limit.name));
            }
            // Those of a concurrency limit make room for nobody.
            if limit.key.is_some() && !matches!(limit.policy, Policy::Concurrency(_)) {
                self.counter(self.names.table_evictions_total(&limit.name, "lossless"));
                self.counter(self.names.table_evictions_total(&limit.name, "lossy"));
            }
        }
    }

    fn degradation(&self) {
        // Those that are off too: a switch is thrown by an update, and refuses with the next request.
        for switch in &self.config.switches {
            let reason = reason::text("switch", &switch.name);
            self.refusals(&reason, Enforcement::of(switch.enforced), switch.fallback);
        }
        for breaker in &self.config.breakers {
            let reason = reason::text("breaker", &breaker.name);
            self.refusals(&reason, Enforcement::of(breaker.enforced), breaker.fallback);
            for transition in Transition::ALL.iter().filter(|it| breaker.breaker.may_make(**it)) {
                let (to, cause) = (transition.to(), transition.cause());
                self.counter(self.names.breaker_transitions_total(&breaker.name, to, cause));
            }
        }
        // A caller's proxy says how long it waits, and a rule for retries reads it too.
        if !self.config.deadlines.is_empty() || !self.config.retries.is_empty() {
            self.counter(self.names.refusals_total(reason::DEADLINE, "true"));
        }
    }

    /// What is served in place of failures, and of refusals by breakers without a fallback of their own.
    fn failures(&self) {
        if self.config.on_failure.iter().any(|rule| rule.stale.is_some()) {
            Cause::ALL.iter().for_each(|cause| self.counter(self.names.stale_not_kept_total(cause.as_str())));
        }
        for rule in &self.config.on_failure {
            let failures = self.included(&rule.selection).map(|(_, name)| reason::text("failure", name));
            let breakers = self.config.breakers.iter().filter(|it| self.meets(&rule.selection, it));
            for reason in failures.chain(breakers.map(|it| reason::text("breaker", &it.name))) {
                if rule.stale.is_some() {
                    self.counter(self.names.fallbacks_total(metrics::STALE, &reason));
                }
                self.fallback(rule.fallback, &reason);
            }
        }
    }

    /// The operations of a selection.
    fn included(&self, selection: &Selection) -> impl Iterator<Item = (usize, &str)> {
        let operations = self.config.operations.iter().map(|it| it.name.as_str()).enumerate();
        operations.filter(|(index, _)| selection.includes(*index))
    }

    /// Whether a rule with the selection answers for refusals by the breaker.
    fn meets(&self, selection: &Selection, breaker: &BreakerSpec) -> bool {
        breaker.enforced
            && breaker.fallback.is_none()
            && self.included(selection).any(|(index, _)| breaker.selection.includes(index))
    }
}
