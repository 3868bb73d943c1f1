//! What a response says about the service.

use super::ticket::{Interest, ResponseEnd, Service, StreamKind, Ticket};
use crate::config::Outcomes;
use crate::filter::Plan;
use crate::host::{Ended, Host, HostError};
use crate::reply::{DEADLINE_EXCEEDED, Protocol};
use crate::retry::attempts::Ending;
use crate::retry::router;
use crate::worker::Worker;

impl Service {
    const fn by_status(status: u16) -> Self {
        match status {
            ..=399 => Self::Succeeded,
            400..=499 => Self::Declined,
            500.. => Self::Failed,
        }
    }

    /// `DEADLINE_EXCEEDED` (4) and `UNAVAILABLE` (14) are what a failing dependency looks like; other codes are answers.
    const fn by_grpc_status(status: u32) -> Self {
        match status {
            0 => Self::Succeeded,
            4 | 14 => Self::Failed,
            _ => Self::Declined,
        }
    }
}

/// Takes note of the outcome as far as the response's headers tell it. Returns the status of a failure.
pub(super) fn judge(host: &dyn Host, plan: &Plan, ticket: &mut Ticket) -> Result<Option<u16>, HostError> {
    if plan.outcomes == Outcomes::AsNeeded && ticket.interest == Interest::Nothing {
        ticket.service = Service::Unjudged;
        return Ok(None);
    }
    match ticket.protocol {
        Protocol::Http => {}
        // The status comes at the end, unless there is nothing else.
        Protocol::Grpc if !plan.is_guarded() => return Ok(None),
        Protocol::Grpc => {
            if let Some(status) = host.response_header("grpc-status")?.as_deref().and_then(number) {
                ticket.service = said(host, ticket, Service::by_grpc_status(status));
                // The statuses that stand for `UNAVAILABLE` and `DEADLINE_EXCEEDED`.
                let http = if status == DEADLINE_EXCEEDED { 504 } else { 503 };
                return Ok((ticket.service == Service::Failed).then_some(http));
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
        ticket.service = said(host, ticket, Service::by_status(status));
    }
    Ok((ticket.service == Service::Failed).then_some(status))
}

/// Takes note of how a gRPC stream ended, if that is not known yet.
pub(super) fn grpc_outcome(host: &dyn Host, worker: &Worker, ticket: &mut Ticket) {
    if !ticket.is_open() || !ticket.is_grpc() {
        return;
    }
    match host.grpc_status() {
        Ok(Some(status)) => ticket.service = said(host, ticket, Service::by_grpc_status(status)),
        Ok(None) => {}
        Err(error) => worker.trouble.host_error(host, error),
    }
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A failure that is marked as some filter's refusal says nothing about the service, unless the mark is ours: then it only
/// kept the router from trying again. Where the mark cannot be read there is none.
fn said(host: &dyn Host, ticket: &Ticket, service: Service) -> Service {
    let is_marked = || matches!(host.response_header(router::LAST), Ok(Some(_)));
    match service {
        Service::Failed if ticket.ending() != Ending::Marked && is_marked() => Service::NotAsked,
        service => service,
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
