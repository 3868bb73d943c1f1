//! Requests in flight: never more than the limit over all workers, and every place comes back however a request ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::cluster::Cluster;
use crate::rig::crowd::{Crowd, count};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;
use crate::rig::wire::{Wire, request};

/// Long enough for a burst to be in flight all at once.
const SLOW: &str = "x-answer-after-ms: 500\r\n";
/// Longer than any scenario.
const FOREVER: &str = "x-answer-after-ms: 60000\r\n";
const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";

/// At most so many requests at once, of any kind.
fn at_once(max_in_flight: usize) -> Value {
    json!({ "limits": [{ "name": "busy", "concurrency": { "max_in_flight": max_in_flight } }] })
}

async fn start(turn: &Turn, listener: Listener, policy: &Value) -> Envoy {
    turn.start(Bootstrap::new(listener.filter(Filter::new(policy))).concurrency(4)).await
}

/// From this limit on workers keep a reserve, which may lie with one of them while another refuses, but not for long.
const RESERVE_FROM: usize = 16;
const RESERVE_LIFETIME: Duration = Duration::from_millis(100);

/// Sends twice as many requests at once as there should be places. How many are admitted; the others are refused.
///
/// Where workers keep a reserve, those who are refused ask once more before anybody is answered.
async fn admitted_of_a_burst(crowd: &Crowd, places: usize) -> usize {
    let requests = |count| (0..count).map(|_| request("/", SLOW));
    let again = async {
        if places < RESERVE_FROM {
            return Vec::new();
        }
        sleep(RESERVE_LIFETIME + Duration::from_millis(50)).await;
        crowd.burst(requests(places)).await
    };
    let (mut exchanges, more) = tokio::join!(crowd.burst(requests(2 * places)), again);
    exchanges.extend(more);
    let admitted = count(&exchanges, 200);
    assert_eq!(admitted + count(&exchanges, 429), exchanges.len(), "other answers than 200 and 429: {exchanges:?}");
    admitted
}

/// How many requests Envoy is at work on.
async fn in_flight(envoy: &Envoy) -> f64 {
    envoy.metric("envoy_http_downstream_rq_active", &[("envoy_http_conn_manager_prefix", "main")]).await
}

/// Waits until as many requests are in flight.
async fn in_flight_is(envoy: &Envoy, expected: usize) {
    eventually(&format!("{expected} requests are in flight"), async || {
        (in_flight(envoy).await == expected as f64).then_some(())
    })
    .await;
}

/// Asserts that nothing is held any more, and nothing given back twice: a burst gets every place, and then another.
async fn every_place_is_free(envoy: &Envoy, crowd: &Crowd, places: usize) {
    for round in ["first", "second"] {
        in_flight_is(envoy, 0).await;
        assert_eq!(admitted_of_a_burst(crowd, places).await, places, "the {round} burst gets all places");
    }
    in_flight_is(envoy, 0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// Sends as many requests, each on a connection of its own, and waits until they are in flight. Nobody reads a reply yet.
async fn hold(envoy: &Envoy, count: usize, path: &str, header_lines: &str) -> Vec<Wire> {
    let mut wires = envoy.wires(count).await;
    for wire in &mut wires {
        wire.send(request(path, header_lines)).await;
    }
    in_flight_is(envoy, count).await;
    wires
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_never_sees_more_than_ten_of_sixty_four_clients() {
    the_limit_holds(10, 64).await;
}

/// So large a limit that workers keep a reserve.
#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_never_sees_more_than_eighty_of_two_hundred_clients() {
    the_limit_holds(80, 200).await;
}

/// More clients than places, for four seconds, and nobody leaves before the answer.
async fn the_limit_holds(places: usize, clients: usize) {
    const TIME: Duration = Duration::from_secs(4);
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, Listener::to(upstream.cluster()).quiet(), &at_once(places)).await;
    let end = Instant::now() + TIME;

    let wires = envoy.wires(clients).await;
    let callers: Vec<_> = wires.into_iter().map(|wire| tokio::spawn(insist(wire, end, places))).collect();
    let (mut admitted, mut refused) = (0, 0);
    for caller in callers {
        let (caller_admitted, caller_refused) = caller.await.expect("a caller does its work");
        admitted += caller_admitted;
        refused += caller_refused;
    }

    assert_eq!(upstream.peak(), places, "at once in the upstream; {admitted} admitted, {refused} refused");
    assert_eq!(upstream.count("/"), admitted, "what is refused does not reach the upstream");
    assert!(refused > admitted, "no overload: {refused} refused, {admitted} admitted");
    let possible = places as f64 * TIME.as_secs_f64() / 0.3;
    assert!(admitted as f64 > 0.8 * possible, "{admitted} admitted where {possible:.0} had room");
    every_place_is_free(&envoy, &Crowd::at(&envoy, 2 * places).await, places).await;
    assert_eq!(upstream.peak(), places);
}

/// One client that asks again 20 ms after a refusal. How often it was admitted, and refused.
async fn insist(mut wire: Wire, end: Instant, places: usize) -> (usize, usize) {
    let (mut admitted, mut refused) = (0, 0);
    while Instant::now() < end {
        let reply = wire.get("/", "x-answer-after-ms: 300\r\n").await;
        if reply.status == 200 {
            admitted += 1;
            continue;
        }
        assert_eq!((reply.status, reply.header("x-outrigger-reason")), (429, Some("limit/busy")), "{}", reply.head);
        let policy = format!("\"busy\";q={places};qu=\"concurrent-requests\"");
        assert_eq!(reply.header("ratelimit-policy"), Some(policy.as_str()));
        assert_eq!(reply.header("retry-after"), None, "nobody knows when a request ends");
        refused += 1;
        sleep(Duration::from_millis(20)).await;
    }
    (admitted, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_up_before_or_within_its_answer_frees_the_place() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let before = RawUpstream::hang_up("").await;
    let within = RawUpstream::hang_up("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    // A port that was free a moment ago.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let nobody: SocketAddr = nobody.expect("a free port");
    let listener = Listener::to(upstream.cluster())
        .route("/before", before.cluster())
        .route("/within", within.cluster())
        .route("/nobody", Cluster::http1(nobody));
    let envoy = start(&turn, listener, &at_once(10)).await;

    for (path, expected) in [("/before", 503), ("/within", 200)] {
        let mut wires = hold(&envoy, 10, path, "").await;
        assert_eq!(Wire::connect(envoy.address()).await.get("/", "").await.status, 429, "{path} holds all places");
        for wire in &mut wires {
            assert_eq!(wire.status_or_close().await, Some(expected), "{path}");
        }
        every_place_is_free(&envoy, &Crowd::at(&envoy, 20).await, 10).await;
    }
    let mut client = Wire::connect(envoy.address()).await;
    for _ in 0..30 {
        assert_eq!(client.get("/nobody", "").await.status, 503, "not 429: each gave its place back");
    }
    every_place_is_free(&envoy, &Crowd::at(&envoy, 20).await, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_free_their_places() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, Listener::to(upstream.cluster()), &at_once(10)).await;

    let wires = hold(&envoy, 10, "/", FOREVER).await;
    assert_eq!(Wire::connect(envoy.address()).await.get("/", "").await.status, 429, "all places are taken");
    drop(wires);
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "cancelled")], 10.0).await;

    every_place_is_free(&envoy, &Crowd::at(&envoy, 20).await, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_upstream_frees_every_place() {
    let turn = Turn::shared().await;
    let (upstream, mut mortal) = (Upstream::start().await, Upstream::start().await);
    let envoy = start(&turn, Listener::to(upstream.cluster()).route("/mortal", mortal.cluster()), &at_once(10)).await;

    let mut wires = hold(&envoy, 10, "/mortal", FOREVER).await;
    eventually("all of them are upstream", async || (mortal.in_flight() == 10).then_some(())).await;
    mortal.crash();

    for wire in &mut wires {
        assert_eq!(wire.reply().await.status, 503);
    }
    for wire in &mut wires {
        assert_eq!(wire.get("/mortal", "").await.status, 503, "nobody is there, but there is room");
    }
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 20.0).await;
    every_place_is_free(&envoy, &Crowd::at(&envoy, 20).await, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_connections_and_tunnels_hold_their_places_until_they_close() {
    let turn = Turn::shared().await;
    let (upstream, chat, echo) = (Upstream::start().await, RawUpstream::upgrade().await, RawUpstream::echo().await);
    let listener = Listener::to(echo.cluster())
        .route("/", upstream.cluster())
        .route("/chat", chat.cluster())
        .tunnel()
        .connection_manager(
            json!({ "upgrade_configs": [{ "upgrade_type": "CONNECT" }, { "upgrade_type": "websocket" }] }),
        );
    let envoy = start(&turn, listener, &at_once(10)).await;
    let crowd = Crowd::at(&envoy, 20).await;

    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::connect(envoy.address()).await;
        assert_eq!(wire.get("/chat", HANDSHAKE).await.status, 101);
        open.push(wire);
    }
    for _ in 0..2 {
        let mut wire = Wire::connect(envoy.address()).await;
        wire.send("CONNECT shop.example.com:443 HTTP/1.1\r\nhost: shop.example.com:443\r\n\r\n").await;
        assert_eq!(wire.reply().await.status, 200);
        open.push(wire);
    }
    for wire in &mut open {
        wire.send("still here").await;
        assert_eq!(wire.read(10).await, b"still here");
    }
    assert_eq!(admitted_of_a_burst(&crowd, 10).await, 5, "five of ten are open");
    // Longer than any reserve or roster entry is kept.
    sleep(Duration::from_millis(3500)).await;
    in_flight_is(&envoy, 5).await;
    assert_eq!(admitted_of_a_burst(&crowd, 10).await, 5, "and stay so");
    open.truncate(2);
    in_flight_is(&envoy, 2).await;
    assert_eq!(admitted_of_a_burst(&crowd, 10).await, 8, "three closed");
    drop(open);

    every_place_is_free(&envoy, &crowd, 10).await;
}

/// Clients that send half a body and no more, and nothing in Envoy's configuration that ends them.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_holds_its_place_no_longer_than_it_may() {
    const HOLD: Duration = Duration::from_millis(1500);
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "limits": [{ "name": "busy", "concurrency": { "max_in_flight": 10, "max_hold": "1500ms" } }],
    });
    let envoy = start(&turn, Listener::to(upstream.cluster()), &policy).await;
    let crowd = Crowd::at(&envoy, 20).await;

    let mut stalled = envoy.wires(10).await;
    for wire in &mut stalled {
        wire.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8\r\n\r\nhalf").await;
    }
    in_flight_is(&envoy, 10).await;
    assert_eq!(admitted_of_a_burst(&crowd, 10).await, 0, "all places are taken");
    envoy.expect_metric("outrigger_holds_expired_total", &[("limit", "busy")], 0.0).await;
    sleep(HOLD).await;

    in_flight_is(&envoy, 10).await;
    assert_eq!(admitted_of_a_burst(&crowd, 10).await, 10, "others have the places of those that hang");
    envoy.expect_metric("outrigger_holds_expired_total", &[("limit", "busy")], 10.0).await;
    let said = envoy.log().matches("limit busy: a request has held its place for max_hold").count();
    assert!((1..=4).contains(&said), "once for a worker: {}", envoy.log());

    for wire in &mut stalled {
        wire.send("half").await;
        assert_eq!(wire.reply().await.status, 200, "they go on all the same");
    }
    every_place_is_free(&envoy, &crowd, 10).await;
    envoy.expect_metric("outrigger_holds_expired_total", &[("limit", "busy")], 10.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_as_many_places() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "limits": [{ "name": "per-user", "key": ["header:x-user-id"], "missing": "skip",
                     "concurrency": { "max_in_flight": 3 } }],
    });
    let envoy = start(&turn, Listener::to(upstream.cluster()), &policy).await;
    let crowd = Crowd::at(&envoy, 40).await;

    for round in 0..3 {
        let users = (0..32).map(|number| request("/", format!("{SLOW}x-user-id: user-{}\r\n", number % 4)));
        let anonymous = (0..8).map(|_| request("/", SLOW));
        let exchanges = crowd.burst(users.chain(anonymous)).await;
        for user in 0..4 {
            let of_user = exchanges.iter().filter(|exchange| exchange.number < 32 && exchange.number % 4 == user);
            let admitted = of_user.filter(|exchange| exchange.reply.status == 200).count();
            assert_eq!(admitted, 3, "of user {user}'s 8 in round {round}");
        }
        let anonymous = exchanges.iter().filter(|exchange| 32 <= exchange.number);
        assert!(anonymous.clone().all(|exchange| exchange.reply.status == 200), "the limit passes them by");
        in_flight_is(&envoy, 0).await;
    }
    assert_eq!(upstream.peak(), 20, "three of each of four users, and eight without a name");
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_one_limit_refuses_holds_no_place_of_the_other() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({
        "limits": [
            { "name": "all", "concurrency": { "max_in_flight": 10 } },
            { "name": "per-user", "key": ["header:x-user-id"], "missing": "skip", "concurrency": { "max_in_flight": 4 } },
            { "name": "heavy", "cost": "header:x-weight", "concurrency": { "max_in_flight": 1000 } },
        ],
    });
    let envoy = start(&turn, Listener::to(upstream.cluster()), &policy).await;

    for round in 0..3 {
        let ask = async |user: &str, weight: usize| {
            let mut wires = envoy.wires(8).await;
            let mut held = Vec::new();
            for wire in &mut wires {
                wire.send(request("/", format!("{SLOW}x-user-id: {user}\r\nx-weight: {weight}\r\n"))).await;
            }
            // Refusals come at once; who is admitted is not answered yet.
            sleep(Duration::from_millis(60)).await;
            held.append(&mut wires);
            (held, upstream.in_flight())
        };
        let (ann, after_ann) = ask("ann", 1).await;
        let (bob, after_bob) = ask("bob", 1).await;
        let (eve, after_eve) = ask("eve", 1).await;
        assert_eq!([after_ann, after_bob, after_eve], [4, 8, 10], "in round {round}");
        for (wires, reason) in [(ann, "limit/per-user"), (bob, "limit/per-user"), (eve, "limit/all")] {
            for mut wire in wires {
                let reply = wire.reply().await;
                if reply.status == 429 {
                    assert_eq!(reply.header("x-outrigger-reason"), Some(reason));
                }
            }
        }
        in_flight_is(&envoy, 0).await;
        let too_heavy = Wire::connect(envoy.address()).await.get("/", "x-weight: 1001\r\n").await;
        assert_eq!((too_heavy.status, too_heavy.header("x-outrigger-reason")), (429, Some("limit/heavy")));
    }
    every_place_is_free(&envoy, &Crowd::at(&envoy, 20).await, 10).await;
    assert_eq!(upstream.peak(), 10);
}

/// What a trapped worker had sent on lives on upstream until it is answered: Envoy ends those requests no sooner. It no
/// longer counts, so the upstream may meanwhile see that much more than the limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_traps_frees_its_places_within_three_seconds_and_the_limit_holds_meanwhile() {
    // Two for each of four workers, and one for the request that crashes its worker.
    const PLACES: usize = 9;
    const HELD: usize = 8;
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&at_once(PLACES)).trapping());
    let envoy = turn.start(Bootstrap::new(listener).concurrency(4)).await;
    // One to each worker.
    let mut bait = envoy.wires(4).await;
    let held = hold(&envoy, HELD, "/", FOREVER).await;
    eventually("all of them are upstream", async || (upstream.in_flight() == HELD).then_some(())).await;

    bait[0].send(request("/", "x-trap: now\r\n")).await;
    assert_eq!(bait[0].status_or_close().await, Some(503), "the worker traps");
    let trapped = Instant::now();

    let (mut probes, mut freed) = (Vec::new(), Vec::new());
    while trapped.elapsed() < Duration::from_millis(4500) {
        let mut probe = Wire::connect(envoy.address()).await;
        probe.send(request("/", FOREVER)).await;
        // Who is admitted gets no answer.
        let answer = timeout(Duration::from_millis(40), probe.status_or_close()).await;
        if let Ok(status) = answer {
            assert!(matches!(status, Some(429 | 503)), "{status:?}");
        } else {
            probes.push(probe);
            freed.push(trapped.elapsed());
        }
        sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(freed.len(), 3, "the worker had two, and one for the request that crashed it: {freed:?}");
    let upstream_sees = [upstream.in_flight(), upstream.peak()];
    assert_eq!(upstream_sees, [HELD + 3; 2], "the living hold six and three more; two have no worker to count them");
    assert!(freed[0] < Duration::from_secs(3), "the first of its places was free after {freed:?}");
    assert!(envoy.vm_reloads().await > 0.0, "the worker has a new filter");
    drop((bait, held, probes));
    every_place_is_free(&envoy, &Crowd::at(&envoy, 2 * PLACES).await, PLACES).await;
}
