//! gRPC with a real client and a real server: statuses that clients understand.

use std::net::SocketAddr;

use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::grpc_upstream::GrpcUpstream;
use crate::rig::listener::Listener;
use crate::rig::policy::{one_limit, supply};
use crate::rig::turn::Turn;

pub(crate) async fn connect(address: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    HealthClient::new(endpoint.connect().await.expect("Envoy accepts HTTP/2"))
}

pub(crate) fn about(service: &str) -> Request<HealthCheckRequest> {
    Request::new(HealthCheckRequest { service: service.to_owned() })
}

pub(crate) fn metadata<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status.metadata().get(name).map(|value| value.to_str().expect("metadata are text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_call_is_resource_exhausted_and_not_to_be_retried() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let policy = one_limit("calls", supply(2));
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;
    let mut client = connect(envoy.address()).await;

    for _ in 0..2 {
        client.check(about("")).await.expect("within the limit");
    }
    let refusal = client.check(about("")).await.expect_err("above the limit");

    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal:?}");
    assert_eq!(metadata(&refusal, "grpc-retry-pushback-ms"), Some("-1"));
    assert_eq!(metadata(&refusal, "x-outrigger-reason"), Some("limit/calls"));
    assert_eq!(metadata(&refusal, "x-envoy-ratelimited"), Some("true"));
    let logged = &envoy.access_log(1, |entry| entry.reason.is_some()).await[0];
    assert_eq!(logged.details.as_deref(), Some("outrigger_limit_calls"));
    assert_eq!(logged.path.as_deref(), Some("/grpc.health.v1.Health/Check"));
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "limited")], 1.0).await;
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "success")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_follow_the_grpc_status_in_headers_and_in_trailers() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::text("{}"));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let mut client = connect(envoy.address()).await;

    client.check(about("")).await.expect("serving");
    let unavailable = client.check(about("unavailable")).await.expect_err("out of order");
    assert_eq!(unavailable.code(), Code::Unavailable);
    let unknown = client.check(about("unknown")).await.expect_err("not there");
    assert_eq!(unknown.code(), Code::NotFound);
    let mut watch = client.watch(about("unavailable")).await.expect("a stream").into_inner();
    watch.message().await.expect("one message comes");
    assert_eq!(watch.message().await.expect_err("then trailers").code(), Code::Unavailable);

    for (outcome, count) in [("success", 1.0), ("failure", 2.0), ("client_error", 1.0)] {
        envoy.expect_metric("outrigger_requests_total", &[("outcome", outcome)], count).await;
    }
    envoy.expect_metric("outrigger_requests_total", &[], 4.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_says_success_is_unavailable_to_a_grpc_client() {
    let turn = Turn::shared().await;
    let upstream = GrpcUpstream::start().await;
    let limit = |on: &str, fallback: &str| {
        let operations = [on];
        json!({ "name": fallback, "operations": operations, "fallback": fallback, "token_bucket": supply(1) })
    };
    let policy = json!({
        "operations": [
            { "name": "check", "match": { "paths": ["*/Check"] } },
            { "name": "watch", "match": { "paths": ["*/Watch"] } },
        ],
        "limits": [limit("check", "page"), limit("watch", "own-status")],
        "fallbacks": [
            { "name": "page", "status": 200, "json": { "status": "fine" } },
            { "name": "own-status", "status": 200, "grpc_status": 10, "text": "come back" },
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;
    let mut client = connect(envoy.address()).await;

    client.check(about("")).await.expect("within the limit");
    let refusal = client.check(about("")).await.expect_err("no page is an answer");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
    assert_eq!(metadata(&refusal, "x-outrigger-reason"), Some("limit/page"));

    client.watch(about("")).await.expect("within the limit");
    let refusal = client.watch(about("")).await.expect_err("above the limit");
    assert_eq!(refusal.code(), Code::Aborted, "{refusal:?}");
}
