//! Among how many workers what is the sidecar's is divided.
//!
//! A worker that serves a request says so on the [roster](crate::shared::roster), and those who serve none for a while are
//! taken for gone, so that the others have their share. One who comes back after such a while cannot tell who else will: the
//! first of eight workers to be asked after a quiet minute would find itself alone, the second one of two, and together they
//! would spend 2.7 times the cap. So until everybody has had the time to say that he is there, there are as many as there were.

use std::cell::Cell;

use crate::shared::roster::EXPIRY;
use crate::time::Timestamp;

/// How many workers share, as one of them counts. The default is one that has not counted yet.
#[derive(Debug, Default)]
pub struct Sharers {
    count: Cell<u32>,
    /// When they were last counted, and since when without a gap.
    counted: Cell<Option<Timestamp>>,
    back: Cell<Timestamp>,
    /// How many there were before that; 0 if nobody knows.
    before: Cell<u32>,
}

impl Sharers {
    /// Counts them again, for a request that came at `now`, when so many are on the roster.
    pub fn count(&self, on_roster: u32, now: Timestamp) -> u32 {
        let counted = self.counted.replace(Some(now));
        if counted.is_none_or(|counted| EXPIRY <= now.saturating_since(counted)) {
            self.back.set(now);
            self.before.set(self.count.get());
        }
        let settled = EXPIRY <= now.saturating_since(self.back.get());
        self.count.set(if settled { on_roster } else { on_roster.max(self.before.get()) });
        self.last()
    }

    /// How many there were when they were last counted.
    pub fn last(&self) -> u32 {
        self.count.get().max(1)
    }
}
