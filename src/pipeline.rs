//! The one request path.
//!
//! ```text
//! request:   classify ▸ switch ▸ breaker? ▸ deadline? ▸ limits ▸ (wait) ▸ breaker! ▸ deadline! ▸ retry advice ▸ forward
//! response:  outcome ▸ failure: stale answer, fallback
//! end:       the ticket is settled ▸ breaker, budget ▸ metrics
//! ```
//!
//! [`Filter::on_request`] decides and hands out a [`Ticket`], which the adapter keeps with the stream and gives back to
//! [`Filter::on_done`] when the stream ends, however it ends. A request that must wait is resumed by
//! [`Filter::resume`]. What a request took before it was refused is given back at once: a refused request leaves no trace
//! in the state of the limits that admitted it.

mod ticket;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

pub use self::ticket::Ticket;
use self::ticket::{Due, Fate, Guard, Haste, Interest, Memory, ResponseEnd, Retry, StreamKind};
use crate::config::Outcomes;
use crate::degrade::breaker;
use crate::degrade::breaker::rule::BreakerRule;
use crate::degrade::breaker::watched::{self, Admission};
use crate::degrade::failure::FailureRule;
use crate::degrade::fallback::{Caller, Fallback};
use crate::degrade::refusal::{Kind, Refusal};
use crate::degrade::stale::{Capture, Origin, Progress};
use crate::degrade::switch;
use crate::filter::{Filter, Plan, first_allowing};
use crate::headers::Headers;
use crate::host::{Ended, Host, HostError, LogField};
use crate::limit;
use crate::limit::quota::{self, FieldEdits};
use crate::limit::reservation::Wait;
use crate::limit::rule::Asker;
use crate::monitor::metrics;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::classify;
use crate::operation::request::Request;
use crate::reply::{DEADLINE_EXCEEDED, Protocol, Reply};
use crate::retry::attempts::{Attempts, Ending};
use crate::retry::budget::SetAside;
use crate::retry::deadline::DeadlineRule;
use crate::retry::policy::{self, Eligibility, Time};
use crate::retry::rule::RetryRule;
use crate::retry::usual::Room;
use crate::retry::{router, stream};
use crate::time::Timestamp;
use crate::worker::Worker;

/// What is to happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision<'f> {
    /// It goes on, with these changes.
    Forward(Edits<'f>),
    /// It is to be held, with these changes made, and to be [resumed](Filter::resume) at the instant.
    Wait(Edits<'f>, Timestamp),
    /// It is answered by the filter.
    Reply(Box<Reply>),
}

/// Changes to a request's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits<'f> {
    /// Names of headers to be removed.
    pub remove: Vec<Vec<u8>>,
    /// Headers to be set after that, each in place of all its values.
    pub set: SmallVec<[(&'f str, Cow<'f, str>); 8]>,
}

/// What is to happen to a response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// It goes on, with these changes.
    Pass(FieldEdits),
    /// The client gets this instead.
    Replace(Box<Reply>),
}

/// Why a request is refused.
enum Refused {
    /// By the switch with this index.
    Switch(usize),
    /// By the breaker with this index.
    Breaker(usize, watched::Refusal),
    /// For want of time.
    Deadline,
    /// By a limit.
    Limit(limit::reservation::Refusal),
}

/// Where callers' proxies and libraries write how much time there is.
static CALLERS_PROXY: DeadlineRule = DeadlineRule { header: None, default: None };

/// What `outrigger_fallbacks_total` calls an answer that was kept.
const STALE: &str = "stale";

impl Filter {
    /// Decides about a request when its headers are there.
    pub fn on_request(&self, host: &dyn Host, worker: &Worker) -> (Decision<'_>, Ticket) {
        let headers = host.request_headers().unwrap_or_else(|error| {
            worker.trouble.host_error(host, error);
            Headers::default()
        });
        let request = Request::read(&headers);
        let now = host.now();
        let operation = classify(&self.operations, &request);
        let mut ticket = Ticket::new(operation, &request, now);
        let Some(plan) = self.plans.get(operation) else {
            return (Decision::Forward(edits(&request)), ticket);
        };
        self.log_operation(host, worker, operation);

        let asker = Asker { host, worker, request: &request, operation: self.operation_name(operation), now };
        let mut edits = edits(&request);
        let decision = match self.admit(plan, &asker, &mut ticket, &mut edits) {
            Ok(wait) if wait.time.is_zero() => Decision::Forward(edits),
            Ok(wait) => {
                worker.waiting.set(worker.waiting.get().saturating_add(1));
                ticket.fate = Fate::Waiting(wait.limit);
                Decision::Wait(edits, now.saturating_add(wait.time))
            }
            Err(refused) => {
                let memory = match &refused {
                    Refused::Switch(index) => Memory::of_caller(&request, self.switch_fallback(*index)),
                    Refused::Limit(refusal) => Memory::of_caller(&request, self.limit_fallback(refusal.limit)),
                    Refused::Deadline => Memory::of_caller(&request, None),
                    Refused::Breaker(index, _) => self.remember(plan, &asker, self.breakers.get(*index)),
                };
                Decision::Reply(Box::new(self.refuse(host, worker, &refused, &memory, &mut ticket)))
            }
        };
        (decision, ticket)
    }

    /// Lets a request go on whose wait is over, unless a breaker has opened meanwhile or its time is over too: then there is a
    /// reply.
    pub fn resume(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Decision<'_> {
        let mut edits = Edits::default();
        let (Fate::Waiting(limit), Some(plan)) = (ticket.fate, self.plans.get(ticket.operation)) else {
            return Decision::Forward(edits);
        };
        let now = host.now();
        worker.waiting.set(worker.waiting.get().saturating_sub(1));
        ticket.fate = Fate::Forwarded;
        if let Some(limit) = self.limits.get(limit) {
            limit.observe_wait(host, worker, now.saturating_since(ticket.started));
        }
        let Err(refused) = self.let_go(host, worker, plan, now, ticket, &mut edits) else {
            return Decision::Forward(edits);
        };
        let memory = ticket.memory.take().unwrap_or_else(|| Box::new(Memory::of_nobody(ticket.protocol)));
        Decision::Reply(Box::new(self.refuse(host, worker, &refused, &memory, ticket)))
    }

    /// Takes note of a response when its headers are there, and says what becomes of it; the filter's own replies count already
    /// and pass.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Answer {
        let (Fate::Forwarded, Some(plan)) = (ticket.fate, self.plans.get(ticket.operation)) else {
            return Answer::Pass(FieldEdits::default());
        };
        let failed = match judge(host, plan, ticket) {
            Ok(failed) => failed,
            Err(error) => {
                worker.trouble.host_error(host, error);
                return pass(ticket, FieldEdits::default());
            }
        };
        if plan.is_guarded() || ticket.interest == Interest::OutcomeAndTime {
            let now = host.now();
            ticket.latency = Some(now.saturating_since(ticket.forwarded));
            let replacement = failed.and_then(|status| self.replacement(host, worker, plan, ticket, status, now));
            if failed.is_some() || ticket.is_probe() {
                // What is streamed may last longer than a probe has.
                self.settle_breaker(host, worker, ticket, now);
            }
            if let Some(reply) = replacement {
                ticket.fate = Fate::Replaced;
                return Answer::Replace(Box::new(reply));
            }
            ticket.capture = self.capture(host, worker, ticket, now);
        }
        let fields = self.quota_fields(host, worker, ticket);
        pass(ticket, fields)
    }

    /// Takes `size` bytes of the response's body into the copy that is being made of it.
    pub fn on_response_body(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket, size: usize) {
        let Some(capture) = &mut ticket.capture else {
            return;
        };
        let part = host.response_body(size).unwrap_or_else(|error| {
            worker.trouble.host_error(host, error);
            Vec::new()
        });
        let progress = if part.len() == size { capture.push(&part, host.now()) } else { Progress::Enough };
        if progress == Progress::Enough
            && let Some(capture) = ticket.capture.take()
        {
            capture.abandon(host, worker);
        }
    }

    /// Takes note that the response has come to its end; one whose end is not seen was cut off. The status of gRPC comes
    /// with it.
    pub fn on_response_end(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        ticket.end = ResponseEnd::Seen;
        if let Some(capture) = ticket.capture.take() {
            capture.finish(host, worker, host.now());
        }
        grpc_outcome(host, worker, ticket);
    }

    /// Settles what the request held. Its stream has ended.
    pub fn on_done(&self, host: &dyn Host, worker: &Worker, mut ticket: Ticket) {
        let Some(plan) = self.plans.get(ticket.operation) else {
            return;
        };
        let now = host.now();
        if let Fate::Waiting(_) = ticket.fate {
            worker.waiting.set(worker.waiting.get().saturating_sub(1));
            ticket.taken.give_back(&self.limits, host, worker, now);
        }
        ticket.taken.release(&self.limits, host, worker, now);
        if let Some(capture) = ticket.capture.take() {
            capture.abandon(host, worker);
        }
        let unfinished = match ticket.fate {
            // Without its end a gRPC stream has no status but what the proxy makes up.
            Fate::Forwarded => ticket.is_grpc(),
            fate => fate == Fate::Answered(Outcome::Success),
        };
        if unfinished && cut_off(host, worker, &ticket) {
            ticket.fate = Fate::Answered(Outcome::Failure);
        }
        if let Fate::Forwarded = ticket.fate {
            self.spare_breaker(host, worker, &mut ticket, now);
        }
        self.settle_breaker(host, worker, &mut ticket, now);
        self.settle_retries(host, worker, plan, &mut ticket, now);
        let outcome = match ticket.fate {
            Fate::Forwarded | Fate::Waiting(_) => Outcome::Cancelled,
            Fate::RefusedElsewhere => Outcome::ClientError,
            Fate::Replaced => Outcome::Degraded,
            Fate::Answered(outcome) | Fate::Refused(outcome) => outcome,
        };
        worker.report(host, self.count_request(host, worker, plan, &ticket, outcome, now));
    }

    /// Does what is due without a request: gives back what this worker holds in advance and does not use, and says that it is
    /// alive while it holds anything. Asks the host for the next call.
    pub fn on_tick(&self, host: &dyn Host, worker: &Worker) {
        let now = host.now();
        for wait in self.limits.iter().filter_map(|limit| limit.settle(host, worker, now)) {
            host.wake_at(now.saturating_add(wait));
        }
        if let Some(wait) = worker.keep_alive(host, now) {
            host.wake_at(now.saturating_add(wait));
        }
    }

    /// Gives back what this worker holds in advance: the configuration is no longer in use.
    pub fn retire(&self, host: &dyn Host, worker: &Worker) {
        let now = host.now();
        for limit in &self.limits {
            limit.surrender(host, worker, now);
        }
    }

    /// Asks everything that may refuse the request, in order. What was taken is given back if something does.
    fn admit<'f>(
        &'f self,
        plan: &Plan,
        asker: &Asker<'_>,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<Wait, Refused> {
        let Asker { host, worker, request, now, .. } = *asker;
        let guarded = !plan.switches.is_empty() || !plan.breakers.is_empty();
        // A preflight is not what it asks for.
        let guarded = guarded && !request.is_preflight();
        if guarded && let Some(switch) = self.switch_that_gives_up(plan, request) {
            return Err(Refused::Switch(switch));
        }
        let breakers: &[usize] = if guarded { &plan.breakers } else { &[] };
        let breaker = first_allowing(breakers, &self.breakers, |it| &it.spec().selection, request);
        if let Some((index, breaker)) = breaker {
            breaker.peek(host, worker, now).map_err(|refusal| Refused::Breaker(index, refusal))?;
            ticket.breaker = Guard::Ahead(index);
        }
        let patience = self.check_time(plan, asker, ticket, edits)?;
        let wait = ticket.taken.take(&self.limits, &plan.limits, asker, patience).map_err(Refused::Limit)?;
        if breaker.is_some() || !plan.on_failure.is_empty() {
            ticket.memory = Some(Box::new(self.remember(plan, asker, breaker.map(|(_, breaker)| breaker))));
        }
        if wait.time.is_zero() {
            self.let_go(host, worker, plan, now, ticket, edits)?;
        }
        Ok(wait)
    }

    /// Finds the rules for deadline and retries, and refuses a request that has too little time left. Returns how much of its
    /// time it may spend in a queue: what it does not usually need itself.
    fn check_time(
        &self,
        plan: &Plan,
        asker: &Asker<'_>,
        ticket: &mut Ticket,
        edits: &mut Edits<'_>,
    ) -> Result<Option<Duration>, Refused> {
        let Asker { request, now, .. } = *asker;
        let Some(usual_time) = &plan.usual_time else {
            return Ok(None);
        };
        let deadline = first_allowing(&plan.deadlines, &self.deadlines, |it| &it.selection, request);
        let retry = first_allowing(&plan.retries, &self.retries, |it| &it.spec().selection, request);
        if deadline.is_none() && retry.is_none() {
            return Ok(None);
        }
        edits.remove.extend(router::sent_by_client(request).map(<[u8]>::to_vec));
        if let Some((index, rule)) = retry {
            ticket.retry = Retry::Ahead(index, rule.spec().policy.eligibility(request));
            ticket.interest = Interest::Outcome;
        }
        if stream::is_long(request) {
            return Ok(None);
        }
        ticket.interest = Interest::OutcomeAndTime;
        let read = match deadline {
            Some((_, spec)) => spec.rule.read(request, now),
            None => CALLERS_PROXY.read(request, now),
        };
        ticket.deadline = read.map(|read| Due { deadline: read, rule: deadline.map(|(index, _)| index) });
        let Some(read) = read else {
            return Ok(None);
        };
        let left = read.left(now).ok_or(Refused::Deadline)?;
        let mut usual_time = usual_time.borrow_mut();
        match usual_time.judge(left, now) {
            Room::Enough => Ok(Some(left.saturating_sub(usual_time.time(now).unwrap_or_default()))),
            // It is to be seen how long it takes. If it fails, it may be for want of time.
            Room::Trial => {
                ticket.haste = Haste::Trial;
                Ok(Some(left))
            }
            Room::TooLittle => Err(Refused::Deadline),
        }
    }

    /// Asks what is asked right before the request goes on. What was taken of limits is given back if it does not.
    fn let_go<'f>(
        &'f self,
        host: &dyn Host,
        worker: &Worker,
        plan: &Plan,
        now: Timestamp,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<(), Refused> {
        ticket.forwarded = now;
        let gone =
            self.claim(host, worker, now, ticket).and_then(|()| self.advise(host, worker, plan, now, ticket, edits));
        gone.inspect_err(|_| {
            self.spare_breaker(host, worker, ticket, now);
            ticket.taken.give_back(&self.limits, host, worker, now);
        })
    }

    /// Asks the request's breaker, if it has one.
    fn claim(&self, host: &dyn Host, worker: &Worker, now: Timestamp, ticket: &mut Ticket) -> Result<(), Refused> {
        let Guard::Ahead(index) = ticket.breaker else {
            return Ok(());
        };
        ticket.breaker = Guard::None;
        if let Some(breaker) = self.breakers.get(index) {
            let admission = breaker.claim(host, worker, now).map_err(|refusal| Refused::Breaker(index, refusal))?;
            ticket.breaker = Guard::Passed(index, admission);
        }
        Ok(())
    }

    /// Tells the router and the service how much time there is, and the router what it may retry.
    fn advise<'f>(
        &'f self,
        host: &dyn Host,
        worker: &Worker,
        plan: &Plan,
        now: Timestamp,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<(), Refused> {
        let mut left = None;
        if let Some(due) = &ticket.deadline {
            let time = due.deadline.left(now).ok_or(Refused::Deadline)?;
            left = Some(time);
            let spec = due.rule.and_then(|index| self.deadlines.get(index));
            let fields = due.deadline.fields(spec.map_or(&CALLERS_PROXY, |spec| &spec.rule), time);
            for (name, value) in fields {
                edits.set.push((name, value));
            }
        }
        let Retry::Ahead(index, eligibility) = ticket.retry else {
            edits.set.extend(left.map(router::timeout));
            return Ok(());
        };
        ticket.retry = Retry::None;
        if let Some(rule) = self.retries.get(index) {
            let usual = plan.usual_time.as_ref().and_then(|it| it.borrow_mut().time(now));
            let advice = rule.advise(host, worker, eligibility, Time { left, usual }, now);
            ticket.retry = match eligibility {
                Eligibility::Eligible(failures) if 0 < advice.retries && rule.is_attended(worker) => {
                    let attempts = Attempts::new(Rc::clone(rule), failures, advice.payment, advice.set_aside);
                    let attempts = Rc::new(attempts);
                    let number = worker.register.enter(&attempts, now);
                    worker.report(host, host.set_request_number(number));
                    Retry::Entered(number, attempts)
                }
                _ => Retry::Paid(index, advice.set_aside),
            };
            for (name, value) in advice.fields {
                edits.set.push((name, value));
            }
            if let Some(decision) = advice.decision {
                self.count_retries(host, worker, plan, ticket.operation, decision, 1);
            }
        }
        Ok(())
    }

    /// Tells the budget how the request ended, and takes back what it did not use of it.
    fn settle_retries(&self, host: &dyn Host, worker: &Worker, plan: &Plan, ticket: &mut Ticket, now: Timestamp) {
        let outcome = match ticket.fate {
            Fate::Answered(outcome) => outcome,
            Fate::Replaced => Outcome::Failure,
            Fate::Waiting(_) | Fate::Forwarded | Fate::RefusedElsewhere | Fate::Refused(_) => Outcome::Cancelled,
        };
        if outcome == Outcome::Success
            && ticket.interest == Interest::OutcomeAndTime
            && ticket.kind == StreamKind::Exchange
            && let (Some(usual_time), Some(latency)) = (&plan.usual_time, ticket.latency)
        {
            usual_time.borrow_mut().record(latency, now);
        }
        if ticket.ending() != Ending::Natural {
            self.count_retries(host, worker, plan, ticket.operation, policy::Decision::NoBudget, 1);
        }
        let Some((rule, set_aside, made)) = self.close_retries(host, worker, ticket, now) else {
            return;
        };
        if let Some(made @ 1..) = made {
            self.count_retries(host, worker, plan, ticket.operation, policy::Decision::Made, made);
        }
        rule.settle(worker, set_aside, made, outcome, now);
    }

    /// The rule for the request's retries, what was set aside for them, and how many were made; `None` if nobody knows.
    fn close_retries(
        &self,
        host: &dyn Host,
        worker: &Worker,
        ticket: &mut Ticket,
        now: Timestamp,
    ) -> Option<(Rc<RetryRule>, SetAside, Option<u32>)> {
        match std::mem::replace(&mut ticket.retry, Retry::None) {
            Retry::None | Retry::Ahead(..) => None,
            Retry::Paid(index, set_aside) => {
                let made = match set_aside.retries() {
                    0 => Some(0),
                    _ => attempts_made(host, worker).map(|attempts| attempts.saturating_sub(1)),
                };
                Some((Rc::clone(self.retries.get(index)?), set_aside, made))
            }
            Retry::Entered(number, attempts) => {
                worker.register.strike(number);
                let (rule, (set_aside, seen)) = (Rc::clone(attempts.rule()), attempts.close());
                if let Some(made) = seen {
                    rule.saw();
                    return Some((rule, set_aside, Some(made)));
                }
                if ended(host, worker) == Ended::Unsent {
                    return Some((rule, set_aside, Some(0)));
                }
                let sent = attempts_made(host, worker);
                let made = sent.map(|sent| sent.saturating_sub(1));
                if let Some(1..) = sent {
                    rule.missed(made.unwrap_or(0).saturating_sub(set_aside.retries()), now);
                }
                Some((rule, set_aside, made))
            }
        }
    }

    fn count_retries(
        &self,
        host: &dyn Host,
        worker: &Worker,
        plan: &Plan,
        operation: usize,
        decision: policy::Decision,
        amount: u32,
    ) {
        if let Some(handle) = plan.retried.get(decision as usize) {
            let name = || metrics::retries_total(self.operation_name(operation), decision.as_str());
            worker.report(host, handle.add(host, &worker.metrics, u64::from(amount), name));
        }
    }

    /// Tells the breaker that let the request pass how it ended.
    fn settle_breaker(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket, now: Timestamp) {
        let Some((breaker, admission)) = self.passed(ticket) else {
            return;
        };
        let outcome = match ticket.fate {
            // That there was no time is its caller's doing.
            Fate::Answered(Outcome::Failure) if ticket.haste == Haste::Trial => {
                return breaker.give_back(host, worker, admission, now);
            }
            Fate::Answered(Outcome::Failure) => breaker::tally::Outcome::Failure,
            // Not answered yet: the headers of a gRPC stream, which say nothing bad.
            Fate::Answered(_) | Fate::Forwarded => breaker::tally::Outcome::Success,
            Fate::Waiting(_) | Fate::RefusedElsewhere | Fate::Replaced | Fate::Refused(_) => {
                return breaker.give_back(host, worker, admission, now);
            }
        };
        let latency = ticket.latency.unwrap_or_else(|| now.saturating_since(ticket.started));
        breaker.report(host, worker, admission, outcome, latency, now);
    }

    /// Takes the request out of what its breaker judges by: its client left, which says nothing about the service.
    fn spare_breaker(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket, now: Timestamp) {
        if let Some((breaker, admission)) = self.passed(ticket) {
            breaker.give_back(host, worker, admission, now);
        }
    }

    /// The breaker that let the request pass and is owed a result, with what it is owed for.
    fn passed(&self, ticket: &mut Ticket) -> Option<(&BreakerRule, Admission)> {
        match std::mem::replace(&mut ticket.breaker, Guard::None) {
            Guard::Passed(index, admission) => Some((self.breakers.get(index)?, admission)),
            Guard::None | Guard::Ahead(_) => None,
        }
    }

    /// The index of the first switch that is on and gives up the request.
    fn switch_that_gives_up(&self, plan: &Plan, request: &Request<'_>) -> Option<usize> {
        let mut switches = plan.switches.iter().filter_map(|index| Some((*index, self.switches.get(*index)?)));
        switches.find(|(_, switch)| switch.gives_up(request)).map(|(index, _)| index)
    }

    /// What the request is told that is refused.
    fn refuse(
        &self,
        host: &dyn Host,
        worker: &Worker,
        refused: &Refused,
        memory: &Memory,
        ticket: &mut Ticket,
    ) -> Reply {
        let operation = self.operation_name(ticket.operation);
        match refused {
            Refused::Switch(index) => {
                let Some(switch) = self.switches.get(*index) else {
                    return Reply::default();
                };
                ticket.fate = Fate::Refused(Outcome::Degraded);
                let (reason, retry_after) = (switch.reason(), Some(switch::RETRY_AFTER));
                let fallback = self.switch_fallback(*index).filter(|it| ticket.may_be_told(it));
                self.tell(host, worker, reason, fallback);
                reason.count(host, worker, Enforcement::Enforced);
                let refusal = Refusal { reason, kind: Kind::Degraded, retry_after };
                refusal.reply(fallback, &memory.caller, operation, &self.monitor)
            }
            Refused::Deadline => {
                ticket.fate = Fate::Refused(Outcome::Expired);
                self.tell(host, worker, &self.expired, None);
                self.expired.count(host, worker, Enforcement::Enforced);
                let refusal = Refusal { reason: &self.expired, kind: Kind::Expired, retry_after: None };
                refusal.reply(None, &memory.caller, operation, &self.monitor)
            }
            Refused::Limit(refusal) => {
                let Some(limit) = self.limits.get(refusal.limit) else {
                    return Reply::default();
                };
                ticket.fate = Fate::Refused(Outcome::Limited);
                let fallback = self.limit_fallback(refusal.limit).filter(|it| ticket.may_be_told(it));
                self.tell(host, worker, limit.reason(), fallback);
                limit.count_refusal(host, worker);
                limit::refusal::reply(limit, refusal.denial, fallback, &memory.caller, operation, &self.monitor)
            }
            Refused::Breaker(index, refusal) => {
                let Some(breaker) = self.breakers.get(*index) else {
                    return Reply::default();
                };
                ticket.fate = Fate::Refused(Outcome::Broken);
                breaker.reason().count(host, worker, Enforcement::Enforced);
                self.detail(host, worker, breaker.cause());
                let refusal =
                    Refusal { reason: breaker.reason(), kind: Kind::Degraded, retry_after: Some(refusal.retry_after) };
                let own = self.fallback(breaker.spec().fallback).filter(|it| ticket.may_be_told(it));
                let now = host.now();
                self.substitute(host, worker, &refusal, own, memory, operation, Origin::Spared, now).unwrap_or_else(
                    || {
                        self.tell(host, worker, refusal.reason, None);
                        refusal.reply(None, &memory.caller, operation, &self.monitor)
                    },
                )
            }
        }
    }

    /// What is served instead of a response that says failure, by its status.
    fn replacement(
        &self,
        host: &dyn Host,
        worker: &Worker,
        plan: &Plan,
        ticket: &Ticket,
        status: u16,
        now: Timestamp,
    ) -> Option<Reply> {
        let memory = ticket.memory.as_deref()?;
        let rule = self.rule(memory)?;
        if !rule.spec().replaces(status) {
            return None;
        }
        let refusal = Refusal { reason: &plan.failure, kind: Kind::Degraded, retry_after: None };
        let operation = self.operation_name(ticket.operation);
        let reply = self.substitute(host, worker, &refusal, None, memory, operation, Origin::Failed(status), now)?;
        self.detail(host, worker, &status.to_string());
        Some(reply)
    }

    /// The reply that was prepared for a refusal: a fallback of its own, a stale answer, or the fallback of the rule for
    /// failures.
    #[expect(clippy::too_many_arguments, reason = "one step of the path, not an interface")]
    fn substitute(
        &self,
        host: &dyn Host,
        worker: &Worker,
        refusal: &Refusal<'_>,
        own: Option<&Fallback>,
        memory: &Memory,
        operation: &str,
        origin: Origin,
        now: Timestamp,
    ) -> Option<Reply> {
        let rule = self.rule(memory);
        if own.is_none()
            && let (Some(stale), Some(candidate)) = (rule.and_then(FailureRule::stale), &memory.candidate)
            && let Some(kept) = stale.lookup(host, worker, candidate, now)
        {
            refusal.reason.count_fallback(host, worker, STALE);
            self.log_reason(host, worker, refusal.reason);
            return Some(refusal.mark(kept.into_reply(origin), &self.monitor));
        }
        let fallback = own.or_else(|| self.fallback(rule?.spec().fallback))?;
        self.tell(host, worker, refusal.reason, Some(fallback));
        Some(refusal.reply(Some(fallback), &memory.caller, operation, &self.monitor))
    }

    /// Begins to copy a good answer, if its rule keeps answers and this one may be kept.
    fn capture(&self, host: &dyn Host, worker: &Worker, ticket: &Ticket, now: Timestamp) -> Option<Box<Capture>> {
        if ticket.fate != Fate::Answered(Outcome::Success) {
            return None;
        }
        let memory = ticket.memory.as_deref()?;
        let (stale, candidate) = (self.rule(memory)?.stale()?, memory.candidate.as_ref()?);
        let response = host.response_headers().map_err(|error| worker.trouble.host_error(host, error)).ok()?;
        stale.begin(host, worker, candidate, &response, now).map(Box::new)
    }

    /// What the response, or a breaker that refuses, may need to know of the request.
    fn remember(&self, plan: &Plan, asker: &Asker<'_>, breaker: Option<&BreakerRule>) -> Memory {
        let Asker { host, worker, request, operation, .. } = *asker;
        // What a tunnel carries nobody can make up, and a preflight is not what it asks for.
        let exempt = stream::is_long(request) || request.is_preflight();
        let rules: &[usize] = if exempt { &[] } else { &plan.on_failure };
        let rule = first_allowing(rules, &self.on_failure, |rule| &rule.spec().selection, request);
        let fallbacks = [breaker.and_then(|it| it.spec().fallback), rule.and_then(|(_, it)| it.spec().fallback)];
        let fallbacks = fallbacks.into_iter().filter_map(|index| self.fallback(index));
        let stale = rule.and_then(|(_, rule)| rule.stale());
        Memory {
            caller: Caller::of(request, fallbacks),
            candidate: stale.and_then(|stale| stale.candidate(host, worker, request, operation)),
            rule: rule.map(|(index, _)| index),
        }
    }

    /// Says in metrics and access log why something else is served, and what.
    fn tell(&self, host: &dyn Host, worker: &Worker, reason: &Reason, fallback: Option<&Fallback>) {
        if let Some(fallback) = fallback {
            reason.count_fallback(host, worker, &fallback.name);
        }
        self.log_reason(host, worker, reason);
    }

    fn log_reason(&self, host: &dyn Host, worker: &Worker, reason: &Reason) {
        if self.monitor.access_log {
            reason.log(host, worker);
        }
    }

    /// Makes visible to the access log what the reason does not say: the status of the failure, or why a breaker is open.
    fn detail(&self, host: &dyn Host, worker: &Worker, detail: &str) {
        if self.monitor.access_log {
            worker.report(host, host.set_log_field(LogField::Detail, detail));
        }
    }

    /// What an admitted client is told about its quotas. What the service itself says stays.
    fn quota_fields(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> FieldEdits {
        if !self.monitor.ratelimit_headers_on_success {
            return FieldEdits::default();
        }
        let standings = ticket.taken.standings(&self.limits);
        if standings.is_empty() {
            return FieldEdits::default();
        }
        let theirs = |name: &str| {
            let value = host.response_header(name).unwrap_or_else(|error| {
                worker.trouble.host_error(host, error);
                None
            });
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let style = self.monitor.ratelimit_headers;
        quota::with_upstream(style, quota::fields(style, &standings), theirs)
    }

    fn log_operation(&self, host: &dyn Host, worker: &Worker, operation: usize) {
        if !self.monitor.access_log {
            return;
        }
        if let Some(operation) = self.operations.get(operation) {
            worker.report(host, host.set_log_field(LogField::Operation, &operation.name));
            worker.report(host, host.set_log_field(LogField::Tier, operation.tier.as_str()));
        }
    }

    fn count_request(
        &self,
        host: &dyn Host,
        worker: &Worker,
        plan: &Plan,
        ticket: &Ticket,
        outcome: Outcome,
        now: Timestamp,
    ) -> Result<(), HostError> {
        let Some(operation) = self.operations.get(ticket.operation) else {
            return Ok(());
        };
        if let Some(handle) = plan.requests.get(outcome as usize) {
            let name = || metrics::requests_total(&operation.name, operation.tier, outcome);
            handle.count(host, &worker.metrics, name)?;
        }
        if ticket.kind == StreamKind::Long || matches!(ticket.fate, Fate::Refused(_) | Fate::Waiting(_)) {
            return Ok(());
        }
        let duration = u64::try_from(now.saturating_since(ticket.started).as_millis()).unwrap_or(u64::MAX);
        let name = || metrics::request_duration_milliseconds(&operation.name);
        plan.duration.observe(host, &worker.metrics, duration, name)
    }

    fn operation_name(&self, operation: usize) -> &str {
        self.operations.get(operation).map_or("", |operation| &operation.name)
    }

    fn fallback(&self, index: Option<usize>) -> Option<&Fallback> {
        self.fallbacks.get(index?)
    }

    fn switch_fallback(&self, switch: usize) -> Option<&Fallback> {
        self.fallback(self.switches.get(switch)?.spec().fallback)
    }

    fn limit_fallback(&self, limit: usize) -> Option<&Fallback> {
        self.fallback(self.limits.get(limit)?.spec().fallback)
    }

    fn rule(&self, memory: &Memory) -> Option<&FailureRule> {
        self.on_failure.get(memory.rule?)
    }
}

fn edits<'f>(request: &Request<'_>) -> Edits<'f> {
    if !request.has_own_headers {
        return Edits::default();
    }
    Edits { remove: request.own_headers().map(<[u8]>::to_vec).collect(), set: SmallVec::new() }
}

/// Lets a response go on with these changes, and without a mark of ours.
fn pass(ticket: &Ticket, mut fields: FieldEdits) -> Answer {
    if ticket.ending() == Ending::Marked {
        fields.remove.push(router::LAST);
    }
    Answer::Pass(fields)
}

/// How often the router sent the request; `None` if nobody knows.
fn attempts_made(host: &dyn Host, worker: &Worker) -> Option<u32> {
    host.attempts().unwrap_or_else(|error| {
        worker.trouble.host_error(host, error);
        None
    })
}

/// Takes note of the outcome as far as the response's headers tell it. Returns the status of a failure.
fn judge(host: &dyn Host, plan: &Plan, ticket: &mut Ticket) -> Result<Option<u16>, HostError> {
    if plan.outcomes == Outcomes::AsNeeded && ticket.interest == Interest::Nothing {
        ticket.fate = Fate::Answered(Outcome::Unknown);
        return Ok(None);
    }
    match ticket.protocol {
        Protocol::Http => {}
        // The status comes at the end, unless there is nothing else.
        Protocol::Grpc if !plan.is_guarded() => return Ok(None),
        Protocol::Grpc => {
            if let Some(status) = host.response_header("grpc-status")?.as_deref().and_then(number) {
                ticket.fate = answered(host, ticket, Outcome::of_grpc_status(status));
                // The statuses that stand for `UNAVAILABLE` and `DEADLINE_EXCEEDED`.
                let http = if status == DEADLINE_EXCEEDED { 504 } else { 503 };
                return Ok(ticket.has_failed().then_some(http));
            }
        }
    }
    let Some(status) = host.response_status()? else {
        return Ok(None);
    };
    if status == 101 {
        ticket.kind = StreamKind::Long;
    }
    if ticket.protocol == Protocol::Http || 400 <= status {
        ticket.fate = answered(host, ticket, Outcome::of_status(status));
    }
    Ok(ticket.has_failed().then_some(status))
}

/// Takes note of how a gRPC stream ended, if that is not known yet.
fn grpc_outcome(host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
    if ticket.fate != Fate::Forwarded || !ticket.is_grpc() {
        return;
    }
    match host.grpc_status() {
        Ok(Some(status)) => ticket.fate = answered(host, ticket, Outcome::of_grpc_status(status)),
        Ok(None) => {}
        Err(error) => worker.trouble.host_error(host, error),
    }
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A failure that is marked as some filter's refusal says nothing about the service, unless the mark is ours: then it only
/// kept the router from trying again. Where the mark cannot be read there is none.
fn answered(host: &dyn Host, ticket: &Ticket, outcome: Outcome) -> Fate {
    let is_marked = || matches!(host.response_header(router::LAST), Ok(Some(_)));
    match outcome {
        Outcome::Failure if ticket.ending() != Ending::Marked && is_marked() => Fate::RefusedElsewhere,
        outcome => Fate::Answered(outcome),
    }
}

/// Whether the service broke off a response that it had begun: the client has half of it. Tunnels end as they like, and a
/// client may leave.
fn cut_off(host: &dyn Host, worker: &Worker, ticket: &Ticket) -> bool {
    if ticket.end == ResponseEnd::Seen || ticket.kind == StreamKind::Long {
        return false;
    }
    ended(host, worker) == Ended::ByUpstream
}

/// How the stream ended; otherwise if nobody knows.
fn ended(host: &dyn Host, worker: &Worker) -> Ended {
    host.ended().unwrap_or_else(|error| {
        worker.trouble.host_error(host, error);
        Ended::Otherwise
    })
}
