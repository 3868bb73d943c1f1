//! What is counted apart: the key of a request.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::cx::Cx;
use crate::headers::Headers;
use crate::host::HostError;
use crate::operation::client_ip::{Chain, ClientIp};
use crate::operation::request::{Encoded, Request};
use crate::shared::table::KeyHash;

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address.
    ClientIp,
    /// The method, in capitals.
    Method,
    /// The path without query, and without path parameters unless the operation keeps them.
    Path,
    /// The host without port and final dot, in lower case.
    Host,
    /// The operation.
    Operation,
    /// A header, by its lower-case name; several lines are one list.
    Header(String),
    /// A cookie, decoded.
    Cookie(String),
    /// A query parameter, decoded.
    Query(String),
}

/// What becomes of a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The lack is a value like any other: such requests are counted together. But preflights are passed by that lack what a
    /// browser gives no preflight: they say nothing of who asks, and would use up what those have who really lack it.
    Shared,
    /// The limit does not apply.
    Skip,
}

/// How the key of a request is made.
///
/// Only its hash is ever used. The parts enter it with their lengths, so that no two different keys look alike, and
/// whole, however long they are; a missing part enters as a length that no value has. A value enters as services see it that
/// settle its spelling before they compare: or each spelling would be a key of its own.
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
        cx: &Cx<'_>,
        request: &Request<'_>,
        operation: &str,
        mut hasher: SipHasher13,
    ) -> Result<Option<KeyHash>, HostError> {
        let complete = self.feed(cx, request, operation, &mut hasher)?;
        Ok(complete.then(|| KeyHash(hasher.finish())))
    }

    /// Feeds the request's key to a hasher. Returns `false` if the request lacks a part and is to be passed by.
    ///
    /// # Errors
    ///
    /// The proxy did not say who the client is.
    pub fn feed(
        &self,
        cx: &Cx<'_>,
        request: &Request<'_>,
        operation: &str,
        hasher: &mut SipHasher13,
    ) -> Result<bool, HostError> {
        for part in &self.parts {
            let present = match part {
                KeyPart::ClientIp => hash_address(self.client_ip.find(cx, request)?, hasher),
                KeyPart::Method => hash_as(u8::to_ascii_uppercase, request.method, hasher),
                KeyPart::Path => hash_bytes(non_empty(&request.path(request.path_parameters)), hasher),
                KeyPart::Host => hash_as(u8::to_ascii_lowercase, request.host, hasher),
                KeyPart::Operation => hash_bytes(Some(operation.as_bytes()), hasher),
                KeyPart::Header(name) => hash_header(request.headers, name, hasher),
                KeyPart::Cookie(name) => hash_decoded(request.cookie(name).map(Encoded::Percent), hasher),
                KeyPart::Query(name) => hash_decoded(request.query_parameter(name).map(Encoded::Form), hasher),
            };
            match (present, self.missing) {
                (Present::Yes, _) => {}
                (Present::No, Missing::Skip) => return Ok(false),
                (Present::No, Missing::Shared) if part.is_dropped_by_preflights() && request.is_preflight() => {
                    return Ok(false);
                }
                (Present::No, Missing::Shared) => hasher.write_u64(MISSING),
            }
        }
        Ok(true)
    }

    /// How the client's address is found and how long the chain is in which the request names it; `None` if that does not matter
    /// for the key.
    pub fn chain(&self, request: &Request<'_>) -> Option<(&ClientIp, Chain)> {
        let is_keyed = self.parts.contains(&KeyPart::ClientIp);
        let chain = if is_keyed { self.client_ip.chain(request) } else { None };
        Some((&self.client_ip, chain?))
    }

    /// A header of the key of which the request has several lines. Services differ in which of them they read.
    pub fn repeated_header(&self, request: &Request<'_>) -> Option<&str> {
        let mut names = self.parts.iter().filter_map(|part| match part {
            KeyPart::Header(name) => Some(name.as_str()),
            _ => None,
        });
        names.find(|name| request.headers.all(name).nth(1).is_some())
    }
}

impl KeyPart {
    /// Whether a browser leaves it out of a preflight, although the request that it asks for may have it: a preflight has no
    /// cookies, and of headers only those that the browser itself decides about (Fetch standard, CORS-preflight fetch).
    const fn is_dropped_by_preflights(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Cookie(_))
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

/// Hashes a value of which services do not look at the case.
fn hash_as(case: fn(&u8) -> u8, value: &[u8], hasher: &mut SipHasher13) -> Present {
    if value.is_empty() {
        return Present::No;
    }
    write_length(value.len(), hasher);
    value.iter().for_each(|byte| hasher.write_u8(case(byte)));
    Present::Yes
}

/// Hashes what an encoded value means: clients can write it in many ways, and the service sees one.
fn hash_decoded(value: Option<Encoded<'_>>, hasher: &mut SipHasher13) -> Present {
    let Some(value) = value else {
        return Present::No;
    };
    if let Some(plain) = value.plain() {
        return hash_bytes(Some(plain), hasher);
    }
    write_length(value.bytes().count(), hasher);
    value.bytes().for_each(|byte| hasher.write_u8(byte));
    Present::Yes
}

fn hash_address(address: Option<IpAddr>, hasher: &mut SipHasher13) -> Present {
    match address {
        Some(IpAddr::V4(address)) => hash_bytes(Some(&address.octets()), hasher),
        Some(IpAddr::V6(address)) => hash_bytes(Some(&address.octets()), hasher),
        None => Present::No,
    }
}

/// Hashes the lines of a field as the one list that they are (RFC 9110, sections 5.3 and 5.6.1): neither blanks around
/// commas nor empty entries make another one, nor does it matter how the entries are spread over lines. Pseudo-headers are
/// no lists.
fn hash_header(headers: &Headers, name: &str, hasher: &mut SipHasher13) -> Present {
    let mut lines = headers.all(name);
    let Some(first) = lines.next() else {
        return Present::No;
    };
    let shape = Shape::of(name);
    if lines.next().is_none() && !(shape == Shape::List && first.contains(&b',')) {
        return hash_bytes(Some(first), hasher);
    }
    let mut length = 0_usize;
    each_entry(headers, name, shape, &mut |entry| length = length.saturating_add(entry.len()).saturating_add(1));
    write_length(length.saturating_sub(1), hasher);
    let mut separator: &[u8] = b"";
    each_entry(headers, name, shape, &mut |entry| {
        hasher.write(separator);
        hasher.write(entry);
        separator = b",";
    });
    Present::Yes
}

/// What the lines of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Parts of one list, with commas between the entries.
    List,
    /// One entry each.
    Lines,
}

impl Shape {
    fn of(name: &str) -> Self {
        if name.starts_with(':') { Self::Lines } else { Self::List }
    }
}

fn each_entry(headers: &Headers, name: &str, shape: Shape, look: &mut dyn FnMut(&[u8])) {
    for line in headers.all(name) {
        match shape {
            Shape::Lines => look(line.trim_ascii()),
            Shape::List => {
                let entries = line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                entries.filter(|entry| !entry.is_empty()).for_each(&mut *look);
            }
        }
    }
}
