//! How much a limit lets through: its rate, to each key its own, and no less precisely when workers race.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::Client;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::load::steady;
use crate::rig::policy::{bucket, limits_by_path, supply};
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;
use crate::rig::wire::request;

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_admits_its_rate_and_no_more_on_two_workers() {
    rate_holds(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_admits_its_rate_and_no_more_on_four_workers() {
    rate_holds(4).await;
}

/// Five times the rate of a bucket, for five seconds: the burst and the rate come through.
async fn rate_holds(workers: usize) {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let policy = limits_by_path(&[("metered", bucket(20, 100, "1s"))]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(workers)).await;
    let clients = envoy.clients("/free").await;

    let tally = steady(&clients, "/metered", 500, Duration::from_secs(5)).await;

    assert!(tally.refused > 3 * tally.admitted, "no overload: {} of {} refused", tally.refused, tally.admitted);
    let promised = 20.0 + 100.0 * tally.elapsed.as_secs_f64();
    let ratio = tally.admitted as f64 / promised;
    assert!((0.97..=1.02).contains(&ratio), "{} admitted, {promised:.1} promised", tally.admitted);
    assert_eq!(upstream.count("/metered"), tally.admitted, "what is refused does not reach the upstream");
    let refused = envoy.access_log(tally.refused, |entry| entry.status == 429).await;
    assert_eq!(refused.len(), tally.refused);
    for entry in refused {
        assert_eq!(entry.details.as_deref(), Some("outrigger_limit_metered"));
        assert_eq!(entry.reason.as_deref(), Some("limit/metered"));
    }
    envoy.expect_metric("outrigger_refusals_total", &[("reason", "limit/metered")], tally.refused as f64).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_fifty_keys_gets_its_own_burst_over_all_workers() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [{ "name": "mine", "match": { "paths": ["/mine"] } }],
        "limits": [{ "name": "per-user", "operations": ["mine"], "key": ["header:x-user-id"],
                     "token_bucket": supply(5) }],
    });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    let clients = envoy.clients("/free").await;

    let admitted: Arc<Mutex<BTreeMap<usize, usize>>> = Arc::default();
    let callers: Vec<_> =
        clients.into_iter().map(|client| tokio::spawn(ask_for_every_user(client, Arc::clone(&admitted)))).collect();
    for caller in callers {
        caller.await.expect("a caller does its work");
    }

    let expected: BTreeMap<usize, usize> = (0..50).map(|user| (user, 5)).collect();
    assert_eq!(*admitted.lock().unwrap(), expected, "16 connections asked once for each of 50 users");
}

async fn ask_for_every_user(client: Client, admitted: Arc<Mutex<BTreeMap<usize, usize>>>) {
    for user in 0..50 {
        let answer = client.get_with("/mine", "x-user-id", &format!("user-{user}")).await;
        if answer.status == 200 {
            *admitted.lock().unwrap().entry(user).or_default() += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_the_key_count_together_or_pass_by_as_configured() {
    let turn = Turn::shared().await;
    let limit = |name: &str, missing: &str| {
        json!({ "name": name, "operations": [name], "key": ["header:x-user-id"], "missing": missing,
                "token_bucket": supply(5) })
    };
    let policy = json!({
        "operations": [
            { "name": "shared", "match": { "paths": ["/shared"] } },
            { "name": "skip", "match": { "paths": ["/skip"] } },
        ],
        "limits": [limit("shared", "shared"), limit("skip", "skip")],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    assert_eq!(client.admitted("/shared", 9).await, 5, "all anonymous requests share one bucket");
    let named = client.get_with("/shared", "x-user-id", "ann").await;
    assert_eq!(named.status, 200, "which is not the bucket of a user");
    assert_eq!(client.admitted("/skip", 9).await, 9, "the limit passes anonymous requests by");
    for turn in 0..6 {
        let answer = client.get_with("/skip", "x-user-id", "ann").await;
        assert_eq!(answer.status == 200, turn < 5, "but not a user's");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_create_a_bucket_at_once_lose_no_debit() {
    let names: Vec<String> = (0..300).map(|number| format!("fresh-{number}")).collect();
    let limits: Vec<_> = names.iter().map(|name| (name.as_str(), supply(4))).collect();
    let requests = names.iter().map(|name| request(&format!("/{name}"), ""));
    four_of_eight_are_admitted(&limits_by_path(&limits), requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_meet_a_key_at_once_lose_no_debit() {
    let limit = json!({ "name": "per-user", "key": ["header:x-user-id"], "token_bucket": supply(4) });
    let requests = (0..300).map(|user| request("/", format!("x-user-id: {user}\r\n")));
    four_of_eight_are_admitted(&json!({ "limits": [limit] }), requests).await;
}

/// Sends each request eight times, over all workers at once.
async fn four_of_eight_are_admitted(policy: &Value, requests: impl Iterator<Item = Vec<u8>>) {
    let turn = Turn::shared().await;
    let listener = Listener::direct().filter(Filter::new(policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    let mut wires = envoy.wires(8).await;
    for bytes in requests {
        // All workers get the request before any reply is awaited, so that some of them meet at the new bucket.
        for wire in &mut wires {
            wire.send(&bytes).await;
        }
        let mut statuses = Vec::new();
        for wire in &mut wires {
            statuses.push(wire.reply().await.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 200, 429, 429, 429, 429], "{}", String::from_utf8_lossy(&bytes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_limit_that_matches_applies_and_a_refusal_costs_the_others_nothing() {
    let turn = Turn::shared().await;
    let policy = json!({
        "operations": [
            { "name": "order", "tier": "P0", "match": { "paths": ["/order"] } },
            { "name": "browse", "tier": "P0", "match": { "paths": ["/browse"] } },
        ],
        "limits": [
            { "name": "wide", "tiers": ["P0"], "token_bucket": supply(10) },
            { "name": "narrow", "operations": ["order"], "token_bucket": supply(3) },
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    assert_eq!(client.admitted("/order", 8).await, 3);
    assert_eq!(client.get("/order").await.reason(), Some("limit/narrow"));
    assert_eq!(client.admitted("/browse", 12).await, 7, "refused orders gave back what they took from the wide limit");
    assert_eq!(client.get("/browse").await.reason(), Some("limit/wide"));
    assert_eq!(client.get("/order").await.reason(), Some("limit/wide"), "the first limit that refuses is the reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_costs_what_its_header_says() {
    let turn = Turn::shared().await;
    let policy = json!({
        "limits": [{ "name": "weighed", "cost": "header:x-cost", "token_bucket": supply(10) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    let too_big = client.get_with("/", "x-cost", "11").await;
    assert_eq!(too_big.status, 429, "it can never fit");
    assert_eq!(too_big.header("retry-after"), None, "so there is no time to come back");
    assert_eq!(client.get_with("/", "x-cost", "8").await.status, 200);
    assert_eq!(client.get_with("/", "x-cost", "3").await.status, 429, "2 are left");
    assert_eq!(client.get_with("/", "x-cost", "cheap").await.status, 200, "what is no number costs 1");
    assert_eq!(client.get("/").await.status, 200, "and so does nothing at all");
    assert_eq!(client.get("/").await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_limit_counts_what_it_would_refuse_and_refuses_nothing() {
    let turn = Turn::shared().await;
    let policy = json!({
        "limits": [
            { "name": "real", "token_bucket": supply(6) },
            { "name": "shadow", "enforced": false, "token_bucket": supply(2) },
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;

    assert_eq!(envoy.client().admitted("/", 9).await, 6);

    let refusals = "outrigger_refusals_total";
    envoy.expect_metric(refusals, &[("reason", "limit/shadow"), ("enforced", "false")], 4.0).await;
    envoy.expect_metric(refusals, &[("reason", "limit/real"), ("enforced", "true")], 3.0).await;
    envoy.expect_metric(refusals, &[], 7.0).await;
}
