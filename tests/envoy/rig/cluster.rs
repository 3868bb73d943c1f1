//! The upstream as Envoy is told of it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::rig::bootstrap::{any, socket_address};
use crate::rig::filter::{Filter, with_codec};

/// What stands behind a listener.
#[derive(Clone)]
pub(crate) struct Cluster {
    address: SocketAddr,
    http2: bool,
    filters: Vec<Filter>,
    hosts: usize,
    connections: u32,
}

impl Cluster {
    /// An upstream that speaks HTTP/1.1, with trailers.
    pub(crate) fn http1(address: SocketAddr) -> Self {
        Self { address, http2: false, filters: Vec::new(), hosts: 1, connections: 1024 }
    }

    /// An upstream that speaks HTTP/2, as gRPC needs.
    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self { http2: true, ..Self::http1(address) }
    }

    /// With one more filter for the attempts that go here.
    pub(crate) fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
        self
    }

    /// One that has no host. Its address only names it.
    pub(crate) fn empty() -> Self {
        Self { hosts: 0, ..Self::http1(SocketAddr::from(([127, 0, 0, 1], 1))) }
    }

    /// With so many connections at a time, and as many requests that wait for one.
    pub(crate) fn at_most(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// The name by which routes refer to it.
    pub(crate) fn name(&self) -> String {
        format!("upstream_{}", self.address.port())
    }

    pub(crate) fn render(&self) -> Value {
        let protocol = if self.http2 {
            json!({ "http2_protocol_options": {} })
        } else {
            json!({ "http_protocol_options": { "enable_trailers": true } })
        };
        let mut protocol = json!({ "explicit_http_config": protocol });
        if !self.filters.is_empty() {
            protocol["http_filters"] = with_codec(&self.filters);
        }
        // Envoy's own limit is three retries at a time; what bounds them here is the filter.
        let limits = json!({
            "max_connections": self.connections, "max_pending_requests": self.connections, "max_retries": 10_000,
        });
        let host = json!({ "endpoint": { "address": socket_address(self.address) } });
        let hosts = vec![host; self.hosts];
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        json!({
            "name": self.name(),
            "type": "STATIC",
            "connect_timeout": "2s",
            "circuit_breakers": { "thresholds": [limits] },
            "load_assignment": {
                "cluster_name": self.name(),
                "endpoints": [{ "lb_endpoints": hosts }],
            },
            "typed_extension_protocol_options": { options: any(options, protocol) },
        })
    }
}
