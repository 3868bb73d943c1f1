//! Retries that are paid for one by one, by a second instance of the filter that sees each attempt.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::cluster::Cluster;
use crate::rig::crowd::{Crowd, Exchange, count};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::scripted_upstream::{Line, ScriptedUpstream};
use crate::rig::turn::Turn;
use crate::rig::wire::request;

const MADE: &str = "made";
const NO_BUDGET: &str = "no_budget";

/// One rule for everything. Its budget is five retries at first and one a second, whatever succeeds.
fn retrying(mut rule: Value) -> Value {
    rule["max_attempts"] = json!(3);
    rule["budget"] = json!({ "ratio": 0, "min_per_second": 1, "ttl": "10s" });
    json!({ "retries": [rule] })
}

/// The filter as one of an upstream's.
fn upstream_filter() -> Filter {
    Filter::new(&json!({ "placement": "upstream" }))
}

/// With the filter in both places.
fn both(cluster: Cluster, policy: &Value) -> Listener {
    Listener::to(cluster).filter(Filter::new(policy)).upstream_filter(upstream_filter())
}

/// One worker, so that it is known what it has of the budget, and which has learned that its attempts are seen.
async fn start(turn: &Turn, listener: Listener) -> Envoy {
    turn.start(Bootstrap::new(listener).concurrency(1)).await
}

fn numbered(number: usize) -> Vec<u8> {
    request("/", format!("x-number: {number}\r\n"))
}

async fn decisions(envoy: &Envoy, decision: &str) -> f64 {
    envoy.metric("outrigger_retries_total", &[("decision", decision)]).await
}

fn is_marked(exchange: &Exchange) -> bool {
    exchange.reply.header("x-envoy-ratelimited").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_each_attempt_is_paid_for_and_clients_get_the_services_own_answer() {
    const RATE: u32 = 500;
    let turn = Turn::alone().await;
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let upstream =
        ScriptedUpstream::start(move |_| Line::now(if is_down.load(Ordering::SeqCst) { 503 } else { 200 })).await;
    let budget = json!({ "ratio": 0.1, "min_per_second": 1, "ttl": "10s" });
    let policy = json!({ "retries": [{ "max_attempts": 3, "budget": budget }] });
    let envoy = turn.start(Bootstrap::new(both(upstream.cluster(), &policy))).await;
    let crowd = Crowd::at(&envoy, 40).await;

    let before = crowd.steady(RATE, Duration::from_secs(2), numbered).await;
    assert_eq!(count(&before, 200), before.len());
    down.store(true, Ordering::SeqCst);
    let outage = crowd.steady(RATE, Duration::from_secs(10), |number| numbered(1_000_000 + number)).await;
    let retries = upstream.attempts().len() - before.len() - outage.len();
    down.store(false, Ordering::SeqCst);
    let after = crowd.steady(RATE, Duration::from_secs(1), |number| numbered(2_000_000 + number)).await;

    let bound = 10.0 + (0.1 * before.len() as f64 + 10.0).clamp(10.0, 500.0);
    let per_request = (outage.len() + retries) as f64 / outage.len() as f64;
    println!("{} requests, {retries} retries ({per_request:.4} attempts each), bound {bound:.0}", outage.len());
    assert!(outage.len() >= 4_800, "no load: {} sent", outage.len());
    assert!(per_request <= 1.1, "{per_request} attempts each");
    assert!(retries as f64 <= bound, "{retries} retries, {bound} at most");
    assert!(retries as f64 >= bound / 4.0, "{retries} retries are too few to show a bound of {bound}");
    for exchange in &outage {
        let body = String::from_utf8_lossy(&exchange.reply.body);
        assert!(exchange.reply.status == 503 && body.starts_with("attempt "), "not the service's: {exchange:?}");
        assert!(!is_marked(exchange), "the mark is ours: {exchange:?}");
    }
    assert_eq!(count(&after, 200), after.len(), "all succeed at once");
    envoy.expect_metric("outrigger_retries_total", &[("decision", MADE)], retries as f64).await;
    assert!(decisions(&envoy, NO_BUDGET).await >= outage.len() as f64 * 0.9);
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], outage.len() as f64).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// Forty requests are under way, of which four need a retry. In advance, five tokens pay for the first five requests.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_and_does_not_fail_takes_nothing_from_what_does() {
    const TOGETHER: usize = 40;
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| match (attempt.number % 10, attempt.nth) {
        (9, 1) => Line::after(Duration::from_millis(300), 503),
        _ => Line::after(Duration::from_millis(300), 200),
    })
    .await;
    let requests = || (0..TOGETHER).map(numbered);
    let succeeded = async |listener: Listener| {
        let envoy = start(&turn, listener).await;
        let crowd = Crowd::at(&envoy, TOGETHER).await;
        // From this one on it is known that attempts are seen.
        assert_eq!(crowd.send(0, request("/first", "")).await.expect("an answer").reply.status, 200);
        let exchanges = crowd.burst(requests()).await;
        (count(&exchanges, 200), decisions(&envoy, NO_BUDGET).await)
    };
    let policy = retrying(json!({}));

    assert_eq!(succeeded(both(upstream.cluster(), &policy)).await, (TOGETHER, 0.0));

    let upstream = ScriptedUpstream::start(|attempt| match (attempt.number % 10, attempt.nth) {
        (9, 1) => Line::after(Duration::from_millis(300), 503),
        _ => Line::after(Duration::from_millis(300), 200),
    })
    .await;
    let (succeeded, refused) = succeeded(Listener::to(upstream.cluster()).filter(Filter::new(&policy))).await;
    assert!(succeeded < TOGETHER && 0.0 < refused, "{succeeded} succeeded in advance too, {refused} had no budget");
}

/// Five at first, and at most one a second while the burst lasts; the first is one of two that are paid for in advance.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_without_an_answer_are_paid_for_too() {
    const REQUESTS: usize = 40;
    let turn = Turn::alone().await;
    let closing = RawUpstream::hang_up("").await;
    let slow = ScriptedUpstream::start(|_| Line::after(Duration::from_secs(3), 200)).await;
    let nobody = Cluster::http1(SocketAddr::from(([127, 0, 0, 1], 9)));
    let cases = [
        ("resets", closing.cluster(), json!({})),
        ("timeouts", slow.cluster(), json!({ "per_try_timeout": "100ms" })),
        ("no connections", nobody, json!({})),
    ];
    for (what, cluster, rule) in cases {
        let stats = format!("cluster.{}.upstream_rq_retry", cluster.name());
        let good = ScriptedUpstream::always(200).await;
        let listener = both(cluster, &retrying(rule)).route("/good", good.cluster());
        let envoy = start(&turn, listener).await;
        let crowd = Crowd::at(&envoy, REQUESTS).await;
        assert_eq!(crowd.send(0, request("/good", "")).await.expect("an answer").reply.status, 200);

        let exchanges = crowd.burst((0..REQUESTS).map(numbered)).await;

        let line = envoy.admin(&format!("/stats?filter={stats}$")).await;
        let retried: f64 = line.trim().rsplit(' ').next().expect("a number").parse().expect("a number");
        let made = decisions(&envoy, MADE).await;
        println!("{what}: {made} retries, {retried} tried by the router");
        assert!((4.0..=8.0).contains(&made), "{what}: {made} retries");
        assert_eq!(exchanges.iter().filter(|it| 500 <= it.reply.status).count(), REQUESTS, "{what}");
        let refused = decisions(&envoy, NO_BUDGET).await;
        assert!(
            refused >= REQUESTS as f64 - (made / 2.0).floor(),
            "{what}: {refused} had no budget after {made} retries"
        );
        let entries = envoy.access_log(1, |it| it.details.as_deref() == Some("outrigger_no_budget")).await;
        assert!(entries.iter().all(|entry| entry.status == 503 && entry.reason.is_none()), "{what}: {entries:?}");
        envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], REQUESTS as f64).await;
    }
}

/// Of an upstream without the filter nobody sees the attempts: what is learned at the other one must not count there. What is
/// under way when that shows is owed.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_the_filter_is_bounded_all_the_same() {
    const TOGETHER: usize = 50;
    let turn = Turn::alone().await;
    let seen = ScriptedUpstream::always(200).await;
    let unseen = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(100), 503)).await;
    let policy = retrying(json!({}));
    let listener = Listener::to(unseen.cluster()).filter(Filter::new(&policy));
    let listener = listener.route("/seen", seen.cluster().filter(upstream_filter()));
    let envoy = start(&turn, listener).await;
    let crowd = Crowd::at(&envoy, TOGETHER).await;
    let ask_seen = async || crowd.send(0, request("/seen", "")).await.expect("an answer").reply.status;
    assert_eq!(ask_seen().await, 200);

    // Two retries each, of which nobody paid any.
    let _ = crowd.burst((0..TOGETHER).map(numbered)).await;
    let retries = unseen.attempts().len() - TOGETHER;
    assert_eq!(retries, 2 * TOGETHER, "all were under way before anything showed");
    // From then on there is a debt, however often it is seen elsewhere.
    for round in 1..=3 {
        assert_eq!(ask_seen().await, 200);
        let _ = crowd.burst((0..TOGETHER).map(|number| numbered(round * 1000 + number))).await;
    }
    assert_eq!(unseen.attempts().len() - 4 * TOGETHER, retries, "not one more");
}

/// Envoy counts an attempt for what it sends to nobody. That must not be taken for an upstream without the filter.
#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_refuses_itself_changes_nothing() {
    const TOGETHER: usize = 20;
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(200), 200)).await;
    let narrow = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(200), 200)).await;
    let listener = both(upstream.cluster(), &retrying(json!({})));
    let listener = listener.route("/narrow", narrow.cluster().at_most(1)).route("/empty", Cluster::empty());
    let envoy = start(&turn, listener).await;
    let crowd = Crowd::at(&envoy, TOGETHER).await;
    assert_eq!(crowd.send(0, numbered(0)).await.expect("an answer").reply.status, 200);

    let refused = crowd.burst((0..4).map(|_| request("/narrow", ""))).await;
    assert!(0 < count(&refused, 503), "no overflow");
    assert_eq!(crowd.send(0, request("/empty", "")).await.expect("an answer").reply.status, 503);

    let exchanges = crowd.burst((0..TOGETHER).map(numbered)).await;
    assert_eq!(count(&exchanges, 200), TOGETHER);
    // In advance there would be tokens for two of them.
    assert_eq!(decisions(&envoy, NO_BUDGET).await, 0.0, "paid for in advance again");
}

/// The attempt beside a slow one is refused, which would end the request that the slow one is about to answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_routes_own_hedging_is_off_where_attempts_are_paid_for_one_by_one() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.path.as_str() {
        "/slow" => Line::after(Duration::from_millis(1000), 200),
        _ => Line::now(200),
    })
    .await;
    let hedging = json!({ "route": { "hedge_policy": { "hedge_on_per_try_timeout": true },
                                     "retry_policy": { "per_try_timeout": "0.2s" } } });
    let listener = both(upstream.cluster(), &retrying(json!({}))).default_route(hedging);
    let envoy = start(&turn, listener).await;
    let crowd = Crowd::at(&envoy, 1).await;
    assert_eq!(crowd.send(0, numbered(0)).await.expect("an answer").reply.status, 200);

    let exchange = crowd.send(1, request("/slow", "")).await.expect("an answer");

    let attempts = upstream.count("/slow", 0);
    assert_eq!((exchange.reply.status, attempts), (504, 3), "each is given up before the next begins: {exchange:?}");
}

/// The filter's two instances must be in one virtual machine.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_alone_says_so_and_harms_nobody() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(200).await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&retrying(json!({}))));
    let envoy = start(&turn, listener.upstream_filter(upstream_filter().vm_id("another"))).await;
    let crowd = Crowd::at(&envoy, 1).await;

    assert_eq!(crowd.send(0, numbered(1)).await.expect("an answer").reply.status, 200);

    envoy.expect_metric("outrigger_host_errors_total", &[("call", "placement")], 1.0).await;
    let said = "this virtual machine has no filter downstream";
    eventually("a line in the log", async || envoy.log().contains(said).then_some(())).await;
}
