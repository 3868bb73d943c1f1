//! How many tokens a request takes.

use crate::operation::request::Request;

/// Where the cost of a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The same for every request, at least 1.
    Fixed(u64),
    /// A request header, by its lower-case name.
    Header(String),
}

/// The cost of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priced {
    /// What was configured, or what the header says. A number beyond `u64` is as good as the largest: no bucket holds
    /// it.
    Tokens(u64),
    /// The header is there and holds no whole number of at least 1. Counts as 1.
    Malformed,
}

impl Cost {
    /// The cost of the request; 1 if the header is absent.
    pub fn of(&self, request: &Request<'_>) -> Priced {
        match self {
            Self::Fixed(tokens) => Priced::Tokens(*tokens),
            Self::Header(name) => match request.headers.get(name) {
                None => Priced::Tokens(1),
                Some(value) => parse(value.trim_ascii()),
            },
        }
    }
}

/// Reads decimal digits, nothing else: no sign, no fraction, no exponent.
fn parse(digits: &[u8]) -> Priced {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Priced::Malformed;
    }
    let tokens = digits
        .iter()
        .fold(0_u64, |tokens, digit| tokens.saturating_mul(10).saturating_add(u64::from(digit.saturating_sub(b'0'))));
    if tokens == 0 { Priced::Malformed } else { Priced::Tokens(tokens) }
}
