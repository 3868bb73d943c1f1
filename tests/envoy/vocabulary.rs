//! The words of the interface in YAML, which Kubernetes makes of every document: none may be anything but a text.

use std::collections::BTreeSet;
use std::fs;

use outrigger::retry::policy::{GRPC_CONDITIONS, HTTP_CONDITIONS};
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::send;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::scripted_upstream::ScriptedUpstream;
use crate::rig::tool;
use crate::rig::turn::Turn;
use crate::rig::yaml;

use pages::pages;

#[path = "../common/pages.rs"]
mod pages;

fn source(path: &str) -> String {
    let path = tool::project(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every field of the document and every word that its values may say, as the schema tells them, which is made of the tables that
/// the parser reads by. So a new one is here too.
fn vocabulary() -> BTreeSet<String> {
    let conditions = HTTP_CONDITIONS.iter().chain(&GRPC_CONDITIONS);
    let mut words: BTreeSet<String> = conditions.map(|it| it.to_string()).collect();
    collect(&serde_json::from_str(&source("docs/schema.json")).expect("a schema"), &mut words);
    for word in ["token_bucket", "active", "P0", "x-ratelimit", "none", "5xx", "client_ip", "upstream", "match"] {
        assert!(words.contains(word), "{word} is not among {words:?}");
    }
    words
}

fn collect(schema: &Value, words: &mut BTreeSet<String>) {
    let Some(object) = schema.as_object() else {
        schema.as_array().into_iter().flatten().for_each(|it| collect(it, words));
        return;
    };
    for (keyword, value) in object {
        match keyword.as_str() {
            "properties" => words.extend(value.as_object().expect("properties").keys().cloned()),
            "enum" => {
                words.extend(value.as_array().expect("a list").iter().filter_map(Value::as_str).map(str::to_owned))
            }
            "const" => words.extend(value.as_str().map(str::to_owned)),
            "pattern" => {
                // Alternatives of a pattern are words too; a single letter or a class of them is not.
                let parts = value
                    .as_str()
                    .expect("a pattern")
                    .split(|it: char| !it.is_ascii_alphanumeric() && !"_-".contains(it));
                words.extend(parts.filter(|it| 2 <= it.len() && is_word(it)).map(str::to_owned));
            }
            _ => {}
        }
        collect(value, words);
    }
}

fn is_word(text: &str) -> bool {
    text.contains(|it: char| it.is_ascii_alphabetic())
        && text.chars().all(|it| it.is_ascii_alphanumeric() || "_-".contains(it))
}

#[test]
fn no_word_of_the_interface_is_anything_but_a_text_in_yaml() {
    let words = vocabulary();
    let list: String = words.iter().map(|word| format!("- {word}\n")).collect();
    let read = yaml::read(&list);
    let read = read.as_array().expect("a list");
    assert_eq!(read.len(), words.len());
    let others: Vec<&String> =
        words.iter().zip(read).filter(|(word, it)| **it != **word).map(|(word, _)| word).collect();
    // The old spelling of `active`, and what YAML makes of it.
    assert_eq!(others, ["on", "true"]);
    // Booleans in the standard and in Go's reader, texts in Python's.
    assert!(!["y", "Y", "n", "N"].iter().any(|it| words.contains(*it)));
}

/// What stands in the documentation can be written as YAML without quotes, its values too.
#[test]
fn the_documents_of_the_pages_are_the_same_without_quotes() {
    let pages = pages();
    let blocks = pages.iter().flat_map(|page| page.blocks("json").into_iter().map(|block| (&page.path, block)));
    let mut read = 0;
    for (page, block) in blocks {
        let document: Value = serde_json::from_str(block).expect("a document");
        let text = yaml::without_quotes(&document);
        assert_eq!(yaml::read(&text), document, "{page}: {text}");
        read += 1;
    }
    assert!(4 < read, "{read} documents");
}

#[test]
fn the_reader_of_these_tests_is_one_of_yaml_1_1() {
    let read = yaml::read("on: [off, yes, 1_000, 11:50, 2026-11-28, 010]");
    assert_eq!(read, json!({ "true": [false, true, 1000, 710, "2026-11-28", 8] }));
}

/// A policy as a user writes it who has not heard of any of this.
const WITHOUT_QUOTES: &str = "
version: 2026-11-28
operations:
- name: 404
  match: { headers: [ { name: x-app, exact: 1_000 } ] }
- name: reviews
  match: { paths: [/reviews] }
switches:
- name: all
  on: false
limits:
- name: 1
  operations: [404]
  fallback: 503
  window: { max_requests: 1, interval: 1d }
on_failure:
- operations: [reviews]
  statuses: [503]
  fallback: 503
fallbacks:
- name: 503
  status: 429
  text: 12
  headers: { x-limit: 1_0 }
";

#[tokio::test(flavor = "multi_thread")]
async fn texts_without_quotes_mean_what_they_say() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let filter = Filter::text(yaml::as_istio_sends_it(&yaml::read(WITHOUT_QUOTES)));
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(filter))).await;
    let client = envoy.client();
    let get = |path, app: &'static str| send(client.request(reqwest::Method::GET, path).header("x-app", app));

    assert_eq!(get("/", "1000").await.status, 503, "the service's own");
    let refusal = get("/", "1000").await;
    assert_eq!((refusal.status, refusal.reason()), (429, Some("limit/1")));
    assert_eq!((refusal.header("x-limit"), refusal.text()), (Some("10"), "12".to_owned()));
    assert_eq!(get("/", "1_000").await.reason(), None, "of another value");
    let failure = get("/reviews", "").await;
    assert_eq!((failure.status, failure.reason()), (429, Some("failure/reviews")));
    assert_eq!(envoy.metric("outrigger_config_info", &[("version", "2026-11-28")]).await, 1.0);
}
