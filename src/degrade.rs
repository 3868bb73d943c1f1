//! Degradation: weaken the non-core to keep the core whole.
//!
//! * [`fallback`]: prepared replies that are served instead of the real ones.
//! * [`breaker`]: stops asking a dependency that fails, until it has shown that it works again.
//! * [`stale`]: the service's last good answers, for when it fails.

pub mod breaker;
pub mod fallback;
pub mod stale;
