//! A meter in one shared record, of which a busy worker takes batches in advance; see [`lease`](super::lease).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::by_key::ByKey;
use crate::shared::lease::{Claim, Exchange, Exchanged, Lease};
use crate::shared::meter::{Denial, Leasable};
use crate::shared::record::Step;
use crate::shared::single::Single;
use crate::time::Timestamp;

/// The leases of one worker.
pub type Leases = ByKey<RefCell<Lease>>;

/// A shared meter and this worker's lease of it.
#[derive(Debug)]
pub struct Leased<M: Copy> {
    shared: Single<M>,
    lease: Rc<RefCell<Lease>>,
}

/// Units that a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Got {
    /// Whole units left: on lease, and in the record when this worker last asked.
    pub remaining: u64,
    /// How long the request must wait.
    pub wait: Duration,
    /// When they were counted in the record.
    pub counted: Timestamp,
}

impl<M: Leasable> Leased<M> {
    /// The meter, with the lease that the worker has of it.
    pub fn new(shared: Single<M>, leases: &Leases) -> Self {
        let lease = leases.of(shared.key());
        Self { shared, lease }
    }

    /// The policy as it is now.
    pub fn meter(&self) -> M {
        self.shared.meter()
    }

    /// Takes `cost` units, or says when they will be there. Calls the proxy only if the lease does not tell.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`Single::update`].
    pub fn take(&self, cx: &Cx<'_>, cost: u64) -> Result<Result<Got, Denial>, HostError> {
        let now = cx.now();
        let meter = self.shared.meter();
        let mut lease = self.lease.borrow_mut();
        let exchange = match lease.claim(&meter, cost, now) {
            Claim::Granted => {
                return Ok(Ok(Got { remaining: lease.left(), wait: Duration::ZERO, counted: lease.counted() }));
            }
            Claim::Refused(wait) => return Ok(Err(Denial { remaining: 0, retry_after: Some(wait) })),
            Claim::Ask(exchange) => exchange,
        };
        match self.exchange(cx, &exchange)? {
            Ok((taken, wait)) => {
                lease.exchanged(&meter, &exchange, &taken, now);
                if let Some(lasts) = lease.lasts(&meter, now) {
                    cx.host.wake_at(now.saturating_add(lasts));
                }
                Ok(Ok(Got { remaining: lease.left(), wait, counted: now }))
            }
            Err(denial) => {
                let retry_after = lease.refused(&meter, &exchange, denial.retry_after, now);
                Ok(Err(Denial { retry_after, ..denial }))
            }
        }
    }

    /// What [`Leased::take`] would be refused; takes nothing. Calls the proxy only if this worker does not remember.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub fn peek(&self, cx: &Cx<'_>, cost: u64) -> Result<Option<Denial>, HostError> {
        let now = cx.now();
        let (meter, lease) = (self.shared.meter(), self.lease.borrow());
        if lease.has(&meter, cost, now) {
            return Ok(None);
        }
        match lease.paused(&meter, cost, now) {
            Some(wait) => Ok(Some(Denial { remaining: 0, retry_after: Some(wait) })),
            None => self.shared.peek(cx, cost),
        }
    }

    /// Gives back all that is on lease.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units stay taken.
    pub fn surrender(&self, cx: &Cx<'_>) -> Result<(), HostError> {
        let mut lease = self.lease.borrow_mut();
        match lease.surrender() {
            0 => Ok(()),
            units => self.shared.refund(cx, units, lease.counted()).map(|_| ()),
        }
    }

    /// Takes back units, counted at `taken` or for that instant, of a request that was refused after all, unless time has
    /// brought them back. Returns whether they could be given back.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units stay taken.
    pub fn refund(&self, cx: &Cx<'_>, cost: u64, taken: Timestamp) -> Result<bool, HostError> {
        let now = cx.now();
        let meter = self.shared.meter();
        if meter.is_back(taken, now) {
            return Ok(false);
        }
        let mut lease = self.lease.borrow_mut();
        match lease.give_back(&meter, cost, taken, now) {
            0 => {
                if let Some(lasts) = lease.lasts(&meter, now) {
                    cx.host.wake_at(now.saturating_add(lasts));
                }
                Ok(true)
            }
            returned => self.shared.refund(cx, returned, taken),
        }
    }

    /// Gives back what was not used in its time. Returns how long to wait before this is to be called again, `None` if
    /// nothing is on lease.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units stay taken.
    pub fn settle(&self, cx: &Cx<'_>) -> Result<Option<Duration>, HostError> {
        let now = cx.now();
        let (meter, mut lease) = (self.shared.meter(), self.lease.borrow_mut());
        let expired = lease.expire(&meter, now);
        if 0 < expired {
            self.shared.refund(cx, expired, lease.counted())?;
        }
        Ok(lease.lasts(&meter, now))
    }

    /// What was taken, and how long the request must wait for it.
    fn exchange(&self, cx: &Cx<'_>, exchange: &Exchange) -> Result<Result<(Exchanged, Duration), Denial>, HostError> {
        let now = cx.now();
        let meter = self.shared.meter();
        self.shared.update(cx, |state| {
            let returned = match exchange.give_back {
                0 => *state,
                units => meter.refund(*state, units, exchange.counted),
            };
            let share = exchange.share_of(meter.available(returned, now)).unwrap_or(exchange.least);
            match meter.take(returned, share, now) {
                Ok(grant) => {
                    *state = grant.state;
                    Step::Write(Ok((Exchanged { taken: share, left: grant.remaining }, grant.wait)))
                }
                Err(denial) if returned != *state => {
                    *state = returned;
                    Step::Write(Err(denial))
                }
                Err(denial) => Step::Keep(Err(denial)),
            }
        })
    }
}
