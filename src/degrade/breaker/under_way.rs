//! Requests that the service has not begun to answer.
//!
//! A request that hangs is known to be slow long before it ends. So each is entered with the instant after which it is slow, and
//! leaves when its response headers come, or its stream ends without. Those that are still there at that instant are taken out
//! and [counted](super::watch::Watch::sweep) at once.
//!
//! Kept is a number of requests per [`SLOT`] of time, not each request: so it is a few bytes, whatever the load, and nobody is
//! taken for slow who is not. It costs up to a slot of time until a hanging request is found.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

/// A slot is 2^27 nanoseconds long: 134 ms.
const SLOT_BITS: u32 = 27;

/// How long a slot is.
pub const SLOT: Duration = Duration::from_nanos(1 << SLOT_BITS);

/// The most slots, enough for requests of 68 s. Requests for which there is none count when they end.
pub const MAX_SLOTS: usize = 512;

/// Requests under way, by the slot in which they become slow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// In the order of time. Neither the first nor the last is empty.
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    number: u64,
    requests: u32,
}

/// How a request stands that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stay {
    /// It was not entered.
    #[default]
    Outside,
    /// It is slow if it is still under way after this instant.
    Until(Timestamp),
}

impl UnderWay {
    /// Enters a request that is slow after `due`.
    pub fn enter(&mut self, due: Timestamp) -> Stay {
        let number = number(due);
        // Nearly always the last or the one after it.
        let behind = self.slots.iter().rev().take_while(|it| number < it.number).count();
        let place = self.slots.len().saturating_sub(behind);
        if let Some(slot) = place.checked_sub(1).and_then(|it| self.slots.get_mut(it))
            && slot.number == number
        {
            slot.requests = slot.requests.saturating_add(1);
            return Stay::Until(due);
        }
        if MAX_SLOTS <= self.slots.len() {
            return Stay::Outside;
        }
        self.slots.insert(place, Slot { number, requests: 1 });
        Stay::Until(due)
    }

    /// Lets out a request that was entered. Returns whether it was still there: if not, it was taken for overdue.
    pub fn leave(&mut self, due: Timestamp) -> bool {
        let number = number(due);
        let Some(slot) = self.slots.iter_mut().find(|it| it.number == number) else {
            return false;
        };
        slot.requests = slot.requests.saturating_sub(1);
        while self.slots.front().is_some_and(|it| it.requests == 0) {
            self.slots.pop_front();
        }
        while self.slots.back().is_some_and(|it| it.requests == 0) {
            self.slots.pop_back();
        }
        true
    }

    /// Takes out the requests that are slow by now, and says how many.
    pub fn take_overdue(&mut self, now: Timestamp) -> u32 {
        let mut overdue: u32 = 0;
        while let Some(slot) = self.slots.pop_front_if(|it| end(it.number) <= now) {
            overdue = overdue.saturating_add(slot.requests);
        }
        overdue
    }

    /// When the next are overdue; `None` if nobody is under way.
    pub fn next(&self) -> Option<Timestamp> {
        self.slots.front().map(|it| end(it.number))
    }
}

fn number(instant: Timestamp) -> u64 {
    instant.as_nanos() >> SLOT_BITS
}

/// From when on all requests of the slot are slow.
fn end(number: u64) -> Timestamp {
    Timestamp::from_nanos(number.saturating_add(1).saturating_mul(1 << SLOT_BITS))
}
