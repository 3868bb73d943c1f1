//! What a response says about the service.
//!
//! Who is to blame is told from three things: who answered ([`Origin`]), whether the request was complete by then, and whether its
//! caller gave it the time that nearly all successes need. Who answered costs a call that returns bytes, so it is asked where it
//! may matter: of failures, of probes, and of what comes before the request's end. Of other answers it is enough to know that the
//! request was [sent on](crate::host::Host::sent), which the proxy says without bytes.

use super::ticket::{Client, Due, Interest, ResponseEnd, Retry, Service, StreamKind, Ticket, Upload};
use crate::config::Outcomes;
use crate::cx::Cx;
use crate::filter::Plan;
use crate::host::{Ended, HostError, Origin, Sent};
use crate::monitor::failures;
use crate::monitor::outcome::Outcome;
use crate::reply::Protocol;
use crate::retry::attempts::Ending;
use crate::retry::router;

/// The status by which gateways say that the service took too long.
pub(super) const TOO_LATE: u16 = 504;

/// The status that stands for all successes: nobody tells them apart.
const OK: u16 = 200;

/// Takes note of what the response's headers say. Returns the status of a failure of which something else may take the place.
pub(super) fn judge(cx: &Cx<'_>, plan: &Plan, ticket: &mut Ticket) -> Result<Option<u16>, HostError> {
    if plan.outcomes == Outcomes::AsNeeded && ticket.interest == Interest::Nothing {
        ticket.service = Service::Unjudged;
        ticket.client = Client::Answer(Outcome::Unknown);
        return Ok(None);
    }
    if is_told_at_once(plan, ticket) && cx.host.succeeded_at_once() {
        spare_retries(ticket);
        return Ok(answered(cx, plan, ticket, OK));
    }
    match ticket.protocol {
        Protocol::Http => {}
        // The status comes at the end, unless there is nothing else.
        Protocol::Grpc if !plan.is_guarded() => return Ok(None),
        Protocol::Grpc => {
            if let Some(status) = cx.host.response_header("grpc-status")?.as_deref().and_then(number) {
                return Ok(answered(cx, plan, ticket, failures::http_status(status)));
            }
        }
    }
    let Some(status) = cx.host.response_status()? else {
        return Ok(None);
    };
    if status == 101 {
        ticket.kind = StreamKind::Long;
    }
    if ticket.protocol == Protocol::Http || failures::FIRST <= status {
        return Ok(answered(cx, plan, ticket, status));
    }
    if ticket.is_probe() && origin(cx) != Origin::Service {
        ticket.service = Service::Unconcerned;
    }
    Ok(None)
}

/// Whether one word will do: that it succeeded at its first attempt. Not where a policy waits for the status itself, or what is
/// kept depends on it; and without retries the attempts are of no interest.
fn is_told_at_once(plan: &Plan, ticket: &Ticket) -> bool {
    ticket.protocol == Protocol::Http
        && ticket.kind != StreamKind::Long
        && !plan.is_guarded()
        && ticket.written.is_none()
        && matches!(&ticket.retry, Retry::Paid(_, set_aside) if 0 < set_aside.retries())
}

/// The request was sent on, once.
fn spare_retries(ticket: &mut Ticket) {
    ticket.sent = Some(Sent::On);
    if let Retry::Paid(index, set_aside) = std::mem::replace(&mut ticket.retry, Retry::None) {
        ticket.retry = Retry::Spared(index, set_aside);
    }
}

/// Takes note of how a gRPC stream ended, if that is not known yet.
pub(super) fn grpc_outcome(cx: &Cx<'_>, plan: &Plan, ticket: &mut Ticket) {
    if !ticket.is_open() || !ticket.is_grpc() {
        return;
    }
    match cx.host.grpc_status() {
        Ok(Some(status)) => {
            answered(cx, plan, ticket, failures::http_status(status));
        }
        Ok(None) => {}
        Err(error) => cx.host_error(error),
    }
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Takes note of an answer with this status.
fn answered(cx: &Cx<'_>, plan: &Plan, ticket: &mut Ticket, status: u16) -> Option<u16> {
    ticket.client = Client::Answer(Outcome::of_status(status));
    let fails = plan.failures.contains(status);
    let is_judged = plan.is_guarded() || ticket.interest != Interest::Nothing;
    let is_early = failures::FIRST <= status && ticket.upload == Upload::Underway;
    let origin = if ticket.is_probe() || (is_judged && (is_early || fails)) {
        origin(cx)
    } else if !fails && ticket.is_watched() && !was_sent(cx, ticket) {
        Origin::Elsewhere
    } else {
        Origin::Service
    };
    // Envoy tells a call of gRPC that it waits no longer as it tells a broken connection.
    let status = if origin == Origin::TimedOut { TOO_LATE } else { status };
    // The client did its part, or what failed has nothing to do with that.
    let is_fair = ticket.upload == Upload::Complete || !fails;
    ticket.service = match origin {
        Origin::Elsewhere | Origin::Overflow => Service::Unconcerned,
        Origin::Unreachable => Service::Lost,
        Origin::Service if fails && is_marked(cx, ticket) => {
            ticket.client = Client::Answer(Outcome::ClientError);
            ticket.service = Service::Unconcerned;
            return None;
        }
        Origin::Injected => Service::Answered(status),
        Origin::Service if is_fair => Service::Answered(status),
        Origin::Unanswered | Origin::TimedOut if ticket.upload == Upload::Complete => Service::Lost,
        Origin::Service | Origin::Unanswered | Origin::TimedOut => Service::Unconcerned,
    };
    if ticket.service != Service::Unconcerned && status == TOO_LATE && was_hurried(cx, plan, ticket) {
        ticket.service = Service::Unconcerned;
    }
    (fails && origin != Origin::Elsewhere).then_some(status)
}

/// A failure that is marked as some filter's refusal says nothing about the service, unless the mark is ours: then it only
/// kept the router from trying again. Where the mark cannot be read there is none.
fn is_marked(cx: &Cx<'_>, ticket: &Ticket) -> bool {
    ticket.ending() != Ending::Marked && matches!(cx.host.response_header(router::LAST), Ok(Some(_)))
}

/// Whether the request was sent on; asked once. It was if nobody knows.
pub(super) fn was_sent(cx: &Cx<'_>, ticket: &mut Ticket) -> bool {
    let ask = || {
        cx.host.sent().unwrap_or_else(|error| {
            cx.host_error(error);
            Sent::On
        })
    };
    *ticket.sent.get_or_insert_with(ask) == Sent::On
}

/// Who answered; the service if nobody knows, because a failure is to be replaced all the same.
fn origin(cx: &Cx<'_>) -> Origin {
    cx.host.origin().unwrap_or_else(|error| {
        cx.host_error(error);
        Origin::Service
    })
}

/// Whether the caller itself gave the request less time than nearly all successes need, and no rule gave it even less.
pub(super) fn was_hurried(cx: &Cx<'_>, plan: &Plan, ticket: &Ticket) -> bool {
    match (&ticket.deadline, &plan.usual_time) {
        (Some(Due { deadline, time, .. }), Some(usual_time))
            if deadline.is_callers() && ticket.to_begin.is_none_or(|it| *time < it) =>
        {
            *time < usual_time.borrow_mut().ample(cx.now())
        }
        _ => false,
    }
}

/// Takes note of a response that did not come to its end. If the service broke off, it failed, unless its client had not sent all of
/// the request; if a time was over, a client that reads slowly may be to blame; and a client may leave. Tunnels end as they like.
pub(super) fn unfinished(cx: &Cx<'_>, ticket: &mut Ticket) {
    if ticket.end == ResponseEnd::Seen || ticket.kind == StreamKind::Long {
        return;
    }
    match ended(cx) {
        Ended::ByUpstream if ticket.upload == Upload::Complete => ticket.service = Service::Lost,
        Ended::ByUpstream | Ended::ByTimeout => {
            ticket.service = Service::Unconcerned;
            ticket.client = Client::Part;
        }
        Ended::Unsent | Ended::Otherwise => {}
    }
}

/// How the stream ended; otherwise if nobody knows.
pub(super) fn ended(cx: &Cx<'_>) -> Ended {
    cx.host.ended().unwrap_or_else(|error| {
        cx.host_error(error);
        Ended::Otherwise
    })
}
