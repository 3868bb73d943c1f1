//! Who is to blame: what clients do slowly or leave undone, and what Envoy answers without asking the service, is not booked on
//! the service. What it does not answer still is.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::{Bootstrap, any};
use crate::rig::client::send;
use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream};
use crate::rig::wire::Wire;

const TRANSITIONS: &str = "outrigger_breaker_transitions_total";
const REQUESTS: &str = "outrigger_requests_total";

/// A breaker for everything that trips by this, and stays open.
fn breaker(trip: &Value) -> Value {
    json!({ "breakers": [{ "name": "b", "trip": trip, "open_for": "5m", "max_open_for": "5m" }] })
}

fn in_a_row() -> Value {
    breaker(&json!({ "consecutive_failures": 5 }))
}

async fn start(turn: &Turn, cluster: Cluster, policy: &Value) -> Envoy {
    turn.start(Bootstrap::new(Listener::to(cluster).filter(Filter::new(policy)))).await
}

async fn expect_closed(envoy: &Envoy) {
    envoy.expect_metric(TRANSITIONS, &[], 0.0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// A request that announces so many bytes of body.
fn announced(bytes: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: {bytes}\r\n\r\n")
}

/// Asks until the breaker has opened; how many requests that took.
async fn opens(envoy: &Envoy, method: Method, body: &str) -> usize {
    let client = envoy.client();
    for number in 0..40 {
        let answer = send(client.request(method.clone(), "/").body(body.to_owned())).await;
        if answer.reason() == Some("breaker/b") {
            return number;
        }
    }
    panic!("it never opened");
}

/// Thirty clients that take 0.8 s to send four bytes to a service that answers at once.
#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_do_not_make_the_service_slow() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = breaker(&json!({ "slow_ratio": 0.5, "slow_after": "500ms" }));
    policy["deadlines"] = json!([{ "default": "500ms" }]);
    let envoy = start(&turn, upstream.cluster(), &policy).await;

    let slowly = |mut wire: Wire| async move {
        wire.send(announced(4)).await;
        for byte in ["d", "a", "t", "a"] {
            tokio::time::sleep(Duration::from_millis(200)).await;
            wire.send(byte).await;
        }
        wire.reply().await.status
    };
    let mut clients = Vec::new();
    for _ in 0..30 {
        clients.push(tokio::spawn(slowly(Wire::connect(envoy.address()).await)));
    }
    for client in clients {
        assert_eq!(client.await.expect("a client"), 200, "the deadline runs from the request's end");
    }
    expect_closed(&envoy).await;
    envoy.expect_metric(REQUESTS, &[("outcome", "success")], 30.0).await;
}

/// Six clients that announce 100 bytes and send three, whatever the service does about it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_never_finished_is_no_failure_of_the_service() {
    let turn = Turn::shared().await;
    let said = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    for upstream in [RawUpstream::hang_up("").await, RawUpstream::hang_up(said).await] {
        let envoy = start(&turn, upstream.cluster(), &in_a_row()).await;
        for _ in 0..6 {
            let mut wire = Wire::connect(envoy.address()).await;
            wire.send(announced(100)).await;
            wire.send("abc").await;
            assert_eq!(wire.reply().await.status, 503);
        }
        expect_closed(&envoy).await;
        envoy.expect_metric(REQUESTS, &[("outcome", "failure")], 6.0).await;
    }
    // And with Envoy's own patience, by each of its clocks.
    let upstream = Upstream::start().await;
    for clock in [
        json!({ "request_timeout": "0.3s" }),
        json!({ "stream_idle_timeout": "0.3s" }),
        json!({ "common_http_protocol_options": { "max_stream_duration": "0.3s" } }),
    ] {
        let listener = Listener::to(upstream.cluster()).connection_manager(clock).filter(Filter::new(&in_a_row()));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        for _ in 0..6 {
            let mut wire = Wire::connect(envoy.address()).await;
            wire.send(announced(100)).await;
            wire.send("abc").await;
            assert_eq!(wire.reply().await.status, 408);
        }
        expect_closed(&envoy).await;
        envoy.expect_metric(REQUESTS, &[("outcome", "client_error")], 6.0).await;
    }
}

/// The same where the service has begun to answer, and where its answer is the status of a gRPC call.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_while_the_client_still_sends_is_a_failure_to_it_and_says_nothing_of_the_service() {
    let turn = Turn::shared().await;
    for (said, content_type) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", "text/plain"),
        ("HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 100\r\n\r\nabc", "application/grpc"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n",
            "application/grpc",
        ),
    ] {
        let upstream = RawUpstream::hang_up(said).await;
        let envoy = start(&turn, upstream.cluster(), &in_a_row()).await;
        let ask = |mut wire: Wire| async move {
            let head = format!("POST / HTTP/1.1\r\nhost: shop.example.com\r\ncontent-type: {content_type}\r\n");
            wire.send(format!("{head}content-length: 100\r\n\r\nabc")).await;
            assert_eq!(wire.head().await.status, 200, "{said}");
            wire.rest().await;
        };
        let clients = envoy.wires(20).await.into_iter().map(|wire| tokio::spawn(ask(wire)));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client");
        }
        expect_closed(&envoy).await;
        envoy.expect_metric(REQUESTS, &[("outcome", "failure")], 20.0).await;
    }
}

/// Five milliseconds for an operation that takes thirty and of which nothing is known.
#[tokio::test(flavor = "multi_thread")]
async fn callers_with_hardly_any_time_open_no_breaker() {
    let turn = Turn::shared().await;
    for rule in ["retries", "deadlines"] {
        let upstream = Upstream::start().await;
        upstream.behave("/", Manner::Late(Duration::from_millis(30)));
        let mut policy = in_a_row();
        policy[rule] = json!([{}]);
        let envoy = start(&turn, upstream.cluster(), &policy).await;
        let client = envoy.client();
        for _ in 0..10 {
            assert_eq!(client.get_with("/", "grpc-timeout", "5m").await.status, 504);
        }
        for _ in 0..10 {
            let call = client.request(Method::GET, "/").header("content-type", "application/grpc");
            let answer = send(call.header("grpc-timeout", "5m")).await;
            assert!(matches!(answer.header("grpc-status"), Some("4" | "14")), "{answer:?}");
        }
        assert_eq!(client.get("/").await.status, 200);
        expect_closed(&envoy).await;
    }
}

/// Whichever of Envoy's clocks ends the wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_answers_opens_its_breaker_by_any_clock() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    upstream.behave("/", Manner::Hanging);
    for clock in [
        json!({ "stream_idle_timeout": "0.2s" }),
        json!({ "common_http_protocol_options": { "max_stream_duration": "0.2s" } }),
    ] {
        let listener = Listener::to(upstream.cluster()).connection_manager(clock).filter(Filter::new(&in_a_row()));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        assert!(opens(&envoy, Method::GET, "").await >= 5);
    }
}

/// The rule's own time is what the service has.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_never_meets_the_rules_own_deadline_opens_its_breaker() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    upstream.behave("/", Manner::Hanging);
    let mut policy = in_a_row();
    policy["deadlines"] = json!([{ "default": "100ms" }]);
    let envoy = start(&turn, upstream.cluster(), &policy).await;
    assert!(opens(&envoy, Method::GET, "").await >= 5);
    let log = envoy.access_log(5, |entry| entry.status == 504).await;
    assert!(log.iter().all(|entry| entry.detail.as_deref() == Some("expired")), "{log:?}");
}

/// A cluster that takes no request at all.
#[tokio::test(flavor = "multi_thread")]
async fn envoys_own_overflow_opens_no_breaker_and_may_be_replaced() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = start(&turn, upstream.cluster().at_most(0), &in_a_row()).await;
    let client = envoy.client();
    for _ in 0..10 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.header("x-envoy-overloaded")), (503, Some("true")));
    }
    for _ in 0..10 {
        assert_eq!(send(client.request(Method::POST, "/").body("data")).await.status, 503);
    }
    expect_closed(&envoy).await;
    envoy.expect_metric(REQUESTS, &[("outcome", "failure")], 20.0).await;
    assert_eq!(upstream.count("/"), 0);

    let mut policy = in_a_row();
    policy["on_failure"] = json!([{ "fallback": "sorry" }]);
    policy["fallbacks"] = json!([{ "name": "sorry", "status": 200, "text": "sorry" }]);
    let envoy = start(&turn, upstream.cluster().at_most(0), &policy).await;
    for _ in 0..10 {
        assert_eq!(envoy.client().get("/").await.text(), "sorry");
    }
    expect_closed(&envoy).await;
}

/// A list says which answers are failures; that nobody answers is one whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_the_failure_is_replaced_whatever_the_list_says() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    for (path, manner) in [("/reset", Manner::Resetting), ("/hangs", Manner::Hanging), ("/fails", Manner::Failing(503))]
    {
        upstream.behave(path, manner);
    }
    let mut policy = in_a_row();
    policy["breakers"][0]["failures"] = json!(["429"]);
    policy["on_failure"] = json!([{ "failures": ["429"], "fallback": "sorry" }]);
    policy["fallbacks"] = json!([{ "name": "sorry", "status": 200, "text": "sorry" }]);
    let to = |cluster: Cluster| {
        let timeout = json!({ "route": { "timeout": "0.5s" } });
        Bootstrap::new(Listener::to(cluster).default_route(timeout).filter(Filter::new(&policy))).concurrency(1)
    };
    let envoy = turn.start(to(upstream.cluster())).await;
    let client = envoy.client();
    for path in ["/reset", "/hangs"] {
        assert_eq!(client.get(path).await.text(), "sorry", "{path}");
    }
    assert_eq!(client.get("/fails").await.status, 503, "this is an answer");
    expect_closed(&envoy).await;

    let envoy = turn.start(to(Cluster::empty())).await;
    for number in 0..6 {
        let answer = envoy.client().get("/").await;
        assert_eq!(answer.text(), "sorry");
        assert_eq!(answer.reason(), Some(if number < 5 { "failure/other" } else { "breaker/b" }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_does_not_do_is_no_failure_unless_the_rule_says_so() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let method = Method::from_bytes(b"PROPFIND").expect("a method");
    let ask = async |envoy: &Envoy, status: &str| {
        let client = envoy.client();
        for _ in 0..8 {
            let request = client.request(method.clone(), "/").header("x-answer-status", status);
            send(request).await;
        }
    };
    let envoy = start(&turn, upstream.cluster(), &in_a_row()).await;
    for status in ["501", "505", "429"] {
        ask(&envoy, status).await;
    }
    expect_closed(&envoy).await;
    envoy.expect_metric(REQUESTS, &[("outcome", "client_error")], 24.0).await;

    for (failures, status, opens) in
        [(json!(["5xx"]), "501", 1.0), (json!(["429"]), "429", 1.0), (json!(["5xx", "!503"]), "503", 0.0)]
    {
        let mut policy = in_a_row();
        policy["breakers"][0]["failures"] = failures;
        let envoy = start(&turn, upstream.cluster(), &policy).await;
        ask(&envoy, status).await;
        envoy.expect_metric(TRANSITIONS, &[("to", "open")], opens).await;
    }
}

/// A service that is down, behind hosts that Envoy knows; for others it has no route, a redirect and an answer of its own.
fn knowing_hosts(upstream: &Upstream, policy: &Value) -> Listener {
    let to_service = json!({ "match": { "prefix": "/" }, "route": { "cluster": upstream.cluster().name() } });
    let direct = json!({ "match": { "path": "/direct" }, "direct_response": { "status": 200 } });
    let moved = json!({ "match": { "path": "/moved" }, "redirect": { "path_redirect": "/" } });
    let host = json!({ "name": "shop", "domains": ["shop.example.com"], "routes": [direct, moved, to_service] });
    Listener::to(upstream.cluster())
        .connection_manager(json!({ "route_config": { "virtual_hosts": [host] } }))
        .filter(Filter::new(policy))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_answers_closes_no_breaker_of_a_dead_service() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    upstream.behave("/", Manner::Failing(503));
    let policy = json!({ "breakers": [{ "name": "b", "trip": { "consecutive_failures": 5 }, "probes": 5,
                                        "open_for": "1s", "max_open_for": "1s" }] });
    let envoy = turn.start(Bootstrap::new(knowing_hosts(&upstream, &policy))).await;
    let mut wire = Wire::connect(envoy.address()).await;
    let mut ask = async |host: &str, path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        wire.reply().await
    };
    // Answers of Envoy's own come between the failures and end no run of them.
    for _ in 0..5 {
        ask("shop.example.com", "/direct").await;
        ask("elsewhere.example.com", "/").await;
        ask("shop.example.com", "/moved").await;
        ask("shop.example.com", "/").await;
    }
    envoy.expect_metric(TRANSITIONS, &[("to", "open"), ("cause", "consecutive_failures")], 1.0).await;

    let started = Instant::now();
    let mut passed = [0; 3];
    while started.elapsed() < Duration::from_secs(4) {
        for (index, (host, path, own)) in [
            ("elsewhere.example.com", "/", 404),
            ("shop.example.com", "/moved", 301),
            ("shop.example.com", "/direct", 200),
        ]
        .into_iter()
        .enumerate()
        {
            let reply = ask(host, path).await;
            assert!([own, 503].contains(&reply.status), "{}", reply.head);
            passed[index] += usize::from(reply.status == own);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        passed.iter().all(|passed| 5 < *passed),
        "they passed as probes, more than it takes to close it: {passed:?}"
    );
    envoy.expect_metric(TRANSITIONS, &[("to", "half_open")], 1.0).await;
    envoy.expect_metric(TRANSITIONS, &[("to", "ramp")], 0.0).await;
    assert_eq!(ask("shop.example.com", "/").await.status, 503);
    envoy.expect_metric(TRANSITIONS, &[("to", "open"), ("cause", "probe_failed")], 1.0).await;
    upstream.behave("/", Manner::Well);
    eventually("it closes when the service is well", async || {
        let reply = ask("shop.example.com", "/").await;
        (reply.status == 200 && 1.0 <= envoy.metric(TRANSITIONS, &[("to", "ramp")]).await).then_some(())
    })
    .await;
}

/// No host, no connection, a reset; and Envoy's fault filter, by which people try their breakers. Also with a body that has not
/// come when Envoy answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_be_reached_still_fails() {
    let turn = Turn::shared().await;
    let nobody = Cluster::http1("127.0.0.1:1".parse().expect("an address"));
    let reset = RawUpstream::hang_up("").await;
    for (what, cluster) in [("no host", Cluster::empty()), ("no connection", nobody), ("reset", reset.cluster())] {
        for (method, body) in [(Method::GET, ""), (Method::POST, "data")] {
            let envoy = start(&turn, cluster.clone(), &in_a_row()).await;
            assert!(opens(&envoy, method, body).await >= 5, "{what}");
        }
    }
    let upstream = Upstream::start().await;
    let abort = json!({ "http_status": 503, "percentage": { "numerator": 100 } });
    let fault = any("envoy.extensions.filters.http.fault.v3.HTTPFault", json!({ "abort": abort }));
    let filters = json!([
        Filter::new(&in_a_row()).render(),
        { "name": "fault", "typed_config": fault },
        { "name": "router", "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({})) },
    ]);
    for (method, body) in [(Method::GET, ""), (Method::POST, "data")] {
        let listener = Listener::to(upstream.cluster()).connection_manager(json!({ "http_filters": filters }));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        assert!(opens(&envoy, method, body).await >= 5, "fault injection");
    }
}

/// Three seconds of download under a deadline of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_for_the_beginning_of_an_answer_unless_the_rule_says_end() {
    const PIECES: usize = 30;
    let turn = Turn::shared().await;
    let upstream = RawUpstream::drip(PIECES, Duration::from_millis(100)).await;
    for retries in [json!([]), json!([{ "max_attempts": 3 }])] {
        let policy = json!({ "deadlines": [{ "default": "1s" }], "retries": retries });
        let envoy = start(&turn, upstream.cluster(), &policy).await;
        let answer = envoy.client().get("/").await;
        assert_eq!((answer.status, answer.body.len()), (200, PIECES));
        envoy.expect_metric(REQUESTS, &[("outcome", "success")], 1.0).await;
    }
    let mut policy = in_a_row();
    policy["deadlines"] = json!([{ "default": "1s", "cut_responses": true }]);
    let envoy = start(&turn, upstream.cluster(), &policy).await;
    let mut wire = Wire::connect(envoy.address()).await;
    let started = Instant::now();
    wire.send("GET / HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
    assert_eq!(wire.head().await.status, 200);
    let body = wire.rest().await;
    let took = started.elapsed();
    assert!(body.len() < PIECES, "{body:?}");
    assert!((Duration::from_millis(990)..Duration::from_millis(2500)).contains(&took), "{took:?}");
    envoy.expect_metric(REQUESTS, &[("outcome", "failure")], 1.0).await;
    envoy.expect_metric(REQUESTS, &[], 1.0).await;
    let log = envoy.access_log(1, |_| true).await;
    assert_eq!(log[0].detail.as_deref(), Some("expired"));
    expect_closed(&envoy).await;
}

/// Envoy's own timers do not run while a request waits for a connection.
#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_holds_for_the_wait_for_a_connection_too() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    upstream.behave("/", Manner::Hanging);
    let listener = Listener::to(upstream.cluster().at_most(1))
        .filter(Filter::new(&json!({ "deadlines": [{ "header": "x-request-timeout-ms", "default": "10s" }] })));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();
    let mut first = Wire::connect(envoy.address()).await;
    first.send("GET / HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
    eventually("the only connection is taken", async || (upstream.count("/") == 1).then_some(())).await;
    let started = Instant::now();
    let answer = client.get_with("/", "x-request-timeout-ms", "300").await;
    let took = started.elapsed();
    assert_eq!((answer.status, answer.reason()), (504, None));
    assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&took), "{took:?}");
    envoy.expect_metric(REQUESTS, &[("outcome", "failure")], 1.0).await;
    let log = envoy.access_log(1, |_| true).await;
    assert_eq!((log[0].details.as_deref(), log[0].detail.as_deref()), (Some("outrigger_expired"), Some("expired")));
    assert_eq!(upstream.count("/"), 1);
}

/// A redirect by Envoy is no proof of what is usual, and pays for no retry.
#[tokio::test(flavor = "multi_thread")]
async fn what_envoy_answers_teaches_nothing_about_the_service() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = json!({ "deadlines": [{ "header": "x-request-timeout-ms" }] });
    let envoy = turn.start(Bootstrap::new(knowing_hosts(&upstream, &policy)).concurrency(1)).await;
    upstream.behave("/", Manner::Late(Duration::from_millis(80)));
    let mut wire = Wire::connect(envoy.address()).await;
    let mut ask = async |path: &str, headers: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: shop.example.com\r\n{headers}\r\n")).await;
        wire.reply().await
    };
    // Of five answers four are redirects. What is known fades, so that a slow machine needs more of them; were redirects among what
    // is known, no number would do.
    for number in 0..400 {
        assert_eq!(ask("/", "").await.status, 200);
        for _ in 0..4 {
            assert_eq!(ask("/moved", "").await.status, 301);
        }
        if number < 20 {
            continue;
        }
        let reply = ask("/", "x-request-timeout-ms: 20\r\n").await;
        if reply.header("x-outrigger-reason") == Some("deadline") {
            return;
        }
    }
    panic!("80 ms are usual, and nobody said so");
}

/// By whichever of its clocks: to the client a failure, and to the breaker nothing, since a client may read slowly.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_any_clock_of_envoy_cuts_off_is_a_failure_to_its_client() {
    let turn = Turn::shared().await;
    let upstream = RawUpstream::drip(100, Duration::from_millis(100)).await;
    let silent = RawUpstream::drip(2, Duration::from_secs(10)).await;
    let listener = |upstream: &RawUpstream| Listener::to(upstream.cluster());
    let of_the_route = json!({ "route": { "max_stream_duration": { "max_stream_duration": "0.5s" } } });
    let of_all = json!({ "common_http_protocol_options": { "max_stream_duration": "0.5s" } });
    for (clock, listener) in [
        ("timeout", listener(&upstream).default_route(json!({ "route": { "timeout": "0.5s" } }))),
        ("stream_idle_timeout", listener(&silent).connection_manager(json!({ "stream_idle_timeout": "0.5s" }))),
        ("route idle_timeout", listener(&silent).default_route(json!({ "route": { "idle_timeout": "0.5s" } }))),
        ("max_stream_duration of the route", listener(&upstream).default_route(of_the_route)),
        ("max_stream_duration of the connection manager", listener(&upstream).connection_manager(of_all)),
    ] {
        let envoy = turn.start(Bootstrap::new(listener.filter(Filter::new(&in_a_row())))).await;
        let ask = |mut wire: Wire| async move {
            wire.send("GET / HTTP/1.1\r\nhost: shop.example.com\r\n\r\n").await;
            assert_eq!(wire.head().await.status, 200, "{clock}");
            assert!(wire.rest().await.len() < 100, "{clock}");
        };
        let clients = envoy.wires(5).await.into_iter().map(|wire| tokio::spawn(ask(wire)));
        for client in clients.collect::<Vec<_>>() {
            client.await.expect("a client");
        }
        let counted = envoy.metric(REQUESTS, &[("outcome", "failure")]).await;
        let log = envoy.access_log(5, |_| true).await;
        assert_eq!(counted, 5.0, "{clock}: {log:?}");
        expect_closed(&envoy).await;
    }
}
