//! What becomes of a limit whose shared state cannot be used.

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
