//! A reply in place of a response that is on its way.
//!
//! The proxy can drop a response and send a reply of ours, at once and whole, but past all filters that stand before this one: CORS,
//! gRPC-Web, compression and other modules never see it. Or the response itself is changed: its headers are exchanged, and
//! its body as it comes. Those filters see that, but the reply ends only when the response does, and a service that fails
//! may leave that open. So a response is changed where it ends with its headers, and where the client could not use the
//! reply otherwise: a page of another origin without what a CORS filter adds, a client of gRPC-Web untranslated. It asks for
//! one read of the response's headers more.

use std::borrow::Cow;

use crate::headers::Headers;
use crate::host::End;
use crate::operation::request::Request;
use crate::reply::{Protocol, Reply};

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

/// What a response becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The reply, for where the response cannot be changed after all.
    pub reply: Reply,
    /// All headers, pseudo-headers included.
    pub headers: Headers,
}

/// What the client wants of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// As of most requests.
    Body,
    /// The same, for a page of another origin, which has to be allowed to read it.
    PageBody,
    /// As of a `HEAD`.
    HeadersOnly,
    /// Its status at least: a call of gRPC-Web that a filter in front has translated to gRPC. Such clients take the status from headers,
    /// whatever follows them.
    Status,
}

impl Wants {
    /// What the request wants. `X-Grpc-Web` is what clients of gRPC-Web say, and stays when they are translated.
    pub fn of(request: &Request<'_>) -> Self {
        if request.method == b"HEAD" {
            return Self::HeadersOnly;
        }
        if request.grpc && request.headers.get("x-grpc-web").is_some() {
            return Self::Status;
        }
        match request.headers.get("origin") {
            Some(_) => Self::PageBody,
            None => Self::Body,
        }
    }
}

impl Placed {
    /// Whether a response whose headers end it, or do not, is to become the reply.
    ///
    /// A response that ends with its headers cannot be given a body. A gRPC client takes the status only from headers that end
    /// the response, and what follows cannot be taken away, only emptied.
    pub fn is_called_for(reply: &Reply, wants: Wants, end: End) -> bool {
        match (reply.protocol, end) {
            (Protocol::Grpc, End::Here) => true,
            (Protocol::Http, End::Here) => reply.body.is_empty() || wants == Wants::HeadersOnly,
            // What says itself who may read it needs no filter in front.
            (Protocol::Http, End::Later) => wants == Wants::PageBody && !reply.has_header(ALLOW_ORIGIN),
            (Protocol::Grpc, End::Later) => wants == Wants::Status,
        }
    }

    /// What the response with these headers becomes.
    ///
    /// Of the response's headers stay those that are about the exchange and not about the failure. The length is told where the
    /// response told one: without it there may be no body, but trailers, and no body of ours either.
    pub fn new(reply: Reply, response: &Headers, wants: Wants) -> Self {
        let mut headers = vec![(Cow::Borrowed(":status"), Cow::Owned(reply.http_status().to_string()))];
        headers.extend(reply.all_headers());
        let tells_length = response.get("content-length").is_some() || wants == Wants::HeadersOnly;
        if reply.protocol == Protocol::Http && tells_length && !matches!(reply.status, 204 | 205 | 304) {
            headers.push((Cow::Borrowed("content-length"), Cow::Owned(reply.body.len().to_string())));
        }
        let own = headers.len();
        for (name, value) in response.iter().filter(|(name, _)| stays(name)) {
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
                continue;
            };
            if !headers.iter().take(own).any(|(it, _)| it == name) {
                headers.push((Cow::Borrowed(name), Cow::Borrowed(value)));
            }
        }
        let pairs: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
        let headers = Headers::from_pairs(&pairs);
        Self { headers, reply }
    }

    /// The body of the reply, if it has one that is sent.
    pub fn into_body(self) -> Vec<u8> {
        match self.reply.protocol {
            Protocol::Http => self.reply.body,
            Protocol::Grpc => Vec::new(),
        }
    }
}

/// Whether the header of a failed response says something that holds for whatever takes its place: whose pages may read what the
/// service says, what the exchange is called, who had a hand in it.
fn stays(name: &[u8]) -> bool {
    name.starts_with(b"access-control-") || matches!(name, b"vary" | b"x-request-id" | b"date" | b"server" | b"via")
}
