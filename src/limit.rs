//! Rate limiting: refuse part of the traffic once it passes what the service can carry.
//!
//! * [`token_bucket`]: the algorithm, pure.
//! * [`key`]: what is counted apart (per user, per address …).
//! * [`client_ip`]: whose address a request comes from.
//! * [`cost`]: how many tokens a request takes.
//! * [`rule`]: a configured limit, put together from these.
//! * [`refusal`]: what the refused are told.

pub mod client_ip;
pub mod cost;
pub mod key;
pub mod refusal;
pub mod rule;
pub mod token_bucket;

use crate::limit::token_bucket::{Tat, TokenBucket};
use crate::time::Timestamp;

/// What a limit does when its shared state cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// Let the request pass. A full table forgets the key it evicts.
    Allow,
    /// Refuse the request. In a full table a new key inherits the debt of the one it evicts.
    Deny,
}

impl FailureMode {
    /// The state of a bucket whose record is unreadable.
    pub fn replacement(self, bucket: &TokenBucket, now: Timestamp) -> Tat {
        match self {
            Self::Allow => Tat::FULL,
            Self::Deny => bucket.empty(now),
        }
    }
}
