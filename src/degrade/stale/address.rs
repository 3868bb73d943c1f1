//! Where a request goes, as far as it matters to answers that are kept: what is changed there makes all of them untrue,
//! whoever they were for (RFC 9111, section 4.4).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::operation::request::{Request, name_of, without_port};

/// Authority, and path with query. Not the scheme: TLS may end before the proxy, and a service means the same by either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// In lower case, without the dot that ends a complete name and without the port that goes without saying.
    authority: Vec<u8>,
    path: Vec<u8>,
}

/// An address in 64 bits. Two addresses that look alike cost somebody a kept answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(pub(super) u64);

impl Mark {
    /// Of no address.
    pub(super) const NONE: Self = Self(0);
}

impl Address {
    /// Where the request goes.
    pub fn of(request: &Request<'_>) -> Self {
        let mut path = request.path.to_vec();
        if let Some(query) = request.query {
            path.push(b'?');
            path.extend_from_slice(query);
        }
        Self { authority: authority(request.headers.get(":authority").unwrap_or_default()), path }
    }

    /// What a `Location` or `Content-Location` of the answer names, if that is of the same authority (RFC 3986, section 5.2).
    pub fn resolve(&self, reference: &[u8]) -> Option<Self> {
        let reference = reference.trim_ascii().split(|byte| *byte == b'#').next()?;
        let rest = after_scheme(reference).unwrap_or(reference);
        if let Some(rest) = rest.strip_prefix(b"//") {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            let (there, path) = rest.split_at_checked(end)?;
            return (authority(there) == self.authority).then(|| self.at(path));
        }
        let (base, _) = halves(&self.path);
        match rest {
            // Another scheme, such as `mailto:`.
            _ if rest.len() < reference.len() => None,
            [] => Some(self.clone()),
            [b'/', ..] => Some(self.at(rest)),
            [b'?', ..] => Some(self.at(&[base, rest].concat())),
            _ => {
                let folder = base.iter().rposition(|byte| *byte == b'/').map_or(0, |last| last.saturating_add(1));
                Some(self.at(&[base.get(..folder)?, rest].concat()))
            }
        }
    }

    /// The address under the process's secret.
    pub(super) fn mark(&self, mut hasher: SipHasher13) -> Mark {
        hasher.write(b"address");
        hasher.write_u64(self.authority.len() as u64);
        hasher.write(&self.authority);
        hasher.write(&self.path);
        Mark(hasher.finish().max(1))
    }

    /// Another path of the same authority.
    fn at(&self, path: &[u8]) -> Self {
        Self { authority: self.authority.clone(), path: without_dots(path) }
    }
}

fn authority(given: &[u8]) -> Vec<u8> {
    let port = match given.get(without_port(given).len()..) {
        None | Some(b":" | b":80" | b":443") => &[],
        Some(port) => port,
    };
    [name_of(given), port].concat().to_ascii_lowercase()
}

/// What follows a scheme and its colon; `None` if the reference has no scheme.
fn after_scheme(reference: &[u8]) -> Option<&[u8]> {
    let colon = reference.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = reference.split_at_checked(colon)?;
    let is_scheme = scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    (is_scheme && scheme.first()?.is_ascii_alphabetic()).then(|| rest.get(1..))?
}

/// Path, and query with its question mark.
fn halves(path: &[u8]) -> (&[u8], &[u8]) {
    let end = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
    path.split_at_checked(end).unwrap_or((path, &[]))
}

/// The path without `.` and `..` (RFC 3986, section 5.2.4), with a `/` at least.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let (path, query) = halves(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_dots = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        ends_in_dots = matches!(segment, b"." | b"..");
        match segment {
            b"." => {}
            b".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    if ends_in_dots {
        segments.push(b"");
    }
    let mut clean = Vec::with_capacity(path.len().saturating_add(query.len()));
    for segment in segments {
        clean.push(b'/');
        clean.extend_from_slice(segment);
    }
    if clean.is_empty() {
        clean.push(b'/');
    }
    clean.extend_from_slice(query);
    clean
}
