//! How large a request's body is.

use crate::host::End;
use crate::operation::request::Request;

/// How many bytes the body of a request has, as far as can be told when its headers are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodySize {
    /// So many; 0 if there is no body.
    Known(u64),
    /// That is seen when all of it has come: it is sent in chunks, or in frames of HTTP/2 without a length.
    Unknown,
}

impl BodySize {
    /// The size of this request's body (RFC 9112, section 6.3, and RFC 9113, section 8.1.1).
    pub fn of(request: &Request<'_>) -> Self {
        match (request.headers.get("content-length"), request.end) {
            (Some(length), _) => {
                let length = std::str::from_utf8(length).ok().and_then(|it| it.parse().ok());
                length.map_or(Self::Unknown, Self::Known)
            }
            (None, End::Here) => Self::Known(0),
            (None, End::Later) => Self::Unknown,
        }
    }
}
