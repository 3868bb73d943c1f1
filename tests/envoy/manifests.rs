//! The manifests that users start from, run as Envoy and Istio would run them.

use std::fs;

use reqwest::Method;
use serde_json::Value;

use crate::rig::bootstrap::{self, Bootstrap};
use crate::rig::client::send;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::tool;
use crate::rig::turn::Turn;

fn yaml(path: &str) -> Value {
    let path = tool::project(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn plugin_config() -> Value {
    yaml("envoy/istio/wasmplugin.yaml")["spec"]["pluginConfig"].clone()
}

/// The configuration as Istio hands it to the filter: read into a protobuf `Struct` and printed again, which sorts the
/// keys of objects and makes doubles of all numbers.
fn as_istio_sends_it(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members: Vec<String> =
                names.iter().map(|name| format!("{}:{}", text(name), as_istio_sends_it(&members[*name]))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_istio_sends_it).collect();
            format!("[{}]", items.join(","))
        }
        // Like Go, Rust prints a whole double without a fraction; no number of ours is large enough for an exponent.
        Value::Number(number) => number.as_f64().expect("a double").to_string(),
        Value::String(content) => text(content),
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

/// A JSON string with Go's extra escapes.
fn text(content: &str) -> String {
    let quoted = Value::from(content).to_string();
    quoted.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_istio_manifest_limits_in_the_bytes_that_istio_sends() {
    let turn = Turn::shared().await;
    let filter = Filter::text(as_istio_sends_it(&plugin_config())).vm_id("");
    let envoy = turn.start(Bootstrap::new(Listener::direct().direction("INBOUND").filter(filter))).await;
    let client = envoy.client();

    let order = |user| send(client.request(Method::POST, "/orders").header("x-user-id", user));
    for _ in 0..5 {
        assert_eq!(order("ann").await.status, 200);
    }
    let refusal = order("ann").await;
    assert_eq!((refusal.status, refusal.reason()), (429, Some("limit/orders-per-user")));
    assert_eq!(order("bob").await.status, 200, "another user has a bucket of his own");

    for _ in 0..3 {
        assert_eq!(client.get("/reviews/1").await.reason(), None);
    }
    let fallback = client.get("/reviews/1").await;
    assert_eq!((fallback.status, fallback.reason()), (200, Some("limit/reviews")));
    assert_eq!(fallback.json(), serde_json::json!({ "reviews": [] }));
}

#[test]
fn the_two_manifests_hold_the_same_policy() {
    let envoy = yaml("envoy/envoy.yaml");
    let inline = find(&envoy, "configuration").and_then(|configuration| configuration["value"].as_str());
    let inline: Value = serde_json::from_str(inline.expect("an inline policy")).expect("the inline policy is JSON");
    assert_eq!(inline, plugin_config());
}

#[test]
fn the_shipped_bootstrap_has_the_labels_that_these_tests_rely_on() {
    assert_eq!(yaml("envoy/envoy.yaml")["stats_config"], bootstrap::stats_config());
}

/// The first value under this name, however deep.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name).or_else(|| members.values().find_map(|member| find(member, name))),
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}
