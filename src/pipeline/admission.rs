//! Everything that may refuse a request, in order, and what goes on is told.

use std::rc::Rc;
use std::time::Duration;

use super::Edits;
use super::ticket::{Due, Guard, Haste, Interest, Retry, Service, Ticket, Upload};
use crate::cx::Cx;
use crate::degrade::breaker::machine::Awaited;
use crate::degrade::switch::Switch;
use crate::filter::{Filter, Plan, Section, first_allowing};
use crate::limit::reservation::Wait;
use crate::limit::rule::Asker;
use crate::operation::request::Request;
use crate::operation::stream;
use crate::reply::refusal::Refusal;
use crate::retry::attempts::Attempts;
use crate::retry::deadline::{self, DeadlineRule, Reach};
use crate::retry::policy::{Eligibility, Time};
use crate::retry::router;
use crate::retry::usual::Room;
use crate::sorted::Merged;

/// Where callers' proxies and libraries write how much time there is.
static CALLERS_PROXY: DeadlineRule = DeadlineRule { header: None, default: None };

impl Filter {
    /// Asks everything that may refuse the request, in order. What was taken is given back if something does.
    pub(super) fn admit<'f>(
        &'f self,
        plan: &Plan,
        asker: &Asker<'_>,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<Wait, Refusal<'f>> {
        let Asker { cx, request, .. } = *asker;
        let guarded = plan.has_switches() || plan.has_breakers();
        // A preflight is not what it asks for.
        let guarded = guarded && !request.is_preflight();
        if guarded {
            if let Some(switch) = self.switch_that_gives_up(plan.of(Section::Switches), request) {
                return Err(switch.refusal(&self.fallbacks));
            }
            self.try_switches(plan, asker, ticket);
        }
        let breakers = if guarded { plan.of(Section::Breakers) } else { Merged::default() };
        let breaker = first_allowing(breakers, &self.breakers, |it| &it.spec().selection, request);
        if let Some((index, breaker)) = breaker {
            breaker.peek(cx, &self.fallbacks)?;
            ticket.breaker = Guard::Ahead(index);
        }
        if guarded {
            self.try_breakers(plan, asker, ticket);
        }
        let patience = self.check_time(plan, asker, ticket, edits)?;
        let wait = ticket.taken.take(&self.limits, plan.of(Section::Limits), asker, patience).map_err(|it| {
            give_back_trial(plan, ticket);
            it.limit.refusal(it.denial, &self.fallbacks, self.monitor.ratelimit_headers)
        })?;
        self.log_shadow_limit(cx, ticket);
        if breaker.is_some() || !plan.of(Section::OnFailure).is_empty() {
            let own = breaker.and_then(|(_, breaker)| self.fallback(breaker.spec().fallback));
            ticket.memory = Some(Box::new(self.remember(plan, asker, own)));
        }
        if wait.time.is_zero() {
            self.let_go(cx, plan, ticket, edits)?;
        }
        Ok(wait)
    }

    /// Finds the rules for deadline and retries, and refuses a request that has too little time left. Returns how much of its
    /// time it may spend in a queue: what it does not usually need itself.
    fn check_time<'f>(
        &'f self,
        plan: &Plan,
        asker: &Asker<'_>,
        ticket: &mut Ticket,
        edits: &mut Edits<'_>,
    ) -> Result<Option<Duration>, Refusal<'f>> {
        let Asker { cx, request, .. } = *asker;
        let now = cx.now();
        let Some(usual_time) = &plan.usual_time else {
            return Ok(None);
        };
        let rule = first_allowing(plan.of(Section::Deadlines), &self.deadlines, |it| &it.selection, request);
        let retry = first_allowing(plan.of(Section::Retries), &self.retries, |it| &it.spec().selection, request);
        if rule.is_none() && retry.is_none() {
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
        let read = match rule {
            Some((_, spec)) => spec.rule.read(request, now),
            None => CALLERS_PROXY.read(request, now),
        };
        let Some(read) = read else {
            return Ok(None);
        };
        let left = read.left(now).ok_or_else(|| deadline::refusal(&self.expired))?;
        let reach = match rule {
            // The caller's library counts to the end.
            _ if ticket.is_grpc() && read.is_grpcs() => Reach::End,
            Some((_, spec)) => spec.reach,
            None => Reach::Beginning,
        };
        ticket.deadline = Some(Due { deadline: read, rule: rule.map(|(index, _)| index), reach, time: left });
        let mut usual_time = usual_time.borrow_mut();
        match usual_time.judge(left, now) {
            Room::Enough => Ok(Some(left.saturating_sub(usual_time.time(now).unwrap_or_default()))),
            // It is to be seen how long it takes. If it fails, it may be for want of time.
            Room::Trial => {
                ticket.haste = Haste::Trial;
                Ok(Some(left))
            }
            Room::TooLittle => Err(deadline::refusal(&self.expired)),
        }
    }

    /// Asks what is asked right before the request goes on. What was taken of limits is given back if it does not.
    pub(super) fn let_go<'f>(
        &'f self,
        cx: &Cx<'_>,
        plan: &Plan,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<(), Refusal<'f>> {
        let now = cx.now();
        ticket.asked = now;
        let upload = ticket.upload;
        let gone = self.claim(cx, &mut ticket.breaker, upload).and_then(|()| {
            self.claim_in_shadow(cx, ticket);
            self.advise(cx, plan, ticket, edits)
        });
        if let Err(refusal) = gone {
            self.spare_breakers(cx, ticket);
            ticket.taken.give_back(&self.limits, cx);
            give_back_trial(plan, ticket);
            return Err(refusal);
        }
        ticket.service = Service::Silent;
        if ticket.upload == Upload::Complete {
            self.follow_service(cx, ticket);
        }
        Ok(())
    }

    /// Asks a breaker of the request's, if it has one.
    pub(super) fn claim<'f>(&'f self, cx: &Cx<'_>, guard: &mut Guard, upload: Upload) -> Result<(), Refusal<'f>> {
        let Guard::Ahead(index) = *guard else {
            return Ok(());
        };
        *guard = Guard::None;
        if let Some(breaker) = self.breakers.get(index) {
            let admission = breaker.claim(cx, &self.fallbacks)?;
            if admission.is_probe() && upload == Upload::Underway {
                breaker.expect(cx, &admission, Awaited::Request);
            }
            *guard = Guard::Passed(index, admission);
        }
        Ok(())
    }

    /// Tells the router and the service how much time there is, and the router what it may retry.
    pub(super) fn advise<'f>(
        &'f self,
        cx: &Cx<'_>,
        plan: &Plan,
        ticket: &mut Ticket,
        edits: &mut Edits<'f>,
    ) -> Result<(), Refusal<'f>> {
        let now = cx.now();
        let mut left = None;
        if let Some(due) = &mut ticket.deadline {
            let time = due.deadline.left(now).ok_or_else(|| deadline::refusal(&self.expired))?;
            due.time = time;
            left = Some(time);
            let spec = due.rule.and_then(|index| self.deadlines.get(index));
            let fields = due.deadline.fields(spec.map_or(&CALLERS_PROXY, |spec| &spec.rule), time);
            for (name, value) in fields {
                edits.set.push((name, value));
            }
        }
        let Retry::Ahead(index, eligibility) = ticket.retry else {
            edits.set.extend(left.map(router::attempt_timeout));
            return Ok(());
        };
        ticket.retry = Retry::None;
        if let Some(rule) = self.retries.get(index) {
            let usual = plan.usual_time.as_ref().and_then(|it| it.borrow_mut().time(now));
            let advice = rule.advise(cx, eligibility, Time { left, usual, bound: ticket.bound() });
            ticket.per_try = advice.per_try;
            ticket.to_begin = advice.to_begin;
            ticket.retry = match eligibility {
                Eligibility::Eligible(failures) if 0 < advice.retries && rule.is_attended() => {
                    let attempts = Attempts::new(Rc::clone(rule), failures, advice.payment, advice.set_aside);
                    let attempts = Rc::new(attempts);
                    let number = self.register.enter(&attempts, now);
                    cx.report(cx.host.set_request_number(number));
                    Retry::Entered(number, attempts)
                }
                _ => Retry::Paid(index, advice.set_aside),
            };
            for (name, value) in advice.fields {
                edits.set.push((name, value));
            }
            if let Some(decision) = advice.decision {
                self.count_retries(cx, plan, ticket.operation, decision, 1);
            }
        }
        Ok(())
    }

    /// The first of the switches with these indices that is on and gives up the request.
    pub(super) fn switch_that_gives_up<'f>(&'f self, indices: Merged<'_>, request: &Request<'_>) -> Option<&'f Switch> {
        let mut switches = indices.into_iter().filter_map(|index| self.switches.get(index));
        switches.find(|switch| switch.gives_up(request))
    }
}

/// Gives back a request's trial, if it was one: it was not sent on, so that nothing is seen of how long it would have taken.
pub(super) fn give_back_trial(plan: &Plan, ticket: &mut Ticket) {
    if let (Haste::Trial, Some(usual_time)) = (ticket.haste, &plan.usual_time) {
        ticket.haste = Haste::None;
        usual_time.borrow_mut().give_back(ticket.started);
    }
}
