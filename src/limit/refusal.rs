//! What a request is told that a limit refused.
//!
//! The default is 429 with an RFC 9457 problem of the quota-exceeded type, `Retry-After` (RFC 9110, section 10.2.3), and
//! the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-10. `x-envoy-ratelimited` and
//! `grpc-retry-pushback-ms: -1` (gRFC A6) keep the caller's Envoy and gRPC library from trying again at once.

use std::borrow::Cow;

use crate::config::Monitor;
use crate::degrade::fallback::Fallback;
use crate::limit::quota::{self, Standing, whole_seconds};
use crate::limit::rule::Limit;
use crate::reply::Reply;
use crate::shared::meter::Denial;

/// gRPC `RESOURCE_EXHAUSTED`.
const RESOURCE_EXHAUSTED: u32 = 8;
/// gRPC `UNAVAILABLE`: what a gRPC client gets in place of a page that says success.
const UNAVAILABLE: u32 = 14;

/// Which protocol the request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// gRPC over HTTP.
    Grpc,
}

/// The reply to a request that `limit` refused: by `denial`, or, without one, because its state could not be used.
pub fn reply(
    limit: &Limit,
    denial: Option<Denial>,
    fallback: Option<&Fallback>,
    protocol: Protocol,
    monitor: &Monitor,
) -> Reply {
    let mut reply = match fallback {
        Some(fallback) => from_fallback(fallback),
        None => quota_exceeded(limit),
    };
    reply.details = format!("outrigger_limit_{}", limit.spec().name);
    // A reply that says success is taken for the real one, but for gRPC it never does.
    if 300 <= reply.status || protocol == Protocol::Grpc {
        add_retry_marks(&mut reply, denial);
    }
    let remaining = denial.map(|denial| denial.remaining);
    let standing = Standing { limit, remaining, reset: denial.and_then(|denial| denial.retry_after) };
    for (name, value) in quota::fields(monitor.ratelimit_headers, &[standing]) {
        reply.add_missing_header(name, value);
    }
    if monitor.reason_header {
        reply.headers.push((Cow::Borrowed("x-outrigger-reason"), limit.reason().to_owned()));
    }
    match protocol {
        Protocol::Http => {}
        Protocol::Grpc => speak_grpc(&mut reply, limit),
    }
    reply
}

fn from_fallback(fallback: &Fallback) -> Reply {
    let by_default = if fallback.is_success() { UNAVAILABLE } else { RESOURCE_EXHAUSTED };
    let own = fallback.headers.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone()));
    let mut reply = Reply {
        status: fallback.status,
        grpc_status: fallback.grpc_status.unwrap_or(by_default),
        details: String::new(),
        headers: own.collect(),
        body: fallback.body.clone().into_bytes(),
    };
    if let Some(wait) = fallback.retry_after {
        reply.add_missing_header("retry-after", whole_seconds(wait).to_string());
    }
    reply
}

fn quota_exceeded(limit: &Limit) -> Reply {
    // Names are made of characters that JSON strings take as they are.
    let body = format!(
        concat!(
            r#"{{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","#,
            r#""title":"Request cannot be satisfied as assigned quota has been exceeded","#,
            r#""status":429,"violated-policies":["{}"]}}"#
        ),
        limit.spec().name
    );
    Reply {
        status: 429,
        grpc_status: RESOURCE_EXHAUSTED,
        details: String::new(),
        headers: vec![(Cow::Borrowed("content-type"), "application/problem+json".to_owned())],
        body: body.into_bytes(),
    }
}

fn add_retry_marks(reply: &mut Reply, denial: Option<Denial>) {
    if let Some(wait) = denial.and_then(|denial| denial.retry_after) {
        reply.add_missing_header("retry-after", whole_seconds(wait).to_string());
    }
    reply.add_missing_header("x-envoy-ratelimited", "true".to_owned());
}

/// The proxy sets the content type, and the body becomes the message: a sentence, not a document.
fn speak_grpc(reply: &mut Reply, limit: &Limit) {
    reply.headers.retain(|(name, _)| name != "content-type");
    reply.add_missing_header("grpc-retry-pushback-ms", "-1".to_owned());
    reply.body = format!("refused by {}", limit.reason()).into_bytes();
}
