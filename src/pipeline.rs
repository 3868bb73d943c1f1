//! The one request path.
//!
//! ```text
//! request:   classify ▸ limits ▸ (wait) ▸ forward
//! response:  outcome
//! end:       the ticket is settled ▸ metrics
//! ```
//!
//! [`Filter::on_request`] decides and hands out a [`Ticket`], which the adapter keeps with the stream and gives back to
//! [`Filter::on_done`] when the stream ends, however it ends. A request that must wait is resumed by
//! [`Filter::resume`]. What a request took before it was refused is given back at once: a refused request leaves no trace
//! in the state of the limits that admitted it.

use std::time::Duration;

use smallvec::SmallVec;

use crate::filter::{Filter, Plan};
use crate::headers::Headers;
use crate::host::{Host, HostError, LogField};
use crate::limit::policy::Policy;
use crate::limit::quota::{self, FieldEdits, Standing};
use crate::limit::refusal::{self, Protocol};
use crate::limit::rule::{Asker, Debit, Limit, Verdict};
use crate::monitor::metrics;
use crate::monitor::outcome::Outcome;
use crate::operation::classify;
use crate::operation::request::Request;
use crate::reply::Reply;
use crate::retry::deadline;
use crate::shared::meter::Denial;
use crate::time::Timestamp;
use crate::worker::Worker;

/// How many requests one worker holds in queues at most, whatever the limits say: each keeps buffers of the proxy busy.
pub const MAX_WAITING: usize = 1024;

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
    long: bool,
    /// Index of the limit, and what was taken of it.
    debits: SmallVec<[(usize, Debit); 4]>,
    /// Index of the limit, and what it has left; only if admitted clients are told.
    standings: SmallVec<[(usize, u64); 4]>,
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
    /// Answered by the filter.
    Refused(Outcome),
}

impl Ticket {
    /// Whether the request speaks gRPC, whose status comes at the end of the stream.
    pub fn is_grpc(&self) -> bool {
        self.protocol == Protocol::Grpc
    }
}

/// The longest wait that a limit asked for, and which one.
#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    time: Duration,
    limit: usize,
}

/// A refusal by the limit with this index.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    limit: usize,
    denial: Option<Denial>,
    /// How long the same request would be refused, as far as anybody can tell.
    lasts: Duration,
}

impl Refusal {
    fn new(index: usize, limit: &Limit, denial: Option<Denial>) -> Self {
        let lasts = match (denial, limit.spec().policy) {
            (None, _) => Duration::ZERO,
            // Nobody knows, unless the request costs more than may ever be in flight.
            (Some(denial), Policy::Concurrency(_)) if denial.remaining < limit.spec().policy.max_cost() => {
                Duration::ZERO
            }
            (Some(denial), _) => denial.retry_after.unwrap_or(Duration::MAX),
        };
        Self { limit: index, denial, lasts }
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
            protocol: if request.grpc { Protocol::Grpc } else { Protocol::Http },
            fate: Fate::Forwarded,
            long: request.upgrade,
            debits: SmallVec::new(),
            standings: SmallVec::new(),
        };
        self.log_operation(host, worker, operation);

        let asker = Asker { host, worker, request: &request, operation: self.operation_name(operation), now };
        let decision = match self.ask_limits(&asker, &mut ticket) {
            Ok(wait) if wait.time.is_zero() => Decision::Forward(edits(&request)),
            Ok(wait) => {
                worker.waiting.set(worker.waiting.get().saturating_add(1));
                ticket.fate = Fate::Waiting(wait.limit);
                Decision::Wait(edits(&request), now.saturating_add(wait.time))
            }
            Err(refusal) => {
                ticket.fate = Fate::Refused(Outcome::Limited);
                Decision::Reply(Box::new(self.refuse(host, worker, &refusal, ticket.protocol)))
            }
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

    /// Takes note of a response when its headers are there, and says what it gets; the filter's own replies count already and
    /// get nothing.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> FieldEdits {
        if ticket.fate != Fate::Forwarded {
            return FieldEdits::default();
        }
        if !ticket.is_grpc() {
            match response_outcome(host) {
                Ok(Some((outcome, switched))) => {
                    ticket.fate = Fate::Answered(outcome);
                    ticket.long |= switched;
                }
                Ok(None) => {}
                Err(error) => worker.trouble.host_error(host, error),
            }
        }
        self.quota_fields(host, worker, ticket)
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
    pub fn on_done(&self, host: &dyn Host, worker: &Worker, ticket: Ticket) {
        let Some(plan) = self.plans.get(ticket.operation) else {
            return;
        };
        let now = host.now();
        if let Fate::Waiting(_) = ticket.fate {
            worker.waiting.set(worker.waiting.get().saturating_sub(1));
        }
        for (limit, debit) in &ticket.debits {
            match (self.limits.get(*limit), ticket.fate) {
                (None, _) => {}
                (Some(limit), Fate::Waiting(_)) => limit.give_back(host, worker, *debit, now),
                (Some(limit), _) => limit.release(host, worker, *debit, now),
            }
        }
        let outcome = match ticket.fate {
            Fate::Forwarded | Fate::Waiting(_) => Outcome::Cancelled,
            Fate::Answered(outcome) | Fate::Refused(outcome) => outcome,
        };
        if let Err(error) = self.count_request(host, worker, plan, &ticket, outcome, now) {
            worker.trouble.host_error(host, error);
        }
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

    /// All or nothing: a limit that refuses ends it, and those before it get back what they gave.
    fn ask_limits(&self, asker: &Asker<'_>, ticket: &mut Ticket) -> Result<Wait, Refusal> {
        let mut wait = Wait::default();
        let Some(plan) = self.plans.get(ticket.operation) else {
            return Ok(wait);
        };
        let mut applicable = self.applicable(plan, asker);
        while let Some((index, limit)) = applicable.next() {
            if !limit.spec().enforced {
                // Those that only count come last, and count what is not refused.
                self.check_wait(asker, ticket, wait)?;
            }
            let denial = match limit.take(asker) {
                Verdict::Pass => continue,
                Verdict::Admitted(debit, admission) => {
                    ticket.debits.push((index, debit));
                    if limit.spec().enforced && wait.time < admission.wait {
                        wait = Wait { time: admission.wait, limit: index };
                    }
                    if let (true, Some(left)) = (self.tells_admitted(limit), admission.remaining) {
                        ticket.standings.push((index, left));
                    }
                    continue;
                }
                Verdict::Refused(denial) => Some(denial),
                Verdict::Unusable => None,
            };
            if limit.spec().enforced {
                self.give_back(asker, ticket);
                return Err(longest_lasting(Refusal::new(index, limit, denial), applicable, asker));
            }
            limit.count_refusal(asker.host, asker.worker);
        }
        drop(applicable);
        self.check_wait(asker, ticket, wait)
    }

    /// A queue is no use to a request whose caller will have gone before it is let on, and no worker holds more than
    /// [`MAX_WAITING`] requests.
    fn check_wait(&self, asker: &Asker<'_>, ticket: &mut Ticket, wait: Wait) -> Result<Wait, Refusal> {
        if wait.time.is_zero() {
            return Ok(wait);
        }
        let in_time = deadline::known(asker.request).is_none_or(|left| wait.time < left);
        if in_time && asker.worker.waiting.get() < MAX_WAITING {
            return Ok(wait);
        }
        self.give_back(asker, ticket);
        let denial = Denial { remaining: 0, retry_after: Some(wait.time) };
        Err(Refusal { limit: wait.limit, denial: Some(denial), lasts: wait.time })
    }

    /// Shadow limits are nobody's business but the operator's.
    fn tells_admitted(&self, limit: &Limit) -> bool {
        self.monitor.ratelimit_headers_on_success && limit.spec().enforced
    }

    /// What an admitted client is told about its quotas. What the service itself says stays.
    fn quota_fields(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) -> FieldEdits {
        if ticket.standings.is_empty() {
            return FieldEdits::default();
        }
        ticket.standings.sort_by_key(|(_, left)| *left);
        let standing = |(index, left): &(usize, u64)| {
            Some(Standing { limit: self.limits.get(*index)?, remaining: Some(*left), reset: None })
        };
        let standings: SmallVec<[Standing<'_>; 4]> = ticket.standings.iter().filter_map(standing).collect();
        let theirs = |name: &str| {
            let value = host.response_header(name).unwrap_or_else(|error| {
                worker.trouble.host_error(host, error);
                None
            });
            value.map(|value| String::from_utf8_lossy(&value).into_owned())
        };
        quota::with_upstream(
            self.monitor.ratelimit_headers,
            quota::fields(self.monitor.ratelimit_headers, &standings),
            theirs,
        )
    }

    fn applicable<'a>(
        &'a self,
        plan: &'a Plan,
        asker: &Asker<'a>,
    ) -> impl Iterator<Item = (usize, &'a Limit)> + use<'a> {
        let request = asker.request;
        let limits = plan.limits.iter().filter_map(|index| Some((*index, self.limits.get(*index)?)));
        limits.filter(move |(_, limit)| limit.applies_to(request))
    }

    fn give_back(&self, asker: &Asker<'_>, ticket: &mut Ticket) {
        for (index, debit) in std::mem::take(&mut ticket.debits) {
            if let Some(limit) = self.limits.get(index) {
                limit.give_back(asker.host, asker.worker, debit, asker.now);
            }
        }
    }

    fn refuse(&self, host: &dyn Host, worker: &Worker, refusal: &Refusal, protocol: Protocol) -> Reply {
        let Some(limit) = self.limits.get(refusal.limit) else {
            return Reply::default();
        };
        limit.count_refusal(host, worker);
        let fallback = limit.spec().fallback.and_then(|index| self.fallbacks.get(index));
        if let Some(fallback) = fallback {
            limit.count_fallback(host, worker, &fallback.name);
        }
        if self.monitor.access_log {
            report(host.set_log_field(LogField::Reason, limit.reason()), host, worker);
        }
        refusal::reply(limit, refusal.denial, fallback, protocol, &self.monitor)
    }

    fn log_operation(&self, host: &dyn Host, worker: &Worker, operation: usize) {
        if !self.monitor.access_log {
            return;
        }
        if let Some(operation) = self.operations.get(operation) {
            report(host.set_log_field(LogField::Operation, &operation.name), host, worker);
            report(host.set_log_field(LogField::Tier, operation.tier.as_str()), host, worker);
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
        if ticket.long || matches!(ticket.fate, Fate::Refused(_) | Fate::Waiting(_)) {
            return Ok(());
        }
        let duration = u64::try_from(now.saturating_since(ticket.started).as_millis()).unwrap_or(u64::MAX);
        let name = || metrics::request_duration_milliseconds(&operation.name);
        plan.duration.observe(host, &worker.metrics, duration, name)
    }

    fn operation_name(&self, operation: usize) -> &str {
        self.operations.get(operation).map_or("", |operation| &operation.name)
    }
}

/// Of the limits that would refuse the request, the one that will do so longest: what a client is told should hold.
fn longest_lasting<'a>(first: Refusal, others: impl Iterator<Item = (usize, &'a Limit)>, asker: &Asker<'_>) -> Refusal {
    let enforced = others.filter(|(_, limit)| limit.spec().enforced);
    let refusals = enforced.filter_map(|(index, limit)| Some(Refusal::new(index, limit, Some(limit.peek(asker)?))));
    refusals.fold(first, |longest, refusal| if longest.lasts < refusal.lasts { refusal } else { longest })
}

fn edits(request: &Request<'_>) -> Edits {
    if !request.has_own_headers {
        return Edits::default();
    }
    Edits { remove: request.own_headers().map(<[u8]>::to_vec).collect() }
}

/// The outcome that the response's status stands for, and whether the protocol was switched.
fn response_outcome(host: &dyn Host) -> Result<Option<(Outcome, bool)>, HostError> {
    let Some(status) = host.response_status()? else {
        return Ok(None);
    };
    Ok(Some((unless_refused(host, Outcome::of_status(status)), status == 101)))
}

/// A failure that is marked as some filter's refusal says nothing about the service. Where the mark cannot be read there is
/// none.
fn unless_refused(host: &dyn Host, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Failure if matches!(host.response_header("x-envoy-ratelimited"), Ok(Some(_))) => Outcome::ClientError,
        outcome => outcome,
    }
}

fn report(done: Result<(), HostError>, host: &dyn Host, worker: &Worker) {
    if let Err(error) = done {
        worker.trouble.host_error(host, error);
    }
}
