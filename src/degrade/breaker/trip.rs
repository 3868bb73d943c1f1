//! When a breaker trips.

use std::time::Duration;

use crate::degrade::breaker::ratio::Ratio;
use crate::degrade::breaker::ring::{Counts, PARTS};
use crate::degrade::breaker::tally::Tally;
use crate::time::Timestamp;

/// Why a breaker opened: the `cause` of the change in the metric and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripReason {
    /// So many requests failed with no success between them. Also if a ratio was reached at the same time.
    ConsecutiveFailures,
    /// Too large a share failed. Also if too many were slow at the same time.
    FailureRatio,
    /// Too large a share was slow.
    SlowRatio,
    /// A probe failed.
    ProbeFailed,
    /// A probe succeeded, but was slow.
    ProbeSlow,
    /// A probe was not heard of in its time: it hangs, or its worker is no more.
    ProbeLost,
}

impl TripReason {
    /// The word in the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRatio => "failure_ratio",
            Self::SlowRatio => "slow_ratio",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeSlow => "probe_slow",
            Self::ProbeLost => "probe_lost",
        }
    }
}

/// Failures with no success between them, over all workers.
///
/// Workers publish in batches, so "between" is known to the batch only: a batch with a success begins a new run with the
/// failures after its last success, whatever others published meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub failures: u32,
    /// When the last of them was reported.
    pub last: Timestamp,
}

impl Run {
    /// The run with the outcomes of a batch.
    pub fn plus(&self, tally: &Tally, window: Duration, now: Timestamp) -> Self {
        let before = if tally.succeeded || self.is_old(window, now) { Self::default() } else { *self };
        if tally.trailing == 0 {
            return before;
        }
        Self { failures: before.failures.saturating_add(tally.trailing), last: before.last.max(tally.last_failure) }
    }

    /// Whether the last failure is out of sight: longer ago than a window.
    fn is_old(&self, window: Duration, now: Timestamp) -> bool {
        window < now.saturating_since(self.last)
    }
}

/// The conditions under which a breaker trips. Without any it never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trip {
    /// Trips at so many failures in a row.
    pub(super) consecutive_failures: Option<u32>,
    /// Trips when this share of failures is proven.
    pub(super) failure_ratio: Option<Ratio>,
    /// Trips when this share of slow requests is proven.
    pub(super) slow_ratio: Option<Ratio>,
    /// Fewer requests prove no ratio.
    pub(super) min_requests: u32,
    /// A tenth of the window in nanoseconds, rounded up; never zero.
    pub(super) part: u64,
}

impl Trip {
    /// Length of a part of the ring, in nanoseconds.
    pub const fn part(&self) -> u64 {
        self.part
    }

    /// The time over which it is judged, rounded up to whole parts.
    pub const fn window(&self) -> Duration {
        Duration::from_nanos(self.part.saturating_mul(PARTS as u64))
    }

    /// Whether a ratio is judged, so that outcomes must be counted.
    pub const fn has_ratio(&self) -> bool {
        self.failure_ratio.is_some() || self.slow_ratio.is_some()
    }

    /// Whether anything is judged.
    pub const fn has_any(&self) -> bool {
        self.consecutive_failures.is_some() || self.has_ratio()
    }

    /// Why it should trip, if it should; the first reason in the order of [`TripReason`].
    pub fn reason(&self, run: &Run, counts: Counts, now: Timestamp) -> Option<TripReason> {
        if self.consecutive_failures.is_some_and(|most| most <= run.failures) && !run.is_old(self.window(), now) {
            return Some(TripReason::ConsecutiveFailures);
        }
        if counts.total < self.min_requests {
            return None;
        }
        if self.failure_ratio.is_some_and(|ratio| ratio.is_proven_by(counts.failed, counts.total)) {
            return Some(TripReason::FailureRatio);
        }
        if self.slow_ratio.is_some_and(|ratio| ratio.is_proven_by(counts.slow, counts.total)) {
            return Some(TripReason::SlowRatio);
        }
        None
    }
}
