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
//!
//! What the steps do is in [`admission`], [`verdict`] (what a response says), [`substitute`] (what a client gets in place of it)
//! and [`settlement`].

mod admission;
mod settlement;
mod substitute;
mod ticket;
mod verdict;

use std::borrow::Cow;

use smallvec::SmallVec;

use self::admission::Refused;
pub use self::ticket::Ticket;
use self::ticket::{Fate, Interest, Memory, ResponseEnd};
use self::verdict::{cut_off, grpc_outcome, judge};
use crate::degrade::stale::Progress;
use crate::filter::Filter;
use crate::headers::Headers;
use crate::host::{Host, LogField};
use crate::limit::quota::{self, FieldEdits};
use crate::limit::rule::Asker;
use crate::monitor::outcome::Outcome;
use crate::operation::classify;
use crate::operation::path::Unsettled;
use crate::operation::request::Request;
use crate::reply::Reply;
use crate::retry::attempts::Ending;
use crate::retry::router;
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
        let request = Request { path_parameters: self.operations.path_parameters(operation), ..request };
        let mut ticket = Ticket::new(operation, &request, now);
        let Some(plan) = self.plans.get(operation) else {
            return (Decision::Forward(edits(&request)), ticket);
        };
        if self.operations.look_at_paths()
            && let Some(unsettled) = Unsettled::in_path(request.path)
        {
            worker.trouble.unsettled_path(host, unsettled.setting());
        }
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

    fn operation_name(&self, operation: usize) -> &str {
        self.operations.get(operation).map_or("", |operation| &operation.name)
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
