//! Rate limiting: refuse part of the traffic once it passes what the service can carry.
//!
//! * [`token_bucket`], [`leaky_bucket`], [`window`], [`concurrency`]: the ways of counting, pure; [`policy`] is any of them.
//! * [`cost`]: how many tokens a request takes.
//! * [`counter`]: where a policy keeps its state.
//! * [`shares`]: who holds how much of a concurrency limit, and [`places`], since when.
//! * [`rule`]: a configured limit, put together from these.
//! * [`reservation`]: what one request takes of several limits.
//! * [`waiting`]: how queues share the places of a worker.
//! * [`store`]: what a worker keeps of all this.
//! * [`quota`]: what a client is told about its quota.

pub mod concurrency;
pub mod cost;
pub mod counter;
pub mod fields;
pub mod leaky_bucket;
pub mod places;
pub mod policy;
pub mod quota;
pub mod reservation;
pub mod rule;
pub mod shares;
pub mod store;
pub mod token_bucket;
pub mod waiting;
pub mod window;
