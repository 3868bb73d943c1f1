//! The compiled configuration at work.
//!
//! A [`Filter`] holds parameters, names of records and handles of metrics; state is in shared records and in the
//! [`Worker`]. For each operation it knows the plan: which policies apply, in order. So a
//! request costs what applies to it, however much else is configured. To make a filter costs time and memory linear in the
//! size of the document; a [`plan`] is made with the operation's first request.

mod plan;

use std::cell::OnceCell;
use std::rc::Rc;

use crate::config::{Config, Monitor};
use crate::degrade::breaker::rule::BreakerRule;
use crate::degrade::failure::FailureRule;
use crate::degrade::switch::Switch;
use crate::limit::rule::{Limit, LimitSpec};
use crate::monitor::names::Names;
use crate::monitor::reason::{self, Reason};
use crate::operation::request::Request;
use crate::operation::selection::Selection;
use crate::operation::{Operations, Tier};
use crate::reply::fallback::Fallback;
use crate::retry::register::Register;
use crate::retry::rule::{DeadlineSpec, RetryRule};
use crate::retry::store::UsualTimes;
use crate::sorted::Merged;
use crate::worker::Worker;

use self::plan::Filed;
pub(crate) use self::plan::{Plan, Section};

/// A configuration put to work under a scope.
#[derive(Debug)]
pub struct Filter {
    pub(crate) operations: Operations,
    /// Which policies apply to what.
    filed: Filed,
    /// By index of the operation: its plan, once it had a request.
    plans: Vec<OnceCell<Box<Plan>>>,
    /// Prefix of what is kept per operation.
    scope: String,
    /// Those that refuse in the order configured, then those that only count: these count only what the others admit.
    pub(crate) limits: Vec<Limit>,
    pub(crate) switches: Vec<Switch>,
    pub(crate) breakers: Vec<BreakerRule>,
    pub(crate) on_failure: Vec<FailureRule>,
    pub(crate) retries: Vec<Rc<RetryRule>>,
    pub(crate) deadlines: Vec<DeadlineSpec>,
    /// Whether any rule for failures keeps answers, so that writes matter to them.
    pub(crate) keeps_answers: bool,
    pub(crate) fallbacks: Vec<Fallback>,
    /// Why a request is refused that has no time left.
    pub(crate) expired: Reason,
    usual_times: Rc<UsualTimes>,
    /// The requests whose attempts are seen one by one.
    pub(crate) register: Rc<Register>,
    pub(crate) monitor: Monitor,
    pub(crate) names: Names,
}

impl Filter {
    /// Makes a configuration the latest of a worker: its parameters hold for the state that it shares with earlier ones.
    /// `default_scope` is used if the configuration names none. To be called when the configuration is taken up.
    pub fn announce(config: &Config, default_scope: &str, worker: &Worker) {
        let scope = config.scope.as_deref().unwrap_or(default_scope);
        for spec in &config.limits {
            spec.announce(scope, &worker.limit);
        }
        for spec in &config.breakers {
            spec.announce(scope, &worker.breaker);
        }
    }

    /// Puts a configuration to work in a worker, at once or when its first request comes. `default_scope` as above.
    pub fn new(config: &Config, default_scope: &str, worker: &Worker) -> Self {
        let scope = config.scope.as_deref().unwrap_or(default_scope);
        let names = Names::of(config.scope.as_deref());
        let limits: Vec<&LimitSpec> = in_turn(&config.limits).collect();
        let on_failure = config.on_failure.iter().cloned().enumerate();
        let retries = config.retries.iter().cloned().enumerate();
        let mut plans = Vec::new();
        plans.resize_with(config.operations.len(), OnceCell::new);
        Self {
            filed: file(config, &limits),
            plans,
            operations: Operations::new(config.operations.clone()),
            limits: limits.into_iter().map(|spec| Limit::new(spec.clone(), scope, &names, &worker.limit)).collect(),
            switches: config.switches.iter().cloned().map(|spec| Switch::new(spec, &names)).collect(),
            breakers: config
                .breakers
                .iter()
                .map(|spec| BreakerRule::new(spec.clone(), scope, &names, &worker.breaker))
                .collect(),
            on_failure: on_failure
                .map(|(index, spec)| FailureRule::new(index, spec, scope, &names, &worker.stale))
                .collect(),
            retries: retries.map(|(index, spec)| Rc::new(RetryRule::new(index, spec, scope, &worker.retry))).collect(),
            deadlines: config.deadlines.clone(),
            keeps_answers: config.on_failure.iter().any(|spec| spec.stale.is_some()),
            fallbacks: config.fallbacks.clone(),
            expired: Reason::plain(reason::DEADLINE, &names),
            usual_times: Rc::clone(&worker.retry.usual_times),
            register: Rc::clone(&worker.retry.register),
            monitor: config.monitor,
            scope: scope.to_owned(),
            names,
        }
    }

    /// The plan of the operation with this index.
    pub(crate) fn plan(&self, operation: usize) -> Option<&Plan> {
        let plan = self.plans.get(operation)?;
        Some(plan.get_or_init(|| Box::new(self.make_plan(operation))))
    }

    #[cold]
    fn make_plan(&self, operation: usize) -> Plan {
        let (name, tier) = self.operations.get(operation).map_or(("", Tier::P1), |it| (&it.name, it.tier));
        let usual_time = || self.usual_times.of(&format!("{}/{name}", self.scope));
        let failure = Reason::new("failure", name, &self.names);
        Plan::new(self.filed.of(operation, tier), failure, usual_time, self.monitor.outcomes)
    }
}

/// The limits in the order in which a request takes of them.
fn in_turn(limits: &[LimitSpec]) -> impl Iterator<Item = &LimitSpec> {
    limits.iter().filter(|it| it.enforced).chain(limits.iter().filter(|it| !it.enforced))
}

/// Files all policies by what they select.
fn file(config: &Config, limits: &[&LimitSpec]) -> Filed {
    let mut filed = Filed::new(config.operations.len());
    for (index, limit) in limits.iter().enumerate() {
        filed.file(Section::Limits, index, &limit.selection, None);
    }
    for (index, switch) in config.switches.iter().enumerate() {
        let section = if switch.enforced { Section::Switches } else { Section::ShadowSwitches };
        filed.file(section, index, &switch.selection, None);
    }
    for (index, breaker) in config.breakers.iter().enumerate() {
        let section = if breaker.enforced { Section::Breakers } else { Section::ShadowBreakers };
        filed.file(section, index, &breaker.selection, Some(breaker.failures));
    }
    for (index, rule) in config.on_failure.iter().enumerate() {
        filed.file(Section::OnFailure, index, &rule.selection, Some(rule.failures));
    }
    for (index, rule) in config.retries.iter().enumerate() {
        filed.file(Section::Retries, index, &rule.selection, Some(rule.failures));
    }
    for (index, rule) in config.deadlines.iter().enumerate() {
        filed.file(Section::Deadlines, index, &rule.selection, None);
    }
    filed
}

/// The first of the policies with these indices that applies to the request, of which they include the operation.
pub(crate) fn first_allowing<'p, T>(
    indices: Merged<'_>,
    policies: &'p [T],
    selection: impl Fn(&T) -> &Selection,
    request: &Request<'_>,
) -> Option<(usize, &'p T)> {
    let mut candidates = indices.filter_map(|index| Some((index, policies.get(index)?)));
    candidates.find(|(_, policy)| selection(policy).allows(request))
}
