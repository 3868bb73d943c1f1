//! Leaky bucket: arrivals at any rate leave at a constant one.
//!
//! Requests wait in a queue from which one leaves per `spacing`; who finds the queue full is refused. The queue is not a
//! list but, like the [token bucket](super::token_bucket), one timestamp: the instant of the next release that is still
//! free. A request that arrives reserves it and moves it on, so whoever is admitted knows at once when it goes on, the
//! order over all workers is that of the reservations, and nobody needs to be told when somebody leaves.
//!
//! ```text
//! release = max(next, now)
//! admit iff release − now ≤ capacity × spacing        the wait of the last of `capacity` waiting requests
//! next    = release + cost × spacing
//! ```
//!
//! * `capacity` counts waiting requests only; with 0 a request passes at its instant or not at all.
//! * A request that leaves from the end of the queue gives its place back here; one that leaves from the middle leaves an
//!   instant that its worker gives to somebody else, see [`vacancies`](crate::shared::vacancies).
//! * **Clock**: a `next` farther ahead than a full queue allows is taken for a full queue.

use std::time::Duration;

use crate::shared::meter::{Denial, Grant, LATEST_READER, Leasable, Meter, Stamp};
use crate::time::Timestamp;

/// The longest time that a request may have to wait.
pub const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// The parameters of a queue: see [`LeakyBucket::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeakyBucket {
    capacity: u64,
    /// Nanoseconds between two releases, never zero.
    spacing: u64,
}

/// The instant of the next release that is free, in nanoseconds. The default is a queue that is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextRelease(u64);

impl LeakyBucket {
    /// A queue of `capacity` from which `drain` requests leave per `drain_interval`, evenly spaced. `None` if nothing would
    /// ever leave, more than one would leave per nanosecond, or the last would wait longer than [`MAX_WAIT`].
    pub fn new(capacity: u32, drain: u32, drain_interval: Duration) -> Option<Self> {
        if drain == 0 || drain_interval.as_nanos() < u128::from(drain) {
            return None;
        }
        let spacing = drain_interval.as_nanos().div_ceil(u128::from(drain));
        if MAX_WAIT.as_nanos() < spacing.saturating_mul(u128::from(capacity.max(1))) {
            return None;
        }
        Some(Self { capacity: u64::from(capacity), spacing: u64::try_from(spacing).ok()? })
    }

    /// How many may wait.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The time between two releases.
    pub const fn spacing(&self) -> Duration {
        Duration::from_nanos(self.spacing)
    }

    /// The longest wait of an admitted request.
    pub const fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.longest())
    }

    const fn longest(&self) -> u64 {
        self.capacity.saturating_mul(self.spacing)
    }

    /// Nanoseconds until the next release that is free.
    fn ahead(&self, next: NextRelease, now: Timestamp) -> u64 {
        next.0.saturating_sub(now.as_nanos()).min(self.furthest())
    }

    /// How far ahead the next release is at most: after the dearest request has taken the last place.
    const fn furthest(&self) -> u64 {
        self.longest().saturating_add(self.capacity.saturating_add(1).saturating_mul(self.spacing))
    }
}

impl Meter for LeakyBucket {
    type State = NextRelease;

    const SIZE: usize = 8;
    const WHAT: &'static str = "leaky_bucket";

    fn take(&self, next: NextRelease, cost: u64, now: Timestamp) -> Result<Grant<NextRelease>, Denial> {
        let wait = self.ahead(next, now);
        let free = self.available(next, now);
        if self.capacity.saturating_add(1) < cost {
            return Err(Denial { remaining: free, retry_after: None });
        }
        if self.longest() < wait {
            let retry_after = Some(Duration::from_nanos(wait - self.longest()));
            return Err(Denial { remaining: 0, retry_after });
        }
        let state = NextRelease(now.as_nanos().saturating_add(wait).saturating_add(cost.saturating_mul(self.spacing)));
        Ok(Grant { state, remaining: free.saturating_sub(cost), wait: Duration::from_nanos(wait) })
    }

    /// Only the last place can be taken back, the one whose instant was `taken`: any other is not at the end.
    fn refund(&self, next: NextRelease, cost: u64, taken: Timestamp) -> NextRelease {
        let after = taken.as_nanos().saturating_add(cost.saturating_mul(self.spacing));
        if next.0 == after { NextRelease(taken.as_nanos()) } else { next }
    }

    fn load(&self, next: NextRelease, now: Timestamp) -> u64 {
        self.ahead(next, now)
    }

    fn exhausted(&self, now: Timestamp) -> NextRelease {
        NextRelease(now.as_nanos().saturating_add(self.longest()).saturating_add(self.spacing))
    }

    fn stamp(&self) -> Stamp {
        Stamp { size: self.capacity, pace: self.spacing }
    }

    /// As many requests wait as did; they are released at the new pace.
    fn adopt(&self, next: NextRelease, written: Stamp, now: Timestamp) -> NextRelease {
        let ahead = u128::from(next.0.saturating_sub(now.as_nanos()));
        let scaled = ahead.saturating_mul(u128::from(self.spacing)).div_ceil(u128::from(written.pace.max(1)));
        let ahead = u64::try_from(scaled).unwrap_or(u64::MAX).min(self.furthest());
        NextRelease(now.as_nanos().saturating_add(ahead))
    }

    fn repair(&self, next: NextRelease, now: Timestamp) -> Option<NextRelease> {
        let furthest = now.as_nanos().saturating_add(self.furthest());
        if LATEST_READER < next.0.saturating_sub(furthest) { Some(self.exhausted(now)) } else { None }
    }

    fn encode(next: NextRelease, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&next.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<NextRelease> {
        bytes.try_into().ok().map(u64::from_le_bytes).map(NextRelease)
    }
}

impl Leasable for LeakyBucket {
    /// Every place is an instant of its own, so none can be taken before somebody is there to wait for it.
    fn lifetime(&self) -> Duration {
        Duration::ZERO
    }

    fn available(&self, next: NextRelease, now: Timestamp) -> u64 {
        self.longest().checked_sub(self.ahead(next, now)).map_or(0, |room| room / self.spacing + 1)
    }

    /// Whoever finds the first place free gets as many as it needs.
    fn time_for(&self, _units: u64) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn collects(&self) -> Duration {
        Duration::ZERO
    }

    /// An instant that has passed is gone, and not at the end of the queue.
    fn is_back(&self, _taken: Timestamp, _now: Timestamp) -> bool {
        false
    }
}
