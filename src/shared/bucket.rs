//! One token bucket in one shared record, exact over all workers.
//!
//! Record: the [header](mod@format), then the theoretical arrival time (64-bit little-endian). A record of another shape is
//! *undecodable*: it is counted and replaced, by a full bucket where the failure mode allows, by an empty one where it
//! denies; either way the limit works again at once.

use crate::host::{Host, HostError};
use crate::limit::FailureMode;
use crate::limit::token_bucket::{Denial, Grant, Tat, TokenBucket};
use crate::monitor::trouble::Trouble;
use crate::shared::format::{self, Written};
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

    /// Takes `cost` tokens, or says when they will be there. Two calls of the proxy per attempt, one if refused by a record
    /// that is as this bucket would write it.
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
            let Found { tat, outdated } = self.read(host, trouble, bytes, now);
            match self.bucket.take(tat, cost, now) {
                Ok(grant) => {
                    self.write(bytes, grant.tat);
                    Step::Write(Ok(grant))
                }
                // The promise of the refusal holds from the state that was judged, so that must be what is kept.
                Err(denial) if outdated => {
                    self.write(bytes, tat);
                    Step::Write(Err(denial))
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
            let Found { tat, .. } = self.read(host, trouble, bytes, now);
            self.write(bytes, self.bucket.refund(tat, cost));
            Step::Write(())
        })
    }

    fn read(&self, host: &dyn Host, trouble: &Trouble, bytes: &[u8], now: Timestamp) -> Found {
        if bytes.is_empty() {
            return Found { tat: Tat::FULL, outdated: false };
        }
        match decode(bytes) {
            Some((written, tat)) if written == Written::by(&self.bucket) => {
                let repaired = self.bucket.repair(tat, now);
                Found { tat: repaired.unwrap_or(tat), outdated: repaired.is_some() }
            }
            Some((written, tat)) => Found { tat: self.bucket.adopt(tat, written.emission, now), outdated: true },
            None => {
                trouble.undecodable(host, &self.key);
                Found { tat: self.failure_mode.replacement(&self.bucket, now), outdated: true }
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>, tat: Tat) {
        format::begin(bytes, format::HEADER_SIZE + 8, &self.bucket);
        bytes.extend_from_slice(&tat.to_bits().to_le_bytes());
    }
}

/// The state that a record stands for.
struct Found {
    tat: Tat,
    /// Whether the record holds something else, so that it should be written although nothing is taken.
    outdated: bool,
}

fn decode(bytes: &[u8]) -> Option<(Written, Tat)> {
    let (written, state) = format::open(bytes)?;
    Some((written, Tat::from_bits(u64::from_le_bytes(state.try_into().ok()?))))
}
