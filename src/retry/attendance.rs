//! Whether somebody sees the attempts of a rule's requests.
//!
//! To pay for retries one by one is safe only where an instance of the filter stands among the filters of every upstream that the
//! requests go to: an upstream without one would get retries that nobody pays for. Envoy tells nobody beforehand, so it is
//! learned: requests are paid for in advance until the attempts of one were seen, and again for [`PROBATION`] after one
//! whose were not. Mistakes thus cost at most what is under way when they show, and are charged afterwards.

use std::cell::Cell;
use std::time::Duration;

use crate::retry::policy::Payment;
use crate::time::Timestamp;

/// How long requests are paid for in advance after one whose attempts nobody saw. The default ttl of a budget, so that an upstream
/// without an instance gets at most one such burst for each cap.
pub const PROBATION: Duration = Duration::from_secs(10);

/// What one worker has learned about a rule. The default is nothing.
#[derive(Debug, Default)]
pub struct Attendance {
    seen: Cell<bool>,
    missed: Cell<Option<Timestamp>>,
}

impl Attendance {
    /// How a request is paid for that goes out now.
    pub fn payment(&self, now: Timestamp) -> Payment {
        let on_probation = self.missed.get().is_some_and(|missed| now.saturating_since(missed) < PROBATION);
        if self.seen.get() && !on_probation { Payment::OneByOne } else { Payment::InAdvance }
    }

    /// A request has ended whose attempts were seen.
    pub fn saw(&self) {
        self.seen.set(true);
    }

    /// A request has ended that was sent to the service without anybody seeing it.
    pub fn missed(&self, now: Timestamp) {
        self.missed.set(Some(now));
    }
}
