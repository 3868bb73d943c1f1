//! The shared records of a rule: one index, and one record per slot that was ever used.
//!
//! Keys: the rule's prefix followed by `index` or by the number of the slot. There are never more than
//! [`SLOTS`](super::index::SLOTS)` + 1` of them, whatever is asked for.

use std::time::Duration;

use crate::cx::Cx;
use crate::degrade::stale::address::Mark;
use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::entry::Entry;
use crate::degrade::stale::index::{Index, Place, Refusal, Turn, Wish};
use crate::degrade::stale::vary::Vary;
use crate::host::{Expected, HostError, Written};
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

/// The kinds of record in the metric of conflicts.
const INDEX: &str = "stale_index";
const SLOT: &str = "stale_slot";

/// How often room is made before an answer is given up: others may take what one has made.
const ROUNDS: usize = 4;

/// The slots of one rule.
#[derive(Debug)]
pub(super) struct Slots {
    /// What the keys begin with.
    pub(super) prefix: String,
    /// The most bytes of all slots' records.
    pub(super) max_bytes: u32,
    /// From what age on an answer is not served.
    pub(super) max_age: Duration,
    /// From what age on an answer is replaced.
    pub(super) rewrite_after: Duration,
}

/// The request that an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whose<'a> {
    /// Its digest.
    pub(super) variant: Digest,
    /// The headers that the digest is made of.
    pub(super) vary: &'a Vary,
    /// Where it goes.
    pub(super) address: Mark,
    /// How often this worker was asked for the answer lately, this time included.
    pub(super) frequency: u8,
    /// What of that is new since this worker looked at the index for it last.
    pub(super) untold: u8,
}

/// What came of the wish for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// The slot is the asker's.
    Reserved(Reserved),
    /// None is needed: there is a young answer to the same request, or one is on its way.
    Known,
    /// None is to be had.
    Refused(Refusal),
}

/// A slot that is kept for an answer on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    /// Whose turn it is.
    pub(super) turn: Turn,
    /// The slot's record as it was found. Whoever takes the slot away changes it first.
    expected: Expected,
}

impl Slots {
    /// Reserves a slot for at most `size` bytes. Three calls of the proxy; three more per slot that must be emptied for it, and two more
    /// per round of that. One if none is to be had; one or two if none is needed.
    ///
    /// # Errors
    ///
    /// A record cannot be used. Nothing is reserved.
    pub(super) fn reserve(&self, cx: &Cx<'_>, whose: Whose<'_>, size: u32) -> Result<Asked, HostError> {
        let now = cx.now();
        let Self { max_bytes, max_age, rewrite_after, .. } = *self;
        let Whose { variant, address, vary, frequency, untold } = whose;
        let wish = Wish { variant, address, vary, size, frequency, untold, max_bytes, max_age, rewrite_after, now };
        let mut emptied = Vec::new();
        for _ in 0..ROUNDS {
            let (asked, dead) = self.ask(cx, &wish, &emptied)?;
            if dead.is_empty() {
                return Ok(asked);
            }
            for turn in &dead {
                self.empty(cx, *turn)?;
            }
            emptied = dead;
        }
        Ok(Asked::Refused(Refusal::Busy))
    }

    /// Writes the answer into its slot. Returns `false` if the slot was taken away meanwhile. Three calls of the proxy.
    ///
    /// # Errors
    ///
    /// A record cannot be used. The slot is free after its time.
    pub(super) fn store(
        &self,
        cx: &Cx<'_>,
        reserved: Reserved,
        bytes: &[u8],
        stored: Timestamp,
    ) -> Result<bool, HostError> {
        let Ok(size) = u32::try_from(bytes.len()) else {
            return Ok(false);
        };
        match cx.host.shared_set(&self.slot_key(reserved.turn.slot), bytes, reserved.expected)? {
            Written::Done => self.change(cx, |index| index.confirm(reserved.turn, size, stored)),
            Written::Conflict => {
                cx.conflict(SLOT);
                self.release(cx, reserved)?;
                Ok(false)
            }
        }
    }

    /// Gives a slot back that nothing was written into. Two calls of the proxy.
    ///
    /// # Errors
    ///
    /// The record cannot be used. The slot is free after its time.
    pub(super) fn release(&self, cx: &Cx<'_>, reserved: Reserved) -> Result<(), HostError> {
        self.change(cx, |index| index.release(reserved.turn)).map(|_| ())
    }

    /// Gives up what is kept of these addresses. One call of the proxy, two if there was anything.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub(super) fn forget_addresses(&self, cx: &Cx<'_>, addresses: &[Mark]) -> Result<(), HostError> {
        self.change(cx, |index| index.forget_addresses(addresses)).map(|_| ())
    }

    /// Gives up what a request could be answered with. One call of the proxy, two if there was anything.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub(super) fn forget_answers(&self, cx: &Cx<'_>, variant: impl Fn(&Vary) -> Digest) -> Result<(), HostError> {
        self.change(cx, |index| index.forget_answers(&variant)).map(|_| ())
    }

    /// The newest answer that is young enough by the rule, and its body. Two calls of the proxy, two more if the slot is given to another
    /// answer between them.
    ///
    /// # Errors
    ///
    /// A record cannot be used.
    pub(super) fn find(
        &self,
        cx: &Cx<'_>,
        variant: impl Fn(&Vary) -> Digest,
    ) -> Result<Option<(Entry, Vec<u8>)>, HostError> {
        let now = cx.now();
        for _ in 0..2 {
            let Some(index) = cx.host.shared_get(&self.index_key())? else {
                return Ok(None);
            };
            let Some(index) = Index::decode(&index.bytes) else {
                // Reported by whoever replaces it.
                return Ok(None);
            };
            let Some((turn, digest)) = index.newest(self.max_age, now, &variant) else {
                return Ok(None);
            };
            let key = self.slot_key(turn.slot);
            let slot = cx.host.shared_get(&key)?.map(|record| record.bytes).unwrap_or_default();
            match Entry::decode(&slot) {
                Some((entry, body)) if entry.variant == digest && entry.generation == turn.generation => {
                    return Ok(Some((entry, body.to_vec())));
                }
                // An empty one has been given up.
                None if !slot.is_empty() => cx.undecodable(&key),
                _ => {}
            }
        }
        Ok(None)
    }

    /// What the index says to the wish, and the slots to be emptied before it is asked again.
    fn ask(&self, cx: &Cx<'_>, wish: &Wish<'_>, emptied: &[Turn]) -> Result<(Asked, Vec<Turn>), HostError> {
        record::update(cx, INDEX, &self.index_key(), |bytes| {
            let mut index = match bytes.as_slice() {
                [] => Index::empty(wish.now),
                bytes => Index::decode(bytes).unwrap_or_else(|| {
                    cx.undecodable(&self.index_key());
                    Index::unknown(self.max_bytes, wish.now)
                }),
            };
            let place = index.reserve(wish, emptied);
            let is_same = matches!(place, Place::Known | Place::Refused(_)) && emptied.is_empty();
            let answer = match place {
                // Read while the slot is free by an index that is not changed until it says otherwise: nobody who had it
                // before can write this version.
                Place::Reserved(turn) => match cx.host.shared_get(&self.slot_key(turn.slot)) {
                    Ok(record) => {
                        let expected = record.map_or(Expected::Absent, |record| Expected::Unchanged(record.version));
                        (Asked::Reserved(Reserved { turn, expected }), Vec::new())
                    }
                    Err(error) => return Step::Keep(Err(error)),
                },
                Place::Dead(turns) => (Asked::Refused(Refusal::Busy), turns),
                Place::Known | Place::Raised => (Asked::Known, Vec::new()),
                Place::Refused(refusal) => (Asked::Refused(refusal), Vec::new()),
            };
            if is_same {
                return Step::Keep(Ok(answer));
            }
            index.encode(bytes);
            Step::Write(Ok(answer))
        })?
    }

    /// Overwrites the record with nothing, also one that is empty or was never made: it must get a new version.
    fn empty(&self, cx: &Cx<'_>, turn: Turn) -> Result<(), HostError> {
        record::update(cx, SLOT, &self.slot_key(turn.slot), |bytes| {
            bytes.clear();
            Step::Write(())
        })
    }

    /// An index that is unreadable now knows of no reservation.
    fn change(&self, cx: &Cx<'_>, change: impl Fn(&mut Index) -> bool) -> Result<bool, HostError> {
        record::update(cx, INDEX, &self.index_key(), |bytes| {
            let Some(mut index) = Index::decode(bytes) else {
                return Step::Keep(false);
            };
            if !change(&mut index) {
                return Step::Keep(false);
            }
            index.encode(bytes);
            Step::Write(true)
        })
    }

    fn index_key(&self) -> String {
        format!("{}index", self.prefix)
    }

    fn slot_key(&self, slot: usize) -> String {
        format!("{}{slot}", self.prefix)
    }
}
