//! A stream of either kind, by where the filter stands.

use std::rc::Rc;

use super::attempt::AttemptStream;
use super::installed::Installed;
use super::machine::Flow;
use super::request::RequestStream;
use crate::host::End;
use crate::retry::register::Placement;

/// A stream as the proxy knows it.
#[expect(clippy::large_enum_variant, reason = "a box would cost every request an allocation")]
pub(super) enum Stream {
    /// Of a listener: one for each request.
    Request(RequestStream),
    /// Of an upstream: one for each attempt.
    Attempt(AttemptStream),
}

impl Stream {
    /// One that begins under this configuration.
    pub(super) fn new(installed: Rc<Installed>) -> Self {
        match installed.placement() {
            Placement::Downstream => Self::Request(RequestStream::new(installed)),
            Placement::Upstream => Self::Attempt(AttemptStream::new(installed)),
        }
    }

    /// The headers of its request are there. `context` is the stream's own.
    pub(super) fn request_headers(&mut self, context: u32, end: End) -> Flow {
        match self {
            Self::Request(request) => request.request_headers(context, end),
            Self::Attempt(attempt) => attempt.request_headers(),
        }
    }

    /// The headers of its response are there. `context` as above.
    pub(super) fn response_headers(&mut self, context: u32, end: End) -> Flow {
        match self {
            Self::Request(request) => request.response_headers(context, end),
            Self::Attempt(attempt) => attempt.response_headers(),
        }
    }

    /// The request, if it is one: an attempt has nothing to do with what comes after headers, and never waits.
    pub(super) fn request(&mut self) -> Option<&mut RequestStream> {
        match self {
            Self::Request(request) => Some(request),
            Self::Attempt(_) => None,
        }
    }
}
