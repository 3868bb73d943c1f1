//! The requests whose attempts are seen one by one, by number.
//!
//! The instance of the filter downstream and the one upstream run in the same virtual machine, and a request is served by one
//! worker from beginning to end. So what they know of it between them is in the worker's memory, and the request carries
//! only a number ([`Host::set_request_number`](crate::host::Host::set_request_number)).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::retry::attempts::Attempts;
use crate::time::Timestamp;

/// Where in the proxy the filter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Among the filters of a listener, where it sees each request once.
    #[default]
    Downstream,
    /// Among the filters of an upstream, where it sees each attempt. It pays for retries and does nothing else; by which
    /// rules, the filter downstream knows. So such a configuration has no policies: those of its document are checked, so that
    /// one document serves both places, and left out.
    Upstream,
}

/// The register of one worker.
#[derive(Debug, Default)]
pub struct Register {
    /// In the order of their numbers.
    open: RefCell<VecDeque<(u64, Rc<Attempts>)>>,
    last: Cell<u64>,
    upstream: Cell<u32>,
    downstream: Cell<u32>,
}

impl Register {
    /// A configuration for this place was taken up.
    pub fn join(&self, placement: Placement) {
        let instances = self.instances(placement);
        instances.set(instances.get().saturating_add(1));
    }

    /// A configuration for this place is gone.
    pub fn leave(&self, placement: Placement) {
        let instances = self.instances(placement);
        instances.set(instances.get().saturating_sub(1));
    }

    /// Whether an instance stands there.
    pub fn has(&self, placement: Placement) -> bool {
        0 < self.instances(placement).get()
    }

    /// Enters a request that goes out at `now`, and gives it its number. Numbers grow with time and are never given twice, so that
    /// a request of before a trap, whose worker forgot it, is not taken for another one.
    pub fn enter(&self, attempts: &Rc<Attempts>, now: Timestamp) -> u64 {
        let number = now.as_nanos().max(self.last.get().saturating_add(1));
        self.last.set(number);
        self.open.borrow_mut().push_back((number, Rc::clone(attempts)));
        number
    }

    /// The request with this number, if it is open.
    pub fn find(&self, number: u64) -> Option<Rc<Attempts>> {
        let open = self.open.borrow();
        let index = open.binary_search_by_key(&number, |(it, _)| *it).ok()?;
        open.get(index).map(|(_, attempts)| Rc::clone(attempts))
    }

    /// The request with this number has ended.
    pub fn strike(&self, number: u64) {
        let mut open = self.open.borrow_mut();
        if let Ok(index) = open.binary_search_by_key(&number, |(it, _)| *it) {
            open.remove(index);
        }
    }

    fn instances(&self, placement: Placement) -> &Cell<u32> {
        match placement {
            Placement::Downstream => &self.downstream,
            Placement::Upstream => &self.upstream,
        }
    }
}
