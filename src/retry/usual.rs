//! How long requests of an operation usually take, so that one that cannot end in time need not begin.
//!
//! Judged by successes only: failures are often fast, and what they take says nothing about what an answer takes. The *usual
//! time* is the lower quartile: three of four successes took as long or longer. A median would refuse requests that every other
//! time would have made it, if half the answers come from a cache and the others do not.
//!
//! What is kept is a histogram of durations with eight buckets to each doubling (as HdrHistogram with three bits), from 1 ms to
//! over an hour; a bucket stands for its lower edge, so the usual time is up to an eighth too short, never too long.
//!
//! An operation whose requests are all refused has no successes to prove that it has become fast again. Three things keep it from
//! locking itself shut:
//!
//! * what is known fades: each success counts half after [`HALF_LIFE`], and all of them together for no more than
//!   [`MAX_SUCCESSES`];
//! * without [`MIN_SUCCESSES`] nothing is judged;
//! * once in [`TRIAL_EVERY`] a request is let through that would be refused. Successes of these alone are a quarter of all that is
//!   known within a minute. A trial that something else refuses shows nothing, and is given back: the next request is one.
//!
//! If the clock goes back, what is known fades from there, and a trial is due.

use std::time::Duration;

use crate::time::Timestamp;

/// After so long a time, at the latest, a success counts half.
pub const HALF_LIFE: Duration = Duration::from_secs(10);

/// Without so many successes, those that have faded counted in part, nothing is judged.
pub const MIN_SUCCESSES: u32 = 20;

/// When there are more than so many, each counts half: what a busy operation did this minute must not outweigh what a few
/// trials say in the next.
pub const MAX_SUCCESSES: u32 = 500;

/// A service that is given so long could have answered, as far as anybody knows who has seen few successes or none.
pub const AMPLE: Duration = Duration::from_secs(1);

/// How often a worker lets a request through that it would refuse.
pub const TRIAL_EVERY: Duration = Duration::from_secs(1);

/// A success that has just been: may be halved six times.
const ONE: u16 = 1 << 6;

/// The first bucket ends at 2¹⁰ µs.
const FIRST_BITS: u32 = 10;
/// Buckets in a doubling, as a power of two.
const PART_BITS: u32 = 3;
const PARTS: usize = 1 << PART_BITS;
/// The last bucket has all from 2³² µs, 72 minutes.
const DOUBLINGS: usize = 22;
const BUCKETS: usize = 1 + DOUBLINGS * PARTS + 1;

/// How long the successes of one operation took, as one worker saw them.
#[derive(Clone, Debug)]
pub struct UsualTime {
    /// In [`ONE`]s. At most [`MAX_SUCCESSES`] of them, which fits.
    counts: [u16; BUCKETS],
    /// Of all counts.
    sum: u32,
    faded: Timestamp,
    last_trial: Option<Timestamp>,
}

/// Whether a request has the time that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// As far as anybody knows.
    Enough,
    /// Too little, but it is let through to see whether that is still so.
    Trial,
    /// Too little.
    TooLittle,
}

impl Default for UsualTime {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum: 0, faded: Timestamp::default(), last_trial: None }
    }
}

impl UsualTime {
    /// Takes note of a success: the time from when the request was sent on to when it was answered, at `then`. It may be long
    /// ago, for a stream ends when it likes; it has faded since.
    pub fn record(&mut self, took: Duration, then: Timestamp, now: Timestamp) {
        self.fade(now);
        let half_lives = self.faded.saturating_since(then).as_nanos().div_ceil(HALF_LIFE.as_nanos());
        let one = u32::try_from(half_lives).ok().and_then(|it| ONE.checked_shr(it)).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count = count.saturating_add(one);
            self.sum = self.sum.saturating_add(u32::from(one));
        }
        if worth(MAX_SUCCESSES) < self.sum {
            self.halve(1);
        }
    }

    /// The usual time; `None` if too little is known.
    pub fn time(&mut self, now: Timestamp) -> Option<Duration> {
        self.fade(now);
        if self.sum < worth(MIN_SUCCESSES) {
            return None;
        }
        let mut below: u32 = 0;
        let quartile = |count: &u16| {
            below = below.saturating_add(u32::from(*count));
            self.sum <= below.saturating_mul(4)
        };
        self.counts.iter().position(quartile).map(lower_edge)
    }

    /// Time enough for nearly all successes: 19 of 20 took less. While too little is known, enough for all that are known, and no
    /// less than [`AMPLE`]. Who allows less and gets no answer learns nothing of the service.
    pub fn ample(&mut self, now: Timestamp) -> Duration {
        self.fade(now);
        let known = worth(MIN_SUCCESSES) <= self.sum;
        let (share, least) = if known { (19, Duration::ZERO) } else { (20, AMPLE) };
        let mut below: u32 = 0;
        let reached = |count: &u16| {
            below = below.saturating_add(u32::from(*count));
            self.sum.saturating_mul(share) <= below.saturating_mul(20)
        };
        let last = self.counts.iter().position(reached).unwrap_or(BUCKETS);
        lower_edge(last.saturating_add(1)).max(least)
    }

    /// Judges a request that has so much time left. A request with exactly the usual time has enough.
    ///
    /// A request whose time is up is not to be asked for: it would be let through as a trial.
    pub fn judge(&mut self, left: Duration, now: Timestamp) -> Room {
        if self.time(now).is_none_or(|usual| usual <= left) {
            return Room::Enough;
        }
        let recent = |last: Timestamp| last <= now && now.saturating_since(last) < TRIAL_EVERY;
        if self.last_trial.is_some_and(recent) {
            return Room::TooLittle;
        }
        self.last_trial = Some(now);
        Room::Trial
    }

    /// Gives back the trial of a request that was judged at `then` and was not sent on, unless there was another one since.
    pub fn give_back(&mut self, then: Timestamp) {
        self.last_trial = self.last_trial.filter(|last| *last != then);
    }

    fn fade(&mut self, now: Timestamp) {
        let half_lives = now.saturating_since(self.faded).as_nanos() / HALF_LIFE.as_nanos();
        let half_lives = u32::try_from(half_lives).unwrap_or(u32::MAX);
        if half_lives == 0 {
            self.faded = self.faded.min(now);
            return;
        }
        self.halve(half_lives);
        self.faded = self.faded.saturating_add(HALF_LIFE.saturating_mul(half_lives));
    }

    fn halve(&mut self, times: u32) {
        for count in &mut self.counts {
            *count = count.checked_shr(times).unwrap_or(0);
        }
        self.sum = self.counts.iter().map(|count| u32::from(*count)).sum();
    }
}

const fn worth(successes: u32) -> u32 {
    successes.saturating_mul(ONE as u32)
}

fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let Some(bits) = micros.checked_ilog2().filter(|bits| FIRST_BITS <= *bits) else {
        return 0;
    };
    let doubling = (bits - FIRST_BITS) as usize;
    let part = (micros >> (bits - PART_BITS)) as usize % PARTS;
    (1 + doubling * PARTS + part).min(BUCKETS - 1)
}

fn lower_edge(bucket: usize) -> Duration {
    let Some(above) = bucket.checked_sub(1) else {
        return Duration::ZERO;
    };
    let parts = PARTS as u64 + (above % PARTS) as u64;
    Duration::from_micros(parts << (above / PARTS + (FIRST_BITS - PART_BITS) as usize))
}
