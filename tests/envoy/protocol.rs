//! HTTP in all its shapes: what limits must hold for, and what the filter must not break.

use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{limits_by_path, one_limit, supply};
use crate::rig::raw_upstream::RawUpstream;
use crate::rig::turn::Turn;
use crate::rig::wire::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_without_a_host_is_limited() {
    let turn = Turn::shared().await;
    let listener = Listener::direct().filter(Filter::new(&one_limit("all", supply(2)))).connection_manager(json!({
        "http_protocol_options": { "accept_http_10": true, "default_host_for_http_10": "shop.example.com" },
    }));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    for status in [200, 200, 429] {
        let mut wire = Wire::connect(envoy.address()).await;
        wire.send("GET / HTTP/1.0\r\n\r\n").await;
        assert_eq!(wire.reply().await.status, status);
    }

    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_tunnel_is_limited_when_it_opens_and_carries_bytes_when_open() {
    let turn = Turn::shared().await;
    let upstream = RawUpstream::echo().await;
    let listener = Listener::to(upstream.cluster()).tunnel().filter(Filter::new(&one_limit("all", supply(1))));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    let mut tunnel = Wire::connect(envoy.address()).await;
    tunnel.send("CONNECT shop.example.com:443 HTTP/1.1\r\nhost: shop.example.com:443\r\n\r\n").await;
    assert_eq!(tunnel.reply().await.status, 200);
    tunnel.send(b"\x00\xffany bytes").await;
    assert_eq!(tunnel.read(11).await, b"\x00\xffany bytes");

    let mut refused = Wire::connect(envoy.address()).await;
    refused.send("CONNECT shop.example.com:443 HTTP/1.1\r\nhost: shop.example.com:443\r\n\r\n").await;
    let reply = refused.reply().await;
    assert_eq!((reply.status, reply.header("x-outrigger-reason")), (429, Some("limit/all")));
    envoy.expect_metric("outrigger_requests_total", &[("outcome", "limited")], 1.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_one_request_and_no_duration() {
    let turn = Turn::shared().await;
    let upstream = RawUpstream::upgrade().await;
    let listener = Listener::to(upstream.cluster())
        .filter(Filter::new(&limits_by_path(&[("chat", supply(1))])))
        .connection_manager(json!({ "upgrade_configs": [{ "upgrade_type": "websocket" }] }));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let handshake = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";

    let mut chat = Wire::connect(envoy.address()).await;
    assert_eq!(chat.get("/chat", handshake).await.status, 101);
    for message in ["first", "other"] {
        chat.send(message).await;
        assert_eq!(chat.read(5).await, message.as_bytes());
    }
    let refused = Wire::connect(envoy.address()).await.get("/chat", handshake).await;
    assert_eq!(refused.status, 429);
    drop(chat);

    envoy.expect_metric("outrigger_requests_total", &[("operation", "chat"), ("outcome", "success")], 1.0).await;
    envoy.expect_metric("outrigger_requests_total", &[("operation", "chat"), ("outcome", "limited")], 1.0).await;
    envoy.expect_metric("outrigger_request_duration_milliseconds_count", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_in_both_directions() {
    let turn = Turn::shared().await;
    let response = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nback\r\n0\r\nx-last: response\r\n\r\n";
    let upstream = RawUpstream::trailers(response).await;
    let listener = Listener::to(upstream.cluster())
        .filter(Filter::new(&one_limit("all", supply(1))))
        .connection_manager(json!({ "http_protocol_options": { "enable_trailers": true } }));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let request = "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n\
                   5\r\nforth\r\n0\r\nx-last: request\r\n\r\n";
    let mut wire = Wire::connect(envoy.address()).await;

    wire.send(request).await;
    let reply = wire.reply().await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"back"[..]));
    assert_eq!(crate::rig::wire::field(&reply.trailers, "x-last"), Some("response"));
    assert!(upstream.received().contains("forth"), "{}", upstream.received());

    wire.send(request).await;
    assert_eq!(wire.reply().await.status, 429, "a request with trailers is limited like any other");
    assert_eq!(envoy.vm_reloads().await, 0.0);
}
