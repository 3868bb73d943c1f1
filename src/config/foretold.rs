//! Counters that are there from the configuration on.
//!
//! Prometheus sees an increase only between two values: a counter that is first seen at 1 never increased, and the first
//! trip, refusal or rejected configuration of each pod would be missed. So what an alert is about is defined at 0, as far as
//! its labels are known then. What is left out is counted by the request and for nobody to be called about: requests by
//! outcome and retries of every operation, and lost races.

//!
//! To define a counter costs the proxy some 8 µs, and 0.3 ms the first time that its name goes through a dozen patterns of
//! `stats_tags`. A thousand at once would keep requests waiting for a third of a second. So they are defined a few at a time,
//! and requests get their turn between. Rules times operations have no end, so what is foretold of one configuration has: what
//! is beyond it is defined when it first happens.

use std::time::Duration;

use crate::config::Config;
use crate::cx::Cx;
use crate::degrade::breaker::rule::BreakerSpec;
use crate::degrade::breaker::state::Transition;
use crate::degrade::stale::Cause;
use crate::host::{HostError, MetricKind};
use crate::limit::concurrency::Concurrency;
use crate::limit::policy::Policy;
use crate::monitor::metrics;
use crate::monitor::names::Names;
use crate::monitor::reason::{self, Enforcement};
use crate::monitor::trouble;
use crate::operation::selection::{Selection, Tiers};
use crate::shared::table::Eviction;

/// How many counters are defined at a time: at most some 10 ms of a worker's time.
pub const AT_A_TIME: usize = 32;

/// The time between: as long as the work takes at most, so that requests have half of a worker's time meanwhile.
pub const PAUSE: Duration = Duration::from_millis(10);

/// How many counters of one configuration are foretold. Those of all policies of 1 000 operations come to a tenth.
pub const MOST: usize = 10_000;

/// The counters of a configuration that are not defined yet.
#[derive(Debug)]
pub struct Foretold {
    /// The next one is the last.
    names: Vec<String>,
}

impl Foretold {
    /// All counters of the configuration, or the first [`MOST`] if there are more.
    pub fn of(config: &Config) -> Self {
        let present = Tiers::of(config.operations.iter().map(|it| it.tier));
        let mut all = List { config, present, names: Names::of(config.scope.as_deref()), counters: Vec::new() };
        all.counter(metrics::config_rejected_total());
        trouble::CALLS.iter().for_each(|call| all.counter(metrics::host_errors_total(call.word)));
        all.limits();
        all.degradation();
        all.failures();
        all.counters.reverse();
        Self { names: all.counters }
    }

    /// Whether all are defined.
    pub fn is_done(&self) -> bool {
        self.names.is_empty()
    }

    /// Defines the next [few](AT_A_TIME). One that is there already keeps its value. One that cannot be defined keeps no
    /// other from it, and is not tried again.
    ///
    /// # Errors
    ///
    /// The proxy refused to define some: how it refused the last.
    pub fn define(&mut self, cx: &Cx<'_>) -> Result<(), HostError> {
        let mut done = Ok(());
        for name in self.names.drain(self.names.len().saturating_sub(AT_A_TIME)..).rev() {
            if let Err(error) = cx.metric(MetricKind::Counter, name) {
                done = Err(error);
            }
        }
        done
    }
}

/// The counters of one configuration, while they are being listed.
struct List<'a> {
    config: &'a Config,
    /// The tiers that operations have.
    present: Tiers,
    names: Names,
    counters: Vec<String>,
}

impl List<'_> {
    fn is_full(&self) -> bool {
        MOST <= self.counters.len()
    }

    fn counter(&mut self, name: String) {
        if !self.is_full() {
            self.counters.push(name);
        }
    }

    fn fallback(&mut self, fallback: Option<usize>, reason: &str) {
        if let Some(fallback) = fallback.and_then(|index| self.config.fallbacks.get(index)) {
            self.counter(self.names.fallbacks_total(&fallback.name, reason));
        }
    }

    /// What a policy refuses, or would refuse, and the fallback that it serves then.
    fn refusals(&mut self, reason: &str, enforcement: Enforcement, fallback: Option<usize>) {
        self.counter(self.names.refusals_total(reason, enforcement.as_str()));
        if enforcement == Enforcement::Enforced {
            self.fallback(fallback, reason);
        }
    }

    fn limits(&mut self) {
        for limit in &self.config.limits {
            let reason = reason::text("limit", &limit.name);
            self.refusals(&reason, Enforcement::of(limit.enforced), limit.fallback);
            if let Policy::Concurrency(Concurrency { max_hold: Some(_), .. }) = limit.policy {
                self.counter(self.names.holds_expired_total(&limit.name));
            }
            // Those of a concurrency limit make room for nobody.
            if limit.key.is_some() && !matches!(limit.policy, Policy::Concurrency(_)) {
                for kind in [Eviction::Lossless, Eviction::Lossy].into_iter().filter_map(Eviction::kind) {
                    self.counter(self.names.table_evictions_total(&limit.name, kind));
                }
            }
        }
    }

    fn degradation(&mut self) {
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
    fn failures(&mut self) {
        let config = self.config;
        if config.on_failure.iter().any(|rule| rule.stale.is_some()) {
            Cause::ALL.iter().for_each(|cause| self.counter(self.names.stale_not_kept_total(cause.as_str())));
        }
        for rule in &config.on_failure {
            if self.is_full() {
                return;
            }
            let included = rule.selection.among(&config.operations).filter_map(|index| config.operations.get(index));
            let failures = included.map(|it| reason::text("failure", &it.name));
            let breakers = config.breakers.iter().filter(|it| is_answered(config, self.present, &rule.selection, it));
            let reasons: Vec<String> =
                failures.chain(breakers.map(|it| reason::text("breaker", &it.name))).take(MOST).collect();
            for reason in reasons {
                if rule.stale.is_some() {
                    self.counter(self.names.fallbacks_total(metrics::STALE, &reason));
                }
                self.fallback(rule.fallback, &reason);
            }
        }
    }
}

/// Whether a rule with the selection answers for refusals by the breaker.
fn is_answered(config: &Config, present: Tiers, selection: &Selection, breaker: &BreakerSpec) -> bool {
    breaker.enforced && breaker.fallback.is_none() && selection.meets(&breaker.selection, &config.operations, present)
}
