//! What a client gets in place of an answer: a refusal, the last good answer, a fallback.

use super::admission::Refused;
use super::ticket::{Client, Memory, Service, Ticket};
use crate::config::AccessLog;
use crate::cx::Cx;
use crate::degrade::failure::FailureRule;
use crate::degrade::refusal::{Kind, Refusal};
use crate::degrade::stale::{Kept, Origin};
use crate::degrade::switch;
use crate::filter::{Filter, Plan, Section, first_allowing};
use crate::host::LogField;
use crate::limit;
use crate::limit::rule::Asker;
use crate::monitor::metrics::STALE;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::request::Request;
use crate::operation::stream;
use crate::reply::fallback::{Caller, Fallback};
use crate::reply::{Protocol, Reply};
use crate::sorted::Merged;

impl Filter {
    /// What the request is told that is refused.
    pub(super) fn refuse(&self, cx: &Cx<'_>, refused: &Refused, memory: &Memory, ticket: &mut Ticket) -> Reply {
        let operation = self.operation_name(ticket.operation);
        match refused {
            Refused::Switch(index) => {
                let Some(switch) = self.switches.get(*index) else {
                    return Reply::default();
                };
                ticket.client = Client::Refusal(Outcome::Degraded);
                let (reason, retry_after) = (switch.reason(), Some(switch::RETRY_AFTER));
                let fallback = self.fallback(memory.own);
                self.tell(cx, reason, fallback);
                reason.count(cx, Enforcement::Enforced);
                let refusal = Refusal { reason, kind: Kind::Degraded, retry_after };
                refusal.reply(fallback, &memory.caller, operation, &self.monitor)
            }
            Refused::Deadline => {
                ticket.client = Client::Refusal(Outcome::Expired);
                self.tell(cx, &self.expired, None);
                self.expired.count(cx, Enforcement::Enforced);
                let refusal = Refusal { reason: &self.expired, kind: Kind::Expired, retry_after: None };
                refusal.reply(None, &memory.caller, operation, &self.monitor)
            }
            Refused::Limit(refusal) => {
                let Some(limit) = self.limits.get(refusal.limit) else {
                    return Reply::default();
                };
                ticket.client = Client::Refusal(Outcome::Limited);
                let fallback = self.fallback(memory.own);
                self.tell(cx, limit.reason(), fallback);
                limit.count_refusal(cx);
                limit::refusal::reply(limit, refusal.denial, fallback, &memory.caller, operation, &self.monitor)
            }
            Refused::Breaker(index, refusal) => {
                let Some(breaker) = self.breakers.get(*index) else {
                    return Reply::default();
                };
                ticket.client = Client::Refusal(Outcome::Broken);
                breaker.reason().count(cx, Enforcement::Enforced);
                self.detail(cx, breaker.cause());
                let refusal =
                    Refusal { reason: breaker.reason(), kind: Kind::Degraded, retry_after: Some(refusal.retry_after) };
                let own = self.fallback(memory.own);
                self.substitute(cx, &refusal, own, memory, operation, Origin::Spared).unwrap_or_else(|| {
                    self.tell(cx, refusal.reason, None);
                    refusal.reply(None, &memory.caller, operation, &self.monitor)
                })
            }
        }
    }

    /// What is served instead of a response that says failure, by its status; where nobody answered, whatever that is.
    pub(super) fn replacement(&self, cx: &Cx<'_>, plan: &Plan, ticket: &Ticket, status: u16) -> Option<Reply> {
        let memory = ticket.memory.as_deref()?;
        let rule = self.rule(memory)?;
        if ticket.service != Service::Lost && !rule.spec().failures.contains(status) {
            return None;
        }
        let refusal = Refusal { reason: &plan.failure, kind: Kind::Degraded, retry_after: None };
        let operation = self.operation_name(ticket.operation);
        let reply = self.substitute(cx, &refusal, None, memory, operation, Origin::Failed(status))?;
        self.detail(cx, &status.to_string());
        Some(reply)
    }

    /// The reply that was prepared for a refusal: a fallback of its own, a stale answer, or the fallback of the rule for
    /// failures.
    pub(super) fn substitute(
        &self,
        cx: &Cx<'_>,
        refusal: &Refusal<'_>,
        own: Option<&Fallback>,
        memory: &Memory,
        operation: &str,
        origin: Origin,
    ) -> Option<Reply> {
        let fallback = own.or_else(|| self.fallback(memory.fallback));
        // A page of another origin is given what it can read.
        let is_better = |kept: &Kept| {
            kept.is_shown_to(&memory.caller) || !fallback.is_some_and(|it| it.is_shown_to(&memory.caller))
        };
        if own.is_none()
            && let (Some(stale), Some(Ok(candidate))) =
                (self.rule(memory).and_then(FailureRule::stale), &memory.candidate)
            && let Some(kept) = stale.lookup(cx, candidate).filter(is_better)
        {
            refusal.reason.count_fallback(cx, STALE);
            self.log_reason(cx, refusal.reason);
            return Some(refusal.mark(kept.into_reply(origin), &self.monitor));
        }
        let fallback = fallback?;
        self.tell(cx, refusal.reason, Some(fallback));
        Some(refusal.reply(Some(fallback), &memory.caller, operation, &self.monitor))
    }

    /// What a refusal needs to know of the request; `own` is the index of the fallback of what refuses.
    pub(super) fn remember_refused(&self, request: &Request<'_>, own: Option<usize>) -> Memory {
        let own = self.fallback_for(request, own);
        Memory { caller: Caller::of(request, self.fallback(own)), own, ..Memory::of_nobody(Protocol::of(request)) }
    }

    /// What the response, or a breaker that refuses, may need to know of the request; `own` is the index of the breaker's fallback.
    pub(super) fn remember(&self, plan: &Plan, asker: &Asker<'_>, own: Option<usize>) -> Memory {
        let Asker { cx, request, operation, .. } = *asker;
        // What a tunnel carries nobody can make up, and a preflight is not what it asks for.
        let exempt = stream::is_long(request) || request.is_preflight();
        let rules = if exempt { Merged::default() } else { plan.of(Section::OnFailure) };
        let rule = first_allowing(rules, &self.on_failure, |rule| &rule.spec().selection, request);
        let own = self.fallback_for(request, own);
        let fallback = self.fallback_for(request, rule.and_then(|(_, it)| it.spec().fallback));
        let stale = rule.and_then(|(_, rule)| rule.stale());
        Memory {
            caller: Caller::of(request, [own, fallback].into_iter().filter_map(|index| self.fallback(index))),
            own,
            rule: rule.map(|(index, _)| index),
            fallback,
            candidate: stale.and_then(|stale| stale.candidate(cx, request, operation)),
        }
    }

    /// Says in metrics and access log why something else is served, and what.
    pub(super) fn tell(&self, cx: &Cx<'_>, reason: &Reason, fallback: Option<&Fallback>) {
        if let Some(fallback) = fallback {
            reason.count_fallback(cx, &fallback.name);
        }
        self.log_reason(cx, reason);
    }

    pub(super) fn log_reason(&self, cx: &Cx<'_>, reason: &Reason) {
        if self.monitor.access_log != AccessLog::None {
            reason.log(cx);
        }
    }

    /// Makes visible to the access log what the reason does not say: the status of the failure, or why a breaker is open.
    pub(super) fn detail(&self, cx: &Cx<'_>, detail: &str) {
        if self.monitor.access_log != AccessLog::None {
            cx.report(cx.host.set_log_field(LogField::Detail, detail));
        }
    }

    pub(super) fn fallback(&self, index: Option<usize>) -> Option<&Fallback> {
        self.fallbacks.get(index?)
    }

    /// The index, if the fallback may answer the request.
    fn fallback_for(&self, request: &Request<'_>, index: Option<usize>) -> Option<usize> {
        index.filter(|_| self.fallback(index).is_some_and(|fallback| fallback.is_for(request)))
    }

    pub(super) fn switch_fallback(&self, switch: usize) -> Option<usize> {
        self.switches.get(switch)?.spec().fallback
    }

    pub(super) fn limit_fallback(&self, limit: usize) -> Option<usize> {
        self.limits.get(limit)?.spec().fallback
    }

    pub(super) fn breaker_fallback(&self, breaker: usize) -> Option<usize> {
        self.breakers.get(breaker)?.spec().fallback
    }

    pub(super) fn rule(&self, memory: &Memory) -> Option<&FailureRule> {
        self.on_failure.get(memory.rule?)
    }
}
