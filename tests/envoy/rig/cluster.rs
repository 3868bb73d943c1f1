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
}

impl Cluster {
    /// An upstream that speaks HTTP/1.1, with trailers.
    pub(crate) fn http1(address: SocketAddr) -> Self {
        Self { address, http2: false, filters: Vec::new() }
    }

    /// An upstream that speaks HTTP/2, as gRPC needs.
    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self { address, http2: true, filters: Vec::new() }
    }

    /// With one more filter for the attempts that go here.
    pub(crate) fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter);
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
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        json!({
            "name": self.name(),
            "type": "STATIC",
            "connect_timeout": "2s",
            // Envoy's own limit is three retries at a time; what bounds them here is the filter.
            "circuit_breakers": { "thresholds": [{ "max_retries": 10_000 }] },
            "load_assignment": {
                "cluster_name": self.name(),
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": socket_address(self.address) } }] }],
            },
            "typed_extension_protocol_options": { options: any(options, protocol) },
        })
    }
}
