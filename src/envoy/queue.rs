//! Requests that are to be woken at an instant: held ones, and those that have a deadline.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::time::Timestamp;

/// The requests of one configuration in one worker that are to be woken, by stream context and in the order of their instants. The
/// pipeline bounds how many are held, and Envoy how many are under way.
#[derive(Default)]
pub(super) struct Queue {
    held: RefCell<BTreeSet<(Timestamp, u32)>>,
}

impl Queue {
    /// Has the request woken at `due`.
    pub(super) fn hold(&self, due: Timestamp, stream: u32) {
        self.held.borrow_mut().insert((due, stream));
    }

    /// Forgets a request that need not be woken.
    pub(super) fn forget(&self, due: Timestamp, stream: u32) {
        self.held.borrow_mut().remove(&(due, stream));
    }

    /// The next request whose instant has come; it is forgotten.
    pub(super) fn release(&self, now: Timestamp) -> Option<u32> {
        let mut held = self.held.borrow_mut();
        let (due, stream) = *held.first()?;
        if now < due {
            return None;
        }
        held.pop_first();
        Some(stream)
    }

    /// The next instant, `None` if there is none.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.held.borrow().first().map(|(due, _)| *due)
    }
}
