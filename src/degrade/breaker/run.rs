//! Failures with no success between them, over all workers, judged by when they happened.
//!
//! Workers publish in batches, and late. So a run is no number that goes up and is set back: it is the failures that are later
//! than the last success, whoever published what first. Kept are the instant of that success, and the failures after it in a
//! few [groups](Group). To add outcomes is to merge, in any order.
//!
//! **Bound.** A threshold of at most [`GROUPS`] is exact: the run reaches it if and only if so many of the published failures are
//! later than every published success. Above, failures of the same [`CELL`] of time share a group, and a success that falls
//! among them breaks them all: a run begins up to one cell late. It never begins too early. The groups hold at least
//! [`GROUPS`] − 1 whole cells; a success that is published later than that breaks all failures before them, also those that
//! came after it. That is longer than a busy worker keeps an outcome to itself.

use std::time::Duration;

use crate::time::Timestamp;

/// Groups that are kept.
pub const GROUPS: usize = 8;

/// A cell of time is 2^25 nanoseconds long: 34 ms.
const CELL_BITS: u32 = 25;

/// How long a cell of time is.
pub const CELL: Duration = Duration::from_nanos(1 << CELL_BITS);

/// Failures that stay or go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// When the first of them was reported.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
    /// How many; none if the group's place is free.
    pub failures: u32,
}

/// Which failures share a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// None; those that do not fit are forgotten, for the others are enough to trip.
    Each,
    /// Those of a cell of time, and all that do not fit otherwise.
    Cell,
}

impl Grain {
    /// What serves a threshold of so many failures.
    pub fn of(threshold: u32) -> Self {
        if usize::try_from(threshold).is_ok_and(|it| it <= GROUPS) { Self::Each } else { Self::Cell }
    }
}

/// The last success, and the failures after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// When the last success was reported; zero if none is known.
    pub success: Timestamp,
    /// All later than the success; the newest first, free places last.
    pub groups: [Group; GROUPS],
}

impl Run {
    /// The outcomes of both.
    pub fn plus(&self, other: &Self, grain: Grain) -> Self {
        let mut run = Self { success: self.success.max(other.success), ..Self::default() };
        for group in self.groups.iter().chain(&other.groups) {
            run.add(*group, grain);
        }
        run
    }

    /// Takes note of a success that is later than all else.
    pub fn succeed(&mut self, then: Timestamp) {
        *self = Self { success: then, ..Self::default() };
    }

    /// Takes note of a failure.
    pub fn fail(&mut self, then: Timestamp, grain: Grain) {
        self.add(Group { first: then, last: then, failures: 1 }, grain);
    }

    /// How many failures in a row there are at `now`. Where none came for longer than a window, those before are forgotten.
    pub fn failures(&self, window: Duration, now: Timestamp) -> u32 {
        let mut failures: u32 = 0;
        let mut later = now;
        for group in self.groups.iter().take_while(|it| 0 < it.failures) {
            if window < later.saturating_since(group.last) {
                break;
            }
            failures = failures.saturating_add(group.failures);
            later = group.first;
        }
        failures
    }

    /// Whether no failure is later than the last success.
    pub fn is_empty(&self) -> bool {
        self.groups.first().is_none_or(|it| it.failures == 0)
    }

    /// The latest instant that it knows of.
    pub fn newest(&self) -> Timestamp {
        self.groups.iter().map(|it| it.last).fold(self.success, Timestamp::max)
    }

    fn add(&mut self, group: Group, grain: Grain) {
        if group.failures == 0 || group.first <= self.success {
            return;
        }
        let same = self.groups.iter_mut().find(|it| grain == Grain::Cell && it.shares_cell(&group));
        if let Some(same) = same {
            same.join(&group);
            return;
        }
        let mut moved = group;
        for place in &mut self.groups {
            if place.failures == 0 {
                *place = moved;
                return;
            }
            if place.first < moved.first {
                std::mem::swap(place, &mut moved);
            }
        }
        if let (Grain::Cell, Some(oldest)) = (grain, self.groups.last_mut()) {
            oldest.join(&moved);
        }
    }
}

impl Group {
    fn shares_cell(&self, other: &Self) -> bool {
        0 < self.failures && self.first.as_nanos() >> CELL_BITS == other.first.as_nanos() >> CELL_BITS
    }

    fn join(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.failures = self.failures.saturating_add(other.failures);
    }
}
