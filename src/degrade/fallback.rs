//! Prepared replies that are served instead of the real ones.

use std::time::Duration;

/// A reply that is complete at configuration, but for what the refusal adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Name by which policies refer to it.
    pub name: String,
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Headers, the content type among them. Names are lower-case.
    pub headers: Vec<(String, String)>,
    /// Body; empty for none.
    pub body: String,
    /// What `Retry-After` says. Absent: what the refusal knows.
    pub retry_after: Option<Duration>,
    /// gRPC status for gRPC requests. Absent: by the refusal, or 14 (`UNAVAILABLE`) if the HTTP status says success,
    /// because a gRPC client cannot take a page for an answer.
    pub grpc_status: Option<u32>,
}

impl Fallback {
    /// Whether the reply says success, so that a client takes it for the real one.
    pub const fn is_success(&self) -> bool {
        self.status < 300
    }

    /// Whether the reply sets the header itself. `name` is lower-case.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(it, _)| it == name)
    }
}
