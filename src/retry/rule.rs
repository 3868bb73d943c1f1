//! Configured rules for retries and deadlines.

use std::cell::RefCell;
use std::rc::Rc;

use crate::host::Host;
use crate::monitor::outcome::Outcome;
use crate::operation::selection::Selection;
use crate::retry::budget::{Account, SetAside};
use crate::retry::deadline::DeadlineRule;
use crate::retry::policy::{Advice, Eligibility, RetryPolicy, Time};
use crate::time::Timestamp;
use crate::worker::Worker;

/// A rule for retries, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySpec {
    /// Which requests it is for.
    pub selection: Selection,
    /// What is retried, and how often.
    pub policy: RetryPolicy,
}

/// A rule for deadlines, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineSpec {
    /// Which requests it is for.
    pub selection: Selection,
    /// Where the deadline stands.
    pub rule: DeadlineRule,
}

/// A rule for retries at work, with the worker's account of its budget.
#[derive(Debug)]
pub struct RetryRule {
    spec: RetrySpec,
    account: Rc<RefCell<Account>>,
}

impl RetryRule {
    /// The rule of this specification, the `index`-th of its configuration, with its account under `scope`.
    pub fn new(index: usize, spec: RetrySpec, scope: &str, worker: &Worker) -> Self {
        Self { spec, account: worker.accounts.of(&format!("{scope}/{index}")) }
    }

    /// The parameters.
    pub fn spec(&self) -> &RetrySpec {
        &self.spec
    }

    /// Decides about a request that goes on now, and sets tokens aside for its retries.
    pub fn advise(
        &self,
        host: &dyn Host,
        worker: &Worker,
        eligibility: Eligibility,
        time: Time,
        now: Timestamp,
    ) -> Advice<'_> {
        let workers = worker.count_sharers(host, now);
        self.spec.policy.advise(eligibility, time, &mut self.account.borrow_mut(), workers, now)
    }

    /// Takes note of how a request ended, and of how many retries it took: `None` if nobody knows.
    pub fn settle(&self, worker: &Worker, set_aside: SetAside, retries: Option<u32>, outcome: Outcome, now: Timestamp) {
        let workers = worker.sharers.last();
        self.account.borrow_mut().settle(&self.spec.policy.budget, set_aside, retries, outcome, workers, now);
    }
}
