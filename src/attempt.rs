//! The path of one attempt: the filter as one of Envoy's upstream filters (`"placement": "upstream"`).
//!
//! Envoy makes a stream of every attempt of a request. Of each, [`on_request`] says whether it is paid for, and [`on_response`]
//! whether another one would be. By which rule, the instance downstream has written into the worker's
//! [register](crate::retry::register); attempts of requests that it did not enter pass untouched. See
//! [`retry::attempts`](crate::retry::attempts) for what is done when, and why.

use std::borrow::Cow;
use std::rc::Rc;

use crate::cx::Cx;
use crate::grpc::UNAVAILABLE;
use crate::host::{Host, HostError};
use crate::reply::{Protocol, Reply};
use crate::retry::attempts::Attempts;
use crate::retry::register::Placement;
use crate::retry::router;
use crate::worker::Worker;

/// The response-code details of a request that ends because nobody pays for another attempt.
pub const UNPAID: &str = "outrigger_no_budget";

/// An attempt under way: the request that it belongs to, if that is entered.
#[derive(Debug)]
pub struct Attempt {
    request: Option<Rc<Attempts>>,
}

/// What is to happen to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// It goes to the service.
    Forward,
    /// The request is answered with this, and not retried.
    Reply(Box<Reply>),
}

/// What is to happen to the answer of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Answer {
    /// It goes to the router as it is.
    Pass,
    /// It is marked ([`router::LAST`]), so that the router passes it on in any case.
    Mark,
}

/// An attempt begins.
pub fn on_request(host: &dyn Host, worker: &Worker) -> (Decision, Attempt) {
    let cx = &worker.cx(host);
    let number = cx.host.request_number().unwrap_or_else(|error| {
        cx.host_error(error);
        None
    });
    // With a number it is one of before a trap, whose instance comes back with its next request.
    if number.is_none() && !worker.retry.register.has(Placement::Downstream) {
        cx.alone_upstream();
    }
    let request = number.and_then(|number| worker.retry.register.find(number));
    let decision = match request.as_ref().map(|it| it.begin(cx)) {
        None | Some(Ok(())) => Decision::Forward,
        Some(Err(_)) => Decision::Reply(Box::new(without_answer())),
    };
    (decision, Attempt { request })
}

/// The headers of its answer are there.
pub fn on_response(host: &dyn Host, worker: &Worker, attempt: &Attempt) -> Answer {
    let cx = &worker.cx(host);
    let Some(request) = attempt.request.as_deref().filter(|it| it.want_the_result()) else {
        return Answer::Pass;
    };
    match would_be_retried(cx, request) {
        Ok(true) if request.failed(cx).is_err() => Answer::Mark,
        Ok(_) => Answer::Pass,
        // A retry that nobody paid for by then has to be when it begins.
        Err(error) => {
            cx.host_error(error);
            Answer::Pass
        }
    }
}

/// Whether the router would make another attempt because of the answer, as far as the rule knows. What else the route's own
/// policy retries is asked for when it begins.
fn would_be_retried(cx: &Cx<'_>, request: &Attempts) -> Result<bool, HostError> {
    let conditions = &request.rule().spec().policy.retry_on;
    let by_status = cx.host.response_status()?.is_some_and(|status| conditions.cover(status));
    if !by_status && !fails_by_grpc(cx, request)? {
        return Ok(false);
    }
    // Somebody else's mark is not ours to take off.
    Ok(cx.host.response_header(router::LAST)?.is_none())
}

fn fails_by_grpc(cx: &Cx<'_>, request: &Attempts) -> Result<bool, HostError> {
    if !request.may_fail_by_grpc() {
        return Ok(false);
    }
    let conditions = &request.rule().spec().policy.retry_on;
    Ok(cx.host.response_header("grpc-status")?.is_some_and(|status| conditions.cover_grpc(&status)))
}

/// What a request is answered with whose last attempt had no answer, as Envoy would without a retry policy. It is the service's
/// failure and no refusal, so it bears no mark that says so.
fn without_answer() -> Reply {
    Reply {
        protocol: Protocol::Http,
        status: 503,
        grpc_status: UNAVAILABLE,
        details: UNPAID.to_owned(),
        headers: vec![(Cow::Borrowed("content-type"), "text/plain".to_owned())],
        body: b"no retry budget for another attempt".to_vec(),
    }
}
