//! Every configuration that the project shows is one that it accepts.
//!
//! Reads files, hence native only.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use outrigger::config::Config;
use serde_yaml_ng::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn accept(place: &str, document: &str) {
    if let Err(error) = Config::parse(document.as_bytes()) {
        panic!("{place}: {error}\n{document}");
    }
}

/// The fenced blocks of a language in a Markdown text.
fn blocks<'a>(markdown: &'a str, language: &'a str) -> impl Iterator<Item = &'a str> {
    let fence = format!("```{language}\n");
    let starts: Vec<usize> = markdown.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    starts.into_iter().filter_map(|start| markdown.get(start..)?.split("\n```").next())
}

/// Everything that stands under `key` somewhere in the document.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Mapping(mapping) => {
            for (name, inner) in mapping {
                if name.as_str() == Some(key) {
                    found.push(inner);
                }
                find(inner, key, found);
            }
        }
        Value::Sequence(list) => list.iter().for_each(|inner| find(inner, key, found)),
        _ => {}
    }
}

#[test]
fn the_readme_shows_configurations_that_work() {
    let readme = read("README.md");
    let documents: Vec<&str> = blocks(&readme, "json").collect();
    assert!(!documents.is_empty());
    for (index, document) in documents.into_iter().enumerate() {
        accept(&format!("README.md, JSON block {}", index + 1), document);
    }
}

#[test]
fn the_demo_and_the_istio_manifest_hold_one_policy() {
    let bootstrap: Value = serde_yaml_ng::from_str(&read("envoy/envoy.yaml")).unwrap();
    let mut configurations = Vec::new();
    find(&bootstrap, "configuration", &mut configurations);
    let inline = configurations.first().and_then(|it| it.get("value")).and_then(Value::as_str).unwrap();
    accept("envoy/envoy.yaml", inline);

    let manifest: Value = serde_yaml_ng::from_str(&read("envoy/istio/wasmplugin.yaml")).unwrap();
    let plugin = manifest.get("spec").and_then(|spec| spec.get("pluginConfig")).unwrap();
    let plugin = serde_json::to_value(plugin).unwrap();
    accept("envoy/istio/wasmplugin.yaml", &plugin.to_string());

    let inline: serde_json::Value = serde_json::from_str(inline).unwrap();
    assert_eq!(inline, plugin);
}
