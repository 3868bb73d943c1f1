//! The headers by which Envoy's router is told about one request.
//!
//! The router reads them and takes them away before the request goes on (Envoy, `docs: router filter, HTTP headers`). It believes
//! whoever sets them, so what a client sent of them is removed wherever a retry rule matches: Envoy does so itself only for
//! requests from outside, which those of a mesh are not.

use std::borrow::Cow;
use std::time::Duration;

use crate::operation::request::Request;

/// A header that is set: name and value.
pub type Field<'a> = (&'static str, Cow<'a, str>);

/// How many retries. Stands in place of the route's number; 0 switches off the route's own retry policy too.
pub const MAX_RETRIES: &str = "x-envoy-max-retries";
/// What is retried. Added to what the route's own policy retries.
pub const RETRY_ON: &str = "x-envoy-retry-on";
/// What is retried of gRPC, by its status. Added to what the route's own policy retries.
pub const RETRY_GRPC_ON: &str = "x-envoy-retry-grpc-on";
/// Time for all attempts, in milliseconds. Stands in place of the route's timeout; 0 would be none.
pub const TIMEOUT: &str = "x-envoy-upstream-rq-timeout-ms";
/// Time for each attempt, in milliseconds. Ignored unless it is shorter than the time for all.
pub const PER_TRY_TIMEOUT: &str = "x-envoy-upstream-rq-per-try-timeout-ms";
/// `true`: an attempt whose time is over goes on beside the next one, and the first answer wins. Stands in place of what the route
/// says.
pub const HEDGE: &str = "x-envoy-hedge-on-per-try-timeout";

/// In a response: do not try again. What limits and proxies write on their refusals, and the router obeys unless a policy retries
/// `envoy-ratelimited`.
pub const LAST: &str = "x-envoy-ratelimited";

/// What a client must not tell the router. Sorted.
pub const CONTROL: [&str; 10] = [
    HEDGE,
    MAX_RETRIES,
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    RETRY_GRPC_ON,
    RETRY_ON,
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Names of the headers in [`CONTROL`] that the request has, once per occurrence, in one pass.
pub fn sent_by_client<'h>(request: &Request<'h>) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    let names = request.headers.iter().map(|(name, _)| name).filter(|name| name.starts_with(b"x-envoy-"));
    names.filter(|name| CONTROL.binary_search_by(|it| it.as_bytes().cmp(name)).is_ok())
}

/// What a time bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// All attempts together, until the answer is complete.
    #[default]
    Answer,
    /// All attempts together, until the answer begins: it may be a stream. Of that the router has no header, so that the filter
    /// keeps it; the router is told it for each attempt.
    Beginning,
}

/// The header for the time that all attempts have together: never more than what is left, and never none.
///
/// Envoy counts in milliseconds, of which there is at least one in what [is left](crate::retry::deadline::Deadline::left).
pub fn timeout(time: Duration) -> Field<'static> {
    (TIMEOUT, milliseconds(time))
}

/// The header for the time until an attempt is answered: the router does not cut off an answer that has begun for it. The next
/// hop is told it too (`x-envoy-expected-rq-timeout-ms`).
pub fn attempt_timeout(time: Duration) -> Field<'static> {
    (PER_TRY_TIMEOUT, milliseconds(time))
}

/// Rounded down, because a caller does not wait longer; but at least 1, because 0 means for ever.
pub(crate) fn milliseconds(time: Duration) -> Cow<'static, str> {
    Cow::Owned(time.as_millis().max(1).to_string())
}
