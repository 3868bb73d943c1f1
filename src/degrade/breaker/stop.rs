//! A dead stop: since some instant no request has been answered in time.
//!
//! A ratio over a window sees that late, because the window is full of good answers of before: half of ten seconds. But requests
//! that were slow one after the other, with no answer in time between them, prove a share by themselves, if there are enough of
//! them. So those since the last answer in time are judged as if they were all.
//!
//! Workers learn of each other's answers late. So a stop is believed when it has lasted for [`SETTLED`]; and an answer in time
//! that comes to be known late, and is of after the first slow request, takes back all of them: a stop may be found late for
//! that, and is never found where there was an answer.

use std::time::Duration;

use crate::time::Timestamp;

/// How long a stop must last: twice as long as a busy worker keeps its outcomes to itself.
pub const SETTLED: Duration = Duration::from_millis(500);

/// The last answer in time, and the slow requests since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// When a request was last answered in time; zero if that is not known.
    pub answered: Timestamp,
    /// When the first slow request after it was found.
    pub since: Timestamp,
    /// How many there were.
    pub slow: u32,
}

impl Stop {
    /// What both know.
    pub fn plus(&self, other: &Self) -> Self {
        let answered = self.answered.max(other.answered);
        let counts = |it: &&Self| 0 < it.slow && answered < it.since;
        let both = [self, other].into_iter().filter(counts);
        let since = both.clone().map(|it| it.since).min().unwrap_or_default();
        let slow = both.fold(0_u32, |sum, it| sum.saturating_add(it.slow));
        Self { answered, since, slow }
    }

    /// Takes note of an answer in time.
    pub fn answer(&mut self, then: Timestamp) {
        *self = Self { answered: then, ..Self::default() };
    }

    /// Takes note of slow requests.
    pub fn add_slow(&mut self, requests: u32, then: Timestamp) {
        *self = self.plus(&Self { since: then, slow: requests, ..Self::default() });
    }

    /// When it has lasted long enough, if there is one of so many requests.
    pub fn settles(&self, requests: u32) -> Option<Timestamp> {
        (0 < self.slow && requests <= self.slow).then(|| self.since.saturating_add(SETTLED))
    }
}
