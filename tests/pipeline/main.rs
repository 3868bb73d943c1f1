//! The request path, on a proxy in memory. Runs natively and as wasm32.

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod blame;
mod breakers;
mod counted;
mod failures;
mod fallbacks;
mod foretold;
mod hops;
mod hostcalls;
mod in_use;
#[cfg(not(target_arch = "wasm32"))]
mod large;
mod limits;
mod not_kept;
mod popularity;
mod retries;
mod several;
mod shadow;
mod switches;
