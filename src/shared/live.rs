//! The parameters of a meter as the latest configuration has them.
//!
//! After a configuration update the old configuration goes on serving until its connections are drained, and both judge by
//! the same record. Were each to judge by its own parameters, the record would be converted to and fro, and what a smaller
//! meter can't hold would be forgotten each time: an emergency tightening would become no limit at all. So within a worker
//! the latest parameters hold for both, and a record is converted once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::sorted::SortedMap;

/// Parameters that a later configuration may change.
#[derive(Clone, Debug)]
pub struct Live<M: Copy>(Rc<Cell<M>>);

impl<M: Copy> Live<M> {
    /// The parameters as they are now.
    pub fn get(&self) -> M {
        self.0.get()
    }
}

impl<M: Copy> From<M> for Live<M> {
    /// Parameters that nobody else changes.
    fn from(meter: M) -> Self {
        Self(Rc::new(Cell::new(meter)))
    }
}

/// The latest parameters of one kind of meter in one worker, by the key of the record.
#[derive(Debug)]
pub struct Latest<M: Copy> {
    by_key: RefCell<SortedMap<String, Live<M>>>,
}

impl<M: Copy> Default for Latest<M> {
    fn default() -> Self {
        Self { by_key: RefCell::default() }
    }
}

impl<M: Copy> Latest<M> {
    /// Makes `meter` what holds for the record, also for those who use it already.
    pub fn announce(&self, key: &str, meter: M) {
        self.of(key, meter).0.set(meter);
    }

    /// What holds for the record: what was announced last, or `meter` if nothing was.
    pub fn of(&self, key: &str, meter: M) -> Live<M> {
        self.by_key.borrow_mut().get_or_insert_with(key, || Live::from(meter))
    }
}
