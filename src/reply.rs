//! A reply that the filter gives itself, ready for the proxy to send.

use std::borrow::Cow;

/// A local reply. One serves HTTP and gRPC: the proxy takes the HTTP part for HTTP requests and the gRPC status, with the
/// body as its message, for gRPC requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
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

impl Reply {
    /// Adds a header unless there is one of that name already.
    pub fn add_missing_header(&mut self, name: &'static str, value: String) {
        if !self.headers.iter().any(|(it, _)| it == name) {
            self.headers.push((Cow::Borrowed(name), value));
        }
    }
}
