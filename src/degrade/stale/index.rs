//! Who has which slot, and how many bytes are spoken for: one shared record, changed by all workers.
//!
//! A slot is *free* (its record is empty, or was never made), *reserved* for an answer on its way, *stored*, or *dead*: given
//! up, but its record may still hold the bytes. What is not free is charged with the most bytes that its record can
//! hold, and the sum of charges never exceeds the rule's `max_bytes`. So it goes round:
//!
//! ```text
//! free ─▶ reserved ─▶ stored ─▶ dead ─▶ free
//!              └──────────────────▲
//! ```
//!
//! * *Dead to free* is for whoever has overwritten the record with nothing **after** it was dead. That also gives the record a
//!   new version, and who reserved the slot before can write only at the version from before the reservation. A worker
//!   that was stopped in the middle, for however long, hence never writes into a slot that is another's by now.
//! * *Reserved to free* is for who reserved it and wrote nothing.
//! * Each reservation has a number of its own, its *generation*, so that nobody takes a later turn of the slot for this one.
//! * A reservation of a worker that is never heard of again is dead after [`RESERVED_FOR`].
//!
//! Record: version byte; next generation (64-bit little-endian, as all numbers here); number of lists of `Vary`'d names (8 bits), and per list its
//! length (8 bits) and names; then per slot, up to the last that is not free: state and number of the list (8 bits each),
//! digest of the request (128), generation (64), charge in bytes (32), an instant (64): when it was stored, or until
//! when it is reserved; the address (64); and how often it was asked for (8). At most 14 KB, besides `max_bytes`.
//!
//! While a module is replaced by a later one both are at work for a while. So a record of another layout has another key, and
//! neither takes the other's for garbage: [`LAYOUT`] is a part of the key.

use std::time::Duration;

use crate::degrade::stale::address::Mark;
use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::frequency;
use crate::degrade::stale::vary::Vary;
use crate::shared::meter::LATEST_READER;
use crate::time::Timestamp;

/// Slots of a rule. Of answers of the same size, a rule of 1 MiB uses all of them from 4 KiB down.
pub const SLOTS: usize = 256;

/// How long an answer may take from its headers to its end.
pub const RESERVED_FOR: Duration = Duration::from_secs(30);

/// Different lists of `Vary`'d names at once. A service has one or two; an answer with one too many is not kept.
const LISTS: usize = 8;

/// The layout of the record, and of all that stand beside it. To be raised when one changes.
pub const LAYOUT: u8 = 3;

/// How many times as often as an answer that goes one must be asked for that comes, for the former to count for nothing. An eighth of
/// [`frequency::MOST`] is two: addresses that are made up and asked for once or twice keep no popular answer out, however many it
/// needs the place of.
const NEGLIGIBLE: u8 = 8;

const SLOT_SIZE: usize = 1 + 1 + 16 + 8 + 4 + 8 + 8 + 1;

/// A slot in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Which slot.
    pub(super) slot: usize,
    /// The turn's generation.
    pub(super) generation: u64,
}

/// What a worker asks a slot for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    /// The request.
    pub(super) variant: Digest,
    /// Where it goes.
    pub(super) address: Mark,
    /// The headers that its digest is made of.
    pub(super) vary: &'a Vary,
    /// The most bytes of the record.
    pub(super) size: u32,
    /// How often the asker was asked for the answer lately, this time included: at least 1.
    pub(super) frequency: u8,
    /// What of that is new since the asker came for this answer last.
    pub(super) untold: u8,
    /// The most bytes of all records.
    pub(super) max_bytes: u32,
    /// From what age on an answer is replaced.
    pub(super) rewrite_after: Duration,
    /// From what age on an answer is not served.
    pub(super) max_age: Duration,
    /// Now.
    pub(super) now: Timestamp,
}

/// The answer to a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The slot is the asker's.
    Reserved(Turn),
    /// These slots are dead; if the asker empties their records there may be room.
    Dead(Vec<Turn>),
    /// There is a young answer to the same request, or one is on its way, and the index does not change by it.
    Known,
    /// The same, and the index now says that it is asked for more often.
    Raised,
    /// The answer is not to be had a slot for.
    Refused(Refusal),
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no room, and what would have to go is asked for as often.
    Unpopular,
    /// There is no room, and what takes it is on its way.
    Busy,
    /// There is no place for one more list of names.
    Lists,
}

/// All slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    next_generation: u64,
    lists: Vec<Vary>,
    /// Those beyond the end, up to [`SLOTS`], are free.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Reserved,
    Stored,
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    state: State,
    /// Index of the names that `variant` is made of.
    list: u8,
    variant: Digest,
    generation: u64,
    size: u32,
    /// When stored, or until when reserved.
    instant: Timestamp,
    address: Mark,
    /// How often the workers together were asked for it when they last said so: at most [`frequency::MOST`].
    frequency: u8,
}

const FREE: Slot = Slot {
    state: State::Free,
    list: 0,
    variant: Digest([0; 16]),
    generation: 0,
    size: 0,
    instant: Timestamp::from_nanos(0),
    address: Mark::NONE,
    frequency: 0,
};

impl Slot {
    fn charge(&self) -> u64 {
        if self.state == State::Free { 0 } else { u64::from(self.size) }
    }

    /// How often it is asked for: nothing for what cannot be served. What is in demand is written again in time, with a new number;
    /// where that stays out the number halves each time that two such times have passed. An answer was asked for once at least.
    fn demand(&self, wish: &Wish<'_>) -> u8 {
        if self.state == State::Dead || !is_younger(self.instant, wish.max_age, wish.now) {
            return 0;
        }
        let age = wish.now.saturating_since(self.instant);
        let mut number = self.frequency;
        let mut over = wish.rewrite_after.saturating_mul(2);
        while over <= age && 1 < number {
            number /= 2;
            over = over.saturating_add(wish.rewrite_after.saturating_mul(2));
        }
        number.max(1)
    }
}

impl Index {
    /// Nothing kept. Generations go on from the clock, so that they are new even after an unreadable record was replaced.
    pub(super) fn empty(now: Timestamp) -> Self {
        Self { next_generation: now.as_nanos(), lists: Vec::new(), slots: Vec::new() }
    }

    /// Nothing known: what an unreadable record is replaced by. Any slot may hold anything, so each is charged with all that
    /// there can be, and all must be emptied before one is used.
    pub(super) fn unknown(max_bytes: u32, now: Timestamp) -> Self {
        let slot = |generation| Slot { state: State::Dead, generation, size: max_bytes.max(1), ..FREE };
        let start = now.as_nanos();
        let slots: Vec<Slot> = (0..SLOTS as u64).map(|number| slot(start.wrapping_add(number))).collect();
        Self { next_generation: start.wrapping_add(SLOTS as u64), lists: Vec::new(), slots }
    }

    /// Reserves a slot, or says what must be done first. `emptied` are dead slots whose records the asker has emptied since
    /// it was told that they are dead.
    ///
    /// An answer that is on its way replaces the one before only once it is complete, if there is room for both.
    pub(super) fn reserve(&mut self, wish: &Wish<'_>, emptied: &[Turn]) -> Place {
        self.free(emptied);
        self.expire(wish.now);
        let list = self.list_of(wish.vary);
        if let Some(slot) = self.slots.iter_mut().find(|slot| is_known(slot, wish)) {
            let frequency = slot.frequency.saturating_add(wish.untold).min(frequency::MOST);
            if slot.frequency == frequency {
                return Place::Known;
            }
            slot.frequency = frequency;
            return Place::Raised;
        }
        let Some(list) = list.or_else(|| self.add_list(wish.vary)) else {
            return Place::Refused(Refusal::Lists);
        };
        let excess = self.charged().saturating_add(u64::from(wish.size)).saturating_sub(u64::from(wish.max_bytes));
        let free = self.slots.iter().position(|slot| slot.state == State::Free).unwrap_or(self.slots.len());
        let before = self.slots.iter().position(|slot| is_before(slot, wish));
        if excess == 0 && free < SLOTS {
            let generation = self.next_generation;
            self.next_generation = generation.wrapping_add(1);
            let instant = wish.now.saturating_add(RESERVED_FOR);
            let Wish { variant, address, size, .. } = *wish;
            // What other workers said of it counts half, so that it is over some time.
            let said = before.and_then(|index| self.slots.get(index)).map_or(0, |slot| slot.demand(wish) / 2);
            let frequency = wish.frequency.max(said);
            let taken = Slot { state: State::Reserved, list, variant, generation, size, instant, address, frequency };
            match self.slots.get_mut(free) {
                Some(slot) => *slot = taken,
                None => self.slots.push(taken),
            }
            return Place::Reserved(Turn { slot: free, generation });
        }
        let beyond = self.charged().saturating_sub(u64::from(wish.max_bytes));
        let leaving = match self.leaving(wish, excess, None) {
            Err(_) if before.is_some() => self.leaving(wish, excess, before),
            leaving => leaving,
        };
        let leaving = match leaving {
            Err(Refusal::Unpopular) if 0 < beyond => self.leaving(wish, beyond, None),
            leaving => leaving,
        };
        match leaving {
            Ok(leaving) => Place::Dead(leaving.into_iter().filter_map(|index| self.kill(index)).collect()),
            Err(refusal) => Place::Refused(refusal),
        }
    }

    /// Who goes for the wish. Dead slots first, then answers that cannot be served any more, then those that are asked for
    /// least, of these the oldest. `own` is the slot of the answer before, if it is to go: it makes room for nobody else.
    ///
    /// Together those that go must be asked for less than the one that comes, so that a large answer does not take the place of
    /// several small ones that are worth more (Einziger, Eytan, Friedman, Manes, "Lightweight Robust Size Aware Cache
    /// Management", ACM Transactions on Storage 18(3), 2022: the aggregated victims). Numbers end at [`frequency::MOST`], so the sum
    /// leaves out victims that are asked for [far less](NEGLIGIBLE): sixteen answers that were asked for once would outweigh
    /// whatever comes. What is beyond a budget that has become smaller goes whatever comes.
    fn leaving(&self, wish: &Wish<'_>, mut excess: u64, own: Option<usize>) -> Result<Vec<usize>, Refusal> {
        let candidates = self.slots.iter().enumerate().filter(|(_, slot)| may_go(slot) && !is_before(slot, wish));
        let mut candidates: Vec<(usize, &Slot)> = candidates.collect();
        let mut leaving = Vec::new();
        if let Some(slot) = own.and_then(|index| self.slots.get(index)) {
            excess = excess.saturating_sub(slot.charge());
            leaving.extend(own);
        }
        let mut beyond = self.charged().saturating_sub(u64::from(wish.max_bytes));
        let mut lost = 0_u8;
        // One by one, because few have to go, and code that sorts is heavy.
        while 0 < excess || leaving.is_empty() {
            let key = |slot: &Slot| (rank(slot, wish), slot.demand(wish), slot.instant);
            let first = candidates.iter().enumerate().min_by_key(|(_, (_, slot))| key(slot));
            let Some((place, _)) = first else {
                return Err(Refusal::Busy);
            };
            let (index, slot) = candidates.swap_remove(place);
            if beyond == 0 {
                let demand = slot.demand(wish);
                if wish.frequency / NEGLIGIBLE < demand {
                    lost = lost.saturating_add(demand);
                }
            }
            if wish.frequency <= lost {
                return Err(Refusal::Unpopular);
            }
            beyond = beyond.saturating_sub(slot.charge());
            excess = excess.saturating_sub(slot.charge());
            leaving.push(index);
        }
        Ok(leaving)
    }

    fn kill(&mut self, index: usize) -> Option<Turn> {
        let slot = self.slots.get_mut(index)?;
        slot.state = State::Dead;
        Some(Turn { slot: index, generation: slot.generation })
    }

    /// The answer is in the slot's record, which has `size` bytes. The one before it goes. Returns `false` if the slot is
    /// another's by now.
    pub(super) fn confirm(&mut self, turn: Turn, size: u32, stored: Timestamp) -> bool {
        let Some(slot) = self.reserved(turn) else {
            return false;
        };
        *slot = Slot { state: State::Stored, size: size.min(slot.size), instant: stored, ..*slot };
        let variant = slot.variant;
        for (index, other) in self.slots.iter_mut().enumerate() {
            if index != turn.slot && other.state == State::Stored && other.variant == variant {
                other.state = State::Dead;
            }
        }
        true
    }

    /// Whoever reserved the slot has written nothing and will not. Returns `false` if it is another's by now.
    pub(super) fn release(&mut self, turn: Turn) -> bool {
        let Some(slot) = self.reserved(turn) else {
            return false;
        };
        *slot = FREE;
        true
    }

    /// Gives up what is kept, and what is on its way, of these addresses. Returns `false` if there was nothing.
    pub(super) fn forget_addresses(&mut self, addresses: &[Mark]) -> bool {
        self.give_up(|slot| addresses.contains(&slot.address))
    }

    /// Gives up what a request could be answered with; `variant` as in [`Index::newest`]. Returns `false` if there was nothing.
    pub(super) fn forget_answers(&mut self, variant: impl Fn(&Vary) -> Digest) -> bool {
        let variants: Vec<Digest> = self.lists.iter().map(variant).collect();
        self.give_up(|slot| variants.get(usize::from(slot.list)) == Some(&slot.variant))
    }

    fn give_up(&mut self, is_gone: impl Fn(&Slot) -> bool) -> bool {
        let mut any = false;
        let alive = |slot: &&mut Slot| matches!(slot.state, State::Reserved | State::Stored);
        for slot in self.slots.iter_mut().filter(alive).filter(|slot| is_gone(slot)) {
            slot.state = State::Dead;
            any = true;
        }
        any
    }

    /// The newest answer to a request that is young enough, and its digest. `variant` makes the request's digest
    /// from a list of names. An answer that depends on the request's origin comes before one that nobody's origin made: the page that
    /// asks can read it.
    pub(super) fn newest(
        &self,
        max_age: Duration,
        now: Timestamp,
        variant: impl Fn(&Vary) -> Digest,
    ) -> Option<(Turn, Digest)> {
        let variants: Vec<Digest> = self.lists.iter().map(variant).collect();
        let fits = |slot: &Slot| {
            slot.state == State::Stored
                && variants.get(usize::from(slot.list)) == Some(&slot.variant)
                && is_younger(slot.instant, max_age, now)
        };
        let names_origin =
            |slot: &Slot| self.lists.get(usize::from(slot.list)).is_some_and(|it| it.names().any(|it| it == "origin"));
        let candidates = self.slots.iter().enumerate().filter(|(_, slot)| fits(slot));
        let found = candidates.max_by_key(|(_, slot)| (names_origin(slot), slot.instant));
        found.map(|(index, slot)| (Turn { slot: index, generation: slot.generation }, slot.variant))
    }

    /// The most bytes that the records can hold.
    fn charged(&self) -> u64 {
        self.slots.iter().map(Slot::charge).sum()
    }

    fn reserved(&mut self, turn: Turn) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(turn.slot)?;
        (slot.state == State::Reserved && slot.generation == turn.generation).then_some(slot)
    }

    fn free(&mut self, emptied: &[Turn]) {
        for turn in emptied {
            match self.slots.get_mut(turn.slot) {
                Some(slot) if slot.state == State::Dead && slot.generation == turn.generation => *slot = FREE,
                _ => {}
            }
        }
    }

    fn expire(&mut self, now: Timestamp) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Reserved) {
            let ahead = slot.instant.saturating_since(now);
            let clock_went_back = RESERVED_FOR.saturating_add(LATE) < ahead;
            if ahead.is_zero() || clock_went_back {
                slot.state = State::Dead;
            }
        }
    }

    fn list_of(&self, vary: &Vary) -> Option<u8> {
        let place = self.lists.iter().position(|list| list == vary)?;
        u8::try_from(place).ok()
    }

    /// Takes the place of a list that no answer needs, or a new one.
    fn add_list(&mut self, vary: &Vary) -> Option<u8> {
        let needed = |place: usize| {
            let needs = |slot: &Slot| matches!(slot.state, State::Reserved | State::Stored);
            self.slots.iter().any(|slot| needs(slot) && usize::from(slot.list) == place)
        };
        let place = (0..self.lists.len()).find(|place| !needed(*place)).unwrap_or(self.lists.len());
        match self.lists.get_mut(place) {
            Some(list) => *list = vary.clone(),
            None if place < LISTS => self.lists.push(vary.clone()),
            None => return None,
        }
        u8::try_from(place).ok()
    }

    /// What a record says, or `None` if nobody writes such.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (next_generation, rest) = rest.split_first_chunk::<8>()?;
        let (lists_count, mut rest) = rest.split_first()?;
        if *version != LAYOUT || LISTS < usize::from(*lists_count) {
            return None;
        }
        let mut lists = Vec::with_capacity(LISTS);
        for _ in 0..*lists_count {
            let (length, behind) = rest.split_first()?;
            let (names, behind) = behind.split_at_checked(usize::from(*length))?;
            lists.push(Vary::from_record(names)?);
            rest = behind;
        }
        if rest.len() % SLOT_SIZE != 0 || SLOTS * SLOT_SIZE < rest.len() {
            return None;
        }
        let slots = rest.chunks_exact(SLOT_SIZE).map(decode_slot).collect::<Option<_>>()?;
        Some(Self { next_generation: u64::from_le_bytes(*next_generation), lists, slots })
    }

    /// Writes the record into a buffer that is used again.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.push(LAYOUT);
        bytes.extend_from_slice(&self.next_generation.to_le_bytes());
        // At most `LISTS`, of at most `MAX_NAMES` bytes: both below 256.
        bytes.push(u8::try_from(self.lists.len()).unwrap_or(0));
        for list in &self.lists {
            bytes.push(u8::try_from(list.as_bytes().len()).unwrap_or(0));
            bytes.extend_from_slice(list.as_bytes());
        }
        let used = self.slots.iter().rposition(|slot| slot.state != State::Free).map_or(0, |last| last + 1);
        for slot in self.slots.iter().take(used) {
            bytes.push(match slot.state {
                State::Free => 0,
                State::Reserved => 1,
                State::Stored => 2,
                State::Dead => 3,
            });
            bytes.push(slot.list);
            bytes.extend_from_slice(&slot.variant.0);
            bytes.extend_from_slice(&slot.generation.to_le_bytes());
            bytes.extend_from_slice(&slot.size.to_le_bytes());
            bytes.extend_from_slice(&slot.instant.as_nanos().to_le_bytes());
            bytes.extend_from_slice(&slot.address.0.to_le_bytes());
            bytes.push(slot.frequency);
        }
    }
}

fn decode_slot(bytes: &[u8]) -> Option<Slot> {
    let (state, rest) = bytes.split_first()?;
    let (list, rest) = rest.split_first()?;
    let (variant, rest) = rest.split_first_chunk::<16>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<4>()?;
    let (instant, rest) = rest.split_first_chunk::<8>()?;
    let (address, rest) = rest.split_first_chunk::<8>()?;
    let state = match state {
        0 => State::Free,
        1 => State::Reserved,
        2 => State::Stored,
        3 => State::Dead,
        _ => return None,
    };
    Some(Slot {
        state,
        list: *list,
        variant: Digest(*variant),
        generation: u64::from_le_bytes(*generation),
        size: u32::from_le_bytes(*size),
        instant: Timestamp::from_nanos(u64::from_le_bytes(*instant)),
        address: Mark(u64::from_le_bytes(*address)),
        frequency: *rest.first()?,
    })
}

/// By how much a clock may be late that reads what another wrote.
const LATE: Duration = Duration::from_nanos(LATEST_READER);

/// Whether what was stored then is younger than `age`. At exactly that age it is not; and what was stored in the future, by
/// more than a late clock explains, was stored before the clock went back, nobody knows when.
pub(super) fn is_younger(stored: Timestamp, age: Duration, now: Timestamp) -> bool {
    now.saturating_since(stored) < age && stored.saturating_since(now) <= LATE
}

fn is_known(slot: &Slot, wish: &Wish<'_>) -> bool {
    slot.variant == wish.variant
        && match slot.state {
            State::Reserved => true,
            State::Stored => is_younger(slot.instant, wish.rewrite_after, wish.now),
            State::Free | State::Dead => false,
        }
}

/// Whether it is the answer before, which may still be served.
fn is_before(slot: &Slot, wish: &Wish<'_>) -> bool {
    slot.state == State::Stored && slot.variant == wish.variant && is_younger(slot.instant, wish.max_age, wish.now)
}

fn may_go(slot: &Slot) -> bool {
    matches!(slot.state, State::Stored | State::Dead)
}

/// Who goes first.
fn rank(slot: &Slot, wish: &Wish<'_>) -> u8 {
    match slot.state {
        State::Dead => 0,
        _ if !is_younger(slot.instant, wish.max_age, wish.now) => 1,
        _ => 2,
    }
}
