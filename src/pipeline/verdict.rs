//! What a response says about the service.

use super::ticket::{Fate, Interest, ResponseEnd, StreamKind, Ticket};
use crate::config::Outcomes;
use crate::filter::Plan;
use crate::host::{Ended, Host, HostError};
use crate::monitor::outcome::Outcome;
use crate::reply::{DEADLINE_EXCEEDED, Protocol};
use crate::retry::attempts::Ending;
use crate::retry::router;
use crate::worker::Worker;

/// Takes note of the outcome as far as the response's headers tell it. Returns the status of a failure.
pub(super) fn judge(host: &dyn Host, plan: &Plan, ticket: &mut Ticket) -> Result<Option<u16>, HostError> {
    if plan.outcomes == Outcomes::AsNeeded && ticket.interest == Interest::Nothing {
        ticket.fate = Fate::Answered(Outcome::Unknown);
        return Ok(None);
    }
    match ticket.protocol {
        Protocol::Http => {}
        // The status comes at the end, unless there is nothing else.
        Protocol::Grpc if !plan.is_guarded() => return Ok(None),
        Protocol::Grpc => {
            if let Some(status) = host.response_header("grpc-status")?.as_deref().and_then(number) {
                ticket.fate = answered(host, ticket, Outcome::of_grpc_status(status));
                // The statuses that stand for `UNAVAILABLE` and `DEADLINE_EXCEEDED`.
                let http = if status == DEADLINE_EXCEEDED { 504 } else { 503 };
                return Ok(ticket.has_failed().then_some(http));
            }
        }
    }
    let Some(status) = host.response_status()? else {
        return Ok(None);
    };
    if status == 101 {
        ticket.kind = StreamKind::Long;
    }
    if ticket.protocol == Protocol::Http || 400 <= status {
        ticket.fate = answered(host, ticket, Outcome::of_status(status));
    }
    Ok(ticket.has_failed().then_some(status))
}

/// Takes note of how a gRPC stream ended, if that is not known yet.
pub(super) fn grpc_outcome(host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
    if ticket.fate != Fate::Forwarded || !ticket.is_grpc() {
        return;
    }
    match host.grpc_status() {
        Ok(Some(status)) => ticket.fate = answered(host, ticket, Outcome::of_grpc_status(status)),
        Ok(None) => {}
        Err(error) => worker.trouble.host_error(host, error),
    }
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A failure that is marked as some filter's refusal says nothing about the service, unless the mark is ours: then it only
/// kept the router from trying again. Where the mark cannot be read there is none.
pub(super) fn answered(host: &dyn Host, ticket: &Ticket, outcome: Outcome) -> Fate {
    let is_marked = || matches!(host.response_header(router::LAST), Ok(Some(_)));
    match outcome {
        Outcome::Failure if ticket.ending() != Ending::Marked && is_marked() => Fate::RefusedElsewhere,
        outcome => Fate::Answered(outcome),
    }
}

/// Whether the service broke off a response that it had begun: the client has half of it. Tunnels end as they like, and a
/// client may leave.
pub(super) fn cut_off(host: &dyn Host, worker: &Worker, ticket: &Ticket) -> bool {
    if ticket.end == ResponseEnd::Seen || ticket.kind == StreamKind::Long {
        return false;
    }
    ended(host, worker) == Ended::ByUpstream
}

/// How the stream ended; otherwise if nobody knows.
pub(super) fn ended(host: &dyn Host, worker: &Worker) -> Ended {
    host.ended().unwrap_or_else(|error| {
        worker.trouble.host_error(host, error);
        Ended::Otherwise
    })
}
