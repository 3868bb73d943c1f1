//! Requests that are held until their instant comes.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::time::Timestamp;

/// The held requests of one configuration in one worker, by stream context and in the order of their instants. The pipeline
/// bounds how many wait.
#[derive(Default)]
pub(super) struct Queue {
    held: RefCell<BTreeSet<(Timestamp, u32)>>,
}

impl Queue {
    /// Holds the request until `due`.
    pub(super) fn hold(&self, due: Timestamp, stream: u32) {
        self.held.borrow_mut().insert((due, stream));
    }

    /// Forgets a request whose stream has ended.
    pub(super) fn forget(&self, due: Timestamp, stream: u32) {
        self.held.borrow_mut().remove(&(due, stream));
    }

    /// The next request whose instant has come; it is held no longer.
    pub(super) fn release(&self, now: Timestamp) -> Option<u32> {
        let mut held = self.held.borrow_mut();
        let (due, stream) = *held.first()?;
        if now < due {
            return None;
        }
        held.pop_first();
        Some(stream)
    }

    /// The next instant, `None` if nothing is held.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.held.borrow().first().map(|(due, _)| *due)
    }
}
