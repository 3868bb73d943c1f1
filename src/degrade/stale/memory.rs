//! What a worker remembers, so that it does not ask the proxy about every answer.
//!
//! An answer in demand passes thousands of times between two writes of its slot. Each worker remembers which answers it has
//! just dealt with, in a small table in which a newcomer takes the place of another: to forget one costs a look at
//! the index.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::degrade::stale::digest::Digest;
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

/// Answers that are remembered: 12 KB per rule.
const REMEMBERED: usize = 512;

/// The memories of one worker, per rule.
pub type Memories = ByKey<Memory>;

/// What a worker remembers of a rule's answers. Outlives configurations, as the answers do.
#[derive(Debug, Default)]
pub struct Memory {
    seen: RefCell<Vec<Seen>>,
    starts: Cell<Tat>,
    captures: Cell<usize>,
}

/// An answer that was dealt with.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    variant: Digest,
    at: Timestamp,
}

impl Memory {
    /// Whether the answer was dealt with less than `time` ago. A clock that went back knows nothing.
    pub(super) fn has_seen(&self, variant: Digest, time: Duration, now: Timestamp) -> bool {
        let seen = self.seen.borrow();
        let found = seen.get(variant.place(REMEMBERED)).filter(|seen| seen.variant == variant);
        found.is_some_and(|seen| seen.at <= now && now.saturating_since(seen.at) < time)
    }

    /// The answer is dealt with.
    pub(super) fn see(&self, variant: Digest, now: Timestamp) {
        self.put(variant, Seen { variant, at: now });
    }

    /// The answer was not kept after all: the next one may be.
    pub(super) fn forget(&self, variant: Digest) {
        let mut seen = self.seen.borrow_mut();
        match seen.get_mut(variant.place(REMEMBERED)) {
            Some(place) if place.variant == variant => *place = Seen::default(),
            _ => {}
        }
    }

    /// Leave to begin with an answer, unless there are too many on their way or there were too many lately.
    pub(super) fn permit(self: &Rc<Self>, now: Timestamp) -> Option<Permit> {
        if MAX_CAPTURES <= self.captures.get() {
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
        self.captures.set(self.captures.get().saturating_add(1));
        Some(Permit(Rc::clone(self)))
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

/// Leave to hold one answer in memory, as long as it lasts.
#[derive(Debug)]
pub(super) struct Permit(Rc<Memory>);

impl Permit {
    /// The memory that gave it.
    pub(super) fn memory(&self) -> &Memory {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.captures.set(self.0.captures.get().saturating_sub(1));
    }
}
