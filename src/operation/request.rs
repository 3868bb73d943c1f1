//! A request as the policies see it.

use std::borrow::Cow;

use crate::headers::Headers;
use crate::host::End;
use crate::operation::path;

/// The parts of a request that matching and keys look at, borrowed from its headers. All of it is bytes that a client
/// chose.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h> {
    /// All headers.
    pub headers: &'h Headers,
    /// `:method`; empty if there is none.
    pub method: &'h [u8],
    /// `:path` up to the query; empty if there is none, as in CONNECT.
    pub path: &'h [u8],
    /// What its operation makes of path parameters.
    pub path_parameters: path::Parameters,
    /// What follows the first `?` of `:path`, if there is one.
    pub query: Option<&'h [u8]>,
    /// `:authority` without port, and without the dot that ends a name that is complete (RFC 1034, section 3.1); empty if
    /// there is none.
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
            path_parameters: path::Parameters::Cut,
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
                b":authority" => request.host = name_of(value),
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

    /// Whether this is its method, in any case. Envoy lets small letters pass over HTTP/2, and many a service takes them for
    /// capitals. Not for what Envoy itself does by a method, tunnels and answers without a body: it knows capitals only.
    pub fn has_method(&self, method: &str) -> bool {
        self.method.eq_ignore_ascii_case(method.as_bytes())
    }

    /// Whether one of these is its method.
    pub fn has_one_of(&self, methods: &[&str]) -> bool {
        methods.iter().any(|method| self.has_method(method))
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

    /// The path as this treatment of path parameters leaves it.
    pub fn path(&self, parameters: path::Parameters) -> Cow<'h, [u8]> {
        match parameters {
            path::Parameters::Cut => path::without_parameters(self.path),
            path::Parameters::Keep => Cow::Borrowed(self.path),
        }
    }

    /// The value of a cookie: the first of that name in the order sent, without blanks and quotes around it. Not decoded.
    pub fn cookie(&self, name: &str) -> Option<&'h [u8]> {
        for line in self.headers.all("cookie") {
            for (it, value) in line.split(|byte| *byte == b';').map(split_pair) {
                if let Some(value) = value
                    && it.trim_ascii() == name.as_bytes()
                {
                    return Some(without_quotes(value.trim_ascii()));
                }
            }
        }
        None
    }

    /// The value of a query parameter: the first of that name, however the name is encoded. Not decoded; a parameter
    /// without `=` is empty.
    pub fn query_parameter(&self, name: &str) -> Option<&'h [u8]> {
        let mut pairs = self.query?.split(|byte| *byte == b'&').map(split_pair);
        let is_it = |name_sent| match Encoded::Form(name_sent).plain() {
            Some(plain) => plain == name.as_bytes(),
            None => Encoded::Form(name_sent).bytes().eq(name.bytes()),
        };
        let (_, value) = pairs.find(|(name_sent, _)| is_it(name_sent))?;
        Some(value.unwrap_or_default())
    }
}

/// A value that services decode before they compare it, and so do keys.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'v> {
    /// Percent-encoded (RFC 3986, section 2.1).
    Percent(&'v [u8]),
    /// The same, and a blank may be written as `+` (`application/x-www-form-urlencoded`).
    Form(&'v [u8]),
}

impl<'v> Encoded<'v> {
    /// The value itself if nothing in it is encoded, which is the rule.
    pub fn plain(self) -> Option<&'v [u8]> {
        match self {
            Self::Percent(value) => (!value.contains(&b'%')).then_some(value),
            Self::Form(value) => (!value.contains(&b'%') && !value.contains(&b'+')).then_some(value),
        }
    }

    /// The bytes that are meant. What is no encoding stands for itself.
    pub fn bytes(self) -> impl Iterator<Item = u8> + use<'v> {
        let (mut rest, blank) = match self {
            Self::Percent(value) => (value, b'+'),
            Self::Form(value) => (value, b' '),
        };
        std::iter::from_fn(move || {
            let (byte, left) = match rest {
                [b'%', high, low, left @ ..] => match hexadecimal(*high).zip(hexadecimal(*low)) {
                    Some((high, low)) => (high << 4 | low, left),
                    None => (b'%', rest.get(1..)?),
                },
                [b'+', left @ ..] => (blank, left),
                [byte, left @ ..] => (*byte, left),
                [] => return None,
            };
            rest = left;
            Some(byte)
        })
    }
}

fn hexadecimal(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn without_quotes(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Name and value of `name=value`; a pair without `=` has no value.
fn split_pair(pair: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut halves = pair.splitn(2, |byte| *byte == b'=');
    (halves.next().unwrap_or_default(), halves.next())
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

/// The host that an authority names, without the dot that ends a name that is complete.
pub(crate) fn name_of(authority: &[u8]) -> &[u8] {
    let host = without_port(authority);
    host.strip_suffix(b".").unwrap_or(host)
}

/// Drops a port, but not the end of an IPv6 address in brackets.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
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
