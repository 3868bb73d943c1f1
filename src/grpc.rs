//! Status codes of gRPC that mean something to the filter.

/// `DEADLINE_EXCEEDED`.
pub const DEADLINE_EXCEEDED: u32 = 4;
/// `RESOURCE_EXHAUSTED`: a limit refused.
pub const RESOURCE_EXHAUSTED: u32 = 8;
/// `UNAVAILABLE`: what a gRPC client gets in place of a page, also of one that says success.
pub const UNAVAILABLE: u32 = 14;
