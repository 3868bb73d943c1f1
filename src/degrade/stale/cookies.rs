//! Cookies that say nothing of who asks.
//!
//! A request with a cookie has no part in stale answers, because a cookie mostly says who asks. Those of analytics come with each
//! request of a browser and mean nothing to the service; only its owner knows which those are.

use crate::headers::Headers;

/// Names of cookies, as the owner of the service has listed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredCookies {
    /// Whole names, or beginnings of names with a `*` at their end. Names are told apart by case (RFC 6265, section 5.3).
    names: Vec<String>,
}

impl IgnoredCookies {
    /// Those with these names.
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether one of the entries is, or begins, the name; or all names that an entry begins.
    pub fn cover(entry: &str, name: &str) -> bool {
        entry.strip_suffix('*').map_or(entry == name, |beginning| name.starts_with(beginning))
    }

    /// The headers without cookies, if there are cookies and all are ignored.
    pub(super) fn without_cookies(&self, headers: &Headers) -> Option<Headers> {
        if self.names.is_empty() || headers.get("cookie").is_none() || !headers.all("cookie").all(|it| self.ignore(it))
        {
            return None;
        }
        let mut rest = Vec::new();
        for (name, value) in headers.iter().filter(|(name, _)| *name != b"cookie") {
            rest.push((std::str::from_utf8(name).ok()?, value));
        }
        Some(Headers::from_pairs(&rest))
    }

    /// Whether all cookies of the line are ignored. Whatever a service could read as one more cookie counts as one: a pair without
    /// a name, and a value of what is not allowed in one (RFC 6265, section 4.1.1), such as a comma, at which old ones part cookies.
    fn ignore(&self, line: &[u8]) -> bool {
        line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).all(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
                return false;
            };
            let value = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(value);
            let is_listed = |name| self.names.iter().any(|entry| Self::cover(entry, name));
            value.iter().all(|byte| is_octet(*byte)) && std::str::from_utf8(name).is_ok_and(is_listed)
        })
    }
}

/// Whether the byte may stand in the value of a cookie.
const fn is_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}
