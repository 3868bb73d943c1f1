//! Places in a queue that were given up before their instant came.
//!
//! The queue's record says only which instant is free next. A request that leaves from the end of the queue takes that
//! back; one that leaves from the middle leaves an instant behind that the record knows nothing of. The worker keeps it and
//! gives it to the next request that comes to it. So a place is never lost, and no instant is given twice.

use std::cell::RefCell;

use crate::shared::table::KeyHash;
use crate::sorted;
use crate::time::Timestamp;

/// The most places that are kept per limit. More leave at once only from a queue that nobody else waits in.
const CAPACITY: usize = 1024;

/// A place: whose queue, when, and for which cost.
type Place = (u64, Timestamp, u64);

/// The vacant places that one worker knows of one limit.
#[derive(Debug, Default)]
pub struct Vacancies {
    /// In order.
    places: RefCell<Vec<Place>>,
}

impl Vacancies {
    /// The earliest place for the cost from `now` until `latest`, which is vacant no longer. Places of a slower pace, before a
    /// configuration update, may lie further ahead than anybody waits now.
    pub fn take(&self, key: KeyHash, cost: u64, now: Timestamp, latest: Timestamp) -> Option<Timestamp> {
        let mut places = self.places.borrow_mut();
        let index = find(&places, cost, (key.0, now, 0), (key.0, latest, u64::MAX))?;
        Some(places.remove(index).1)
    }

    /// Whether there is such a place.
    pub fn has(&self, key: KeyHash, cost: u64, now: Timestamp, latest: Timestamp) -> bool {
        find(&self.places.borrow(), cost, (key.0, now, 0), (key.0, latest, u64::MAX)).is_some()
    }

    /// Keeps the place until its instant, if there is room.
    pub fn leave(&self, key: KeyHash, instant: Timestamp, cost: u64, now: Timestamp) {
        let mut places = self.places.borrow_mut();
        if CAPACITY <= places.len() {
            places.retain(|place| now <= place.1);
        }
        if places.len() < CAPACITY && now <= instant {
            sorted::insert(&mut places, (key.0, instant, cost));
        }
    }
}

/// Where the first place for the cost is, of those from `first` to `last`.
fn find(places: &[Place], cost: u64, first: Place, last: Place) -> Option<usize> {
    let before = places.partition_point(|place| *place < first);
    let mut between = places.iter().enumerate().skip(before).take_while(|(_, place)| **place <= last);
    between.find(|(_, place)| place.2 == cost).map(|(index, _)| index)
}
