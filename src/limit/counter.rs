//! Where a limit counts: the shared state of its policy, with or without keys.

use std::rc::Rc;
use std::time::Duration;

use crate::host::HostError;
use crate::limit::FailureMode;
use crate::limit::concurrency::Unmet;
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::policy::Policy;
use crate::limit::rule::Asker;
use crate::limit::token_bucket::TokenBucket;
use crate::limit::window::Window;
use crate::shared::leased::Leased;
use crate::shared::live::Latest;
use crate::shared::meter::{Denial, Grant, Meter};
use crate::shared::shares::{Context, KeyedShares, Shares};
use crate::shared::single::Single;
use crate::shared::table::{Eviction, KeyHash, Table};
use crate::shared::vacancies::Vacancies;
use crate::time::Timestamp;
use crate::worker::Worker;

/// The state of a limit.
#[derive(Debug)]
pub enum Counter {
    /// A token bucket for all requests, with the worker's lease of it.
    Leased(Leased),
    /// A token bucket per key.
    TokenBucket(Table<TokenBucket>),
    /// A queue, and the places in it that were given up.
    LeakyBucket(Counted<LeakyBucket>, Rc<Vacancies>),
    /// A window.
    Window(Counted<Window>),
    /// Requests in flight, all together.
    InFlight(Shares),
    /// Requests in flight per key.
    KeyedInFlight(KeyedShares),
}

/// The states of a meter: one, or one per key.
#[derive(Debug)]
pub enum Counted<M: Copy> {
    /// All requests together.
    Together(Single<M>),
    /// Each key apart.
    PerKey(Table<M>),
}

/// Where the state of a limit is kept.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Prefix of all records.
    pub scope: &'a str,
    /// Name of the limit.
    pub name: &'a str,
    /// Least number of keys; `None` if it has none.
    pub max_keys: Option<u32>,
    /// What to do about unreadable and full records.
    pub failure_mode: FailureMode,
}

/// An admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// How long it must wait before it goes on.
    pub wait: Duration,
    /// Whole units left, as far as this worker knows; `None` if it does not.
    pub remaining: Option<u64>,
}

impl<S> From<Grant<S>> for Admission {
    fn from(grant: Grant<S>) -> Self {
        Self { wait: grant.wait, remaining: Some(grant.remaining) }
    }
}

/// What a counter says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// That the request is admitted, or refused.
    pub result: Result<Admission, Denial>,
    /// Who had to go for its key.
    pub eviction: Eviction,
}

impl Answer {
    /// The request is admitted and has to wait so long.
    fn waits(wait: Duration) -> Self {
        Self { result: Ok(Admission { wait, remaining: None }), eviction: Eviction::None }
    }
}

/// What becomes of what a request took when its stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is used up; time brings it back.
    UsedUp,
    /// It is held until then.
    Held,
}

impl Counter {
    /// The state of the policy at the place.
    pub fn new(policy: Policy, place: &Place<'_>, worker: &Worker) -> Self {
        let meters = &worker.meters;
        let key = place.key(&policy);
        match (policy, place.max_keys) {
            (Policy::TokenBucket(bucket), None) => {
                let bucket = meters.token_buckets.of(&key, bucket);
                Self::Leased(Leased::new(Single::new(key, bucket, place.failure_mode), &worker.leases))
            }
            (Policy::TokenBucket(bucket), Some(max_keys)) => {
                let bucket = meters.token_buckets.of(&key, bucket);
                Self::TokenBucket(Table::new(key, max_keys, bucket, place.failure_mode))
            }
            (Policy::LeakyBucket(queue), _) => {
                let vacancies = worker.vacancies.of(&key);
                Self::LeakyBucket(Counted::new(key, queue, &meters.leaky_buckets, place), vacancies)
            }
            (Policy::Window(window), _) => Self::Window(Counted::new(key, window, &meters.windows, place)),
            (Policy::Concurrency(limit), None) => Self::InFlight(Shares::new(key, limit, &worker.holdings)),
            (Policy::Concurrency(limit), Some(max_keys)) => {
                Self::KeyedInFlight(KeyedShares::new(key, max_keys, limit, Rc::clone(&worker.holdings)))
            }
        }
    }

    /// Makes the policy the one by which the state at the place is judged in this worker, also by earlier configurations.
    pub fn announce(policy: Policy, place: &Place<'_>, worker: &Worker) {
        let (key, meters) = (place.key(&policy), &worker.meters);
        match policy {
            Policy::TokenBucket(bucket) => meters.token_buckets.announce(&key, bucket),
            Policy::LeakyBucket(queue) => meters.leaky_buckets.announce(&key, queue),
            Policy::Window(window) => meters.windows.announce(&key, window),
            Policy::Concurrency(_) => {}
        }
    }

    /// Takes `cost` units for the request.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn take(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Answer, HostError> {
        let Asker { host, worker, now, .. } = *asker;
        let units = u32::try_from(cost).unwrap_or(u32::MAX);
        match self {
            Self::Leased(bucket) => {
                let taken = bucket.take(host, &worker.trouble, cost, now)?;
                let admission = |left| Admission { wait: Duration::ZERO, remaining: Some(left) };
                Ok(Answer { result: taken.map(admission), eviction: Eviction::None })
            }
            Self::TokenBucket(table) => take_from_table(table, asker, key, cost),
            Self::LeakyBucket(counted, vacancies) => match vacancies.take(key, cost, now, counted.latest(now)) {
                Some(instant) => Ok(Answer::waits(instant.saturating_since(now))),
                None => counted.take(asker, key, cost),
            },
            Self::Window(counted) => counted.take(asker, key, cost),
            Self::InFlight(shares) => in_flight(shares.take(&context(asker), units)?),
            Self::KeyedInFlight(shares) => in_flight(shares.take(&context(asker), key, units)?),
        }
    }

    /// The refusal that the request would get, as far as that can be told cheaply. Takes nothing.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn peek(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Option<Denial>, HostError> {
        let Asker { host, worker, now, .. } = *asker;
        match self {
            Self::Leased(bucket) => bucket.peek(host, &worker.trouble, cost, now),
            Self::TokenBucket(table) => table.peek(host, &worker.trouble, key, cost, now),
            Self::LeakyBucket(counted, vacancies) if vacancies.has(key, cost, now, counted.latest(now)) => Ok(None),
            Self::LeakyBucket(counted, _) => counted.peek(asker, key, cost),
            Self::Window(counted) => counted.peek(asker, key, cost),
            // Nobody can tell how long these last.
            Self::InFlight(_) | Self::KeyedInFlight(_) => Ok(None),
        }
    }

    /// Gives back `cost` units that were taken at `taken`, or for that instant.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used; the units stay taken.
    pub fn give_back(&self, at: &Context<'_>, key: KeyHash, cost: u64, taken: Timestamp) -> Result<(), HostError> {
        let Context { host, trouble, now, .. } = *at;
        let units = u32::try_from(cost).unwrap_or(u32::MAX);
        match self {
            Self::Leased(bucket) => bucket.refund(host, trouble, cost, taken, now),
            // Time has brought these back already.
            Self::TokenBucket(table) if table.meter().fill_time() <= now.saturating_since(taken) => Ok(()),
            Self::TokenBucket(table) => table.refund(host, trouble, key, cost, taken, now).map(|_| ()),
            Self::LeakyBucket(counted, vacancies) => {
                if !counted.refund(at, key, cost, taken)? {
                    vacancies.leave(key, taken, cost, now);
                }
                Ok(())
            }
            Self::Window(counted) => counted.refund(at, key, cost, taken).map(|_| ()),
            Self::InFlight(shares) => shares.release(at, units),
            Self::KeyedInFlight(shares) => shares.release(at, key, units),
        }
    }

    /// What becomes of what a forwarded request took.
    pub fn keeps(&self) -> Kept {
        match self {
            Self::Leased(_) | Self::TokenBucket(_) | Self::LeakyBucket(..) | Self::Window(_) => Kept::UsedUp,
            Self::InFlight(_) | Self::KeyedInFlight(_) => Kept::Held,
        }
    }

    /// Gives back all that the worker took in advance.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn surrender(&self, at: &Context<'_>) -> Result<(), HostError> {
        match self {
            Self::Leased(bucket) => bucket.surrender(at.host, at.trouble, at.now),
            Self::InFlight(shares) => shares.settle(at),
            Self::TokenBucket(_) | Self::LeakyBucket(..) | Self::Window(_) | Self::KeyedInFlight(_) => Ok(()),
        }
    }

    /// Gives back what the worker took in advance and did not use in its time. Returns when to call again, `None` if there
    /// is no need.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn settle(&self, at: &Context<'_>) -> Result<Option<Duration>, HostError> {
        match self {
            Self::Leased(bucket) => bucket.settle(at.host, at.trouble, at.now),
            Self::InFlight(shares) => shares.settle(at).map(|()| None),
            Self::TokenBucket(_) | Self::LeakyBucket(..) | Self::Window(_) | Self::KeyedInFlight(_) => Ok(None),
        }
    }
}

impl Counted<LeakyBucket> {
    /// The latest instant for which anybody waits now.
    fn latest(&self, now: Timestamp) -> Timestamp {
        let queue = match self {
            Self::Together(single) => single.meter(),
            Self::PerKey(table) => table.meter(),
        };
        now.saturating_add(queue.max_wait())
    }
}

impl<M: Meter> Counted<M> {
    fn new(key: String, meter: M, latest: &Latest<M>, place: &Place<'_>) -> Self {
        let meter = latest.of(&key, meter);
        match place.max_keys {
            None => Self::Together(Single::new(key, meter, place.failure_mode)),
            Some(max_keys) => Self::PerKey(Table::new(key, max_keys, meter, place.failure_mode)),
        }
    }

    fn take(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Answer, HostError> {
        match self {
            Self::Together(single) => {
                let taken = single.take(asker.host, &asker.worker.trouble, cost, asker.now)?;
                Ok(Answer { result: taken.map(Admission::from), eviction: Eviction::None })
            }
            Self::PerKey(table) => take_from_table(table, asker, key, cost),
        }
    }

    fn peek(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Option<Denial>, HostError> {
        let trouble = &asker.worker.trouble;
        match self {
            Self::Together(single) => single.peek(asker.host, trouble, cost, asker.now),
            Self::PerKey(table) => table.peek(asker.host, trouble, key, cost, asker.now),
        }
    }

    fn refund(&self, at: &Context<'_>, key: KeyHash, cost: u64, taken: Timestamp) -> Result<bool, HostError> {
        match self {
            Self::Together(single) => single.refund(at.host, at.trouble, cost, taken, at.now),
            Self::PerKey(table) => table.refund(at.host, at.trouble, key, cost, taken, at.now),
        }
    }
}

impl Place<'_> {
    /// The key of the record or, with keys, the prefix of those of the table.
    fn key(&self, policy: &Policy) -> String {
        let kind = match policy {
            Policy::TokenBucket(_) => "token_bucket",
            Policy::LeakyBucket(_) => "leaky_bucket",
            Policy::Window(_) => "window",
            Policy::Concurrency(_) => "concurrency",
        };
        match self.max_keys {
            None => format!("outrigger/{}/{kind}/{}", self.scope, self.name),
            Some(_) => format!("outrigger/{}/{kind}_table/{}/", self.scope, self.name),
        }
    }
}

fn take_from_table<M: Meter>(
    table: &Table<M>,
    asker: &Asker<'_>,
    key: KeyHash,
    cost: u64,
) -> Result<Answer, HostError> {
    let taken = table.take(asker.host, &asker.worker.trouble, key, cost, asker.now)?;
    Ok(Answer { result: taken.result.map(Admission::from), eviction: taken.eviction })
}

fn context<'a>(asker: &Asker<'a>) -> Context<'a> {
    asker.worker.context(asker.host, asker.now)
}

/// Nobody knows when a request in flight will end, so a refusal makes no promise. A full table is a state that cannot be
/// used: the failure mode decides.
fn in_flight(answer: Result<(), Unmet>) -> Result<Answer, HostError> {
    let result = match answer {
        Ok(()) => Ok(Admission { wait: Duration::ZERO, remaining: None }),
        Err(Unmet::Limit(remaining)) => Err(Denial { remaining: u64::from(remaining), retry_after: None }),
        Err(Unmet::Crowded) => return Err(HostError { call: "concurrency_table_full", status: 0 }),
    };
    Ok(Answer { result, eviction: Eviction::None })
}
