//! Policies that are tried out: they decide, are counted and logged, and refuse nothing.
//!
//! A policy in shadow sees what the enforced ones of its kind let through, so that it takes precedence over none of them. Of
//! several switches or breakers in shadow the first that selects the request acts, as if they were enforced; a breaker in
//! shadow behind an enforced one that acts would never be asked, and is not.
//!
//! The access log is told of the first policy that would have refused the request, and only of that: one call.

use super::ticket::{Guard, Ticket};
use crate::config::AccessLog;
use crate::cx::Cx;
use crate::filter::{Filter, Plan, Section, first_allowing};
use crate::host::LogField;
use crate::limit::rule::Asker;
use crate::monitor::reason::Reason;
use crate::reply::refusal::Refusal;

impl Filter {
    /// Asks the switches that are tried out.
    pub(super) fn try_switches(&self, plan: &Plan, asker: &Asker<'_>, ticket: &mut Ticket) {
        if let Some(switch) = self.switch_that_gives_up(plan.of(Section::ShadowSwitches), asker.request) {
            self.would_refuse(asker.cx, &switch.refusal(&self.fallbacks), ticket);
        }
    }

    /// Asks the breaker that is tried out, if one is.
    pub(super) fn try_breakers(&self, plan: &Plan, asker: &Asker<'_>, ticket: &mut Ticket) {
        let breaker =
            first_allowing(plan.of(Section::ShadowBreakers), &self.breakers, |it| &it.spec().selection, asker.request);
        let Some((index, breaker)) = breaker else {
            return;
        };
        if matches!(ticket.breaker, Guard::Ahead(enforced) if enforced < index) {
            return;
        }
        match breaker.peek(asker.cx, &self.fallbacks) {
            Ok(()) => ticket.shadow_breaker = Guard::Ahead(index),
            Err(refusal) => self.would_refuse(asker.cx, &refusal, ticket),
        }
    }

    /// Asks it once more, right before the request goes on.
    pub(super) fn claim_in_shadow(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        let upload = ticket.upload;
        let claimed = self.claim(cx, &mut ticket.shadow_breaker, upload);
        if let Err(refusal) = claimed {
            self.would_refuse(cx, &refusal, ticket);
        }
    }

    /// Has the access log say which of the limits that are tried out would have refused the request. They have counted it.
    pub(super) fn log_shadow_limit(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        if let Some(limit) = ticket.taken.shadow().and_then(|index| self.limits.get(index)) {
            self.log_shadow(cx, limit.reason(), ticket);
        }
    }

    fn would_refuse(&self, cx: &Cx<'_>, refusal: &Refusal<'_>, ticket: &mut Ticket) {
        refusal.reason.count(cx, refusal.enforcement);
        self.log_shadow(cx, refusal.reason, ticket);
    }

    fn log_shadow(&self, cx: &Cx<'_>, reason: &Reason, ticket: &mut Ticket) {
        if self.monitor.access_log == AccessLog::None || ticket.has_shadow_reason {
            return;
        }
        ticket.has_shadow_reason = true;
        cx.report(cx.host.set_log_field(LogField::Shadow, reason.as_str()));
        self.log_decision(cx, ticket);
    }
}
