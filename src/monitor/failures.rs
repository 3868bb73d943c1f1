//! Which answers are failures.
//!
//! By default a status from 500 to 599 is, but for 501 and 505: those say that the request asked for what the service does not
//! do, and the service is well. Of gRPC, `UNAVAILABLE` and `DEADLINE_EXCEEDED` are, told by the statuses of HTTP that they
//! [stand for](http_status). Where nobody answered (no host, no connection, a reset, a timeout), no list is asked: that is a
//! failure to breakers, to retries, and to what takes the place of failures.

use crate::grpc::{DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE};

/// A set of statuses from [`FIRST`] to [`LAST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures([u64; WORDS]);

/// Whatever is below is an answer.
pub const FIRST: u16 = 400;
/// The last status that HTTP knows.
pub const LAST: u16 = 599;

const WORDS: usize = 4;

/// Part of a list of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// These are failures.
    With(u16, u16),
    /// These are none, whatever else the list says.
    Without(u16, u16),
}

/// A list that names no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamesNone;

impl Default for Failures {
    fn default() -> Self {
        Self::NONE.with(500, LAST).without(501, 501).without(505, 505)
    }
}

impl Failures {
    /// No status.
    pub const NONE: Self = Self([0; WORDS]);

    /// The statuses of a list, the order of which does not matter.
    ///
    /// # Errors
    ///
    /// There would be none.
    pub fn new(terms: &[Term]) -> Result<Self, NamesNone> {
        let mut failures = Self::NONE;
        for term in terms {
            if let Term::With(first, last) = term {
                failures = failures.with(*first, *last);
            }
        }
        for term in terms {
            if let Term::Without(first, last) = term {
                failures = failures.without(*first, *last);
            }
        }
        if failures == Self::NONE { Err(NamesNone) } else { Ok(failures) }
    }

    /// Whether the status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        place(status).is_some_and(|(word, bit)| self.0.get(word).is_some_and(|it| it & bit != 0))
    }

    /// Those of both.
    pub fn or(mut self, other: &Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
        self
    }

    fn with(mut self, first: u16, last: u16) -> Self {
        for (word, bit) in (first..=last).filter_map(place) {
            if let Some(word) = self.0.get_mut(word) {
                *word |= bit;
            }
        }
        self
    }

    fn without(mut self, first: u16, last: u16) -> Self {
        for (word, bit) in (first..=last).filter_map(place) {
            if let Some(word) = self.0.get_mut(word) {
                *word &= !bit;
            }
        }
        self
    }
}

fn place(status: u16) -> Option<(usize, u64)> {
    let index = status.checked_sub(FIRST).filter(|_| status <= LAST)?;
    Some((usize::from(index / 64), 1 << (index % 64)))
}

/// The status of HTTP that a gRPC status stands for, as far as it matters: an answer that says no is a 400.
pub const fn http_status(grpc: u32) -> u16 {
    match grpc {
        0 => 200,
        DEADLINE_EXCEEDED => 504,
        RESOURCE_EXHAUSTED => 429,
        UNAVAILABLE => 503,
        _ => 400,
    }
}
