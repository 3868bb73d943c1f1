//! What a request is told that a limit refused.
//!
//! The default is 429 with an RFC 9457 problem of the quota-exceeded type, `Retry-After` (RFC 9110, section 10.2.3), and
//! the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-10. `x-envoy-ratelimited` and
//! `grpc-retry-pushback-ms: -1` (gRFC A6) keep the caller's Envoy and gRPC library from trying again at once.

use crate::limit::quota::{self, Standing};
use crate::limit::rule::Limit;
use crate::monitor::settings::Monitor;
use crate::reply::fallback::{Caller, Fallback};
use crate::reply::{Protocol, RESOURCE_EXHAUSTED, Reply};
use crate::shared::meter::Denial;

/// The reply to a request of the operation that `limit` refused: by `denial`, or, without one, because its state could not
/// be used.
pub fn reply(
    limit: &Limit,
    denial: Option<Denial>,
    fallback: Option<&Fallback>,
    caller: &Caller,
    operation: &str,
    monitor: &Monitor,
) -> Reply {
    let reason = limit.reason();
    let mut reply = match fallback {
        Some(fallback) => fallback.reply(caller, reason.as_str(), operation, RESOURCE_EXHAUSTED),
        None => quota_exceeded(limit),
    };
    reason.details().clone_into(&mut reply.details);
    reply.discourage_retries(caller.protocol, denial.and_then(|denial| denial.retry_after));
    let remaining = denial.map(|denial| denial.remaining);
    let standing = Standing { limit, remaining, reset: denial.and_then(|denial| denial.retry_after) };
    for (name, value) in quota::fields(monitor.ratelimit_headers, &[standing]) {
        reply.add_missing_header(name, value);
    }
    if monitor.reason_header {
        reason.show(&mut reply);
    }
    match caller.protocol {
        Protocol::Http => {}
        Protocol::Grpc => reply.speak_grpc(format!("refused by {}", reason.as_str())),
    }
    reply
}

fn quota_exceeded(limit: &Limit) -> Reply {
    // Names are made of characters that JSON strings take as they are.
    let document = format!(
        concat!(
            r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#,
            r#""title":"Request cannot be satisfied as assigned quota has been exceeded","#,
            r#""status":429,"violated-policies":["{}"]}}"#
        ),
        limit.spec().name
    );
    Reply::problem(429, RESOURCE_EXHAUSTED, document)
}
