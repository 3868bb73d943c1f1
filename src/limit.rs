//! Rate limiting: refuse part of the traffic once it passes what the service can carry.
//!
//! * [`token_bucket`], [`leaky_bucket`], [`window`], [`concurrency`]: the ways of counting, pure; [`policy`] is any of them.
//! * [`key`]: what is counted apart (per user, per address …).
//! * [`client_ip`]: whose address a request comes from.
//! * [`cost`]: how many tokens a request takes.
//! * [`counter`]: where a policy keeps its state.
//! * [`rule`]: a configured limit, put together from these.
//! * [`reservation`]: what one request takes of several limits.
//! * [`waiting`]: how queues share the places of a worker.
//! * [`store`]: what a worker keeps of all this.
//! * [`refusal`]: what the refused are told, and [`quota`], what a client is told about its quota.

pub mod client_ip;
pub mod concurrency;
pub mod cost;
pub mod counter;
pub mod fields;
pub mod key;
pub mod leaky_bucket;
pub mod policy;
pub mod quota;
pub mod refusal;
pub mod reservation;
pub mod rule;
pub mod store;
pub mod token_bucket;
pub mod waiting;
pub mod window;

use crate::shared::meter::Meter;
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
    /// The state in place of one that is unreadable.
    pub fn replacement<M: Meter>(self, meter: &M, now: Timestamp) -> M::State {
        match self {
            Self::Allow => M::State::default(),
            Self::Deny => meter.exhausted(now),
        }
    }
}
