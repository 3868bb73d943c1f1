//! Deadlines: what a caller will wait is passed on from hop to hop, less what was used, and work that cannot end in time is not
//! begun.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::cluster::Cluster;
use crate::rig::crowd::Crowd;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::scripted_upstream::{Line, ScriptedUpstream};
use crate::rig::turn::Turn;
use crate::rig::wire::{Wire, request};

/// The header that rules name here.
const TIMEOUT: &str = "x-request-timeout-ms";
const ENVOYS: &str = "x-envoy-expected-rq-timeout-ms";
const GRPC: &str = "grpc-timeout";

/// One rule for everything.
fn within(rule: &Value) -> Value {
    json!({ "deadlines": [rule] })
}

fn named() -> Value {
    within(&json!({ "header": TIMEOUT }))
}

async fn start(turn: &Turn, upstream: &ScriptedUpstream, policy: &Value) -> Envoy {
    turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(policy)))).await
}

async fn ask(client: &Client, path: &str, headers: &[(&str, &str)]) -> (Answer, Duration) {
    let request = client.request(Method::GET, path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let sent = Instant::now();
    (send(request).await, sent.elapsed())
}

/// Envoy believes callers from here; otherwise it takes away what they say about time.
fn trusting() -> Value {
    let here = json!([{ "address_prefix": "127.0.0.0", "prefix_len": 8 }]);
    json!({ "use_remote_address": true, "internal_address_config": { "cidr_ranges": here } })
}

/// What the service reads as the time that is left, in milliseconds.
fn told(upstream: &ScriptedUpstream, name: &str) -> u64 {
    let last = upstream.last();
    let value = last.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", last.headers));
    value.trim_end_matches('m').parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// The first proxy lets a request on every 220 ms, so that the second of two waits for 200 ms or more.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_of_two_proxies_gets_what_the_first_left() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::always(200).await;
    let policy = named();
    let back = Listener::to(upstream.cluster()).connection_manager(trusting()).filter(Filter::new(&policy));
    let back = turn.start(Bootstrap::new(back)).await;
    let mut queueing = policy;
    queueing["limits"] =
        json!([{ "name": "queue", "leaky_bucket": { "capacity": 5, "drain": 5, "drain_interval": "1100ms" } }]);
    let front = Listener::to(Cluster::http1(back.address())).connection_manager(trusting());
    let front = turn.start(Bootstrap::new(front.filter(Filter::new(&queueing)))).await;
    let client = front.client();

    // None of them waits.
    for (name, value) in [(TIMEOUT, "300"), (ENVOYS, "300"), (GRPC, "300m")] {
        let (answer, _) = ask(&client, "/", &[(name, value)]).await;
        assert_eq!(answer.status, 200);
        let left = told(&upstream, name);
        assert!((200..=300).contains(&left), "{name}: {left} ms are left of 300 when nobody waits");
        tokio::time::sleep(Duration::from_millis(240)).await;
    }
    for (name, value) in [(TIMEOUT, "300"), (ENVOYS, "300"), (GRPC, "300m")] {
        client.get("/").await;
        let (answer, took) = ask(&client, "/", &[(name, value)]).await;
        assert_eq!(answer.status, 200);
        assert!(Duration::from_millis(200) <= took, "it waited for {took:?} only");
        let left = told(&upstream, name);
        println!("{name}: {left} ms are left of 300");
        assert!((1..=100).contains(&left), "{name}: {left} ms are left of 300 after 200");
        tokio::time::sleep(Duration::from_millis(240)).await;
    }
}

/// Callers' proxies tell how much time there is, but to Envoy whoever is not known to be inside is outside.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_outsider_says_in_envoys_header_is_not_heard() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(200).await;
    let envoy = start(&turn, &upstream, &within(&json!({ "header": TIMEOUT, "default": "5s" }))).await;

    let (answer, _) = ask(&envoy.client(), "/", &[(ENVOYS, "0")]).await;

    assert_eq!(answer.status, 200);
    assert!((4900..=5000).contains(&told(&upstream, TIMEOUT)));
    assert!((4900..=5000).contains(&told(&upstream, ENVOYS)), "the router tells what it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_is_the_most_there_is() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(200).await;
    let envoy = start(&turn, &upstream, &within(&json!({ "header": TIMEOUT, "default": "3s" }))).await;
    let client = envoy.client();

    for (given, most) in [(None, 3000), (Some("60000"), 3000), (Some("1000"), 1000), (Some("soon"), 3000)] {
        let headers: Vec<(&str, &str)> = given.map(|given| (TIMEOUT, given)).into_iter().collect();
        assert_eq!(ask(&client, "/", &headers).await.0.status, 200);
        let left = told(&upstream, TIMEOUT);
        assert!((most - 100..=most).contains(&left), "{given:?}: {left} ms are left");
    }
}

/// Sends so many requests that both workers know what is usual.
async fn learn(envoy: &Envoy) -> Crowd {
    let crowd = Crowd::at(envoy, 80).await;
    crowd.burst((0..80).map(|_| request("/", ""))).await;
    crowd
}

/// Two workers, each of which learns for itself what is usual, and lets one request a second through to see whether it still is.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_end_in_time_is_refused_at_once_and_does_not_reach_the_service() {
    const USUAL: Duration = Duration::from_millis(60);
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|_| Line::after(USUAL, 200)).await;
    let envoy = start(&turn, &upstream, &named()).await;
    let crowd = learn(&envoy).await;
    let learned = upstream.attempts().len();

    let started = Instant::now();
    let mut refused = Vec::new();
    for number in 0..80 {
        let impossible = request("/", format!("{TIMEOUT}: 30\r\n"));
        let exchange = crowd.send(number, impossible).await.expect("an answer");
        assert_eq!(exchange.reply.status, 504, "{}", exchange.reply.head);
        if exchange.reply.header("x-outrigger-reason") == Some("deadline") {
            assert_eq!(exchange.reply.header("x-envoy-ratelimited"), Some("true"), "callers must not retry it");
            refused.push(exchange.took);
        }
    }
    let trials = upstream.attempts().len() - learned;
    refused.sort_unstable();
    let (median, slowest) = (refused[refused.len() / 2], refused[refused.len() - 1]);
    println!("{} refused, {trials} trials; median {median:?}, slowest {slowest:?}", refused.len());

    let seconds = 1 + started.elapsed().as_secs() as usize;
    assert!((1..=2 * seconds).contains(&trials), "{trials} trials in {seconds} s");
    assert_eq!(refused.len() + trials, 80, "whatever was not tried was refused");
    assert!(refused[refused.len() * 9 / 10] < Duration::from_millis(5), "refused in {refused:?}");
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "expired")], refused.len() as f64).await;
    envoy.expect_metric("outrigger_refusals_total", &[("reason", "deadline")], refused.len() as f64).await;
    let logged = envoy.access_log(refused.len(), |entry| entry.reason.as_deref() == Some("deadline")).await;
    assert_eq!(logged[0].details.as_deref(), Some("outrigger_deadline"));
    // What is possible passes.
    let possible = crowd.send(0, request("/", format!("{TIMEOUT}: 1000\r\n"))).await.expect("an answer");
    assert_eq!(possible.reply.status, 200);
}

/// Once a second a request with too little time is let through, to see whether that is still so. One that a limit refuses shows
/// nothing: the next one is let through.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_a_limit_refuses_is_left_to_the_next_request() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.path.as_str() {
        "/held" => Line::after(Duration::from_secs(2), 200),
        _ => Line::after(Duration::from_millis(50), 200),
    })
    .await;
    let mut policy = named();
    policy["limits"] = json!([{ "name": "one", "concurrency": { "max_in_flight": 1 } }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }

    let holder = envoy.client();
    let held = tokio::spawn(async move { holder.get("/held").await.status });
    eventually("the only place is taken", async || (upstream.count("/held", 0) == 1).then_some(())).await;
    for _ in 0..3 {
        let (refusal, _) = ask(&client, "/", &[(TIMEOUT, "10")]).await;
        assert_eq!(refusal.reason(), Some("limit/one"), "not for want of time");
    }
    assert_eq!(held.await.unwrap(), 200);
    let before = upstream.count("/", 0);
    let (trial, _) = ask(&client, "/", &[(TIMEOUT, "30")]).await;
    assert_eq!(trial.reason(), None);
    eventually("the trial reaches the service", async || (upstream.count("/", 0) == before + 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_time_is_refused_whatever_is_usual() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::always(200).await;
    let envoy = start(&turn, &upstream, &named()).await;

    for (name, value) in [(TIMEOUT, "0"), (GRPC, "999u")] {
        let (answer, _) = ask(&envoy.client(), "/", &[(name, value)]).await;
        assert_eq!((answer.status, answer.reason()), (504, Some("deadline")), "{name}: {value}");
    }
    assert_eq!(upstream.attempts().len(), 0);
    let grpc = GrpcUpstream::start().await;
    let listener = Listener::to(grpc.cluster()).filter(Filter::new(&named()));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", envoy.address()));
    let channel = endpoint.expect("an address").connect().await.expect("Envoy accepts HTTP/2");
    let mut call = Request::new(HealthCheckRequest { service: String::new() });
    call.metadata_mut().insert(TIMEOUT, MetadataValue::from_static("0"));

    let refusal = HealthClient::new(channel).check(call).await.expect_err("no time");

    assert_eq!(refusal.code(), Code::DeadlineExceeded, "{refusal:?}");
    let reason = refusal.metadata().get("x-outrigger-reason").map(|reason| reason.to_str().expect("text"));
    assert_eq!(reason, Some("deadline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_for_the_service_than_there_is_time() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.path.as_str() {
        "/failing" => Line::after(Duration::from_millis(80), 503),
        _ => Line::after(Duration::from_secs(3), 200),
    })
    .await;
    let mut policy = named();
    policy["operations"] = json!([{ "name": "retried", "match": { "paths": ["/retried", "/failing"] } }]);
    policy["retries"] = json!([{ "operations": ["retried"], "max_attempts": 5, "timeout": "1s",
        "per_try_timeout": "500ms", "budget": { "ratio": 1, "min_per_second": 1000 } }]);
    let envoy = start(&turn, &upstream, &policy).await;
    let client = envoy.client();

    for path in ["/", "/retried", "/failing"] {
        let (answer, took) = ask(&client, path, &[(TIMEOUT, "200")]).await;
        assert_eq!((answer.status, answer.reason()), (504, None), "{path}");
        let range = Duration::from_millis(190)..Duration::from_millis(500);
        assert!(range.contains(&took), "{path}: answered after {took:?} where there were 200 ms");
    }
    let attempts = upstream.count("/failing", 0);
    assert!((2..=3).contains(&attempts), "{attempts} attempts of 80 ms in 200 ms");
    assert_eq!(upstream.count("/retried", 0), 1, "its time was up with the first attempt's");
    let (answer, took) = ask(&client, "/retried", &[]).await;
    assert_eq!(answer.status, 504);
    assert!(Duration::from_millis(950) < took, "the rule's own time is a second, not {took:?}");
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_time_passes_in_a_queue_is_not_sent_on() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::always(200).await;
    let mut policy = named();
    policy["limits"] =
        json!([{ "name": "queue", "leaky_bucket": { "capacity": 5, "drain": 5, "drain_interval": "1s" } }]);
    let envoy = start(&turn, &upstream, &policy).await;
    let crowd = Crowd::at(&envoy, 8).await;
    let limited = |milliseconds: u64| request("/", format!("{TIMEOUT}: {milliseconds}\r\n"));

    // One passes, and the next would wait for 200 ms.
    assert_eq!(crowd.send(0, request("/", "")).await.expect("an answer").reply.status, 200);
    let too_short = crowd.send(1, limited(50)).await.expect("an answer");
    assert_eq!(too_short.reply.header("x-outrigger-reason"), Some("limit/queue"), "the queue is too long for it");
    assert!(too_short.took < Duration::from_millis(50), "it was told at once, not after {:?}", too_short.took);
    tokio::time::sleep(Duration::from_millis(250)).await;

    // Envoy's timers are late by a millisecond or more, so that who has hardly more time than it takes has none in the end.
    let mut refused = 0;
    for number in 2..6 {
        crowd.send(number, request("/", "")).await.expect("an answer");
        let before = upstream.attempts().len();
        let exchange = crowd.send(number, limited(200)).await.expect("an answer");
        let reason = exchange.reply.header("x-outrigger-reason").unwrap_or_default();
        let arrived = upstream.attempts().len() - before;
        match (exchange.reply.status, reason) {
            (504, "deadline") => {
                assert_eq!(arrived, 0, "refused, but sent on");
                assert!(Duration::from_millis(180) <= exchange.took, "refused after {:?}", exchange.took);
                refused += 1;
            }
            // Envoy itself may have ended it before the service heard of it.
            (200 | 504, "") => assert!(arrived == 0 || told(&upstream, TIMEOUT) <= 15, "sent on with what it has not"),
            (status, reason) => panic!("{status} {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(210)).await;
    }
    println!("{refused} of 4 were refused when their turn came");
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "expired")], f64::from(refused)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_events_has_no_deadline() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(400), 200)).await;
    let envoy = start(&turn, &upstream, &within(&json!({ "header": TIMEOUT, "default": "100ms" }))).await;
    let client = envoy.client();

    assert_eq!(ask(&client, "/", &[("accept", "text/event-stream")]).await.0.status, 200);
    assert_eq!(ask(&client, "/", &[("accept", "text/html")]).await.0.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_becomes_a_web_socket_has_no_deadline() {
    const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";
    let turn = Turn::shared().await;
    let chat = RawUpstream::upgrade().await;
    let mut policy = within(&json!({ "header": TIMEOUT, "default": "100ms" }));
    policy["retries"] = json!([{ "timeout": "100ms", "max_attempts": 2 }]);
    let listener = Listener::to(chat.cluster())
        .connection_manager(json!({ "upgrade_configs": [{ "upgrade_type": "websocket" }] }))
        .filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    let mut wire = Wire::connect(envoy.address()).await;
    assert_eq!(wire.get("/", format!("{HANDSHAKE}{TIMEOUT}: 0\r\n")).await.status, 101);
    tokio::time::sleep(Duration::from_millis(300)).await;
    wire.send("still here").await;
    assert_eq!(wire.read(10).await, b"still here");
}

/// The time that a queue takes is no longer there for the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_queue_would_leave_too_little_time_does_not_wait() {
    let turn = Turn::alone().await;
    let upstream = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(80), 200)).await;
    let mut policy = named();
    policy["limits"] = json!([{ "name": "queue", "methods": ["PUT"],
        "leaky_bucket": { "capacity": 5, "drain": 5, "drain_interval": "1s" } }]);
    let envoy = start(&turn, &upstream, &policy).await;
    learn(&envoy).await;
    let client = envoy.client();
    let put = async |time: &str| send(client.request(Method::PUT, "/").header(TIMEOUT, time)).await;

    let mut reasons = Vec::new();
    for _ in 0..3 {
        // It takes 80 ms, after which the next has to wait for 120 ms.
        assert_eq!(put("1000").await.status, 200);
        let before = upstream.attempts().len();
        let answer = put("170").await;
        let reached = upstream.attempts().len() - before;
        reasons.push((answer.status, answer.reason().map(str::to_owned), reached));
    }
    let refused = (429, Some("limit/queue".to_owned()), 0);
    assert!(reasons.iter().all(|it| *it == refused), "{reasons:?}");
}

/// The router brings its own header up to date by the time for all attempts. The filter, which sees the request only once, cannot,
/// and may not tell the router a deadline as that time: it would cut off answers that have begun.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_retry_the_proxys_own_header_says_what_is_left_of_the_rules_time() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|_| Line::after(Duration::from_millis(150), 503)).await;
    for (timeout, most) in [(json!("1s"), 850), (Value::Null, 1000)] {
        let mut policy = named();
        policy["retries"] = json!([{ "max_attempts": 2 }]);
        if !timeout.is_null() {
            policy["retries"][0]["timeout"] = timeout;
        }
        let envoy = start(&turn, &upstream, &policy).await;
        let before = upstream.attempts().len();

        assert_eq!(ask(&envoy.client(), "/", &[(TIMEOUT, "999")]).await.0.status, 503);

        let attempts = upstream.attempts().split_off(before);
        let left =
            |attempt: usize, name: &str| attempts[attempt].header(name).and_then(|left| left.parse::<u64>().ok());
        assert_eq!(attempts.len(), 2);
        println!("{:?}", [left(0, TIMEOUT), left(0, ENVOYS), left(1, TIMEOUT), left(1, ENVOYS)]);
        assert!(left(0, ENVOYS).is_some_and(|left| (950..=999).contains(&left)));
        assert!(left(1, ENVOYS).is_some_and(|left| (1..=most).contains(&left)));
        assert_eq!(left(1, TIMEOUT), left(0, TIMEOUT));
    }
}

/// A retry that would come too late is not paid for.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_retried_that_would_come_too_late() {
    let turn = Turn::shared().await;
    let upstream = ScriptedUpstream::start(|attempt| match attempt.path.as_str() {
        "/fails" => Line::now(503),
        _ => Line::after(Duration::from_millis(60), 200),
    })
    .await;
    let policy = json!({
        "deadlines": [{ "header": TIMEOUT }],
        "retries": [{ "max_attempts": 2, "budget": { "ratio": 1, "min_per_second": 1000 } }],
    });
    let envoy = start(&turn, &upstream, &policy).await;
    learn(&envoy).await;
    let client = envoy.client();

    for (number, time, attempts) in [(1, "70", 1), (2, "1000", 2)] {
        let number_header = number.to_string();
        let (answer, _) = ask(&client, "/fails", &[(TIMEOUT, time), ("x-number", &number_header)]).await;
        assert_eq!((answer.status, answer.reason()), (503, None));
        assert_eq!(upstream.count("/fails", number), attempts, "with {time} ms");
    }
    envoy.expect_metric("outrigger_retries_total", &[("decision", "no_time")], 1.0).await;
    envoy.expect_metric("outrigger_retries_total", &[("decision", "made")], 1.0).await;
}
