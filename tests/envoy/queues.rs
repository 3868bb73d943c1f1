//! Leaky buckets: requests at any pace leave at a constant one, whoever waits is answered, and waiting costs nothing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::crowd::{Crowd, Exchange, all, count};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Arrival, Upstream, checksum};
use crate::rig::wire::{Wire, request};

/// Twenty a second.
const SPACING: Duration = Duration::from_millis(50);
/// How much later than its instant a request may arrive upstream: Envoy's timers go off every few milliseconds, and the
/// machine may be busy.
const LATENESS: Duration = Duration::from_millis(25);
/// How much later the latest may come, whatever the machine does.
const MOST_LATENESS: Duration = Duration::from_secs(1);

/// One queue of `capacity`, from which `/queued` leaves twenty times a second. Other paths are free.
fn queue(capacity: u32) -> Value {
    json!({
        "operations": [{ "name": "queued", "match": { "paths": ["/queued"] } }],
        "limits": [{ "name": "queue", "operations": ["queued"],
                     "leaky_bucket": { "capacity": capacity, "drain": 20, "drain_interval": "1s" } }],
    })
}

async fn start(turn: &Turn, upstream: &Upstream, capacity: u32) -> Envoy {
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&queue(capacity)));
    turn.start(Bootstrap::new(listener)).await
}

fn queued(number: usize) -> Vec<u8> {
    request("/queued", format!("x-number: {number}\r\n"))
}

/// Asserts that arrivals keep to the beat: none comes before its instant, most are no later than [`LATENESS`], and all no later
/// than [`MOST_LATENESS`].
///
/// Each can only be late, so the one that is least late tells where the beat lies. A single one that came early would make all
/// others late by as much, and a queue that drains too fast or too slowly drifts away from the beat. A busy machine makes some
/// late, and says nothing by that.
fn assert_spaced(arrivals: &[Arrival]) {
    let since_the_first = (0_u32..).zip(arrivals).map(|(place, arrival)| {
        let after = arrival.at - arrivals[0].at;
        after.as_secs_f64() - (SPACING * place).as_secs_f64()
    });
    let mut lateness: Vec<f64> = since_the_first.collect();
    lateness.sort_by(f64::total_cmp);
    let most = lateness[(lateness.len() - 1) * 3 / 4] - lateness[0];
    assert!(most <= LATENESS.as_secs_f64(), "a quarter came more than {most:.3} s off the beat: {lateness:?}");
    let latest = lateness[lateness.len() - 1] - lateness[0];
    assert!(latest <= MOST_LATENESS.as_secs_f64(), "the latest came {latest:.3} s off the beat: {lateness:?}");
}

/// Waits until the last release is past, and asserts that a queue in which nobody waits holds nobody up.
async fn assert_idle(upstream: &Upstream, envoy: &Envoy) {
    eventually("no request is in flight", async || (upstream.in_flight() == 0).then_some(())).await;
    tokio::time::sleep(2 * SPACING).await;
    let mut client = Wire::connect(envoy.address()).await;
    client.get("/free", "").await;
    let asked = Instant::now();
    assert_eq!(client.get("/queued", "").await.status, 200);
    assert!(asked.elapsed() < SPACING / 2, "an idle queue made a request wait for {:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_a_second_leave_as_twenty_evenly_spaced_and_in_order() {
    const CAPACITY: u32 = 60;
    const TIME: Duration = Duration::from_secs(5);
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, CAPACITY).await;
    let crowd = Crowd::at(&envoy, 100).await;

    let exchanges = crowd.steady(200, TIME, queued).await;

    let arrivals = upstream.arrivals("/queued");
    let admitted = count(&exchanges, 200);
    assert_eq!(admitted, arrivals.len(), "whoever was admitted was answered");
    assert_eq!(admitted + count(&exchanges, 429), exchanges.len(), "and all others refused");
    assert!(exchanges.len() >= 990, "no overload: {} sent", exchanges.len());
    // The first passes, so many wait at once, and one more per release.
    let expected = f64::from(1 + CAPACITY) + 20.0 * TIME.as_secs_f64();
    assert!((admitted as f64 - expected).abs() <= 3.0, "{admitted} admitted, {expected} expected");

    assert_spaced(&arrivals);
    let elapsed = arrivals[arrivals.len() - 1].at - arrivals[0].at;
    let rate = (arrivals.len() - 1) as f64 / elapsed.as_secs_f64();
    assert!((19.0..=21.0).contains(&rate), "{rate:.2} a second");
    let order: Vec<Instant> =
        arrivals.iter().map(|arrival| exchanges[arrival.number.expect("a number")].sent).collect();
    // Who came within a few milliseconds of each other may have been read by different workers in another order.
    let overtaken = order.windows(2).any(|pair| pair[1] + Duration::from_millis(15) < pair[0]);
    assert!(!overtaken, "somebody overtook somebody");

    let longest = SPACING * CAPACITY;
    for Exchange { reply, took, .. } in &exchanges {
        if reply.status == 200 {
            assert!(*took <= longest + 2 * LATENESS, "a wait of {took:?} where {longest:?} is the longest");
            continue;
        }
        assert!(*took < Duration::from_millis(200), "a refusal after {took:?}");
        assert_eq!(reply.header("x-outrigger-reason"), Some("limit/queue"));
        assert_eq!(reply.header("ratelimit-policy"), Some("\"queue\";q=60;w=3"));
        assert_eq!(reply.header("ratelimit"), Some("\"queue\";r=0;t=1"));
        assert_eq!(reply.header("retry-after"), Some("1"), "there is a place within 50 ms");
        assert_eq!(reply.header("x-envoy-ratelimited"), Some("true"));
    }

    let waited = "outrigger_queue_wait_milliseconds";
    envoy.expect_metric(&format!("{waited}_count"), &[("limit", "queue")], (admitted - 1) as f64).await;
    let mean = envoy.metric(&format!("{waited}_sum"), &[]).await / (admitted - 1) as f64;
    let client_mean = exchanges.iter().filter(|it| it.reply.status == 200).map(|it| it.took.as_secs_f64()).sum::<f64>()
        * 1000.0
        / admitted as f64;
    // Envoy's histograms have buckets.
    assert!((mean / client_mean - 1.0).abs() < 0.1, "{mean:.0} ms in the histogram, {client_mean:.0} ms for clients");
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "success")], admitted as f64).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_idle(&upstream, &envoy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_body_with_a_small_one_and_with_a_large_one_wait_alike() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, 60).await;
    let crowd = Crowd::at(&envoy, 12).await;
    let large: Vec<u8> = (0..3 * 1024 * 1024_u32).map(|place| (place % 251) as u8).collect();
    let bodies: [&[u8]; 3] = [b"", b"small", &large];
    let ask = |number: usize| {
        let body = bodies[number % 3];
        if body.is_empty() {
            return queued(number);
        }
        let mut bytes = format!(
            "POST /queued HTTP/1.1\r\nhost: test\r\nx-number: {number}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    };

    let exchanges = crowd.burst((0..24).map(ask)).await;

    for exchange in &exchanges {
        assert_eq!(exchange.reply.status, 200, "{}", exchange.reply.head);
        let told: Value = serde_json::from_slice(&exchange.reply.body).expect("the upstream tells in JSON");
        let body = bodies[exchange.number % 3];
        assert_eq!((&told["body_size"], &told["body_sum"]), (&json!(body.len()), &json!(checksum(body))));
    }
    let arrivals = upstream.arrivals("/queued");
    assert_eq!(arrivals.len(), 24);
    assert_spaced(&arrivals);
    envoy.expect_metric("outrigger_queue_wait_milliseconds_count", &[], 23.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
    assert_idle(&upstream, &envoy).await;
}

/// Sends one request over each connection, in order.
async fn line_up(wires: &mut [Wire]) {
    for (number, wire) in wires.iter_mut().enumerate() {
        wire.send(queued(number)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many requests ended because their clients left, once it is as many and no more come.
async fn cancelled(envoy: &Envoy, at_least: usize) -> usize {
    let requests = "outrigger_requests_total";
    let labels = [("operation", "queued"), ("outcome", "cancelled")];
    eventually("those who left are gone", async || {
        let before = envoy.metric(requests, &labels).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = envoy.metric(requests, &labels).await;
        (at_least as f64 <= after && before == after).then_some(after as usize)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_while_they_wait_give_their_places_back() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, 60).await;
    let mut wires = envoy.wires(80).await;
    let mut late = Wire::connect(envoy.address()).await;
    line_up(&mut wires).await;
    assert_eq!(late.get("/queued", "").await.status, 429, "the queue is full");

    let others = wires.split_off(20);
    drop(others);
    let cancelled = cancelled(&envoy, 40).await;

    let refused = envoy.metric("outrigger_refusals_total", &[]).await as usize;
    assert_eq!(cancelled, 81 - 20 - refused, "all but those who stayed and those who were refused");
    // The last of them would have left the queue after three seconds. Of the twenty who stayed some are gone by now.
    let asked = Instant::now();
    assert_eq!(late.get("/queued", "").await.status, 200);
    let wait = asked.elapsed();
    assert!(wait < SPACING * 20, "it waited {wait:?} behind twenty");
    for wire in &mut wires {
        assert_eq!(wire.reply().await.status, 200, "who stayed is answered");
    }
    assert_eq!(upstream.count("/queued"), 21, "who left does not reach the upstream");
    envoy.expect_metric("outrigger_queue_wait_milliseconds_count", &[], 20.0).await;
    // Who comes while the instants of those who left are not past may wait for the next of them.
    tokio::time::sleep(SPACING * 40).await;
    assert_idle(&upstream, &envoy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_queue_of_its_own() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let mut policy = queue(60);
    policy["limits"][0]["key"] = json!(["header:x-user-id"]);
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;
    let crowd = Crowd::at(&envoy, 60).await;

    let ask = |number| request("/queued", format!("x-number: {number}\r\nx-user-id: user-{}\r\n", number % 3));
    let exchanges = crowd.burst((0..60).map(ask)).await;

    assert_eq!(count(&exchanges, 200), 60);
    let arrivals = upstream.arrivals("/queued");
    for user in 0..3 {
        let of_user = arrivals.iter().filter(|arrival| arrival.number.expect("a number") % 3 == user);
        let of_user: Vec<Arrival> = of_user.cloned().collect();
        assert_eq!(of_user.len(), 20);
        assert_spaced(&of_user);
        assert!(of_user[19].at - of_user[0].at < SPACING * 20, "nobody waits for another user");
    }
}

/// A worker has places for so many requests that wait, and one user keeps its queue full.
#[tokio::test(flavor = "multi_thread")]
async fn one_greedy_user_leaves_places_to_fifty_others() {
    const GREEDY: usize = 1100;
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let mut policy = queue(3000);
    policy["limits"][0]["key"] = json!(["header:x-user-id"]);
    policy["limits"][0]["leaky_bucket"]["drain"] = json!(1);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let asks = |user: &str| request("/queued", format!("x-user-id: {user}\r\n"));
    let refused = [("reason", "limit/queue"), ("enforced", "true")];
    let mut greedy = envoy.wires(GREEDY).await;
    for wire in &mut greedy {
        wire.send(asks("greedy")).await;
    }
    // One goes on at once, and one more each second.
    let most = 1 + 1024;
    eventually("the greedy user fills its queue", async || {
        let count = envoy.metric("outrigger_refusals_total", &refused).await as usize;
        (GREEDY - most - 30 <= count && count <= GREEDY - most).then_some(())
    })
    .await;

    let others = Crowd::at(&envoy, 150).await;
    // Three of each: one goes on, two wait.
    let exchanges = others.burst((0..150).map(|number| asks(&format!("user-{}", number % 50)))).await;

    assert_eq!(count(&exchanges, 200), 150, "nobody is refused for what another does");
    let waited = exchanges.iter().filter(|it| Duration::from_millis(900) < it.took).count();
    assert!(100 <= waited, "{waited} have waited");
    let longest = exchanges.iter().map(|it| it.took).max();
    assert!(longest < Some(Duration::from_secs(8)), "{longest:?} for the third of a user");
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

/// A constant pace is what the upstream is promised, whoever leaves.
#[tokio::test(flavor = "multi_thread")]
async fn when_those_in_front_leave_the_others_do_not_bunch_up() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, 60).await;
    let crowd = Crowd::at(&envoy, 25).await;
    let mut wires = envoy.wires(45).await;
    line_up(&mut wires).await;

    let mut stay = wires.split_off(30);
    drop(wires);
    let cancelled = cancelled(&envoy, 15).await;
    let came_later = crowd.burst((45..70).map(queued)).await;

    assert_eq!(count(&came_later, 200), 25);
    for wire in &mut stay {
        assert_eq!(wire.reply().await.status, 200);
    }
    let arrivals = upstream.arrivals("/queued");
    assert_eq!(arrivals.len(), 70 - cancelled);
    assert_spaced(&arrivals[arrivals.len() - 40..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_caller_will_have_gone_is_refused_at_once() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    // Envoy takes the header from its own side only.
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&queue(60))).connection_manager(json!({
        "use_remote_address": true,
        "internal_address_config": { "cidr_ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] },
    }));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let crowd = Crowd::at(&envoy, 20).await;
    let mut client = Wire::connect(envoy.address()).await;
    client.get("/free", "").await;
    // The next one would wait for about a second.
    let waiting: Vec<_> = (0..20).map(|number| crowd.send(number, queued(number))).collect();
    eventually("requests wait", async || {
        let active = [("envoy_http_conn_manager_prefix", "main")];
        (envoy.metric("envoy_http_downstream_rq_active", &active).await >= 15.0).then_some(())
    })
    .await;

    let impatient = [
        ("x-envoy-expected-rq-timeout-ms: 300\r\n", 429, None),
        ("grpc-timeout: 300m\r\n", 429, None),
        ("content-type: application/grpc\r\ngrpc-timeout: 300m\r\n", 200, Some("8")),
    ];
    for (header_lines, status, grpc_status) in impatient {
        let asked = Instant::now();
        let reply = client.get("/queued", header_lines).await;
        assert!(asked.elapsed() < Duration::from_millis(50), "{header_lines}: refused after {:?}", asked.elapsed());
        assert_eq!((reply.status, reply.header("grpc-status")), (status, grpc_status), "{header_lines}");
        assert_eq!(reply.header("x-outrigger-reason"), Some("limit/queue"));
        assert_eq!(reply.header("retry-after"), Some("1"), "{header_lines}");
    }
    let asked = Instant::now();
    let patient = "x-envoy-expected-rq-timeout-ms: 5000\r\ngrpc-timeout: 5S\r\n";
    assert_eq!(client.get("/queued", patient).await.status, 200);
    assert!(SPACING < asked.elapsed(), "who has time waits");

    assert_eq!(count(&all(waiting).await, 200), 20);
    let arrivals = upstream.arrivals("/queued");
    assert_eq!(arrivals.len(), 21);
    assert_spaced(&arrivals);
    // A refusal that had kept its place would show as a gap.
    let elapsed = arrivals[20].at - arrivals[0].at;
    assert!(elapsed < SPACING * 20 + LATENESS, "{elapsed:?} for twenty releases");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_during_an_update_is_answered_and_the_new_configuration_goes_on_from_there() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = |version: &str| {
        let mut policy = queue(60);
        policy["version"] = json!(version);
        Listener::to(upstream.cluster()).filter(Filter::new(&policy))
    };
    let envoy = turn.start(Bootstrap::new(listener("one")).by_discovery().drain_within(Duration::from_secs(30))).await;
    let crowd = Crowd::at(&envoy, 40).await;
    let waiting: Vec<_> = (0..40).map(|number| crowd.send(number, queued(number))).collect();
    eventually("the upstream sees them", async || (upstream.count("/queued") > 0).then_some(())).await;

    envoy.publish(&[listener("two")]);
    envoy.expect_metric("outrigger_config_info", &[("version", "two")], 1.0).await;
    let mut later = Vec::new();
    for number in 40..44 {
        let mut wire = Wire::connect(envoy.address()).await;
        later.push(tokio::spawn(async move { wire.get("/queued", format!("x-number: {number}\r\n")).await }));
    }

    for exchange in all(waiting).await {
        assert_eq!(exchange.reply.status, 200, "{}", exchange.reply.head);
    }
    for reply in later {
        assert_eq!(reply.await.expect("a client gets its answer").status, 200);
    }
    let arrivals = upstream.arrivals("/queued");
    assert_eq!(arrivals.len(), 44);
    assert_spaced(&arrivals);
    assert!(arrivals[40..].iter().all(|arrival| Some(40) <= arrival.number), "who came under the new one was behind");
    envoy.expect_metric("outrigger_config_info", &[("version", "one")], 1.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
    assert_idle(&upstream, &envoy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_in_which_nobody_waits_costs_no_processor_time() {
    const REST: Duration = Duration::from_secs(3);
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, 60).await;
    let crowd = Crowd::at(&envoy, 20).await;
    let resting = async || {
        // What was just done is not part of the rest.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = envoy.processor_time();
        tokio::time::sleep(REST).await;
        envoy.processor_time() - before
    };

    let before = resting().await;
    let exchanges = crowd.burst((0..20).map(queued)).await;
    assert_eq!(count(&exchanges, 200), 20);
    let after = resting().await;

    assert!(after < REST / 50, "{after:?} in {REST:?} of rest");
    // A timer of a few milliseconds in two workers and the main thread would cost 30 ms and more.
    assert!(
        after < before + Duration::from_millis(12),
        "{before:?} before the first request, {after:?} after the last"
    );
}

/// What waits keeps buffers of the proxy busy, so that it is bounded, whoever leaves.
#[tokio::test(flavor = "multi_thread")]
async fn when_those_in_front_leave_the_queue_holds_no_more_than_its_capacity() {
    const CAPACITY: u32 = 60;
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, &upstream, CAPACITY).await;
    let crowd = Crowd::at(&envoy, 80).await;
    let mut wires = envoy.wires(60).await;
    line_up(&mut wires).await;
    let started = Instant::now();
    let mut stay = wires.split_off(40);
    drop(wires);
    let _ = cancelled(&envoy, 30).await;
    // The instants of those who left go by. Those who stayed have theirs between two and three seconds.
    tokio::time::sleep(Duration::from_millis(1300).saturating_sub(started.elapsed())).await;
    let waiting = stay.len();

    let came_later = crowd.burst((60..140).map(queued)).await;

    let admitted = count(&came_later, 200);
    for wire in &mut stay {
        assert_eq!(wire.reply().await.status, 200);
    }
    // A few are let on while the others come.
    let held = waiting + admitted;
    assert!(held <= CAPACITY as usize + 4, "{held} waited at once: {waiting} who stayed and {admitted} who came later");
}

/// Nobody can wake the requests of a filter that is no more, so that only Envoy's own timeout ends them.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_in_a_worker_that_traps_are_answered_when_envoys_idle_timeout_ends() {
    const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster())
        .filter(Filter::new(&queue(60)).trapping())
        .connection_manager(json!({ "stream_idle_timeout": "3s" }));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    // One to each worker, then ten.
    let mut bait = envoy.wires(2).await;
    let mut wires = envoy.wires(20).await;
    let started = Instant::now();
    line_up(&mut wires).await;
    bait[0].send(request("/free", "x-trap: now\r\n")).await;
    assert_eq!(bait[0].status_or_close().await, Some(503), "the worker traps");

    let mut statuses = Vec::new();
    for wire in &mut wires {
        statuses.push(wire.status_or_close().await);
    }
    let answered = |wanted: &[u16]| statuses.iter().filter(|it| it.is_some_and(|it| wanted.contains(&it))).count();
    assert!((10..15).contains(&answered(&[200])), "the other worker's, and who was let on before: {statuses:?}");
    assert_eq!(answered(&[200, 408, 503, 504]), 20, "all are answered: {statuses:?}");
    assert!(started.elapsed() < IDLE_TIMEOUT + Duration::from_secs(2), "after {:?}", started.elapsed());
    let client = envoy.client();
    assert!(client.admitted("/queued", 12).await >= 11, "both workers serve again");
    assert_idle(&upstream, &envoy).await;
}
