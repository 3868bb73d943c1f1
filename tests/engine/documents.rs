//! Every configuration that the project shows is one that it accepts, and what it has is in the reference.
//!
//! Reads files, hence native only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use outrigger::config::Config;
use serde_yaml_ng::Value;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn accept(place: &str, document: &str) {
    match Config::parse(document.as_bytes()) {
        Err(error) => panic!("{place}: {error}\n{document}"),
        Ok(config) => assert_eq!(config.warnings(), [], "{place}: {document}"),
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

/// The words in `code` in the first `columns` columns of the tables in a Markdown text.
fn in_tables(markdown: &str, columns: usize) -> BTreeSet<&str> {
    let rows = markdown.lines().filter(|line| line.starts_with('|'));
    let cells = rows.flat_map(|row| row.split('|').skip(1).take(columns));
    let code = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    code.flat_map(|code| code.split(|it: char| !it.is_ascii_alphanumeric() && it != '_')).collect()
}

/// What stands between `before` and `after` somewhere in a line of the file.
fn between<'a>(source: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    let found = |line: &'a str| Some(line.split_once(before)?.1.split_once(after)?.0);
    let found: BTreeSet<&str> = source.lines().filter_map(found).collect();
    assert!(1 < found.len(), "nothing between {before:?} and {after:?}");
    found
}

#[test]
fn the_readme_explains_every_field_of_the_configuration() {
    let (readme, document) = (read("README.md"), read("src/config/document.rs"));
    let explained = in_tables(&readme, 2);
    let fields = between(&document, "    pub(super) ", ": ").into_iter().filter(|it| !it.contains(' '));
    for field in fields.map(|it| if it == "matcher" { "match" } else { it }) {
        assert!(explained.contains(field), "{field}");
    }
}

#[test]
fn the_readme_explains_every_metric_and_every_word_in_one() {
    let (readme, metrics) = (read("README.md"), read("src/monitor/metrics.rs"));
    let (outcomes, trips) = (read("src/monitor/outcome.rs"), read("src/degrade/breaker/trip.rs"));
    let names = between(&metrics, "//! | `", "` |");
    for name in names.into_iter().chain(between(&outcomes, "=> \"", "\"")) {
        assert!(readme.contains(&format!("\n| `{name}` |")), "{name}");
    }
    let explained = in_tables(&readme, 2);
    for cause in between(&trips, "=> \"", "\"") {
        assert!(explained.contains(cause), "{cause}");
    }
}

#[test]
fn the_manifests_make_a_label_of_every_label() {
    let metrics = read("src/monitor/metrics.rs");
    let bootstraps = ["envoy/envoy.yaml", "envoy/exact-retries.yaml"].map(read);
    let istio = read("envoy/istio/wasmplugin.yaml");
    let list = istio.lines().find_map(|line| line.split_once("   operation,")).unwrap().1;
    let listed: BTreeSet<&str> = list.split(',').chain(["operation"]).collect();
    // The third column of the table of metrics.
    let rows = metrics.lines().filter(|line| line.starts_with("//! | `"));
    let labels = rows.filter_map(|row| row.split('|').nth(2)).flat_map(|cell| cell.split(',')).map(str::trim);
    for label in labels.filter(|label| !label.is_empty()) {
        let rule = format!("{{ tag_name: {label}, regex: '({label}=\\.=(.*?);\\.;)' }}");
        assert!(bootstraps.iter().all(|it| it.contains(&rule)), "{label}");
        assert!(listed.contains(label), "{label}");
    }
}
