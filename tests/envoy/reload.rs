//! Changes while traffic flows, by discovery from the file system: state survives, and mistakes change nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::load::flood;
use crate::rig::policy::{bucket, supply};
use crate::rig::turn::Turn;

/// Limits by path as in [`crate::rig::policy::limits_by_path`], whose refusals have this status: it tells which
/// configuration answered.
fn policy(version: &str, refusal_status: u16, limits: &BTreeMap<&str, Value>) -> Value {
    let limits: Vec<(&str, Value)> = limits.iter().map(|(name, bucket)| (*name, bucket.clone())).collect();
    let mut policy = crate::rig::policy::limits_by_path(&limits);
    policy["version"] = json!(version);
    policy["fallbacks"] = json!([{ "name": "refusal", "status": refusal_status, "text": "no" }]);
    for limit in policy["limits"].as_array_mut().unwrap() {
        limit["fallback"] = json!("refusal");
    }
    policy
}

fn listener(policy: &Value) -> Listener {
    Listener::direct().filter(Filter::new(policy))
}

/// Waits until new connections meet the configuration that refuses `/probe` with this status.
async fn in_use(envoy: &Envoy, refusal_status: u16) {
    eventually("new connections meet the new configuration", async || {
        (envoy.client().get("/probe").await.status == refusal_status).then_some(())
    })
    .await;
}

/// An Envoy with the configuration `one`, which refuses with 429, and whose `/probe` is used up.
async fn started(turn: &Turn, limits: &BTreeMap<&str, Value>) -> Envoy {
    let envoy = turn.start(Bootstrap::new(listener(&policy("one", 429, limits))).by_discovery()).await;
    assert_eq!(envoy.client().admitted("/probe", 2).await, 1);
    envoy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_bucket_stays_so_over_an_update() {
    let turn = Turn::shared().await;
    let mut limits = BTreeMap::from([("probe", supply(1)), ("used-up", supply(10)), ("half", supply(10))]);
    let envoy = started(&turn, &limits).await;
    assert_eq!(envoy.client().admitted("/used-up", 12).await, 10);
    assert_eq!(envoy.client().admitted("/half", 5).await, 5);

    limits.insert("added", supply(2));
    envoy.publish(&[listener(&policy("two", 420, &limits))]);
    in_use(&envoy, 420).await;

    for client in envoy.clients("/free").await {
        assert_eq!(client.get("/used-up").await.status, 420, "no worker forgot");
    }
    assert_eq!(envoy.client().admitted("/half", 12).await, 5, "what was left is left");
    assert_eq!(envoy.client().admitted("/added", 5).await, 2, "and what is new works");
    envoy.expect_metric("outrigger_config_info", &[("version", "two")], 1.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_an_update_reshapes_keeps_what_was_taken_from_it() {
    let turn = Turn::shared().await;
    let before = bucket(10, 1, "10m");
    let mut limits = BTreeMap::from([
        ("probe", supply(1)),
        ("grows", before.clone()),
        ("shrinks", before.clone()),
        ("slows", before),
    ]);
    let envoy = started(&turn, &limits).await;
    assert_eq!(envoy.client().admitted("/grows", 12).await, 10);
    assert_eq!(envoy.client().admitted("/shrinks", 8).await, 8);
    assert_eq!(envoy.client().admitted("/slows", 8).await, 8);

    limits.insert("grows", bucket(15, 1, "10m"));
    limits.insert("shrinks", bucket(4, 1, "10m"));
    limits.insert("slows", bucket(10, 1, "40m"));
    envoy.publish(&[listener(&policy("two", 420, &limits))]);
    in_use(&envoy, 420).await;

    assert_eq!(envoy.client().admitted("/grows", 12).await, 5, "10 of 15 are taken");
    assert_eq!(envoy.client().admitted("/shrinks", 5).await, 0, "8 of 4 are taken");
    assert_eq!(envoy.client().admitted("/slows", 5).await, 2, "8 of 10 are taken, however long they take to come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_old_configuration_drains_both_use_the_same_bucket() {
    let turn = Turn::shared().await;
    let limits = BTreeMap::from([("probe", supply(1)), ("common", supply(10))]);
    let envoy = started(&turn, &limits).await;
    let mut old = envoy.wires(4).await;
    let mut admitted = 0;
    for wire in &mut old {
        admitted += usize::from(wire.get("/common", "").await.status == 200);
    }

    envoy.publish(&[listener(&policy("two", 420, &limits))]);
    in_use(&envoy, 420).await;
    let new = envoy.client();

    // In turns, one over an old connection and one over a new one, until the bucket is empty.
    let mut refusals = Vec::new();
    for wire in &mut old {
        for status in [wire.get("/common", "").await.status, new.get("/common").await.status] {
            if status == 200 {
                admitted += 1;
            } else {
                refusals.push(status);
            }
        }
    }
    assert_eq!(admitted, 10, "over both configurations; refusals: {refusals:?}");
    assert_eq!(refusals, [429, 420], "from the old one on an old connection, and from the new one on a new connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_update_is_rejected_and_the_old_configuration_keeps_limiting() {
    let turn = Turn::shared().await;
    let mut limits = BTreeMap::from([("probe", supply(1)), ("common", supply(3))]);
    let envoy = started(&turn, &limits).await;
    assert_eq!(envoy.client().admitted("/common", 2).await, 2);

    let mut bad = policy("bad", 420, &limits);
    bad["limits"][0]["token_bucket"]["fill_interval"] = json!("0s");
    envoy.publish(&[listener(&bad)]);
    envoy.reaches("envoy_listener_manager_lds_update_rejected", 1.0).await;

    let explained = r#"limits[0].token_bucket.fill_interval: "0s", must be at least 1ms"#;
    assert!(envoy.log().contains(explained), "the log explains:\n{}", envoy.log());
    let dump = envoy.admin("/config_dump?resource=dynamic_listeners").await;
    assert!(dump.contains("error_state"), "Envoy holds the refused listener for inspection:\n{dump}");
    let stats = envoy.stats().await;
    assert!(stats.sum("outrigger_config_rejected_total", &[]) >= 1.0, "{}", stats.ours());
    assert_eq!(stats.sum("outrigger_config_info", &[("version", "one")]), 1.0);
    assert_eq!(stats.sum("outrigger_config_info", &[("version", "bad")]), 0.0);
    let clients = envoy.clients("/free").await;
    assert_eq!(clients[0].admitted("/common", 3).await, 1, "what was left is left");
    for client in &clients {
        assert_eq!(client.get("/common").await.status, 429, "every worker answers as before");
    }

    limits.insert("common", supply(4));
    envoy.publish(&[listener(&policy("mended", 420, &limits))]);
    in_use(&envoy, 420).await;
    assert_eq!(envoy.client().admitted("/common", 3).await, 1, "and the next good update is taken");
    envoy.expect_metric("outrigger_config_info", &[("version", "mended")], 1.0).await;
}

/// A policy of this version whose switch `reviews` is on or off.
fn switched(version: &str, active: bool) -> Value {
    json!({
        "version": version,
        "operations": [{ "name": "reviews", "match": { "paths": ["/reviews"] } }],
        "switches": [{ "name": "reviews", "operations": ["reviews"], "active": active }],
    })
}

/// How many machines of the filter were made, and how many there are.
async fn machines(envoy: &Envoy) -> [f64; 2] {
    let stats = envoy.stats().await;
    ["created", "active"].map(|what| stats.sum(&format!("envoy_wasm_envoy_wasm_runtime_v8_{what}"), &[]))
}

/// The gauges of the switch and of these versions.
async fn shown(envoy: &Envoy, versions: [&str; 2]) -> [f64; 3] {
    let stats = envoy.stats().await;
    let version = |version| stats.sum("outrigger_config_info", &[("version", version)]);
    [stats.sum("outrigger_switch_on", &[("switch", "reviews")]), version(versions[0]), version(versions[1])]
}

async fn expect_shown(envoy: &Envoy, versions: [&str; 2], expected: [f64; 3]) {
    eventually(&format!("{versions:?} are shown as {expected:?}"), async || {
        (shown(envoy, versions).await == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_stays_on_when_the_module_is_replaced_under_load() {
    let turn = Turn::shared().await;
    let policy = switched("one", true);
    let old = Listener::direct().filter(Filter::new(&policy));
    let bootstrap = Bootstrap::new(old).by_discovery().drain_within(Duration::from_secs(4));
    let envoy = turn.start(bootstrap).await;
    assert_eq!(envoy.client().get("/reviews").await.status, 503);
    expect_shown(&envoy, ["one", "two"], [1.0, 1.0, 0.0]).await;
    let [created, active] = machines(&envoy).await;
    assert!(active >= 3.0, "one for the main thread and each worker: {active}");

    let load = tokio::spawn(flood(envoy.address(), 8, "/elsewhere", Duration::from_secs(7)));
    envoy.publish(&[Listener::direct().filter(Filter::new(&policy).trapping())]);
    envoy.reaches("envoy_listener_manager_listener_modified", 1.0).await;
    eventually("the new machines are there and the old ones gone", async || {
        (machines(&envoy).await == [created * 2.0, active]).then_some(())
    })
    .await;
    let stats = envoy.stats().await;
    assert_eq!(shown(&envoy, ["one", "two"]).await, [1.0, 1.0, 0.0], "right after the clean-up:\n{}", stats.ours());
    let flood = load.await.expect("a load");
    assert_eq!(flood.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert_eq!(shown(&envoy, ["one", "two"]).await, [1.0, 1.0, 0.0]);

    // Back to the first module, and off.
    envoy.publish(&[Listener::direct().filter(Filter::new(&switched("two", false)))]);
    eventually("the switch is off", async || (envoy.client().get("/reviews").await.status == 200).then_some(())).await;
    expect_shown(&envoy, ["one", "two"], [0.0, 0.0, 1.0]).await;

    envoy.publish(&[]);
    expect_shown(&envoy, ["one", "two"], [0.0, 0.0, 0.0]).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_stays_on_when_a_worker_crashes_and_goes_off_with_an_update() {
    let turn = Turn::shared().await;
    let listener = |policy: &Value| Listener::direct().filter(Filter::new(policy).trapping());
    let bootstrap =
        Bootstrap::new(listener(&switched("one", true))).by_discovery().drain_within(Duration::from_secs(1));
    let envoy = turn.start(bootstrap).await;
    expect_shown(&envoy, ["one", "two"], [1.0, 1.0, 0.0]).await;

    let mut wire = envoy.wires(4).await.remove(0);
    wire.send("GET /elsewhere HTTP/1.1\r\nhost: test\r\nx-trap: 1\r\n\r\n").await;
    assert_eq!(wire.status_or_close().await.unwrap_or(503), 503);
    assert_eq!(shown(&envoy, ["one", "two"]).await, [1.0, 1.0, 0.0]);

    envoy.publish(&[listener(&switched("two", false))]);
    expect_shown(&envoy, ["one", "two"], [0.0, 0.0, 1.0]).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}
