//! Token buckets by key, in memory that does not grow.
//!
//! A bucket per client would be simple if records could be deleted. They cannot, and an attacker has more addresses
//! than a sidecar has memory. So the table is *set-associative*, like a processor's cache: a keyed hash of the key
//! chooses one of a fixed number of sets, and the set holds eight cells of a tag (32 more bits of the hash) and a
//! bucket's state. One set is one shared record: a request reads and writes about a hundred bytes.
//!
//! A key without a cell takes that of the bucket that is full soonest:
//!
//! * If it is full already, nothing is lost: a full bucket is what a key starts with. (*lossless* eviction)
//! * Otherwise some key's debt is lost (*lossy*). [`FailureMode::Allow`] forgets it: the evicted key starts afresh, which
//!   can admit too much. [`FailureMode::Deny`] hands it to the new key, which can refuse too much, and never admits more
//!   than a table without bounds would.
//!
//! Choosing by state rather than by last use is what holds an abuser to its limit among many thousand other keys: its
//! bucket is the emptiest of the set, hence the last to be evicted. (A least-recently-used table of the same size lets
//! it through at 1.3 times its rate, and Envoy's default of twenty entries at nearly five times.)
//!
//! Size: a key needs a cell only until its bucket is full again, so `max_keys` should be twice the number of distinct
//! keys seen in the time in which the typical key's tokens come back. Two keys share a cell by accident with a
//! probability of 8 / 2³² per pair of keys in one set.
//!
//! Record: the [header](mod@format), then per cell the tag (32 bits) and the state (64 bits), little-endian. A cell that was
//! never used is a full bucket of tag zero.

use std::cell::RefCell;
use std::fmt::Write as _;

use crate::host::{Host, HostError};
use crate::limit::FailureMode;
use crate::limit::token_bucket::{Denial, Grant, Tat, TokenBucket};
use crate::monitor::trouble::Trouble;
use crate::shared::format::{self, Written};
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

/// Cells in a set. More would lose less under attack and cost more to copy; eight fit two cache lines.
pub const WAYS: usize = 8;

/// Bytes of a cell in the record.
const CELL: usize = 4 + 8;
const WHAT: &str = "keyed_table";

/// The hash of a request's key under the process's secret; see [`seed`](super::seed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Upper half: independent of the set, which the lower half chooses.
    const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What it took to give a key a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The key had one, or there was one that nobody had used.
    None,
    /// A key lost its cell whose bucket was full, hence nothing.
    Lossless,
    /// A key lost its cell and with it what it had taken; or, under [`FailureMode::Deny`], left it to the new key.
    Lossy,
}

/// The answer to a key that asked for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether it got them.
    pub result: Result<Grant, Denial>,
    /// Who had to go for it. A refused key evicts nobody.
    pub eviction: Eviction,
}

/// A table of token buckets with the same parameters.
#[derive(Debug)]
pub struct Table {
    /// Key of a record: this, then the number of the set. Reused so that a request allocates nothing.
    key: RefCell<String>,
    prefix_length: usize,
    sets: u32,
    bucket: TokenBucket,
    failure_mode: FailureMode,
}

impl Table {
    /// The number of sets of a table of at least `max_keys` cells: the next power of two.
    pub const fn sets_for(max_keys: u32) -> u32 {
        max_keys.div_ceil(WAYS as u32).next_power_of_two()
    }

    /// The table whose records are at `prefix` followed by a number. Rounds `max_keys` up, see [`Table::sets_for`].
    pub fn new(prefix: String, max_keys: u32, bucket: TokenBucket, failure_mode: FailureMode) -> Self {
        let prefix_length = prefix.len();
        Self { key: RefCell::new(prefix), prefix_length, sets: Self::sets_for(max_keys), bucket, failure_mode }
    }

    /// Takes `cost` tokens from the bucket of `key`, or says when they will be there. Two calls of the proxy per
    /// attempt, one if refused by a record that is as this table would write it.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`record::update`].
    pub fn take(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        key: KeyHash,
        cost: u64,
        now: Timestamp,
    ) -> Result<Taken, HostError> {
        self.update(host, trouble, key, |bytes| {
            let (mut set, outdated) = self.read(host, trouble, bytes, now);
            let (place, found, eviction) = set.place(key.tag(), self.failure_mode, now);
            match self.bucket.take(found, cost, now) {
                Ok(grant) => {
                    set.put(place, Cell { tag: key.tag(), tat: grant.tat });
                    set.write(bytes, &self.bucket);
                    Step::Write(Taken { result: Ok(grant), eviction })
                }
                Err(denial) => {
                    let answer = Taken { result: Err(denial), eviction: Eviction::None };
                    if !outdated {
                        return Step::Keep(answer);
                    }
                    set.write(bytes, &self.bucket);
                    Step::Write(answer)
                }
            }
        })
    }

    /// Gives back `cost` tokens that `key` took and did not use. A key that was evicted meanwhile gets nothing.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the tokens stay taken.
    pub fn refund(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        key: KeyHash,
        cost: u64,
        now: Timestamp,
    ) -> Result<(), HostError> {
        self.update(host, trouble, key, |bytes| {
            let (mut set, _) = self.read(host, trouble, bytes, now);
            let Some((place, cell)) = set.find(key.tag()) else {
                return Step::Keep(());
            };
            set.put(place, Cell { tag: cell.tag, tat: self.bucket.refund(cell.tat, cost) });
            set.write(bytes, &self.bucket);
            Step::Write(())
        })
    }

    fn update<R>(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        key: KeyHash,
        step: impl FnMut(&mut Vec<u8>) -> Step<R>,
    ) -> Result<R, HostError> {
        let set = key.0 as u32 & (self.sets - 1);
        let mut record_key = self.key.borrow_mut();
        record_key.truncate(self.prefix_length);
        // Writing to a `String` cannot fail.
        let _ = write!(record_key, "{set}");
        record::update(host, trouble, WHAT, &record_key, step)
    }

    /// The set that a record stands for, and whether the record holds something else.
    fn read(&self, host: &dyn Host, trouble: &Trouble, bytes: &[u8], now: Timestamp) -> (Set, bool) {
        if bytes.is_empty() {
            return (Set::default(), false);
        }
        let Some((written, mut set)) = Set::decode(bytes) else {
            trouble.undecodable(host, WHAT);
            let tat = self.failure_mode.replacement(&self.bucket, now);
            return (Set { cells: [Cell { tag: 0, tat }; WAYS] }, true);
        };
        let foreign = written != Written::by(&self.bucket);
        let mut outdated = foreign;
        for cell in set.cells.iter_mut().filter(|cell| cell.tat != Tat::FULL) {
            if foreign {
                cell.tat = self.bucket.adopt(cell.tat, written.emission, now);
            } else if let Some(repaired) = self.bucket.repair(cell.tat, now) {
                cell.tat = repaired;
                outdated = true;
            }
        }
        (set, outdated)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    tag: u32,
    tat: Tat,
}

#[derive(Debug, Default)]
struct Set {
    cells: [Cell; WAYS],
}

impl Set {
    fn find(&self, tag: u32) -> Option<(usize, Cell)> {
        self.cells.iter().copied().enumerate().find(|(_, cell)| cell.tag == tag && cell.tat != Tat::FULL)
    }

    /// Where the key goes, and the state it finds there.
    fn place(&self, tag: u32, failure_mode: FailureMode, now: Timestamp) -> (usize, Tat, Eviction) {
        if let Some((place, cell)) = self.find(tag) {
            return (place, cell.tat, Eviction::None);
        }
        let soonest = self.cells.iter().copied().enumerate().min_by_key(|(_, cell)| cell.tat);
        let (place, victim) = soonest.unwrap_or_default();
        if victim.tat == Tat::FULL {
            return (place, Tat::FULL, Eviction::None);
        }
        if victim.tat.is_full(now) {
            return (place, Tat::FULL, Eviction::Lossless);
        }
        match failure_mode {
            FailureMode::Allow => (place, Tat::FULL, Eviction::Lossy),
            FailureMode::Deny => (place, victim.tat, Eviction::Lossy),
        }
    }

    fn put(&mut self, place: usize, cell: Cell) {
        if let Some(slot) = self.cells.get_mut(place) {
            *slot = cell;
        }
    }

    fn decode(bytes: &[u8]) -> Option<(Written, Self)> {
        let (written, cells) = format::open(bytes)?;
        if cells.len() != WAYS * CELL {
            return None;
        }
        let mut set = Self::default();
        for (cell, bytes) in set.cells.iter_mut().zip(cells.chunks_exact(CELL)) {
            let (tag, tat) = bytes.split_first_chunk::<4>()?;
            cell.tag = u32::from_le_bytes(*tag);
            cell.tat = Tat::from_bits(u64::from_le_bytes(*tat.first_chunk::<8>()?));
        }
        Some((written, set))
    }

    fn write(&self, bytes: &mut Vec<u8>, bucket: &TokenBucket) {
        format::begin(bytes, format::HEADER_SIZE + WAYS * CELL, bucket);
        for cell in &self.cells {
            bytes.extend_from_slice(&cell.tag.to_le_bytes());
            bytes.extend_from_slice(&cell.tat.to_bits().to_le_bytes());
        }
    }
}
