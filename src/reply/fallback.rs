//! Prepared replies that are served instead of the real ones.

pub mod fields;

use std::borrow::Cow;
use std::time::Duration;

use crate::grpc::UNAVAILABLE;
use crate::operation::request::Request;
use crate::operation::stream;
use crate::reply::cors::Cors;
use crate::reply::placed::Wants;
use crate::reply::template::{Filling, Slot, Template};
use crate::reply::{Protocol, Reply, whole_seconds};

/// A reply that is complete at configuration, but for what the refusal adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Name by which policies refer to it.
    pub name: String,
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Methods of the requests that it may answer; see [`Fallback::is_for`].
    pub methods: Vec<String>,
    /// Headers, the content type among them. Names are lower-case.
    pub headers: Vec<(String, String)>,
    /// Body; empty for none.
    pub body: Template,
    /// What `Retry-After` says. Absent: what the refusal knows.
    pub retry_after: Option<Duration>,
    /// gRPC status for gRPC requests. Absent: by the refusal, or 14 (`UNAVAILABLE`) if the HTTP status says success,
    /// because a gRPC client cannot take a page for an answer.
    pub grpc_status: Option<u32>,
    /// Which pages of other origins may read it.
    pub cors: Option<Cors>,
}

/// What a reply needs to know of the request that it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What it speaks.
    pub protocol: Protocol,
    /// What it wants of the answer.
    pub wants: Wants,
    /// Its `Origin`, if a page of another origin sent it.
    origin: Option<String>,
    /// Its `x-request-id`.
    request_id: Option<String>,
}

impl Caller {
    /// Somebody of whom nothing else is known.
    pub const fn new(protocol: Protocol) -> Self {
        Self { protocol, wants: Wants::Body, origin: None, request_id: None }
    }

    /// Its `Origin`, if a page of another origin sent it and a fallback for it says which may read it.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// What the fallback needs to know of the request, and no more.
    pub fn of<'f>(request: &Request<'_>, fallbacks: impl IntoIterator<Item = &'f Fallback>) -> Self {
        let mut caller = Self { wants: Wants::of(request), ..Self::new(Protocol::of(request)) };
        for fallback in fallbacks {
            if fallback.cors.is_some() && caller.origin.is_none() {
                caller.origin = text(request, "origin");
            }
            if fallback.body.has(Slot::RequestId) && caller.request_id.is_none() {
                caller.request_id = text(request, "x-request-id");
            }
        }
        caller
    }
}

impl Fallback {
    /// Whether the fallback may answer the request.
    ///
    /// A success in place of a write tells its client that the write was done. So one that says success is for `GET` and `HEAD`, unless
    /// `methods` says otherwise; one that says anything else is for all. A gRPC client is never told success. A long stream that is
    /// refused with a success would be taken for open, whatever `methods` says.
    pub fn is_for(&self, request: &Request<'_>) -> bool {
        let says_success = self.status < 300;
        if says_success && stream::is_long(request) {
            return false;
        }
        let is_told_otherwise = request.grpc && self.methods.is_empty();
        is_told_otherwise || std::str::from_utf8(request.method).is_ok_and(|method| self.is_for_method(method))
    }

    /// Whether it may answer requests of the method, leaving aside calls of gRPC.
    pub fn is_for_method(&self, method: &str) -> bool {
        if self.methods.is_empty() {
            return 300 <= self.status || ["GET", "HEAD"].iter().any(|it| it.eq_ignore_ascii_case(method));
        }
        self.methods.iter().any(|it| it.eq_ignore_ascii_case(method))
    }

    /// Whether a browser shows the reply to the page that asks; always, unless it is of another origin.
    pub fn is_shown_to(&self, caller: &Caller) -> bool {
        caller.origin().is_none_or(|origin| self.cors.as_ref().is_some_and(|cors| cors.allows(origin)))
    }

    /// The reply to the caller, without the marks of a refusal. `by_default` is the gRPC status of the refusal.
    pub fn reply(&self, caller: &Caller, reason: &str, operation: &str, by_default: u32) -> Reply {
        let own = self.headers.iter().map(|(name, value)| (Cow::Owned(name.clone()), value.clone()));
        let request_id = caller.request_id.as_deref().unwrap_or_default();
        let mut reply = Reply {
            protocol: Protocol::Http,
            status: self.status,
            grpc_status: 0,
            details: String::new(),
            headers: own.collect(),
            body: self.body.render(&Filling { reason, operation, request_id }).into_bytes(),
        };
        reply.grpc_status = self.grpc_status.unwrap_or(if reply.is_success() { UNAVAILABLE } else { by_default });
        if let Some(wait) = self.retry_after {
            reply.add_missing_header("retry-after", whole_seconds(wait).to_string());
        }
        if let Some(cors) = &self.cors {
            cors.apply(caller.origin.as_deref(), &mut reply);
        }
        reply
    }
}

/// Origins and request ids are ASCII; what is not is no such thing.
fn text(request: &Request<'_>, name: &str) -> Option<String> {
    std::str::from_utf8(request.headers.get(name)?).ok().map(str::to_owned)
}
