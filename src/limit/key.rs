//! What is counted apart: the key of a request.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::headers::Headers;
use crate::host::{Host, HostError};
use crate::limit::client_ip::ClientIp;
use crate::operation::request::Request;
use crate::shared::table::KeyHash;

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address.
    ClientIp,
    /// The method.
    Method,
    /// The path without query.
    Path,
    /// The host without port, in lower case.
    Host,
    /// The operation.
    Operation,
    /// A header, by its lower-case name; several values are joined in order.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query parameter.
    Query(String),
}

/// What becomes of a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The lack is a value like any other: such requests are counted together.
    Shared,
    /// The limit does not apply.
    Skip,
}

/// How the key of a request is made.
///
/// Only its hash is ever used. The parts enter it with their lengths, so that no two different keys look alike, and
/// whole, however long they are; a missing part enters as a length that no value has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// At least one part.
    pub parts: Vec<KeyPart>,
    /// What to do without one of them.
    pub missing: Missing,
    /// How to find the client's address.
    pub client_ip: ClientIp,
}

/// The length that stands for a missing part.
const MISSING: u64 = u64::MAX;

impl KeySpec {
    /// The request's key under the hasher's secret, or `None` if the limit does not apply to it.
    ///
    /// # Errors
    ///
    /// The proxy did not say who the client is.
    pub fn hash(
        &self,
        host: &dyn Host,
        request: &Request<'_>,
        operation: &str,
        mut hasher: SipHasher13,
    ) -> Result<Option<KeyHash>, HostError> {
        let complete = self.feed(host, request, operation, &mut hasher)?;
        Ok(complete.then(|| KeyHash(hasher.finish())))
    }

    /// Feeds the request's key to a hasher. Returns `false` if the request lacks a part and is to be passed by.
    ///
    /// # Errors
    ///
    /// The proxy did not say who the client is.
    pub fn feed(
        &self,
        host: &dyn Host,
        request: &Request<'_>,
        operation: &str,
        hasher: &mut SipHasher13,
    ) -> Result<bool, HostError> {
        for part in &self.parts {
            let present = match part {
                KeyPart::ClientIp => hash_address(self.client_ip.find(host, request)?, hasher),
                KeyPart::Method => hash_bytes(non_empty(request.method), hasher),
                KeyPart::Path => hash_bytes(non_empty(request.path), hasher),
                KeyPart::Host => hash_lower_case(request.host, hasher),
                KeyPart::Operation => hash_bytes(Some(operation.as_bytes()), hasher),
                KeyPart::Header(name) => hash_header(request.headers, name, hasher),
                KeyPart::Cookie(name) => hash_bytes(request.cookie(name), hasher),
                KeyPart::Query(name) => hash_bytes(request.query_parameter(name), hasher),
            };
            match (present, self.missing) {
                (Present::Yes, _) => {}
                (Present::No, Missing::Shared) => hasher.write_u64(MISSING),
                (Present::No, Missing::Skip) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Feeds one header to a hasher as a part of a key; one that is missing is a value like any other. `name` is lower-case.
pub fn feed_header(headers: &Headers, name: &str, hasher: &mut SipHasher13) {
    if matches!(hash_header(headers, name, hasher), Present::No) {
        hasher.write_u64(MISSING);
    }
}

/// Whether the request has a part of the key.
#[derive(Clone, Copy)]
enum Present {
    Yes,
    No,
}

fn non_empty(value: &[u8]) -> Option<&[u8]> {
    if value.is_empty() { None } else { Some(value) }
}

fn write_length(length: usize, hasher: &mut SipHasher13) {
    hasher.write_u64(length as u64);
}

fn hash_bytes(value: Option<&[u8]>, hasher: &mut SipHasher13) -> Present {
    let Some(value) = value else {
        return Present::No;
    };
    write_length(value.len(), hasher);
    hasher.write(value);
    Present::Yes
}

fn hash_lower_case(value: &[u8], hasher: &mut SipHasher13) -> Present {
    if value.is_empty() {
        return Present::No;
    }
    write_length(value.len(), hasher);
    for byte in value {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    Present::Yes
}

fn hash_address(address: Option<IpAddr>, hasher: &mut SipHasher13) -> Present {
    match address {
        Some(IpAddr::V4(address)) => hash_bytes(Some(&address.octets()), hasher),
        Some(IpAddr::V6(address)) => hash_bytes(Some(&address.octets()), hasher),
        None => Present::No,
    }
}

/// Hashes what the values are if joined by commas, as RFC 9110 (section 5.3) reads repeated fields.
fn hash_header(headers: &Headers, name: &str, hasher: &mut SipHasher13) -> Present {
    let mut values = headers.all(name);
    let Some(first) = values.next() else {
        return Present::No;
    };
    let length = headers.all(name).map(|value| value.len() + 1).sum::<usize>().saturating_sub(1);
    write_length(length, hasher);
    hasher.write(first);
    for value in values {
        hasher.write(b",");
        hasher.write(value);
    }
    Present::Yes
}
