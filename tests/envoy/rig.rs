//! What scenarios are made of.
//!
//! * [`turn`]: who may run beside whom; measuring scenarios run alone.
//! * [`tool`]: where Envoy, the module, promtool and PyYAML are found.
//! * [`bootstrap`], [`listener`], [`filter`], [`cluster`]: the configuration of an Envoy; [`policy`]: of the filter;
//!   [`yaml`]: what becomes of it on its way through a mesh.
//! * [`envoy_process`]: a running Envoy and what its admin interface, its logs and `/proc` tell.
//! * [`stats`], [`access_log`]: what it counted and wrote.
//! * [`client`], [`wire`], [`frames`], [`crowd`], [`load`]: an ordinary HTTP client, bytes on a socket, HTTP/2 by the frame, many
//!   requests.
//! * [`upstream`], [`scripted_upstream`], [`raw_upstream`], [`grpc_upstream`]: what stands behind the proxy.

pub(crate) mod access_log;
pub(crate) mod bootstrap;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod crowd;
pub(crate) mod envoy_process;
pub(crate) mod filter;
pub(crate) mod frames;
pub(crate) mod grpc_upstream;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod policy;
pub(crate) mod raw_upstream;
pub(crate) mod scripted_upstream;
pub(crate) mod stats;
pub(crate) mod tool;
pub(crate) mod turn;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod yaml;
