//! Configured rules for retries and deadlines.

use std::cell::RefCell;
use std::rc::Rc;

use crate::cx::Cx;
use crate::monitor::failures::Failures;
use crate::monitor::outcome::Outcome;
use crate::operation::selection::Selection;
use crate::retry::attendance::Attendance;
use crate::retry::budget::{Account, SetAside};
use crate::retry::deadline::{DeadlineRule, Reach};
use crate::retry::policy::{Advice, Eligibility, Hedging, Payment, RetryPolicy, Time};
use crate::retry::register::Placement;
use crate::retry::register::Register;
use crate::retry::store::{Census, Store};
use crate::time::Timestamp;

/// A rule for retries, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySpec {
    /// Which requests it is for.
    pub selection: Selection,
    /// Which answers speak against the service, and do not pay.
    pub failures: Failures,
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
    /// What it is for.
    pub reach: Reach,
}

/// A rule for retries at work, with the worker's account of its budget.
#[derive(Debug)]
pub struct RetryRule {
    spec: RetrySpec,
    account: Rc<RefCell<Account>>,
    attendance: Rc<Attendance>,
    register: Rc<Register>,
    census: Rc<Census>,
}

impl RetryRule {
    /// The rule of this specification, the `index`-th of its configuration, with its account under `scope`.
    pub fn new(index: usize, spec: RetrySpec, scope: &str, store: &Store) -> Self {
        let key = format!("{scope}/{index}");
        Self {
            spec,
            account: store.accounts.of(&key),
            attendance: store.attendances.of(&key),
            register: Rc::clone(&store.register),
            census: Rc::clone(&store.census),
        }
    }

    /// The parameters.
    pub fn spec(&self) -> &RetrySpec {
        &self.spec
    }

    /// Whether anybody can see the attempts of its requests one by one. Not where attempts are made side by side: to refuse one
    /// would end the request that another may still answer.
    pub fn is_attended(&self) -> bool {
        self.spec.policy.hedging == Hedging::Off && self.register.has(Placement::Upstream)
    }

    /// How a request is paid for that goes on now.
    fn payment(&self, now: Timestamp) -> Payment {
        if !self.is_attended() || self.account.borrow().owes() {
            return Payment::InAdvance;
        }
        self.attendance.payment(now)
    }

    /// Decides about a request that goes on now, and sets tokens aside for its retries if those are paid for in advance.
    pub fn advise(&self, cx: &Cx<'_>, eligibility: Eligibility, time: Time) -> Advice<'_> {
        let now = cx.now();
        let (workers, payment) = (self.census.count(cx), self.payment(now));
        self.spec.policy.advise(eligibility, time, payment, &mut self.account.borrow_mut(), workers, now)
    }

    /// Sets a token aside for one more retry of a request that is under way, if there is one.
    pub fn set_aside_one(&self, cx: &Cx<'_>) -> SetAside {
        let now = cx.now();
        let workers = self.census.count(cx);
        self.account.borrow_mut().set_aside(&self.spec.policy.budget, 1, workers, now)
    }

    /// Takes note of a request that was sent without anybody seeing its attempts, with retries that nobody paid for.
    pub fn missed(&self, unpaid: u32, now: Timestamp) {
        self.attendance.missed(now);
        self.account.borrow_mut().charge(unpaid);
    }

    /// Takes note of a request whose attempts were seen.
    pub fn saw(&self) {
        self.attendance.saw();
    }

    /// Takes note of how a request ended, and of how many retries it took: `None` if nobody knows.
    pub fn settle(&self, set_aside: SetAside, retries: Option<u32>, outcome: Outcome, now: Timestamp) {
        let workers = self.census.last();
        self.account.borrow_mut().settle(&self.spec.policy.budget, set_aside, retries, outcome, workers, now);
    }
}
