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

use self::admission::give_back_trial;
pub use self::ticket::Ticket;
use self::ticket::{Client, Guard, Interest, Memory, ResponseEnd, Service, StreamKind, Upload};
use self::verdict::{TOO_LATE, grpc_outcome, judge, unfinished, was_hurried};
use crate::config::AccessLog;
use crate::cx::Cx;
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
use crate::operation::stream;
use crate::reply::Reply;
use crate::reply::placed::{Placed, Wants};
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
    /// It becomes this.
    Become(Box<Placed>),
    /// The client gets this instead.
    Replace(Box<Reply>),
}

impl Filter {
    /// Decides about a request when its headers are there; it has a body or trailers unless it ends with them.
    pub fn on_request(&self, host: &dyn Host, worker: &Worker, end: End) -> (Decision<'_>, Ticket) {
        let cx = &worker.cx(host);
        let headers = cx.host.request_headers().unwrap_or_else(|error| {
            cx.host_error(error);
            Headers::default()
        });
        let request = Request { end, ..Request::read(&headers) };
        let now = cx.now();
        let operation = classify(&self.operations, &request);
        let request = Request { path_parameters: self.operations.path_parameters(operation), ..request };
        let mut ticket = Ticket::new(operation, &request, now);
        let Some(plan) = self.plan(operation) else {
            return (Decision::Forward(edits(&request)), ticket);
        };
        if self.operations.look_at_paths()
            && let Some(unsettled) = Unsettled::in_path(request.path)
        {
            cx.unsettled_path(unsettled.setting());
        }
        if self.monitor.access_log == AccessLog::All {
            self.log_operation(cx, operation);
        }
        ticket.written = self.written_by(&request);

        let asker = Asker { cx, request: &request, operation: self.operation_name(operation) };
        let mut edits = edits(&request);
        let decision = match self.admit(plan, &asker, &mut ticket, &mut edits) {
            Ok(wait) if wait.time.is_zero() => Decision::Forward(edits),
            Ok(wait) => {
                ticket.taken.join_queue(&self.limits, wait.limit);
                ticket.client = Client::Held(wait.limit);
                Decision::Wait(edits, now.saturating_add(wait.time))
            }
            Err(refusal) => {
                self.log_decision(cx, &ticket);
                let memory = self.remember_refused(plan, &asker, &refusal);
                Decision::Reply(Box::new(self.refuse(cx, refusal, &memory, &mut ticket)))
            }
        };
        (decision, ticket)
    }

    /// Lets a request go on whose wait is over, unless a breaker has opened meanwhile or its time is over too: then there is a
    /// reply.
    pub fn resume(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Decision<'_> {
        let cx = &worker.cx(host);
        let mut edits = Edits::default();
        let (Client::Held(limit), Some(plan)) = (ticket.client, self.plan(ticket.operation)) else {
            return Decision::Forward(edits);
        };
        let now = cx.now();
        ticket.taken.leave_queue(&self.limits, limit);
        ticket.client = Client::Nothing;
        if let Some(limit) = self.limits.get(limit) {
            limit.observe_wait(cx, now.saturating_since(ticket.started));
        }
        let Err(refusal) = self.let_go(cx, plan, ticket, &mut edits) else {
            return Decision::Forward(edits);
        };
        self.log_decision(cx, ticket);
        let memory = ticket.memory.take().unwrap_or_else(|| Box::new(Memory::of_nobody(ticket.protocol)));
        Decision::Reply(Box::new(self.refuse(cx, refusal, &memory, ticket)))
    }

    /// Takes note that the request is complete: from now on it is the service that takes its time.
    pub fn on_request_end(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        let cx = &worker.cx(host);
        ticket.upload = Upload::Complete;
        let is_timed = ticket.is_watched() || ticket.interest == Interest::OutcomeAndTime;
        if !ticket.is_open() || !is_timed {
            return;
        }
        ticket.asked = cx.now();
        if ticket.end == ResponseEnd::Ahead {
            self.follow_service(cx, ticket);
        }
        for guard in ticket.guards() {
            if let Guard::Passed(index, admission) = guard
                && admission.is_probe()
                && let Some(breaker) = self.breakers.get(*index)
            {
                breaker.expect(cx, admission, Awaited::Answer);
            }
        }
    }

    /// Ends a request whose time is over, if it is still [due](Ticket::due). There is a reply to be sent; where the answer has
    /// begun, the proxy breaks it off instead.
    pub fn expire(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Option<Reply> {
        let cx = &worker.cx(host);
        let (Some(_), Some(plan)) = (ticket.due(), self.plan(ticket.operation)) else {
            return None;
        };
        self.log_decision(cx, ticket);
        self.detail(cx, EXPIRED);
        let reply = Reply::too_late(ticket.protocol);
        if ticket.end == ResponseEnd::Open {
            // A client that reads slowly may be to blame.
            ticket.service = Service::Unconcerned;
            ticket.client = Client::Part;
            return Some(reply);
        }
        ticket.service = if was_hurried(cx, plan, ticket) { Service::Unconcerned } else { Service::Lost };
        ticket.client = Client::Answer(Outcome::Failure);
        self.settle_breakers(cx, ticket);
        if let Some(substitute) = self.replacement(cx, plan, ticket, TOO_LATE) {
            ticket.client = Client::Substitute;
            return Some(substitute);
        }
        Some(reply)
    }

    /// Takes note of a response when its headers are there, which end it or not, and says what becomes of it; the filter's own replies
    /// count already and pass.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, end: End, ticket: &mut Ticket) -> Answer {
        let cx = &worker.cx(host);
        let (true, Some(plan)) = (ticket.is_open(), self.plan(ticket.operation)) else {
            return Answer::Pass(FieldEdits::default());
        };
        ticket.end = ResponseEnd::Open;
        let timed = plan.is_guarded() || ticket.interest == Interest::OutcomeAndTime;
        if timed {
            self.note_answer(ticket, cx.now());
        }
        let failed = match judge(cx, plan, ticket) {
            Ok(failed) => failed,
            Err(error) => {
                cx.host_error(error);
                return pass(ticket, FieldEdits::default());
            }
        };
        if ticket.has_failed_or_was_retried() {
            self.log_decision(cx, ticket);
        }
        self.tell_streams(cx, ticket);
        self.give_up_changed(cx, ticket);
        if timed {
            if failed == Some(TOO_LATE) && ticket.has_expired() {
                self.detail(cx, EXPIRED);
            }
            let replacement = failed.and_then(|status| self.replacement(cx, plan, ticket, status));
            if failed.is_some() || ticket.is_probe() {
                // What is streamed may last longer than a probe has.
                self.settle_breakers(cx, ticket);
            }
            if let Some(reply) = replacement {
                ticket.client = Client::Substitute;
                return place(cx, reply, ticket, end);
            }
            ticket.capture = self.capture(cx, ticket);
        }
        let fields = self.quota_fields(cx, ticket);
        pass(ticket, fields)
    }

    /// Takes `size` bytes of the response's body into the copy that is being made of it.
    pub fn on_response_body(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket, size: usize) {
        let cx = &worker.cx(host);
        let Some(capture) = &mut ticket.capture else {
            return;
        };
        let part = cx.host.response_body(size).unwrap_or_else(|error| {
            cx.host_error(error);
            Vec::new()
        });
        let progress = if part.len() == size { capture.push(&part, cx.now()) } else { Progress::Enough };
        if progress == Progress::Enough
            && let Some(capture) = ticket.capture.take()
        {
            capture.abandon(cx);
        }
    }

    /// Takes note that the response has come to its end; one whose end is not seen was cut off. The status of gRPC comes
    /// with it.
    pub fn on_response_end(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        let cx = &worker.cx(host);
        ticket.end = ResponseEnd::Seen;
        if let Some(capture) = ticket.capture.take() {
            capture.finish(cx);
        }
        if let Some(plan) = self.plan(ticket.operation) {
            grpc_outcome(cx, plan, ticket);
        }
    }

    /// Settles what the request held. Its stream has ended.
    pub fn on_done(&self, host: &dyn Host, worker: &Worker, mut ticket: Ticket) {
        let cx = &worker.cx(host);
        let Some(plan) = self.plan(ticket.operation) else {
            return;
        };
        if let Client::Held(limit) = ticket.client {
            ticket.taken.leave_queue(&self.limits, limit);
            ticket.taken.give_back(&self.limits, cx);
            give_back_trial(plan, &mut ticket);
        }
        ticket.taken.release(&self.limits, cx);
        if let Some(capture) = ticket.capture.take() {
            capture.abandon(cx);
        }
        // Without its end a gRPC stream has no status but what the proxy makes up.
        if ticket.service.has_succeeded() || (ticket.is_open() && ticket.is_grpc()) {
            unfinished(cx, &mut ticket);
        }
        if ticket.is_open() {
            self.spare_breakers(cx, &mut ticket);
        }
        self.settle_breakers(cx, &mut ticket);
        self.settle_retries(cx, plan, &mut ticket);
        cx.report(self.count_request(cx, plan, &ticket));
    }

    /// Does what is due without a request: gives back what this worker holds in advance and does not use, says that it is alive
    /// while it holds anything, and tells breakers of requests that hang. Asks the host for the next call.
    pub fn on_tick(&self, host: &dyn Host, worker: &Worker) {
        let cx = &worker.cx(host);
        let now = cx.now();
        for wait in self.limits.iter().filter_map(|limit| limit.settle(cx)) {
            cx.host.wake_at(now.saturating_add(wait));
        }
        if let Some(wait) = worker.limit.keep_alive(cx) {
            cx.host.wake_at(now.saturating_add(wait));
        }
        for breaker in &self.breakers {
            breaker.tick(cx);
        }
    }

    /// Gives back what this worker holds in advance: the configuration is no longer in use.
    pub fn retire(&self, host: &dyn Host, worker: &Worker) {
        let cx = &worker.cx(host);
        for limit in &self.limits {
            limit.surrender(cx);
        }
    }

    /// Finds out what an answer is that could have been a stream of events or something else.
    fn tell_streams(&self, cx: &Cx<'_>, ticket: &mut Ticket) {
        if ticket.kind != StreamKind::Undecided {
            return;
        }
        let content_type = cx.host.response_header("content-type").unwrap_or_else(|error| {
            cx.host_error(error);
            None
        });
        let is_stream = content_type.is_some_and(|it| stream::is_events(&it));
        ticket.kind = if is_stream { StreamKind::Long } else { StreamKind::Exchange };
    }

    /// What an admitted client is told about its quotas. What the service itself says stays.
    fn quota_fields(&self, cx: &Cx<'_>, ticket: &Ticket) -> FieldEdits {
        if !self.monitor.ratelimit_headers_on_success {
            return FieldEdits::default();
        }
        let standings = ticket.taken.standings(&self.limits);
        if standings.is_empty() {
            return FieldEdits::default();
        }
        let theirs = |name: &str| {
            let value = cx.host.response_header(name).unwrap_or_else(|error| {
                cx.host_error(error);
                None
            });
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        let style = self.monitor.ratelimit_headers;
        quota::with_upstream(style, quota::fields(style, &standings), theirs)
    }

    /// Something happened to the request, so that the access log is to say which one it was.
    fn log_decision(&self, cx: &Cx<'_>, ticket: &Ticket) {
        if self.monitor.access_log == AccessLog::Decisions {
            self.log_operation(cx, ticket.operation);
        }
    }

    fn log_operation(&self, cx: &Cx<'_>, operation: usize) {
        if let Some(operation) = self.operations.get(operation) {
            cx.report(cx.host.set_log_field(LogField::Operation, &operation.name));
            cx.report(cx.host.set_log_field(LogField::Tier, operation.tier.as_str()));
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
fn place(cx: &Cx<'_>, reply: Reply, ticket: &Ticket, end: End) -> Answer {
    let wants = ticket.memory.as_deref().map_or(Wants::Body, |memory| memory.caller.wants);
    if Placed::is_called_for(&reply, wants, end) {
        match cx.host.response_headers() {
            Ok(response) => return Answer::Become(Box::new(Placed::new(reply, &response, wants))),
            Err(error) => cx.host_error(error),
        }
    }
    Answer::Replace(Box::new(reply))
}
