//! Where in a document the configurations of the filter are.

use super::tree::{Tree, Value};
use crate::config::fields::DOCUMENT;
use crate::document::suggestion::nearest;

/// What an error says that is looked for.
pub(super) const LOOKED_FOR: &str = "the document itself, pluginConfig of Istio's WasmPlugin and TrafficExtension, wasm[].config of \
     Envoy Gateway's EnvoyExtensionPolicy, configuration of a wasm filter (StringValue or Struct) in EnvoyFilters and Envoy's own \
     resources, and JSON in a ConfigMap";

/// The configurations in one document of a stream.
pub(super) fn configurations(document: &Tree) -> Vec<&Tree> {
    let mut found = Vec::new();
    walk(document, "", &mut found);
    if document.get("kind").and_then(Tree::text) == Some("ConfigMap") {
        let data = document.get("data").map_or(&[][..], Tree::entries);
        found.extend(data.iter().map(|it| &it.tree).filter(|it| it.text().is_some_and(is_json)));
    }
    let mentions = mentions(document);
    found.retain(|it| mentions || is_known(it));
    let is_other =
        ["kind", "apiVersion", "static_resources", "dynamic_resources", "resources", "@type", "filter_chains"]
            .iter()
            .any(|it| document.get(it).is_some());
    if found.is_empty() && !is_other && is_known(document) && matches!(document.value, Value::Map(_)) {
        found.push(document);
    }
    found
}

fn walk<'t>(tree: &'t Tree, name: &str, found: &mut Vec<&'t Tree>) {
    for entry in tree.entries() {
        let inner = &entry.tree;
        let wraps = |suffix: &str| inner.get("@type").and_then(Tree::text).is_some_and(|it| it.ends_with(suffix));
        let is_wrapped = wraps(".StringValue") || wraps(".Struct");
        match &*entry.key {
            "pluginConfig" => found.push(inner),
            // The configuration of a virtual machine is another one, which the filter does not read.
            "configuration" if is_wrapped && !matches!(name, "vm_config" | "vmConfig") => {
                found.extend(inner.get("value"))
            }
            "wasm" if !inner.elements().is_empty() => {
                found.extend(inner.elements().iter().filter_map(|it| it.get("config")));
            }
            key => walk(inner, key, found),
        }
    }
    tree.elements().iter().for_each(|it| walk(it, name, found));
}

/// Whether it says the name of the filter anywhere, as a module's address does.
fn mentions(tree: &Tree) -> bool {
    tree.text().is_some_and(|it| it.to_ascii_lowercase().contains("outrigger"))
        || tree.elements().iter().any(mentions)
        || tree.entries().iter().any(|it| mentions(&it.tree))
}

/// Whether it may be a configuration of ours rather than that of another filter: empty, or with a field like one of ours.
fn is_known(tree: &Tree) -> bool {
    let known: Vec<&str> = DOCUMENT.fields.iter().map(|it| it.name).collect();
    match &tree.value {
        Value::Map(entries) => entries.is_empty() || entries.iter().any(|it| nearest(&it.key, &known).is_some()),
        Value::Text(text) => known.iter().any(|it| text.contains(&format!("\"{it}\""))),
        _ => false,
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}
