//! Token bucket, kept as one timestamp.
//!
//! A bucket of `max_tokens` fills at a constant rate; a request passes if it finds the tokens it costs. The textbook
//! keeps a token count and the time of the last fill: two fields, a float that loses precision, and, worst, time that
//! is credited twice when workers write in another order than they read the clock (with clocks read up to 2 ms before
//! the write such a bucket admits nearly twice its rate).
//!
//! The *generic cell rate algorithm* (ITU-T I.371, also what `governor` and Envoy's newer bucket do) keeps one number,
//! the *theoretical arrival time*: the instant at which the bucket is full again. Taking tokens moves it forward.
//!
//! ```text
//! base  = max(tat, now)                 full since long ago counts as full now
//! new   = base + cost × emission        emission: time in which one token is added
//! admit iff new − now ≤ tolerance       tolerance = max_tokens × emission
//! ```
//!
//! What follows from it:
//!
//! * **Bound**: the tokens admitted in any interval of length Δ are at most `max_tokens + rate × Δ`. A request that
//!   reads the clock before another one but writes after it only ever sees a later `tat`, so order does not matter.
//! * **Clock**: if the clock steps back, or the record was written for a larger bucket, `tat` may lie further ahead than
//!   an empty bucket allows. It is taken to be an empty bucket: that admits nothing it should not, and costs at most
//!   one fill, not the size of the step.
//! * **Exact waits**: a refusal names the first instant at which the same request passes if nobody else takes tokens.
//!   One nanosecond earlier it is refused.
//!
//! # Resolution
//!
//! Times are kept in sixteenths of a nanosecond, so that fast buckets (bytes per second, say) lose nothing that
//! matters: `emission` is rounded up, hence the rate down, by less than rate / 1.6 × 10¹⁰: 0.00001 % at 1 000 tokens
//! per second, 0.6 % at a hundred million. A `u64` of sixteenths holds 36 years of uptime, after which it saturates.

use std::time::Duration;

use crate::shared::meter::{Denial, Grant, LATEST_READER, Leasable, Meter, Stamp};
use crate::time::Timestamp;

/// Resolution of a [`Tat`].
const TICKS_PER_NANO: u64 = 16;

/// The longest time a bucket may take to fill. Far beyond use, and far from overflow.
pub const MAX_FILL_TIME: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The fastest fill that a bucket represents: a token per nanosecond.
pub const MAX_TOKENS_PER_SEC: u64 = 1_000_000_000;

/// Why a bucket with these parameters cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepresentable {
    /// A parameter is zero, so the bucket would never admit anything or never fill.
    Zero,
    /// Filling the empty bucket takes longer than [`MAX_FILL_TIME`].
    TooSlow,
    /// Tokens come faster than [`MAX_TOKENS_PER_SEC`].
    TooFast,
}

/// The parameters of a bucket. Always positive and free of overflow; see [`TokenBucket::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    max_tokens: u64,
    /// The time in which one token is added, in ticks. Never zero.
    emission: u64,
}

/// The state of a bucket: the instant at which it is full again, in ticks. The default is a bucket that is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u64);

impl Tat {
    /// A bucket that is full.
    pub const FULL: Self = Self(0);

    /// Reads a state from a record. Any number is a state.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// For writing into a record.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Whether the bucket is full at `now`: its owner may be forgotten without loss.
    pub const fn is_full(self, now: Timestamp) -> bool {
        self.0 <= ticks(now)
    }
}

impl TokenBucket {
    /// A bucket of `max_tokens` to which `tokens_per_fill` are added evenly over each `fill_interval`.
    ///
    /// # Errors
    ///
    /// A parameter is zero; the bucket would take longer than [`MAX_FILL_TIME`] to fill; or tokens would come faster
    /// than [`MAX_TOKENS_PER_SEC`].
    pub fn new(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Result<Self, Unrepresentable> {
        let interval_ticks = fill_interval.as_nanos().saturating_mul(u128::from(TICKS_PER_NANO));
        if max_tokens == 0 || tokens_per_fill == 0 || interval_ticks == 0 {
            return Err(Unrepresentable::Zero);
        }
        let emission = interval_ticks.div_ceil(u128::from(tokens_per_fill));
        if interval_ticks < u128::from(tokens_per_fill) * u128::from(TICKS_PER_NANO) {
            return Err(Unrepresentable::TooFast);
        }
        let longest = MAX_FILL_TIME.as_nanos() * u128::from(TICKS_PER_NANO);
        if emission.saturating_mul(u128::from(max_tokens)) > longest {
            return Err(Unrepresentable::TooSlow);
        }
        let emission = u64::try_from(emission).map_err(|_| Unrepresentable::TooSlow)?;
        Ok(Self { max_tokens: u64::from(max_tokens), emission })
    }

    /// The size of the bucket in tokens.
    pub const fn max_tokens(&self) -> u64 {
        self.max_tokens
    }

    /// The time in which the empty bucket fills.
    pub const fn fill_time(&self) -> Duration {
        Duration::from_nanos(self.tolerance().div_ceil(TICKS_PER_NANO))
    }

    /// Ticks that the tokens taken so far need to come back, at most those of an empty bucket.
    const fn debt(&self, tat: Tat, now: u64) -> u64 {
        let debt = tat.0.saturating_sub(now);
        if self.tolerance() < debt { self.tolerance() } else { debt }
    }

    /// Ticks in which the empty bucket fills. Does not overflow: see [`MAX_FILL_TIME`].
    const fn tolerance(&self) -> u64 {
        self.max_tokens.saturating_mul(self.emission)
    }
}

impl Meter for TokenBucket {
    type State = Tat;

    const SIZE: usize = 8;
    const WHAT: &'static str = "token_bucket";

    fn take(&self, tat: Tat, cost: u64, now: Timestamp) -> Result<Grant<Tat>, Denial> {
        let remaining = self.available(tat, now);
        if self.max_tokens < cost {
            return Err(Denial { remaining, retry_after: None });
        }
        let now = ticks(now);
        let owed = self.debt(tat, now).saturating_add(cost.saturating_mul(self.emission));
        if self.tolerance() < owed {
            let wait = (owed - self.tolerance()).div_ceil(TICKS_PER_NANO);
            return Err(Denial { remaining, retry_after: Some(Duration::from_nanos(wait)) });
        }
        let remaining = (self.tolerance() - owed) / self.emission;
        Ok(Grant { state: Tat(now.saturating_add(owed)), remaining, wait: Duration::ZERO })
    }

    fn refund(&self, tat: Tat, cost: u64, _taken: Timestamp) -> Tat {
        Tat(tat.0.saturating_sub(cost.saturating_mul(self.emission)))
    }

    fn load(&self, tat: Tat, now: Timestamp) -> u64 {
        tat.0.saturating_sub(ticks(now))
    }

    fn exhausted(&self, now: Timestamp) -> Tat {
        Tat(ticks(now).saturating_add(self.tolerance()))
    }

    fn stamp(&self) -> Stamp {
        Stamp { size: self.max_tokens, pace: self.emission }
    }

    /// What counts is what was taken: a bucket of 20 with 5 taken becomes a bucket of 100 with 5 taken, at whatever rate.
    /// More taken than fits is an empty bucket.
    fn adopt(&self, tat: Tat, written: Stamp, now: Timestamp) -> Tat {
        let now = ticks(now);
        let debt = u128::from(tat.0.saturating_sub(now));
        let scaled = debt.saturating_mul(u128::from(self.emission)).div_ceil(u128::from(written.pace.max(1)));
        let debt = u64::try_from(scaled).unwrap_or(u64::MAX).min(self.tolerance());
        Tat(now.saturating_add(debt))
    }

    fn repair(&self, tat: Tat, now: Timestamp) -> Option<Tat> {
        let empty = self.exhausted(now);
        let ahead = tat.0.saturating_sub(empty.0) / TICKS_PER_NANO;
        if LATEST_READER < ahead { Some(empty) } else { None }
    }

    fn encode(tat: Tat, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&tat.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Tat> {
        bytes.try_into().ok().map(u64::from_le_bytes).map(Tat)
    }
}

impl Leasable for TokenBucket {
    /// Tokens are the worker's when they have left the bucket, however late it uses them.
    fn lifetime(&self) -> Duration {
        Duration::MAX
    }

    fn available(&self, tat: Tat, now: Timestamp) -> u64 {
        (self.tolerance() - self.debt(tat, ticks(now))) / self.emission
    }

    /// That in which so many are added.
    fn time_for(&self, tokens: u64) -> Option<Duration> {
        Some(Duration::from_nanos(tokens.saturating_mul(self.emission).div_ceil(TICKS_PER_NANO)))
    }

    /// Until an empty bucket is half full: the other half is for what else delays the worker.
    fn collects(&self) -> Duration {
        self.fill_time() / 2
    }

    fn is_back(&self, taken: Timestamp, now: Timestamp) -> bool {
        self.fill_time() <= now.saturating_since(taken)
    }
}

const fn ticks(now: Timestamp) -> u64 {
    now.as_nanos().saturating_mul(TICKS_PER_NANO)
}
