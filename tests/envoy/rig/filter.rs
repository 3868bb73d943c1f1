//! The Wasm filter as Envoy is told of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::rig::bootstrap::any;
use crate::rig::tool;

/// How the filter's configuration is wrapped for Envoy.
#[derive(Clone)]
enum Configuration {
    /// JSON text in a `StringValue`, as it should be.
    Text(String),
    /// A protobuf `Struct`, the mistake that everybody makes once.
    Struct(Value),
    /// Nothing at all.
    Absent,
}

/// One Wasm filter.
#[derive(Clone)]
pub(crate) struct Filter {
    name: String,
    root_id: String,
    vm_id: String,
    module: PathBuf,
    configuration: Configuration,
}

impl Filter {
    /// The filter with this configuration document.
    pub(crate) fn new(policy: &Value) -> Self {
        Self::text(policy.to_string())
    }

    /// The filter with these very bytes as configuration.
    pub(crate) fn text(configuration: impl Into<String>) -> Self {
        Self::with(Configuration::Text(configuration.into()))
    }

    /// The filter with the configuration in the wrong wrapping.
    pub(crate) fn structured(policy: &Value) -> Self {
        Self::with(Configuration::Struct(policy.clone()))
    }

    /// The filter without any configuration.
    pub(crate) fn unconfigured() -> Self {
        Self::with(Configuration::Absent)
    }

    /// As the plugin of this name instead of `outrigger`.
    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Under this root id instead of `outrigger`.
    pub(crate) fn root_id(mut self, root_id: &str) -> Self {
        root_id.clone_into(&mut self.root_id);
        self
    }

    /// In the VM of this id instead of `outrigger`; Istio always leaves it empty.
    pub(crate) fn vm_id(mut self, vm_id: &str) -> Self {
        vm_id.clone_into(&mut self.vm_id);
        self
    }

    /// Of the module whose worker a request with the header `x-trap` crashes.
    pub(crate) fn trapping(self) -> Self {
        self.module(tool::trap_module())
    }

    /// Of this module instead of the one under test.
    pub(crate) fn module(mut self, module: PathBuf) -> Self {
        self.module = module;
        self
    }

    fn with(configuration: Configuration) -> Self {
        let module = tool::module();
        let name = || "outrigger".to_owned();
        Self { name: name(), root_id: name(), vm_id: name(), module, configuration }
    }

    pub(crate) fn render(&self) -> Value {
        let mut plugin = json!({
            "name": self.name,
            "root_id": self.root_id,
            "failure_policy": "FAIL_RELOAD",
            "vm_config": {
                "vm_id": self.vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": self.module } },
            },
        });
        match &self.configuration {
            Configuration::Text(text) => {
                plugin["configuration"] = any("google.protobuf.StringValue", json!({ "value": text }));
            }
            Configuration::Struct(value) => {
                plugin["configuration"] = any("google.protobuf.Struct", json!({ "value": value }));
            }
            Configuration::Absent => {}
        }
        let wasm = any("envoy.extensions.filters.http.wasm.v3.Wasm", json!({ "config": plugin }));
        json!({ "name": "outrigger", "typed_config": wasm })
    }
}

/// The filters of an upstream, which end with the one that encodes.
pub(crate) fn with_codec(filters: &[Filter]) -> Value {
    let codec = any("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec", json!({}));
    let codec = json!({ "name": "envoy.filters.http.upstream_codec", "typed_config": codec });
    filters.iter().map(Filter::render).chain([codec]).collect()
}
