//! Policies that are tried out: nobody is refused, and everybody who looks after the proxy is told who would be.

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream};

const WORKERS: usize = 4;

async fn start(turn: &Turn, upstream: &Upstream, policy: &Value) -> Envoy {
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(policy));
    turn.start(Bootstrap::new(listener).concurrency(WORKERS)).await
}

/// How many requests would have been refused for the reason.
async fn shadow(envoy: &Envoy, reason: &str) -> f64 {
    envoy.metric("outrigger_refusals_total", &[("reason", reason), ("enforced", "false")]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_and_a_limit_that_are_tried_out_let_everybody_on_and_name_themselves_in_the_access_log() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [{ "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews"] } }],
        "switches": [{ "name": "no-reviews", "active": true, "tiers": ["P3"], "enforced": false }],
        "limits": [{ "name": "all", "enforced": false, "token_bucket": supply(1) }],
    });
    let envoy = start(&turn, &upstream, &policy).await;
    assert_eq!(shadow(&envoy, "switch/no-reviews").await, 0.0);
    let clients = envoy.clients("/reviews").await;
    let opened = clients.len() as f64;
    for client in &clients {
        assert_eq!(client.admitted("/reviews", 5).await, 5);
        assert_eq!(client.admitted("/products", 5).await, 5);
    }
    let asked = opened * 5.0;

    assert_eq!(shadow(&envoy, "switch/no-reviews").await, opened + asked, "each of them, on every worker");
    assert_eq!(shadow(&envoy, "limit/all").await, opened + 2.0 * asked - 1.0);
    let total = clients.len() * 11;
    let log = envoy.access_log(total, |_| true).await;
    let count = |shadow: Option<&str>| log.iter().filter(|it| it.shadow.as_deref() == shadow).count();
    assert_eq!(count(Some("switch/no-reviews")), clients.len() * 6, "the first that would have refused");
    assert_eq!(count(Some("limit/all")), clients.len() * 5);
    assert!(log.iter().all(|it| it.reason.is_none() && it.status == 200));
    assert_eq!(envoy.metric("outrigger_refusals_total", &[("enforced", "true")]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_that_is_tried_out_trips_and_heals_while_everything_gets_through() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [{ "name": "inventory", "match": { "paths": ["/inventory"] } }],
        "breakers": [{ "name": "inventory", "operations": ["inventory"], "enforced": false, "open_for": "1s",
                       "max_open_for": "1s", "probes": 2, "trip": { "consecutive_failures": 5 } }],
    });
    let envoy = start(&turn, &upstream, &policy).await;
    let clients = envoy.clients("/elsewhere").await;
    let mut sent = 0;
    let mut ask = async |status| {
        for client in &clients {
            assert_eq!(client.get("/inventory").await.status, status, "the service's own answer");
            sent += 1;
        }
        sent
    };
    let state = async || envoy.metric("outrigger_breaker_state", &[("breaker", "inventory")]).await;

    upstream.behave("/inventory", Manner::Failing(503));
    while state().await != 3.0 {
        ask(503).await;
    }
    ask(503).await;
    upstream.behave("/inventory", Manner::Well);
    while state().await != 2.0 {
        ask(200).await;
    }
    while state().await != 0.0 {
        ask(200).await;
    }
    let before = shadow(&envoy, "breaker/inventory").await;
    let sent = ask(200).await;

    assert!(1.0 <= before, "it would have refused {before}");
    assert_eq!(shadow(&envoy, "breaker/inventory").await, before, "closed it would refuse nobody");
    assert_eq!(upstream.count("/inventory"), sent, "nothing was held back");
    let told = envoy.access_log(before as usize, |it| it.shadow.as_deref() == Some("breaker/inventory")).await;
    assert_eq!(told.len() as f64, before);
    assert!(told.iter().all(|it| it.reason.is_none()));
    eventually("the log says that it is in shadow", async || {
        envoy.log().contains("breaker inventory in shadow: open (consecutive_failures)").then_some(())
    })
    .await;
}
