//! What a request is told that a limit refused.
//!
//! The default is 429 with an RFC 9457 problem of the quota-exceeded type, `Retry-After` (RFC 9110, section 10.2.3), and
//! the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-10. `x-envoy-ratelimited` and
//! `grpc-retry-pushback-ms: -1` (gRFC A6) keep the caller's Envoy and gRPC library from trying again at once.

use std::borrow::Cow;
use std::time::Duration;

use crate::config::{Monitor, RateLimitHeaders};
use crate::degrade::fallback::Fallback;
use crate::limit::rule::Limit;
use crate::limit::token_bucket::Denial;
use crate::reply::Reply;

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
    if 300 <= reply.status {
        add_retry_marks(&mut reply, denial);
    }
    if monitor.ratelimit_headers == RateLimitHeaders::Ietf {
        add_ratelimit_fields(&mut reply, limit, denial);
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
        body: fallback.body.clone(),
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
        body,
    }
}

fn add_retry_marks(reply: &mut Reply, denial: Option<Denial>) {
    if let Some(wait) = denial.and_then(|denial| denial.retry_after) {
        reply.add_missing_header("retry-after", whole_seconds(wait).to_string());
    }
    reply.add_missing_header("x-envoy-ratelimited", "true".to_owned());
}

/// `RateLimit-Policy` says how much (`q`) in which time (`w`): the bucket and the time in which it fills, left out if that
/// is below the draft's resolution of a second. `RateLimit` says what is left (`r`) and when there is enough (`t`).
fn add_ratelimit_fields(reply: &mut Reply, limit: &Limit, denial: Option<Denial>) {
    let name = &limit.spec().name;
    let bucket = &limit.spec().bucket;
    let quota = bucket.max_tokens();
    // Without what the rounding of the rate adds.
    let fill_time = Duration::from_micros(u64::try_from(bucket.fill_time().as_micros()).unwrap_or(u64::MAX));
    let policy = match whole_seconds(fill_time) {
        _ if fill_time < Duration::from_secs(1) => format!("\"{name}\";q={quota}"),
        window => format!("\"{name}\";q={quota};w={window}"),
    };
    reply.add_missing_header("ratelimit-policy", policy);
    let Some(denial) = denial else {
        return;
    };
    let left = denial.remaining;
    let state = match denial.retry_after {
        Some(wait) => format!("\"{name}\";r={left};t={}", whole_seconds(wait)),
        None => format!("\"{name}\";r={left}"),
    };
    reply.add_missing_header("ratelimit", state);
}

/// The proxy sets the content type, and the body becomes the message: a sentence, not a document.
fn speak_grpc(reply: &mut Reply, limit: &Limit) {
    reply.headers.retain(|(name, _)| name != "content-type");
    reply.add_missing_header("grpc-retry-pushback-ms", "-1".to_owned());
    reply.body = format!("refused by {}", limit.reason());
}

/// Rounded up, so that nobody is told to come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() != 0))
}
