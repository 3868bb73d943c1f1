//! What a request held is settled when its stream ends: breaker, budget, metrics.

use std::rc::Rc;

use super::ticket::{Client, Guard, Haste, Interest, Retry, Service, StreamKind, Ticket, Upload, Verdict};
use super::verdict::{ended, was_sent};
use crate::cx::Cx;
use crate::degrade::breaker;
use crate::degrade::breaker::rule::BreakerRule;
use crate::degrade::breaker::watched::Admission;
use crate::filter::{Filter, Plan};
use crate::host::{Ended, HostError, Sent};
use crate::monitor::outcome::Outcome;
use crate::retry::attempts::Ending;
use crate::retry::budget::SetAside;
use crate::retry::policy;
use crate::retry::rule::RetryRule;
use crate::time::Timestamp;

impl Filter {
    /// Tells the budget how the request ended, and takes back what it did not use of it.
    pub(super) fn settle_retries(&self, cx: &Cx<'_>, plan: &Plan, ticket: &mut Ticket) {
        let now = cx.now();
        if ticket.ending() != Ending::Natural {
            self.count_retries(cx, plan, ticket.operation, policy::Decision::NoBudget, 1);
        }
        let closed = self.close_retries(cx, ticket);
        if ticket.interest != Interest::Nothing && ticket.service.has_succeeded() && !was_sent(cx, ticket) {
            ticket.service = Service::Unconcerned;
        }
        if ticket.service.has_succeeded()
            && ticket.interest == Interest::OutcomeAndTime
            && ticket.kind == StreamKind::Exchange
            && let (Some(usual_time), Some(latency)) = (&plan.usual_time, ticket.latency)
        {
            usual_time.borrow_mut().record(latency, ticket.asked.saturating_add(latency), now);
        }
        let Some((rule, set_aside, made)) = closed else {
            return;
        };
        if let Some(made @ 1..) = made {
            self.count_retries(cx, plan, ticket.operation, policy::Decision::Made, made);
        }
        let outcome = match ticket.service.verdict(&rule.spec().failures) {
            Verdict::Failed => Outcome::Failure,
            Verdict::Declined => Outcome::ClientError,
            Verdict::Succeeded => Outcome::Success,
            Verdict::Open => Outcome::Cancelled,
        };
        rule.settle(set_aside, made, outcome, now);
    }

    /// The rule for the request's retries, what was set aside for them, and how many were made; `None` if nobody knows.
    pub(super) fn close_retries(
        &self,
        cx: &Cx<'_>,
        ticket: &mut Ticket,
    ) -> Option<(Rc<RetryRule>, SetAside, Option<u32>)> {
        let now = cx.now();
        match std::mem::replace(&mut ticket.retry, Retry::None) {
            Retry::None | Retry::Ahead(..) => None,
            Retry::Spared(index, set_aside) => Some((Rc::clone(self.retries.get(index)?), set_aside, Some(0))),
            Retry::Paid(index, set_aside) => {
                let made = match set_aside.retries() {
                    0 => Some(0),
                    _ => {
                        let sent = attempts_made(cx);
                        ticket.sent = ticket.sent.or(sent.map(|sent| if sent == 0 { Sent::Nowhere } else { Sent::On }));
                        sent.map(|sent| sent.saturating_sub(1))
                    }
                };
                Some((Rc::clone(self.retries.get(index)?), set_aside, made))
            }
            Retry::Entered(number, attempts) => {
                self.register.strike(number);
                let (rule, (set_aside, seen)) = (Rc::clone(attempts.rule()), attempts.close());
                if let Some(made) = seen {
                    ticket.sent = Some(Sent::On);
                    rule.saw();
                    return Some((rule, set_aside, Some(made)));
                }
                if ended(cx) == Ended::Unsent {
                    return Some((rule, set_aside, Some(0)));
                }
                let sent = attempts_made(cx);
                let made = sent.map(|sent| sent.saturating_sub(1));
                if let Some(1..) = sent {
                    rule.missed(made.unwrap_or(0).saturating_sub(set_aside.retries()), now);
                }
                Some((rule, set_aside, made))
            }
        }
    }

    pub(super) fn count_retries(
        &self,
        cx: &Cx<'_>,
        plan: &Plan,
        operation: usize,
        decision: policy::Decision,
        amount: u32,
    ) {
        if let Some(handle) = plan.retried.get(decision as usize) {
            let name = || self.names.retries_total(self.operation_name(operation), decision.as_str());
            cx.report(handle.add(cx, u64::from(amount), name));
        }
    }

    /// Tells the breakers that let the request pass that the service's time for it begins.
    pub(super) fn follow_service(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        // That there is no time is its caller's doing.
        if ticket.haste == Haste::Trial {
            return;
        }
        let most = ticket.per_try;
        for guard in ticket.guards_mut() {
            if let Guard::Passed(index, admission) = guard
                && let Some(breaker) = self.breakers.get(*index)
            {
                breaker.follow(cx, admission, most);
            }
        }
    }

    /// Tells them that the service has begun to answer.
    pub(super) fn note_answer(&self, ticket: &mut Ticket, now: Timestamp) {
        // What comes before the request's end took no time that the service had.
        ticket.latency = (ticket.upload == Upload::Complete).then(|| now.saturating_since(ticket.asked));
        for guard in ticket.guards_mut() {
            if let Guard::Passed(index, admission) = guard
                && let Some(breaker) = self.breakers.get(*index)
            {
                breaker.answered(admission, now);
            }
        }
    }

    /// Tells the breakers that let the request pass how it ended.
    pub(super) fn settle_breakers(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        for guard in ticket.take_guards() {
            if let Some((breaker, admission)) = self.passed(guard) {
                settle_breaker(cx, ticket, breaker, admission);
            }
        }
    }

    /// Takes the request out of what its breakers judge by: its client left, which says nothing about the service.
    pub(super) fn spare_breakers(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        for guard in ticket.take_guards() {
            if let Some((breaker, admission)) = self.passed(guard) {
                breaker.give_back(cx, admission);
            }
        }
    }

    /// The breaker that let the request pass and is owed a result, with what it is owed for.
    fn passed(&self, guard: Guard) -> Option<(&BreakerRule, Admission)> {
        match guard {
            Guard::Passed(index, admission) => Some((self.breakers.get(index)?, admission)),
            Guard::None | Guard::Ahead(_) => None,
        }
    }

    pub(super) fn count_request(&self, cx: &Cx<'_>, plan: &Plan, ticket: &Ticket) -> Result<(), HostError> {
        let now = cx.now();
        let Some(operation) = self.operations.get(ticket.operation) else {
            return Ok(());
        };
        let outcome = ticket.outcome();
        if let Some(handle) = plan.requests.get(outcome as usize) {
            let name = || self.names.requests_total(&operation.name, operation.tier, outcome);
            handle.count(cx, name)?;
        }
        if ticket.kind == StreamKind::Long || matches!(ticket.client, Client::Refusal(_) | Client::Held(_)) {
            return Ok(());
        }
        let duration = u64::try_from(now.saturating_since(ticket.started).as_millis()).unwrap_or(u64::MAX);
        let name = || self.names.request_duration_milliseconds(&operation.name);
        plan.duration.observe(cx, duration, name)
    }
}

/// How often the router sent the request; `None` if nobody knows.
pub(super) fn attempts_made(cx: &Cx<'_>) -> Option<u32> {
    cx.host.attempts().unwrap_or_else(|error| {
        cx.host_error(error);
        None
    })
}

/// Tells the breaker how a request ended that it let pass.
fn settle_breaker(cx: &Cx<'_>, ticket: &Ticket, breaker: &BreakerRule, admission: Admission) {
    let now = cx.now();
    let outcome = match ticket.service.verdict(&breaker.spec().failures) {
        Verdict::Open if ticket.service == Service::Unconcerned => {
            return breaker.give_back(cx, admission);
        }
        // That there was no time is its caller's doing.
        Verdict::Failed if ticket.haste == Haste::Trial => return breaker.give_back(cx, admission),
        Verdict::Failed => breaker::tally::Outcome::Failure,
        // Open are the headers of a gRPC stream, which say nothing bad.
        Verdict::Succeeded | Verdict::Declined | Verdict::Open => breaker::tally::Outcome::Success,
    };
    let latency = ticket.latency.unwrap_or_else(|| ticket.unanswered_for(now));
    breaker.report(cx, admission, outcome, latency);
}
