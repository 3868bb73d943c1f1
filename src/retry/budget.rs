//! Retry budget: retries are paid for by successes, so in an outage they stop by themselves.
//!
//! A number of attempts bounds what one request may do, not what all of them do together: with three attempts, a service
//! that fails gets three times its load just when it can bear it least, and stays down when the cause is gone (a *metastable*
//! failure: Bronson et al., HotOS'21; Huang et al., OSDI'22). A budget is one account for all requests of a rule:
//!
//! ```text
//! deposit   ratio per success, and min_per_second for each second
//! withdraw  1 per retry
//! cap       what is deposited in one ttl, between 10 and 500 tokens
//! ```
//!
//! **Bound**: over any interval, with the sums taken over all workers of a sidecar,
//!
//! ```text
//! retries  ≤  ratio × successes + min_per_second × time + cap
//! ```
//!
//! * **Successes, not requests.** Finagle, Linkerd and tower deposit for each request, so in a total outage a ratio of 0.2 still
//!   adds a fifth to the load, and a service that was loaded to 89 % never comes back. Here an outage earns nothing.
//! * **Half is kept.** While fewer than half of the requests succeed, only what lies above half the cap is spent (gRPC proposal A6
//!   keeps half of its tokens likewise). What is left pays for the retries of the first failures after the outage.
//! * **Set aside.** Whoever decides about retries does so when a request goes out, and Envoy's router retries below the filter. So
//!   the tokens for all the retries that a request may need are taken when it goes out, and come back unused when it returns.
//!   As many as are set aside can be made at any moment: the bound holds however requests fail, and all at once.
//!   The cap holds for both together, what is free and what is set aside.
//! * **Workers.** An account is in the memory of one worker. What successes pay adds up over workers by itself; what does not
//!   depend on traffic is divided by the number of workers alive. A share of the cap below one token would never pay for
//!   anything, so it is one at least: with more than ten workers the cap of the sidecar is at least a token for each.
//!   [How many they are](super::sharers) each finds out with its first requests, so in the first half second of a sidecar its
//!   accounts are larger: the first worker to come finds itself alone, the second one of two.
//! * **Cap.** It follows the traffic of the worker: what its successes have paid within the last ttl, and what a ttl pays without
//!   them, between the worker's shares of 10 and 500. What was saved when there was more is forfeit, except while it is set
//!   aside.
//! * **Clock.** Steps back of less than a second add nothing until the clock has caught up. After a longer one the account goes on
//!   from there, and the bound counts the time that passed on the clock, both times.
//!
//! # Resolution
//!
//! Amounts are whole billionths of a token, so a ratio is exact to nine digits. (tower rounds the *price* of a retry to a whole
//! number of deposits: with its retry percentage at 0.6 every request is retried.)

use std::time::Duration;

use crate::monitor::outcome::Outcome;
use crate::time::Timestamp;

/// The least cap of a sidecar, in tokens. Ten, so that the failures of a quiet service are retried too.
pub const MIN_CAP: u64 = 10;

/// The greatest cap of a sidecar, in tokens: what the AWS SDK gives each client. More would be no help against jitter and would
/// last too long in an outage.
pub const MAX_CAP: u64 = 500;

/// The most that time may pay, in tokens per second.
pub const MAX_PER_SECOND: f64 = 1000.0;

/// The shortest and longest time of deposits that the cap holds, as in Finagle.
pub const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

/// One retry.
const TOKEN: u64 = 1_000_000_000;

/// Parts of a ttl that are counted apart. The oldest is dropped whole, so the cap holds nine to ten parts' deposits.
const SLOTS: usize = 10;

/// One request in the measure of success. Fine enough to be halved ten times.
const REQUEST: u64 = 1 << 10;

/// Less than so many requests' worth in the measure of success says nothing.
const MIN_EVIDENCE: u64 = 4 * REQUEST;

/// A longer step back of the clock is taken for real.
const LATE: Duration = Duration::from_secs(1);

/// Why a budget with these parameters cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unrepresentable {
    /// The ratio is not between 0 and 1.
    Ratio,
    /// What time pays is not between 0 and [`MAX_PER_SECOND`].
    PerSecond,
    /// The ttl is not within [`TTL`].
    Ttl,
    /// Neither successes nor time pay anything.
    Nothing,
}

/// The parameters of a budget; see [`Budget::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Billionths of a token per success.
    per_success: u64,
    /// Thousandths of a token per second, for the whole sidecar.
    per_second: u64,
    /// Nanoseconds, never zero.
    slot: u64,
}

/// What one worker has of a budget. The default is an account that was never used: half full when it is.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Until when time was paid for; `None` before the first use.
    paid_until: Option<Timestamp>,
    /// Billionths of a token that are free, that are set aside, and that are owed for retries which nobody paid for.
    free: u64,
    set_aside: u64,
    owed: u64,
    /// When the newest slot began.
    slot_start: Timestamp,
    /// What successes paid, newest slot first.
    deposits: [u64; SLOTS],
    health: Health,
}

/// How many requests succeed, lately: each counts half after a slot, a tenth of the ttl. Requests that are neither a success nor
/// a failure do not count.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    successes: u64,
    requests: u64,
}

/// The retries that are paid for a request that went out.
///
/// Whoever is given them owes them to [`Account::settle`].
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct SetAside {
    retries: u32,
}

impl SetAside {
    /// For a request that is not to be retried. It is settled like any other: its success pays.
    pub const fn nothing() -> Self {
        Self { retries: 0 }
    }

    /// How often the request may be retried.
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// With what was set aside later for the same request.
    pub const fn add(&mut self, more: Self) {
        self.retries = self.retries.saturating_add(more.retries);
    }
}

impl Default for Budget {
    /// A retry for ten successes and one a second, for ten seconds.
    fn default() -> Self {
        Self { per_success: TOKEN / 10, per_second: 1000, slot: 1_000_000_000 }
    }
}

impl Budget {
    /// A budget of `ratio` retries per success and `min_per_second` for each second of a sidecar, which holds what is deposited
    /// within `ttl`. `min_per_second` is rounded to thousandths.
    ///
    /// # Errors
    ///
    /// `ratio` is not in 0 … 1, `min_per_second` not in 0 … [`MAX_PER_SECOND`], `ttl` not within [`TTL`], or nothing is ever paid.
    pub fn new(ratio: f64, min_per_second: f64, ttl: Duration) -> Result<Self, Unrepresentable> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Unrepresentable::Ratio);
        }
        if !(0.0..=MAX_PER_SECOND).contains(&min_per_second) {
            return Err(Unrepresentable::PerSecond);
        }
        if !TTL.contains(&ttl) {
            return Err(Unrepresentable::Ttl);
        }
        let per_success = (ratio * TOKEN as f64).round() as u64;
        let per_second = (min_per_second * 1000.0).round() as u64;
        if per_success == 0 && per_second == 0 {
            return Err(Unrepresentable::Nothing);
        }
        let slot = u64::try_from(ttl.as_nanos() / SLOTS as u128).map_err(|_| Unrepresentable::Ttl)?;
        Ok(Self { per_success, per_second, slot })
    }

    /// What time pays one of so many workers.
    fn paid_by_time(&self, nanos: u64, workers: u64) -> u64 {
        // A thousandth of a token per second is a thousandth of a billionth per nanosecond.
        nanos.saturating_mul(self.per_second) / 1000 / workers
    }
}

impl Account {
    /// Sets tokens aside for a request that goes out and may be retried up to `wanted` times: as many as there are, perhaps none.
    ///
    /// `workers` is how many workers of the sidecar are alive, this one included; 0 counts as 1.
    pub fn set_aside(&mut self, budget: &Budget, wanted: u32, workers: u32, now: Timestamp) -> SetAside {
        self.advance(budget, workers, now);
        let kept = if self.health.is_failing() { self.cap(budget, workers) / 2 } else { 0 };
        let spendable = self.free.saturating_sub(kept) / TOKEN;
        let retries = wanted.min(u32::try_from(spendable).unwrap_or(u32::MAX));
        let tokens = u64::from(retries).saturating_mul(TOKEN);
        self.free = self.free.saturating_sub(tokens);
        self.set_aside = self.set_aside.saturating_add(tokens);
        SetAside { retries }
    }

    /// Takes note of how a request ended and takes back what it did not use.
    ///
    /// `retries` is how many were made. `None` if nobody knows, as after a reset: then all that were paid for are taken to have
    /// been made, because the bound must hold. More than were paid for are somebody else's. Of the outcomes, only a success pays, and only a failure speaks against the
    /// service: a client that goes away does neither, nor does a refusal, which costs the service nothing.
    pub fn settle(
        &mut self,
        budget: &Budget,
        set_aside: SetAside,
        retries: Option<u32>,
        outcome: Outcome,
        workers: u32,
        now: Timestamp,
    ) {
        self.advance(budget, workers, now);
        let unused = set_aside.retries.saturating_sub(retries.unwrap_or(set_aside.retries));
        self.set_aside = self.set_aside.saturating_sub(u64::from(set_aside.retries).saturating_mul(TOKEN));
        self.free = self.free.saturating_add(u64::from(unused).saturating_mul(TOKEN));
        match outcome {
            Outcome::Success => {
                self.health.succeeded();
                if let Some(newest) = self.deposits.first_mut() {
                    *newest = newest.saturating_add(budget.per_success);
                }
                self.deposit(budget.per_success);
            }
            Outcome::Failure => self.health.failed(),
            _ => {}
        }
    }

    /// Takes what retries cost that were made without being paid for. What is not there is owed: deposits pay that first.
    pub fn charge(&mut self, retries: u32) {
        let cost = u64::from(retries).saturating_mul(TOKEN);
        let there = cost.min(self.free);
        self.free = self.free.saturating_sub(there);
        self.owed = self.owed.saturating_add(cost.saturating_sub(there));
    }

    /// Whether retries were made that are not paid for yet.
    pub const fn owes(&self) -> bool {
        0 < self.owed
    }

    fn deposit(&mut self, amount: u64) {
        let debt = amount.min(self.owed);
        self.owed = self.owed.saturating_sub(debt);
        self.free = self.free.saturating_add(amount.saturating_sub(debt));
    }

    /// Brings the account up to date: what it holds then is what may be spent.
    fn advance(&mut self, budget: &Budget, workers: u32, now: Timestamp) {
        self.pay(budget, workers, now);
        self.forfeit(budget, workers);
    }

    /// Pays for the time since it was last done.
    fn pay(&mut self, budget: &Budget, workers: u32, now: Timestamp) {
        let Some(paid_until) = self.paid_until else {
            *self = Self { paid_until: Some(now), slot_start: now, ..Self::default() };
            self.free = self.cap(budget, workers) / 2;
            return;
        };
        let back = paid_until.saturating_since(now);
        if LATE < back {
            self.slot_start = self.slot_start.min(now);
        } else if !back.is_zero() {
            return;
        }
        let passed = now.as_nanos().saturating_sub(paid_until.as_nanos());
        self.paid_until = Some(now);
        self.deposit(budget.paid_by_time(passed, u64::from(workers.max(1))));
        self.turn(budget, now);
    }

    /// Begins new slots. A configuration with another ttl goes on with the deposits in the slots where they are.
    fn turn(&mut self, budget: &Budget, now: Timestamp) {
        let passed = now.as_nanos().saturating_sub(self.slot_start.as_nanos()) / budget.slot;
        if passed == 0 {
            return;
        }
        self.slot_start = self.slot_start.saturating_add(Duration::from_nanos(passed.saturating_mul(budget.slot)));
        self.health.fade(passed);
        let places = usize::try_from(passed).unwrap_or(SLOTS).min(SLOTS);
        let before = std::mem::take(&mut self.deposits);
        for (to, from) in self.deposits.iter_mut().skip(places).zip(before) {
            *to = from;
        }
    }

    /// Gives up what the cap does not hold.
    fn forfeit(&mut self, budget: &Budget, workers: u32) {
        self.free = self.free.min(self.cap(budget, workers).saturating_sub(self.set_aside));
    }

    /// The most that this worker may have, in billionths of a token.
    fn cap(&self, budget: &Budget, workers: u32) -> u64 {
        let workers = u64::from(workers.max(1));
        let by_time = budget.paid_by_time(budget.slot.saturating_mul(SLOTS as u64), workers);
        let deposits = self.deposits.iter().fold(by_time, |sum, slot| sum.saturating_add(*slot));
        deposits.clamp(MIN_CAP * TOKEN / workers, MAX_CAP * TOKEN / workers).max(TOKEN)
    }
}

impl Health {
    fn succeeded(&mut self) {
        self.successes = self.successes.saturating_add(REQUEST);
        self.requests = self.requests.saturating_add(REQUEST);
    }

    fn failed(&mut self) {
        self.requests = self.requests.saturating_add(REQUEST);
    }

    fn fade(&mut self, slots: u64) {
        let halvings = u32::try_from(slots).unwrap_or(u32::MAX);
        self.successes = self.successes.checked_shr(halvings).unwrap_or(0);
        self.requests = self.requests.checked_shr(halvings).unwrap_or(0);
    }

    fn is_failing(self) -> bool {
        MIN_EVIDENCE <= self.requests && self.successes.saturating_mul(2) < self.requests
    }
}
