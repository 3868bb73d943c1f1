//! The engine by parts: policies, what a request is, and the configuration. Runs natively and as wasm32.

#[path = "../common/mod.rs"]
mod common;

mod breaker;
mod budget;
mod concurrency;
mod config;
mod deadlines;
mod document;
#[cfg(not(target_arch = "wasm32"))]
mod documents;
mod frequency;
#[cfg(not(target_arch = "wasm32"))]
mod imports;
mod leaky_bucket;
mod leases;
mod max_hold;
mod metastable;
#[cfg(not(target_arch = "wasm32"))]
mod metrics;
mod notices;
mod operation;
mod retry;
#[cfg(not(target_arch = "wasm32"))]
mod schema;
mod sorted;
mod stale;
mod table;
#[cfg(not(target_arch = "wasm32"))]
mod templates;
mod token_bucket;
mod window;
