//! The places in which requests of one worker wait, shared among the queues.
//!
//! Each request that waits keeps buffers of the proxy busy, so a worker has [`PLACES`] for all, whatever the limits say. A
//! queue that keeps refilling must not take them all: those of other keys would be refused although nobody is before them.
//! And who waits was promised a place, so nobody is put out again.
//!
//! So a queue may take a place only while fewer of its requests wait than places are free: the *dynamic threshold* of shared
//! buffers in switches, with a factor of one (A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998). One greedy queue then holds half of the
//! places, two a third each, *n* one part of *n* + 1 each, and as much stays free for whoever comes next. A queue that holds
//! more than its share when others come takes no place until enough of its requests have gone on.

use std::cell::{Cell, RefCell};
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::shared::table::KeyHash;

/// How many requests wait in one queue of a worker at most: with nobody else there, half of the [`PLACES`].
pub const MAX_WAITING: usize = 1024;

/// The places of a worker.
pub const PLACES: usize = 2 * MAX_WAITING;

/// One queue: a limit, and a key of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The limit, by its [digest](limit).
    pub limit: u64,
    /// What it counts apart; some constant for a limit without keys.
    pub key: KeyHash,
}

/// Who waits in one worker. Outlives configurations, as those do who wait.
#[derive(Debug, Default)]
pub struct Waiting {
    taken: Cell<usize>,
    /// Queues in which somebody waits, and how many: no more than there are places.
    queues: RefCell<Vec<(Queue, usize)>>,
}

/// What tells the limit whose state is kept under this name from others, over configurations: a digest, so that nothing is kept
/// of limits that are gone. Of names that operators choose no two will have the same.
pub fn limit(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

impl Waiting {
    /// How many requests wait.
    pub fn get(&self) -> usize {
        self.taken.get()
    }

    /// Whether there is a place for one more request of the queue.
    pub fn has_place(&self, queue: Queue) -> bool {
        let queues = self.queues.borrow();
        let own = queues.iter().find(|(it, _)| *it == queue).map_or(0, |(_, count)| *count);
        own < PLACES.saturating_sub(self.taken.get())
    }

    /// A request of the queue begins to wait.
    pub fn join(&self, queue: Queue) {
        self.taken.set(self.taken.get().saturating_add(1));
        let mut queues = self.queues.borrow_mut();
        match queues.iter_mut().find(|(it, _)| *it == queue) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => queues.push((queue, 1)),
        }
    }

    /// A request of the queue waits no longer.
    pub fn leave(&self, queue: Queue) {
        let mut queues = self.queues.borrow_mut();
        let Some(place) = queues.iter().position(|(it, _)| *it == queue) else {
            return;
        };
        self.taken.set(self.taken.get().saturating_sub(1));
        match queues.get_mut(place) {
            Some((_, count @ 2..)) => *count = count.saturating_sub(1),
            _ => drop(queues.swap_remove(place)),
        }
    }
}
