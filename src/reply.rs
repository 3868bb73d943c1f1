//! A reply that the filter gives itself, ready for the proxy to send.
//!
//! * [`refusal`]: what a policy that refuses makes, and how it is told;
//! * [`fallback`]: prepared replies that are served instead of the real ones; [`template`], what is filled in, and [`cors`],
//!   who may read them.
//! * [`placed`]: a reply in place of a response that is on its way.

pub mod cors;
pub mod fallback;
pub mod placed;
pub mod refusal;
pub mod template;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::grpc::DEADLINE_EXCEEDED;
use crate::operation::request::Request;

/// A local reply. One serves HTTP and gRPC: the proxy takes the HTTP part for HTTP requests and the gRPC status, with the
/// body as its message, for gRPC requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What it is said in.
    pub protocol: Protocol,
    /// HTTP status.
    pub status: u16,
    /// gRPC status.
    pub grpc_status: u32,
    /// Response-code details for the access log.
    pub details: String,
    /// Headers besides those that the proxy adds. Names are lower-case.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Body, or gRPC message.
    pub body: Vec<u8>,
}

/// Which protocol the request speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP.
    #[default]
    Http,
    /// gRPC over HTTP.
    Grpc,
}

impl Protocol {
    /// The protocol of the request.
    pub const fn of(request: &Request<'_>) -> Self {
        if request.grpc { Self::Grpc } else { Self::Http }
    }
}

impl Reply {
    /// A problem document (RFC 9457).
    pub fn problem(status: u16, grpc_status: u32, document: String) -> Self {
        Self {
            protocol: Protocol::Http,
            status,
            grpc_status,
            details: String::new(),
            headers: vec![(Cow::Borrowed("content-type"), "application/problem+json".to_owned())],
            body: document.into_bytes(),
        }
    }

    /// What a client is told whose request took too long: as Envoy's router says it.
    pub fn too_late(protocol: Protocol) -> Self {
        let mut reply = Self {
            protocol,
            status: 504,
            grpc_status: DEADLINE_EXCEEDED,
            details: "outrigger_expired".to_owned(),
            headers: vec![(Cow::Borrowed("content-type"), "text/plain".to_owned())],
            body: b"upstream request timeout".to_vec(),
        };
        match protocol {
            Protocol::Http => {}
            Protocol::Grpc => reply.speak_grpc("upstream request timeout".to_owned()),
        }
        reply
    }

    /// Whether the reply says success, so that a client takes it for the real one.
    pub const fn is_success(&self) -> bool {
        self.status < 300
    }

    /// Adds a header unless there is one of that name already.
    pub fn add_missing_header(&mut self, name: &'static str, value: String) {
        if !self.has_header(name) {
            self.headers.push((Cow::Borrowed(name), value));
        }
    }

    /// Whether there is a header of that name.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(it, _)| it == name)
    }

    /// Keeps the caller's Envoy and gRPC library from trying again at once, and says when to. A reply that is taken for the
    /// real one needs none of it; for gRPC none is.
    pub fn discourage_retries(&mut self, protocol: Protocol, retry_after: Option<Duration>) {
        if self.is_success() && protocol == Protocol::Http {
            return;
        }
        if let Some(wait) = retry_after {
            self.add_missing_header("retry-after", whole_seconds(wait).to_string());
        }
        self.add_missing_header("x-envoy-ratelimited", "true".to_owned());
    }

    /// The HTTP status that is sent: that of gRPC is in the headers.
    pub const fn http_status(&self) -> u16 {
        match self.protocol {
            Protocol::Http => self.status,
            Protocol::Grpc => 200,
        }
    }

    /// All headers that are sent. To a gRPC call that is a response without a body, status and message among its headers
    /// (gRPC over HTTP/2, *Trailers-Only*). The proxy would write them itself, but only for who spoke gRPC from the start: a call
    /// of gRPC-Web, which a filter before this one has translated, did not.
    pub fn all_headers(&self) -> Vec<(Cow<'_, str>, Cow<'_, str>)> {
        let own =
            self.headers.iter().map(|(name, value)| (Cow::Borrowed(name.as_ref()), Cow::Borrowed(value.as_str())));
        let mut headers: Vec<_> = own.collect();
        if self.protocol == Protocol::Grpc {
            headers.push((Cow::Borrowed("content-type"), Cow::Borrowed("application/grpc")));
            headers.push((Cow::Borrowed("grpc-status"), Cow::Owned(self.grpc_status.to_string())));
            headers.push((Cow::Borrowed("grpc-message"), Cow::Owned(percent_encoded(&self.body))));
        }
        headers
    }

    /// Makes it a reply to a gRPC call: the body becomes the message, a sentence instead of a document.
    pub fn speak_grpc(&mut self, message: String) {
        self.protocol = Protocol::Grpc;
        self.headers.retain(|(name, _)| name != "content-type");
        self.add_missing_header("grpc-retry-pushback-ms", "-1".to_owned());
        self.body = message.into_bytes();
    }
}

/// Rounded up, so that nobody is told to come too early.
pub fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() != 0))
}

/// The message as it stands in a header: what is not printable ASCII, and `%`, in hexadecimal (gRPC over HTTP/2, *Status-Message*).
fn percent_encoded(message: &[u8]) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message {
        match byte {
            b'%' | ..=0x1F | 0x7F.. => _ = write!(encoded, "%{byte:02X}"),
            byte => encoded.push(char::from(*byte)),
        }
    }
    encoded
}
