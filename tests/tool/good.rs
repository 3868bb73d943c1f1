//! What the project ships and shows is silent.

use crate::pages::{pages, project};
use crate::run;

fn silent(place: &str, arguments: &[&str], input: &str) {
    let output = run(arguments, input);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.stdout.is_empty() && output.status.code() == Some(0), "{place}: {said}");
}

#[test]
fn every_shipped_file_is_silent() {
    for path in
        ["envoy/envoy.yaml", "envoy/exact-retries.yaml", "envoy/istio/wasmplugin.yaml", "envoy/istio/gateway.yaml"]
    {
        silent(path, &["check", "--deny-warnings", project(path).to_str().unwrap()], "");
    }
}

#[test]
fn every_document_of_the_pages_is_silent() {
    let mut shown = 0;
    for page in pages() {
        for document in page.blocks("json") {
            silent(&page.path, &["check", "--deny-warnings", "-"], document);
            shown += 1;
        }
        for document in page
            .blocks("yaml")
            .into_iter()
            .filter(|it| [" config:", "pluginConfig:", "configuration:"].iter().any(|name| it.contains(name)))
        {
            silent(&page.path, &["check", "--deny-warnings", "-"], document);
            shown += 1;
        }
    }
    assert!(10 < shown, "{shown} documents");
}

/// The forms that no shipped file has.
#[test]
fn every_kind_of_manifest_is_found() {
    for manifest in [
        "kind: TrafficExtension\nspec: { wasm: { url: oci://outrigger, pluginConfig: { limits: [] } } }",
        "kind: EnvoyFilter\nspec:\n  configPatches:\n  - patch:\n      value:\n        typed_config:\n          config:\n            \
         vm_config: { configuration: { \"@type\": a.StringValue, value: \"no JSON\" } }\n            configuration:\n              \
         \"@type\": type.googleapis.com/google.protobuf.Struct\n              value: { limits: [] }\n",
        "kind: ConfigMap\ndata:\n  outrigger.json: |\n    { \"limits\": [] }\n",
        "limits: []\n",
        "# Two at once.\n---\nkind: Service\n---\nkind: WasmPlugin\nspec: { pluginConfig: { switches: [ { name: a, on: yes } ] } }\n",
        // Of another filter, beside one of ours.
        "kind: WasmPlugin\nspec: { url: oci://waf, pluginConfig: { directives: 1 } }\n---\nkind: WasmPlugin\nspec: { pluginConfig: {} }\n",
        "base: &base { name: a, window: { max_requests: 5, interval: 1s } }\nlimits:\n- { <<: *base, name: b }\n",
    ] {
        let manifest = manifest.strip_prefix("base: ").map_or(manifest.to_owned(), |it| {
            // An anchor must stand in the document, and in a manifest it may stand outside of the configuration.
            let (base, limits) = it.split_once('\n').unwrap();
            format!("kind: WasmPlugin\nbase: {base}\nspec:\n  pluginConfig:\n    {}", limits.replace('\n', "\n    "))
        });
        silent(&manifest, &["check", "--deny-warnings", "-"], &manifest);
    }
}
