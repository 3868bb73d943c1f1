//! Outcomes of the last while, in parts that are forgotten one by one.
//!
//! [`PARTS`] parts make up the window; one more is kept, the current one, which has hardly begun. So a whole window is
//! always in sight, and what is judged is between one and 1.1 windows old: were only ten kept, a dependency that takes
//! nearly the whole window to be convicted would get away with it nine times in ten.

use crate::shared::meter::LATEST_READER;
use crate::time::Timestamp;

/// Parts in a window.
pub const PARTS: usize = 10;

/// Parts that are kept.
pub const RING: usize = PARTS + 1;

/// Outcomes. A failure that took long is both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All requests whose outcome is known.
    pub total: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that took longer than they should, failed or not.
    pub slow: u32,
}

impl Counts {
    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            failed: self.failed.saturating_add(other.failed),
            slow: self.slow.saturating_add(other.slow),
        }
    }
}

/// The counts of the current part and those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Number of the current part since the clock's origin.
    pub current: u64,
    /// Newest first.
    pub counts: [Counts; RING],
}

impl Ring {
    /// Everything in sight.
    pub fn sum(&self) -> Counts {
        self.counts.iter().fold(Counts::default(), |sum, counts| sum.plus(*counts))
    }

    /// The ring as it stands at `now`, with parts of so many nanoseconds. One that lies further ahead than a late reader
    /// explains tells of a clock that went back, and is empty: what it holds happened at no instant of this clock.
    pub fn at(&self, part: u64, now: Timestamp) -> Self {
        let part = part.max(1);
        let current = now.as_nanos() / part;
        if current < self.current {
            let ahead = (self.current - current).saturating_mul(part);
            return if LATEST_READER.max(part) < ahead { Self::default() } else { *self };
        }
        let passed = usize::try_from(current - self.current).unwrap_or(RING).min(RING);
        let mut moved = Self { current, ..Self::default() };
        for (to, from) in moved.counts.iter_mut().skip(passed).zip(self.counts) {
            *to = from;
        }
        moved
    }

    /// The ring at `now` with outcomes of the instant `then` added, unless that is out of sight.
    pub fn plus(&self, part: u64, counts: Counts, then: Timestamp, now: Timestamp) -> Self {
        let mut ring = self.at(part, now);
        let age = ring.current.saturating_sub(then.as_nanos() / part.max(1));
        let place = usize::try_from(age).unwrap_or(RING);
        if let Some(place) = ring.counts.get_mut(place) {
            *place = place.plus(counts);
        }
        ring
    }

    /// The ring at `now` with the outcomes of another of the same parts, each in the part in which it happened.
    pub fn with(&self, part: u64, other: &Self, now: Timestamp) -> Self {
        let mut ring = self.at(part, now);
        for (counts, age) in other.counts.iter().zip(0_u64..) {
            let number = other.current.saturating_sub(age);
            let place = usize::try_from(ring.current.saturating_sub(number)).unwrap_or(RING);
            if let Some(place) = ring.counts.get_mut(place) {
                *place = place.plus(*counts);
            }
        }
        ring
    }
}
