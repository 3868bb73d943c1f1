//! Shares of a concurrency limit, in shared records.
//!
//! Without a key there is one record, and a worker keeps a *reserve*: while less than half of the limit is taken it takes
//! a few units more than it needs and keeps what it gets back, so that most requests call nobody. Nearer to the limit it
//! takes and gives back one by one, and a reserve that is left goes back within [`RESERVE_LIFETIME`], so that nothing lies
//! idle with one worker while another refuses.
//!
//! With a key the records are those of a [table](crate::shared::table): a fixed number of sets, chosen by the key's hash, each with
//! room for [`PLACES_PER_SET`] keys. A set in which as many keys have requests in flight takes no more, which is a state
//! that cannot be used: the failure mode decides, and `concurrency_table_full` is counted.
//!
//! Places that are held for longer than the limit says are given back by the worker's tick, and each place once: see
//! [`places`](crate::limit::places).
//!
//! What cannot be given back at the moment, because other workers won all races for the record or the proxy refused, is given
//! back later: by the next tick, which is asked for, or of keyed limits by the next request.
//!
//! Record: the [header](mod@format) with no meter's stamp, then per share its tag, owner and units (32 bits each, little-endian).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::limit::concurrency::{Concurrency, Demand, Share, Unmet};
use crate::limit::places::{Left, Place, Places};
use crate::shared::by_key::ByKey;
use crate::shared::format;
use crate::shared::live::Live;
use crate::shared::record::{self, Step};
use crate::shared::roster::{BEAT, Known, Roster, WorkerId};
use crate::shared::table::{KeyHash, sets_for};
use crate::time::Timestamp;

/// Keys with requests in flight in a set of a keyed limit.
pub const PLACES_PER_SET: usize = 16;

const WHAT: &str = "concurrency";
const ENTRY: usize = 12;

/// The most that a worker keeps in reserve; less where the limit is below sixteen times that.
const MAX_RESERVE: u32 = 32;

/// How long a reserve is kept.
pub const RESERVE_LIFETIME: Duration = Duration::from_millis(100);

/// After how long it is tried again to give back what could not be given back.
pub const AGAIN: Duration = Duration::from_millis(100);

/// What one worker holds of one limit without a key.
#[derive(Debug, Default)]
pub struct Held {
    /// At least `in_flight`; what is more is the reserve.
    units: Cell<u32>,
    in_flight: Cell<u32>,
    /// Who has what is in flight.
    places: Places,
    /// Whether more than half of the limit was taken when this worker last looked.
    busy: Cell<bool>,
}

/// What a worker holds of all limits, by the key of the record. Outlives configurations.
#[derive(Debug)]
pub struct Holdings {
    roster: Rc<Roster>,
    by_key: ByKey<Held>,
    /// Places of keyed limits, by the prefix of their records and the number of these: another number puts keys elsewhere, and
    /// what is given back must go where it was taken.
    places: ByKey<Places>,
    /// Units in flight in keyed limits.
    keyed: Cell<u32>,
    /// Units of keyed limits that are not in flight any more and could not be given back. At most what was in flight.
    owed: RefCell<Vec<Debt>>,
}

/// What has come of the time for which places are held at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overdue {
    /// How many requests have lost theirs just now.
    pub requests: u32,
    /// After how long the next one will; `None` if none can.
    pub next: Option<Duration>,
}

/// What is still to be given back of a key.
#[derive(Debug)]
struct Debt {
    record: String,
    tag: u32,
    units: u32,
}

impl Debt {
    fn repay(&self, cx: &Cx<'_>, roster: &Roster) -> Result<(), HostError> {
        update(cx, roster, &self.record, |shares, owner| Concurrency::release(shares, self.tag, owner, self.units))
    }
}

impl Holdings {
    /// Nothing, of a worker that shares with those on the roster.
    pub fn new(roster: Rc<Roster>) -> Self {
        let (by_key, places, keyed, owed) = Default::default();
        Self { roster, by_key, places, keyed, owed }
    }

    /// Whether this worker has anything in flight, so that the others must know that it is alive. A mere reserve is as well
    /// lost with it.
    pub fn any(&self) -> bool {
        0 < self.keyed.get() || self.by_key.any(|held| 0 < held.in_flight.get())
    }

    /// Gives back what could not be given back before. Returns when to try again, `None` if nothing is owed.
    pub fn repay(&self, cx: &Cx<'_>) -> Option<Duration> {
        let mut owed = self.owed.take();
        while let Some(debt) = owed.pop() {
            if let Err(error) = debt.repay(cx, &self.roster) {
                cx.host_error(error);
                owed.push(debt);
                break;
            }
        }
        let again = (!owed.is_empty()).then_some(AGAIN);
        self.owed.replace(owed);
        again
    }
}

/// The shares of a limit without a key.
#[derive(Debug)]
pub struct Shares {
    key: String,
    limit: Live<Concurrency>,
    held: Rc<Held>,
    roster: Rc<Roster>,
}

impl Shares {
    /// The shares whose record is at `key`, with what the worker holds of them.
    pub fn new(key: String, limit: impl Into<Live<Concurrency>>, holdings: &Holdings) -> Self {
        let held = holdings.by_key.of(&key);
        Self { key, limit: limit.into(), held, roster: Rc::clone(&holdings.roster) }
    }

    /// Takes `units` for a request. Calls the proxy only if the reserve has not enough.
    ///
    /// # Errors
    ///
    /// The record or the roster cannot be used.
    pub fn take(&self, cx: &Cx<'_>, units: u32) -> Result<Result<(), Unmet>, HostError> {
        let least = self.held.in_flight.get().saturating_add(units);
        if self.held.units.get() < least
            && let Err(unmet) = self.ask(cx, least, self.reserve())?
        {
            return Ok(Err(unmet));
        }
        self.held.in_flight.set(least);
        self.held.places.enter(Place { taken: cx.now(), key: ALL, units });
        cx.host.wake_at(cx.now().saturating_add(until_tick(&self.limit, RESERVE_LIFETIME)));
        Ok(Ok(()))
    }

    /// Gives back what a request took at `taken`: to the reserve or, near the limit, to all. Nothing, if its time was over
    /// before.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the worker then keeps the units in reserve.
    pub fn release(&self, cx: &Cx<'_>, taken: Timestamp, units: u32) -> Result<(), HostError> {
        if self.held.places.leave(Place { taken, key: ALL, units }) == Left::Overdue {
            return Ok(());
        }
        let in_flight = self.held.in_flight.get().saturating_sub(units);
        self.held.in_flight.set(in_flight);
        let idle = self.held.units.get().saturating_sub(in_flight);
        if self.held.busy.get() {
            return self.settle(cx);
        }
        if self.reserve() * 2 < idle {
            // Making a share smaller is never refused.
            return self.ask(cx, in_flight, self.reserve()).map(|_| ());
        }
        if 0 < idle {
            cx.host.wake_at(cx.now().saturating_add(RESERVE_LIFETIME));
        }
        Ok(())
    }

    /// Makes a reserve of what has been held for too long; to be [settled](Shares::settle). Calls nobody.
    pub fn take_overdue(&self, now: Timestamp) -> Overdue {
        take_overdue(&self.held.places, &self.limit, now, &mut |place| {
            self.held.in_flight.set(self.held.in_flight.get().saturating_sub(place.units));
        })
    }

    /// Gives back the reserve.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the worker then keeps the reserve, and asks for a tick to try again.
    pub fn settle(&self, cx: &Cx<'_>) -> Result<(), HostError> {
        let in_flight = self.held.in_flight.get();
        if self.held.units.get() == in_flight {
            return Ok(());
        }
        // Making a share smaller is never refused.
        self.ask(cx, in_flight, 0).map(|_| ()).inspect_err(|_| cx.host.wake_at(cx.now().saturating_add(AGAIN)))
    }

    fn reserve(&self) -> u32 {
        (self.limit.get().max_in_flight / 16).min(MAX_RESERVE)
    }

    /// Makes the worker's share `least`, and more by `reserve` if less than half of the limit is taken.
    fn ask(&self, cx: &Cx<'_>, least: u32, reserve: u32) -> Result<Result<(), Unmet>, HostError> {
        let (busy, held, answer) = update(cx, &self.roster, &self.key, |shares, owner| {
            let others = shares.iter().filter(|it| it.owner != owner);
            let taken = others.fold(0_u32, |sum, it| sum.saturating_add(it.units));
            let busy = self.limit.get().max_in_flight / 2 < taken.saturating_add(least);
            let want = if busy { least } else { least.saturating_add(reserve) };
            let answer = self.limit.get().demand(shares, PLACES_PER_SET, &Demand { tag: 0, owner, least, want });
            (busy, Concurrency::held(shares, 0, owner), answer)
        })?;
        self.held.busy.set(busy);
        // Also after a refusal: a worker that was taken for dead holds less than it believed.
        self.held.units.set(held);
        Ok(answer.map(|_| ()))
    }
}

/// The shares of a keyed limit, in a fixed number of sets.
#[derive(Debug)]
pub struct KeyedShares {
    prefix: String,
    sets: u32,
    limit: Live<Concurrency>,
    places: Rc<Places>,
    holdings: Rc<Holdings>,
}

impl KeyedShares {
    /// The shares whose records are at `prefix` followed by the number of a set.
    pub fn new(prefix: String, max_keys: u32, limit: impl Into<Live<Concurrency>>, holdings: Rc<Holdings>) -> Self {
        let sets = sets_for(max_keys);
        let places = holdings.places.of(&format!("{prefix}{sets}"));
        Self { prefix, sets, limit: limit.into(), places, holdings }
    }

    /// Takes `units` for a request of the key.
    ///
    /// # Errors
    ///
    /// The record or the roster cannot be used.
    pub fn take(&self, cx: &Cx<'_>, key: KeyHash, units: u32) -> Result<Result<(), Unmet>, HostError> {
        let _ = self.holdings.repay(cx);
        let tag = key.tag();
        let answer = update(cx, &self.holdings.roster, &self.record(key), |shares, owner| {
            let least = Concurrency::held(shares, tag, owner).saturating_add(units);
            self.limit.get().demand(shares, PLACES_PER_SET, &Demand { tag, owner, least, want: least })
        })?;
        if answer.is_ok() {
            self.holdings.keyed.set(self.holdings.keyed.get().saturating_add(units));
            self.places.enter(Place { taken: cx.now(), key, units });
            cx.host.wake_at(cx.now().saturating_add(until_tick(&self.limit, BEAT)));
        }
        Ok(answer.map(|_| ()))
    }

    /// Gives back what a request of the key took at `taken`. Nothing, if its time was over before.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units are owed from then on, and a tick is asked for to [repay](Holdings::repay) them.
    pub fn release(&self, cx: &Cx<'_>, key: KeyHash, taken: Timestamp, units: u32) -> Result<(), HostError> {
        if self.places.leave(Place { taken, key, units }) == Left::Overdue {
            return Ok(());
        }
        self.holdings.keyed.set(self.holdings.keyed.get().saturating_sub(units));
        let debt = self.debt(key, units);
        debt.repay(cx, &self.holdings.roster).inspect_err(|_| {
            self.holdings.owed.borrow_mut().push(debt);
            cx.host.wake_at(cx.now().saturating_add(AGAIN));
        })
    }

    /// Owes what has been held for too long; to be [repaid](Holdings::repay). Calls nobody.
    pub fn take_overdue(&self, now: Timestamp) -> Overdue {
        take_overdue(&self.places, &self.limit, now, &mut |place| {
            self.holdings.keyed.set(self.holdings.keyed.get().saturating_sub(place.units));
            self.holdings.owed.borrow_mut().push(self.debt(place.key, place.units));
        })
    }

    fn debt(&self, key: KeyHash, units: u32) -> Debt {
        Debt { record: self.record(key), tag: key.tag(), units }
    }

    fn record(&self, key: KeyHash) -> String {
        format!("{}{}", self.prefix, key.set(self.sets))
    }
}

/// The key of a limit that has none.
const ALL: KeyHash = KeyHash(0);

/// After how long a worker that has taken a place needs its tick: every `usual`, unless a place is not held even that long.
fn until_tick(limit: &Live<Concurrency>, usual: Duration) -> Duration {
    limit.get().max_hold.map_or(usual, |max_hold| max_hold.min(usual))
}

/// Takes away the places that have been held for as long as the limit lets anybody, and has each given back.
fn take_overdue(
    places: &Places,
    limit: &Live<Concurrency>,
    now: Timestamp,
    give_back: &mut dyn FnMut(Place),
) -> Overdue {
    let Some(max_hold) = limit.get().max_hold else {
        return Overdue::default();
    };
    let overdue = places.take_overdue(max_hold, now);
    let requests = u32::try_from(overdue.len()).unwrap_or(u32::MAX);
    overdue.into_iter().for_each(give_back);
    let next = places.oldest().map(|taken| taken.saturating_add(max_hold).saturating_since(now));
    Overdue { requests, next }
}

/// Updates a list of shares, shown to `step` without those of workers that are no more.
///
/// A worker that is on no roster this one has read may have come since, so the roster is read again before anybody is
/// taken for dead.
fn update<R>(
    cx: &Cx<'_>,
    roster: &Roster,
    key: &str,
    mut step: impl FnMut(&mut Vec<Share>, WorkerId) -> R,
) -> Result<R, HostError> {
    let owner = roster.sign(cx)?;
    // Whose shares were there before the roster was last read.
    let mut suspects: Vec<WorkerId> = Vec::new();
    for _ in 0..record::MAX_ATTEMPTS {
        let mut unknown: Vec<WorkerId> = Vec::new();
        let answer = record::update(cx, WHAT, key, |bytes| {
            if !bytes.is_empty() && format::open(bytes).is_none() {
                cx.undecodable(key);
            }
            let mut shares = decode(bytes);
            let living = |share: &Share| share.owner == owner || roster.known(share.owner) == Known::Alive;
            unknown = shares.iter().filter(|it| !living(it)).map(|it| it.owner).collect();
            if unknown.iter().any(|worker| !suspects.contains(worker)) {
                return Step::Keep(None);
            }
            shares.retain(living);
            let answer = Some(step(&mut shares, owner));
            let encoded = encode(&shares);
            if encoded == *bytes {
                return Step::Keep(answer);
            }
            *bytes = encoded;
            Step::Write(answer)
        })?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
        roster.beat(cx)?;
        suspects = unknown;
    }
    Err(HostError { call: "roster_contended", status: 0 })
}

fn decode(bytes: &[u8]) -> Vec<Share> {
    let (_, shares) = format::open(bytes).unwrap_or((format::NO_METER, &[]));
    let share = |bytes: &[u8]| {
        let (tag, rest) = bytes.split_first_chunk::<4>()?;
        let (owner, units) = rest.split_first_chunk::<4>()?;
        Some(Share {
            tag: u32::from_le_bytes(*tag),
            owner: WorkerId(u32::from_le_bytes(*owner)),
            units: u32::from_le_bytes(*units.first_chunk::<4>()?),
        })
    };
    shares.chunks_exact(ENTRY).filter_map(share).collect()
}

fn encode(shares: &[Share]) -> Vec<u8> {
    let mut bytes = Vec::new();
    format::begin(&mut bytes, format::HEADER_SIZE + shares.len() * ENTRY, format::NO_METER);
    for share in shares {
        bytes.extend_from_slice(&share.tag.to_le_bytes());
        bytes.extend_from_slice(&share.owner.0.to_le_bytes());
        bytes.extend_from_slice(&share.units.to_le_bytes());
    }
    bytes
}
