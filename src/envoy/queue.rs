//! Requests that are held until their instant comes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::host::Direction;
use crate::pipeline::Ticket;
use crate::time::Timestamp;

/// A stream's ticket, where both the stream and the queue find it. Empty once the stream has ended.
pub(super) type SharedTicket = Rc<RefCell<Option<Ticket>>>;

/// A held request.
pub(super) struct Held {
    /// Its stream context.
    pub(super) stream: u32,
    /// Which filter it went through.
    pub(super) direction: Direction,
    /// What it holds.
    pub(super) ticket: SharedTicket,
}

/// Where a held request stands in the queue: its instant, then its stream.
type Place = (Timestamp, u32);

/// The held requests of one configuration in one worker, in the order of their instants. The pipeline bounds how many wait.
#[derive(Default)]
pub(super) struct Queue {
    held: RefCell<BTreeMap<Place, Entry>>,
}

struct Entry {
    direction: Direction,
    ticket: SharedTicket,
}

impl Queue {
    /// Holds the request until `due`.
    pub(super) fn hold(&self, due: Timestamp, held: Held) {
        let entry = Entry { direction: held.direction, ticket: held.ticket };
        self.held.borrow_mut().insert((due, held.stream), entry);
    }

    /// Forgets a request whose stream has ended.
    pub(super) fn forget(&self, due: Timestamp, stream: u32) {
        self.held.borrow_mut().remove(&(due, stream));
    }

    /// The next request whose instant has come; it is held no longer.
    pub(super) fn release(&self, now: Timestamp) -> Option<Held> {
        let mut held = self.held.borrow_mut();
        let first = held.first_entry()?;
        let (due, stream) = *first.key();
        if now < due {
            return None;
        }
        let Entry { direction, ticket } = first.remove();
        Some(Held { stream, direction, ticket })
    }

    /// The next instant, `None` if nothing is held.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.held.borrow().first_key_value().map(|((due, _), _)| *due)
    }
}
