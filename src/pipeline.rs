//! The one request path.
//!
//! ```text
//! request:   classify ▸ switch ▸ limits ▸ (wait) ▸ forward
//! response:  outcome ▸ failure: fallback
//! end:       the ticket is settled ▸ metrics
//! ```
//!
//! [`Filter::on_request`] decides and hands out a [`Ticket`], which the adapter keeps with the stream and gives back to
//! [`Filter::on_done`] when the stream ends, however it ends. A request that must wait is resumed by
//! [`Filter::resume`]. What a request took before it was refused is given back at once: a refused request leaves no trace
//! in the state of the limits that admitted it.

use crate::config::Outcomes;
use crate::degrade::fallback::{Caller, Fallback};
use crate::degrade::refusal::{Kind, Refusal};
use crate::degrade::switch;
use crate::filter::{Filter, Plan, first_allowing};
use crate::headers::Headers;
use crate::host::{Ended, Host, HostError, LogField};
use crate::limit;
use crate::limit::quota::{self, FieldEdits};
use crate::limit::reservation::{Reservation, Wait};
use crate::limit::rule::Asker;
use crate::monitor::metrics;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::classify;
use crate::operation::request::Request;
use crate::reply::{Protocol, Reply};
use crate::time::Timestamp;
use crate::worker::Worker;

/// What is to happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It goes on, with these changes.
    Forward(Edits),
    /// It is to be held, with these changes made, and to be [resumed](Filter::resume) at the instant.
    Wait(Edits, Timestamp),
    /// It is answered by the filter.
    Reply(Box<Reply>),
}

/// Changes to a request's headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// Names of headers to be removed.
    pub remove: Vec<Vec<u8>>,
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

/// What a request holds until its stream ends.
///
/// Whoever is given one owes it to [`Filter::on_done`].
#[derive(Debug)]
#[must_use]
pub struct Ticket {
    operation: usize,
    started: Timestamp,
    protocol: Protocol,
    fate: Fate,
    kind: StreamKind,
    end: ResponseEnd,
    taken: Reservation,
    /// Only of a request whose answer may be replaced.
    memory: Option<Box<Memory>>,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Held in the queue of the limit with this index.
    Waiting(usize),
    /// Sent on, not answered.
    Forwarded,
    /// Answered by the service, or by Envoy for want of one.
    Answered(Outcome),
    /// Answered so, but the client was given something else.
    Replaced,
    /// Answered by the filter.
    Refused(Outcome),
}

/// Whether the stream is one request with its response, or goes on as long as both sides like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamKind {
    Exchange,
    /// A tunnel or another protocol.
    Tunnel,
}

/// Whether the end of the response has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseEnd {
    Open,
    Seen,
}

/// What is kept of a request whose answer may be replaced: its headers are out of reach by then.
#[derive(Debug)]
struct Memory {
    caller: Caller,
    /// Index of the rule for failures.
    rule: usize,
}

/// Why a request is refused.
enum Refused {
    /// By the switch with this index.
    Switch(usize),
    /// By a limit.
    Limit(limit::reservation::Refusal),
}

impl Ticket {
    /// Whether the request speaks gRPC, whose status comes at the end of the stream.
    pub fn is_grpc(&self) -> bool {
        self.protocol == Protocol::Grpc
    }

    /// Takes note that the response has come to its end. One whose end was not seen was cut off.
    pub fn end_of_response(&mut self) {
        self.end = ResponseEnd::Seen;
    }
}

impl Filter {
    /// Decides about a request when its headers are there.
    pub fn on_request(&self, host: &dyn Host, worker: &Worker) -> (Decision, Ticket) {
        let headers = host.request_headers().unwrap_or_else(|error| {
            worker.trouble.host_error(host, error);
            Headers::default()
        });
        let request = Request::read(&headers);
        let now = host.now();
        let operation = classify(&self.operations, &request);
        let mut ticket = Ticket {
            operation,
            started: now,
            protocol: Protocol::of(&request),
            fate: Fate::Forwarded,
            kind: if request.upgrade { StreamKind::Tunnel } else { StreamKind::Exchange },
            end: ResponseEnd::Open,
            taken: Reservation::default(),
            memory: None,
        };
        let Some(plan) = self.plans.get(operation) else {
            return (Decision::Forward(edits(&request)), ticket);
        };
        self.log_operation(host, worker, operation);

        let asker = Asker { host, worker, request: &request, operation: self.operation_name(operation), now };
        let decision = match self.admit(plan, &asker, &mut ticket) {
            Ok(wait) => {
                ticket.memory = self.remember(plan, &request);
                if wait.time.is_zero() {
                    Decision::Forward(edits(&request))
                } else {
                    worker.waiting.set(worker.waiting.get().saturating_add(1));
                    ticket.fate = Fate::Waiting(wait.limit);
                    Decision::Wait(edits(&request), now.saturating_add(wait.time))
                }
            }
            Err(refused) => Decision::Reply(Box::new(self.refuse(&refused, &asker, &mut ticket))),
        };
        (decision, ticket)
    }

    /// Lets a request go on whose wait is over.
    pub fn resume(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        if let Fate::Waiting(limit) = ticket.fate {
            worker.waiting.set(worker.waiting.get().saturating_sub(1));
            ticket.fate = Fate::Forwarded;
            if let Some(limit) = self.limits.get(limit) {
                limit.observe_wait(host, worker, host.now().saturating_since(ticket.started));
            }
        }
    }

    /// Takes note of a response when its headers are there, and says what becomes of it; the filter's own replies count already
    /// and pass.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> Answer {
        let untouched = Answer::Pass(FieldEdits::default());
        let (Fate::Forwarded, Some(plan)) = (ticket.fate, self.plans.get(ticket.operation)) else {
            return untouched;
        };
        let failed = match judge(host, plan, ticket) {
            Ok(failed) => failed,
            Err(error) => {
                worker.trouble.host_error(host, error);
                return untouched;
            }
        };
        let replacement = failed.and_then(|status| self.replacement(host, worker, plan, ticket, status));
        if let Some(reply) = replacement {
            ticket.fate = Fate::Replaced;
            return Answer::Replace(Box::new(reply));
        }
        Answer::Pass(self.quota_fields(host, worker, ticket))
    }

    /// Takes note of how a gRPC stream ended, when it is logged.
    pub fn on_log(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        if ticket.fate != Fate::Forwarded || !ticket.is_grpc() {
            return;
        }
        match host.grpc_status() {
            Ok(Some(status)) => ticket.fate = Fate::Answered(unless_refused(host, Outcome::of_grpc_status(status))),
            Ok(None) => {}
            Err(error) => worker.trouble.host_error(host, error),
        }
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
        let outcome = match ticket.fate {
            Fate::Forwarded | Fate::Waiting(_) => Outcome::Cancelled,
            Fate::Answered(Outcome::Success) if cut_off(host, worker, &ticket) => Outcome::Failure,
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

    /// Asks everything that may refuse the request, in order. Nothing is taken by those before the limits.
    fn admit(&self, plan: &Plan, asker: &Asker<'_>, ticket: &mut Ticket) -> Result<Wait, Refused> {
        if let Some(switch) = self.switched_off(plan, asker.request) {
            return Err(Refused::Switch(switch));
        }
        ticket.taken.take(&self.limits, &plan.limits, asker).map_err(Refused::Limit)
    }

    /// The index of the first switch that is on and gives up the request. A preflight is not what it asks for.
    fn switched_off(&self, plan: &Plan, request: &Request<'_>) -> Option<usize> {
        let mut switches = plan.switches.iter().filter_map(|index| Some((*index, self.switches.get(*index)?)));
        let (index, _) = switches.find(|(_, switch)| switch.gives_up(request))?;
        if request.is_preflight() { None } else { Some(index) }
    }

    fn refuse(&self, refused: &Refused, asker: &Asker<'_>, ticket: &mut Ticket) -> Reply {
        let (reason, outcome, fallback) = match refused {
            Refused::Switch(index) => {
                let Some(switch) = self.switches.get(*index) else {
                    return Reply::default();
                };
                (switch.reason(), Outcome::Degraded, switch.spec().fallback)
            }
            Refused::Limit(refusal) => {
                let Some(limit) = self.limits.get(refusal.limit) else {
                    return Reply::default();
                };
                (limit.reason(), Outcome::Limited, limit.spec().fallback)
            }
        };
        ticket.fate = Fate::Refused(outcome);
        reason.count(asker.host, asker.worker, Enforcement::Enforced);
        let fallback = self.fallback(fallback);
        self.show(asker.host, asker.worker, reason, fallback);
        let caller = Caller::of(asker.request, fallback);
        match refused {
            Refused::Switch(_) => {
                let refusal = Refusal { reason, kind: Kind::Degraded, retry_after: Some(switch::RETRY_AFTER) };
                refusal.reply(fallback, &caller, asker.operation, &self.monitor)
            }
            Refused::Limit(refusal) => match self.limits.get(refusal.limit) {
                Some(limit) => {
                    let denial = refusal.denial;
                    limit::refusal::reply(limit, denial, fallback, &caller, asker.operation, &self.monitor)
                }
                None => Reply::default(),
            },
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
    ) -> Option<Reply> {
        let memory = ticket.memory.as_deref()?;
        let rule = self.on_failure.get(memory.rule)?;
        if ticket.kind == StreamKind::Tunnel || !rule.replaces(status) {
            return None;
        }
        let fallback = self.fallback(rule.fallback)?;
        self.show(host, worker, &plan.failure, Some(fallback));
        let refusal = Refusal { reason: &plan.failure, kind: Kind::Degraded, retry_after: None };
        Some(refusal.reply(Some(fallback), &memory.caller, self.operation_name(ticket.operation), &self.monitor))
    }

    /// What the response may need to know of the request.
    fn remember(&self, plan: &Plan, request: &Request<'_>) -> Option<Box<Memory>> {
        let (rule, spec) = first_allowing(&plan.on_failure, &self.on_failure, |spec| &spec.selection, request)?;
        Some(Box::new(Memory { caller: Caller::of(request, self.fallback(spec.fallback)), rule }))
    }

    /// Says in metrics and access log that something else was served, and why.
    fn show(&self, host: &dyn Host, worker: &Worker, reason: &Reason, fallback: Option<&Fallback>) {
        if let Some(fallback) = fallback {
            reason.count_fallback(host, worker, &fallback.name);
        }
        if self.monitor.access_log {
            reason.log(host, worker);
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
        if ticket.kind == StreamKind::Tunnel || matches!(ticket.fate, Fate::Refused(_) | Fate::Waiting(_)) {
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
}

fn edits(request: &Request<'_>) -> Edits {
    if !request.has_own_headers {
        return Edits::default();
    }
    Edits { remove: request.own_headers().map(<[u8]>::to_vec).collect() }
}

/// Takes note of the outcome as far as the response's headers tell it. Returns the status of a failure.
fn judge(host: &dyn Host, plan: &Plan, ticket: &mut Ticket) -> Result<Option<u16>, HostError> {
    match (ticket.protocol, plan.outcomes) {
        (Protocol::Http, Outcomes::AsNeeded) => {
            ticket.fate = Fate::Answered(Outcome::Unknown);
            return Ok(None);
        }
        (Protocol::Http, Outcomes::All) => {}
        // The status comes at the end, unless there is nothing else.
        (Protocol::Grpc, _) if ticket.memory.is_none() => return Ok(None),
        (Protocol::Grpc, _) => {
            if let Some(status) = host.response_header("grpc-status")?.as_deref().and_then(number) {
                let outcome = unless_refused(host, Outcome::of_grpc_status(status));
                ticket.fate = Fate::Answered(outcome);
                let http = if status == 4 { 504 } else { 503 };
                return Ok((outcome == Outcome::Failure).then_some(http));
            }
        }
    }
    let Some(status) = host.response_status()? else {
        return Ok(None);
    };
    let outcome = unless_refused(host, Outcome::of_status(status));
    if status == 101 {
        ticket.kind = StreamKind::Tunnel;
    }
    if ticket.protocol == Protocol::Http || outcome != Outcome::Success {
        ticket.fate = Fate::Answered(outcome);
    }
    Ok((outcome == Outcome::Failure).then_some(status))
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A failure that is marked as some filter's refusal says nothing about the service. Where the mark cannot be read there is
/// none.
fn unless_refused(host: &dyn Host, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failure if matches!(host.response_header("x-envoy-ratelimited"), Ok(Some(_))) => Outcome::ClientError,
        outcome => outcome,
    }
}

/// Whether the service broke off a response that it had begun: the client has half of it. Tunnels end as they like, and a
/// client may leave.
fn cut_off(host: &dyn Host, worker: &Worker, ticket: &Ticket) -> bool {
    if ticket.end == ResponseEnd::Seen || ticket.kind == StreamKind::Tunnel || ticket.is_grpc() {
        return false;
    }
    match host.ended() {
        Ok(ended) => ended == Ended::ByUpstream,
        Err(error) => {
            worker.trouble.host_error(host, error);
            false
        }
    }
}
