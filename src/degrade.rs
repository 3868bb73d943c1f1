//! Degradation: weaken the non-core to keep the core whole.
//!
//! * [`switch`]: degradation that people decide.
//! * [`breaker`]: stops asking a dependency that fails, until it has shown that it works again.
//! * [`failure`]: what takes the place of an answer that says failure; [`stale`], the service's last good answers.

pub mod breaker;
pub mod failure;
pub mod fields;
pub mod stale;
pub mod switch;
