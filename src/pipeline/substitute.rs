//! What a client gets in place of an answer: a refusal, the last good answer, a fallback.

use super::ticket::{Client, Memory, Service, Ticket};
use crate::config::AccessLog;
use crate::cx::Cx;
use crate::degrade::failure::{self, FailureRule};
use crate::degrade::stale::Origin;
use crate::filter::{Filter, Plan, Section, first_allowing};
use crate::host::LogField;
use crate::limit::rule::Asker;
use crate::monitor::metrics::STALE;
use crate::monitor::reason::Reason;
use crate::operation::stream;
use crate::reply::fallback::{Caller, Fallback};
use crate::reply::refusal::{self, Refusal};
use crate::reply::{Protocol, Reply};
use crate::sorted::Merged;

impl Filter {
    /// What the request is told that is refused.
    pub(super) fn refuse(&self, cx: &Cx<'_>, refusal: Refusal<'_>, memory: &Memory, ticket: &mut Ticket) -> Reply {
        ticket.client = Client::Refusal(refusal.outcome);
        refusal.reason.count(cx, refusal.enforcement);
        if let Some(detail) = refusal.detail {
            self.detail(cx, detail);
        }
        let mut fallback = refusal.fallback.filter(|_| memory.may_use_own);
        if refusal.is_for_failure() && fallback.is_none() {
            if let Some(reply) = self.last_good_answer(cx, refusal.reason, memory, Origin::Spared) {
                return reply;
            }
            fallback = self.fallback(memory.fallback);
        }
        self.render(cx, Refusal { fallback, ..refusal }, memory, ticket)
    }

    /// What is served instead of a response that says failure, by its status; where nobody answered, whatever that is.
    pub(super) fn replacement(&self, cx: &Cx<'_>, plan: &Plan, ticket: &Ticket, status: u16) -> Option<Reply> {
        let memory = ticket.memory.as_deref()?;
        let rule = self.rule(memory)?;
        if ticket.service != Service::Lost && !rule.spec().failures.contains(status) {
            return None;
        }
        let reply = match self.last_good_answer(cx, &plan.failure, memory, Origin::Failed(status)) {
            Some(reply) => reply,
            None => {
                let fallback = Some(self.fallback(memory.fallback)?);
                self.render(cx, Refusal { fallback, ..failure::refusal(&plan.failure) }, memory, ticket)
            }
        };
        self.detail(cx, &status.to_string());
        Some(reply)
    }

    /// The answer that is kept for the request, if there is one. A page of another origin that could not read it is rather given
    /// the fallback of the rule for failures, if that is one that it can read.
    fn last_good_answer(&self, cx: &Cx<'_>, reason: &Reason, memory: &Memory, origin: Origin) -> Option<Reply> {
        let stale = self.rule(memory)?.stale()?;
        let Some(Ok(candidate)) = &memory.candidate else {
            return None;
        };
        let kept = stale.lookup(cx, candidate)?;
        let fallback = self.fallback(memory.fallback);
        if !kept.is_shown_to(&memory.caller) && fallback.is_some_and(|it| it.is_shown_to(&memory.caller)) {
            return None;
        }
        reason.count_fallback(cx, STALE);
        self.log_reason(cx, reason);
        Some(refusal::mark(kept.into_reply(origin), reason, &self.monitor))
    }

    /// The refusal as a reply, told of in metrics and access log.
    fn render(&self, cx: &Cx<'_>, refusal: Refusal<'_>, memory: &Memory, ticket: &Ticket) -> Reply {
        if let Some(fallback) = refusal.fallback {
            refusal.reason.count_fallback(cx, &fallback.name);
        }
        self.log_reason(cx, refusal.reason);
        refusal.reply(&memory.caller, self.operation_name(ticket.operation), &self.monitor)
    }

    /// What the refusal needs to know of the request.
    pub(super) fn remember_refused(&self, plan: &Plan, asker: &Asker<'_>, refusal: &Refusal<'_>) -> Memory {
        if refusal.is_for_failure() {
            return self.remember(plan, asker, refusal.fallback);
        }
        let request = asker.request;
        let own = refusal.fallback.filter(|fallback| fallback.is_for(request));
        let caller = Caller::of(request, own);
        Memory { caller, may_use_own: own.is_some(), ..Memory::of_nobody(Protocol::of(request)) }
    }

    /// What the response, or a breaker that refuses, may need to know of the request; `own` is the breaker's fallback.
    pub(super) fn remember(&self, plan: &Plan, asker: &Asker<'_>, own: Option<&Fallback>) -> Memory {
        let Asker { cx, request, operation, .. } = *asker;
        // What a tunnel carries nobody can make up, and a preflight is not what it asks for.
        let exempt = stream::is_long(request) || request.is_preflight();
        let rules = if exempt { Merged::default() } else { plan.of(Section::OnFailure) };
        let rule = first_allowing(rules, &self.on_failure, |rule| &rule.spec().selection, request);
        let own = own.filter(|fallback| fallback.is_for(request));
        let fallback = rule.and_then(|(_, it)| it.spec().fallback);
        let fallback = fallback.filter(|_| self.fallback(fallback).is_some_and(|it| it.is_for(request)));
        let stale = rule.and_then(|(_, rule)| rule.stale());
        Memory {
            caller: Caller::of(request, own.into_iter().chain(self.fallback(fallback))),
            may_use_own: own.is_some(),
            rule: rule.map(|(index, _)| index),
            fallback,
            candidate: stale.and_then(|stale| stale.candidate(cx, request, operation)),
        }
    }

    /// Says in the access log why something else is served.
    fn log_reason(&self, cx: &Cx<'_>, reason: &Reason) {
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

    pub(super) fn rule(&self, memory: &Memory) -> Option<&FailureRule> {
        self.on_failure.get(memory.rule?)
    }
}
