//! Degradation: weaken the non-core to keep the core whole.
//!
//! * [`fallback`]: prepared replies that are served instead of the real ones.

pub mod fallback;
