//! Scenarios on a real Envoy: what a user gets when the module runs in a proxy, with real clients and real upstreams.
//!
//! Every scenario starts its own Envoy on free ports and reads like its name; what they are made of is in [`rig`].
//!
//! A missing Envoy, module, promtool or PyYAML is a failure that says what to do, never a skipped test.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and lives outside the proxy where clocks are free"
)]

mod attempts;
mod blame;
mod breakers;
mod concurrency;
mod deadlines;
mod failures;
mod fallbacks;
mod frames;
mod grpc;
mod hostile;
mod keys;
mod large;
mod limits;
mod manifests;
mod memory;
mod metrics;
mod operations;
mod placed;
mod protocol;
mod queues;
mod refusals;
mod reload;
mod retries;
mod rig;
mod scope;
#[path = "../common/seeds.rs"]
mod seeds;
mod shadow;
mod soak;
mod stale;
mod switches;
mod traps;
mod validation;
mod vocabulary;
mod warnings;
mod windows;
