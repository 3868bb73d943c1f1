//! What Prometheus sees: exact counts, the promised labels, and a text that its own linter accepts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::send;
use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{bucket, supply};
use crate::rig::tool;
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_once_by_what_became_of_it() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "version": "shop-2026-11-23",
        "operations": [{ "name": "place-order", "tier": "P0", "match": { "paths": ["/orders"] } }],
        "limits": [{ "name": "orders", "operations": ["place-order"], "token_bucket": supply(6) }],
    });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(2)).await;
    let client = envoy.client();
    for status in ["200", "201", "302", "404", "400", "503"] {
        client.get_with("/orders", "x-answer-status", status).await;
    }
    assert_eq!(client.admitted("/orders", 4).await, 0);
    client.get_with("/elsewhere", "x-answer-status", "500").await;
    let limited_further_in = client
        .request(Method::GET, "/elsewhere")
        .header("x-answer-status", "503")
        .header("x-answer-header", "x-envoy-ratelimited=true");
    assert_eq!(send(limited_further_in).await.status, 503);

    let requests = "outrigger_requests_total";
    let order = |outcome| [("operation", "place-order"), ("tier", "P0"), ("outcome", outcome)];
    for (outcome, count) in [("success", 3.0), ("client_error", 2.0), ("failure", 1.0), ("limited", 4.0)] {
        envoy.expect_metric(requests, &order(outcome), count).await;
    }
    let other = |outcome| [("operation", "other"), ("tier", "P1"), ("outcome", outcome)];
    envoy.expect_metric(requests, &other("failure"), 1.0).await;
    envoy.expect_metric(requests, &other("client_error"), 1.0).await;
    envoy.expect_metric(requests, &[], 12.0).await;
    envoy.expect_metric("outrigger_refusals_total", &[("reason", "limit/orders"), ("enforced", "true")], 4.0).await;
    envoy.expect_metric("outrigger_refusals_total", &[], 4.0).await;
    let duration = "outrigger_request_duration_milliseconds_count";
    envoy.expect_metric(duration, &[("operation", "place-order")], 6.0).await;
    envoy.expect_metric(duration, &[("operation", "other")], 2.0).await;
    envoy.expect_metric("outrigger_config_info", &[("version", "shop-2026-11-23")], 1.0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    envoy.expect_metric("outrigger_config_rejected_total", &[], 0.0).await;

    let stats = envoy.stats().await;
    assert_eq!(stats.labels(requests), ["operation", "outcome", "tier"]);
    assert_eq!(stats.labels("outrigger_refusals_total"), ["enforced", "reason"]);
    assert_eq!(stats.labels(duration), ["operation"]);
    assert_eq!(stats.labels("outrigger_config_info"), ["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_not_there_is_a_failure() {
    let turn = Turn::shared().await;
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let nobody: SocketAddr = nobody.expect("a free port");
    let listener = Listener::to(Cluster::http1(nobody)).filter(Filter::text("{}"));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    let answer = envoy.client().get("/").await;

    assert_eq!(answer.status, 503);
    assert_eq!(answer.reason(), None, "the filter did not answer this");
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 1.0).await;
    envoy.expect_metric("outrigger_requests_total", &[], 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_overflows_says_whether_it_forgot_anything() {
    let turn = Turn::shared().await;
    let limit = |name: &str, bucket| {
        json!({ "name": name, "operations": [name], "key": ["header:x-user-id"], "max_keys": 16,
                "token_bucket": bucket })
    };
    let policy = json!({
        "operations": [
            { "name": "forgetful", "match": { "paths": ["/forgetful"] } },
            { "name": "refilled", "match": { "paths": ["/refilled"] } },
        ],
        // What was taken from a bucket of the second limit is back within a millisecond.
        "limits": [limit("forgetful", supply(5)), limit("refilled", bucket(5, 1000, "1ms"))],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    for user in 0..200 {
        for path in ["/forgetful", "/refilled"] {
            assert_eq!(client.get_with(path, "x-user-id", &user.to_string()).await.status, 200);
        }
    }

    let evictions = "outrigger_table_evictions_total";
    let stats = envoy.stats().await;
    let count = |limit, kind| stats.sum(evictions, &[("limit", limit), ("kind", kind)]);
    assert!((184.0..200.0).contains(&count("forgetful", "lossy")), "16 of 200 fit:\n{}", stats.ours());
    assert_eq!(count("forgetful", "lossless"), 0.0);
    assert!((1.0..200.0).contains(&count("refilled", "lossless")), "{}", stats.ours());
    assert_eq!(count("refilled", "lossy"), 0.0);
    assert_eq!(stats.labels(evictions), ["kind", "limit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_client_gets_into_metrics_or_logs() {
    let turn = Turn::shared().await;
    let policy = json!({
        "limits": [{ "name": "per-user", "key": ["header:x-user-id", "cookie:session", "query:q"],
                     "cost": "header:x-cost", "token_bucket": supply(1) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().quiet().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    for status in [200, 429] {
        let request = client
            .request(Method::GET, "/canary/path?q=canary")
            .header("x-user-id", "canary")
            .header("x-cost", "canary")
            .header("cookie", "session=canary");
        let answer = send(request).await;
        assert_eq!(answer.status, status);
        assert!(!format!("{answer:?}{}", answer.text()).contains("canary"), "{answer:?}");
    }
    envoy.expect_metric("outrigger_requests_total", &[], 2.0).await;

    assert!(!envoy.admin("/stats").await.contains("canary"));
    assert!(!envoy.log().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_our_metrics() {
    let turn = Turn::shared().await;
    let envoy = busy(&turn).await;
    let families = our_families(&envoy.admin("/stats/prometheus").await);
    for expected in [
        "outrigger_requests_total",
        "outrigger_request_duration_milliseconds",
        "outrigger_refusals_total",
        "outrigger_fallbacks_total",
        "outrigger_config_info",
        "outrigger_table_evictions_total",
    ] {
        assert!(families.contains_key(expected), "{expected} is missing in {:?}", families.keys());
    }

    let findings = lint(&families);

    // Wasm histograms hold whole numbers only, for which seconds are too coarse.
    let known = r#"outrigger_request_duration_milliseconds use base unit "seconds" instead of "milliseconds""#;
    let others: Vec<&String> = findings.iter().filter(|finding| *finding != known).collect();
    assert!(others.is_empty(), "promtool finds fault: {others:#?}\nwith: {families:#?}");
}

/// All that promtool has to say about these families, line by line.
fn lint(families: &BTreeMap<String, String>) -> Vec<String> {
    // A Wasm filter cannot give its metrics a help text, and the linter finds fault with its absence. Nothing else is
    // added to what Envoy says.
    let with_help = |(name, lines)| format!("# HELP {name} Wasm metrics have no help.\n{lines}");
    let text: String = families.iter().map(with_help).collect();
    let mut promtool = Command::new(tool::promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be started");
    // Dropped at the end of the statement, which ends promtool's input.
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let verdict = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[verdict.stdout, verdict.stderr].concat()).into_owned();
    assert_eq!(verdict.status.success(), said.is_empty(), "promtool explains itself: {said}");
    said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An Envoy that has had a reason for every metric.
async fn busy(turn: &Turn) -> Envoy {
    let policy = json!({
        "version": "v1",
        "scope": "shop",
        "limits": [
            { "name": "all", "fallback": "sorry", "token_bucket": supply(50) },
            { "name": "keyed", "enforced": false, "key": ["header:x-user-id"], "max_keys": 8,
              "token_bucket": supply(1) },
        ],
        "fallbacks": [{ "name": "sorry", "status": 503, "text": "sorry" }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    for user in 0..60 {
        client.get_with("/", "x-user-id", &user.to_string()).await;
    }
    // Histograms show after a flush.
    envoy.expect_metric("outrigger_request_duration_milliseconds_count", &[], 50.0).await;
    envoy
}

/// The exposition of our metrics by family, each with its type line.
fn our_families(text: &str) -> BTreeMap<String, String> {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            declared.split(' ').next().unwrap_or_default().clone_into(&mut family);
        }
        if line.contains("outrigger") && family.starts_with("outrigger_") {
            *families.entry(family.clone()).or_default() += &format!("{line}\n");
        }
    }
    families
}

/// Prometheus sees an increase only of what it has seen at 0.
#[tokio::test(flavor = "multi_thread")]
async fn what_alerts_are_about_is_there_before_the_first_event() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "operations": [{ "name": "guarded", "match": { "paths": ["/guarded"] } }],
        "limits": [
            { "name": "all", "token_bucket": supply(3) },
            { "name": "tried", "enforced": false, "key": ["header:x-user-id"], "token_bucket": supply(1) },
        ],
        "breakers": [{ "name": "guarded", "operations": ["guarded"], "trip": { "consecutive_failures": 1 },
                       "open_for": "5m", "max_open_for": "5m" }],
        "on_failure": [{ "operations": ["guarded"], "stale": { "max_age": "10m" }, "fallback": "sorry" }],
        "fallbacks": [{ "name": "sorry", "status": 503, "text": "sorry" }],
    });
    let listener = |policy| Listener::to(upstream.cluster()).filter(Filter::new(policy));
    let envoy = turn.start(Bootstrap::new(listener(&policy)).by_discovery()).await;
    let trip = [("breaker", "guarded"), ("to", "open"), ("cause", "consecutive_failures")];
    let foretold: [(&str, &[(&str, &str)]); 9] = [
        ("outrigger_config_rejected_total", &[]),
        ("outrigger_host_errors_total", &[("call", "shared_set")]),
        ("outrigger_refusals_total", &[("reason", "limit/all"), ("enforced", "true")]),
        ("outrigger_refusals_total", &[("reason", "limit/tried"), ("enforced", "false")]),
        ("outrigger_refusals_total", &[("reason", "breaker/guarded"), ("enforced", "true")]),
        ("outrigger_table_evictions_total", &[("limit", "tried"), ("kind", "lossy")]),
        ("outrigger_fallbacks_total", &[("fallback", "stale"), ("reason", "failure/guarded")]),
        ("outrigger_fallbacks_total", &[("fallback", "sorry"), ("reason", "failure/guarded")]),
        ("outrigger_breaker_transitions_total", &trip),
    ];
    let there = eventually("all counters are there without a request", async || {
        let stats = envoy.stats().await;
        foretold.iter().all(|(name, labels)| stats.has(name, labels)).then_some(stats)
    })
    .await;
    for (name, labels) in foretold {
        assert_eq!(there.sum(name, labels), 0.0, "{name}{labels:?}");
    }

    let client = envoy.client();
    client.get_with("/guarded", "x-answer-status", "500").await;
    client.get("/guarded").await;
    assert_eq!(client.admitted("/", 6).await, 2);
    let mut bad = policy.clone();
    bad["breakers"][0]["open_for"] = json!("0s");
    envoy.publish(&[listener(&bad)]);
    envoy.reaches("envoy_listener_manager_lds_update_rejected", 1.0).await;

    envoy.expect_metric("outrigger_breaker_transitions_total", &trip, 1.0).await;
    envoy.expect_metric("outrigger_refusals_total", foretold[2].1, 4.0).await;
    envoy.expect_metric("outrigger_refusals_total", foretold[4].1, 1.0).await;
    envoy.expect_metric("outrigger_fallbacks_total", foretold[7].1, 1.0).await;
    envoy.expect_metric("outrigger_config_rejected_total", &[], 1.0).await;
}
