//! Requests whose answer has no end that anybody could wait for.

use crate::operation::request::Request;

/// Whether the request opens a long stream: an upgrade, a CONNECT, or server-sent events. Such a request is neither retried
/// nor held to a deadline.
///
/// Server-sent events are known by `accept: text/event-stream`, which the `EventSource` of every browser sends (WHATWG HTML,
/// §9.2). A request that takes other formats besides counts too: what it will get is the service's choice.
/// Streaming gRPC methods cannot be told from others; they are not to be listed among those that may be repeated.
pub const fn is_long(request: &Request<'_>) -> bool {
    request.upgrade || request.event_stream
}
