//! Requests whose answer has no end that anybody could wait for.

use crate::operation::request::{Events, Request};

/// Whether the request opens a long stream: an upgrade, a CONNECT, or server-sent events and nothing else. Such a request is neither
/// retried nor held to a deadline.
///
/// A request that takes other formats besides events is an ordinary one until its response says that it [is](is_events) a stream.
/// Streaming gRPC methods cannot be told from others; they are not to be listed among those that may be repeated.
pub fn is_long(request: &Request<'_>) -> bool {
    request.upgrade || request.events == Events::Only
}

/// Whether a response of this content type is a stream of events.
pub fn is_events(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}
