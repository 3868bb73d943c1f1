//! Which limits of one proxy are the same limit. The VM id is empty throughout, as in Istio.

use std::time::Duration;

use outrigger::monitor::tenancy::AT_ONCE;
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::Client;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{one_limit, supply};
use crate::rig::turn::Turn;

const BURST: usize = 5;

fn filter(policy: &Value) -> Filter {
    Filter::new(policy).vm_id("")
}

/// How many of the requests to each of the two listeners are admitted, one listener after the other.
async fn admitted_by_each(turn: &Turn, first: Listener, second: Listener) -> (usize, usize) {
    // One worker, so that both listeners surely meet in one VM.
    let bootstrap = Bootstrap::new(first.named("first")).listener(second.named("second")).concurrency(1);
    let envoy: Envoy = turn.start(bootstrap).await;
    let first = Client::new(envoy.address_of("first")).admitted("/", BURST + 3).await;
    let second = Client::new(envoy.address_of("second")).admitted("/", BURST + 3).await;
    (first, second)
}

fn scoped(scope: &str) -> Value {
    let mut policy = one_limit("same-name", supply(5));
    policy["scope"] = json!(scope);
    policy
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_same_name_in_different_scopes_do_not_share() {
    let turn = Turn::shared().await;
    let listener = |scope| Listener::direct().filter(filter(&scoped(scope)));
    assert_eq!(admitted_by_each(&turn, listener("one"), listener("two")).await, (BURST, BURST));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_the_same_name_and_scope_share_whatever_the_filter_is_called() {
    let turn = Turn::shared().await;
    let listener = |root_id| Listener::direct().filter(filter(&scoped("common")).root_id(root_id));
    assert_eq!(admitted_by_each(&turn, listener("one"), listener("two")).await, (BURST, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scope_filters_of_different_root_ids_do_not_share() {
    let turn = Turn::shared().await;
    let policy = one_limit("same-name", supply(5));
    let listener = |root_id| Listener::direct().filter(filter(&policy).root_id(root_id));
    assert_eq!(admitted_by_each(&turn, listener("one"), listener("two")).await, (BURST, BURST));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scope_the_two_directions_of_a_proxy_do_not_share() {
    let turn = Turn::shared().await;
    let policy = one_limit("same-name", supply(5));
    let listener = |direction| Listener::direct().direction(direction).filter(filter(&policy));
    assert_eq!(admitted_by_each(&turn, listener("INBOUND"), listener("OUTBOUND")).await, (BURST, BURST));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scope_listeners_of_one_direction_share() {
    let turn = Turn::shared().await;
    let policy = one_limit("same-name", supply(5));
    let listener = || Listener::direct().direction("INBOUND").filter(filter(&policy));
    assert_eq!(admitted_by_each(&turn, listener(), listener()).await, (BURST, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_filters_on_one_path_limit_independently() {
    let turn = Turn::shared().await;
    let mut outer = scoped("outer");
    outer["limits"][0]["token_bucket"] = supply(7);
    let listener = Listener::direct().filter(filter(&outer)).filter(filter(&scoped("inner")));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    assert_eq!(envoy.client().admitted("/", 9).await, BURST, "the narrower of the two");

    // The outer one let 7 through: 5 of them were served, 2 the inner one refused. It refused the other 2 itself.
    let refusals = "outrigger_refusals_total";
    envoy.expect_metric(refusals, &[("reason", "limit/same-name"), ("scope", "outer")], 2.0).await;
    envoy.expect_metric(refusals, &[("reason", "limit/same-name"), ("scope", "inner")], 2.0).await;
}

/// Metrics of the listeners of both directions are told apart by their scopes.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_with_scopes_have_series_of_their_own() {
    let turn = Turn::shared().await;
    let listener = |scope: &str, direction| {
        let mut policy = scoped(scope);
        policy["version"] = json!("one");
        policy["switches"] = json!([{ "name": "rest", "active": scope == "inbound", "methods": ["PUT"] }]);
        Listener::direct().direction(direction).filter(filter(&policy)).named(scope)
    };
    let bootstrap = Bootstrap::new(listener("inbound", "INBOUND")).listener(listener("outbound", "OUTBOUND"));
    let envoy = turn.start(bootstrap).await;
    assert_eq!(Client::new(envoy.address_of("inbound")).admitted("/", 7).await, BURST);
    assert_eq!(Client::new(envoy.address_of("outbound")).admitted("/", 6).await, BURST);

    for (scope, refused, on) in [("inbound", 2.0, 1.0), ("outbound", 1.0, 0.0)] {
        let own = ("scope", scope);
        envoy.expect_metric("outrigger_requests_total", &[own], 5.0 + refused).await;
        envoy.expect_metric("outrigger_requests_total", &[own, ("outcome", "limited")], refused).await;
        envoy.expect_metric("outrigger_refusals_total", &[own, ("reason", "limit/same-name")], refused).await;
        envoy.expect_metric("outrigger_switch_on", &[own, ("switch", "rest")], on).await;
        envoy.expect_metric("outrigger_config_info", &[own, ("version", "one")], 1.0).await;
        envoy.expect_metric("outrigger_request_duration_milliseconds_count", &[own], 5.0).await;
    }
    let stats = envoy.stats().await;
    assert_eq!(stats.labels("outrigger_requests_total"), ["operation", "outcome", "scope", "tier"]);
    assert_eq!(stats.labels("outrigger_host_errors_total"), ["call"], "what is no filter's own");
}

/// What the log says of limits that two filters take from each other.
const SHARED: &str = r#"limits[0]: "same-name" has other numbers in another filter that is in use"#;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scope_plugins_of_different_names_do_not_share() {
    let turn = Turn::shared().await;
    let listener =
        |name, tokens| Listener::direct().filter(filter(&one_limit("same-name", supply(tokens))).named(name));
    let bootstrap = Bootstrap::new(listener("first", 5).named("first")).listener(listener("second", 2).named("second"));
    let envoy = turn.start(bootstrap.concurrency(1)).await;
    assert_eq!(Client::new(envoy.address_of("first")).admitted("/", BURST + 3).await, 5);
    assert_eq!(Client::new(envoy.address_of("second")).admitted("/", BURST + 3).await, 2);
    assert!(!envoy.log().contains(SHARED), "{}", envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_filters_that_cannot_be_told_apart_and_have_other_numbers_are_warned_of_once() {
    let turn = Turn::shared().await;
    let listener = |tokens| Listener::direct().filter(filter(&one_limit("same-name", supply(tokens))));
    let bootstrap = Bootstrap::new(listener(5).named("first")).listener(listener(2).named("second"));
    let envoy = turn.start(bootstrap).await;
    Client::new(envoy.address_of("first")).get("/").await;
    assert_eq!(envoy.log().matches(SHARED).count(), 1, "{}", envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_one_scope_with_other_numbers_are_warned_of_also_when_the_second_comes_late() {
    let turn = Turn::shared().await;
    let listener = |root_id, tokens| {
        let mut policy = scoped("common");
        policy["limits"][0]["token_bucket"] = supply(tokens);
        Listener::direct().filter(filter(&policy).root_id(root_id)).named(root_id)
    };
    let envoy = turn.start(Bootstrap::new(listener("one", 5)).by_discovery()).await;
    assert_eq!(Client::new(envoy.address_of("one")).get("/").await.status, 200);
    assert!(!envoy.log().contains(SHARED), "{}", envoy.log());
    envoy.publish(&[listener("one", 5), listener("two", 2)]);
    eventually("the second filter is warned of", async || envoy.log().contains(SHARED).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_filters_numbers_is_not_warned_of() {
    let turn = Turn::shared().await;
    let listener = |tokens, version: &str| {
        let mut policy = one_limit("same-name", supply(tokens));
        policy["version"] = json!(version);
        Listener::direct().filter(filter(&policy))
    };
    let envoy = turn.start(Bootstrap::new(listener(50, "one")).by_discovery()).await;
    let clients = envoy.clients("/").await;
    // Two that come within a few seconds, before they have requests, are two filters; the main thread never has any.
    tokio::time::sleep(AT_ONCE + Duration::from_secs(1)).await;
    envoy.publish(&[listener(40, "two")]);
    envoy.expect_metric("outrigger_config_info", &[("version", "two")], 1.0).await;
    // The earlier one goes on serving the connections that it has.
    for client in &clients {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert!(!envoy.log().contains(SHARED), "{}", envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_comes_back_has_its_own_numbers_again() {
    let turn = Turn::shared().await;
    let listener = |tokens, version: &str| {
        let mut policy = one_limit("same-name", supply(tokens));
        policy["version"] = json!(version);
        Listener::direct().filter(filter(&policy))
    };
    let drain = Duration::from_secs(4);
    let bootstrap = Bootstrap::new(listener(5, "one")).by_discovery().concurrency(1).drain_within(drain);
    let envoy = turn.start(bootstrap).await;
    let in_use =
        async |version, value| envoy.expect_metric("outrigger_config_info", &[("version", version)], value).await;
    in_use("one", 1.0).await;
    envoy.publish(&[listener(50, "two")]);
    in_use("two", 1.0).await;
    // The first one is still being drained.
    envoy.publish(&[listener(5, "one")]);
    eventually("the second configuration is gone", async || {
        (envoy.metric("outrigger_config_info", &[("version", "two")]).await == 0.0).then_some(())
    })
    .await;
    in_use("one", 1.0).await;
    assert_eq!(envoy.client().admitted("/", BURST + 3).await, BURST);
}
