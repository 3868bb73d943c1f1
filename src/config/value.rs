//! Field types that accept only good values.
//!
//! An error text is the offending value and the rule, `"0s", must be at least 1ms`; the reader puts the path before it.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::problem::quoted;
use super::text;
use crate::config;

/// A whole number from `MIN` to `MAX`. Istio turns numbers into doubles, so `5.0` is 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u32, const MAX: u32>(pub(super) u32);

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor::<MIN, MAX>)
    }
}

struct WholeVisitor<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> WholeVisitor<MIN, MAX> {
    fn check<E: de::Error>(number: Option<u32>, given: impl fmt::Display) -> Result<Whole<MIN, MAX>, E> {
        match number {
            Some(number) if MIN <= number && number <= MAX => Ok(Whole(number)),
            _ => Err(E::custom(format_args!("{given}, must be a whole number from {MIN} to {MAX}"))),
        }
    }
}

impl<const MIN: u32, const MAX: u32> Visitor<'_> for WholeVisitor<MIN, MAX> {
    type Value = Whole<MIN, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::check(u32::try_from(number).ok(), number)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::check(u32::try_from(number).ok(), number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        let whole = number.fract() == 0.0 && 0.0 <= number && number <= f64::from(u32::MAX);
        Self::check(if whole { Some(number as u32) } else { None }, format_args!("{number:?}"))
    }
}

/// A ratio: above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio(pub(super) f64);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        if 0.0 < number && number <= 1.0 {
            return Ok(Self(number));
        }
        Err(de::Error::custom(format_args!("{number}, must be above 0 and at most 1")))
    }
}

/// Of which requests the access log can print fields: a boolean, or the word for some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccessLog(pub(super) config::AccessLog);

impl<'de> Deserialize<'de> for AccessLog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccessLogVisitor)
    }
}

struct AccessLogVisitor;

impl Visitor<'_> for AccessLogVisitor {
    type Value = AccessLog;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"true, false or "decisions""#)
    }

    fn visit_bool<E: de::Error>(self, all: bool) -> Result<Self::Value, E> {
        Ok(AccessLog(if all { config::AccessLog::All } else { config::AccessLog::None }))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
        match word {
            "decisions" => Ok(AccessLog(config::AccessLog::Decisions)),
            _ => Err(E::custom(format_args!(r#"{}, must be true, false or "decisions""#, quoted(word)))),
        }
    }
}

/// A duration of at least a millisecond, written as text.
///
/// One or more numbers with a unit, `h`, `m`, `s` or `ms`, as Kubernetes and Go write them (`"1m30s"`, `"250ms"`), or `d`; a
/// number may have a decimal fraction (`"0.5s"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

const DURATION_RULE: &str = r#"must be a duration such as "250ms", "1m30s" or "1d" (units: ms, s, m, h, d)"#;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#"a duration such as "250ms", "1m30s" or "1d""#)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Err(E::custom(format_args!("{number}, {DURATION_RULE}")))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Err(E::custom(format_args!("{number}, {DURATION_RULE}")))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Err(E::custom(format_args!("{number}, {DURATION_RULE}")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let Some(duration) = parse_duration(text) else {
            return Err(E::custom(format_args!("{}, {DURATION_RULE}", quoted(text))));
        };
        if duration < Duration::from_millis(1) {
            return Err(E::custom(format_args!("{}, must be at least 1ms", quoted(text))));
        }
        Ok(Span(duration))
    }
}

/// `None` for anything that is no duration, and for more than 584 years.
fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, after) = rest.split_at_checked(number_end)?;
        let unit_end = after.find(|it: char| it.is_ascii_digit() || it == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let unit_nanos = match unit {
            "d" => 86_400_000_000_000,
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(number, unit_nanos)?)?;
        rest = after;
    }
    Some(Duration::from_nanos(total))
}

/// `number` times `unit`, exact to the nanosecond; digits beyond that are dropped.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let mut total = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() || !fraction.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(u64::from(digit.saturating_sub(b'0')).checked_mul(place)?)?;
    }
    Some(total)
}

/// A name: `[a-z0-9][a-z0-9-]{0,62}`. It appears in metrics, headers and keys of shared state as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let good = text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
        if good && !text.is_empty() && text.len() <= 63 && !text.starts_with('-') {
            return Ok(Self(text));
        }
        let rule = "must be 1 to 63 lower-case letters, digits and hyphens, not starting with a hyphen";
        Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))))
    }
}

/// A version: 1 to 63 of the characters that versions are made of, or a number, which is its digits. It becomes the label of a
/// metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionText(pub(super) String);

impl<'de> Deserialize<'de> for VersionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VersionVisitor)
    }
}

struct VersionVisitor;

impl Visitor<'_> for VersionVisitor {
    type Value = VersionText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<VersionText, E> {
        let good = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.:/+@".contains(&it));
        if good && !text.is_empty() && text.len() <= 63 {
            return Ok(VersionText(text.to_owned()));
        }
        Err(E::custom(format_args!("{}, must be 1 to 63 letters, digits and characters of -_.:/+@", quoted(text))))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<VersionText, E> {
        Err(text::not_a_boolean(value))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<VersionText, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<VersionText, E> {
        self.visit_str(&number.to_string())
    }

    /// A version is shown and compared with nothing, so that it does no harm if `1.10` was written and is shown as 1.1.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<VersionText, E> {
        self.visit_str(&number.to_string())
    }
}

/// A header that no request has: Envoy makes it the pseudo-header `:authority`.
pub(super) const HOST: &str = "host";

/// The name of an HTTP header (RFC 9110, section 5.1), in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderName(pub(super) String);

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rule = match is_token(&text) {
            true if text.eq_ignore_ascii_case(HOST) => {
                "is no header to Envoy, but :authority: use hosts in match, or the key part host"
            }
            true => return Ok(Self(text.to_ascii_lowercase())),
            false => "must be the name of a header",
        };
        Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))))
    }
}

/// The name of a cookie (RFC 6265, section 4.1.1), or the beginning of names and a `*`. A `*` is allowed in a name too, but nobody
/// writes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CookieNames(pub(super) String);

impl<'de> Deserialize<'de> for CookieNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rule = match text.strip_suffix('*').unwrap_or(&text) {
            "" if text == "*" => {
                "would be all cookies, those of sessions too: name the ones that say nothing of the user"
            }
            name if !name.contains('*') && is_token(name) => return Ok(Self(text)),
            _ => "must be the name of a cookie, or the beginning of names with a \"*\" at its end",
        };
        Err(de::Error::custom(format_args!("{}, {rule}", quoted(&text))))
    }
}

/// Whether the text is a token (RFC 9110, section 5.6.2), as names of headers, methods and cookies are.
pub(super) fn is_token(text: &str) -> bool {
    let token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    !text.is_empty() && text.bytes().all(token)
}

/// A list that says something: absent or with at least one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NonEmpty<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NonEmpty<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::deserialize(deserializer)?;
        if list.is_empty() {
            return Err(de::Error::custom("[], must not be empty (leave it out to match everything)"));
        }
        Ok(Self(list))
    }
}

/// Reads the structs from objects only. What serde derives takes an array of the fields' values too.
macro_rules! objects {
    ($($name:ident),*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FromMap;
                impl<'de> serde::de::Visitor<'de> for FromMap {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $name::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                deserializer.deserialize_map(FromMap)
            }
        }
    )*};
}
pub(super) use objects;

/// Reads an enum from its words.
macro_rules! words {
    ($name:ident, $rule:literal, $($word:literal => $variant:ident),*) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                match text.as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(serde::de::Error::custom(format_args!("{}, must be {}", crate::config::problem::quoted(&text), $rule))),
                }
            }
        }
    };
}
pub(super) use words;

/// An object of texts, in order, with whatever is given twice.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FromMap;
        impl<'de> Visitor<'de> for FromMap {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(FromMap)
    }
}
