//! Whether somebody sees the attempts of a rule's requests.
//!
//! To pay for retries one by one is safe only where an instance of the filter stands among the filters of every upstream that the
//! requests go to: an upstream without one would get retries that nobody pays for. Envoy tells nobody beforehand, so it is
//! learned: requests are paid for in advance until the attempts of one were seen, and again for a while after one whose were
//! not, twice as long each time. Whatever was retried until then nobody paid for: it is no more than what was under way, and
//! is [owed](crate::retry::budget::Account::charge). While anything is, requests are paid for in advance too.

use std::cell::Cell;
use std::time::Duration;

use crate::retry::policy::Payment;
use crate::time::Timestamp;

/// How long requests are paid for in advance after the first one whose attempts nobody saw: the default ttl of a budget.
pub const PROBATION: Duration = Duration::from_secs(10);

/// How long at most.
pub const LONGEST_PROBATION: Duration = Duration::from_secs(60 * 60);

/// What one worker has learned about a rule. The default is nothing.
#[derive(Debug, Default)]
pub struct Attendance {
    seen: Cell<bool>,
    /// When a request was last missed, and how long that counts.
    missed: Cell<Option<(Timestamp, Duration)>>,
}

impl Attendance {
    /// How a request is paid for that goes out now.
    pub fn payment(&self, now: Timestamp) -> Payment {
        if self.seen.get() && !self.is_on_probation(now) { Payment::OneByOne } else { Payment::InAdvance }
    }

    /// A request has ended whose attempts were seen.
    pub fn saw(&self) {
        self.seen.set(true);
    }

    /// A request has ended that was sent to the service without anybody seeing it.
    pub fn missed(&self, now: Timestamp) {
        let time = match self.missed.get() {
            None => PROBATION,
            // Of those that were under way, or were sent since.
            Some((_, time)) if self.is_on_probation(now) => time,
            Some((_, time)) => time.saturating_mul(2).min(LONGEST_PROBATION),
        };
        self.missed.set(Some((now, time)));
    }

    fn is_on_probation(&self, now: Timestamp) -> bool {
        self.missed.get().is_some_and(|(missed, time)| now.saturating_since(missed) < time)
    }
}
