//! What a worker keeps for a shared record, whichever configuration uses it.

use std::cell::RefCell;
use std::rc::Rc;

use crate::sorted::SortedMap;

/// One `T` per record, made when it is first asked for. Outlives configurations, so that the state that a worker keeps
/// beside a record is one, like the record.
#[derive(Debug)]
pub struct ByKey<T> {
    map: RefCell<SortedMap<String, Rc<T>>>,
}

impl<T> Default for ByKey<T> {
    fn default() -> Self {
        Self { map: RefCell::default() }
    }
}

impl<T: Default> ByKey<T> {
    /// What is kept for the record.
    pub fn of(&self, key: &str) -> Rc<T> {
        self.map.borrow_mut().get_or_insert_with(key, Rc::default)
    }

    /// Whether anything kept is so.
    pub fn any(&self, is_so: impl Fn(&T) -> bool) -> bool {
        self.map.borrow().values().any(|it| is_so(it))
    }
}
