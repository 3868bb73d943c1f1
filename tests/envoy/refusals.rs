//! What a refused client is told, and what the operator can see of it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use sfv::{BareItem, Item, List, ListEntry, Parser};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{bucket, limits_by_path, one_limit, supply};
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_tells_client_and_operator_why_and_until_when() {
    let turn = Turn::shared().await;
    let policy = json!({
        "operations": [{ "name": "place-order", "tier": "P0", "match": { "paths": ["/orders"] } }],
        "limits": [{ "name": "orders", "operations": ["place-order"], "token_bucket": bucket(2, 1, "30s") }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    assert_eq!(client.admitted("/orders", 2).await, 2);

    let refusal = client.get("/orders").await;

    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.reason(), Some("limit/orders"));
    assert_eq!(refusal.header("x-envoy-ratelimited"), Some("true"), "so that the caller's Envoy does not retry");
    assert_eq!(refusal.header("content-type"), Some("application/problem+json"));
    let problem = refusal.json();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["violated-policies"], json!(["orders"]));
    let retry_after: i64 = refusal.header("retry-after").unwrap().parse().unwrap();
    assert!((29..=30).contains(&retry_after), "a token comes every 30 s: {retry_after}");

    let policy = structured_field(&refusal, "ratelimit-policy");
    assert_eq!(integer(&policy, "q"), Some(2));
    assert!(integer(&policy, "w").is_none_or(|window| window >= 1));
    let state = structured_field(&refusal, "ratelimit");
    assert_eq!(integer(&state, "r"), Some(0));
    assert!(integer(&state, "t").is_some_and(|t| (1..=retry_after).contains(&t)), "not after Retry-After");
    for item in [policy, state] {
        assert_eq!(item.bare_item.as_string().map(|name| name.as_str()), Some("orders"));
    }

    let logged = &envoy.access_log(1, |entry| entry.status == 429).await[0];
    assert_eq!(logged.details.as_deref(), Some("outrigger_limit_orders"));
    assert_eq!(logged.reason.as_deref(), Some("limit/orders"));
    assert_eq!(logged.operation.as_deref(), Some("place-order"));
    assert_eq!(logged.tier.as_deref(), Some("P0"));
}

/// The only item of a header field that is a structured list.
fn structured_field(answer: &Answer, name: &str) -> Item {
    let text = answer.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers));
    let list: List = Parser::new(text).parse().unwrap_or_else(|error| panic!("{error} in {name}: {text}"));
    match <[ListEntry; 1]>::try_from(list) {
        Ok([ListEntry::Item(item)]) => item,
        other => panic!("{name} is not one item: {other:?}"),
    }
}

fn integer(item: &Item, parameter: &str) -> Option<i64> {
    let value: &BareItem = item.params.get(parameter)?;
    Some(value.as_integer().unwrap_or_else(|| panic!("{parameter} is no integer: {value:?}")).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_when_told_is_admitted() {
    let turn = Turn::shared().await;
    let policy = one_limit("slow", bucket(1, 1, "1s"));
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    assert_eq!(client.get("/").await.status, 200);

    let refusal = client.get("/").await;
    let seconds = refusal.header("retry-after").expect("a time to come back").parse().unwrap();
    tokio::time::sleep(Duration::from_secs(seconds)).await;

    assert_eq!(seconds, 1);
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn monitor_settings_choose_what_a_refusal_shows() {
    let turn = Turn::shared().await;
    let mut policy = one_limit("hidden", supply(1));
    policy["monitor"] = json!({ "access_log": false, "reason_header": false, "ratelimit_headers": "none" });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    assert_eq!(client.admitted("/", 1).await, 1);

    let refusal = client.get("/").await;

    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.reason(), None);
    assert_eq!((refusal.header("ratelimit"), refusal.header("ratelimit-policy")), (None, None));
    assert!(refusal.header("retry-after").is_some(), "which is no matter of taste");
    let logged = &envoy.access_log(1, |entry| entry.status == 429).await[0];
    assert_eq!((&logged.reason, &logged.operation, &logged.tier), (&None, &None, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_response_is_left_alone() {
    let turn = Turn::shared().await;
    let policy = limits_by_path(&[("limited", supply(5))]);
    let upstream = Upstream::start().await;
    let bootstrap = Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))
        .listener(Listener::to(upstream.cluster()).named("without"));
    let envoy = turn.start(bootstrap).await;

    let with = envoy.client().get("/limited").await;
    let without = Client::new(envoy.address_of("without")).get("/limited").await;

    let names = |answer: &Answer| answer.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(names(&with), names(&without), "the filter adds nothing and takes nothing away");
    assert_eq!((with.status, without.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_headers_are_ours_on_the_way_in_and_the_upstreams_on_the_way_out() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = one_limit("all", supply(5));
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let client = envoy.client();

    let echoed = client
        .request(reqwest::Method::GET, "/")
        .header("x-outrigger-foo", "forged")
        .header("X-Outrigger-Reason", "forged")
        .header("x-outriggers", "somebody else's")
        .header("x-answer-header", "x-outrigger-reason=limit/further-in");
    let answer = send(echoed).await;

    let seen = answer.json()["headers"].clone();
    assert_eq!(seen["x-outrigger-foo"], json!(null), "a client cannot forge them");
    assert_eq!(seen["x-outrigger-reason"], json!(null));
    assert_eq!(seen["x-outriggers"], "somebody else's");
    assert_eq!(answer.reason(), Some("limit/further-in"), "the reason of an Outrigger further in is kept");
}
