//! States by key, in memory that does not grow.
//!
//! A record per client would be simple if records could be deleted. They cannot, and an attacker has more addresses
//! than a sidecar has memory. So the table is *set-associative*, like a processor's cache: a keyed hash of the key
//! chooses one of a fixed number of sets, and the set holds eight cells of a tag (32 more bits of the hash) and a
//! meter's state. One set is one shared record: a request reads and writes about a hundred bytes for a token bucket.
//!
//! A key without a cell takes that of the least load, which for token buckets is the one that is full soonest:
//!
//! * If its load is zero, nothing is lost: that is what a key starts with. (*lossless* eviction)
//! * Otherwise what some key took is forgotten (*lossy*). Under [`FailureMode::Allow`] the new key starts afresh, and so
//!   will the evicted one, which can admit too much. [`FailureMode::Deny`] hands the state to the new key, which can refuse
//!   too much, and never admits more than a table without bounds would.
//!
//! Choosing by state rather than by last use is what holds an abuser to its limit among many thousand other keys: its
//! load is the highest of the set, hence it is the last to be evicted. (A least-recently-used table of the same size lets
//! it through at 1.3 times its rate, and Envoy's default of twenty entries at nearly five times.)
//!
//! A request that a later limit refuses must not leave a trace, nor must an eviction by it. So the table remembers the last
//! lossy one of this worker, and giving back what that request took gives the cell back too, unless somebody has used it
//! meanwhile. Limits are asked in one callback, so no other request of this worker comes in between; of a request that
//! leaves a queue long after, the eviction may have been forgotten, and stands.
//!
//! Size: a key needs a cell only until its load is gone, so `max_keys` should be twice the number of distinct keys seen in
//! the time in which the typical key's tokens come back. Two keys share a cell by accident with a
//! probability of 8 / 2³² per pair of keys in one set.
//!
//! Record: the [header](mod@format), then per cell the tag (32-bit little-endian) and the state. A cell that was never used
//! has the default state.

use std::cell::RefCell;
use std::fmt::Write as _;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::failure_mode::FailureMode;
use crate::shared::format;
use crate::shared::live::Live;
use crate::shared::meter::{Denial, Grant, Meter, Stamp};
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

/// Cells in a set. More would lose less under attack and cost more to copy; eight fit two cache lines.
pub const WAYS: usize = 8;

/// The kind of record in the metric of conflicts.
const WHAT: &str = "keyed_table";

/// Bytes of a cell's tag in the record.
const TAG: usize = 4;

/// The hash of a request's key under the process's secret; see [`seed`](super::seed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Upper half: independent of the set, which the lower half chooses.
    pub(crate) const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// One of `sets`, a power of two, by the lower half.
    pub(crate) const fn set(self, sets: u32) -> u32 {
        self.0 as u32 & (sets - 1)
    }
}

/// What it took to give a key a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The key had one, or there was one that nobody had used.
    None,
    /// A key lost its cell that had no load, hence nothing.
    Lossless,
    /// A key lost its cell and with it what it had taken; or, under [`FailureMode::Deny`], left it to the new key.
    Lossy,
}

impl Eviction {
    /// The word in the label `kind` of `outrigger_table_evictions_total`; none if no key lost anything.
    pub const fn kind(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Lossless => Some("lossless"),
            Self::Lossy => Some("lossy"),
        }
    }
}

/// The answer to a key that asked for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken<S> {
    /// Whether it got them.
    pub result: Result<Grant<S>, Denial>,
    /// Who had to go for it. A refused key evicts nobody.
    pub eviction: Eviction,
}

/// The number of sets of a table of at least `max_keys` cells: the next power of two.
pub const fn sets_for(max_keys: u32) -> u32 {
    max_keys.div_ceil(WAYS as u32).next_power_of_two()
}

/// A table of states of one meter.
#[derive(Debug)]
pub struct Table<M: Meter> {
    /// Key of a record: this, then the number of the set. Reused so that a request allocates nothing.
    key: RefCell<String>,
    prefix_length: usize,
    sets: u32,
    meter: Live<M>,
    failure_mode: FailureMode,
    /// The lossy eviction by the last key that this worker admitted, if it was one.
    evicted: RefCell<Option<Evicted<M::State>>>,
}

/// A cell that was taken from its key, and by whom.
#[derive(Clone, Copy, Debug)]
struct Evicted<S> {
    by: KeyHash,
    place: usize,
    was: Cell<S>,
    is: Cell<S>,
    /// When the new key took, or for which instant.
    taken: Timestamp,
}

impl<M: Meter> Table<M> {
    /// The table whose records are at `prefix` followed by a number. Rounds `max_keys` up, see [`sets_for`].
    pub fn new(prefix: String, max_keys: u32, meter: impl Into<Live<M>>, failure_mode: FailureMode) -> Self {
        let prefix_length = prefix.len();
        Self {
            key: RefCell::new(prefix),
            prefix_length,
            sets: sets_for(max_keys),
            meter: meter.into(),
            failure_mode,
            evicted: RefCell::default(),
        }
    }

    /// The policy as it is now.
    pub fn meter(&self) -> M {
        self.meter.get()
    }

    /// Takes `cost` units for `key`, or says when they will be there. Two calls of the proxy per attempt, one if refused by
    /// a record that is as this table would write it.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`record::update`].
    pub fn take(&self, cx: &Cx<'_>, key: KeyHash, cost: u64) -> Result<Taken<M::State>, HostError> {
        let now = cx.now();
        let (taken, evicted) = self.update(cx, key, |set| {
            let (place, found, eviction) = self.place(set, key, now);
            match self.meter.get().take(found, cost, now) {
                Ok(grant) => {
                    let is = Cell { tag: key.tag(), state: grant.state };
                    let was = set.put(place, is).filter(|_| eviction == Eviction::Lossy);
                    let evicted = was.map(|was| {
                        let taken = now.saturating_add(grant.wait);
                        Evicted { by: key, place, was, is, taken }
                    });
                    Step::Write((Taken { result: Ok(grant), eviction }, evicted))
                }
                Err(denial) => Step::Keep((Taken { result: Err(denial), eviction: Eviction::None }, None)),
            }
        })?;
        if taken.result.is_ok() {
            self.evicted.replace(evicted);
        }
        Ok(taken)
    }

    /// What [`Table::take`] would be refused; takes nothing. One call of the proxy.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub fn peek(&self, cx: &Cx<'_>, key: KeyHash, cost: u64) -> Result<Option<Denial>, HostError> {
        let now = cx.now();
        self.update(cx, key, |set| {
            let (_, found, _) = self.place(set, key, now);
            Step::Keep(self.meter.get().take(found, cost, now).err())
        })
    }

    /// Gives back `cost` units that `key` took at `taken` and did not use, and the cell to the key that had to go for them.
    /// Returns whether the units could be given back: a key that was evicted meanwhile gets nothing.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units stay taken.
    pub fn refund(&self, cx: &Cx<'_>, key: KeyHash, cost: u64, taken: Timestamp) -> Result<bool, HostError> {
        let evicted = self.evicted.borrow_mut().take_if(|it| it.by == key && it.taken == taken);
        self.update(cx, key, |set| {
            if evicted.is_some_and(|evicted| set.restore(&evicted)) {
                return Step::Write(true);
            }
            let Some((place, cell)) = set.find(key.tag()) else {
                return Step::Keep(false);
            };
            let state = self.meter.get().refund(cell.state, cost, taken);
            if state == cell.state {
                return Step::Keep(false);
            }
            set.put(place, Cell { tag: cell.tag, state });
            Step::Write(true)
        })
    }

    fn update<R>(
        &self,
        cx: &Cx<'_>,
        key: KeyHash,
        mut step: impl FnMut(&mut Set<M::State>) -> Step<R>,
    ) -> Result<R, HostError> {
        let set = key.set(self.sets);
        let mut record_key = self.key.borrow_mut();
        record_key.truncate(self.prefix_length);
        // Writing to a `String` cannot fail.
        let _ = write!(record_key, "{set}");
        record::update(cx, WHAT, &record_key, |bytes| {
            let (mut set, outdated) = self.read(cx, bytes);
            // What was judged is what must be kept, even if nothing was taken: a promise holds from there.
            let step = match step(&mut set) {
                Step::Keep(answer) if outdated => Step::Write(answer),
                step => step,
            };
            if matches!(step, Step::Write(_)) {
                set.write::<M>(bytes, self.meter.get().stamp());
            }
            step
        })
    }

    /// The set that a record stands for, and whether the record holds something else.
    fn read(&self, cx: &Cx<'_>, bytes: &[u8]) -> (Set<M::State>, bool) {
        let now = cx.now();
        if bytes.is_empty() {
            return (Set::default(), false);
        }
        let Some((stamp, mut set)) = Set::read::<M>(bytes) else {
            cx.undecodable(WHAT);
            let state = self.failure_mode.replacement(&self.meter.get(), now);
            return (Set { cells: [Cell { tag: 0, state }; WAYS] }, true);
        };
        let foreign = stamp != self.meter.get().stamp();
        let mut outdated = foreign;
        for cell in set.cells.iter_mut().filter(|cell| cell.state != M::State::default()) {
            if foreign {
                cell.state = self.meter.get().adopt(cell.state, stamp, now);
            } else if let Some(repaired) = self.meter.get().repair(cell.state, now) {
                cell.state = repaired;
                outdated = true;
            }
        }
        (set, outdated)
    }

    /// Where the key goes, and the state it finds there.
    fn place(&self, set: &Set<M::State>, key: KeyHash, now: Timestamp) -> (usize, M::State, Eviction) {
        if let Some((place, cell)) = set.find(key.tag()) {
            return (place, cell.state, Eviction::None);
        }
        let fresh = M::State::default();
        let cells = set.cells.iter().map(|cell| (cell.state, self.meter.get().load(cell.state, now))).enumerate();
        // Of those without load, one that nobody has used.
        let Some((place, (state, load))) = cells.min_by_key(|(_, (state, load))| (*load, *state != fresh)) else {
            return (0, fresh, Eviction::None);
        };
        match self.failure_mode {
            _ if state == fresh => (place, fresh, Eviction::None),
            _ if load == 0 => (place, fresh, Eviction::Lossless),
            FailureMode::Allow => (place, fresh, Eviction::Lossy),
            FailureMode::Deny => (place, state, Eviction::Lossy),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell<S> {
    tag: u32,
    state: S,
}

#[derive(Debug, Default)]
struct Set<S> {
    cells: [Cell<S>; WAYS],
}

impl<S: Copy + Default + PartialEq> Set<S> {
    fn find(&self, tag: u32) -> Option<(usize, Cell<S>)> {
        self.cells.iter().copied().enumerate().find(|(_, cell)| cell.tag == tag && cell.state != S::default())
    }

    /// Returns what was there.
    fn put(&mut self, place: usize, cell: Cell<S>) -> Option<Cell<S>> {
        self.cells.get_mut(place).map(|slot| std::mem::replace(slot, cell))
    }

    /// Gives the cell back if it is as the eviction left it and its key has not found another.
    fn restore(&mut self, evicted: &Evicted<S>) -> bool {
        if self.find(evicted.was.tag).is_some() || self.cells.get(evicted.place) != Some(&evicted.is) {
            return false;
        }
        self.put(evicted.place, evicted.was).is_some()
    }

    fn read<M: Meter<State = S>>(bytes: &[u8]) -> Option<(Stamp, Self)> {
        let (stamp, cells) = format::open(bytes)?;
        if cells.len() != WAYS * (TAG + M::SIZE) {
            return None;
        }
        let mut set = Self::default();
        for (cell, bytes) in set.cells.iter_mut().zip(cells.chunks_exact(TAG + M::SIZE)) {
            let (tag, state) = bytes.split_first_chunk::<TAG>()?;
            cell.tag = u32::from_le_bytes(*tag);
            cell.state = M::decode(state)?;
        }
        Some((stamp, set))
    }

    fn write<M: Meter<State = S>>(&self, bytes: &mut Vec<u8>, stamp: Stamp) {
        format::begin(bytes, format::HEADER_SIZE + WAYS * (TAG + M::SIZE), stamp);
        for cell in &self.cells {
            bytes.extend_from_slice(&cell.tag.to_le_bytes());
            M::encode(cell.state, bytes);
        }
    }
}
