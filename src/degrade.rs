//! Degradation: weaken the non-core to keep the core whole.
//!
//! * [`switch`]: degradation that people decide.
//! * [`breaker`]: stops asking a dependency that fails, until it has shown that it works again.
//! * [`failure`]: what takes the place of an answer that says failure; [`stale`], the service's last good answers.
//! * [`fallback`]: prepared replies that are served instead of the real ones; [`template`], what is filled in, and [`cors`],
//!   who may read them.
//! * [`refusal`]: what a request is told that is given up.

pub mod breaker;
pub mod cors;
pub mod failure;
pub mod fallback;
pub mod fields;
pub mod refusal;
pub mod stale;
pub mod switch;
pub mod template;
