//! The manifests that users start from, run as Envoy and Istio would run them.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::{self, Bootstrap};
use crate::rig::client::{Client, send};
use crate::rig::crowd::{Crowd, count};
use crate::rig::envoy_process::Envoy;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::scripted_upstream::{Line, ScriptedUpstream};
use crate::rig::tool;
use crate::rig::turn::Turn;
use crate::rig::wire::request;
use crate::rig::yaml;

const WASM_PLUGIN: &str = "envoy/istio/wasmplugin.yaml";
const GATEWAY: &str = "envoy/istio/gateway.yaml";

fn text(path: &str) -> String {
    let path = tool::project(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(path: &str) -> Value {
    yaml::read(&text(path))
}

/// What a manifest of Istio's says to the filter.
fn plugin_config(manifest: &Value) -> Value {
    manifest["spec"]["pluginConfig"].clone()
}

/// Envoy as a sidecar of Istio's with this configuration.
async fn sidecar(turn: &Turn, configuration: &Value) -> Envoy {
    let filter = Filter::text(yaml::as_istio_sends_it(configuration)).vm_id("");
    turn.start(Bootstrap::new(Listener::direct().direction("INBOUND").filter(filter))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_istio_manifest_limits_in_the_bytes_that_istio_sends() {
    let turn = Turn::shared().await;
    let envoy = sidecar(&turn, &plugin_config(&manifest(WASM_PLUGIN))).await;
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
    assert_eq!(fallback.json(), json!({ "reviews": [] }));
}

/// Whoever has the manifest of an earlier version goes on with it, whatever has read it on the way.
#[tokio::test(flavor = "multi_thread")]
async fn the_istio_manifest_with_the_old_spelling_of_active_is_served() {
    let turn = Turn::shared().await;
    for (position, status, reason) in [("false", 200, None), ("true", 503, Some("switch/read-only"))] {
        let old = text(WASM_PLUGIN).replace("      active: false\n", &format!("      on: {position}\n"));
        let configuration = plugin_config(&yaml::read(&old));
        assert_eq!(configuration["switches"][0]["true"], json!(position == "true"), "YAML made a boolean of the key");
        let envoy = sidecar(&turn, &configuration).await;
        let client = envoy.client();
        let answer = send(client.request(Method::POST, "/orders").header("x-user-id", "ann")).await;
        assert_eq!((answer.status, answer.reason()), (status, reason));
        assert_eq!(client.get("/products").await.status, 200);
    }
}

#[test]
fn the_two_manifests_hold_the_same_policy() {
    let envoy = manifest("envoy/envoy.yaml");
    let inline = find(&envoy, "configuration").and_then(|configuration| configuration["value"].as_str());
    let mut inline: Value = serde_json::from_str(inline.expect("an inline policy")).expect("the inline policy is JSON");
    // In a sidecar nobody knows the address of who calls.
    inline["limits"].as_array_mut().expect("a list").retain(|limit| !is_by_address(limit));
    assert_eq!(inline, plugin_config(&manifest(WASM_PLUGIN)));
}

fn is_by_address(limit: &Value) -> bool {
    limit["key"].as_array().is_some_and(|parts| parts.contains(&json!("client_ip")))
}

/// Not where `use_remote_address` is off, as in sidecars: there a client chooses its address.
#[test]
fn addresses_are_counted_only_where_the_proxy_knows_them() {
    let mut by_address = Vec::new();
    for path in ["envoy/envoy.yaml", "envoy/exact-retries.yaml", WASM_PLUGIN, GATEWAY] {
        let manifest = manifest(path);
        let inline = find(&manifest, "configuration").and_then(|configuration| configuration["value"].as_str());
        let policy = match inline {
            Some(text) => serde_json::from_str(text).expect("the inline policy is JSON"),
            None => plugin_config(&manifest),
        };
        if policy["limits"].as_array().is_some_and(|limits| limits.iter().any(is_by_address)) {
            let is_gateway = manifest["spec"]["selector"]["matchLabels"]["istio"] == "ingressgateway";
            assert!(is_gateway || find(&manifest, "use_remote_address") == Some(&json!(true)), "{path}");
            by_address.push(path);
        }
    }
    assert_eq!(by_address, ["envoy/envoy.yaml", GATEWAY], "where the example is");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_limit_of_the_sidecars_is_got_around_by_a_made_up_address() {
    let turn = Turn::shared().await;
    let envoy = sidecar(&turn, &plugin_config(&manifest(WASM_PLUGIN))).await;
    let client = envoy.client();
    let mut statuses = Vec::new();
    for number in 0..8 {
        let made_up = format!("203.0.113.{number}, 198.51.100.{number}");
        let order = client.request(Method::POST, "/orders").header("x-user-id", "ann");
        statuses.push(send(order.header("x-forwarded-for", made_up)).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_limit_is_by_the_connection_whatever_a_client_writes() {
    let turn = Turn::shared().await;
    let configuration = plugin_config(&manifest(GATEWAY));
    let filter = Filter::text(yaml::as_istio_sends_it(&configuration)).vm_id("");
    // As Istio sets up its gateways.
    let listener = Listener::direct().direction("OUTBOUND").connection_manager(json!({ "use_remote_address": true }));
    let envoy = turn.start(Bootstrap::new(listener.filter(filter))).await;
    let from = |last| Client::from(IpAddr::from([127, 0, 0, last]), envoy.address());
    let client = from(1);
    let mut refused = 0;
    for number in 0..60 {
        let made_up = format!("203.0.113.{number}, 198.51.100.{number}");
        let answer = client.get_with("/products", "x-forwarded-for", &made_up).await;
        refused += usize::from(answer.reason() == Some("limit/browse-per-address"));
    }
    assert!((20..=40).contains(&refused), "{refused} of 60: the burst is 20, and one more a second");
    assert_eq!(from(2).get("/products").await.status, 200, "another address has a bucket of its own");
}

#[test]
fn the_shipped_bootstrap_has_the_labels_that_these_tests_rely_on() {
    assert_eq!(manifest("envoy/envoy.yaml")["stats_config"], bootstrap::stats_config());
}

/// The second instance has its work: of requests under way at once, those that fail are retried.
#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_with_the_filter_in_both_places_pays_for_retries_one_by_one() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.nth {
        1 if attempt.number % 10 == 9 => Line::after(Duration::from_millis(100), 503),
        _ => Line::after(Duration::from_millis(100), 200),
    })
    .await;
    let mut manifest = manifest("envoy/exact-retries.yaml");
    replace(&mut manifest, &|name, value| match (name, value) {
        ("port_value", Value::Number(port)) if port.as_u64() == Some(8080) => Some(json!(upstream.port())),
        ("port_value", _) => Some(json!(0)),
        ("filename", _) => Some(json!(tool::module())),
        _ => None,
    });
    let envoy = turn.start(Bootstrap::manifest(manifest)).await;
    let crowd = Crowd::new(envoy.address_of("traffic"));
    let numbered = |number: usize| request("/", format!("x-number: {number}\r\n"));
    // From then on both workers know that attempts are seen.
    let first = crowd.burst((1..=20).map(|number| numbered(1000 * number))).await;
    assert_eq!(count(&first, 200), first.len());
    let decisions = async |decision| envoy.metric("outrigger_retries_total", &[("decision", decision)]).await;
    let before = decisions("no_budget").await;

    let exchanges = crowd.burst((0..30).map(numbered)).await;

    assert_eq!(count(&exchanges, 200), exchanges.len());
    assert_eq!((decisions("made").await, decisions("no_budget").await), (3.0, before));
    assert_eq!(envoy.metric("outrigger_host_errors_total", &[]).await, 0.0);
}

/// Replaces values by their names, however deep.
fn replace(value: &mut Value, by: &impl Fn(&str, &Value) -> Option<Value>) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, member)| match by(name, member) {
            Some(other) => *member = other,
            None => replace(member, by),
        }),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, by)),
        _ => {}
    }
}

/// The first value under this name, however deep.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(name).or_else(|| members.values().find_map(|member| find(member, name))),
        Value::Array(items) => items.iter().find_map(|item| find(item, name)),
        _ => None,
    }
}
