//! A token bucket in one shared record, of which a busy worker takes batches in advance; see [`lease`](super::lease).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{Host, HostError};
use crate::limit::token_bucket::TokenBucket;
use crate::monitor::trouble::Trouble;
use crate::shared::by_key::ByKey;
use crate::shared::lease::{Claim, Exchange, Exchanged, LIFETIME, Lease};
use crate::shared::meter::{Denial, Meter};
use crate::shared::record::Step;
use crate::shared::single::Single;
use crate::time::Timestamp;

/// The leases of one worker.
pub type Leases = ByKey<RefCell<Lease>>;

/// A shared bucket and this worker's lease of it.
#[derive(Debug)]
pub struct Leased {
    shared: Single<TokenBucket>,
    lease: Rc<RefCell<Lease>>,
}

impl Leased {
    /// The bucket, with the lease that the worker has of it.
    pub fn new(shared: Single<TokenBucket>, leases: &Leases) -> Self {
        let lease = leases.of(shared.key());
        Self { shared, lease }
    }

    /// Takes `cost` tokens, or says when they will be there. Calls the proxy only if the lease does not tell. Returns how many
    /// are left: on lease, and in the bucket when this worker last asked.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`Single::update`].
    pub fn take(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        cost: u64,
        now: Timestamp,
    ) -> Result<Result<u64, Denial>, HostError> {
        let bucket = self.shared.meter();
        if bucket.max_tokens() < cost {
            return Ok(Err(Denial { remaining: self.lease.borrow().tokens(), retry_after: None }));
        }
        let mut lease = self.lease.borrow_mut();
        let exchange = match lease.claim(&bucket, cost, now) {
            Claim::Granted => return Ok(Ok(lease.left())),
            Claim::Refused(wait) => return Ok(Err(Denial { remaining: 0, retry_after: Some(wait) })),
            Claim::Ask(exchange) => exchange,
        };
        match self.exchange(host, trouble, &exchange, now)? {
            Ok(taken) => {
                lease.exchanged(&bucket, &exchange, &taken, now);
                if 0 < lease.tokens() {
                    host.wake_at(now.saturating_add(LIFETIME));
                }
                Ok(Ok(lease.left()))
            }
            Err(denial) => {
                let wait = denial.retry_after.unwrap_or_default();
                let retry_after = Some(lease.refused(&bucket, &exchange, wait, now));
                Ok(Err(Denial { retry_after, ..denial }))
            }
        }
    }

    /// What [`Leased::take`] would be refused; takes nothing. Calls the proxy only if this worker does not remember.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub fn peek(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        cost: u64,
        now: Timestamp,
    ) -> Result<Option<Denial>, HostError> {
        let lease = self.lease.borrow();
        if lease.has(cost, now) {
            return Ok(None);
        }
        match lease.paused(&self.shared.meter(), cost, now) {
            Some(wait) => Ok(Some(Denial { remaining: 0, retry_after: Some(wait) })),
            None => self.shared.peek(host, trouble, cost, now),
        }
    }

    /// Gives back all that is on lease.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the tokens stay taken.
    pub fn surrender(&self, host: &dyn Host, trouble: &Trouble, now: Timestamp) -> Result<(), HostError> {
        match self.lease.borrow_mut().surrender() {
            0 => Ok(()),
            tokens => self.shared.refund(host, trouble, tokens, now, now).map(|_| ()),
        }
    }

    /// Takes back tokens of a request that was refused after all, unless time has brought them back since they were taken.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the tokens stay taken.
    pub fn refund(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        cost: u64,
        taken: Timestamp,
        now: Timestamp,
    ) -> Result<(), HostError> {
        if self.shared.meter().fill_time() <= now.saturating_since(taken) {
            return Ok(());
        }
        match self.lease.borrow_mut().give_back(cost, now) {
            0 => {
                host.wake_at(now.saturating_add(LIFETIME));
                Ok(())
            }
            returned => self.shared.refund(host, trouble, returned, now, now).map(|_| ()),
        }
    }

    /// Gives back what was not used in its time. Returns how long to wait before this is to be called again, `None` if
    /// nothing is on lease.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the tokens stay taken.
    pub fn settle(&self, host: &dyn Host, trouble: &Trouble, now: Timestamp) -> Result<Option<Duration>, HostError> {
        let mut lease = self.lease.borrow_mut();
        let expired = lease.expire(now);
        if 0 < expired {
            self.shared.refund(host, trouble, expired, now, now)?;
        }
        Ok(lease.lasts(now))
    }

    fn exchange(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        exchange: &Exchange,
        now: Timestamp,
    ) -> Result<Result<Exchanged, Denial>, HostError> {
        let bucket = self.shared.meter();
        self.shared.update(host, trouble, now, |state| {
            let returned = bucket.refund(*state, exchange.give_back, now);
            let share = exchange.share_of(bucket.available(returned, now)).unwrap_or(exchange.least);
            match bucket.take(returned, share, now) {
                Ok(grant) => {
                    *state = grant.state;
                    Step::Write(Ok(Exchanged { taken: share, left: grant.remaining }))
                }
                Err(denial) if 0 < exchange.give_back => {
                    *state = returned;
                    Step::Write(Err(denial))
                }
                Err(denial) => Step::Keep(Err(denial)),
            }
        })
    }
}
