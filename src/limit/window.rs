//! Window: never more than so many requests in any interval of a given length.
//!
//! A counter that is reset every interval lets twice the limit through around the reset, and the usual remedy, weighing
//! the last interval's count by how much of it is still in sight, is right on average only: a caller who sends in bursts
//! gets nearly twice the limit too (as does a ring of sub-windows that sums only as many as make up the interval).
//!
//! So the interval is cut into sub-windows, and counted is the sum of more of them than make up the interval: the current
//! one, which has hardly begun, and all that may hold a request of the last interval. However an interval is laid, the
//! sum covers it, so no interval ever sees more than the limit. The price is that a request counts for longer than it
//! needs. There are two layouts, a key's and that of all requests together:
//!
//! | layout | sub-windows | in sight | a caller that always sends as much as it may gets | bytes |
//! | --- | --- | --- | --- | --- |
//! | [`Window`] | 10 | 11 | 10 / 11 of the limit, 91 % | 52 |
//! | [`LeasedWindow`] | 20 | 22 | 20 / 22 of the limit, 91 % | 96 |
//!
//! The second has one sub-window more in sight than the sum needs. So it holds its promise for requests that are let go up
//! to a sub-window after they were counted, as those are that a worker takes [in advance](crate::shared::lease).
//! Three quarters of a sub-window are for the lease; the rest is for a worker that is stopped between its reading of the clock
//! and its decision. A cell of a [table](crate::shared::table) is never leased and stays small.
//!
//! * **Order**: a request that reads the clock before another but is counted after it is counted with the later one.
//! * **Clock**: if the clock steps back by more than a second, what was counted is taken to have been counted now. It refuses
//!   more than it should for at most one interval, and never admits more.

use std::time::Duration;

use crate::shared::meter::{Denial, Grant, LATEST_READER, Leasable, Meter, Stamp};
use crate::time::Timestamp;

/// The longest interval.
pub const MAX_INTERVAL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A window that counts each request when it is let go.
pub type Window = Ring<10, 11>;

/// A window of which workers may take requests in advance.
pub type LeasedWindow = Ring<20, 22>;

/// The parameters of a window that cuts the interval into `PARTS` and sums `SEEN` of them: positive, see [`Ring::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring<const PARTS: usize, const SEEN: usize> {
    max_requests: u64,
    /// Length of a sub-window in nanoseconds, never zero. The interval divided by `PARTS`, rounded up.
    part: u64,
}

/// The counts of the current sub-window and those before it. The default is that of a key that was never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts<const SEEN: usize> {
    /// Number of the current sub-window since the clock's origin.
    current: u64,
    /// Newest first.
    ring: [u32; SEEN],
}

impl<const SEEN: usize> Default for Counts<SEEN> {
    fn default() -> Self {
        Self { current: 0, ring: [0; SEEN] }
    }
}

impl<const SEEN: usize> Counts<SEEN> {
    fn sum(&self) -> u64 {
        self.ring.iter().map(|count| u64::from(*count)).sum()
    }
}

impl Window {
    /// The same limit, in the layout of which workers may take requests in advance.
    pub fn leased(&self) -> LeasedWindow {
        Ring { max_requests: self.max_requests, part: self.nanos().div_ceil(LeasedWindow::DIVISOR) }
    }
}

impl<const PARTS: usize, const SEEN: usize> Ring<PARTS, SEEN> {
    const DIVISOR: u64 = PARTS as u64;

    /// A window of `max_requests` per `interval`; `None` if either is zero or the interval exceeds [`MAX_INTERVAL`].
    pub fn new(max_requests: u32, interval: Duration) -> Option<Self> {
        if max_requests == 0 || interval.is_zero() || MAX_INTERVAL < interval {
            return None;
        }
        let part = u64::try_from(interval.as_nanos().div_ceil(u128::from(Self::DIVISOR))).ok()?;
        Some(Self { max_requests: u64::from(max_requests), part })
    }

    /// The limit.
    pub const fn max_requests(&self) -> u64 {
        self.max_requests
    }

    /// The interval, rounded up to whole sub-windows.
    pub const fn interval(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// The length of a sub-window.
    pub const fn part(&self) -> Duration {
        Duration::from_nanos(self.part)
    }

    const fn nanos(&self) -> u64 {
        self.part.saturating_mul(Self::DIVISOR)
    }

    /// The counts as they stand at `now`.
    fn at(&self, counts: Counts<SEEN>, now: Timestamp) -> Counts<SEEN> {
        let current = now.as_nanos() / self.part;
        if current < counts.current {
            // Another worker's clock was read later: count with it.
            return counts;
        }
        let passed = usize::try_from(current - counts.current).unwrap_or(SEEN).min(SEEN);
        let mut moved = Counts { current, ring: [0; SEEN] };
        for (to, from) in moved.ring.iter_mut().skip(passed).zip(counts.ring) {
            *to = from;
        }
        moved
    }

    /// So many requests, all of them counted in the sub-window.
    fn all_now(&self, sum: u64, current: u64) -> Counts<SEEN> {
        let mut counts = Counts { current, ring: [0; SEEN] };
        if let Some(newest) = counts.ring.first_mut() {
            *newest = u32::try_from(sum.min(self.max_requests)).unwrap_or(u32::MAX);
        }
        counts
    }

    /// The time until enough of the oldest requests are out of sight for `needed` more.
    fn wait_for(&self, counts: &Counts<SEEN>, needed: u64, now: Timestamp) -> Duration {
        let mut freed: u64 = 0;
        let mut parts = 0;
        for count in counts.ring.iter().rev() {
            if needed <= freed {
                break;
            }
            freed = freed.saturating_add(u64::from(*count));
            parts += 1;
        }
        let instant = counts.current.saturating_add(parts).saturating_mul(self.part);
        Timestamp::from_nanos(instant).saturating_since(now)
    }
}

impl<const PARTS: usize, const SEEN: usize> Meter for Ring<PARTS, SEEN> {
    type State = Counts<SEEN>;

    const SIZE: usize = 8 + SEEN * 4;
    const WHAT: &'static str = "window";

    fn take(&self, counts: Counts<SEEN>, cost: u64, now: Timestamp) -> Result<Grant<Counts<SEEN>>, Denial> {
        let mut counts = self.at(counts, now);
        let sum = counts.sum();
        let remaining = self.max_requests.saturating_sub(sum);
        if self.max_requests < cost {
            return Err(Denial { remaining, retry_after: None });
        }
        if remaining < cost {
            let needed = sum.saturating_add(cost) - self.max_requests;
            return Err(Denial { remaining, retry_after: Some(self.wait_for(&counts, needed, now)) });
        }
        if let Some(newest) = counts.ring.first_mut() {
            // At most `max_requests`, which is a `u32`.
            *newest = newest.saturating_add(u32::try_from(cost).unwrap_or(u32::MAX));
        }
        Ok(Grant { state: counts, remaining: remaining - cost, wait: Duration::ZERO })
    }

    /// From the sub-window in which they were counted, or a newer one if that clock was late. What is out of sight is gone:
    /// taking it from newer requests instead would forget these.
    fn refund(&self, mut counts: Counts<SEEN>, cost: u64, taken: Timestamp) -> Counts<SEEN> {
        let age = counts.current.saturating_sub(taken.as_nanos() / self.part);
        let age = usize::try_from(age).unwrap_or(SEEN);
        if SEEN <= age {
            return counts;
        }
        let mut left = u32::try_from(cost).unwrap_or(u32::MAX);
        for count in counts.ring.iter_mut().take(age + 1).rev() {
            let back = left.min(*count);
            *count -= back;
            left -= back;
        }
        counts
    }

    fn load(&self, counts: Counts<SEEN>, now: Timestamp) -> u64 {
        self.at(counts, now).sum()
    }

    fn exhausted(&self, now: Timestamp) -> Counts<SEEN> {
        self.all_now(self.max_requests, now.as_nanos() / self.part)
    }

    fn stamp(&self) -> Stamp {
        Stamp { size: self.max_requests, pace: self.part }
    }

    /// What was counted under another interval is taken to have been counted now.
    fn adopt(&self, counts: Counts<SEEN>, written: Stamp, now: Timestamp) -> Counts<SEEN> {
        if written.pace == self.part {
            return counts;
        }
        let before = Self { part: written.pace.max(1), max_requests: self.max_requests };
        self.all_now(before.load(counts, now), now.as_nanos() / self.part)
    }

    fn repair(&self, counts: Counts<SEEN>, now: Timestamp) -> Option<Counts<SEEN>> {
        let current = now.as_nanos() / self.part;
        let ahead = counts.current.saturating_sub(current).saturating_mul(self.part);
        if LATEST_READER.max(self.part) < ahead { Some(self.all_now(counts.sum(), current)) } else { None }
    }

    fn encode(counts: Counts<SEEN>, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&counts.current.to_le_bytes());
        for count in counts.ring {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Counts<SEEN>> {
        let (current, ring) = bytes.split_first_chunk::<8>()?;
        if ring.len() != SEEN * 4 {
            return None;
        }
        let mut counts = Counts { current: u64::from_le_bytes(*current), ring: [0; SEEN] };
        for (count, bytes) in counts.ring.iter_mut().zip(ring.chunks_exact(4)) {
            *count = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
        }
        Some(counts)
    }
}

impl Leasable for LeasedWindow {
    /// Three quarters of a sub-window, so that a request is let go at most one after it was counted even if its worker is
    /// stopped for the fourth in between.
    fn lifetime(&self) -> Duration {
        Duration::from_nanos(self.part - self.part / 4)
    }

    fn available(&self, counts: Self::State, now: Timestamp) -> u64 {
        self.max_requests.saturating_sub(self.load(counts, now))
    }

    /// It depends on when they were counted.
    fn time_for(&self, units: u64) -> Option<Duration> {
        if units == 0 { Some(Duration::ZERO) } else { None }
    }

    /// What is out of sight comes back at once, so waiting makes it no more.
    fn collects(&self) -> Duration {
        Duration::ZERO
    }

    /// A refund sees by itself what is out of sight.
    fn is_back(&self, _taken: Timestamp, _now: Timestamp) -> bool {
        false
    }
}
