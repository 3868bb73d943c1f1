//! The one unit of time inside the engine.
//!
//! Policies never ask for the time; they are given it. That makes every decision repeatable in a test and lets a
//! callback read the clock once.

use std::time::Duration;

/// An instant of the host's monotonic clock, in nanoseconds.
///
/// The origin is the host's affair (on Envoy it is the machine's boot), but it is the same for all workers of a
/// process, so instants may be kept in shared records. All arithmetic saturates: a clock that misbehaves yields a
/// wrong wait, never a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The end of time.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that passed since `earlier`, zero if `earlier` lies in the future.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `wait` later, or the end of time (584 years after the origin) if that comes first.
    pub fn saturating_add(self, wait: Duration) -> Self {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}
