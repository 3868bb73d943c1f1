//! Which request headers an answer depends on.

use crate::degrade::stale::cache_control::is_token;
use crate::headers::Headers;
use crate::sorted;

/// The most bytes that the names may have, commas included. An answer that depends on more is not kept.
pub(super) const MAX_NAMES: usize = 200;

/// Lower-case names of request headers, in order, each once, joined by commas. Two services that name the same headers
/// mean the same, however they write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vary(String);

impl Vary {
    /// The names in the response's `Vary`. Where the body is encoded, `accept-encoding` is among them, whether the service
    /// says so or not: many do not, and a client that cannot decode an answer has none. So is `origin` where one origin is
    /// allowed to read it: a proxy's CORS filter, which comes before us on a response's way, does not say so either.
    ///
    /// `None` if the answer depends on more than the request's headers (`*`), if the field is malformed, or if it is longer
    /// than [`MAX_NAMES`].
    pub(super) fn of_response(response: &Headers) -> Option<Self> {
        let mut names = Vec::new();
        for element in response.all("vary").flat_map(|line| line.split(|byte| *byte == b',')) {
            let name = element.trim_ascii();
            if name == b"*" || !name.iter().all(|byte| is_token(*byte)) {
                return None;
            }
            if !name.is_empty() {
                sorted::insert(&mut names, String::from_utf8(name.to_ascii_lowercase()).ok()?);
            }
        }
        if response.get("content-encoding").is_some() {
            sorted::insert(&mut names, "accept-encoding".to_owned());
        }
        if response.get("access-control-allow-origin").is_some_and(|origin| origin != b"*") {
            sorted::insert(&mut names, "origin".to_owned());
        }
        let joined = names.join(",");
        (joined.len() <= MAX_NAMES).then_some(Self(joined))
    }

    /// The names as they were written to a record; `None` if nobody writes such.
    pub(super) fn from_record(bytes: &[u8]) -> Option<Self> {
        let joined = std::str::from_utf8(bytes).ok()?;
        (joined.len() <= MAX_NAMES).then(|| Self(joined.to_owned()))
    }

    /// The names as they are written to a record.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The names in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').filter(|name| !name.is_empty())
    }
}
