//! The one request path.
//!
//! ```text
//! request:   classify ▸ limits ▸ forward
//! response:  outcome
//! end:       metrics ▸ the ticket is settled
//! ```
//!
//! [`Filter::on_request`] decides and hands out a [`Ticket`], which the adapter keeps with the stream and gives back to
//! [`Filter::on_done`] when the stream ends, however it ends. What a request took before it was refused is given back at
//! once: a refused request leaves no trace in the state of the limits that admitted it.

use smallvec::SmallVec;

use crate::filter::{Filter, Plan};
use crate::headers::Headers;
use crate::host::{Host, HostError, LogField};
use crate::limit::refusal::{self, Protocol};
use crate::limit::rule::{Asker, Debit, Limit, Verdict};
use crate::limit::token_bucket::Denial;
use crate::monitor::metrics;
use crate::monitor::outcome::Outcome;
use crate::operation::classify;
use crate::operation::request::Request;
use crate::reply::Reply;
use crate::time::Timestamp;
use crate::worker::Worker;

/// What is to happen to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It goes on, with these changes.
    Forward(Edits),
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
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
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

/// A refusal by a limit, and what the limits before it gave.
struct Refusal<'f> {
    limit: &'f Limit,
    denial: Option<Denial>,
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
        };
        self.log_operation(host, worker, operation);

        let asker = Asker { host, worker, request: &request, operation: self.operation_name(operation), now };
        let decision = match self.ask_limits(&asker, operation) {
            Ok(()) => Decision::Forward(edits(&request)),
            Err(refusal) => {
                ticket.fate = Fate::Refused(Outcome::Limited);
                Decision::Reply(Box::new(self.refuse(host, worker, &refusal, ticket.protocol)))
            }
        };
        (decision, ticket)
    }

    /// Takes note of a response when its headers are there; also of the filter's own replies, which count already.
    pub fn on_response(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        if ticket.fate != Fate::Forwarded || ticket.is_grpc() {
            return;
        }
        match response_outcome(host) {
            Ok(Some((outcome, switched))) => {
                ticket.fate = Fate::Answered(outcome);
                ticket.long |= switched;
            }
            Ok(None) => {}
            Err(error) => worker.trouble.host_error(host, error),
        }
    }

    /// Takes note of how a gRPC stream ended, when it is logged.
    pub fn on_log(&self, host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
        if ticket.fate != Fate::Forwarded || !ticket.is_grpc() {
            return;
        }
        match host.grpc_status() {
            Ok(Some(status)) => ticket.fate = Fate::Answered(Outcome::of_grpc_status(status)),
            Ok(None) => {}
            Err(error) => worker.trouble.host_error(host, error),
        }
    }

    /// Settles what the request held. Its stream has ended.
    pub fn on_done(&self, host: &dyn Host, worker: &Worker, ticket: Ticket) {
        let Some(plan) = self.plans.get(ticket.operation) else {
            return;
        };
        let outcome = match ticket.fate {
            Fate::Forwarded => Outcome::Cancelled,
            Fate::Answered(outcome) | Fate::Refused(outcome) => outcome,
        };
        if let Err(error) = self.count_request(host, worker, plan, &ticket, outcome) {
            worker.trouble.host_error(host, error);
        }
    }

    /// All or nothing: the first limit that refuses ends it, and those before it get their tokens back.
    fn ask_limits(&self, asker: &Asker<'_>, operation: usize) -> Result<(), Refusal<'_>> {
        let Some(plan) = self.plans.get(operation) else {
            return Ok(());
        };
        let mut debits: SmallVec<[(&Limit, Debit); 4]> = SmallVec::new();
        for limit in plan.limits.iter().filter_map(|index| self.limits.get(*index)) {
            if !limit.applies_to(asker.request) {
                continue;
            }
            let denial = match limit.take(asker) {
                Verdict::Pass => continue,
                Verdict::Admitted(debit) => {
                    debits.push((limit, debit));
                    continue;
                }
                Verdict::Refused(denial) => Some(denial),
                Verdict::Unusable => None,
            };
            limit.count_refusal(asker.host, asker.worker);
            if limit.spec().enforced {
                for (earlier, debit) in debits {
                    earlier.give_back(asker.host, asker.worker, debit, asker.now);
                }
                return Err(Refusal { limit, denial });
            }
        }
        Ok(())
    }

    fn refuse(&self, host: &dyn Host, worker: &Worker, refusal: &Refusal<'_>, protocol: Protocol) -> Reply {
        let limit = refusal.limit;
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
    ) -> Result<(), HostError> {
        let Some(operation) = self.operations.get(ticket.operation) else {
            return Ok(());
        };
        if let Some(handle) = plan.requests.get(outcome as usize) {
            let name = || metrics::requests_total(&operation.name, operation.tier, outcome);
            handle.count(host, &worker.metrics, name)?;
        }
        if ticket.long || matches!(ticket.fate, Fate::Refused(_)) {
            return Ok(());
        }
        let duration = host.now().saturating_since(ticket.started).as_millis();
        let duration = u64::try_from(duration).unwrap_or(u64::MAX);
        let name = || metrics::request_duration_milliseconds(&operation.name);
        plan.duration.observe(host, &worker.metrics, duration, name)
    }

    fn operation_name(&self, operation: usize) -> &str {
        self.operations.get(operation).map_or("", |operation| &operation.name)
    }
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
    let outcome = match Outcome::of_status(status) {
        Outcome::Failure if host.has_response_header("x-envoy-ratelimited")? => Outcome::ClientError,
        outcome => outcome,
    };
    Ok(Some((outcome, status == 101)))
}

fn report(done: Result<(), HostError>, host: &dyn Host, worker: &Worker) {
    if let Err(error) = done {
        worker.trouble.host_error(host, error);
    }
}
