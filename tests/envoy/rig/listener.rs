//! A listener with the filter before its router.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::bootstrap::{any, socket_address};
use crate::rig::cluster::Cluster;
use crate::rig::filter::{Filter, with_codec};

/// One listener on a free port.
#[derive(Clone)]
pub(crate) struct Listener {
    name: String,
    direction: Option<&'static str>,
    filters: Vec<Value>,
    upstream_filters: Vec<Filter>,
    cluster: Option<Cluster>,
    others: Vec<Cluster>,
    routes: Vec<Value>,
    connection_manager: Value,
    access_log: bool,
    buffer: Option<u32>,
}

impl Listener {
    /// A listener that forwards everything to `cluster`.
    pub(crate) fn to(cluster: Cluster) -> Self {
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": cluster.name(), "timeout": "20s" } });
        Self { cluster: Some(cluster), ..Self::answering(vec![route]) }
    }

    /// A listener that answers `200` itself: for load that is about the filter only.
    pub(crate) fn direct() -> Self {
        Self::answering(vec![json!({
            "match": { "prefix": "/" },
            "direct_response": { "status": 200, "body": { "inline_string": "ok" } },
        })])
    }

    fn answering(routes: Vec<Value>) -> Self {
        Self {
            name: "main".to_owned(),
            direction: None,
            filters: Vec::new(),
            upstream_filters: Vec::new(),
            cluster: None,
            others: Vec::new(),
            routes,
            connection_manager: json!({}),
            access_log: true,
            buffer: None,
        }
    }

    /// Forwards what begins with this path to another cluster.
    pub(crate) fn route(mut self, prefix: &str, cluster: Cluster) -> Self {
        let route = json!({ "cluster": cluster.name(), "timeout": "20s" });
        self.routes.insert(0, json!({ "match": { "prefix": prefix }, "route": route }));
        self.others.push(cluster);
        self
    }

    /// With these settings of the default route on top: timeouts, retries, headers.
    pub(crate) fn default_route(mut self, settings: Value) -> Self {
        merge(self.routes.last_mut().expect("a listener has a default route"), settings);
        self
    }

    /// With Envoy's fault injection behind the filters that were added before: requests that have this header fail with this status.
    #[allow(dead_code, reason = "the bench shares this module")]
    pub(crate) fn failing_with(mut self, header: &str, status: u16) -> Self {
        let fault = json!({
            "headers": [{ "name": header, "present_match": true }],
            "abort": { "http_status": status, "percentage": { "numerator": 100 } },
        });
        let config = any("envoy.extensions.filters.http.fault.v3.HTTPFault", fault);
        self.filters.push(json!({ "name": "envoy.filters.http.fault", "typed_config": config }));
        self
    }

    /// Called `name` instead of `main`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// `INBOUND` or `OUTBOUND`.
    pub(crate) fn direction(mut self, direction: &'static str) -> Self {
        self.direction = Some(direction);
        self
    }

    /// With one more filter before the router.
    pub(crate) fn filter(mut self, filter: Filter) -> Self {
        self.filters.push(filter.render());
        self
    }

    /// With one of Envoy's own filters before the router, `cors` or `grpc_web`, behind those that were added before.
    #[allow(dead_code, reason = "the bench shares this module")]
    pub(crate) fn envoys(mut self, name: &str, kind: &str) -> Self {
        let config = any(&format!("envoy.extensions.filters.http.{name}.v3.{kind}"), json!({}));
        self.filters.push(json!({ "name": format!("envoy.filters.http.{name}"), "typed_config": config }));
        self
    }

    /// With one more filter for the attempts of all requests, behind the router.
    pub(crate) fn upstream_filter(mut self, filter: Filter) -> Self {
        self.upstream_filters.push(filter);
        self
    }

    /// Tunnels CONNECT requests to the cluster.
    pub(crate) fn tunnel(mut self) -> Self {
        let cluster = self.cluster.as_ref().expect("a tunnel leads somewhere").name();
        let upgrade = json!({ "upgrade_type": "CONNECT", "connect_config": {} });
        let route = json!({ "cluster": cluster, "upgrade_configs": [upgrade] });
        self.routes.insert(0, json!({ "match": { "connect_matcher": {} }, "route": route }));
        self.connection_manager(json!({ "upgrade_configs": [{ "upgrade_type": "CONNECT" }] }))
    }

    /// With these settings of the HTTP connection manager on top.
    pub(crate) fn connection_manager(mut self, settings: Value) -> Self {
        merge(&mut self.connection_manager, settings);
        self
    }

    /// With room for so many bytes of a request or a response, instead of a mebibyte.
    pub(crate) fn buffer(mut self, bytes: u32) -> Self {
        self.buffer = Some(bytes);
        self
    }

    /// Without an access log.
    pub(crate) fn quiet(mut self) -> Self {
        self.access_log = false;
        self
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Cluster> {
        self.cluster.iter().chain(&self.others)
    }

    pub(crate) fn render(&self, home: &Path) -> Value {
        let mut listener = json!({
            "name": self.name,
            "stat_prefix": self.name,
            "address": socket_address(SocketAddr::from(([127, 0, 0, 1], 0))),
            // Connections go to the workers in turn, so that a few of them reach every worker.
            "enable_reuse_port": false,
            "connection_balance_config": { "exact_balance": {} },
            "filter_chains": [{
                "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": self.render_connection_manager(home),
                }],
            }],
        });
        if let Some(direction) = self.direction {
            listener["traffic_direction"] = json!(direction);
        }
        if let Some(bytes) = self.buffer {
            listener["per_connection_buffer_limit_bytes"] = json!(bytes);
        }
        listener
    }

    fn render_router(&self) -> Value {
        if self.upstream_filters.is_empty() {
            return json!({});
        }
        json!({ "upstream_http_filters": with_codec(&self.upstream_filters) })
    }

    fn render_connection_manager(&self, home: &Path) -> Value {
        let mut http_filters = self.filters.clone();
        http_filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": any("envoy.extensions.filters.http.router.v3.Router", self.render_router()),
        }));
        let mut manager = json!({
            "stat_prefix": self.name,
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": self.routes }] },
            "http_filters": http_filters,
        });
        if self.access_log {
            manager["access_log"] = access_log(&home.join("access.log"));
        }
        merge(&mut manager, self.connection_manager.clone());
        any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", manager)
    }
}

fn access_log(path: &Path) -> Value {
    let fields = json!({
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "reason": "%FILTER_STATE(wasm.outrigger_reason:PLAIN)%",
        "shadow": "%FILTER_STATE(wasm.outrigger_shadow:PLAIN)%",
        "detail": "%FILTER_STATE(wasm.outrigger_detail:PLAIN)%",
        "operation": "%FILTER_STATE(wasm.outrigger_operation:PLAIN)%",
        "tier": "%FILTER_STATE(wasm.outrigger_tier:PLAIN)%",
    });
    let file = json!({ "path": path, "log_format": { "json_format": fields } });
    let logger = any("envoy.extensions.access_loggers.file.v3.FileAccessLog", file);
    json!([{ "name": "envoy.access_loggers.file", "typed_config": logger }])
}

/// Lays `addition` over `base`, object by object.
fn merge(base: &mut Value, addition: Value) {
    match (base, addition) {
        (Value::Object(base), Value::Object(addition)) => {
            for (name, value) in addition {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, addition) => *base = addition,
    }
}
