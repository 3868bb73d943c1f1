//! Fuzzers: documents, requests, proxies that lie and clocks that jump, all by seeds. Runs natively and as wasm32.
//!
//! A plain run takes the same few seeds each time. `OUTRIGGER_FUZZ_SECONDS` has each fuzzer take fresh seeds for that long, and
//! `OUTRIGGER_FUZZ_SEED` has it take one, which is how a failure is repeated. Real sockets are in `tests/envoy/frames.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and lives outside the proxy where clocks are free"
)]

#[path = "../common/mod.rs"]
mod common;

mod documents;
mod fickle;
mod hosts;
mod json;
mod policies;
mod proxy;
mod requests;
mod steps;
