//! Where a limit counts: the shared state of its policy, with or without keys.

use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::limit::concurrency::Unmet;
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::policy::Policy;
use crate::limit::rule::Asker;
use crate::limit::shares::{KeyedShares, Overdue, Shares};
use crate::limit::store::Store;
use crate::limit::token_bucket::TokenBucket;
use crate::limit::window::{LeasedWindow, Window};
use crate::shared::failure_mode::FailureMode;
use crate::shared::leased::{Got, Leased};
use crate::shared::meter::{Denial, Grant, Leasable, Meter};
use crate::shared::single::Single;
use crate::shared::table::{Eviction, KeyHash, Table};
use crate::shared::vacancies::Vacancies;
use crate::time::Timestamp;

/// The state of a limit.
#[derive(Debug)]
pub enum Counter {
    /// A token bucket for all requests, with the worker's lease of it.
    TokenBucket(Leased<TokenBucket>),
    /// A token bucket per key.
    KeyedTokenBucket(Table<TokenBucket>),
    /// A queue for all requests, and the places in it that were given up. Nothing of it is leased.
    LeakyBucket(Leased<LeakyBucket>, Rc<Vacancies>),
    /// A queue per key, and the places in them that were given up.
    KeyedLeakyBucket(Table<LeakyBucket>, Rc<Vacancies>),
    /// A window for all requests, with the worker's lease of it.
    Window(Leased<LeasedWindow>),
    /// A window per key.
    KeyedWindow(Table<Window>),
    /// Requests in flight, all together.
    InFlight(Shares),
    /// Requests in flight per key.
    KeyedInFlight(KeyedShares),
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
    /// When what it took was counted or, for a queue, the instant that it took.
    pub taken: Timestamp,
}

impl From<Got> for Admission {
    fn from(got: Got) -> Self {
        Self { wait: got.wait, remaining: Some(got.remaining), taken: got.counted.saturating_add(got.wait) }
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
    /// The answer of a limit without keys.
    fn of_all(result: Result<Got, Denial>) -> Self {
        Self { result: result.map(Admission::from), eviction: Eviction::None }
    }

    /// The request is admitted and has to wait until the instant.
    fn waits(instant: Timestamp, now: Timestamp) -> Self {
        let wait = instant.saturating_since(now);
        Self { result: Ok(Admission { wait, remaining: None, taken: instant }), eviction: Eviction::None }
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
    pub fn new(policy: Policy, place: &Place<'_>, store: &Store) -> Self {
        let meters = &store.meters;
        let key = place.key(&policy);
        match (policy, place.max_keys) {
            (Policy::TokenBucket(bucket), None) => {
                let bucket = meters.token_buckets.of(&key, bucket);
                Self::TokenBucket(Leased::new(Single::new(key, bucket, place.failure_mode), &store.leases))
            }
            (Policy::TokenBucket(bucket), Some(max_keys)) => {
                let bucket = meters.token_buckets.of(&key, bucket);
                Self::KeyedTokenBucket(Table::new(key, max_keys, bucket, place.failure_mode))
            }
            (Policy::LeakyBucket(queue), None) => {
                let (queue, vacancies) = (meters.leaky_buckets.of(&key, queue), store.vacancies.of(&key));
                let single = Single::new(key, queue, place.failure_mode);
                Self::LeakyBucket(Leased::new(single, &store.leases), vacancies)
            }
            (Policy::LeakyBucket(queue), Some(max_keys)) => {
                let (queue, vacancies) = (meters.leaky_buckets.of(&key, queue), store.vacancies.of(&key));
                Self::KeyedLeakyBucket(Table::new(key, max_keys, queue, place.failure_mode), vacancies)
            }
            (Policy::Window(window), None) => {
                let window = meters.leased_windows.of(&key, window.leased());
                Self::Window(Leased::new(Single::new(key, window, place.failure_mode), &store.leases))
            }
            (Policy::Window(window), Some(max_keys)) => {
                let window = meters.windows.of(&key, window);
                Self::KeyedWindow(Table::new(key, max_keys, window, place.failure_mode))
            }
            (Policy::Concurrency(limit), None) => {
                let limit = meters.concurrency.of(&key, limit);
                Self::InFlight(Shares::new(key, limit, &store.holdings))
            }
            (Policy::Concurrency(limit), Some(max_keys)) => {
                let limit = meters.concurrency.of(&key, limit);
                Self::KeyedInFlight(KeyedShares::new(key, max_keys, limit, Rc::clone(&store.holdings)))
            }
        }
    }

    /// Makes the policy the one by which the state at the place is judged in this worker, also by earlier configurations.
    pub fn announce(policy: Policy, place: &Place<'_>, store: &Store) {
        let (key, meters) = (place.key(&policy), &store.meters);
        match (policy, place.max_keys) {
            (Policy::TokenBucket(bucket), _) => meters.token_buckets.announce(&key, bucket),
            (Policy::LeakyBucket(queue), _) => meters.leaky_buckets.announce(&key, queue),
            (Policy::Window(window), None) => meters.leased_windows.announce(&key, window.leased()),
            (Policy::Window(window), Some(_)) => meters.windows.announce(&key, window),
            (Policy::Concurrency(limit), _) => meters.concurrency.announce(&key, limit),
        }
    }

    /// Takes `cost` units for the request.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn take(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Answer, HostError> {
        let (cx, now) = (asker.cx, asker.cx.now());
        let units = u32::try_from(cost).unwrap_or(u32::MAX);
        match self {
            Self::TokenBucket(bucket) => Ok(Answer::of_all(bucket.take(cx, cost)?)),
            Self::KeyedTokenBucket(table) => take_from_table(table, asker, key, cost),
            Self::LeakyBucket(queue, vacancies) => match vacancies.take(key, cost, now, latest(&queue.meter(), now)) {
                Some(instant) => Ok(Answer::waits(instant, now)),
                None => Ok(Answer::of_all(queue.take(cx, cost)?)),
            },
            Self::KeyedLeakyBucket(table, vacancies) => {
                match vacancies.take(key, cost, now, latest(&table.meter(), now)) {
                    Some(instant) => Ok(Answer::waits(instant, now)),
                    None => take_from_table(table, asker, key, cost),
                }
            }
            Self::Window(window) => Ok(Answer::of_all(window.take(cx, cost)?)),
            Self::KeyedWindow(table) => take_from_table(table, asker, key, cost),
            Self::InFlight(shares) => in_flight(shares.take(asker.cx, units)?, now),
            Self::KeyedInFlight(shares) => in_flight(shares.take(asker.cx, key, units)?, now),
        }
    }

    /// The refusal that the request would get, as far as that can be told cheaply. Takes nothing.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn peek(&self, asker: &Asker<'_>, key: KeyHash, cost: u64) -> Result<Option<Denial>, HostError> {
        let (cx, now) = (asker.cx, asker.cx.now());
        match self {
            Self::TokenBucket(bucket) => bucket.peek(cx, cost),
            Self::KeyedTokenBucket(table) => table.peek(cx, key, cost),
            Self::LeakyBucket(queue, vacancies) => match vacancies.has(key, cost, now, latest(&queue.meter(), now)) {
                true => Ok(None),
                false => queue.peek(cx, cost),
            },
            Self::KeyedLeakyBucket(table, vacancies) => {
                match vacancies.has(key, cost, now, latest(&table.meter(), now)) {
                    true => Ok(None),
                    false => table.peek(cx, key, cost),
                }
            }
            Self::Window(window) => window.peek(cx, cost),
            Self::KeyedWindow(table) => table.peek(cx, key, cost),
            // Nobody can tell how long these last.
            Self::InFlight(_) | Self::KeyedInFlight(_) => Ok(None),
        }
    }

    /// Gives back `cost` units that were taken at `taken`, or for that instant.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used; the units stay taken until time brings them back or, of requests in flight, until they
    /// can be given back.
    pub fn give_back(&self, cx: &Cx<'_>, key: KeyHash, cost: u64, taken: Timestamp) -> Result<(), HostError> {
        let now = cx.now();
        let units = u32::try_from(cost).unwrap_or(u32::MAX);
        match self {
            Self::TokenBucket(bucket) => bucket.refund(cx, cost, taken).map(|_| ()),
            // Time has brought these back already.
            Self::KeyedTokenBucket(table) if table.meter().is_back(taken, now) => Ok(()),
            Self::KeyedTokenBucket(table) => table.refund(cx, key, cost, taken).map(|_| ()),
            Self::LeakyBucket(queue, vacancies) => {
                if !queue.refund(cx, cost, taken)? {
                    vacancies.leave(key, taken, cost, now);
                }
                Ok(())
            }
            Self::KeyedLeakyBucket(table, vacancies) => {
                if !table.refund(cx, key, cost, taken)? {
                    vacancies.leave(key, taken, cost, now);
                }
                Ok(())
            }
            Self::Window(window) => window.refund(cx, cost, taken).map(|_| ()),
            Self::KeyedWindow(table) => table.refund(cx, key, cost, taken).map(|_| ()),
            Self::InFlight(shares) => shares.release(cx, taken, units),
            Self::KeyedInFlight(shares) => shares.release(cx, key, taken, units),
        }
    }

    /// What becomes of what a forwarded request took.
    pub fn keeps(&self) -> Kept {
        match self {
            Self::InFlight(_) | Self::KeyedInFlight(_) => Kept::Held,
            Self::TokenBucket(_)
            | Self::KeyedTokenBucket(_)
            | Self::LeakyBucket(..)
            | Self::KeyedLeakyBucket(..)
            | Self::Window(_)
            | Self::KeyedWindow(_) => Kept::UsedUp,
        }
    }

    /// Takes away from requests what they have held for too long; to be settled. Calls nobody.
    pub fn take_overdue(&self, now: Timestamp) -> Overdue {
        match self {
            Self::InFlight(shares) => shares.take_overdue(now),
            Self::KeyedInFlight(shares) => shares.take_overdue(now),
            Self::TokenBucket(_)
            | Self::KeyedTokenBucket(_)
            | Self::LeakyBucket(..)
            | Self::KeyedLeakyBucket(..)
            | Self::Window(_)
            | Self::KeyedWindow(_) => Overdue::default(),
        }
    }

    /// Gives back all that the worker took in advance.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn surrender(&self, cx: &Cx<'_>) -> Result<(), HostError> {
        match self {
            Self::TokenBucket(bucket) => bucket.surrender(cx),
            Self::Window(window) => window.surrender(cx),
            Self::InFlight(shares) => shares.settle(cx),
            Self::KeyedTokenBucket(_)
            | Self::LeakyBucket(..)
            | Self::KeyedLeakyBucket(..)
            | Self::KeyedWindow(_)
            | Self::KeyedInFlight(_) => Ok(()),
        }
    }

    /// Gives back what the worker took in advance and did not use in its time. Returns when to call again, `None` if there
    /// is no need.
    ///
    /// # Errors
    ///
    /// The shared state cannot be used.
    pub fn settle(&self, cx: &Cx<'_>) -> Result<Option<Duration>, HostError> {
        match self {
            Self::TokenBucket(bucket) => bucket.settle(cx),
            Self::Window(window) => window.settle(cx),
            Self::InFlight(shares) => shares.settle(cx).map(|()| None),
            Self::KeyedTokenBucket(_)
            | Self::LeakyBucket(..)
            | Self::KeyedLeakyBucket(..)
            | Self::KeyedWindow(_)
            | Self::KeyedInFlight(_) => Ok(None),
        }
    }
}

/// The latest instant for which anybody waits now.
fn latest(queue: &LeakyBucket, now: Timestamp) -> Timestamp {
    now.saturating_add(queue.max_wait())
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
    let taken = table.take(asker.cx, key, cost)?;
    let admission = |grant: Grant<M::State>| Admission {
        wait: grant.wait,
        remaining: Some(grant.remaining),
        taken: asker.cx.now().saturating_add(grant.wait),
    };
    Ok(Answer { result: taken.result.map(admission), eviction: taken.eviction })
}

/// Nobody knows when a request in flight will end, so a refusal makes no promise. A full table is a state that cannot be
/// used: the failure mode decides.
fn in_flight(answer: Result<(), Unmet>, now: Timestamp) -> Result<Answer, HostError> {
    let result = match answer {
        Ok(()) => Ok(Admission { wait: Duration::ZERO, remaining: None, taken: now }),
        Err(Unmet::Limit(remaining)) => Err(Denial { remaining: u64::from(remaining), retry_after: None }),
        Err(Unmet::Crowded) => return Err(HostError { call: "concurrency_table_full", status: 0 }),
    };
    Ok(Answer { result, eviction: Eviction::None })
}
