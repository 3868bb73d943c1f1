//! The request path, on a proxy in memory. Runs natively and as wasm32.

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod blame;
mod breakers;
mod failures;
mod fallbacks;
mod hostcalls;
mod limits;
mod retries;
mod several;
mod switches;
