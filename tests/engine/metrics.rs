//! The table of metrics: what it promises, and that every bootstrap and manifest makes labels of all that it says.
//!
//! Reads files, hence native only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;

use outrigger::config::closed;
use outrigger::host::MetricKind;
use outrigger::monitor::names::Names;
use outrigger::monitor::outcome::Outcome;
use outrigger::monitor::table::{METRICS, Owner, SCOPE, labels};
use outrigger::operation::Tier;
use serde_yaml_ng::Value;

use crate::common::defined::is_in_the_table;
use crate::documents::{find, pages};
use crate::schema::generate::metrics::{RULES, rule};

#[test]
fn the_table_holds_what_prometheus_and_patterns_ask_for() {
    let names: BTreeSet<&str> = METRICS.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name belongs to one metric");
    for metric in METRICS {
        let name = metric.name;
        let word = |text: &str| text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
        assert!(word(name) && name.starts_with("outrigger_"), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == MetricKind::Counter, "{name}");
        assert_eq!(name.ends_with("_milliseconds"), metric.kind == MetricKind::Histogram, "{name}");
        let own: BTreeSet<&str> = metric.labels.iter().copied().collect();
        assert_eq!(own.len(), metric.labels.len(), "{name}: a label belongs to one value");
        assert!(!own.contains(SCOPE) && own.iter().all(|it| word(it)), "{name}");
        assert!(!metric.moves.is_empty() && !metric.moves.contains('|'), "{name}");
    }
    // A pattern looks for its label anywhere in the name: it must not find the end of another one.
    let labels = labels();
    for label in &labels {
        let found: Vec<_> = labels.iter().filter(|it| it.ends_with(label)).collect();
        assert_eq!(found, [label], "the pattern of {label} finds others");
    }
    assert!(METRICS.iter().rev().take_while(|it| it.owner == Owner::Proxy).count() == 3, "as the page says");
    assert_eq!(METRICS.iter().filter(|it| it.owner == Owner::Proxy).count(), 3);
}

#[test]
fn every_word_of_a_closed_list_is_one_that_a_label_can_say() {
    let mut lists = 0;
    for metric in METRICS {
        for words in metric.labels.iter().filter_map(|label| closed::words(metric.name, label)) {
            lists += 1;
            let good = |it: char| it.is_ascii_alphanumeric() || it == '_';
            assert!(words.iter().all(|it| !it.word.is_empty() && it.word.chars().all(good)), "{words:?}");
            assert!(words.iter().all(|it| !it.means.contains('|')), "{words:?}");
        }
    }
    assert_eq!(lists, 10);
    for label in ["outcome", "decision", "kind", "call", "cause", "enforced"] {
        let metrics = METRICS.iter().filter(|it| it.labels.contains(&label));
        let words = metrics.flat_map(|it| closed::words(it.name, label).unwrap());
        assert!(words.clone().count() > 1 && words.into_iter().all(|it| !it.means.is_empty()), "{label}");
    }
}

#[test]
fn labels_are_written_in_the_order_of_the_table_after_the_scope() {
    let (plain, scoped) = (Names::of(None), Names::of(Some("shop")));
    let requests = |names: &Names| names.requests_total("place-order", Tier::P0, Outcome::ClientError);
    let expected = "operation=.=place-order;.;tier=.=P0;.;outcome=.=client_error;.;outrigger_requests_total";
    assert_eq!(requests(&plain), expected);
    assert_eq!(requests(&scoped), format!("scope=.=shop;.;{expected}"));
    assert_eq!(outrigger::monitor::metrics::config_rejected_total(), "outrigger_config_rejected_total");
}

/// What tests hold every metric against that they make the filter define.
#[test]
fn a_metric_that_is_not_as_the_table_says_is_found_out() {
    use MetricKind::{Counter, Gauge};
    let good = "scope=.=shop;.;breaker=.=orders;.;to=.=open;.;cause=.=probe_lost;.;outrigger_breaker_transitions_total";
    is_in_the_table(Counter, good);
    is_in_the_table(Gauge, "version=.=v1.2:/+@a;.;outrigger_config_info");
    let bad = [
        (Gauge, good.to_owned()),
        (Counter, good.replace("_transitions", "_trips")),
        (Counter, good.replace("breaker=.=orders;.;", "")),
        (Counter, good.replace("to=.=open;.;cause=.=probe_lost;.;", "cause=.=probe_lost;.;to=.=open;.;")),
        (Counter, good.replace("to=.=open", "into=.=open")),
        (Counter, good.replace("=open;", "=shut;")),
        (Counter, good.replace("probe_lost", "too_large")),
        (Counter, good.replace("orders", "or ders")),
        (Counter, good.replace("orders", "")),
        (Counter, good.replace("=orders", "=to=.=x")),
        (Counter, "scope=.=shop;.;outrigger_config_rejected_total".to_owned()),
        (Counter, "call=.=breaker;.;outrigger_host_errors_total".to_owned()),
    ];
    for (kind, name) in bad {
        assert!(catch_unwind(|| is_in_the_table(kind, &name)).is_err(), "{name}");
    }
}

/// The rules in a bootstrap, also in one that is a text in another manifest.
fn rules(manifest: &Value) -> Vec<Vec<(String, String)>> {
    let mut found = Vec::new();
    find(manifest, "stats_tags", &mut found);
    let text = |it: &Value, key: &str| it.get(key).and_then(Value::as_str).unwrap().to_owned();
    let list =
        |it: &&Value| it.as_sequence().unwrap().iter().map(|it| (text(it, "tag_name"), text(it, "regex"))).collect();
    let mut rules: Vec<_> = found.iter().map(list).collect();
    let mut bootstraps = Vec::new();
    find(manifest, "bootstrap", &mut bootstraps);
    for value in bootstraps.into_iter().filter_map(|it| it.get("value")?.as_str()) {
        rules.extend(self::rules(&serde_yaml_ng::from_str(value).unwrap()));
    }
    rules
}

#[test]
fn every_bootstrap_and_manifest_makes_a_label_of_every_label_and_of_nothing_else() {
    let expected: Vec<(String, String)> = labels().iter().map(|it| ((*it).to_owned(), rule(it))).collect();
    let mut texts: Vec<(String, String)> = Vec::new();
    for folder in ["envoy", "envoy/istio"] {
        for entry in fs::read_dir(pages::project(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".yaml") {
                let path = format!("{folder}/{name}");
                texts.push((path.clone(), fs::read_to_string(pages::project(&path)).unwrap()));
            }
        }
    }
    for page in pages::pages() {
        texts.extend(page.blocks("yaml").into_iter().map(|it| (page.path.clone(), it.to_owned())));
    }
    let mut seen = BTreeSet::new();
    for (path, text) in texts {
        use serde::Deserialize as _;
        for manifest in serde_yaml_ng::Deserializer::from_str(&text) {
            for found in rules(&Value::deserialize(manifest).unwrap()) {
                assert_eq!(found, expected, "{path}. Run: ./build.sh reference");
                seen.insert(path.clone());
            }
        }
        // Istio makes the same rules of a list of labels, which stands in a comment.
        if let Some((_, rest)) = text.split_once("sidecar.istio.io/extraStatTags: >-\n") {
            let list = rest.lines().next().unwrap().trim_start_matches(['#', ' ']);
            assert_eq!(list, labels().join(","), "{path}. Run: ./build.sh reference");
            seen.insert(path.clone());
        }
    }
    assert!(seen.iter().eq(&RULES), "{seen:?}");
}
