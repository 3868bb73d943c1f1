//! What takes the place of an upstream's failure, and what cannot be replaced any more.

use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::grpc::{about, connect, metadata};
use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::Envoy;
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::turn::Turn;
use crate::rig::upstream::{BROKEN_PAGE, Manner, Upstream, checksum, page};
use crate::rig::wire::{Wire, field, request};

const REASON: &str = "failure/reviews";

/// Failures of `/reviews` are replaced by a page that says success, those of `/orders` by one that does not.
fn policy() -> Value {
    json!({
        "operations": [
            { "name": "reviews", "match": { "paths": ["/reviews*"] } },
            { "name": "orders", "match": { "paths": ["/orders"] } },
        ],
        "fallbacks": [
            { "name": "reviews-empty", "status": 200, "methods": ["GET", "HEAD", "POST"], "json": { "reviews": [] } },
            { "name": "sorry", "status": 503, "text": "back in a minute", "retry_after": "30s" },
        ],
        "on_failure": [
            { "operations": ["reviews"], "statuses": ["5xx"], "fallback": "reviews-empty" },
            { "operations": ["orders"], "statuses": ["503"], "fallback": "sorry" },
        ],
    })
}

fn listener(cluster: Cluster) -> Listener {
    Listener::to(cluster).filter(Filter::new(&policy()))
}

fn assert_replaced(answer: &Answer) {
    assert_eq!((answer.status, answer.reason()), (200, Some(REASON)), "{answer:?}");
    assert_eq!(answer.json(), json!({ "reviews": [] }));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("content-length"), Some("14"));
    assert_eq!(answer.header("transfer-encoding"), None);
    let leftovers = ["x-leftover", "cache-control", "x-envoy-upstream-service-time", "etag"];
    assert!(leftovers.iter().all(|name| answer.header(name).is_none()), "of the failure: {:?}", answer.headers);
}

/// What the access log says of the latest replaced failure: status, detail and response-code details.
async fn logged(envoy: &Envoy, count: usize) -> (u64, Option<String>, Option<String>) {
    let log = envoy.access_log(count, |entry| entry.reason.as_deref() == Some(REASON)).await;
    let entry = log.into_iter().next_back().expect("a line");
    (entry.status, entry.detail, entry.details)
}

/// All that can be wrong with an upstream before its headers, over the protocols given.
async fn replaced(http2_upstream: bool, client: fn(SocketAddr) -> Client, workers: usize) {
    let turn = Turn::shared().await;
    let mut upstream = Upstream::start().await;
    let cluster = if http2_upstream { upstream.cluster_http2() } else { upstream.cluster() };
    let routed = listener(cluster).default_route(json!({ "route": { "timeout": "0.4s" } }));
    let envoy = turn.start(Bootstrap::new(routed).concurrency(workers)).await;
    let client = client(envoy.address());
    let leaving = "x-leftover=of the failure";
    let details = Some("outrigger_failure_reviews".to_owned());
    let mut replacements = 0;

    for (manner, detail) in [
        (Manner::Failing(500), "500"),
        (Manner::Failing(503), "503"),
        (Manner::Resetting, "503"),
        (Manner::Hanging, "504"),
    ] {
        upstream.behave("/reviews", manner);
        for (method, body) in [(Method::GET, 0), (Method::POST, 100_000)] {
            let asked = client
                .request(method, "/reviews/1")
                .header("x-answer-header", leaving)
                .header("x-answer-header", "cache-control=max-age=60")
                .header("x-answer-size", "50000")
                .body(vec![b'b'; body]);
            assert_replaced(&send(asked).await);
            replacements += 1;
            let expected = (200, Some(detail.to_owned()), details.clone());
            assert_eq!(logged(&envoy, replacements).await, expected, "{manner:?}");
            // The connection, and Envoy's to the upstream, are in order.
            let next = send(client.request(Method::GET, "/elsewhere").header("x-answer-header", leaving)).await;
            assert_eq!((next.status, next.reason()), (200, None));
            assert_eq!(next.header("x-leftover"), Some("of the failure"));
        }
        let head = send(client.request(Method::HEAD, "/reviews/1")).await;
        replacements += 1;
        assert_eq!((head.status, head.reason(), head.body.len()), (200, Some(REASON), 0));
        assert_eq!(head.header("content-length"), Some("14"));
    }

    upstream.crash();
    assert_replaced(&client.get("/reviews/1").await);
    replacements += 1;
    assert_eq!(logged(&envoy, replacements).await, (200, Some("503".to_owned()), details), "nobody is there");
    upstream.revive().await;
    upstream.behave("/reviews", Manner::Well);
    let healed = client.get("/reviews/1").await;
    assert_eq!((healed.status, healed.reason()), (200, None));

    let count = replacements as f64;
    let served = [("fallback", "reviews-empty"), ("reason", REASON)];
    envoy.expect_metric("outrigger_fallbacks_total", &served, count).await;
    envoy.expect_metric("outrigger_requests_total", &[("operation", "reviews"), ("outcome", "degraded")], count).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_before_the_headers_are_replaced_over_http_1() {
    replaced(false, Client::new, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_before_the_headers_are_replaced_over_http_2() {
    replaced(true, Client::http2, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_failure_of_the_last_try_is_replaced() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let routed = listener(upstream.cluster()).default_route(json!({
        "route": { "retry_policy": { "retry_on": "5xx", "num_retries": 2, "per_try_timeout": "0.2s",
                                     "retry_back_off": { "base_interval": "0.001s" } } },
    }));
    let envoy = turn.start(Bootstrap::new(routed)).await;
    let client = envoy.client();

    for (manner, path, detail) in
        [(Manner::Hanging, "/reviews/slow", "504"), (Manner::Failing(502), "/reviews/bad", "502")]
    {
        upstream.behave(path, manner);
        assert_replaced(&client.get(path).await);
        assert_eq!(upstream.count(path), 3, "after all of Envoy's own retries");
        let log = envoy.access_log(1, |entry| entry.path.as_deref() == Some(path)).await;
        assert_eq!(log[0].detail.as_deref(), Some(detail));
    }
    // Whole requests are counted, not tries.
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "degraded")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_reset_or_runs_out_of_tries_gets_the_fallbacks_status() {
    let turn = Turn::shared().await;
    let mut upstream = Upstream::start().await;
    let routed = listener(upstream.cluster_http2()).default_route(json!({
        "route": { "retry_policy": { "retry_on": "5xx,reset", "num_retries": 1, "per_try_timeout": "0.2s",
                                     "retry_back_off": { "base_interval": "0.001s" } } },
    }));
    let envoy = turn.start(Bootstrap::new(routed).concurrency(2)).await;
    let client = Client::http2(envoy.address());
    // A call with an empty message, in gRPC's frame.
    let call = async |path: &str| {
        let asked = client.request(Method::POST, path).header("content-type", "application/grpc");
        send(asked.header("te", "trailers").body(vec![0; 5])).await
    };

    for (manner, path) in [
        (Manner::Resetting, "/reviews/reset"),
        (Manner::Hanging, "/reviews/hanging"),
        (Manner::Failing(503), "/reviews/failing"),
    ] {
        upstream.behave(path, manner);
        let answer = call(path).await;
        assert_eq!((answer.status, answer.reason()), (200, Some(REASON)), "{manner:?} {answer:?}");
        assert_eq!(answer.header("grpc-status"), Some("14"), "{manner:?}: a page is no answer to a call");
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(upstream.count(path), 2, "after Envoy's own retry");
    }
    upstream.crash();
    let answer = call("/reviews/nobody").await;
    assert_eq!((answer.header("grpc-status"), answer.reason()), (Some("14"), Some(REASON)));
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "degraded")], 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_failure_or_not_named_passes_as_it_is() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = turn.start(Bootstrap::new(listener(upstream.cluster()))).await;

    for client in [envoy.client(), Client::http2(envoy.address())] {
        for (path, status) in [("/reviews/1", "404"), ("/reviews/1", "429"), ("/orders", "500"), ("/orders", "504")] {
            let answer = client.get_with(path, "x-answer-status", status).await;
            assert_eq!((answer.status.to_string().as_str(), answer.reason()), (status, None));
            assert_eq!(answer.json()["path"], path, "with its own body");
        }
        let refused_further_in = client
            .request(Method::GET, "/reviews/1")
            .header("x-answer-status", "503")
            .header("x-answer-header", "x-envoy-ratelimited=true");
        assert_eq!((send(refused_further_in).await.status), 503, "on purpose, by somebody else");
        let sorry = client.get_with("/orders", "x-answer-status", "503").await;
        assert_eq!((sorry.status, sorry.text().as_str()), (503, "back in a minute"));
        assert_eq!((sorry.reason(), sorry.header("retry-after")), (Some("failure/orders"), Some("30")));
        assert_eq!(sorry.header("x-envoy-ratelimited"), Some("true"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_where_failures_are_replaced() {
    const SIZE: usize = 5_000_000;
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = turn.start(Bootstrap::new(listener(upstream.cluster()))).await;
    let expected = checksum(&page("/reviews/large", SIZE));

    for client in [envoy.client(), Client::http2(envoy.address())] {
        let sized = client.get_with("/reviews/large", "x-answer-size", &SIZE.to_string()).await;
        assert_eq!((sized.status, checksum(&sized.body)), (200, expected));
        let asked = client.request(Method::GET, "/reviews/large").header("x-answer-size", SIZE.to_string());
        let chunked = send(asked.header("x-answer-chunked", "yes")).await;
        assert_eq!((chunked.status, checksum(&chunked.body)), (200, expected));
        let body: Vec<u8> = page("up", SIZE);
        let uploaded = send(client.request(Method::POST, "/reviews/large").body(body.clone())).await;
        assert_eq!(uploaded.json()["body_sum"], checksum(&body));
        // A large page that says failure goes nowhere.
        let asked = client.request(Method::GET, "/reviews/large").header("x-answer-size", SIZE.to_string());
        assert_replaced(&send(asked.header("x-answer-status", "500")).await);
        assert_eq!(client.get("/reviews/after").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_in_the_middle_of_a_body_is_seen_by_the_client_and_counted() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy();
    policy["breakers"] = json!([{ "name": "reviews", "operations": ["reviews"], "trip": { "consecutive_failures": 3 },
                                  "open_for": "5m", "max_open_for": "5m" }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    for broken in 1..=3 {
        upstream.behave("/reviews", Manner::Breaking);
        let mut wire = Wire::connect(envoy.address()).await;
        wire.send(request("/reviews/1", "")).await;
        let head = wire.head().await;
        assert_eq!((head.status, head.header("x-outrigger-reason")), (200, None), "nothing was wrong yet");
        assert_eq!(head.header("content-length"), Some(BROKEN_PAGE.to_string().as_str()));
        wire.read(BROKEN_PAGE / 2).await;
        upstream.behave("/reviews", Manner::Well);
        assert!(wire.rest().await.is_empty(), "and then the connection is closed");
        envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], f64::from(broken)).await;
    }
    let opened = [("breaker", "reviews"), ("to", "open"), ("cause", "consecutive_failures")];
    envoy.expect_metric("outrigger_breaker_transitions_total", &opened, 1.0).await;
    // A breaker without a fallback of its own takes that of the rule.
    let answer = envoy.client().get("/reviews/1").await;
    assert_eq!((answer.status, answer.reason()), (200, Some("breaker/reviews")));
    assert_eq!(answer.json(), json!({ "reviews": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_failures_open_a_breaker_like_any_other() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy();
    policy["breakers"] = json!([{ "name": "all", "trip": { "consecutive_failures": 5 }, "open_for": "5m",
                                  "max_open_for": "5m", "fallback": "sorry" }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();
    upstream.behave("/reviews", Manner::Failing(503));

    for _ in 0..5 {
        assert_replaced(&client.get("/reviews/1").await);
    }
    let refusal = client.get("/reviews/1").await;
    assert_eq!((refusal.status, refusal.reason()), (503, Some("breaker/all")), "its own fallback comes first");
    assert_eq!(refusal.text(), "back in a minute");
    assert_eq!(upstream.count("/reviews/1"), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_in_its_headers_gets_the_fallbacks_status_and_one_in_its_trailers_its_own() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let policy = json!({
        "operations": [{ "name": "reviews", "match": { "paths": ["/grpc.health.*"] } }],
        "fallbacks": [{ "name": "empty", "status": 200, "text": "none", "grpc_status": 10 }],
        "on_failure": [{ "operations": ["reviews"], "fallback": "empty" }],
    });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let filter = Filter::new(&policy);
    let bootstrap = Bootstrap::new(Listener::to(upstream.cluster()).filter(filter.clone()))
        .listener(Listener::to(Cluster::http2(nobody.expect("a free port"))).filter(filter).named("nobody"));
    let envoy = turn.start(bootstrap).await;
    let mut client = connect(envoy.address()).await;

    for _ in 0..2 {
        let failure = client.check(about("unavailable")).await.expect_err("out of order");
        assert_eq!((failure.code(), metadata(&failure, "x-outrigger-reason")), (Code::Aborted, Some(REASON)));
        let other = client.check(about("unknown")).await.expect_err("not there");
        assert_eq!((other.code(), metadata(&other, "x-outrigger-reason")), (Code::NotFound, None));
        client.check(about("")).await.expect("serving");
        let mut watch = client.watch(about("unavailable")).await.expect("a stream").into_inner();
        watch.message().await.expect("one message comes");
        assert_eq!(watch.message().await.expect_err("then trailers").code(), Code::Unavailable, "too late to replace");
    }
    let mut lonely = connect(envoy.address_of("nobody")).await;
    let failure = lonely.check(about("")).await.expect_err("nobody is there");
    assert_eq!((failure.code(), metadata(&failure, "x-outrigger-reason")), (Code::Aborted, Some(REASON)));

    assert_eq!(logged(&envoy, 3).await.1.as_deref(), Some("503"));
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "degraded")], 3.0).await;
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "failure")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_in_place_of_a_failure_is_whole_on_the_wire() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = turn.start(Bootstrap::new(listener(upstream.cluster()))).await;
    let mut wire = Wire::connect(envoy.address()).await;
    // Two requests at once: whatever the first leaves behind is taken for the second's answer.
    let first = request(
        "/reviews/1",
        "origin: https://page.example\r\nx-answer-status: 500\r\nx-answer-chunked: yes\r\nx-answer-size: 100000\r\n",
    );
    wire.send([first, request("/elsewhere", "")].concat()).await;

    let replaced = wire.reply().await;
    let next = wire.reply().await;

    assert_eq!((replaced.status, replaced.body.as_slice()), (200, br#"{"reviews":[]}"#.as_slice()));
    // As the response was framed: one that did not say how long it is may have no body at all.
    assert_eq!(field(&replaced.head, "transfer-encoding"), Some("chunked"));
    assert_eq!(replaced.head.matches("content-length").count(), 0);
    assert_eq!(next.status, 200);
    assert!(String::from_utf8_lossy(&next.body).contains("/elsewhere"));
    let first =
        request("/reviews/1", "origin: https://page.example\r\nx-answer-status: 500\r\nx-answer-size: 100000\r\n");
    wire.send([first, request("/elsewhere", "")].concat()).await;
    let (replaced, next) = (wire.reply().await, wire.reply().await);
    assert_eq!((replaced.status, replaced.body.as_slice()), (200, br#"{"reviews":[]}"#.as_slice()));
    assert_eq!(field(&replaced.head, "transfer-encoding"), None);
    assert_eq!(replaced.head.matches("content-length").count(), 1);
    assert_eq!(next.status, 200);
}

/// With a body before them and without one.
#[tokio::test(flavor = "multi_thread")]
async fn the_trailers_of_a_failure_go_nowhere() {
    let turn = Turn::shared().await;
    const HEAD: &str = "HTTP/1.1 503 Sorry\r\ntransfer-encoding: chunked\r\ntrailer: x-last\r\n\r\n";
    const LAST: &str = "0\r\nx-last: failure\r\n\r\n";
    let with_body: &str = Box::leak(format!("{HEAD}7\r\nfailure\r\n{LAST}").into_boxed_str());
    let without: &str = Box::leak(format!("{HEAD}{LAST}").into_boxed_str());
    for (said, body) in [(with_body, r#"{"reviews":[]}"#), (without, "")] {
        let upstream = RawUpstream::hang_up(said).await;
        let trailers = json!({ "http_protocol_options": { "enable_trailers": true } });
        let envoy = turn.start(Bootstrap::new(listener(upstream.cluster()).connection_manager(trailers))).await;
        let mut wire = Wire::connect(envoy.address()).await;
        let reply = wire.get("/reviews/1", "origin: https://page.example\r\nte: trailers\r\n").await;
        assert_eq!((reply.status, reply.header("x-outrigger-reason")), (200, Some(REASON)), "{}", reply.head);
        assert_eq!((String::from_utf8_lossy(&reply.body).as_ref(), reply.trailers.as_str()), (body, ""));
        envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    }
}
