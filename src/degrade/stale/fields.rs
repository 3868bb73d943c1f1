//! How a document describes which answers are kept.

use super::{IgnoredCookies, Spec};
use crate::document::field::NO_MOST;
use crate::document::texts::is_token;
use crate::document::{Absence, Kind, ListType, Section, Table, TextType};
use crate::limit::fields::{KEY, key_parts};
use crate::operation::client_ip::ClientIp;
use crate::{field, text_type};

/// Which answers are kept.
pub static STALE: Table = Table {
    fields: &[
        field!("max_age", Kind::Span(1, NO_MOST), required, "an answer is served until it is so old"),
        field!(
            "max_bytes",
            Kind::Whole(4096, 67_108_864),
            default Absence::Whole(1 << 20),
            "the most bytes of all answers of this rule, those on their way included; one per proxy, not per worker"
        ),
        field!(
            "assume_fresh",
            Kind::Span(1, NO_MOST),
            else "such answers are not kept",
            "how long an answer is fresh that says nothing of it; whole seconds count, one that has begun as well"
        ),
        field!(
            "ignore_cookies",
            Kind::List(&COOKIES),
            else "none",
            "names of cookies that say nothing of the user, or beginnings of names with a `*` at the end"
        ),
        field!(
            "key",
            Kind::List(&KEY),
            else "nothing",
            "what tells requests apart besides their address, as in [keys](requests.md#keys)"
        ),
    ],
};

static COOKIES: ListType = ListType { of: Kind::Text(&COOKIE), empty: None };

/// The name of a cookie (RFC 6265, section 4.1.1), or the beginning of names and a `*`. A `*` is allowed in a name too, but nobody
/// writes one.
static COOKIE: TextType = text_type!(
    |text| match text.strip_suffix('*').unwrap_or(text) {
        "" if text == "*" => {
            Some("would be all cookies, those of sessions too: name the ones that say nothing of the user")
        }
        name if !name.contains('*') && is_token(name) => None,
        _ => Some("must be the name of a cookie, or the beginning of names with a \"*\" at its end"),
    },
    "^[!#$%&'+.^_`|~0-9A-Za-z-]+\\*?$"
);

/// Which answers the section says are kept.
pub fn stale(section: &Section<'_>, client_ip: &ClientIp) -> Option<Spec> {
    Some(Spec {
        max_age: section.span("max_age")?,
        max_bytes: section.whole("max_bytes")?,
        assume_fresh: section.span("assume_fresh"),
        ignore_cookies: IgnoredCookies::new(section.texts("ignore_cookies")),
        key: key_parts(section),
        client_ip: client_ip.clone(),
    })
}
