//! What a worker remembers, so that it does not ask the proxy about every answer.
//!
//! An answer in demand passes thousands of times between two writes of its slot. Each worker remembers which answers it has
//! just dealt with, in a small table in which a newcomer takes the place of another: to forget one costs a look at
//! the index.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::degrade::stale::address::Mark;
use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::frequency::Frequencies;
use crate::degrade::stale::index::RESERVED_FOR;
use crate::limit::token_bucket::{Tat, TokenBucket};
use crate::shared::by_key::ByKey;
use crate::shared::meter::Meter;
use crate::time::Timestamp;

/// The most answers that one worker holds at once while they come in. Their bytes count in `max_bytes` as well.
pub const MAX_CAPTURES: usize = 16;

/// How many answers a worker begins to keep per second, and at once. To keep an answer takes about as long as the whole
/// filter otherwise does for ten requests; so a crawler that asks for a million pages costs a hundredth of a core, and what
/// many ask for is kept soon nevertheless.
const STARTS_PER_SECOND: u32 = 100;
const STARTS_AT_ONCE: u32 = 200;

/// Answers that are remembered: 16 KB per rule.
const REMEMBERED: usize = 512;

/// How long a worker takes it that there is no room for answers that are asked for so seldom: a flood of such would cost a look at
/// the index each.
const TURNED_AWAY_FOR: Duration = Duration::from_secs(1);

/// The memories of one worker, per rule.
pub type Memories = ByKey<Memory>;

/// What a worker remembers of a rule's answers. Outlives configurations, as the answers do.
#[derive(Debug, Default)]
pub struct Memory {
    seen: RefCell<Vec<Seen>>,
    frequencies: RefCell<Frequencies>,
    turned_away: Cell<Option<TurnedAway>>,
    starts: Cell<Tat>,
    captures: RefCell<Vec<Rc<Place>>>,
}

/// Room for one answer while it comes in.
#[derive(Debug)]
struct Place {
    /// Since when.
    taken: Timestamp,
    /// What has come; `None` when the room was given to another answer, or is needed no more.
    bytes: RefCell<Option<Vec<u8>>>,
}

/// An answer that was dealt with.
#[derive(Clone, Copy, Debug)]
struct Seen {
    variant: Digest,
    address: Mark,
    at: Timestamp,
    /// How often it had been asked for by then.
    frequency: u8,
}

/// An answer for which there was no room.
#[derive(Clone, Copy, Debug)]
struct TurnedAway {
    frequency: u8,
    size: u32,
    at: Timestamp,
}

impl Default for Seen {
    fn default() -> Self {
        Self { variant: Digest::default(), address: Mark::NONE, at: Timestamp::default(), frequency: 0 }
    }
}

impl Memory {
    /// Whether the answer was dealt with less than `time` ago. A clock that went back knows nothing.
    pub(super) fn has_seen(&self, variant: Digest, time: Duration, now: Timestamp) -> bool {
        self.last_frequency(variant, time, now).is_some()
    }

    /// How often the answer had been asked for when it was dealt with, if that was less than `time` ago.
    pub(super) fn last_frequency(&self, variant: Digest, time: Duration, now: Timestamp) -> Option<u8> {
        let seen = self.seen.borrow();
        let found = seen.get(variant.place(REMEMBERED)).filter(|seen| seen.variant == variant);
        found.filter(|seen| seen.at <= now && now.saturating_since(seen.at) < time).map(|seen| seen.frequency)
    }

    /// Counts a request for the answer, or whatever has the digest. Returns how often it was counted lately.
    pub(super) fn count(&self, digest: Digest) -> u8 {
        self.frequencies.borrow_mut().count(digest.number())
    }

    /// Whether there was no room lately for an answer no larger that was asked for as often. Not asked of one that this worker has
    /// dealt with: it may take the place of the one before it.
    pub(super) fn is_turned_away(&self, variant: Digest, frequency: u8, size: u32, now: Timestamp) -> bool {
        let is_lately = |it: &TurnedAway| it.at <= now && now.saturating_since(it.at) < TURNED_AWAY_FOR;
        let last = self.turned_away.get().filter(is_lately);
        last.is_some_and(|last| frequency <= last.frequency && last.size <= size)
            && !self.seen.borrow().get(variant.place(REMEMBERED)).is_some_and(|seen| seen.variant == variant)
    }

    /// There is no room for an answer of so many bytes that is asked for so often.
    pub(super) fn turn_away(&self, frequency: u8, size: u32, now: Timestamp) {
        self.turned_away.set(Some(TurnedAway { frequency, size, at: now }));
    }

    /// The answer is dealt with, or what was said of it.
    pub(super) fn see(&self, variant: Digest, address: Mark, frequency: u8, now: Timestamp) {
        self.put(variant, Seen { variant, address, at: now, frequency });
    }

    /// The answer that was dealt with has been asked for so often by now; with [`MOST`](super::MOST) it is not looked at again before its
    /// time.
    pub(super) fn tell(&self, variant: Digest, frequency: u8) {
        match self.seen.borrow_mut().get_mut(variant.place(REMEMBERED)) {
            Some(place) if place.variant == variant => place.frequency = frequency,
            _ => {}
        }
    }

    /// Nothing of these addresses is kept any more: the next answers may be.
    pub(super) fn forget_addresses(&self, addresses: &[Mark]) {
        self.turned_away.set(None);
        for seen in self.seen.borrow_mut().iter_mut().filter(|seen| addresses.contains(&seen.address)) {
            *seen = Seen::default();
        }
    }

    /// The answer was not kept after all: the next one may be.
    pub(super) fn forget(&self, variant: Digest) {
        let mut seen = self.seen.borrow_mut();
        match seen.get_mut(variant.place(REMEMBERED)) {
            Some(place) if place.variant == variant => *place = Seen::default(),
            _ => {}
        }
    }

    /// Leave to begin with an answer, unless there are too many on their way or there were too many lately. One that has been on its
    /// way for [`RESERVED_FOR`] has stalled: it lost its slot, and loses its place here.
    pub(super) fn permit(self: &Rc<Self>, now: Timestamp) -> Option<Permit> {
        let mut captures = self.captures.try_borrow_mut().ok()?;
        captures.retain(|place| {
            let stalled = RESERVED_FOR <= now.saturating_since(place.taken);
            if stalled {
                place.clear();
            }
            !stalled
        });
        if MAX_CAPTURES <= captures.len() {
            return None;
        }
        if let Ok(pace) = TokenBucket::new(STARTS_AT_ONCE, STARTS_PER_SECOND, Duration::from_secs(1)) {
            // A clock that went back would end it for as long as it went.
            let starts = match pace.repair(self.starts.get(), now) {
                Some(_) => Tat::default(),
                None => self.starts.get(),
            };
            self.starts.set(pace.take(starts, 1, now).ok()?.state);
        }
        let place = Rc::new(Place { taken: now, bytes: RefCell::new(Some(Vec::new())) });
        captures.push(Rc::clone(&place));
        Some(Permit { memory: Rc::clone(self), place })
    }

    fn put(&self, variant: Digest, it: Seen) {
        let mut seen = self.seen.borrow_mut();
        if seen.is_empty() {
            seen.resize(REMEMBERED, Seen::default());
        }
        if let Some(place) = seen.get_mut(variant.place(REMEMBERED)) {
            *place = it;
        }
    }
}

impl Place {
    fn clear(&self) {
        if let Ok(mut bytes) = self.bytes.try_borrow_mut() {
            *bytes = None;
        }
    }
}

/// Leave to hold one answer in memory, as long as it comes in.
#[derive(Debug)]
pub(super) struct Permit {
    memory: Rc<Memory>,
    place: Rc<Place>,
}

impl Permit {
    /// The memory that gave it.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Adds to what is held, as long as that is no more than `size` bytes. Returns `false` if it would be, or if the place was taken
    /// away.
    pub(super) fn hold(&self, part: &[u8], size: usize) -> bool {
        let Ok(mut held) = self.place.bytes.try_borrow_mut() else {
            return false;
        };
        match held.as_mut() {
            Some(bytes) if bytes.len().saturating_add(part.len()) <= size => {
                bytes.extend_from_slice(part);
                true
            }
            _ => false,
        }
    }

    /// Lets go of what is held, and returns it; `None` if the place was taken away.
    pub(super) fn release(&self) -> Option<Vec<u8>> {
        self.place.bytes.try_borrow_mut().ok()?.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Ok(mut captures) = self.memory.captures.try_borrow_mut() {
            captures.retain(|place| !Rc::ptr_eq(place, &self.place));
        }
    }
}
