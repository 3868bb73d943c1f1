//! Places of a concurrency limit that the requests of one worker hold, with the instant at which each was taken.
//!
//! A request ends when its client wants it to: half a body that never goes on, or a stream that nobody closes, would hold a
//! place for ever. So a limit may say for how long a place is held at most. Whoever ends a hold, the request or the time, takes
//! the entry off the list, and who comes second finds none: each place is given back exactly once.
//!
//! Every place is entered, also where there is no such time: a configuration that brings one then holds for the requests under
//! way too, and it is because of those that somebody writes it in a hurry.
//!
//! The list is as long as the worker has requests of the limit in flight, so `max_in_flight` bounds it.

use std::cell::RefCell;
use std::time::Duration;

use crate::shared::table::KeyHash;
use crate::time::Timestamp;

/// What one request holds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When it was taken.
    pub taken: Timestamp,
    /// Whose it is; some constant for a limit without keys.
    pub key: KeyHash,
    /// How much.
    pub units: u32,
}

/// The places that one worker's requests hold of one limit.
#[derive(Debug, Default)]
pub struct Places {
    /// In the order of their instants. Equal entries stand for each other: time ends all of them at once.
    held: RefCell<Vec<Place>>,
}

/// A request gave back what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It held it until now.
    Held,
    /// Its time was over before: the place is not its own any more.
    Overdue,
}

impl Places {
    /// A request holds the place from now on.
    pub fn enter(&self, place: Place) {
        let mut held = self.held.borrow_mut();
        let end = held.partition_point(|it| it.taken <= place.taken);
        held.insert(end, place);
    }

    /// A request gives the place back.
    pub fn leave(&self, place: Place) -> Left {
        let mut held = self.held.borrow_mut();
        let before = held.partition_point(|it| it.taken < place.taken);
        let mut same_instant = held.iter().skip(before).take_while(|it| it.taken == place.taken);
        match same_instant.position(|it| *it == place) {
            Some(index) => {
                held.remove(before.saturating_add(index));
                Left::Held
            }
            None => Left::Overdue,
        }
    }

    /// Takes away the places that have been held for `max_hold` or longer.
    pub fn take_overdue(&self, max_hold: Duration, now: Timestamp) -> Vec<Place> {
        let mut held = self.held.borrow_mut();
        let overdue = held.partition_point(|it| it.taken.saturating_add(max_hold) <= now);
        held.drain(..overdue).collect()
    }

    /// When the place that is held longest was taken.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.held.borrow().first().map(|it| it.taken)
    }
}
