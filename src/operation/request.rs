//! A request as the policies see it.

use crate::headers::Headers;
use crate::host::End;

/// The parts of a request that matching and keys look at, borrowed from its headers. All of it is bytes that a client
/// chose; nothing is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h> {
    /// All headers.
    pub headers: &'h Headers,
    /// `:method`; empty if there is none.
    pub method: &'h [u8],
    /// `:path` up to the query; empty if there is none, as in CONNECT.
    pub path: &'h [u8],
    /// What follows the first `?` of `:path`, if there is one.
    pub query: Option<&'h [u8]>,
    /// `:authority` without port; empty if there is none.
    pub host: &'h [u8],
    /// Where the request ends: with its headers, unless somebody knows better.
    pub end: End,
    /// Whether Envoy takes this for gRPC.
    pub grpc: bool,
    /// Whether this is a CONNECT or asks for another protocol, so that what follows is a long stream.
    pub upgrade: bool,
    /// Whether this takes server-sent events for an answer, as the `EventSource` of every browser does (WHATWG HTML, §9.2).
    pub event_stream: bool,
    /// Whether some header has a name that is ours alone; see [`Request::own_headers`].
    pub has_own_headers: bool,
}

/// Names of headers that only this filter may set.
const OWN_PREFIX: &[u8] = b"x-outrigger-";

impl<'h> Request<'h> {
    /// Finds the parts in one pass over the headers.
    pub fn read(headers: &'h Headers) -> Self {
        let mut request = Self {
            headers,
            method: &[],
            path: &[],
            query: None,
            host: &[],
            end: End::Here,
            grpc: false,
            upgrade: false,
            event_stream: false,
            has_own_headers: false,
        };
        for (name, value) in headers.iter() {
            match name {
                b":method" => request.method = value,
                b":path" => (request.path, request.query) = split_query(value),
                b":authority" => request.host = without_port(value),
                b"content-type" => request.grpc |= is_grpc(value),
                b"upgrade" => request.upgrade = true,
                b"accept" => request.event_stream |= takes_events(value),
                _ => request.has_own_headers |= name.starts_with(OWN_PREFIX),
            }
        }
        request.upgrade |= request.method == b"CONNECT";
        request
    }

    /// Whether a browser asks, before the request proper, whether it may send it (Fetch standard, CORS-preflight request).
    pub fn is_preflight(&self) -> bool {
        self.method == b"OPTIONS"
            && self.headers.get("origin").is_some()
            && self.headers.get("access-control-request-method").is_some()
    }

    /// Names of the headers that a client must not send, once per occurrence.
    pub fn own_headers(&self) -> impl Iterator<Item = &'h [u8]> {
        self.headers.iter().map(|(name, _)| name).filter(|name| name.starts_with(OWN_PREFIX))
    }

    /// The value of a cookie: the first of that name in the order sent. Not decoded, quotes kept.
    pub fn cookie(&self, name: &'h str) -> Option<&'h [u8]> {
        let pairs = self.headers.all("cookie").flat_map(|header| header.split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii).find_map(|pair| value_of(pair, name))
    }

    /// The value of a query parameter: the first of that name. Not decoded; a parameter without `=` is empty.
    pub fn query_parameter(&self, name: &str) -> Option<&'h [u8]> {
        self.query?.split(|byte| *byte == b'&').find_map(|pair| match pair == name.as_bytes() {
            true => Some(&[] as &[u8]),
            false => value_of(pair, name),
        })
    }
}

fn value_of<'h>(pair: &'h [u8], name: &str) -> Option<&'h [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn split_query(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = path.splitn(2, |byte| *byte == b'?');
    (halves.next().unwrap_or_default(), halves.next())
}

fn takes_events(accept: &[u8]) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let range = |part: &[u8]| {
        let Some((range, parameters)) = part.trim_ascii_start().split_at_checked(EVENTS.len()) else {
            return false;
        };
        range.eq_ignore_ascii_case(EVENTS) && matches!(parameters.trim_ascii_start(), [] | [b';', ..])
    };
    // What browsers send for pages and scripts has no hyphen, and to look for one byte is much the faster.
    accept.contains(&b'-') && accept.split(|byte| *byte == b',').any(range)
}

/// Drops a port, but not the end of an IPv6 address in brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else {
        return authority;
    };
    match authority.get(colon..) {
        Some([b':', port @ ..]) if port.iter().all(u8::is_ascii_digit) => authority.get(..colon).unwrap_or(authority),
        _ => authority,
    }
}

/// Envoy's test: `application/grpc`, also with a message format (`application/grpc+proto`), but not gRPC-Web.
fn is_grpc(content_type: &[u8]) -> bool {
    matches!(content_type.strip_prefix(b"application/grpc"), Some([] | [b'+', ..]))
}
