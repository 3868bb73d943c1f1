//! The one request path.
//!
//! ```text
//! request:   classify ▸ switch ▸ breaker? ▸ deadline? ▸ limits ▸ (wait) ▸ breaker! ▸ deadline! ▸ retry advice ▸ forward
//! response:  who is to blame ▸ failure: stale answer, fallback
//! end:       the ticket is settled ▸ breaker, budget ▸ metrics
//! ```
//!
//! [`Filter::on_request`] decides and hands out a [`Ticket`], which the adapter keeps with the stream and gives back to
//! [`Filter::on_done`] when the stream ends, however it ends. A request that must wait is resumed by
//! [`Filter::resume`], and one whose time is over is ended by [`Filter::expire`]; the service's time runs from
//! [`Filter::on_request_end`]. What a request took before it was refused is given back at once: a refused request leaves no trace
//! in the state of the limits that admitted it.
//!
//! What the steps do is in [`admission`], [`verdict`] (what a response says), [`substitute`] (what a client gets in place of it),
//! [`keeping`] (what it means for the answers that are kept), [`shadow`] (what policies that are tried out would do) and
//! [`settlement`].

mod admission;
mod keeping;
mod settlement;
mod shadow;
mod substitute;
mod ticket;
mod verdict;

use std::borrow::Cow;

use smallvec::SmallVec;

use self::admission::{Refused, give_back_trial};
pub use self::ticket::Ticket;
use self::ticket::{Client, Guard, Interest, Memory, ResponseEnd, Service, StreamKind, Upload};
use self::verdict::{TOO_LATE, grpc_outcome, judge, unfinished, was_hurried};
use crate::config::AccessLog;
use crate::degrade::breaker::machine::Awaited;
use crate::degrade::stale::Progress;
use crate::filter::Filter;
use crate::headers::Headers;
use crate::host::{End, Host, LogField};
use crate::limit::quota::{self, FieldEdits};
use crate::limit::rule::Asker;
use crate::monitor::outcome::Outcome;
use crate::operation::classify;
use crate::operation::path::Unsettled;
use crate::operation::request::Request;
use crate::reply::Reply;
use crate::reply::placed::{Placed, Wants};
use crate::retry::attempts::Ending;
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
    /// It becomes this.
    Become(Box<Placed>),
    /// The client gets this instead.
    Replace(Box<Reply>),
}

impl Filter {
    /// Decides about a request when its headers are there; it has a body or trailers unless it ends with them.
    pub fn on_request(&self, host: &dyn Host, worker: &Worker, end: End) -> (Decision<'_>, Ticket) {
        let headers = host.request_headers().unwrap_or_else(|error| {
            worker.trouble.host_error(host, error);
            Headers::default()
        });
        let request = Request { end, ..Request::read(&headers) };
        let now = host.now();
        let operation = classify(&self.operations, &request);
        let request = Request { path_parameters: self.operations.path_parameters(operation), ..request };
        let mut ticket = Ticket::new(operation, &request, now);
        let Some(plan) = self.plan(operation, worker) else {
            return (Decision::Forward(edits(&request)), ticket);
        };
        if self.operations.look_at_paths()
            && let Some(unsettled) = Unsettled::in_path(request.path)
        {
            worker.trouble.unsettled_path(host, unsettled.setting());
        }
        if self.monitor.access_log == AccessLog::All {
            self.log_operation(host, worker, operation);
        }
        ticket.written = self.written_by(&request);

        let asker = Asker { host, worker, request: &request, operation: self.operation_name(operation), now };
        let mut edits = edits(&request);
        let decision = match self.admit(plan, &asker, &mut ticket, &mut edits) {
            Ok(wait) if wait.time.is_zero() => Decision::Forward(edits),
            Ok(wait) => {
                if let Some(queue) = ticket.taken.queue(&self.limits, wait.limit) {
                    worker.waiting.join(queue);
                }
                ticket.client = Client::Held(wait.limit);
                Decision::Wait(edits, now.saturating_add(wait.time))
            }
            Err(refused) => {
                self.log_decision(host, worker, &ticket);
                let memory = match &refused {
                    Refused::Switch(index) => self.remember_refused(&request, self.switch_fallback(*index)),
                    Refused::Limit(refusal) => self.remember_refused(&request, self.limit_fallback(refusal.limit)),
                    Refused::Deadline => self.remember_refused(&request, None),
                    Refused::Breaker(index, _) => self.remember(plan, &asker, self.breaker_fallback(*index)),
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
        let (Client::Held(limit), Some(plan)) = (ticket.client, self.plan(ticket.operation, worker)) else {
            return Decision::Forward(edits);
        };
        let now = host.now();
        self.leave_queue(worker, ticket, limit);
        ticket.client = Client::Nothing;
        if let Some(limit) = self.limits.get(limit) {
            limit.observe_wait(host, worker, now.saturating_since(ticket.started));
        }
        let Err(refused) = self.let_go(host, worker, plan, now, ticket, &mut edits) else {
            return Decision::Forward(edits);
        };
        self.log_decision(host, worker, ticket);
        let memory = ticket.memory.take().unwrap_or_else(|| Box::new(Memory::of_nobody(ticket.protocol)));
        Decision::Reply(Box::new(self.refuse(host, worker, &refused, &memory, ticket)))
    }

    /// Takes note that the request is complete: from now on it is the service that takes its time.
    pub fn on_request_end(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        ticket.upload = Upload::Complete;
        let is_timed = ticket.is_watched() || ticket.interest == Interest::OutcomeAndTime;
        if !ticket.is_open() || !is_timed {
            return;
        }
        ticket.asked = host.now();
        if ticket.end == ResponseEnd::Ahead {
            self.follow_service(host, ticket, ticket.asked);
        }
        for guard in ticket.guards() {
            if let Guard::Passed(index, admission) = guard
                && admission.is_probe()
                && let Some(breaker) = self.breakers.get(*index)
            {
                breaker.expect(host, worker, admission, Awaited::Answer, ticket.asked);
            }
        }
    }

    /// Ends a request whose time is over, if it is still [due](Ticket::due). There is a reply to be sent; where the answer has
    /// begun, the proxy breaks it off instead.
    pub fn expire(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Option<Reply> {
        let (Some(_), Some(plan)) = (ticket.due(), self.plan(ticket.operation, worker)) else {
            return None;
        };
        let now = host.now();
        self.log_decision(host, worker, ticket);
        self.detail(host, worker, EXPIRED);
        let reply = Reply::too_late(ticket.protocol);
        if ticket.end == ResponseEnd::Open {
            // A client that reads slowly may be to blame.
            ticket.service = Service::Unconcerned;
            ticket.client = Client::Part;
            return Some(reply);
        }
        ticket.service = if was_hurried(host, plan, ticket) { Service::Unconcerned } else { Service::Lost };
        ticket.client = Client::Answer(Outcome::Failure);
        self.settle_breakers(host, worker, ticket, now);
        if let Some(substitute) = self.replacement(host, worker, plan, ticket, TOO_LATE, now) {
            ticket.client = Client::Substitute;
            return Some(substitute);
        }
        Some(reply)
    }

    /// Takes note of a response when its headers are there, which end it or not, and says what becomes of it; the filter's own replies
    /// count already and pass.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, end: End, ticket: &mut Ticket) -> Answer {
        let (true, Some(plan)) = (ticket.is_open(), self.plan(ticket.operation, worker)) else {
            return Answer::Pass(FieldEdits::default());
        };
        ticket.end = ResponseEnd::Open;
        let timed = plan.is_guarded() || ticket.interest == Interest::OutcomeAndTime;
        let answered = timed.then(|| host.now());
        if let Some(now) = answered {
            self.note_answer(ticket, now);
        }
        let failed = match judge(host, worker, plan, ticket) {
            Ok(failed) => failed,
            Err(error) => {
                worker.trouble.host_error(host, error);
                return pass(ticket, FieldEdits::default());
            }
        };
        if ticket.has_failed_or_was_retried() {
            self.log_decision(host, worker, ticket);
        }
        self.tell_streams(host, worker, ticket);
        self.give_up_changed(host, worker, ticket);
        if let Some(now) = answered {
            if failed == Some(TOO_LATE) && ticket.has_expired() {
                self.detail(host, worker, EXPIRED);
            }
            let replacement = failed.and_then(|status| self.replacement(host, worker, plan, ticket, status, now));
            if failed.is_some() || ticket.is_probe() {
                // What is streamed may last longer than a probe has.
                self.settle_breakers(host, worker, ticket, now);
            }
            if let Some(reply) = replacement {
                ticket.client = Client::Substitute;
                return place(host, worker, reply, ticket, end);
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
        if let Some(plan) = self.plan(ticket.operation, worker) {
            grpc_outcome(host, worker, plan, ticket);
        }
    }

    /// Settles what the request held. Its stream has ended.
    pub fn on_done(&self, host: &dyn Host, worker: &Worker, mut ticket: Ticket) {
        let Some(plan) = self.plan(ticket.operation, worker) else {
            return;
        };
        let now = host.now();
        if let Client::Held(limit) = ticket.client {
            self.leave_queue(worker, &ticket, limit);
            ticket.taken.give_back(&self.limits, host, worker, now);
            give_back_trial(plan, &mut ticket);
        }
        ticket.taken.release(&self.limits, host, worker, now);
        if let Some(capture) = ticket.capture.take() {
            capture.abandon(host, worker);
        }
        // Without its end a gRPC stream has no status but what the proxy makes up.
        if ticket.service.has_succeeded() || (ticket.is_open() && ticket.is_grpc()) {
            unfinished(host, worker, &mut ticket);
        }
        if ticket.is_open() {
            self.spare_breakers(host, worker, &mut ticket, now);
        }
        self.settle_breakers(host, worker, &mut ticket, now);
        self.settle_retries(host, worker, plan, &mut ticket, now);
        worker.report(host, self.count_request(host, worker, plan, &ticket, now));
    }

    /// Does what is due without a request: gives back what this worker holds in advance and does not use, says that it is alive
    /// while it holds anything, and tells breakers of requests that hang. Asks the host for the next call.
    pub fn on_tick(&self, host: &dyn Host, worker: &Worker) {
        let now = host.now();
        for wait in self.limits.iter().filter_map(|limit| limit.settle(host, worker, now)) {
            host.wake_at(now.saturating_add(wait));
        }
        if let Some(wait) = worker.keep_alive(host, now) {
            host.wake_at(now.saturating_add(wait));
        }
        for breaker in &self.breakers {
            breaker.tick(host, worker, now);
        }
    }

    /// Gives back what this worker holds in advance: the configuration is no longer in use.
    pub fn retire(&self, host: &dyn Host, worker: &Worker) {
        let now = host.now();
        for limit in &self.limits {
            limit.surrender(host, worker, now);
        }
    }

    /// Finds out what an answer is that could have been a stream of events or something else.
    fn tell_streams(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        if ticket.kind != StreamKind::Undecided {
            return;
        }
        let content_type = host.response_header("content-type").unwrap_or_else(|error| {
            worker.trouble.host_error(host, error);
            None
        });
        let is_stream = content_type.is_some_and(|it| stream::is_events(&it));
        ticket.kind = if is_stream { StreamKind::Long } else { StreamKind::Exchange };
    }

    /// What an admitted client is told about its quotas. What the service itself says stays.
    fn quota_fields(&self, host: &dyn Host, worker: &Worker, ticket: &Ticket) -> FieldEdits {
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

    /// Something happened to the request, so that the access log is to say which one it was.
    fn log_decision(&self, host: &dyn Host, worker: &Worker, ticket: &Ticket) {
        if self.monitor.access_log == AccessLog::Decisions {
            self.log_operation(host, worker, ticket.operation);
        }
    }

    fn log_operation(&self, host: &dyn Host, worker: &Worker, operation: usize) {
        if let Some(operation) = self.operations.get(operation) {
            worker.report(host, host.set_log_field(LogField::Operation, &operation.name));
            worker.report(host, host.set_log_field(LogField::Tier, operation.tier.as_str()));
        }
    }

    /// The request waits no longer for the limit with this index.
    fn leave_queue(&self, worker: &Worker, ticket: &Ticket, limit: usize) {
        if let Some(queue) = ticket.taken.queue(&self.limits, limit) {
            worker.waiting.leave(queue);
        }
    }

    fn operation_name(&self, operation: usize) -> &str {
        self.operations.get(operation).map_or("", |operation| &operation.name)
    }
}

/// What the access log says of a request that was ended when its time was over.
const EXPIRED: &str = "expired";

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

/// Has the response become the reply where that is called for.
fn place(host: &dyn Host, worker: &Worker, reply: Reply, ticket: &Ticket, end: End) -> Answer {
    let wants = ticket.memory.as_deref().map_or(Wants::Body, |memory| memory.caller.wants);
    if Placed::is_called_for(&reply, wants, end) {
        match host.response_headers() {
            Ok(response) => return Answer::Become(Box::new(Placed::new(reply, &response, wants))),
            Err(error) => worker.trouble.host_error(host, error),
        }
    }
    Answer::Replace(Box::new(reply))
}
