//! The compiled configuration at work.
//!
//! A [`Filter`] holds parameters, names of records and handles of metrics; state is in shared records and in the
//! [`Worker`]. For each operation it knows the plan: which policies apply, in order. So a
//! request costs what applies to it, however much else is configured.

use crate::config::{Config, Monitor};
use crate::degrade::fallback::Fallback;
use crate::limit::rule::Limit;
use crate::monitor::metrics::Handle;
use crate::monitor::outcome::Outcome;
use crate::operation::Operations;
use crate::worker::Worker;

/// A configuration put to work under a scope.
#[derive(Debug)]
pub struct Filter {
    pub(crate) operations: Operations,
    pub(crate) plans: Vec<Plan>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) fallbacks: Vec<Fallback>,
    pub(crate) monitor: Monitor,
}

/// What happens to requests of one operation.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Indices of the limits: those that refuse in the order configured, then those that only count.
    pub(crate) limits: Vec<usize>,
    pub(crate) requests: [Handle; Outcome::COUNT],
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
    }

    /// Puts a configuration to work in a worker, at once or when its first request comes. `default_scope` as above.
    pub fn new(config: &Config, default_scope: &str, worker: &Worker) -> Self {
        let scope = config.scope.as_deref().unwrap_or(default_scope);
        let limits: Vec<Limit> = config.limits.iter().map(|spec| Limit::new(spec.clone(), scope, worker)).collect();
        let plan = |(index, _)| Plan { limits: limits_of(index, &limits), ..Plan::default() };
        Self {
            plans: config.operations.iter().enumerate().map(plan).collect(),
            operations: Operations::new(config.operations.clone()),
            limits,
            fallbacks: config.fallbacks.clone(),
            monitor: config.monitor,
        }
    }
}

/// Shadow limits come last, because they count only what the others admit.
fn limits_of(operation: usize, limits: &[Limit]) -> Vec<usize> {
    let applies = |(index, limit): (usize, &Limit)| limit.spec().operations.contains(&operation).then_some(index);
    let mut applicable: Vec<usize> = limits.iter().enumerate().filter_map(applies).collect();
    applicable.sort_by_key(|index| limits.get(*index).is_some_and(|limit| !limit.spec().enforced));
    applicable
}
