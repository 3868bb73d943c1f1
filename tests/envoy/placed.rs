//! What takes the place of an answer, in front of filters that work on responses, and for whom it is.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::{Bootstrap, any};
use crate::rig::client::{Answer, Client, send};
use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::Envoy;
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Manner, Upstream};
use crate::rig::wire::Wire;

const PAGE: &str = "https://page.example";
const FRESH: &str = "cache-control=public, max-age=60";

fn policy(fallback: Value) -> Value {
    json!({
        "operations": [{ "name": "reviews", "match": { "paths": ["/reviews/*", "/grpc.health.*"] } }],
        "fallbacks": [fallback],
        "on_failure": [{ "operations": ["reviews"], "fallback": "none", "stale": { "max_age": "10m" } }],
    })
}

fn nothing() -> Value {
    json!({ "name": "none", "status": 200, "json": { "reviews": [] } })
}

/// Envoy's CORS filter lets pages of one origin read everything.
fn cors() -> Value {
    let policy = json!({ "allow_origin_string_match": [{ "exact": PAGE }], "expose_headers": "x-outrigger-reason" });
    let policy = any("envoy.extensions.filters.http.cors.v3.CorsPolicy", policy);
    json!({ "typed_per_filter_config": { "envoy.filters.http.cors": policy } })
}

async fn behind_cors(turn: &Turn, upstream: &Upstream, policy: &Value) -> Envoy {
    let listener = Listener::to(upstream.cluster())
        .envoys("cors", "Cors")
        .filter(Filter::new(policy))
        .default_route(cors())
        .default_route(json!({ "route": { "timeout": "0.4s" } }));
    turn.start(Bootstrap::new(listener)).await
}

async fn from_page(client: &Client, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = client.request(Method::GET, path).header("origin", PAGE);
    send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// However the service fails, over both protocols.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_in_front_sees_what_takes_the_place_of_a_failure() {
    let turn = Turn::shared().await;
    let mut upstream = Upstream::start().await;
    let envoy = behind_cors(&turn, &upstream, &policy(nothing())).await;
    let assert_readable = |answer: &Answer, body: &str| {
        assert_eq!((answer.status, answer.text().as_str()), (200, body), "{answer:?}");
        assert_eq!(answer.reason(), Some("failure/reviews"));
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer:?}");
        let leftovers = ["set-cookie", "etag", "content-encoding", "x-leftover", "retry-after"];
        assert!(leftovers.iter().all(|name| answer.header(name).is_none()), "of the failure: {:?}", answer.headers);
    };
    for client in [envoy.client(), Client::http2(envoy.address())] {
        let failing: [(&str, &str); 6] = [
            ("x-answer-status", "503"),
            ("x-answer-header", "set-cookie=a=b"),
            ("x-answer-header", "etag=1"),
            ("x-answer-header", "content-encoding=br"),
            ("x-answer-header", "x-leftover=1"),
            ("x-answer-header", "retry-after=7"),
        ];
        for size in ["1", "14", "1000000"] {
            for chunked in [None, Some(("x-answer-chunked", "yes"))] {
                let headers: Vec<_> = failing.into_iter().chain([("x-answer-size", size)]).chain(chunked).collect();
                assert_readable(&from_page(&client, "/reviews/1", &headers).await, r#"{"reviews":[]}"#);
            }
        }
        for manner in [Manner::Resetting, Manner::Hanging, Manner::Failing(500)] {
            upstream.behave("/reviews", manner);
            assert_readable(&from_page(&client, "/reviews/1", &[]).await, r#"{"reviews":[]}"#);
            upstream.behave("/reviews", Manner::Well);
        }
        // So does the last good answer.
        let kept = from_page(&client, "/reviews/2", &[("x-answer-header", FRESH), ("x-answer-size", "20000")]).await;
        assert_readable(&from_page(&client, "/reviews/2", &[("x-answer-status", "503")]).await, &kept.text());
        let head = client.request(Method::HEAD, "/reviews/1").header("origin", PAGE).header("x-answer-status", "503");
        let head = send(head).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some("14")), "{head:?}");
        assert_eq!(head.header("access-control-allow-origin"), Some(PAGE));
        assert_eq!(client.get("/elsewhere").await.status, 200, "the connection is in order");
    }
    upstream.crash();
    assert_readable(&from_page(&envoy.client(), "/reviews/1", &[]).await, r#"{"reviews":[]}"#);
    let log = envoy.access_log(1, |entry| entry.detail.is_some()).await;
    assert_eq!((log[0].reason.as_deref(), log[0].detail.as_deref()), (Some("failure/reviews"), Some("503")));
    assert_eq!((log[0].status, log[0].details.as_deref()), (200, Some("via_upstream")), "Envoy's own words stay");
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// A response that ends with its headers cannot be given a body: the reply goes past the filters in front.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_failure_has_no_body_the_fallbacks_own_cors_fills_in() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut fallback = nothing();
    fallback["cors"] = json!({ "allow_origin": [PAGE] });
    let envoy = behind_cors(&turn, &upstream, &policy(fallback)).await;
    let bare = [("x-answer-status", "503"), ("x-answer-size", "0")];
    for client in [envoy.client(), Client::http2(envoy.address())] {
        let answer = from_page(&client, "/reviews/1", &bare).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"reviews":[]}"#));
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer:?}");
        let answer = from_page(&client, "/reviews/1", &[("x-answer-status", "503")]).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "and once where both know it: {answer:?}");
    }
}

/// A service that dies in the middle of its error page is just what a fallback is for.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_breaks_off_or_never_comes_breaks_off_no_reply() {
    let turn = Turn::shared().await;
    let mut fallback = nothing();
    fallback["cors"] = json!({ "allow_origin": [PAGE] });
    let begun = [
        "HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10\r\n\r\nabcde",
    ];
    for said in begun {
        let upstream = RawUpstream::hang_up(said).await;
        let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy(fallback.clone())));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        for client in [envoy.client(), Client::http2(envoy.address())] {
            for answer in [client.get("/reviews/1").await, from_page(&client, "/reviews/1", &[]).await] {
                assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"reviews":[]}"#), "{said}: {answer:?}");
                assert_eq!(answer.reason(), Some("failure/reviews"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_can_become_a_reply_without_a_body() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let bare = json!({ "name": "none", "status": 204 });
    let envoy = behind_cors(&turn, &upstream, &policy(bare)).await;
    for client in [envoy.client(), Client::http2(envoy.address())] {
        for chunked in [None, Some(("x-answer-chunked", "yes"))] {
            for size in ["0", "5000"] {
                let headers = [("x-answer-status", "503"), ("x-answer-size", size)];
                let headers: Vec<_> = headers.into_iter().chain(chunked).collect();
                let answer = from_page(&client, "/reviews/1", &headers).await;
                assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{answer:?}");
                assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer:?}");
                assert_eq!(client.get("/elsewhere").await.json()["path"], "/elsewhere", "the connection is in order");
            }
        }
    }
}

// === gRPC-Web ========================================================================================================

/// What a browser's client reads of an answer: its status, from the headers or from the last frame of the body.
fn grpc_web_status(answer: &Answer) -> Option<String> {
    if let Some(status) = answer.header("grpc-status") {
        return Some(status.to_owned());
    }
    let mut rest = answer.body.as_slice();
    while let [kind, a, b, c, d, after @ ..] = rest {
        let (frame, after) = after.split_at_checked(u32::from_be_bytes([*a, *b, *c, *d]) as usize)?;
        if *kind == 0x80 {
            let trailers = String::from_utf8_lossy(frame).into_owned();
            return trailers.lines().find_map(|line| Some(line.strip_prefix("grpc-status:")?.trim().to_owned()));
        }
        rest = after;
    }
    None
}

async fn call(client: &Client, service: &str, headers: &[(&str, &str)]) -> Answer {
    let name = service.as_bytes();
    let mut message = vec![0, 0, 0, 0, 2 + name.len() as u8, 10, name.len() as u8];
    message.extend(name);
    let request = client.request(Method::POST, "/grpc.health.v1.Health/Check").header("x-grpc-web", "1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    send(request.header("content-type", "application/grpc-web+proto").body(message)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_grpc_web_a_refusal_keeps_its_status() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let policy = json!({ "limits": [{ "name": "calls", "token_bucket": supply(1) }] });
    let listener = Listener::to(upstream.cluster()).envoys("grpc_web", "GrpcWeb").filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    for client in [envoy.client(), Client::http2(envoy.address())] {
        let first = call(&client, "", &[]).await;
        assert!(matches!(grpc_web_status(&first).as_deref(), Some("0" | "8")), "{first:?}");
        let refusal = call(&client, "", &[]).await;
        assert_eq!((refusal.status, grpc_web_status(&refusal).as_deref()), (200, Some("8")), "{refusal:?}");
        assert_eq!(refusal.header("grpc-message"), Some("refused by limit/calls"));
        assert!(refusal.header("content-type").is_some_and(|it| it.starts_with("application/grpc-web")), "{refusal:?}");
        assert_eq!(refusal.reason(), Some("limit/calls"));
    }
}

/// To a filter in front of `grpc_web` the request is HTTP, and so is the refusal. Clients make a status of its status themselves.
#[tokio::test(flavor = "multi_thread")]
async fn in_front_of_grpc_web_a_refusal_is_one_of_http() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let policy = json!({ "limits": [{ "name": "calls", "token_bucket": supply(1) }] });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy)).envoys("grpc_web", "GrpcWeb");
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let client = envoy.client();
    assert_eq!(grpc_web_status(&call(&client, "", &[]).await).as_deref(), Some("0"));
    let refusal = call(&client, "", &[]).await;
    assert_eq!((refusal.status, refusal.reason()), (429, Some("limit/calls")), "{refusal:?}");
    assert_eq!(refusal.header("content-type"), Some("application/problem+json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_grpc_web_a_failed_call_gets_the_fallbacks_status() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let mut fallback = nothing();
    fallback["grpc_status"] = json!(10);
    let filter = Filter::new(&policy(fallback));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let nobody = Cluster::http2(nobody.expect("a free port"));
    let front = |cluster| Listener::to(cluster).envoys("grpc_web", "GrpcWeb").filter(filter.clone());
    let bootstrap = Bootstrap::new(front(upstream.cluster())).listener(front(nobody).named("nobody"));
    let envoy = turn.start(bootstrap).await;
    for address in [envoy.address(), envoy.address_of("nobody")] {
        for client in [Client::new(address), Client::http2(address)] {
            let answer = call(&client, "unavailable", &[]).await;
            assert_eq!((answer.status, grpc_web_status(&answer).as_deref()), (200, Some("10")), "{answer:?}");
            let kind = answer.header("content-type").unwrap_or_default();
            assert!(kind.starts_with("application/grpc-web"), "{answer:?}");
            assert_eq!(answer.reason(), Some("failure/reviews"));
        }
    }
}

// === for whom it is ==================================================================================================

/// The very input: with the service down, a review that somebody writes was answered `200 {"reviews":[]}`.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_never_told_a_success_that_was_made_up() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(nothing());
    policy["breakers"] = json!([{ "name": "reviews", "operations": ["reviews"], "trip": { "consecutive_failures": 5 },
                                  "open_for": "5m", "max_open_for": "5m" }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();
    upstream.behave("/", Manner::Failing(503));

    for _ in 0..4 {
        let lost = send(client.request(Method::POST, "/reviews/1")).await;
        assert_eq!((lost.status, lost.reason()), (503, None), "the failure itself");
    }
    let read = client.get("/reviews/1").await;
    assert_eq!((read.status, read.text().as_str()), (200, r#"{"reviews":[]}"#));
    let refused = send(client.request(Method::POST, "/reviews/1")).await;
    assert_eq!((refused.status, refused.reason()), (503, Some("breaker/reviews")), "the standard refusal");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!(client.get("/reviews/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_fallback_is_sent_to_the_byte() {
    let turn = Turn::shared().await;
    let json = r#"{ "id": 123456789012345678901234567890, "price": 1.10, "\u006bey": [1e2,  -0.0] }"#;
    let policy = format!(
        r#"{{ "switches": [{{ "name": "s", "active": true, "fallback": "f" }}],
              "fallbacks": [{{ "name": "f", "status": 503, "json": {json} }}] }}"#
    );
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::text(policy)))).await;
    assert_eq!(envoy.client().get("/").await.text(), json);
}

// === streams of events ===============================================================================================

/// As clients of the Model Context Protocol ask.
const EITHER: (&str, &str) = ("accept", "application/json, text/event-stream");

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_events_among_others_has_fallbacks_retries_and_a_deadline_and_may_become_a_stream() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(nothing());
    policy["deadlines"] = json!([{ "default": "1s" }]);
    policy["retries"] = json!([{ "max_attempts": 2, "retry_on": ["5xx"], "operations": ["other"] }]);
    let timed = json!({ "name": "timed", "match": { "paths": ["/timed/*"] } });
    policy["operations"].as_array_mut().expect("a list").push(timed);
    policy["deadlines"][0]["operations"] = json!(["reviews", "other"]);
    let timed = json!({ "operations": ["timed"], "max_attempts": 3, "retry_on": ["5xx", "reset"], "timeout": "1s" });
    policy["retries"].as_array_mut().expect("a list").push(timed);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let client = envoy.client();

    let failed = client.request(Method::GET, "/reviews/1").header(EITHER.0, EITHER.1).header("x-answer-status", "503");
    assert_eq!(send(failed).await.reason(), Some("failure/reviews"), "a fallback");
    let failed = client.request(Method::GET, "/elsewhere").header(EITHER.0, EITHER.1).header("x-answer-status", "503");
    assert_eq!(send(failed).await.status, 503);
    assert_eq!(upstream.count("/elsewhere"), 2, "a retry");
    upstream.behave("/hanging", Manner::Hanging);
    let started = std::time::Instant::now();
    let late = client.get_with("/hanging", EITHER.0, EITHER.1).await;
    assert_eq!(late.status, 504, "a deadline");
    assert!(started.elapsed() < Duration::from_secs(10), "not the route's");

    upstream.behave("/timed/out", Manner::Late(Duration::from_secs(3)));
    for accept in [EITHER.1, "application/json"] {
        let started = std::time::Instant::now();
        let late = client.get_with("/timed/out", EITHER.0, accept).await;
        assert_eq!(late.status, 504, "{accept}");
        let took = started.elapsed();
        assert!(Duration::from_millis(950) < took && took < Duration::from_millis(1_900), "{took:?}: {accept}");
    }
    // One each, or a retry that Envoy begins in the very moment.
    assert!(upstream.count("/timed/out") <= 3, "{} attempts", upstream.count("/timed/out"));

    // What has begun goes on: half a page, and the rest of it long after the deadline, or the time of the rule for retries.
    upstream.behave("/events", Manner::Breaking);
    upstream.behave("/timed/events", Manner::Breaking);
    for path in ["/events", "/timed/events"] {
        assert_goes_on(&envoy, path).await;
    }
}

/// Half of a stream of events comes, and it lasts.
async fn assert_goes_on(envoy: &Envoy, path: &str) {
    let mut wire = Wire::connect(envoy.address()).await;
    let lines = format!("{}: {}\r\nx-answer-header: content-type=text/event-stream\r\n", EITHER.0, EITHER.1);
    wire.send(crate::rig::wire::request(path, lines)).await;
    assert_eq!(wire.head().await.status, 200);
    wire.read(5_000).await;
    let cut = tokio::time::timeout(Duration::from_secs(3), wire.rest()).await;
    assert!(cut.is_err(), "Envoy cut {path} off at its deadline: {} bytes", cut.unwrap_or_default().len());
}

// === the service's last word =========================================================================================

/// Kept, then this; is the page still served in an outage?
async fn survives(envoy: &Envoy, path: &str, later: reqwest::RequestBuilder) -> bool {
    let client = envoy.client();
    let fresh = client.request(Method::GET, path).header("x-answer-header", FRESH);
    assert_eq!(send(fresh.header("x-answer-header", "etag=\"1\"")).await.status, 200);
    send(later).await;
    let served = client.get_with(path, "x-answer-status", "503").await;
    served.header("cache-status").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_says_later_of_an_address_counts() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy(nothing())));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    // Of another connection, and so of the other worker.
    let other = envoy.client();
    let said = |method: Method, path: &str, status: &str| {
        other.request(method, path).header("x-answer-status", status.to_owned()).header("x-answer-size", "0")
    };
    assert!(!survives(&envoy, "/reviews/1", said(Method::DELETE, "/reviews/1", "204")).await, "DELETE 204");
    assert!(!survives(&envoy, "/reviews/2", said(Method::PUT, "/reviews/2", "200")).await);
    assert!(!survives(&envoy, "/reviews/3", said(Method::PATCH, "/reviews/3", "200")).await);
    let located = said(Method::POST, "/orders", "201").header("x-answer-header", "location=/reviews/4");
    assert!(!survives(&envoy, "/reviews/4", located).await, "Location");
    let located = said(Method::POST, "/orders", "200").header("x-answer-header", "content-location=/reviews/5");
    assert!(!survives(&envoy, "/reviews/5", located).await, "Content-Location");
    assert!(!survives(&envoy, "/reviews/6", said(Method::GET, "/reviews/6", "404")).await, "gone");
    assert!(!survives(&envoy, "/reviews/7", said(Method::GET, "/reviews/7", "301")).await, "moved");
    let private = said(Method::GET, "/reviews/8", "200").header("x-answer-header", "cache-control=private");
    assert!(!survives(&envoy, "/reviews/8", private).await, "made private");
    assert!(survives(&envoy, "/reviews/9", said(Method::DELETE, "/reviews/9", "404")).await, "a write that failed");
    assert!(survives(&envoy, "/reviews/10", said(Method::GET, "/reviews/10", "500")).await);
    assert!(survives(&envoy, "/reviews/11", said(Method::DELETE, "/reviews/12", "204")).await, "another address");
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

/// Envoy lets small letters pass over HTTP/2, and the service takes them for capitals.
#[tokio::test(flavor = "multi_thread")]
async fn a_get_in_small_letters_is_a_get_and_no_write() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(nothing());
    policy["fallbacks"][0]["methods"] = json!(["get"]);
    policy["retries"] = json!([{ "methods": ["get"], "max_attempts": 2, "retry_on": ["5xx"] }]);
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let http2 = Client::http2(envoy.address());
    let ask = |method: &str, path: &str| http2.request(method.parse().expect("a method"), path);

    for (requests, method) in ["get", "GET"].into_iter().enumerate() {
        let failed = send(ask(method, "/reviews/none").header("x-answer-status", "503")).await;
        assert_eq!(failed.reason(), Some("failure/reviews"), "{method}: {failed:?}");
        assert_eq!(upstream.count("/reviews/none"), 2 * (requests + 1), "{method}: a retry each");
    }
    let other = ask("get", "/orders").header("x-answer-header", "location=/reviews/1");
    assert!(survives(&envoy, "/reviews/1", other).await, "no write");
    let write = ask("delete", "/reviews/2").header("x-answer-status", "204").header("x-answer-size", "0");
    assert!(!survives(&envoy, "/reviews/2", write).await, "a write");
    assert!(!envoy.log().contains("retries nothing"), "{}", envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_renews_what_it_confirms() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut policy = policy(nothing());
    policy["on_failure"][0]["stale"]["max_age"] = json!("4s");
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy));
    let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
    let client = envoy.client();
    let tag = r#"etag="1""#;
    for path in ["/reviews/renewed", "/reviews/aged"] {
        let fresh = client.request(Method::GET, path).header("x-answer-header", FRESH).header("x-answer-header", tag);
        assert_eq!(send(fresh).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let conditional = client.request(Method::GET, "/reviews/renewed").header("if-none-match", r#""1""#);
    let confirmed =
        conditional.header("x-answer-status", "304").header("x-answer-size", "0").header("x-answer-header", tag);
    assert_eq!(send(confirmed).await.status, 304);
    tokio::time::sleep(Duration::from_millis(2_000)).await;

    let aged = client.get_with("/reviews/aged", "x-answer-status", "503").await;
    assert_eq!(aged.header("cache-status"), None, "{aged:?}");
    let renewed = client.get_with("/reviews/renewed", "x-answer-status", "503").await;
    assert!(renewed.header("cache-status").is_some(), "{renewed:?}");
    assert_eq!(renewed.json()["path"], "/reviews/renewed", "with the body that was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_gets_what_it_can_read() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let mut fallback = nothing();
    fallback["cors"] = json!({ "allow_origin": [PAGE] });
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy(fallback)));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let client = envoy.client();
    send(client.request(Method::GET, "/reviews/1").header("x-answer-header", FRESH)).await;

    let page = from_page(&client, "/reviews/1", &[("x-answer-status", "503")]).await;
    assert_eq!(page.header("access-control-allow-origin"), Some(PAGE), "{page:?}");
    assert_eq!(page.text(), r#"{"reviews":[]}"#);
    let no_page = client.get_with("/reviews/1", "x-answer-status", "503").await;
    assert!(no_page.header("cache-status").is_some(), "{no_page:?}");
}

/// The very input: a body of which the proxy hands no header on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_get_with_a_body_is_answered_is_nobody_elses() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy(nothing())));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let mut wire = Wire::connect(envoy.address()).await;
    let head = format!("GET /reviews/1 HTTP/1.1\r\nhost: {}\r\nx-answer-header: {FRESH}\r\n", envoy.address());
    wire.send(format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nwhat?\r\n0\r\n\r\n")).await;
    assert_eq!(wire.reply().await.status, 200);
    let bare = envoy.client().request(Method::GET, "/reviews/3").header("x-answer-header", FRESH);
    assert_eq!(send(bare).await.status, 200);

    for (path, kept) in [("/reviews/1", false), ("/reviews/3", true)] {
        let answer = envoy.client().get_with(path, "x-answer-status", "503").await;
        assert_eq!(answer.header("cache-status").is_some(), kept, "{path}: {answer:?}");
    }
}
