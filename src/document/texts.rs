//! Types of texts that several sections have.

use super::field::{Kind, LEAVE_OUT, ListType, TextType};
use crate::text_type;

/// Any text.
pub static ANY: TextType = text_type!(|_| None, "");

/// A name: it appears in metrics, headers and keys of shared state as it stands.
pub static NAME: TextType = text_type!(
    |text| {
        let good = text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
        let is_name = good && !text.is_empty() && text.len() <= 63 && !text.starts_with('-');
        (!is_name).then_some("must be 1 to 63 lower-case letters, digits and hyphens, not starting with a hyphen")
    },
    "^[a-z0-9][a-z0-9-]{0,62}$"
);

/// What a policy refers to by its name. Whether there is such a thing is another question.
pub static REFERENCE: TextType = text_type!(|_| None, "");

/// The name of an HTTP header (RFC 9110, section 5.1), in any case.
pub static HEADER: TextType = text_type!(
    |text| match is_token(text) {
        true if text.eq_ignore_ascii_case(HOST) => {
            Some("is no header to Envoy, but :authority: use hosts in match, or the key part host")
        }
        true => None,
        false => Some("must be the name of a header"),
    },
    "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
);

/// A method, in any case. A star is the wildcard of hosts and paths, and no method that anybody sends.
pub static METHOD: TextType = text_type!(
    |text| (!is_token(text) || text == "*").then_some("must be a method such as \"GET\""),
    "^(?!\\*$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$"
);

/// Methods.
pub static METHODS: ListType = ListType { of: Kind::Text(&METHOD), empty: Some(LEAVE_OUT) };

/// A header that no request has: Envoy makes it the pseudo-header `:authority`.
pub const HOST: &str = "host";

/// Whether the text is a token (RFC 9110, section 5.6.2), as names of headers, methods and cookies are.
pub fn is_token(text: &str) -> bool {
    let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    !text.is_empty() && text.bytes().all(token)
}
