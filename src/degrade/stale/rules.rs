//! What may be kept: RFC 9111, section 3, and stricter wherever it leaves a choice.
//!
//! The answer is a stranger's answer to whoever gets it later. So it takes two words: the request must not say who asks, and
//! the service must have said that the answer is good for some time. What the service says holds: an answer marked
//! `public` that depends on a header of the service's own, without naming it in `Vary`, is served to everybody. Where that
//! is to be feared, `stale.key` names the header.

use crate::degrade::stale::cache_control::{CacheControl, delta_seconds};
use crate::degrade::stale::cause::Cause;
use crate::degrade::stale::http_date;
use crate::headers::Headers;
use crate::host::End;
use crate::operation::request::Request;
use crate::operation::stream;

/// The most bytes of request headers that are kept aside until the answer is there. A longer request takes no part.
pub const MAX_REQUEST_HEADERS: usize = 16 * 1024;

/// Whether the request may be answered by what another one was answered, and its answer be kept for others.
///
/// `GET` only, and a `HEAD` is not answered from a kept `GET` either: that would save a client that asks for no more than
/// headers from an error that it can well bear. No request that says who asks (`Cookie`, `Authorization`), asks for a part or
/// under a condition that a stranger's answer cannot fulfil (`Range`, `If-Range`, `If-Match`, `If-Unmodified-Since`), has a
/// body, which is no part of the key, or forbids it (`no-store`). That there is a body is told by where the request ends: HTTP/2
/// needs no header for one, and the proxy takes `Transfer-Encoding` away. `no-cache` asks for the service's own answer, which has been
/// tried. A condition that only saves a transfer (`If-None-Match`, `If-Modified-Since`) is passed by.
///
/// # Errors
///
/// Why not; `None` if that goes without saying: nobody expects answers to other methods to be kept.
pub(super) fn may_share(request: &Request<'_>) -> Result<(), Option<Cause>> {
    if !request.has_method("GET") || request.grpc || request.upgrade {
        return Err(None);
    }
    if MAX_REQUEST_HEADERS < request.headers.as_block().len() {
        return Err(Some(Cause::RequestTooLarge));
    }
    let forbidden = |(name, value): (&[u8], &[u8])| match name {
        b"cookie" => Some(Cause::RequestCookie),
        b"authorization" | b"proxy-authorization" => Some(Cause::RequestAuthorization),
        b"range" | b"if-range" | b"if-match" | b"if-unmodified-since" => Some(Cause::RequestCondition),
        b"transfer-encoding" => Some(Cause::RequestBody),
        b"content-length" if value != b"0" => Some(Cause::RequestBody),
        _ => None,
    };
    if let Some(cause) = request.headers.iter().find_map(forbidden) {
        return Err(Some(cause));
    }
    if request.end == End::Later {
        return Err(Some(Cause::RequestBody));
    }
    match CacheControl::read(request.headers.all("cache-control")) {
        Some(control) if !control.no_store => Ok(()),
        _ => Err(Some(Cause::RequestNoStore)),
    }
}

/// What the service says about an answer that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    /// How old the answer was when it came: the service's `Age`, in seconds.
    pub(super) age: u32,
    /// For how many seconds from its making the answer is fresh; `None` if the service said `public` and no more.
    pub(super) lifetime: Option<u32>,
    /// For how many seconds from its coming the answer may be served, if the service said so.
    ///
    /// `s-maxage` forbids to serve a stale answer (it includes `proxy-revalidate`; RFC 9111, section 5.2.2.10), unless
    /// `stale-if-error` allows it for a time (RFC 5861), which then ends it for answers without `s-maxage` too.
    pub(super) usable: Option<u32>,
}

/// What a response says of the answer that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// This one is as good, on these terms.
    Good(Terms),
    /// It still holds, if it is the one that the client asked about.
    Confirmed,
    /// It does not hold any more; and why this one is not kept, if it is a `200`.
    TakenBack(Option<Cause>),
    /// Nothing: the response is about the request or the moment, or made by another of our kind; and why it is not kept, if it is
    /// a `200`.
    Silent(Option<Cause>),
}

impl Word {
    /// What the response says; `assumed` as in [`Terms::read`].
    ///
    /// Good is a whole `200` of the service's own on terms that [allow](Terms::read) to keep it. One that sets a cookie is somebody's own:
    /// it is not kept, and takes nothing back that the service still allows. Failures, and what tells a client of its own mistake or
    /// haste, say nothing of the page.
    pub(super) fn read(response: &Headers, assumed: Option<u32>) -> Self {
        let sets_cookie = response.get("set-cookie").is_some() || response.get("set-cookie2").is_some();
        let status = response.get(":status");
        if let Some(cause) = response.iter().find_map(says_nothing) {
            return Self::Silent((status == Some(b"200")).then_some(cause));
        }
        match status {
            Some(b"200") => match Terms::read(response, assumed) {
                Err(cause) => Self::TakenBack(Some(cause)),
                Ok(_) if sets_cookie => Self::Silent(Some(Cause::SetCookie)),
                Ok(terms) => Self::Good(terms),
            },
            Some(b"304") if !sets_cookie => Self::Confirmed,
            Some(b"304" | b"400" | b"408" | b"421" | b"425" | b"429" | b"431" | [b'1' | b'5', ..]) | None => {
                Self::Silent(None)
            }
            Some(_) => Self::TakenBack(None),
        }
    }
}

/// Why the response is, by this header, no answer of the service about the page, if it is none.
fn says_nothing((name, value): (&[u8], &[u8])) -> Option<Cause> {
    let is_ours = |value: &[u8]| value.split(|byte| *byte == b',').any(|it| it.trim_ascii().starts_with(b"outrigger"));
    match name {
        // Of a whole answer it makes no sense (RFC 9110, section 14.4).
        b"content-range" => Some(Cause::Malformed),
        b"content-type" if value.starts_with(b"application/grpc") || stream::is_events(value) => Some(Cause::Stream),
        // What another of our kind made up, or kept, in place of an answer.
        b"x-outrigger-reason" | b"x-envoy-ratelimited" => Some(Cause::Substitute),
        b"cache-status" if is_ours(value) => Some(Cause::Substitute),
        _ => None,
    }
}

/// Whether a 304 is about the answer that has these headers: its entity tag counts, or else its time (RFC 9111, section 4.3.4).
pub(super) fn confirms(response: &Headers, kept: &Headers) -> bool {
    let is_kept = |name, value| kept.get(name).is_some_and(|it| opaque(it) == opaque(value));
    match (response.get("etag"), response.get("last-modified")) {
        (Some(tag), _) => is_kept("etag", tag),
        (None, Some(time)) => is_kept("last-modified", time),
        (None, None) => false,
    }
}

/// An entity tag without the mark of a weak one.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The headers of a kept answer with those that a 304 brings in place of its own; `None` as for [`kept_headers`].
pub(super) fn renewed_headers<'h>(kept: &'h Headers, response: &'h Headers) -> Option<Vec<(&'h str, &'h [u8])>> {
    let mut brought = kept_headers(response)?;
    // Of the body, which is the one that is kept.
    brought.retain(|(name, _)| !matches!(*name, "content-type" | "content-encoding" | "content-language"));
    let mut headers = Vec::new();
    for (name, value) in kept.iter() {
        let name = std::str::from_utf8(name).ok()?;
        if !brought.iter().any(|(it, _)| *it == name) {
            headers.push((name, value));
        }
    }
    headers.extend(brought);
    Some(headers)
}

impl Terms {
    /// The terms of a whole answer.
    ///
    /// Kept is what has a lifetime that is not over, or `public` and no lifetime at all. `max-age` overrules
    /// `Expires`, `s-maxage` both. `Expires` counts from the response's own `Date`, because a service's clock and ours need
    /// not agree; without `Date` it says nothing. `assumed` is the lifetime, in seconds, of an answer that says nothing of it at all:
    /// RFC 9111, section 4.2.2, lets a cache choose one where the service gives none.
    ///
    /// # Errors
    ///
    /// Why the answer must not be kept.
    pub(super) fn read(response: &Headers, assumed: Option<u32>) -> Result<Self, Cause> {
        Self::of_age(response, only(response, "age"), assumed)
    }

    /// The terms of a kept answer under the headers that a 304 has renewed.
    ///
    /// # Errors
    ///
    /// As above.
    pub(super) fn renewed(headers: &Headers, response: &Headers, assumed: Option<u32>) -> Result<Self, Cause> {
        Self::of_age(headers, only(response, "age"), assumed)
    }

    fn of_age(response: &Headers, age: Option<Option<&[u8]>>, assumed: Option<u32>) -> Result<Self, Cause> {
        // Its meaning in a response was never defined; who writes it means one thing (RFC 9111, section 5.4).
        if response.all("pragma").any(|value| value.eq_ignore_ascii_case(b"no-cache")) {
            return Err(Cause::NoCache);
        }
        let control = CacheControl::read(response.all("cache-control")).ok_or(Cause::Malformed)?;
        if control.no_store {
            return Err(Cause::NoStore);
        }
        if let Some(cause) = control.no_reuse {
            return Err(cause);
        }
        let age = age.and_then(|age| age.map_or(Some(0), delta_seconds)).ok_or(Cause::Malformed)?;
        let given = match control.s_maxage.or(control.max_age) {
            Some(seconds) => Some(seconds),
            None => expires(response)?,
        };
        let lifetime = given.or(assumed.filter(|_| !control.public));
        match lifetime {
            Some(lifetime) if lifetime <= age => return Err(Cause::NotFresh),
            None if !control.public => return Err(Cause::NoFreshness),
            _ => {}
        }
        let fresh = lifetime.map_or(0, |lifetime| lifetime.saturating_sub(age));
        let usable = match (control.stale_if_error, control.s_maxage) {
            (Some(seconds), _) => Some(fresh.saturating_add(seconds)),
            (None, Some(_)) => Some(fresh),
            (None, None) => None,
        };
        Ok(Self { age, lifetime, usable })
    }
}

/// The lifetime by `Expires`, `None` if there is none. A value that is no date, such as `0`, stands for the past (RFC 9111,
/// section 5.3).
///
/// # Errors
///
/// The field says that the answer is not fresh, or cannot be judged.
fn expires(response: &Headers) -> Result<Option<u32>, Cause> {
    let Some(expires) = only(response, "expires").ok_or(Cause::Malformed)? else {
        return Ok(None);
    };
    let expires = http_date::parse(expires).ok_or(Cause::NotFresh)?;
    let date = only(response, "date").flatten().and_then(http_date::parse).ok_or(Cause::Malformed)?;
    Ok(Some(u32::try_from(expires.saturating_sub(date).max(0)).unwrap_or(u32::MAX)))
}

/// The value of a field that has one line, `Some(None)` if it has none; `None` if it has more.
fn only<'h>(headers: &'h Headers, name: &str) -> Option<Option<&'h [u8]>> {
    let mut values = headers.all(name);
    let first = values.next();
    if values.next().is_some() { None } else { Some(first) }
}

/// The number in `Content-Length`, `Some(None)` if there is none; `None` if it is malformed.
pub(super) fn content_length(response: &Headers) -> Option<Option<usize>> {
    match only(response, "content-length")? {
        Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok()?.parse().ok().map(Some)
        }
        Some(_) => None,
        None => Some(None),
    }
}

/// The headers that are kept with an answer; `None` if a value is no UTF-8, which a [`Reply`](crate::reply::Reply) cannot
/// carry.
///
/// Kept is what is said about the answer, from end to end. Not kept: what was said from hop to hop (RFC 9110, section 7.6.1, and
/// what `Connection` names), what the proxy makes anew (pseudo-headers, `content-length`, `Age`), what this filter and
/// Envoy say of a request (`x-outrigger-*`, `x-envoy-*`, `x-request-id`), and how much of its quota some client has left.
pub(super) fn kept_headers(response: &Headers) -> Option<Vec<(&str, &[u8])>> {
    let named = |name: &[u8]| {
        let tokens = response.all("connection").flat_map(|line| line.split(|byte| *byte == b','));
        tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(name))
    };
    let kept = response.iter().filter(|(name, _)| !is_of_the_moment(name) && !named(name));
    kept.map(|(name, value)| {
        std::str::from_utf8(value).ok()?;
        Some((std::str::from_utf8(name).ok()?, value))
    })
    .collect()
}

fn is_of_the_moment(name: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 4] = [b":", b"x-outrigger-", b"x-envoy-", b"x-ratelimit-"];
    let exact = matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"proxy-authenticate"
            | b"proxy-authentication-info"
            | b"content-length"
            | b"age"
            | b"x-request-id"
            | b"ratelimit"
            | b"ratelimit-policy"
    );
    exact || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
