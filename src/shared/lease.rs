//! Units that one worker holds of a shared meter, so that it need not ask for each.
//!
//! A shared token bucket or window is exact, but costs two calls of the proxy per request, under a lock that all workers
//! share. A busy worker therefore takes a batch: as many units as it has lately used in one [`HORIZON`]. What follows says
//! tokens and bucket for both. Tokens are taken from the bucket when they are leased, so the sum over all workers stays
//! exact, and the bound of a token bucket becomes
//!
//! ```text
//! admitted in any interval of length Δ  ≤  max_tokens + rate × Δ + tokens on lease
//! ```
//!
//! where the tokens on lease are at most what all workers together have lately used in a horizon, and a quarter more. The
//! bound of a window stays what it is: it says for how long units may be used after they were counted
//! ([`Leasable::lifetime`]), and keeps them in sight for that much longer.
//!
//! * A worker that needs fewer than [`MIN_LEASE`] tokens in a horizon takes none in advance: it asks for each request and
//!   is exact. So does every worker if tokens may not be kept for a horizon and a quarter.
//! * At most a quarter of what is left is leased at once, and the last tokens one by one, so that none are stranded with one
//!   worker while another refuses.
//! * A refusal is remembered until there can be a token again.
//! * After [`STRAIN`] of want, in an overload that lasts, calls matter more than single tokens: a busy worker then takes up
//!   to half of what is left, and lets a batch [collect](COLLECT) before it asks again. So being refused costs next to
//!   nothing, which is when it matters. A worker that takes no batches stays exact.
//! * What is not used within [`LIFETIME`] goes back, to where it was counted.
//!
//! The arithmetic of leases follows the rule of two bounds: a batch per horizon bounds the calls at workers / horizon,
//! whatever the load; the lifetime bounds what an idle worker withholds.
//!
//! A [queue](crate::limit::leaky_bucket) is no meter to be leased from, since each of its places is an instant of its own: it
//! costs two calls for every request that it admits. Only its refusals are remembered. With one place coming free per
//! spacing, each worker asks at most once in that time and is refused, so an overloaded queue costs at most `workers` + 1
//! calls per request that leaves it, however many come.

use std::time::Duration;

use crate::shared::meter::{Leasable, Stamp};
use crate::time::Timestamp;

/// The time for which a lease is meant to last.
///
/// Longer would save calls and withhold more. With 8 workers, 20 ms make at most 400 exchanges a second: under a tenth of
/// a call per request at 10 000 requests per second.
pub const HORIZON: Duration = Duration::from_millis(20);

/// For how long a batch collects in a bucket that has less than is wanted.
///
/// With 8 workers at most 200 exchanges a second: near the limit each needs more calls than one.
pub const COLLECT: Duration = Duration::from_millis(40);

/// The time after which unused tokens go back, if the bucket does not want them back sooner.
pub const LIFETIME: Duration = Duration::from_millis(80);

/// The least batch that is worth while.
pub const MIN_LEASE: u64 = 8;

/// The longest time for which a refusal is remembered: tokens may come back early, given back by other workers.
pub const MAX_PAUSE: Duration = Duration::from_secs(1);

/// After so long a time of want the load is taken to stay: two horizons, because one may be a burst.
///
/// From cold, eight workers at twice the rate of a bucket of 1000 tokens make 0.07 calls per request in the first five
/// seconds; with half a second of patience it would be 0.21.
pub const STRAIN: Duration = Duration::from_millis(40);

/// A time without want that ends a time of want.
const LULL: Duration = Duration::from_secs(1);

/// What one worker holds of one meter, and what it knows of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    tokens: u64,
    /// What was left in the bucket when this worker last asked.
    in_bucket: u64,
    /// When the tokens were taken from the bucket.
    counted: Timestamp,
    demand: Demand,
    strain: Option<Strain>,
    pause: Option<Pause>,
}

/// A time of want, in which the bucket had less than this worker could use.
#[derive(Clone, Copy, Debug)]
struct Strain {
    since: Timestamp,
    last: Timestamp,
}

/// Until then there is nothing to be had of this bucket for requests of at least this cost. A configuration update may
/// have made it another bucket, of which nothing is known.
#[derive(Clone, Copy, Debug)]
struct Pause {
    bucket: Stamp,
    least: u64,
    until: Timestamp,
    /// When there is enough for the least: after `until` if that is the longest for which a refusal is remembered.
    enough: Timestamp,
}

/// What a worker does about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The lease has the tokens; they are taken from it.
    Granted,
    /// The bucket is known to have nothing for this long.
    Refused(Duration),
    /// The bucket must be asked; the answer goes to [`Lease::exchanged`].
    Ask(Exchange),
}

/// A trade with the shared bucket, in one update: what is left on lease for a new lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Tokens that go back.
    pub give_back: u64,
    /// When these were taken.
    pub counted: Timestamp,
    /// Tokens without which the trade is off, though what goes back does go back.
    pub least: u64,
    /// Tokens wanted, at least `least`.
    pub want: u64,
    /// What to take of a bucket that has little left.
    pub thrift: Thrift,
}

/// What an exchange gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// Tokens taken.
    pub taken: u64,
    /// Whole tokens left in the bucket.
    pub left: u64,
}

/// How a worker treats a bucket that has little left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thrift {
    /// It takes a quarter, and the last tokens one by one.
    Exact,
    /// It takes half.
    Cheap,
}

impl Exchange {
    /// How many tokens to take of a bucket that has `available`, once the others are back. `None`: too few.
    pub fn share_of(&self, available: u64) -> Option<u64> {
        if available < self.least {
            return None;
        }
        let most = match self.thrift {
            Thrift::Exact if available / 4 < MIN_LEASE => 0,
            Thrift::Exact => available / 4,
            Thrift::Cheap => available / 2,
        };
        Some(self.want.min(most).max(self.least))
    }
}

impl Lease {
    /// Asks for the tokens of one request.
    pub fn claim(&mut self, bucket: &impl Leasable, cost: u64, now: Timestamp) -> Claim {
        self.demand.record(cost, now);
        if self.has(bucket, cost, now) {
            self.tokens -= cost;
            return Claim::Granted;
        }
        if let Some(wait) = self.paused(bucket, cost, now) {
            self.strained(now);
            return Claim::Refused(wait);
        }
        let thrift = if self.is_strained(now) { Thrift::Cheap } else { Thrift::Exact };
        Claim::Ask(Exchange {
            give_back: self.tokens,
            counted: self.counted,
            least: cost,
            want: cost.max(self.batch(bucket)),
            thrift,
        })
    }

    /// Whether the lease has the tokens.
    pub fn has(&self, bucket: &impl Leasable, cost: u64, now: Timestamp) -> bool {
        cost <= self.tokens && !self.is_expired(bucket, now)
    }

    /// How long the bucket is known to have nothing for a request of this cost; `None` if it is not known.
    pub fn paused(&self, bucket: &impl Leasable, cost: u64, now: Timestamp) -> Option<Duration> {
        let pause = self.pause.filter(|pause| pause.bucket == bucket.stamp())?;
        let lasts = now < pause.until && pause.until <= now.saturating_add(MAX_PAUSE);
        if cost < pause.least || !lasts {
            return None;
        }
        let more = bucket.time_for(cost - pause.least)?;
        Some(pause.enough.saturating_add(more).saturating_since(now))
    }

    /// Takes note of an exchange that gave something.
    pub fn exchanged(&mut self, bucket: &impl Leasable, exchange: &Exchange, given: &Exchanged, now: Timestamp) {
        let taken = given.taken;
        self.in_bucket = given.left;
        self.tokens = taken.saturating_sub(exchange.least);
        self.counted = now;
        if taken < exchange.want {
            self.strained(now);
        }
        self.pause = match exchange.thrift {
            Thrift::Cheap if taken < exchange.want => {
                let until = now.saturating_add(self.collecting(bucket));
                let refill = bucket.time_for(u64::from(given.left == 0));
                let enough = refill.map(|refill| until.max(now.saturating_add(refill)));
                enough.map(|enough| Pause { bucket: bucket.stamp(), least: 1, until, enough })
            }
            Thrift::Cheap | Thrift::Exact => None,
        };
    }

    /// Takes note of an exchange that gave nothing: the bucket has enough after `wait`. Returns the time after which the
    /// request would pass, which is longer if this worker will not ask before. `None` for both: it never passes.
    pub fn refused(
        &mut self,
        bucket: &impl Leasable,
        exchange: &Exchange,
        wait: Option<Duration>,
        now: Timestamp,
    ) -> Option<Duration> {
        self.tokens = 0;
        let wait = wait?;
        self.strained(now);
        let pause = match exchange.thrift {
            Thrift::Exact => wait,
            Thrift::Cheap => wait.max(self.collecting(bucket)),
        };
        let until = now.saturating_add(pause.min(MAX_PAUSE));
        let enough = now.saturating_add(pause);
        self.pause = Some(Pause { bucket: bucket.stamp(), least: exchange.least, until, enough });
        Some(pause)
    }

    /// For how long a busy worker lets a batch collect: not so long that a small bucket overflows meanwhile, and not at all if
    /// nothing is added in that time.
    fn collecting(&self, bucket: &impl Leasable) -> Duration {
        let longest = COLLECT.min(bucket.collects());
        let collects = bucket.time_for(1).is_some_and(|time| time <= longest);
        if collects && 0 < self.batch(bucket) { longest } else { Duration::ZERO }
    }

    /// Takes note that the bucket had less than was wanted.
    fn strained(&mut self, now: Timestamp) {
        let since = match self.strain {
            Some(strain) if strain.since <= now && now.saturating_since(strain.last) < LULL => strain.since,
            _ => now,
        };
        self.strain = Some(Strain { since, last: now });
    }

    fn is_strained(&self, now: Timestamp) -> bool {
        self.strain.is_some_and(|strain| {
            now.saturating_since(strain.last) < LULL && STRAIN <= now.saturating_since(strain.since)
        })
    }

    /// Takes back tokens, counted at `counted`, of a request that was refused after all. Returns those that are to go back to
    /// the bucket at once: because the lease that they are of is over, and another would make them last longer than they may,
    /// or because this worker is not busy enough to use them soon: nobody holds more than a batch.
    pub fn give_back(&mut self, bucket: &impl Leasable, cost: u64, counted: Timestamp, now: Timestamp) -> u64 {
        self.pause = None;
        let kept = self.tokens.saturating_add(cost);
        if counted != self.counted || self.is_expired(bucket, now) || self.batch(bucket) < kept {
            return cost;
        }
        self.tokens = kept;
        0
    }

    /// The tokens whose time is up, to be given back to the bucket; zero if there are none. They are no longer on lease.
    pub fn expire(&mut self, bucket: &impl Leasable, now: Timestamp) -> u64 {
        if self.is_expired(bucket, now) { std::mem::take(&mut self.tokens) } else { 0 }
    }

    /// All tokens on lease, to be given back to the bucket. They are no longer on lease.
    pub fn surrender(&mut self) -> u64 {
        std::mem::take(&mut self.tokens)
    }

    /// When the tokens on lease were taken from the bucket.
    pub fn counted(&self) -> Timestamp {
        self.counted
    }

    /// Tokens that are left, as far as this worker knows.
    pub fn left(&self) -> u64 {
        self.tokens.saturating_add(self.in_bucket)
    }

    /// Tokens on lease.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How long the tokens on lease last; `None` if there are none.
    pub fn lasts(&self, bucket: &impl Leasable, now: Timestamp) -> Option<Duration> {
        if self.tokens == 0 {
            return None;
        }
        Some(self.counted.saturating_add(lifetime(bucket)).saturating_since(now))
    }

    /// Also if the clock went back so far that the lease would last longer than any.
    fn is_expired(&self, bucket: &impl Leasable, now: Timestamp) -> bool {
        now < self.counted || lifetime(bucket) <= now.saturating_since(self.counted)
    }

    /// Tokens for one horizon and a quarter more, because arrivals vary; zero if they are too few to be taken in advance, or
    /// would not last so long.
    fn batch(&self, bucket: &impl Leasable) -> u64 {
        let tokens = self.demand.per_horizon();
        if tokens < MIN_LEASE || lifetime(bucket) < HORIZON + HORIZON / 4 {
            return 0;
        }
        tokens + tokens / 4
    }
}

/// As long as the bucket allows it, and no longer than [`LIFETIME`].
fn lifetime(bucket: &impl Leasable) -> Duration {
    LIFETIME.min(bucket.lifetime())
}

/// How many tokens a worker uses in a horizon: an exponentially weighted mean over about five of them.
#[derive(Clone, Copy, Debug, Default)]
struct Demand {
    since: Timestamp,
    current: u64,
    /// In sixteenths, so that small demands do not round to nothing.
    mean: u64,
}

/// Weight of the latest horizon is one in this many.
const SMOOTHING: u64 = 5;
/// After as many horizons without a request, nothing is left of the mean.
const FORGOTTEN: u128 = 40;

impl Demand {
    fn record(&mut self, cost: u64, now: Timestamp) {
        let horizons = now.saturating_since(self.since).as_millis() / HORIZON.as_millis();
        if FORGOTTEN < horizons || now < self.since {
            *self = Self { since: now, current: 0, mean: 0 };
        } else {
            for _ in 0..horizons {
                let latest = self.current.saturating_mul(16);
                self.mean = match self.mean {
                    // Nothing is known yet, so this is the best guess.
                    0 => latest,
                    mean => mean - mean / SMOOTHING + latest / SMOOTHING,
                };
                self.current = 0;
                self.since = self.since.saturating_add(HORIZON);
            }
        }
        self.current = self.current.saturating_add(cost);
    }

    fn per_horizon(&self) -> u64 {
        self.mean / 16
    }
}
