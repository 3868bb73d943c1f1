//! One token bucket in one shared record, exact over all workers.
//!
//! Record: the [header](mod@format), then the theoretical arrival time (64-bit little-endian). A record of another shape is
//! *undecodable*: it is counted and replaced, by a full bucket where the failure mode allows, by an empty one where it
//! denies; either way the limit works again at once.

use crate::host::{Host, HostError};
use crate::limit::FailureMode;
use crate::limit::token_bucket::{Denial, Emission, Grant, Tat, TokenBucket};
use crate::monitor::trouble::Trouble;
use crate::shared::format;
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

const WHAT: &str = "token_bucket";

/// A token bucket in a shared record.
#[derive(Clone, Debug)]
pub struct SharedBucket {
    key: String,
    bucket: TokenBucket,
    failure_mode: FailureMode,
}

impl SharedBucket {
    /// The bucket whose record is at `key`.
    pub fn new(key: String, bucket: TokenBucket, failure_mode: FailureMode) -> Self {
        Self { key, bucket, failure_mode }
    }

    /// Takes `cost` tokens, or says when they will be there. Two calls of the proxy per attempt, one if refused.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`record::update`].
    pub fn take(
        &self,
        host: &dyn Host,
        trouble: &Trouble,
        cost: u64,
        now: Timestamp,
    ) -> Result<Result<Grant, Denial>, HostError> {
        record::update(host, trouble, WHAT, &self.key, |bytes| {
            let tat = self.read(host, trouble, bytes, now);
            match self.bucket.take(tat, cost, now) {
                Ok(grant) => {
                    self.write(bytes, grant.tat);
                    Step::Write(Ok(grant))
                }
                Err(denial) => Step::Keep(Err(denial)),
            }
        })
    }

    /// Gives back `cost` tokens that were taken and not used.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the tokens stay taken.
    pub fn refund(&self, host: &dyn Host, trouble: &Trouble, cost: u64, now: Timestamp) -> Result<(), HostError> {
        record::update(host, trouble, WHAT, &self.key, |bytes| {
            let tat = self.read(host, trouble, bytes, now);
            self.write(bytes, self.bucket.refund(tat, cost));
            Step::Write(())
        })
    }

    fn read(&self, host: &dyn Host, trouble: &Trouble, bytes: &[u8], now: Timestamp) -> Tat {
        if bytes.is_empty() {
            return Tat::FULL;
        }
        match decode(bytes) {
            Some((emission, tat)) => self.bucket.adopt(tat, emission, now),
            None => {
                trouble.undecodable(host, &self.key);
                self.failure_mode.replacement(&self.bucket, now)
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>, tat: Tat) {
        format::begin(bytes, format::HEADER_SIZE + 8, self.bucket.emission());
        bytes.extend_from_slice(&tat.to_bits().to_le_bytes());
    }
}

fn decode(bytes: &[u8]) -> Option<(Emission, Tat)> {
    let (emission, state) = format::open(bytes)?;
    Some((emission, Tat::from_bits(u64::from_le_bytes(state.try_into().ok()?))))
}
