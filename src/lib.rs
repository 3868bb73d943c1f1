//! Outrigger: the stability playbook of a large back-end, as one filter for Envoy and Istio sidecars.
pub mod config;
pub mod degrade;
#[cfg(feature = "envoy")]
mod envoy;
pub mod filter;
pub mod headers;
pub mod host;
pub mod limit;
pub mod monitor;
pub mod operation;
pub mod pipeline;
pub mod reply;
pub mod shared;
pub mod time;
pub mod worker;
