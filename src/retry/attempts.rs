//! The attempts of one request, seen one by one.
//!
//! A filter in front of Envoy's router sees a request once, however often the router sends it. So retries are paid for
//! [in advance](Payment::InAdvance): what a request might need is set aside while it is under way, whether it fails or not, and a
//! budget of ten tokens covers no more than ten requests at a time. A second instance of the filter, among the filters of the
//! *upstream*, sees each attempt. Where there is one, a request sets nothing aside when it goes out, and a token is asked for when
//! it turns out to be needed ([one by one](Payment::OneByOne)):
//!
//! | when | and the budget pays | and it does not |
//! | --- | --- | --- |
//! | an attempt was answered with a failure that the router would retry | a token is set aside for the next attempt | the answer is marked as the last one: the router passes it on |
//! | an attempt begins after one without an answer (a reset, a connection that failed, a timeout) | it goes on | it is refused: there is no answer that could be passed on |
//!
//! An answer that only the route's own policy retries pays when the next attempt begins, like one that did not come.
//!
//! The mark is `x-envoy-ratelimited`, the only one by which a response tells Envoy's router not to try again. The instance
//! downstream takes it off again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::cx::Cx;
use crate::retry::budget::SetAside;
use crate::retry::policy::{Failures, Payment};
use crate::retry::rule::RetryRule;

/// What the two instances of the filter know of one request between them.
#[derive(Debug)]
pub struct Attempts {
    rule: Rc<RetryRule>,
    failures: Failures,
    payment: Payment,
    /// What is paid for, so far.
    set_aside: RefCell<SetAside>,
    begun: Cell<u32>,
    ending: Cell<Ending>,
}

/// Nobody pays for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaid;

/// What the budget had to do with the end of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    Natural,
    /// Nobody paid for another attempt after the last answer, which bears the mark.
    Marked,
    /// Nobody paid for another attempt after one that had no answer.
    Refused,
}

impl Attempts {
    /// Those of a request that goes out, with what it set aside. Its failures tell themselves by these statuses.
    pub fn new(rule: Rc<RetryRule>, failures: Failures, payment: Payment, set_aside: SetAside) -> Self {
        let set_aside = RefCell::new(set_aside);
        Self { rule, failures, payment, set_aside, begun: Cell::default(), ending: Cell::default() }
    }

    /// The rule that says what is retried.
    pub fn rule(&self) -> &Rc<RetryRule> {
        &self.rule
    }

    /// Whether a failure may tell itself by its gRPC status.
    pub fn may_fail_by_grpc(&self) -> bool {
        self.failures == Failures::HttpOrGrpc && self.rule.spec().policy.retry_on.know_grpc()
    }

    /// One more attempt is about to go to the service.
    ///
    /// # Errors
    ///
    /// It is a retry that nobody pays for.
    pub fn begin(&self, cx: &Cx<'_>) -> Result<(), Unpaid> {
        let retries = self.begun.get();
        self.pay(retries, cx).inspect_err(|_| self.ending.set(Ending::Refused))?;
        self.begun.set(retries.saturating_add(1));
        // A route may have it that a mark is no reason not to retry.
        self.ending.set(Ending::Natural);
        Ok(())
    }

    /// Whether it matters how the attempt under way ends: the router may make another one, which is not paid for.
    pub fn want_the_result(&self) -> bool {
        self.payment == Payment::OneByOne && self.begun.get() < self.rule.spec().policy.max_attempts
    }

    /// The attempt under way was answered with a failure that the router would retry.
    ///
    /// # Errors
    ///
    /// Nobody pays for a retry, so the answer is to be the last.
    pub fn failed(&self, cx: &Cx<'_>) -> Result<(), Unpaid> {
        self.pay(self.begun.get(), cx).inspect_err(|_| self.ending.set(Ending::Marked))
    }

    /// What the budget had to do with the end.
    pub fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// The request has ended: what was set aside for it, and how many retries it took; `None` if nobody saw its attempts.
    pub fn close(&self) -> (SetAside, Option<u32>) {
        (self.set_aside.take(), self.begun.get().checked_sub(1))
    }

    /// Makes sure that so many retries are paid for.
    fn pay(&self, retries: u32, cx: &Cx<'_>) -> Result<(), Unpaid> {
        if self.payment == Payment::InAdvance || retries <= self.set_aside.borrow().retries() {
            return Ok(());
        }
        let token = self.rule.set_aside_one(cx);
        let mut set_aside = self.set_aside.borrow_mut();
        set_aside.add(token);
        if retries <= set_aside.retries() { Ok(()) } else { Err(Unpaid) }
    }
}
