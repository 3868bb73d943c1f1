//! When a breaker trips.

use std::time::Duration;

use crate::degrade::breaker::ratio::Ratio;
use crate::degrade::breaker::ring::{Counts, PARTS};
use crate::degrade::breaker::run::Grain;
use crate::degrade::breaker::stop::Stop;
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

    /// What the word means, in Markdown: for the reference, and not in the shipped module.
    #[cfg(not(target_arch = "wasm32"))]
    #[rustfmt::skip]
    pub const fn means(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "as many requests failed in a row as `consecutive_failures` says",
            Self::FailureRatio => "the share of failures reached `failure_ratio`",
            Self::SlowRatio => "the share of slow requests reached `slow_ratio`",
            Self::ProbeFailed => "a probe failed",
            Self::ProbeSlow => "a probe succeeded, but was slow",
            Self::ProbeLost => "a probe was not heard of in its time: it hangs, or its worker is no more",
        }
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

    /// Whether failures in a row are judged.
    pub const fn has_run(&self) -> bool {
        self.consecutive_failures.is_some()
    }

    /// How exactly failures in a row are kept.
    pub fn grain(&self) -> Grain {
        self.consecutive_failures.map_or(Grain::Cell, Grain::of)
    }

    /// Whether requests that hang are to be counted while they do.
    pub const fn sees_slow(&self) -> bool {
        self.slow_ratio.is_some()
    }

    /// When a dead stop is to be believed, if this is one: its requests alone prove that too many are slow.
    pub fn settles(&self, stop: &Stop) -> Option<Timestamp> {
        let ratio = self.slow_ratio?;
        stop.settles(self.min_requests).filter(|_| ratio.is_proven_by(stop.slow, stop.slow))
    }

    /// Whether it should trip because of a dead stop. What is older than a window is left to the ratio.
    pub fn is_stopped(&self, stop: &Stop, now: Timestamp) -> bool {
        let is_recent = now.saturating_since(stop.since) <= self.window();
        is_recent && self.settles(stop).is_some_and(|it| it <= now)
    }

    /// Why it should trip after so many failures in a row, and with these counts of a window, if it should; the first reason in
    /// the order of [`TripReason`].
    pub fn reason(&self, in_a_row: u32, counts: Counts) -> Option<TripReason> {
        if self.consecutive_failures.is_some_and(|most| most <= in_a_row) {
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
