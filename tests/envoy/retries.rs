//! Retries: they help where single attempts fail, stop by themselves where all fail, and never where they could do harm. The
//! service counts the attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::cluster::Cluster;
use crate::rig::crowd::{Crowd, count};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::scripted_upstream::{Attempt, Line, ScriptedUpstream};
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;
use crate::rig::wire::{Wire, request};

const MADE: &str = "made";

/// One rule for everything, with a budget that no scenario uses up unless it says so.
fn retrying(mut rule: Value) -> Value {
    if rule["budget"].is_null() {
        rule["budget"] = json!({ "ratio": 1, "min_per_second": 1000 });
    }
    json!({ "retries": [rule] })
}

async fn start(turn: &Turn, upstream: &ScriptedUpstream, policy: &Value) -> Envoy {
    turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(policy)))).await
}

fn numbered(number: usize) -> Vec<u8> {
    request("/", format!("x-number: {number}\r\n"))
}

/// Sends a request that a test knows by its number, with one more header.
async fn ask(client: &Client, method: Method, number: usize, (name, value): (&str, &str)) -> Answer {
    send(client.request(method, "/").header("x-number", number).header(name, value)).await
}

/// A header that says nothing.
const PLAIN: (&str, &str) = ("accept", "*/*");

/// The metric of one decision.
async fn expect_decisions(envoy: &Envoy, decision: &str, expected: usize) {
    envoy.expect_metric("outrigger_retries_total", &[("decision", decision)], expected as f64).await;
}

/// Whether one attempt in ten is this one: by chance, but the same in every run (Steele and others, SplitMix64).
fn is_one_in_ten(attempt: &Attempt) -> bool {
    let mut mixed = (attempt.number as u64) << 8 | attempt.nth as u64;
    mixed = mixed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31).is_multiple_of(10)
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_attempt_in_ten_fails_clients_see_less_than_one_failure_in_a_hundred() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| Line::now(if is_one_in_ten(attempt) { 503 } else { 200 })).await;
    let policy = retrying(json!({ "max_attempts": 3, "budget": { "ratio": 0.2 } }));
    let envoy = start(&turn, &upstream, &policy).await;
    let crowd = Crowd::at(&envoy, 20).await;

    let exchanges = crowd.steady(400, Duration::from_millis(2500), numbered).await;

    let attempts = upstream.attempts();
    let (sent, succeeded) = (exchanges.len(), count(&exchanges, 200));
    let retries = attempts.len() - sent;
    let failed = attempts.iter().filter(|attempt| is_one_in_ten(attempt)).count();
    println!("{succeeded} of {sent} succeeded with {retries} retries; {failed} attempts failed");
    assert!(sent >= 950, "no load: {sent} sent");
    assert!(succeeded * 100 >= sent * 99, "{succeeded} of {sent} succeeded with {retries} retries");
    assert!((7..=13).contains(&(failed * 100 / attempts.len())), "{failed} of {} failed", attempts.len());
    assert!(attempts.iter().all(|attempt| attempt.nth <= 3), "some request was attempted more than three times");
    assert!(!envoy.log().contains("no CEL"), "this Envoy can say in one word what it takes two calls to ask");
    expect_decisions(&envoy, MADE, retries).await;
    let outcome = |outcome| [("outcome", outcome)];
    envoy.expect_metric("outrigger_requests_total", &outcome("success"), succeeded as f64).await;
    envoy.expect_metric("outrigger_requests_total", &outcome("failure"), (sent - succeeded) as f64).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// What is spent in the outage was earned before it, but for one retry a second.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_the_budget_bounds_retries_and_after_it_all_requests_succeed_at_once() {
    const RATE: u32 = 500;
    const RATIO: f64 = 0.1;
    const PER_SECOND: f64 = 1.0;
    const BEFORE: Duration = Duration::from_secs(2);
    const OUTAGE: Duration = Duration::from_secs(10);
    let turn = Turn::alone().await;
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let upstream =
        ScriptedUpstream::start(move |_| Line::now(if is_down.load(Ordering::SeqCst) { 503 } else { 200 })).await;
    let budget = json!({ "ratio": RATIO, "min_per_second": PER_SECOND, "ttl": "10s" });
    let envoy = start(&turn, &upstream, &retrying(json!({ "max_attempts": 3, "budget": budget }))).await;
    let crowd = Crowd::at(&envoy, 40).await;

    let before = crowd.steady(RATE, BEFORE, numbered).await;
    assert_eq!(count(&before, 200), before.len());
    assert_eq!(upstream.attempts().len(), before.len(), "nothing to retry");
    down.store(true, Ordering::SeqCst);
    let outage = crowd.steady(RATE, OUTAGE, |number| numbered(1_000_000 + number)).await;
    let retries = upstream.attempts().len() - before.len() - outage.len();
    down.store(false, Ordering::SeqCst);
    let after = crowd.steady(RATE, Duration::from_secs(1), |number| numbered(2_000_000 + number)).await;

    assert_eq!(count(&outage, 503), outage.len(), "a total outage");
    assert!(outage.len() >= 4_800, "no load: {} sent", outage.len());
    // In the interval of the outage: no success, so time and cap pay, and the cap is what was deposited before.
    let cap = (RATIO * before.len() as f64 + PER_SECOND * 10.0).clamp(10.0, 500.0);
    let bound = PER_SECOND * OUTAGE.as_secs_f64() + cap;
    let per_request = |retries: f64| 1.0 + retries / outage.len() as f64;
    println!(
        "{} requests, {retries} retries ({:.4} attempts each), bound {bound:.0} ({:.4})",
        outage.len(),
        per_request(retries as f64),
        per_request(bound)
    );
    assert!(retries as f64 <= bound, "{retries} retries, {bound} at most");
    assert!(retries as f64 >= bound / 4.0, "{retries} retries are too few to show a bound of {bound}");
    assert_eq!(count(&after, 200), after.len(), "all succeed at once");
    assert_eq!(upstream.attempts().len(), before.len() + outage.len() + retries + after.len());
    expect_decisions(&envoy, MADE, retries).await;
    let refused = envoy.metric("outrigger_retries_total", &[("decision", "no_budget")]).await;
    assert!(refused >= outage.len() as f64 * 0.9, "{refused} of {} had no budget", outage.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_do_harm_twice_is_attempted_once_unless_it_has_its_key() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let policy = retrying(json!({ "max_attempts": 3, "idempotency_key": "idempotency-key" }));
    let envoy = start(&turn, &upstream, &policy).await;
    let client = envoy.client();
    let key = ("idempotency-key", "8e03978e");

    let cases = [
        (Method::POST, PLAIN, 1),
        (Method::POST, key, 3),
        (Method::POST, ("idempotency-key", " "), 1),
        (Method::PATCH, PLAIN, 1),
        (Method::PATCH, key, 3),
        (Method::GET, PLAIN, 3),
        (Method::PUT, PLAIN, 3),
        (Method::DELETE, PLAIN, 3),
    ];
    let mut retries = 0;
    for (number, (method, header, expected)) in (1..).zip(cases) {
        assert_eq!(ask(&client, method.clone(), number, header).await.status, 503);
        assert_eq!(upstream.count("/", number), expected, "{method} with {header:?}");
        retries += expected - 1;
    }
    expect_decisions(&envoy, "not_idempotent", 3).await;
    expect_decisions(&envoy, MADE, retries).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_retry_itself_is_attempted_once() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let envoy = start(&turn, &upstream, &retrying(json!({ "max_attempts": 3 }))).await;
    let client = envoy.client();

    let cases = [
        (("x-envoy-attempt-count", "1"), 3),
        (("x-envoy-attempt-count", "2"), 1),
        (("grpc-previous-rpc-attempts", "0"), 3),
        (("grpc-previous-rpc-attempts", "1"), 1),
    ];
    for (number, (header, expected)) in (1..).zip(cases) {
        assert_eq!(ask(&client, Method::GET, number, header).await.status, 503);
        assert_eq!(upstream.count("/", number), expected, "{header:?}");
    }
    expect_decisions(&envoy, "is_retry", 2).await;
    expect_decisions(&envoy, MADE, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_takes_too_long_is_given_up_for_the_next() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.nth {
        1 => Line::after(Duration::from_secs(1), 200),
        _ => Line::now(200),
    })
    .await;
    let policy = retrying(json!({ "max_attempts": 2, "per_try_timeout": "150ms", "idempotency_key": "key" }));
    let envoy = start(&turn, &upstream, &policy).await;
    let crowd = Crowd::at(&envoy, 4).await;

    let exchange = crowd.send(0, numbered(1)).await.expect("an answer");
    assert_eq!((exchange.reply.status, exchange.reply.body.as_slice()), (200, &b"attempt 2"[..]));
    let took = exchange.took;
    assert!((Duration::from_millis(150)..Duration::from_millis(800)).contains(&took), "took {took:?}");
    expect_decisions(&envoy, MADE, 1).await;

    // What is not retried has all the time there is.
    let answer = ask(&envoy.client(), Method::POST, 2, PLAIN).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "attempt 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hedged_attempt_goes_on_and_the_first_answer_wins() {
    let turn = Turn::alone().await;
    // The first is late and answers, the second would take longer still; of the request 2 the other way round.
    let upstream = ScriptedUpstream::start(|attempt| match (attempt.number, attempt.nth) {
        (1, 1) => Line::after(Duration::from_millis(500), 200),
        (2, 2) => Line::now(200),
        _ => Line::after(Duration::from_secs(3), 200),
    })
    .await;
    let policy = retrying(json!({ "max_attempts": 2, "per_try_timeout": "150ms", "hedge": true }));
    let envoy = start(&turn, &upstream, &policy).await;
    let crowd = Crowd::at(&envoy, 4).await;

    for (number, at_least, at_most, winner) in [(1, 500, 1200, "attempt 1"), (2, 150, 480, "attempt 2")] {
        let exchange = crowd.send(0, numbered(number)).await.expect("an answer");
        assert_eq!((exchange.reply.status, String::from_utf8_lossy(&exchange.reply.body).as_ref()), (200, winner));
        let range = Duration::from_millis(at_least)..Duration::from_millis(at_most);
        assert!(range.contains(&exchange.took), "took {:?}", exchange.took);
        assert_eq!(upstream.count("/", number), 2);
    }
    expect_decisions(&envoy, MADE, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_not_to_ask_again_is_not_asked_again() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = retrying(json!({ "max_attempts": 3 }));
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    for (path, header, expected) in [("/open", "x-other=true", 3), ("/final", "x-envoy-ratelimited=true", 1)] {
        let get = client.request(Method::GET, path).header("x-answer-status", 503).header("x-answer-header", header);
        assert_eq!(send(get).await.status, 503);
        assert_eq!(upstream.count(path), expected, "{header}");
    }
    expect_decisions(&envoy, MADE, 2).await;
}

/// The caller's Envoy would retry a 503 and a 504 of the service.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_next_proxy_refuses_is_not_asked_again() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let refusing = json!({
        "deadlines": [{ "methods": ["GET"], "header": "x-time-left" }],
        "switches": [{ "name": "off", "active": true, "methods": ["DELETE"] }],
    });
    let back = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&refusing)))).await;
    let policy = retrying(json!({ "max_attempts": 3 }));
    let listener = Listener::to(Cluster::http1(back.address())).filter(Filter::new(&policy));
    let front = turn.start(Bootstrap::new(listener)).await;
    let client = front.client();

    for (number, (method, status, reason)) in
        [(Method::GET, 504, "deadline"), (Method::DELETE, 503, "switch/off")].into_iter().enumerate()
    {
        let answer = ask(&client, method, number, ("x-time-left", "0")).await;
        assert_eq!((answer.status, answer.reason()), (status, Some(reason)));
        back.expect_metric("outrigger_refusals_total", &[("reason", reason)], 1.0).await;
    }
    expect_decisions(&front, MADE, 0).await;
    // It does retry what the service itself says.
    let put = client.request(Method::PUT, "/failing").header("x-answer-status", 503);
    assert_eq!(send(put).await.status, 503);
    assert_eq!(upstream.count("/failing"), 3);
}

/// A virtual host with one route, and how it says which attempt is which.
fn routed(cluster: &Cluster, route: Value) -> Value {
    let mut route = route;
    route["cluster"] = json!(cluster.name());
    let routes = json!([{ "match": { "prefix": "/" }, "route": route }]);
    let host = json!({ "name": "all", "domains": ["*"], "include_request_attempt_count": true, "routes": routes });
    json!({ "route_config": { "virtual_hosts": [host] } })
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_on_two_layers_add_up_and_do_not_multiply() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let policy = retrying(json!({ "max_attempts": 3 }));
    let back = start(&turn, &upstream, &policy).await;
    let to_back = Cluster::http1(back.address());
    let listener = Listener::to(to_back.clone()).connection_manager(routed(&to_back, json!({})));
    let front = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy)))).await;
    let client = front.client();

    for number in 1..=20 {
        assert_eq!(ask(&client, Method::GET, number, PLAIN).await.status, 503);
        // Three by the front; the first of them gets two more by the back, the others are retries.
        assert_eq!(upstream.count("/", number), 5, "with budgets that allow all");
    }
    expect_decisions(&front, MADE, 40).await;
    expect_decisions(&back, MADE, 40).await;
    expect_decisions(&back, "is_retry", 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_outage_behind_two_layers_each_spends_its_own_budget_at_most() {
    const REQUESTS: usize = 200;
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::always(503).await;
    let policy = retrying(json!({ "max_attempts": 3, "budget": {} }));
    let back = start(&turn, &upstream, &policy).await;
    let to_back = Cluster::http1(back.address());
    let listener = Listener::to(to_back.clone()).connection_manager(routed(&to_back, json!({})));
    let front = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy)))).await;
    let crowd = Crowd::at(&front, 20).await;

    let exchanges = crowd.steady(200, Duration::from_secs(1), numbered).await;

    assert!(REQUESTS * 9 / 10 <= exchanges.len());
    assert_eq!(count(&exchanges, 503), exchanges.len());
    let retries = upstream.attempts().len() - exchanges.len();
    println!("{} requests, {retries} retries by two layers", exchanges.len());
    // Of each: a cap of ten, and one a second.
    assert!((1..=2 * (10 + 2)).contains(&retries), "{retries} retries of {} requests", exchanges.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_own_retries_are_switched_off_narrowed_or_left_alone() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| {
        Line::now(attempt.header("x-answer").and_then(|status| status.parse().ok()).unwrap_or(503))
    })
    .await;
    let mut policy = retrying(json!({ "operations": ["ours"], "max_attempts": 2, "retry_on": ["gateway-error"] }));
    policy["operations"] = json!([{ "name": "ours", "match": { "headers": [{ "name": "x-rule", "present": true }] } }]);
    let route = json!({ "retry_policy": { "retry_on": "5xx,retriable-4xx", "num_retries": 3 } });
    let listener = Listener::to(upstream.cluster()).connection_manager(routed(&upstream.cluster(), route));
    let envoy = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    let answer = ("x-answer", "409");
    let cases = [
        (Method::GET, None, PLAIN, 4, "no rule matches: the route's own"),
        (Method::POST, None, PLAIN, 4, "no rule matches: the route's own"),
        (Method::GET, Some("x-rule"), PLAIN, 2, "the rule's number"),
        (Method::GET, Some("x-rule"), answer, 2, "the rule's number of what the route retries"),
        (Method::POST, Some("x-rule"), PLAIN, 1, "no rule allows it"),
        (Method::GET, Some("x-rule"), ("x-envoy-attempt-count", "2"), 1, "a retry"),
    ];

    for (number, (method, rule, (name, value), expected, why)) in (1..).zip(cases) {
        let mut request = client.request(method, "/").header("x-number", number).header(name, value);
        if let Some(rule) = rule {
            request = request.header(rule, "yes");
        }
        send(request).await;
        assert_eq!(upstream.count("/", number), expected, "case {number}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_tell_the_router_what_to_do_even_from_inside() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let inside = json!({ "internal_address_config":
        { "cidr_ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] }, "use_remote_address": true });
    let mut policy = retrying(json!({ "operations": ["ours"], "max_attempts": 2 }));
    policy["operations"] = json!([{ "name": "ours", "match": { "paths": ["/ours"] } }]);
    let listener = Listener::to(upstream.cluster()).connection_manager(inside).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let client = envoy.client();
    let controls = [
        ("x-envoy-max-retries", "4"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
        ("x-envoy-hedge-on-per-try-timeout", "true"),
    ];
    let send_to = async |path: &str, number: usize| {
        let request = client.request(Method::GET, path).header("x-number", number);
        send(controls[..2].iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };

    send_to("/theirs", 1).await;
    assert_eq!(upstream.count("/theirs", 1), 5, "the router believes who is inside: what follows shows something");
    send_to("/ours", 2).await;
    assert_eq!(upstream.count("/ours", 2), 2);
    for (number, (name, value)) in (3..).zip(controls) {
        let answer = send(client.request(Method::POST, "/ours").header("x-number", number).header(name, value)).await;
        assert_eq!((answer.status, upstream.count("/ours", number)), (503, 1), "{name}");
        let told: Vec<_> =
            upstream.last().headers.keys().filter(|name| name.as_str().contains("-retr")).cloned().collect();
        assert!(told.is_empty(), "the service hears of {told:?}");
    }
}

/// The router alone knows how often it tried, and must be asked when all is over.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_counted_right_however_a_request_ends() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.nth {
        1 if attempt.path == "/second-hangs" => Line::now(503),
        _ => Line::after(Duration::from_secs(20), 200),
    })
    .await;
    let reset = RawUpstream::hang_up("").await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let nobody = nobody.expect("a free port");
    let operations = ["reset", "nobody", "first-hangs", "second-hangs"];
    let mut policy = retrying(json!({ "max_attempts": 3, "retry_on": ["5xx", "reset", "connect-failure"] }));
    let operation = |name: &str| json!({ "name": name, "match": { "paths": [format!("/{name}")] } });
    policy["operations"] = json!(operations.map(operation));
    let listener =
        Listener::to(upstream.cluster()).route("/reset", reset.cluster()).route("/nobody", Cluster::http1(nobody));
    let envoy = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy)))).await;

    for path in ["/reset", "/nobody"] {
        assert_eq!(envoy.client().get(path).await.status, 503, "{path}");
    }
    assert_eq!(reset.received().matches("GET /reset").count(), 3);
    for (path, attempts) in [("/first-hangs", 1), ("/second-hangs", 2)] {
        let mut leaves = Wire::connect(envoy.address()).await;
        leaves.send(request(path, "")).await;
        eventually("the attempt is there", async || (upstream.count(path, 0) == attempts).then_some(())).await;
        drop(leaves);
        envoy
            .expect_metric("outrigger_requests_total", &[("operation", &path[1..]), ("outcome", "cancelled")], 1.0)
            .await;
    }
    for (operation, retries) in operations.into_iter().zip([2.0, 2.0, 0.0, 1.0]) {
        let labels = [("operation", operation), ("decision", MADE)];
        envoy.expect_metric("outrigger_retries_total", &labels, retries).await;
    }
    envoy.expect_metric("outrigger_retries_total", &[("decision", MADE)], 5.0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// A budget without income: half of ten tokens.
fn purse() -> Value {
    json!({ "ratio": 0, "min_per_second": 0.001 })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_comes_back_from_requests_that_never_got_to_the_router() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| Line::now(if attempt.path == "/well" { 200 } else { 503 })).await;
    let policy = retrying(json!({ "max_attempts": 2, "budget": purse() }));
    let routes = json!([
        { "match": { "prefix": "/direct" }, "direct_response": { "status": 200 } },
        { "match": { "prefix": "/away" }, "redirect": { "path_redirect": "/" } },
        { "match": { "safe_regex": { "regex": "/(well)?" } }, "route": { "cluster": upstream.cluster().name() } },
    ]);
    let host = json!({ "name": "all", "domains": ["*"], "routes": routes });
    let listener = Listener::to(upstream.cluster())
        .connection_manager(json!({ "route_config": { "virtual_hosts": [host] } }))
        .filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();

    for path in ["/direct", "/away", "/no-route"] {
        for _ in 0..10 {
            client.get(path).await;
        }
    }
    // What Envoy answers is no success of the service, of which it takes some for the account to spend its last half.
    for _ in 0..20 {
        assert_eq!(client.get("/well").await.status, 200);
    }
    let mut attempts = Vec::new();
    for number in 1..=7 {
        ask(&client, Method::GET, number, PLAIN).await;
        attempts.push(upstream.count("/", number));
    }
    assert_eq!(attempts, [2, 2, 2, 2, 2, 1, 1], "five tokens, none lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_comes_back_from_requests_that_are_refused_or_leave() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.path.as_str() {
        "/" => Line::now(503),
        _ => Line::after(Duration::from_secs(20), 200),
    })
    .await;
    let policy = retrying(json!({ "max_attempts": 3, "budget": purse() }));
    let mut queueing = policy.clone();
    queueing["operations"] = json!([{ "name": "queued", "match": { "paths": ["/queued"] } }]);
    queueing["limits"] = json!([{ "name": "queue", "operations": ["queued"],
        "leaky_bucket": { "capacity": 10, "drain": 1, "drain_interval": "10s" } }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&queueing));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;

    let mut wires = envoy.wires(4).await;
    for wire in &mut wires {
        wire.send(request("/queued", "")).await;
    }
    eventually("one is upstream", async || (upstream.count("/queued", 0) == 1).then_some(())).await;
    drop(wires);
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "cancelled")], 4.0).await;
    let client = envoy.client();
    let mut attempts = Vec::new();
    for number in 1..=4 {
        ask(&client, Method::GET, number, PLAIN).await;
        attempts.push(upstream.count("/", number));
    }
    assert_eq!(attempts, [3, 3, 2, 1], "five tokens, none lost");
}

/// A service that refuses when it has seen the head of a request, behind an Envoy that keeps 32 KiB and is slow to retry.
async fn early_refusal(turn: &Turn, policy: &Value, upstream_filters: &[Filter]) -> Envoy {
    let refusal = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nno go";
    let upstream = RawUpstream::hang_up(refusal).await;
    let slow = json!({ "base_interval": "10s", "max_interval": "10s" });
    let route = json!({ "route": { "retry_policy": { "retry_on": "5xx", "num_retries": 1, "retry_back_off": slow } } });
    let listener = Listener::to(upstream.cluster()).buffer(32 << 10).default_route(route).filter(Filter::new(policy));
    let listener = upstream_filters.iter().cloned().fold(listener, Listener::upstream_filter);
    turn.start(Bootstrap::new(listener)).await
}

/// The head of a request with a large body, up to the line about its length.
const LARGE: &str = "PUT / HTTP/1.1\r\nhost: test\r\n";

/// A client that sends a large body is told what the service said, not that Envoy cannot send it again.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_own_refusal_of_a_large_body_reaches_the_client() {
    let turn = Turn::shared().await;
    let (plain, hedged) = (json!({}), json!({ "per_try_timeout": "5s", "hedge": true }));
    let behind = [Filter::new(&json!({ "placement": "upstream" }))];
    for (rule, upstream_filters) in [(&plain, &[][..]), (&hedged, &[]), (&plain, &behind)] {
        let envoy = early_refusal(&turn, &retrying(rule.clone()), upstream_filters).await;
        for (length, expected) in [("content-length: 400000", 1), ("transfer-encoding: chunked", 2)] {
            let mut wire = Wire::connect(envoy.address()).await;
            wire.send(format!("{LARGE}{length}\r\n\r\n")).await;
            let reply = wire.reply().await;
            assert_eq!((reply.status, reply.body.as_slice()), (503, &b"no go"[..]), "{rule} {length}");
            expect_decisions(&envoy, "too_large", expected).await;
        }
    }
}

/// What the client would get otherwise, shown by a rule that promises more than Envoy keeps.
#[tokio::test(flavor = "multi_thread")]
async fn who_lets_more_be_retried_than_is_kept_gets_envoys_507() {
    let turn = Turn::shared().await;
    let envoy = early_refusal(&turn, &retrying(json!({ "max_body_bytes": 400_000 })), &[]).await;
    let mut wire = Wire::connect(envoy.address()).await;
    wire.send(format!("{LARGE}content-length: 400000\r\n\r\n")).await;
    eventually("the router waits to retry", async || {
        (envoy.stats().await.sum("envoy_cluster_retry_upstream_rq", &[]) == 1.0).then_some(())
    })
    .await;
    wire.send(vec![b'x'; 40_000]).await;
    assert_eq!(wire.reply().await.status, 507);
    let entry = envoy.access_log(1, |it| it.status == 507).await.pop().unwrap();
    assert_eq!(entry.details.as_deref(), Some("request_payload_exceeded_retry_buffer_limit"));
}

/// What the rule allows is kept and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_too_large_to_be_kept_is_sent_once() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(503).await;
    let mut policy = retrying(json!({ "operations": ["named"], "max_attempts": 3, "max_body_bytes": 200_000 }));
    policy["operations"] = json!([{ "name": "named", "match": { "paths": ["/named"] } }]);
    let default = json!({ "max_attempts": 3, "budget": { "ratio": 1, "min_per_second": 1000 } });
    policy["retries"].as_array_mut().unwrap().push(default);
    let envoy = start(&turn, &upstream, &policy).await;
    let client = envoy.client();

    let cases = [("/", 65_536, 3), ("/", 65_537, 1), ("/", 400_000, 1), ("/named", 200_000, 3), ("/named", 200_001, 1)];
    for (number, (path, size, expected)) in (1..).zip(cases) {
        let put = client.request(Method::PUT, path).header("x-number", number).body(vec![b'x'; size]);
        assert_eq!(send(put).await.status, 503);
        assert_eq!(upstream.count(path, number), expected, "{size} bytes to {path}");
    }
    let mut wire = Wire::connect(envoy.address()).await;
    for (path, expected) in [("/", 1), ("/named", 3)] {
        let head = format!("PUT {path} HTTP/1.1\r\nhost: test\r\nx-number: 9\r\ntransfer-encoding: chunked\r\n\r\n");
        wire.send(head).await;
        wire.send("3\r\nabc\r\n0\r\n\r\n").await;
        assert_eq!(wire.reply().await.status, 503);
        assert_eq!(upstream.count(path, 9), expected, "chunks to {path}");
    }
    expect_decisions(&envoy, MADE, 6).await;
    expect_decisions(&envoy, "too_large", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_methods_are_repeated_if_they_are_listed() {
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    for (methods, made, not_idempotent) in [(vec![CHECK], 2, 0), (vec![], 0, 1)] {
        let mut policy = retrying(json!({ "max_attempts": 3 }));
        if !methods.is_empty() {
            policy["retries"][0]["grpc_methods"] = json!(methods);
        }
        let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", envoy.address()));
        let channel = endpoint.expect("an address").connect().await.expect("Envoy accepts HTTP/2");

        let call = HealthCheckRequest { service: "unavailable".to_owned() };
        let failure = HealthClient::new(channel).check(call).await.expect_err("out of order");

        assert_eq!(failure.code(), Code::Unavailable);
        expect_decisions(&envoy, MADE, made).await;
        expect_decisions(&envoy, "not_idempotent", not_idempotent).await;
        envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 1.0).await;
    }
}
