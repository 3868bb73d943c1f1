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
    /// Whether this takes server-sent events for an answer.
    pub events: Events,
    /// Whether some header has a name that is ours alone; see [`Request::own_headers`].
    pub has_own_headers: bool,
}

/// Whether a request takes server-sent events for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// It does not name them.
    No,
    /// Them or something else, as clients of the Model Context Protocol do: the response tells which.
    AmongOthers,
    /// Nothing else, as the `EventSource` of every browser (WHATWG HTML, section 9.2).
    Only,
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
            events: Events::No,
            has_own_headers: false,
        };
        let mut may_name_events = false;
        for (name, value) in headers.iter() {
            match name {
                b":method" => request.method = value,
                b":path" => (request.path, request.query) = split_query(value),
                b":authority" => request.host = without_port(value),
                b"content-type" => request.grpc |= is_grpc(value),
                b"upgrade" => request.upgrade = true,
                // What browsers send for pages and scripts has no hyphen, and to look for one byte is much the faster.
                b"accept" => may_name_events |= value.contains(&b'-'),
                _ => request.has_own_headers |= name.starts_with(OWN_PREFIX),
            }
        }
        if may_name_events {
            request.events = events(headers);
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

/// What the request's `Accept` says of events (RFC 9110, section 12.5.1): a range with a weight of 0 is one that it does not take.
fn events(headers: &Headers) -> Events {
    let ranges = headers.all("accept").flat_map(|line| unquoted_split(line, b','));
    let taken = ranges.filter(|range| !range.trim_ascii().is_empty() && !has_no_weight(range));
    let kinds = taken.map(|range| range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii());
    let mut events = Events::No;
    let mut others = false;
    for kind in kinds {
        match kind.eq_ignore_ascii_case(b"text/event-stream") {
            true => events = Events::Only,
            false => others = true,
        }
    }
    match events {
        Events::Only if others => Events::AmongOthers,
        events => events,
    }
}

/// Whether the range's parameters have `q=0`, with up to three zeros more.
fn has_no_weight(range: &[u8]) -> bool {
    let parameters = unquoted_split(range, b';').skip(1).map(<[u8]>::trim_ascii);
    let weights = parameters.filter_map(|it| it.strip_prefix(b"q=").or_else(|| it.strip_prefix(b"Q=")));
    let is_zero = |weight: &[u8]| match weight {
        b"0" => true,
        [b'0', b'.', zeros @ ..] => zeros.iter().all(|digit| *digit == b'0'),
        _ => false,
    };
    weights.into_iter().any(is_zero)
}

/// The parts between separators that do not stand between quotes.
fn unquoted_split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    bytes.split(move |byte| {
        let is_quote = *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        quoted ^= is_quote;
        *byte == separator && !quoted
    })
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
