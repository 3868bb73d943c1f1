//! A worker whose filter crashes: Envoy makes it a new one, and what workers share is still there.

use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::send;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream};

const STATE: &str = "outrigger_breaker_state";
const TRANSITIONS: &str = "outrigger_breaker_transitions_total";

/// Crashes the filter of every worker, and waits until each has a new one.
async fn crash_all(envoy: &Envoy, workers: usize) {
    // Enough connections for every worker to have some, however those that are open are spread.
    let mut wires = envoy.wires(workers * 4).await;
    for wire in &mut wires {
        wire.send("GET /elsewhere HTTP/1.1\r\nhost: test\r\nx-trap: 1\r\n\r\n").await;
        assert_eq!(wire.status_or_close().await.unwrap_or(503), 503);
    }
    let crashed = envoy.log().matches("proxy_on_request_headers failed").count();
    assert_eq!(crashed, workers, "every worker's filter crashed");
    // Envoy waits for a second after it made a filter before it makes the next.
    eventually("every worker serves again", async || {
        for mut wire in envoy.wires(workers * 4).await {
            if wire.get("/elsewhere", "").await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(reloads(envoy).await, workers as f64);
}

async fn reloads(envoy: &Envoy) -> f64 {
    let text = envoy.admin("/stats?filter=vm_reload_success").await;
    text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn intact(workers: usize) {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [
            { "name": "limited", "match": { "paths": ["/limited"] } },
            { "name": "keyed", "match": { "paths": ["/keyed"] } },
            { "name": "guarded", "match": { "paths": ["/guarded"] } },
            { "name": "pages", "match": { "paths": ["/pages/*"] } },
        ],
        "limits": [
            { "name": "limited", "operations": ["limited"], "token_bucket": supply(3) },
            { "name": "keyed", "operations": ["keyed"], "key": ["header:x-user-id"], "token_bucket": supply(2) },
        ],
        "breakers": [{ "name": "guarded", "operations": ["guarded"], "trip": { "consecutive_failures": 3 },
                       "open_for": "5m", "max_open_for": "5m" }],
        "on_failure": [{ "operations": ["pages"], "stale": { "max_age": "10m" } }],
    });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy).trapping());
    let envoy = turn.start(Bootstrap::new(listener).concurrency(workers)).await;
    let client = envoy.client();
    assert_eq!(client.admitted("/limited", 5).await, 3);
    for status in [200, 200, 429] {
        assert_eq!(client.get_with("/keyed", "x-user-id", "alice").await.status, status);
    }
    let page = client.get_with("/pages/1", "x-answer-header", "cache-control=public, max-age=60").await;
    upstream.behave("/guarded", Manner::Failing(503));
    eventually("the breaker opens", async || client.get("/guarded").await.reason().map(drop)).await;
    envoy.expect_metric(STATE, &[("breaker", "guarded")], 3.0).await;
    let tried = upstream.count("/guarded");
    assert_eq!(reloads(&envoy).await, 0.0);

    crash_all(&envoy, workers).await;

    upstream.behave("/guarded", Manner::Well);
    upstream.behave("/pages", Manner::Failing(503));
    for client in envoy.clients("/elsewhere").await {
        let limited = client.get("/limited").await;
        assert_eq!((limited.status, limited.reason()), (429, Some("limit/limited")), "still used up");
        assert_eq!(client.get_with("/keyed", "x-user-id", "alice").await.status, 429);
        let refused = client.get("/guarded").await;
        assert_eq!((refused.status, refused.reason()), (503, Some("breaker/guarded")), "still open");
        let kept = client.get("/pages/1").await;
        assert_eq!((kept.status, kept.reason(), &kept.body), (200, Some("failure/pages"), &page.body), "still kept");
    }
    assert_eq!(upstream.count("/guarded"), tried, "no request got through");
    envoy.expect_metric(STATE, &[("breaker", "guarded")], 3.0).await;
    envoy.expect_metric(TRANSITIONS, &[("breaker", "guarded")], 1.0).await;
    assert_eq!(client.get_with("/keyed", "x-user-id", "bob").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_breakers_and_stale_answers_outlive_the_filters_of_two_workers() {
    intact(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_breakers_and_stale_answers_outlive_the_filters_of_four_workers() {
    intact(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_dies_with_its_worker_keeps_no_breaker_from_closing() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [{ "name": "guarded", "match": { "paths": ["/guarded"] } }],
        "breakers": [{ "name": "guarded", "operations": ["guarded"], "trip": { "consecutive_failures": 1 },
                       "open_for": "100ms", "max_open_for": "100ms", "probes": 1 }],
    });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy).trapping());
    let envoy = turn.start(Bootstrap::new(listener)).await;
    upstream.behave("/guarded", Manner::Failing(503));
    envoy.client().get("/guarded").await;
    upstream.behave("/guarded", Manner::Hanging);
    let tried = upstream.count("/guarded");
    let mut waiting = Vec::new();
    eventually("a probe is on its way", async || {
        let client = envoy.client();
        waiting
            .push(tokio::spawn(async move { client.request(reqwest::Method::GET, "/guarded").send().await.is_ok() }));
        (tried < upstream.count("/guarded")).then_some(())
    })
    .await;

    crash_all(&envoy, 2).await;
    upstream.behave("/guarded", Manner::Well);

    eventually("the lost probe is given up and the next succeeds", async || {
        let answer = send(envoy.client().request(reqwest::Method::GET, "/guarded")).await;
        (answer.reason().is_none() && answer.status == 200).then_some(())
    })
    .await;
    let lost = [("breaker", "guarded"), ("to", "open"), ("cause", "probe_lost")];
    envoy.expect_metric(TRANSITIONS, &lost, 1.0).await;
    let ramp = [("breaker", "guarded"), ("to", "ramp"), ("cause", "probes_succeeded")];
    envoy.expect_metric(TRANSITIONS, &ramp, 1.0).await;
    for client in waiting {
        client.abort();
    }
}
