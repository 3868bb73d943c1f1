//! The four ways of counting.

use std::time::Duration;

use crate::limit::concurrency::Concurrency;
use crate::limit::leaky_bucket::LeakyBucket;
use crate::limit::token_bucket::TokenBucket;
use crate::limit::window::Window;

/// What a limit admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A burst and a rate.
    TokenBucket(TokenBucket),
    /// A constant rate, with a queue.
    LeakyBucket(LeakyBucket),
    /// So many in any interval.
    Window(Window),
    /// So many at once.
    Concurrency(Concurrency),
}

/// What a client may be told of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How much.
    pub units: u64,
    /// In which time; `None` where time is not what counts, or where it is below a second.
    pub window: Option<Duration>,
}

impl Policy {
    /// The cost above which a request can never be admitted.
    pub const fn max_cost(&self) -> u64 {
        match self {
            Self::TokenBucket(bucket) => bucket.max_tokens(),
            Self::LeakyBucket(queue) => queue.capacity().saturating_add(1),
            Self::Window(window) => window.max_requests(),
            Self::Concurrency(limit) => limit.max_in_flight as u64,
        }
    }

    /// For a token bucket its size and the time in which it fills; for a queue what is waiting at most and the time in which
    /// that leaves.
    pub fn quota(&self) -> Quota {
        let (units, window) = match self {
            Self::TokenBucket(bucket) => (bucket.max_tokens(), Some(bucket.fill_time())),
            Self::LeakyBucket(queue) => (queue.capacity().max(1), Some(queue.max_wait().max(queue.spacing()))),
            Self::Window(window) => (window.max_requests(), Some(window.interval())),
            Self::Concurrency(limit) => (u64::from(limit.max_in_flight), None),
        };
        // Without what the rounding of a rate adds.
        let window = window.map(|it| Duration::from_micros(u64::try_from(it.as_micros()).unwrap_or(u64::MAX)));
        Quota { units, window: window.filter(|window| Duration::from_secs(1) <= *window) }
    }
}
