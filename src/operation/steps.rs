//! How much work may still be done.

use std::cell::Cell;

/// Steps of a search whose work could otherwise grow with the square of the document.
#[derive(Debug)]
pub struct Steps(Cell<usize>);

impl Steps {
    /// So many.
    pub const fn new(steps: usize) -> Self {
        Self(Cell::new(steps))
    }

    /// Spends so many. Returns `false` if there are not as many left: then none are from now on.
    pub fn spend(&self, steps: usize) -> bool {
        let left = self.0.get().checked_sub(steps);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Whether none are left, so that a search has ended before its time.
    pub fn are_spent(&self) -> bool {
        self.0.get() == 0
    }
}
