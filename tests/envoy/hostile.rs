//! Clients that send what nobody should: they must cost nobody else anything.

use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{limits_by_path, supply};
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;
use crate::rig::wire::Wire;

/// Header lines whose values are no UTF-8, in every place where the filter or Envoy looks.
const UNREADABLE: [&[u8]; 8] = [
    b"x-user-id: \xff\xfe\x80\r\n",
    b"x-user-id: \xc3\x28\r\nx-user-id: \xf0\x28\x8c\x28\r\n",
    b"cookie: session=\xff\xfe; \x80=\x81; =\r\n",
    b"x-app: \xed\xa0\x80\r\n",
    b"x-cost: \xff\r\n",
    b"user-agent: \xff\r\nx-request-id: \xfe\r\nx-forwarded-for: \xfd\r\n",
    b"x-outrigger-reason: \xff\r\n",
    b"content-type: application/grpc\r\nte: \xff\r\ngrpc-timeout: \xff\r\n",
];

/// An Envoy with a limit that looks everywhere, and one on `/limited` that is used up.
async fn guarded(turn: &Turn) -> Envoy {
    let policy = json!({
        "client_ip": { "header": "x-forwarded-for", "trusted_hops": 1 },
        "operations": [
            { "name": "limited", "match": { "paths": ["/limited"] } },
            { "name": "web",
              "match": { "hosts": ["*.example.com"], "headers": [{ "name": "x-app", "prefix": "web" }] } },
        ],
        "limits": [
            { "name": "limited", "operations": ["limited"], "token_bucket": supply(1) },
            { "name": "curious", "operations": ["other"], "cost": "header:x-cost", "token_bucket": supply(1000),
              "key": ["client_ip", "method", "path", "host", "header:x-user-id", "cookie:session", "query:q"] },
        ],
    });
    let listener = Listener::direct().filter(Filter::new(&policy)).connection_manager(json!({
        "max_request_headers_kb": 96,
        "common_http_protocol_options": { "max_headers_count": 300 },
    }));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    assert_eq!(envoy.client().admitted("/limited", 2).await, 1);
    envoy
}

async fn assert_still_limited(wire: &mut Wire) {
    let reply = wire.get("/limited", "").await;
    assert_eq!((reply.status, reply.header("x-outrigger-reason")), (429, Some("limit/limited")), "{}", reply.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn header_bytes_that_are_no_text_leave_every_worker_limiting() {
    let turn = Turn::shared().await;
    let envoy = guarded(&turn).await;

    for wire in &mut envoy.wires(4).await {
        for lines in UNREADABLE {
            let reply = wire.get("/anything?q=%ff&q", lines).await;
            assert_eq!(reply.status, 200, "{:?}: {}", String::from_utf8_lossy(lines), reply.head);
            assert_still_limited(wire).await;
        }
    }

    assert_eq!(envoy.vm_reloads().await, 0.0);
    envoy.expect_metric("outrigger_requests_total", &[("operation", "other")], 32.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_paths_of_any_bytes_leave_every_worker_limiting() {
    let turn = Turn::shared().await;
    let envoy = guarded(&turn).await;
    let requests: [&[u8]; 5] = [
        b"GET /\xff\xfe?q=\xff HTTP/1.1\r\nhost: test\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: \xff\xfe\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: test\r\nx-\xff\xfe: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: test\r\ncookie\r\n\r\n",
        b"BREW * HTTP/1.1\r\nhost: test\r\n\r\n",
    ];

    let mut bystanders = envoy.wires(4).await;
    for bytes in requests {
        // Envoy may refuse them and close the connection. Two connections reach both workers.
        for wire in &mut envoy.wires(2).await {
            wire.send(bytes).await;
            let reply = wire.reply().await;
            assert!([200, 400, 404].contains(&reply.status), "{:?}: {reply:?}", String::from_utf8_lossy(bytes));
        }
        for wire in &mut bystanders {
            assert_still_limited(wire).await;
        }
    }

    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_told_apart_by_every_byte() {
    let turn = Turn::shared().await;
    let policy = json!({
        "limits": [{ "name": "per-user", "key": ["header:x-user-id"], "token_bucket": supply(1) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let mut wire = Wire::connect(envoy.address()).await;
    let long = vec![b'k'; 5000];
    let keys: [&[u8]; 6] =
        [b"\xff\xfe", b"\xff\xfd", b"\xef\xbf\xbd", &long, &[&long[..], b"1"].concat(), &[&long[..], b"2"].concat()];

    for status in [200, 429] {
        for key in keys {
            let reply = wire.get("/", [b"x-user-id: ", key, b"\r\n"].concat()).await;
            assert_eq!(reply.status, status, "key of {} bytes from {:02x?}", key.len(), &key[..2]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_headers_and_sixty_kilobytes_are_limited_like_any_request() {
    let turn = Turn::shared().await;
    let envoy = guarded(&turn).await;
    let many: String = (0..100).map(|number| format!("x-header-{number}: {number}\r\n")).collect();
    let large = format!("x-large: {}\r\n", "x".repeat(60_000));
    let wide: String = (0..60).map(|_| format!("cookie: {}\r\n", "y".repeat(1000))).collect();
    let forged: String = (0..100).map(|number| format!("x-outrigger-{number}: {number}\r\n")).collect();

    for wire in &mut envoy.wires(4).await {
        for lines in [&many, &large, &wide, &forged] {
            assert_eq!(wire.get("/anything", lines).await.status, 200);
            assert_eq!(wire.get("/limited", lines).await.status, 429);
            assert_still_limited(wire).await;
        }
    }

    assert_eq!(envoy.vm_reloads().await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_is_neither_success_nor_failure() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let policy = limits_by_path(&[("slow", supply(100))]);
    let envoy = turn.start(Bootstrap::new(Listener::to(upstream.cluster()).filter(Filter::new(&policy)))).await;

    for (gone, mut wire) in envoy.wires(4).await.into_iter().enumerate() {
        wire.send("GET /slow HTTP/1.1\r\nhost: test\r\nx-answer-after-ms: 10000\r\n\r\n").await;
        eventually("the upstream works on it", async || (upstream.count("/slow") > gone).then_some(())).await;
        drop(wire);
    }

    envoy.expect_metric("outrigger_requests_total", &[("operation", "slow"), ("outcome", "cancelled")], 4.0).await;
    envoy.expect_metric("outrigger_requests_total", &[], 4.0).await;
    assert_eq!(envoy.client().get("/slow").await.status, 200, "and the next one is served");
    assert_eq!(envoy.vm_reloads().await, 0.0);
}
