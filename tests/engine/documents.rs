//! Every configuration that the project shows is one that it accepts, and what it has is in the reference.
//!
//! Reads files, hence native only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;

#[path = "../common/pages.rs"]
pub(crate) mod pages;

use outrigger::config::Config;
use pages::{pages, project};
use serde_yaml_ng::Value;

fn read(path: &str) -> String {
    let path = project(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn accept(place: &str, document: &str) {
    match Config::parse(document.as_bytes()) {
        Err(error) => panic!("{place}: {error}\n{document}"),
        Ok(config) => {
            crate::schema::agree(document, None);
            assert_eq!(config.warnings(), [], "{place}: {document}");
        }
    }
}

/// Everything that stands under `key` somewhere in the document.
pub(crate) fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
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
fn the_pages_show_configurations_that_work() {
    let mut shown = 0;
    for page in pages() {
        for (index, document) in page.blocks("json").into_iter().enumerate() {
            accept(&format!("{}, JSON block {}", page.path, index + 1), document);
            shown += 1;
        }
    }
    assert!(4 < shown, "{shown} documents");
}

/// Where a manifest has the filter's document: Istio's, Envoy Gateway's, Envoy's own.
fn documents(manifest: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find(manifest, "pluginConfig", &mut found);
    let mut extensions = Vec::new();
    find(manifest, "wasm", &mut extensions);
    let entries = extensions.into_iter().filter_map(Value::as_sequence).flatten();
    found.extend(entries.filter_map(|entry| entry.get("config")));
    let mut documents: Vec<String> = found.iter().map(|it| serde_json::to_value(it).unwrap().to_string()).collect();
    let mut inline = Vec::new();
    find(manifest, "configuration", &mut inline);
    documents.extend(inline.into_iter().filter_map(|it| it.get("value")?.as_str()).map(str::to_owned));
    documents
}

#[test]
fn the_pages_show_manifests_that_work() {
    let mut shown = BTreeSet::new();
    for page in pages() {
        for (index, manifest) in page.blocks("yaml").into_iter().enumerate() {
            let place = format!("{}, YAML block {}", page.path, index + 1);
            let manifest = serde_yaml_ng::from_str(manifest).unwrap_or_else(|error| panic!("{place}: {error}"));
            for document in documents(&manifest) {
                accept(&place, &document);
                shown.insert(page.path.clone());
            }
        }
    }
    assert!(shown.iter().eq(["docs/envoy.md", "docs/gateway.md", "docs/istio.md"]), "{shown:?}");
}

/// The anchor that a heading has on GitHub: lower case, without punctuation, with `-` for a blank.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.flat_map(char::to_lowercase).map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Where a page's link leads: its path from the root of the project.
fn resolve(page: &str, link: &str) -> String {
    let mut steps: Vec<&str> = page.split('/').collect();
    steps.pop();
    for step in link.split('/') {
        match step {
            ".." => steps.truncate(steps.len().saturating_sub(1)),
            _ => steps.push(step),
        }
    }
    steps.join("/")
}

/// The lines of a page that are no part of a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(str::lines)
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let pages = pages();
    let mut seen = 0;
    for page in &pages {
        for link in prose(&page.text).flat_map(|line| line.split("](").skip(1)) {
            let link = link.split(')').next().unwrap();
            if link.starts_with("https://") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
            assert!(project(&path).exists(), "{}: {link}", page.path);
            let target = pages.iter().find(|it| it.path == path);
            let mut headings = target.into_iter().flat_map(|it| prose(&it.text)).filter(|line| line.starts_with('#'));
            let found = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == fragment);
            assert!(fragment.is_empty() || found, "{}: {link}", page.path);
            seen += 1;
        }
    }
    assert!(20 < seen, "{seen} links");
}

#[test]
fn every_page_is_in_the_index() {
    let pages = pages();
    let index = pages.iter().find(|it| it.path == "docs/README.md").unwrap();
    for page in pages.iter().filter_map(|it| it.path.strip_prefix("docs/")).filter(|it| *it != "README.md") {
        assert!(index.text.contains(&format!("]({page})")), "{page}");
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

    // In a sidecar nobody knows the address of who calls.
    let mut inline: serde_json::Value = serde_json::from_str(inline).unwrap();
    inline["limits"].as_array_mut().unwrap().retain(|limit| limit["key"] != serde_json::json!(["client_ip"]));
    assert_eq!(inline, plugin);
}

#[test]
fn the_gateways_manifest_is_a_configuration_that_works() {
    let manifest: Value = serde_yaml_ng::from_str(&read("envoy/istio/gateway.yaml")).unwrap();
    let plugin = manifest.get("spec").and_then(|spec| spec.get("pluginConfig")).unwrap();
    accept("envoy/istio/gateway.yaml", &serde_json::to_value(plugin).unwrap().to_string());
}
