//! The pieces of the real-Envoy scenarios that a measurement is made of too: Envoys, and what they start from.

#![allow(dead_code, reason = "the scenarios use the rest")]

#[path = "../envoy/rig/access_log.rs"]
pub(crate) mod access_log;
#[path = "../envoy/rig/bootstrap.rs"]
pub(crate) mod bootstrap;
#[path = "../envoy/rig/client.rs"]
pub(crate) mod client;
#[path = "../envoy/rig/cluster.rs"]
pub(crate) mod cluster;
#[path = "../envoy/rig/envoy_process.rs"]
pub(crate) mod envoy_process;
#[path = "../envoy/rig/filter.rs"]
pub(crate) mod filter;
#[path = "../envoy/rig/listener.rs"]
pub(crate) mod listener;
#[path = "../envoy/rig/stats.rs"]
pub(crate) mod stats;
#[path = "../envoy/rig/tool.rs"]
pub(crate) mod tool;
#[path = "../envoy/rig/wire.rs"]
pub(crate) mod wire;
