//! Prepared replies in place of the standard refusal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, send};
use crate::rig::envoy_process::Envoy;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;

/// An Envoy whose limit, used up by one request, refuses with this fallback.
async fn drained(turn: &Turn, fallback: Value) -> Envoy {
    let policy = json!({
        "limits": [{ "name": "all", "fallback": fallback["name"], "token_bucket": supply(1) }],
        "fallbacks": [fallback],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    assert_eq!(envoy.client().get("/").await.status, 200);
    envoy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_fallback_replaces_status_headers_and_body() {
    let turn = Turn::shared().await;
    let fallback = json!({ "name": "slow-down", "status": 420, "headers": { "cache-control": "no-store" },
                           "json": { "error": "slow down", "n": [1, 2.5] } });
    let envoy = drained(&turn, fallback).await;

    let refusal = envoy.client().get("/").await;

    assert_eq!(refusal.status, 420);
    assert_eq!(refusal.header("cache-control"), Some("no-store"));
    assert_eq!(refusal.header("content-type"), Some("application/json"));
    assert_eq!(refusal.json(), json!({ "error": "slow down", "n": [1, 2.5] }));
    assert_eq!(refusal.reason(), Some("limit/all"));
    envoy.expect_metric("outrigger_fallbacks_total", &[("fallback", "slow-down"), ("reason", "limit/all")], 1.0).await;
    envoy.expect_metric("outrigger_refusals_total", &[("reason", "limit/all"), ("enforced", "true")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_fallback_tells_its_own_time_to_come_back() {
    let turn = Turn::shared().await;
    let fallback = json!({ "name": "sorry", "status": 503, "text": "back in a minute", "retry_after": "30s" });
    let envoy = drained(&turn, fallback).await;

    let refusal = envoy.client().get("/").await;

    assert_eq!(refusal.status, 503);
    assert_eq!(refusal.text(), "back in a minute");
    assert!(refusal.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{refusal:?}");
    assert_eq!(refusal.header("retry-after"), Some("30"));
    assert_eq!(refusal.header("x-envoy-ratelimited"), Some("true"), "callers' Envoys must not retry it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_that_says_success_looks_like_one() {
    let turn = Turn::shared().await;
    let fallback = json!({ "name": "reviews-empty", "status": 200, "json": { "reviews": [] } });
    let envoy = drained(&turn, fallback).await;

    let answer = envoy.client().get("/").await;

    assert_eq!((answer.status, answer.json()), (200, json!({ "reviews": [] })));
    assert_eq!(answer.reason(), Some("limit/all"), "but for whom it may concern");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_gets_the_head_of_a_refusal_only() {
    let turn = Turn::shared().await;
    let fallback = json!({ "name": "slow-down", "status": 429, "json": { "error": "slow down" } });
    let envoy = drained(&turn, fallback).await;
    let client = envoy.client();

    let head = send(client.request(Method::HEAD, "/")).await;
    // A body that was sent nevertheless would be read as the beginning of the next response on this connection.
    let next: Answer = client.get("/").await;

    assert_eq!((head.status, head.body.len()), (429, 0));
    assert_eq!(head.reason(), Some("limit/all"));
    assert_eq!((next.status, next.json()), (429, json!({ "error": "slow down" })));
}
