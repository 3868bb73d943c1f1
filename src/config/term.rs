//! Field types that are words of the interface: patterns, parts of keys, costs, methods.

use std::fmt;

use serde::de::value::{F64Deserializer, I64Deserializer, U64Deserializer};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::problem::quoted;
use super::value::{HOST, Whole, is_token};
use crate::config;
use crate::limit;
use crate::limit::key::KeyPart;
use crate::monitor::failures::{self, Term};
use crate::operation::pattern::{InvalidPath, PathPattern, Pattern};

/// The largest size, rate and cost of a bucket.
pub(super) const MAX_TOKENS: u32 = 1_000_000_000;

/// A method, in capitals however it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Method(pub(super) String);

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A star is the wildcard of hosts and paths, and no method that anybody sends.
        match is_token(&text) && text != "*" {
            true => Ok(Self(text.to_ascii_uppercase())),
            false => Err(de::Error::custom(format_args!("{}, must be a method such as \"GET\"", quoted(&text)))),
        }
    }
}

/// A pattern for hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostPattern(pub(super) Pattern);

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A name that is complete ends in a dot, which requests are compared without.
        let name = text.strip_suffix('.').unwrap_or(&text);
        if is_host_pattern(name) {
            return Ok(Self(Pattern::from_wildcard(&name.to_ascii_lowercase())));
        }
        Err(de::Error::custom(format_args!("{}, must be a host without scheme, port and path", quoted(&text))))
    }
}

/// Whether some host can match. A colon stands in brackets only, as part of an IPv6 address.
fn is_host_pattern(text: &str) -> bool {
    let text = text.as_bytes();
    let never = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/?#@\\".contains(byte);
    let bracketed = matches!(text, [b'[', ..] | [.., b']']);
    let has_port = text.windows(2).any(|it| it == b"]:") || (!bracketed && text.contains(&b':'));
    !text.is_empty() && !text.iter().any(never) && !has_port
}

/// A pattern for paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) pattern: PathPattern,
    /// As it was written.
    pub(super) text: String,
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rule = match PathPattern::parse(&text) {
            Ok(_) if text.contains('?') => "must not contain a query: paths match up to the \"?\"",
            Ok(_) if text.bytes().any(never_in_path) => {
                "must be written as in a request: encoded, without blanks and \"#\""
            }
            Ok(pattern) => return Ok(Self { pattern, text }),
            Err(InvalidPath::NotAbsolute) => "must start with \"/\" or \"*\"",
            Err(InvalidPath::StrayBrace) => "must use braces only for the segments \"{*}\" and \"{**}\"",
            Err(InvalidPath::StarInTemplate) => "must not mix \"*\" with the segments \"{*}\" and \"{**}\"",
            Err(InvalidPath::OperatorAfterMany) => "must have \"{**}\" as its last operator",
        };
        Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))))
    }
}

/// What Envoy lets no path have.
fn never_in_path(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || byte == b'#'
}

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) KeyPart);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let part = match (text.as_str(), text.split_once(':')) {
            ("client_ip", _) => KeyPart::ClientIp,
            ("method", _) => KeyPart::Method,
            ("path", _) => KeyPart::Path,
            ("host", _) => KeyPart::Host,
            ("operation", _) => KeyPart::Operation,
            (_, Some(("header", name))) if name.eq_ignore_ascii_case(HOST) => {
                let rule = "must be \"host\": Envoy keeps no header of that name";
                return Err(de::Error::custom(format_args!("{text:?}, {rule}")));
            }
            (_, Some(("header", name))) if is_token(name) => KeyPart::Header(name.to_ascii_lowercase()),
            (_, Some(("cookie", name))) if is_token(name) => KeyPart::Cookie(name.to_owned()),
            (_, Some(("query", name))) if !name.is_empty() => KeyPart::Query(name.to_owned()),
            _ => {
                let rule = "must be client_ip, method, path, host, operation, header:NAME, cookie:NAME or query:NAME";
                return Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))));
            }
        };
        Ok(Self(part))
    }
}

/// A key: at least one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyParts(pub(super) Vec<Key>);

impl<'de> Deserialize<'de> for KeyParts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Vec::deserialize(deserializer)?;
        if parts.is_empty() {
            let problem = "[], must not be empty (leave it out to count all requests together)";
            return Err(de::Error::custom(problem));
        }
        Ok(Self(parts))
    }
}

/// What a request costs: a number, or `header:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cost(pub(super) limit::cost::Cost);

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CostVisitor)
    }
}

struct CostVisitor;

impl CostVisitor {
    fn fixed<'de, D: Deserializer<'de>>(number: D) -> Result<Cost, D::Error> {
        let whole = Whole::<1, MAX_TOKENS>::deserialize(number)?;
        Ok(Cost(limit::cost::Cost::Fixed(u64::from(whole.0))))
    }
}

impl Visitor<'_> for CostVisitor {
    type Value = Cost;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a number or "header:NAME""#)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Cost, E> {
        match text.strip_prefix("header:") {
            Some(name) if is_token(name) && !name.eq_ignore_ascii_case(HOST) => {
                Ok(Cost(limit::cost::Cost::Header(name.to_ascii_lowercase())))
            }
            _ => Err(E::custom(format_args!(r#"{}, must be a number or "header:NAME""#, quoted(text)))),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Cost, E> {
        Self::fixed(U64Deserializer::new(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Cost, E> {
        Self::fixed(I64Deserializer::new(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Cost, E> {
        Self::fixed(F64Deserializer::new(number))
    }
}

/// A style of quota headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateLimitHeaders(pub(super) config::RateLimitHeaders);

impl<'de> Deserialize<'de> for RateLimitHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "ietf" => Ok(Self(config::RateLimitHeaders::Ietf)),
            "none" => Ok(Self(config::RateLimitHeaders::None)),
            "x-ratelimit" => Ok(Self(config::RateLimitHeaders::XRateLimit)),
            _ => {
                Err(de::Error::custom(format_args!("{}, must be \"ietf\", \"x-ratelimit\" or \"none\"", quoted(&text))))
            }
        }
    }
}

/// A part of a list of failures: a class or a status, as text or number, or as text with `!` before it what is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FailureStatus(pub(super) Term);

const FAILURE_STATUS: &str = "\"5xx\", \"4xx\" or a status from 400 to 599, as \"!501\" if it is no failure";

impl FailureStatus {
    fn parse(text: &str) -> Option<Self> {
        let (text, term): (_, fn(u16, u16) -> Term) = match text.strip_prefix('!') {
            Some(rest) => (rest, Term::Without),
            None => (text, Term::With),
        };
        let (first, last) = match text {
            "4xx" => (400, 499),
            "5xx" => (500, 599),
            one if one.starts_with('+') => return None,
            one => Some(one.parse().ok()?)
                .filter(|it| (failures::FIRST..=failures::LAST).contains(it))
                .map(|it| (it, it))?,
        };
        Some(Self(term(first, last)))
    }
}

impl<'de> Deserialize<'de> for FailureStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format_args!("{}, must be {FAILURE_STATUS}", quoted(&text))))
    }
}

/// An origin as browsers send it, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin(pub(super) String);

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let host = text.split_once("://").map(|(_, host)| host);
        let plain = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ', '?', '#']));
        if text == "*" || (plain && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())) {
            return Ok(Self(text));
        }
        let rule = "must be \"*\" or an origin in lower case such as \"https://shop.example.com\", without a path";
        Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))))
    }
}
