//! What is compared: one Envoy each, the same but for the filter before its router.

use std::env;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::policy;
use crate::rig::bootstrap::any;
use crate::rig::cluster::Cluster;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;

/// The name of the variant without a filter: what the others add to.
pub(crate) const NONE: &str = "no filter";

/// The name of the variant whose added cost is the unit.
pub(crate) const EMPTY: &str = "empty SDK filter";

/// The name of the variant with the policy that the budget is about.
pub(crate) const REFERENCE: &str = "Outrigger, reference policy";

/// The name of the variant that only counts.
pub(crate) const NOTHING: &str = "Outrigger, empty configuration";

/// The name of the variant that refuses every request.
pub(crate) const REFUSING: &str = "Outrigger, refusing";

/// One of the things compared.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    /// What its figures are good for, in a few words.
    pub(crate) shows: &'static str,
    /// What each request is answered with.
    pub(crate) status: Status,
    filter: Choice,
}

/// How requests are answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// By the upstream, 200.
    Ok,
    /// By the filter, 429.
    Refused,
}

/// What stands before the router.
enum Choice {
    Nothing,
    Native(Value),
    Wasm(Filter),
    /// And behind the router.
    Twice(Filter, Filter),
}

/// All variants, as the table shows them.
pub(crate) fn all() -> Vec<Variant> {
    vec![
        Variant { name: NONE, shows: "Envoy itself, forwarding", status: Status::Ok, filter: Choice::Nothing },
        Variant {
            name: EMPTY,
            shows: "the price of any Wasm filter: the unit",
            status: Status::Ok,
            filter: Choice::Wasm(empty_filter()),
        },
        Variant {
            name: "native `local_ratelimit`",
            shows: "one global limit, compiled into Envoy",
            status: Status::Ok,
            filter: Choice::Native(local_ratelimit()),
        },
        Variant {
            name: "Lua",
            shows: "reads one header and writes it to the dynamic metadata (it has no counters)",
            status: Status::Ok,
            filter: Choice::Native(lua()),
        },
        Variant {
            name: "Outrigger, leanest",
            shows: "metrics that do not tell how requests ended, no fields for the access log",
            status: Status::Ok,
            filter: Choice::Wasm(Filter::new(&policy::leanest())),
        },
        Variant {
            name: NOTHING,
            shows: "metrics only",
            status: Status::Ok,
            filter: Choice::Wasm(Filter::new(&json!({}))),
        },
        Variant {
            name: REFERENCE,
            shows: "20 operations, a global limit, a limit per user, retries, metrics",
            status: Status::Ok,
            filter: Choice::Wasm(Filter::new(&policy::reference())),
        },
        Variant {
            name: "Outrigger, exact retries",
            shows: "the reference policy, and a second instance that sees each attempt",
            status: Status::Ok,
            filter: Choice::Twice(Filter::new(&policy::reference()), Filter::new(&policy::upstream())),
        },
        Variant {
            name: "Outrigger, large policy",
            shows: "200 operations and 50 limits, of which two apply",
            status: Status::Ok,
            filter: Choice::Wasm(Filter::new(&policy::large())),
        },
        Variant {
            name: REFUSING,
            shows: "the reference policy with its global limit used up: every request gets a 429, none is forwarded",
            status: Status::Refused,
            filter: Choice::Wasm(Filter::new(&policy::refusing())),
        },
    ]
}

/// 200 operations and nothing else: what a large document takes.
pub(crate) fn many_operations() -> Variant {
    Variant {
        name: "Outrigger, 200 operations",
        shows: "a large document",
        status: Status::Ok,
        filter: Choice::Wasm(Filter::new(&policy::many_operations())),
    }
}

impl Variant {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        all().into_iter().find(|variant| variant.name == name).expect("names are those of the list")
    }

    /// Its filter before the router, if it is a Wasm filter.
    pub(crate) fn wasm(&self) -> Option<Filter> {
        match &self.filter {
            Choice::Wasm(filter) | Choice::Twice(filter, _) => Some(filter.clone()),
            Choice::Nothing | Choice::Native(_) => None,
        }
    }

    /// The listener of its Envoy.
    pub(crate) fn listener(&self, cluster: Cluster) -> Listener {
        let listener = Listener::to(cluster).quiet();
        match &self.filter {
            Choice::Nothing => listener,
            Choice::Wasm(filter) => listener.filter(filter.clone()),
            Choice::Twice(filter, upstream) => listener.filter(filter.clone()).upstream_filter(upstream.clone()),
            Choice::Native(filter) => listener.connection_manager(json!({ "http_filters": [filter, router()] })),
        }
    }
}

/// A filter that does nothing, as the SDK makes it; `./build.sh bench` builds it from `empty_filter.rs`.
pub(crate) fn empty_filter() -> Filter {
    Filter::unconfigured().root_id("empty").vm_id("empty").module(empty_module())
}

/// The file of that filter.
pub(crate) fn empty_module() -> PathBuf {
    let path = env::var_os("EMPTY_WASM").map(PathBuf::from).filter(|path| path.is_file());
    path.expect("$EMPTY_WASM names the empty filter: run `./build.sh bench`")
}

fn router() -> Value {
    let router = any("envoy.extensions.filters.http.router.v3.Router", json!({}));
    json!({ "name": "envoy.filters.http.router", "typed_config": router })
}

/// A global limit that is never reached.
fn local_ratelimit() -> Value {
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    let limit = json!({
        "stat_prefix": "bench",
        "token_bucket": { "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s" },
        "filter_enabled": always,
        "filter_enforced": always,
    });
    let limit = any("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", limit);
    json!({ "name": "envoy.filters.http.local_ratelimit", "typed_config": limit })
}

fn lua() -> Value {
    let code = "function envoy_on_request(handle)
  local user = handle:headers():get('x-user-id')
  handle:streamInfo():dynamicMetadata():set('bench', 'user', user)
end";
    let script = json!({ "default_source_code": { "inline_string": code } });
    let script = any("envoy.extensions.filters.http.lua.v3.Lua", script);
    json!({ "name": "envoy.filters.http.lua", "typed_config": script })
}
