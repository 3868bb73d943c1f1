//! What people give up on purpose: switches, and the replies that are served instead.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::grpc::{about, connect, metadata};
use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Answer, Client, send};
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;

const SHOP: &str = "https://shop.example.com";

/// A shop with a read-only mode, and reviews that can be given up.
fn shop(read_only: bool, no_reviews: bool) -> Value {
    json!({
        "operations": [
            { "name": "orders", "tier": "P0", "match": { "paths": ["/orders", "/orders/*"] } },
            { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } },
        ],
        "fallbacks": [
            { "name": "sorry", "status": 503, "text": "back in a minute", "retry_after": "30s",
              "cors": { "allow_origin": [SHOP], "allow_credentials": true } },
            { "name": "reviews-empty", "status": 200,
              "json": { "reviews": [], "because": "%REASON%", "of": "%OPERATION%", "request": "%REQUEST_ID%" } },
        ],
        "switches": [
            { "name": "read-only", "active": read_only, "operations": ["orders"],
              "methods": ["POST", "PUT", "PATCH", "DELETE"], "fallback": "sorry" },
            { "name": "no-reviews", "active": no_reviews, "tiers": ["P3"], "fallback": "reviews-empty" },
            { "name": "second", "active": no_reviews, "tiers": ["P3"] },
        ],
    })
}

async fn started(turn: &Turn, upstream: &Upstream, workers: usize) -> Envoy {
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&shop(true, true)));
    turn.start(Bootstrap::new(listener).concurrency(workers)).await
}

async fn request(client: &Client, method: Method, path: &str) -> Answer {
    send(client.request(method, path)).await
}

async fn read_only_mode(workers: usize) {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = started(&turn, &upstream, workers).await;
    let mut clients = envoy.clients("/elsewhere").await;
    clients.push(Client::http2(envoy.address()));
    let calls = clients.len() as f64;

    for client in &clients {
        for method in [Method::POST, Method::DELETE] {
            let refusal = request(client, method, "/orders").await;
            assert_eq!((refusal.status, refusal.text().as_str()), (503, "back in a minute"));
            assert_eq!(refusal.reason(), Some("switch/read-only"));
            assert_eq!(refusal.header("retry-after"), Some("30"));
            assert_eq!(refusal.header("content-length"), Some("16"));
            assert_eq!(
                refusal.header("x-envoy-ratelimited"),
                Some("true"),
                "so that the caller's Envoy does not retry"
            );
        }
        let read = request(client, Method::GET, "/orders").await;
        assert_eq!((read.status, read.reason()), (200, None), "reading goes on");
        let elsewhere = request(client, Method::POST, "/elsewhere").await;
        assert_eq!((elsewhere.status, elsewhere.reason()), (200, None), "and so does the rest of the shop");
    }

    assert_eq!(upstream.count("/orders") as f64, calls, "only what reads gets there");
    let logged = &envoy.access_log(1, |entry| entry.reason.is_some()).await[0];
    assert_eq!((logged.status, logged.reason.as_deref()), (503, Some("switch/read-only")));
    assert_eq!(logged.details.as_deref(), Some("outrigger_switch_read-only"));
    assert_eq!((logged.operation.as_deref(), logged.tier.as_deref()), (Some("orders"), Some("P0")));
    envoy.expect_metric("outrigger_switch_on", &[("switch", "read-only")], 1.0).await;
    let refusals = [("reason", "switch/read-only"), ("enforced", "true")];
    envoy.expect_metric("outrigger_refusals_total", &refusals, 2.0 * calls).await;
    let served = [("fallback", "sorry"), ("reason", "switch/read-only")];
    envoy.expect_metric("outrigger_fallbacks_total", &served, 2.0 * calls).await;
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "degraded")], 2.0 * calls).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_mode_refuses_writes_and_lets_reads_pass_on_two_workers() {
    read_only_mode(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_mode_refuses_writes_and_lets_reads_pass_on_four_workers() {
    read_only_mode(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_thrown_and_reset_by_an_update() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let listener = |on| Listener::to(upstream.cluster()).filter(Filter::new(&shop(on, false)));
    let envoy = turn.start(Bootstrap::new(listener(false)).by_discovery().drain_within(Duration::from_secs(1))).await;
    let gauge = [("switch", "read-only")];
    assert_eq!(request(&envoy.client(), Method::POST, "/orders").await.status, 200);
    envoy.expect_metric("outrigger_switch_on", &gauge, 0.0).await;

    for (on, status, position) in [(true, 503, 1.0), (false, 200, 0.0)] {
        envoy.publish(&[listener(on)]);
        eventually("new connections meet the new position", async || {
            (request(&envoy.client(), Method::POST, "/orders").await.status == status).then_some(())
        })
        .await;
        for client in envoy.clients("/orders").await {
            assert_eq!(request(&client, Method::POST, "/orders").await.status, status, "on every worker");
        }
        // The configuration before says otherwise until it has drained.
        envoy.expect_metric("outrigger_switch_on", &gauge, position).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_switch_that_is_on_answers_and_its_template_is_filled() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = started(&turn, &upstream, 2).await;

    for client in [envoy.client(), Client::http2(envoy.address())] {
        let answer = send(client.request(Method::GET, "/reviews/7")).await;
        assert_eq!((answer.status, answer.reason()), (200, Some("switch/no-reviews")));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.header("retry-after"), None, "it is taken for the real one");
        let told = answer.json();
        assert_eq!((&told["because"], &told["of"]), (&json!("switch/no-reviews"), &json!("reviews")));
        let id = told["request"].as_str().expect("Envoy gives each request an id");
        assert_eq!(id.len(), 36, "{id}");
    }
    assert_eq!(upstream.count("/reviews/7"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_may_read_a_refusal_if_it_may_read_the_rest() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = started(&turn, &upstream, 2).await;
    let client = envoy.client();
    let post = async |origin: &str| send(client.request(Method::POST, "/orders").header("origin", origin)).await;

    let ours = post(SHOP).await;
    let theirs = post("https://elsewhere.example.com").await;
    let nobodys = request(&client, Method::POST, "/orders").await;

    assert_eq!(ours.header("access-control-allow-origin"), Some(SHOP));
    assert_eq!(ours.header("access-control-allow-credentials"), Some("true"));
    for refusal in [&theirs, &nobodys] {
        assert_eq!(refusal.header("access-control-allow-origin"), None);
        assert_eq!(refusal.header("access-control-allow-credentials"), None);
    }
    for refusal in [ours, theirs, nobodys] {
        assert_eq!((refusal.status, refusal.text().as_str()), (503, "back in a minute"));
        let vary = refusal.header("vary").unwrap_or_default();
        assert!(vary.eq_ignore_ascii_case("origin"), "a cache must tell them apart: {:?}", refusal.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_passes_a_switch_and_what_only_looks_like_one_does_not() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = started(&turn, &upstream, 2).await;

    for client in [envoy.client(), Client::http2(envoy.address())] {
        let preflight = client
            .request(Method::OPTIONS, "/reviews/1")
            .header("origin", SHOP)
            .header("access-control-request-method", "DELETE");
        let answer = send(preflight).await;
        assert_eq!((answer.status, answer.reason()), (200, None));
        assert_eq!(answer.json()["method"], "OPTIONS", "the service answers it");

        let bare = request(&client, Method::OPTIONS, "/reviews/1").await;
        assert_eq!(bare.reason(), Some("switch/no-reviews"));
        let half = send(client.request(Method::OPTIONS, "/reviews/1").header("origin", SHOP)).await;
        assert_eq!(half.reason(), Some("switch/no-reviews"));
    }
    assert_eq!(upstream.count("/reviews/1"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_gets_the_head_of_what_get_would_get() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let envoy = started(&turn, &upstream, 2).await;

    for client in [envoy.client(), Client::http2(envoy.address())] {
        let get = request(&client, Method::GET, "/reviews/1").await;
        let head = request(&client, Method::HEAD, "/reviews/1").await;
        // A body that was sent nevertheless would be read as the beginning of the next response on this connection.
        let next = request(&client, Method::GET, "/orders").await;

        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.reason(), get.reason());
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(head.header("content-length"), get.header("content-length"));
        assert_eq!((next.status, next.reason()), (200, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_gets_a_grpc_status() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let policy = json!({
        "operations": [
            { "name": "check", "match": { "paths": ["*/Check"] } },
            { "name": "watch", "match": { "paths": ["*/Watch"] } },
        ],
        "fallbacks": [{ "name": "come-back", "status": 200, "text": "later", "grpc_status": 10 }],
        "switches": [
            { "name": "no-check", "active": true, "operations": ["check"] },
            { "name": "no-watch", "active": true, "operations": ["watch"], "fallback": "come-back" },
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;
    let mut client = connect(envoy.address()).await;

    for _ in 0..2 {
        let refusal = client.check(about("")).await.expect_err("given up");
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
        assert_eq!(metadata(&refusal, "x-outrigger-reason"), Some("switch/no-check"));
        assert_eq!(metadata(&refusal, "grpc-retry-pushback-ms"), Some("-1"));
        let refusal = client.watch(about("")).await.expect_err("given up");
        assert_eq!(refusal.code(), Code::Aborted, "{refusal:?}");
        assert_eq!(metadata(&refusal, "x-outrigger-reason"), Some("switch/no-watch"));
    }
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "degraded")], 4.0).await;
}
