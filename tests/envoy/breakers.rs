//! Circuit breakers with four workers before an upstream that fails, slows, resets and heals on command.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;

use crate::grpc::{about, connect, metadata};
use crate::rig::bootstrap::Bootstrap;
use crate::rig::crowd::{Crowd, Exchange, all};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream};
use crate::rig::wire::{Wire, request};

const STATE: &str = "outrigger_breaker_state";
const TRANSITIONS: &str = "outrigger_breaker_transitions_total";

/// One breaker per operation, `/<name>` each.
fn guarded(breakers: &[(&str, Value)]) -> Value {
    let operation = |name: &str| json!({ "name": name, "match": { "paths": [format!("/{name}")] } });
    let breaker = |name: &str, settings: &Value| {
        let mut breaker = settings.clone();
        breaker["name"] = json!(name);
        breaker["operations"] = json!([name]);
        breaker
    };
    json!({
        "operations": breakers.iter().map(|(name, _)| operation(name)).collect::<Vec<_>>(),
        "breakers": breakers.iter().map(|(name, settings)| breaker(name, settings)).collect::<Vec<_>>(),
    })
}

async fn start(turn: &Turn, upstream: &Upstream, policy: &Value, workers: usize) -> Envoy {
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(policy));
    turn.start(Bootstrap::new(listener).concurrency(workers)).await
}

fn is_refusal(exchange: &Exchange) -> bool {
    exchange.reply.header("x-outrigger-reason").is_some()
}

async fn state(envoy: &Envoy, breaker: &str) -> f64 {
    envoy.metric(STATE, &[("breaker", breaker)]).await
}

async fn becomes(envoy: &Envoy, breaker: &str, wanted: f64) {
    eventually(&format!("breaker {breaker} gets to {wanted}"), async || {
        (state(envoy, breaker).await == wanted).then_some(())
    })
    .await;
}

/// An outage of all requests, from the first failure to full traffic, as clients and the upstream see it.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_noticed_obeyed_probed_and_healed_in_time() {
    const OPEN: f64 = 2.0;
    const PROBES: usize = 3;
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let settings = json!({ "trip": { "consecutive_failures": 5 }, "open_for": "2s", "max_open_for": "2s",
                           "probes": PROBES });
    let envoy = start(&turn, &upstream, &guarded(&[("inventory", settings)]), 4).await;
    let crowd = Crowd::at(&envoy, 32).await;
    let beat = Duration::from_millis(10);

    let load = {
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.steady(100, Duration::from_secs(20), |_| request("/inventory", "")).await })
    };
    eventually("the service serves", async || (50 < upstream.count("/inventory")).then_some(())).await;
    assert_eq!(envoy.stats().await.labels(STATE), ["breaker"], "the gauge is there before anything happens");
    assert_eq!(state(&envoy, "inventory").await, 0.0);

    let broken = Instant::now();
    upstream.behave("/", Manner::Failing(503));
    becomes(&envoy, "inventory", 3.0).await;
    // Until the probes have failed at least once.
    eventually("probes fail", async || {
        let again = [("breaker", "inventory"), ("to", "open"), ("cause", "probe_failed")];
        (1.0 <= envoy.metric(TRANSITIONS, &again).await).then_some(())
    })
    .await;
    let healed = Instant::now();
    upstream.behave("/", Manner::Well);
    let exchanges = load.await.expect("the load does its work");
    let arrivals = upstream.arrivals("/inventory");

    // Noticed within a second, and obeyed by all within half a second more.
    let refusals: Vec<Instant> = exchanges.iter().filter(|it| is_refusal(it)).map(|it| it.sent).collect();
    let first = *refusals.first().expect("it opened");
    assert!(broken < first && first - broken < Duration::from_secs(1), "after {:?}", first - broken);
    let obeyed = first + Duration::from_millis(500);
    let shortest = first + Duration::from_secs_f64(0.8 * OPEN) - Duration::from_millis(100);
    let early = arrivals.iter().filter(|it| obeyed <= it.at && it.at < shortest).count();
    assert_eq!(early, 0, "while it is open nothing gets through");
    // Five failures are enough, whoever has them; each worker has one before it knows, and some are on their way.
    let spent = arrivals.iter().filter(|it| broken < it.at && it.at < obeyed).count();
    println!("{spent} requests to a service that is down");
    assert!((5..=15).contains(&spent), "{spent} requests to a service that is down");

    // Probes only, until it heals.
    let probes = arrivals.iter().filter(|it| shortest <= it.at && it.at < healed).count();
    assert!((1..=PROBES).contains(&probes), "{probes} probes at a time");

    // Full traffic in time: what is left of the open time, six seconds, and one.
    let reopened = exchanges.iter().filter(|it| it.sent > shortest && !is_refusal(it)).map(|it| it.sent + it.took);
    let reopened = reopened.min().expect("a probe");
    let full_at = reopened + Duration::from_secs_f64(1.2 * OPEN) + Duration::from_secs(7);
    let late = exchanges.iter().filter(|it| full_at < it.sent);
    assert_eq!(late.clone().filter(|it| is_refusal(it)).count(), 0, "full traffic again");
    assert!(late.count() > 200, "it was watched long enough");

    // The ramp: shares of the requests that pass in its steps of two seconds.
    let passed = |from: Duration, to: Duration| {
        let probed = exchanges.iter().filter(|it| healed < it.sent && !is_refusal(it)).nth(PROBES - 1);
        let start = probed.expect("probes after healing");
        let start = start.sent + start.took;
        let within = |it: &&Exchange| start + from <= it.sent && it.sent < start + to;
        let all = exchanges.iter().filter(within).count();
        exchanges.iter().filter(within).filter(|it| !is_refusal(it)).count() as f64 / all as f64
    };
    let slack = Duration::from_millis(300);
    for (step, share) in [(0, 0.10), (1, 0.25), (2, 0.50), (3, 1.0)] {
        let (from, to) = (Duration::from_secs(2 * step), Duration::from_secs(2 * step + 2));
        let seen = passed(from + slack, to - slack);
        assert!((seen - share).abs() < 0.05, "{seen} of the requests in step {step}, not {share}");
    }

    // Every answer is the service's own or says what refused it.
    for exchange in &exchanges {
        let reply = &exchange.reply;
        match reply.header("x-outrigger-reason") {
            None => assert!([200, 503].contains(&reply.status), "{reply:?}"),
            Some(reason) => {
                assert_eq!((reason, reply.status), ("breaker/inventory", 503));
                assert_eq!(reply.header("content-type"), Some("application/problem+json"));
                assert_eq!(reply.header("x-envoy-ratelimited"), Some("true"));
                let seconds: u64 = reply.header("retry-after").and_then(|it| it.parse().ok()).expect("a time");
                assert!((1..=3).contains(&seconds), "2 s with jitter, rounded up: {seconds}");
            }
        }
    }
    let forwarded = exchanges.iter().filter(|it| !is_refusal(it)).count();
    assert_eq!(arrivals.len(), forwarded, "what was not refused arrived, and nothing else");
    assert!(exchanges.len() as f64 >= 20.0 / beat.as_secs_f64() * 0.98, "{} requests", exchanges.len());

    // The same by the metrics.
    envoy.expect_metric(STATE, &[("breaker", "inventory")], 0.0).await;
    let count = |to, cause| [("breaker", "inventory"), ("to", to), ("cause", cause)];
    envoy.expect_metric(TRANSITIONS, &count("open", "consecutive_failures"), 1.0).await;
    envoy.expect_metric(TRANSITIONS, &count("open", "probe_failed"), 1.0).await;
    envoy.expect_metric(TRANSITIONS, &count("half_open", "open_over"), 2.0).await;
    envoy.expect_metric(TRANSITIONS, &count("ramp", "probes_succeeded"), 1.0).await;
    envoy.expect_metric(TRANSITIONS, &count("closed", "ramp_over"), 1.0).await;
    envoy.expect_metric(TRANSITIONS, &[], 6.0).await;
    let refused = refusals.len() as f64;
    let reason = [("reason", "breaker/inventory"), ("enforced", "true")];
    envoy.expect_metric("outrigger_refusals_total", &reason, refused).await;
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "broken")], refused).await;
    let failures = exchanges.iter().filter(|it| !is_refusal(it) && it.reply.status == 503).count() as f64;
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], failures).await;
    let log = envoy.access_log(refusals.len(), |entry| entry.reason.is_some()).await;
    let opened = log.iter().filter(|entry| entry.detail.as_deref() == Some("consecutive_failures")).count();
    assert!(opened > 0, "the log says why it is open: {:?}", log.first());
    assert_eq!(log[0].details.as_deref(), Some("outrigger_breaker_inventory"));
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

/// As in the demo: eight failures 0.3 s apart on either of two workers, of which one has a success of before to publish.
#[tokio::test(flavor = "multi_thread")]
async fn a_success_of_before_an_outage_does_not_keep_it_closed() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..16).map(|number| format!("pattern-{number:02}")).collect();
    let settings = json!({ "trip": { "consecutive_failures": 5 }, "open_for": "5m", "max_open_for": "5m" });
    let breakers: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), settings.clone())).collect();
    let envoy = start(&turn, &upstream, &guarded(&breakers), 2).await;
    let mut wires = envoy.wires(2).await;
    for name in &names {
        let path = format!("/{name}");
        for worker in [0, 1, 1] {
            assert_eq!(wires[worker].get(&path, "").await.status, 200);
        }
    }
    // Which worker gets which failure: a pattern of eight for each breaker.
    let mut reached = vec![0; names.len()];
    for failure in 0..8 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (number, name) in names.iter().enumerate() {
            let pattern = number * 37 + 11;
            let wire = &mut wires[pattern >> failure & 1];
            let reply = wire.get(&format!("/{name}"), "x-answer-status: 503\r\n").await;
            reached[number] += usize::from(reply.header("x-outrigger-reason").is_none());
        }
    }
    assert!(reached.iter().all(|it| (5..=6).contains(it)), "{reached:?} of eight failures each");
    for name in &names {
        becomes(&envoy, name, 3.0).await;
    }
}

/// An outage costs the threshold and one request of each other worker, besides what is under way.
#[tokio::test(flavor = "multi_thread")]
async fn four_workers_send_hardly_more_failures_than_one() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let names: Vec<String> = (0..12).map(|number| format!("outage-{number:02}")).collect();
    let settings = json!({ "trip": { "consecutive_failures": 5 }, "open_for": "5m", "max_open_for": "5m" });
    let breakers: Vec<(&str, Value)> = names.iter().map(|name| (name.as_str(), settings.clone())).collect();
    let envoy = start(&turn, &upstream, &guarded(&breakers), 4).await;
    let mut wires = envoy.wires(16).await;
    let mut reached = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let path = format!("/{name}");
        for wire in &mut wires {
            assert_eq!(wire.get(&path, "").await.status, 200);
        }
        upstream.behave(&path, Manner::Failing(503));
        let before = upstream.count(&path);
        for request in 0..64 {
            // Each time in another order.
            let place = (request * (2 * number + 1)) % wires.len();
            wires[place].get(&path, "").await;
        }
        reached.push(upstream.count(&path) - before);
    }
    println!("{reached:?} failures reached the service");
    assert!(reached.iter().all(|it| (5..=5 + 4).contains(it)), "{reached:?}");
}

/// A service that takes six seconds for each answer, with a breaker for what takes 300 ms.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_open_it_while_they_do() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let settings =
        json!({ "trip": { "slow_ratio": 0.5, "slow_after": "300ms" }, "open_for": "5m", "max_open_for": "5m" });
    let policy = guarded(&[("busy", settings.clone()), ("waiting", settings.clone()), ("streams", settings)]);
    let envoy = start(&turn, &upstream, &policy, 2).await;
    let hangs = Manner::Late(Duration::from_secs(6));

    // Requests keep coming.
    let crowd = Crowd::at(&envoy, 8).await;
    let load = {
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.steady(50, Duration::from_secs(8), |_| request("/busy", "")).await })
    };
    // The window is full of good answers.
    eventually("the service serves", async || (150 < upstream.count("/busy")).then_some(())).await;
    upstream.behave("/busy", hangs);
    let stopped = Instant::now();
    becomes(&envoy, "busy", 3.0).await;
    let noticed = stopped.elapsed();
    println!("50 requests a second: open after {noticed:?}");
    assert!(Duration::from_millis(300) < noticed && noticed < Duration::from_millis(1_300), "after {noticed:?}");
    load.abort();

    // Forty clients wait for their answers, and nobody else comes.
    upstream.behave("/waiting", hangs);
    let stopped = Instant::now();
    let waiting: Vec<_> = (0..40).map(|number| crowd.send(number, request("/waiting", ""))).collect();
    becomes(&envoy, "waiting", 3.0).await;
    let noticed = stopped.elapsed();
    println!("forty that wait: open after {noticed:?}");
    assert!(Duration::from_millis(300) < noticed && noticed < Duration::from_millis(1_300), "after {noticed:?}");
    let opened = [("breaker", "waiting"), ("to", "open"), ("cause", "slow_ratio")];
    envoy.expect_metric(TRANSITIONS, &opened, 1.0).await;
    for exchange in all(waiting).await {
        assert_eq!(exchange.reply.status, 200, "what was let through is answered");
    }
    envoy.expect_metric(TRANSITIONS, &opened, 1.0).await;

    // Responses that have begun do not hang, however long they last.
    upstream.behave("/streams", Manner::Breaking);
    let mut streams = envoy.wires(40).await;
    for wire in &mut streams {
        wire.send(request("/streams", "")).await;
        wire.head().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    envoy.expect_metric(STATE, &[("breaker", "streams")], 0.0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

/// The workers that see no failure themselves know of the trip by the shared record only.
#[tokio::test(flavor = "multi_thread")]
async fn one_workers_trip_is_obeyed_by_those_who_saw_no_failure() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let settings = json!({ "trip": { "consecutive_failures": 5 }, "open_for": "5m", "max_open_for": "5m" });
    let envoy = start(&turn, &upstream, &guarded(&[("inventory", settings)]), 4).await;
    let crowd = Crowd::at(&envoy, 16).await;
    let load =
        tokio::spawn(async move { crowd.steady(200, Duration::from_secs(3), |_| request("/inventory", "")).await });
    eventually("the service serves", async || (100 < upstream.count("/inventory")).then_some(())).await;

    // One connection is one worker.
    let mut wire = Wire::connect(envoy.address()).await;
    let failing = "x-answer-status: 503\r\n";
    while wire.get("/inventory", failing).await.header("x-outrigger-reason").is_none() {}
    let tripped = Instant::now();
    let exchanges = load.await.expect("the load does its work");

    let obeyed = tripped + Duration::from_millis(500);
    let late: Vec<_> = exchanges.iter().filter(|it| obeyed < it.sent).collect();
    assert!(late.len() > 100, "it was watched long enough");
    let disobeyed = late.iter().filter(|it| !is_refusal(it)).count();
    assert_eq!(disobeyed, 0, "of {} requests half a second later and after", late.len());
    assert!(exchanges.iter().all(|it| is_refusal(it) || it.reply.status == 200), "they saw no failure");
}

/// Each kind of trouble opens its breaker for its own reason, however many workers see it, and no other breaker.
async fn trouble(workers: usize) {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let long = |trip: Value| json!({ "trip": trip, "open_for": "5m", "max_open_for": "5m" });
    let in_a_row = json!({ "consecutive_failures": 5, "window": "60s" });
    let ratio = json!({ "failure_ratio": 0.5, "window": "60s" });
    let policy = guarded(&[
        ("failing", long(in_a_row.clone())),
        ("resetting", long(in_a_row.clone())),
        ("flaky", long(ratio.clone())),
        ("slow", long(json!({ "slow_ratio": 0.5, "slow_after": "50ms", "window": "60s" }))),
        (
            "fine",
            long(json!({ "consecutive_failures": 5, "failure_ratio": 0.5, "slow_ratio": 0.5, "slow_after": "5s" })),
        ),
    ]);
    let envoy = start(&turn, &upstream, &policy, workers).await;
    let crowd = Crowd::at(&envoy, workers * 4).await;
    upstream.behave("/failing", Manner::Failing(500));
    upstream.behave("/resetting", Manner::Resetting);
    upstream.behave("/flaky", Manner::Flaky(8));
    upstream.behave("/slow", Manner::Late(Duration::from_millis(100)));

    for (name, cause, status) in [
        ("failing", "consecutive_failures", 500),
        ("resetting", "consecutive_failures", 503),
        ("flaky", "failure_ratio", 503),
        ("slow", "slow_ratio", 200),
    ] {
        let path = format!("/{name}");
        eventually("the breaker opens", async || {
            let wave = crowd.burst((0..workers).map(|_| request(&path, ""))).await;
            for exchange in wave.iter().filter(|it| !is_refusal(it)) {
                let own = exchange.reply.status;
                assert!(own == status || (name == "flaky" && own == 200), "{:?}", exchange.reply);
            }
            wave.iter().any(is_refusal).then_some(())
        })
        .await;
        becomes(&envoy, name, 3.0).await;
        let opened = [("breaker", name), ("to", "open"), ("cause", cause)];
        envoy.expect_metric(TRANSITIONS, &opened, 1.0).await;
        envoy.expect_metric(TRANSITIONS, &[("breaker", name)], 1.0).await;
        // A worker obeys with its next look, so ask until all have looked: on all connections, of which half are of bursts before.
        eventually("all workers obey", async || {
            crowd.burst((0..workers * 8).map(|_| request(&path, ""))).await.iter().all(is_refusal).then_some(())
        })
        .await;
        let seen = upstream.count(&path);
        for exchange in crowd.burst((0..workers * 8).map(|_| request(&path, ""))).await {
            assert_eq!(exchange.reply.header("x-outrigger-reason"), Some(format!("breaker/{name}").as_str()));
            let wait: u64 = exchange.reply.header("retry-after").and_then(|it| it.parse().ok()).expect("a time");
            assert!((230..=360).contains(&wait), "5 min, but for jitter: {wait}");
        }
        assert_eq!(upstream.count(&path), seen, "nothing gets through");
        let entry = envoy.access_log(1, |it| it.path.as_deref() == Some(&path) && it.reason.is_some()).await;
        assert_eq!(entry[0].detail.as_deref(), Some(cause));
    }
    for exchange in crowd.burst((0..workers * 8).map(|_| request("/fine", ""))).await {
        assert_eq!(exchange.reply.status, 200, "{:?}", exchange.reply);
    }
    envoy.expect_metric(TRANSITIONS, &[("breaker", "fine")], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_opens_its_breaker_for_its_own_reason_on_two_workers() {
    trouble(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_trouble_opens_its_breaker_for_its_own_reason_on_four_workers() {
    trouble(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_closes_again_whatever_opened_it() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let short = |trip: Value| json!({ "trip": trip, "open_for": "1s", "max_open_for": "1s", "probes": 2 });
    let policy = guarded(&[
        ("resetting", short(json!({ "consecutive_failures": 5 }))),
        ("slow", short(json!({ "slow_ratio": 0.5, "slow_after": "50ms", "window": "60s" }))),
    ]);
    let envoy = start(&turn, &upstream, &policy, 4).await;
    let crowd = Crowd::at(&envoy, 8).await;
    upstream.behave("/resetting", Manner::Resetting);
    upstream.behave("/slow", Manner::Late(Duration::from_millis(100)));

    for name in ["resetting", "slow"] {
        let path = format!("/{name}");
        let wave = async || crowd.burst((0..8).map(|_| request(&path, ""))).await;
        eventually("the breaker opens", async || wave().await.iter().any(is_refusal).then_some(())).await;
        upstream.behave(&path, Manner::Well);
        // Asked all the time, as it would be: what is left of a second and a fifth, and 6 s of ramp.
        eventually("the breaker closes", async || {
            (state(&envoy, name).await == 0.0 || wave().await.is_empty()).then_some(())
        })
        .await;
        assert!(wave().await.iter().all(|exchange| exchange.reply.status == 200), "{name}");
        for (to, cause) in [("half_open", "open_over"), ("ramp", "probes_succeeded"), ("closed", "ramp_over")] {
            envoy.expect_metric(TRANSITIONS, &[("breaker", name), ("to", to), ("cause", cause)], 1.0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_client_errors_and_clients_that_leave_open_nothing() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = guarded(&[("inventory", json!({ "trip": { "consecutive_failures": 3 } }))]);
    policy["operations"].as_array_mut().unwrap().push(json!({ "name": "limited", "match": { "paths": ["/limited"] } }));
    policy["breakers"][0]["operations"] = json!(["inventory", "limited"]);
    policy["limits"] = json!([{ "name": "few", "operations": ["limited"], "token_bucket": supply(1),
                               "fallback": "broken" }]);
    policy["fallbacks"] = json!([{ "name": "broken", "status": 500 }]);
    let envoy = start(&turn, &upstream, &policy, 2).await;
    let mut wire = Wire::connect(envoy.address()).await;

    for _ in 0..10 {
        assert_eq!(wire.get("/inventory", "x-answer-status: 404\r\n").await.status, 404);
        assert_eq!(wire.get("/inventory", "x-answer-status: 429\r\n").await.status, 429);
        let marked = "x-answer-status: 503\r\nx-answer-header: x-envoy-ratelimited=true\r\n";
        assert_eq!(wire.get("/inventory", marked).await.status, 503);
        wire.get("/limited", "").await;
    }
    for gone in 0..10 {
        let mut wire = Wire::connect(envoy.address()).await;
        let before = upstream.count("/inventory");
        wire.send(request("/inventory", "x-answer-after-ms: 10000\r\n")).await;
        eventually("the upstream works on it", async || (before < upstream.count("/inventory")).then_some(())).await;
        drop(wire);
        envoy.expect_metric("outrigger_requests_total", &[("outcome", "cancelled")], f64::from(gone + 1)).await;
    }
    assert_eq!(wire.get("/inventory", "").await.status, 200);
    envoy.expect_metric(TRANSITIONS, &[], 0.0).await;
    envoy.expect_metric(STATE, &[("breaker", "inventory")], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_open_a_breaker_by_their_status_in_headers_and_in_trailers() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let breaker = |name: &str| {
        json!({ "name": name, "operations": [name], "trip": { "consecutive_failures": 3 },
                                       "open_for": "5m", "max_open_for": "5m" })
    };
    let policy = json!({
        "operations": [
            { "name": "check", "match": { "paths": ["*/Check"] } },
            { "name": "watch", "match": { "paths": ["*/Watch"] } },
        ],
        "breakers": [breaker("check"), breaker("watch")],
    });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    let mut client = connect(envoy.address()).await;

    for _ in 0..5 {
        assert_eq!(client.check(about("unknown")).await.expect_err("not there").code(), Code::NotFound);
    }
    for _ in 0..3 {
        let failure = client.check(about("unavailable")).await.expect_err("out of order");
        assert_eq!((failure.code(), metadata(&failure, "x-outrigger-reason")), (Code::Unavailable, None));
        let mut watch = client.watch(about("unavailable")).await.expect("a stream").into_inner();
        watch.message().await.expect("one message comes");
        assert_eq!(watch.message().await.expect_err("then trailers").code(), Code::Unavailable);
    }

    let refusal = client.check(about("")).await.expect_err("open");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert_eq!(metadata(&refusal, "x-outrigger-reason"), Some("breaker/check"));
    assert_eq!(metadata(&refusal, "grpc-retry-pushback-ms"), Some("-1"));
    eventually("the end of the last stream is known", async || {
        let refusal = client.watch(about("")).await.err()?;
        (metadata(&refusal, "x-outrigger-reason") == Some("breaker/watch")).then_some(())
    })
    .await;
    for name in ["check", "watch"] {
        let opened = [("breaker", name), ("to", "open"), ("cause", "consecutive_failures")];
        envoy.expect_metric(TRANSITIONS, &opened, 1.0).await;
    }
}
