//! The compiled configuration at work.
//!
//! A [`Filter`] holds parameters, names of records and handles of metrics; state is in shared records and in the
//! [`Worker`]. For each operation it knows the plan: which policies apply, in order. So a
//! request costs what applies to it, however much else is configured.

use std::cell::RefCell;
use std::rc::Rc;

use crate::config::{Config, Monitor, Outcomes};
use crate::degrade::breaker::rule::BreakerRule;
use crate::degrade::failure::FailureRule;
use crate::degrade::fallback::Fallback;
use crate::degrade::switch::Switch;
use crate::limit::rule::Limit;
use crate::monitor::failures::Failures;
use crate::monitor::metrics::Handle;
use crate::monitor::names::Names;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{self, Reason};
use crate::operation::Operations;
use crate::operation::request::Request;
use crate::operation::selection::Selection;
use crate::retry::policy::Decision;
use crate::retry::rule::{DeadlineSpec, RetryRule};
use crate::retry::usual::UsualTime;
use crate::worker::Worker;

/// A configuration put to work under a scope.
#[derive(Debug)]
pub struct Filter {
    pub(crate) operations: Operations,
    pub(crate) plans: Vec<Plan>,
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
    pub(crate) monitor: Monitor,
    pub(crate) names: Names,
}

/// What happens to requests of one operation: indices of the policies that apply to it, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) switches: Vec<usize>,
    pub(crate) breakers: Vec<usize>,
    /// Those that refuse in the order configured, then those that only count.
    pub(crate) limits: Vec<usize>,
    pub(crate) on_failure: Vec<usize>,
    pub(crate) retries: Vec<usize>,
    pub(crate) deadlines: Vec<usize>,
    /// Why an answer was replaced.
    pub(crate) failure: Reason,
    /// How long its requests take, where it matters: where there are retries or deadlines.
    pub(crate) usual_time: Option<Rc<RefCell<UsualTime>>>,
    /// The statuses that are a failure to anybody who hears of them.
    pub(crate) failures: Failures,
    /// Of which responses the status is read, whatever the rules for deadlines and retries want to know.
    pub(crate) outcomes: Outcomes,
    pub(crate) requests: [Handle; Outcome::COUNT],
    pub(crate) retried: [Handle; Decision::COUNT],
    pub(crate) duration: Handle,
}

impl Filter {
    /// Makes a configuration the latest of a worker: its parameters hold for the state that it shares with earlier ones.
    /// `default_scope` is used if the configuration names none. To be called when the configuration is taken up.
    pub fn announce(config: &Config, default_scope: &str, worker: &Worker) {
        let scope = config.scope.as_deref().unwrap_or(default_scope);
        for spec in &config.limits {
            spec.announce(scope, worker);
        }
        for spec in &config.breakers {
            spec.announce(scope, worker);
        }
    }

    /// Puts a configuration to work in a worker, at once or when its first request comes. `default_scope` as above.
    pub fn new(config: &Config, default_scope: &str, worker: &Worker) -> Self {
        let scope = config.scope.as_deref().unwrap_or(default_scope);
        let on_failure = config.on_failure.iter().cloned().enumerate();
        let retries = config.retries.iter().cloned().enumerate();
        let names = Names::of(config.scope.as_deref());
        let plan = |operation| Plan::new(operation, config, scope, worker);
        Self {
            plans: (0..config.operations.len()).map(plan).collect(),
            operations: Operations::new(config.operations.clone()),
            limits: config.limits.iter().map(|spec| Limit::new(spec.clone(), scope, &names, worker)).collect(),
            switches: config.switches.iter().cloned().map(|spec| Switch::new(spec, &names)).collect(),
            breakers: config
                .breakers
                .iter()
                .map(|spec| BreakerRule::new(spec.clone(), scope, &names, worker))
                .collect(),
            on_failure: on_failure.map(|(index, spec)| FailureRule::new(index, spec, scope, worker)).collect(),
            retries: retries.map(|(index, spec)| Rc::new(RetryRule::new(index, spec, scope, worker))).collect(),
            deadlines: config.deadlines.clone(),
            keeps_answers: config.on_failure.iter().any(|spec| spec.stale.is_some()),
            fallbacks: config.fallbacks.clone(),
            expired: Reason::plain(reason::DEADLINE, &names),
            monitor: config.monitor,
            names,
        }
    }
}

impl Plan {
    fn new(operation: usize, config: &Config, scope: &str, worker: &Worker) -> Self {
        let name = config.operations.get(operation).map_or("", |it| &it.name);
        let is_enforced = |index: &usize| config.limits.get(*index).is_some_and(|spec| spec.enforced);
        let limits = including(operation, &config.limits, |spec| &spec.selection);
        // Shadow limits count only what the others admit.
        let (mut limits, mut shadow): (Vec<_>, Vec<_>) = limits.into_iter().partition(is_enforced);
        limits.append(&mut shadow);
        let on_failure = including(operation, &config.on_failure, |spec| &spec.selection);
        let breakers = including(operation, &config.breakers, |spec| &spec.selection);
        let retries = including(operation, &config.retries, |spec| &spec.selection);
        let deadlines = including(operation, &config.deadlines, |spec| &spec.selection);
        let timed = !retries.is_empty() || !deadlines.is_empty();
        let guarded = !on_failure.is_empty() || !breakers.is_empty();
        let lists = named(&breakers, &config.breakers, |spec| spec.failures)
            .chain(named(&on_failure, &config.on_failure, |spec| spec.failures))
            .chain(named(&retries, &config.retries, |spec| spec.failures));
        let failures = lists.fold(Failures::default(), |all, more| all.or(&more));
        Self {
            switches: including(operation, &config.switches, |spec| &spec.selection),
            breakers,
            limits,
            on_failure,
            retries,
            deadlines,
            failure: Reason::new("failure", name, &Names::of(config.scope.as_deref())),
            usual_time: timed.then(|| worker.usual_times.of(&format!("{scope}/{name}"))),
            failures,
            outcomes: if guarded { Outcomes::All } else { config.monitor.outcomes },
            requests: Default::default(),
            retried: Default::default(),
            duration: Handle::default(),
        }
    }
}

impl Plan {
    /// Whether a policy needs to know how a response begins: something may take its place, or a breaker waits for it.
    pub(crate) fn is_guarded(&self) -> bool {
        !self.breakers.is_empty() || !self.on_failure.is_empty()
    }
}

/// Indices of the policies whose selection includes the operation.
fn including<T>(operation: usize, policies: &[T], selection: impl Fn(&T) -> &Selection) -> Vec<usize> {
    let includes = |(index, policy): (usize, &T)| selection(policy).includes(operation).then_some(index);
    policies.iter().enumerate().filter_map(includes).collect()
}

/// A property of the policies with these indices.
fn named<'p, T, P>(
    indices: &'p [usize],
    policies: &'p [T],
    property: impl Fn(&T) -> P + 'p,
) -> impl Iterator<Item = P> + 'p {
    indices.iter().filter_map(|index| policies.get(*index)).map(property)
}

/// The first of the policies with these indices that applies to the request, of which they include the operation.
pub(crate) fn first_allowing<'p, T>(
    indices: &[usize],
    policies: &'p [T],
    selection: impl Fn(&T) -> &Selection,
    request: &Request<'_>,
) -> Option<(usize, &'p T)> {
    let candidates = indices.iter().filter_map(|index| Some((*index, policies.get(*index)?)));
    candidates.into_iter().find(|(_, policy)| selection(policy).allows(request))
}
