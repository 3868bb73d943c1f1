//! Which operation a request belongs to, as Envoy presents requests.

use reqwest::Method;
use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Client, send};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::wire::Wire;

/// Method, path, headers; and the operation and tier that must come out.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

const CASES: [Case; 13] = [
    ("POST", "/orders", &[("host", "shop.example.com")], "place-order", "P0"),
    ("POST", "/orders?fast=1", &[("host", "SHOP.example.com:8080")], "place-order", "P0"),
    ("POST", "/v2/orders/17/items", &[("host", "shop.example.com")], "place-order", "P0"),
    ("GET", "/orders", &[("host", "shop.example.com")], "other", "P1"),
    ("POST", "/orders", &[("host", "elsewhere.example.com")], "other", "P1"),
    ("POST", "/ORDERS", &[("host", "shop.example.com")], "other", "P1"),
    ("GET", "/logo.png", &[], "images", "P3"),
    ("GET", "/users/17/avatar", &[], "avatar", "P2"),
    ("GET", "/users/17/old/avatar", &[], "other", "P1"),
    ("GET", "/any", &[("x-app", "web")], "web", "P2"),
    ("GET", "/any", &[("x-app", "mobile-7")], "mobile", "P2"),
    ("GET", "/any", &[("x-app", "tv")], "some-app", "P2"),
    ("GET", "/any", &[], "other", "P1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_first_operation_that_matches_names_the_request() {
    let turn = Turn::shared().await;
    let by_app = |name: &str, header| json!({ "name": name, "tier": "P2", "match": { "headers": [header] } });
    let policy = json!({
        "operations": [
            { "name": "place-order", "tier": "P0",
              "match": { "hosts": ["shop.example.com"], "methods": ["POST"], "paths": ["/orders", "/v2/orders/*"] } },
            { "name": "images", "tier": "P3", "match": { "paths": ["*.png"] } },
            { "name": "avatar", "tier": "P2", "match": { "paths": ["/users/{*}/avatar"] } },
            by_app("web", json!({ "name": "x-app", "exact": "web" })),
            by_app("mobile", json!({ "name": "X-App", "prefix": "mobile-" })),
            by_app("some-app", json!({ "name": "x-app", "present": true })),
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    for (method, path, headers, ..) in CASES {
        let request = client.request(method.parse::<Method>().unwrap(), path);
        let dressed = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        assert_eq!(send(dressed).await.status, 200);
    }

    let log = envoy.access_log(CASES.len(), |_| true).await;
    for (entry, (method, path, headers, operation, tier)) in log.iter().zip(CASES) {
        let seen = (entry.operation.as_deref(), entry.tier.as_deref());
        assert_eq!(seen, (Some(operation), Some(tier)), "{method} {path} {headers:?}");
    }
    for operation in ["place-order", "images", "avatar", "web", "mobile", "some-app", "other"] {
        let expected = CASES.iter().filter(|case| case.3 == operation).count() as f64;
        envoy.expect_metric("outrigger_requests_total", &[("operation", operation)], expected).await;
    }
}

/// The operation that each request is found to be, by the limit that its second spelling uses up.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_gets_a_request_past_its_operation() {
    let turn = Turn::shared().await;
    let policy = json!({
        "operations": [
            { "name": "shop", "match": { "hosts": ["shop.example.com"], "paths": ["/shop"] } },
            { "name": "exact", "path_parameters": "keep", "match": { "paths": ["/exact"] } },
            { "name": "orders", "match": { "methods": ["POST"], "paths": ["/orders"] } },
        ],
        "switches": [{ "name": "closed", "on": true, "operations": ["shop", "exact", "orders"] }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    for host in ["shop.example.com", "shop.example.com.", "Shop.example.com.:443"] {
        let answer = client.get_with("/shop", "host", host).await;
        assert_eq!(answer.reason(), Some("switch/closed"), "{host}");
    }
    let http2 = Client::http2(envoy.address());
    for (method, path, closed) in [
        ("POST", "/orders", true),
        ("POST", "/orders;a=1", true),
        ("POST", "/orders;a=1;b?c=2", true),
        ("post", "/orders", true),
        ("GET", "/orders;a=1", false),
        ("GET", "/exact", true),
        ("GET", "/exact;a=1", false),
    ] {
        let answer = send(http2.request(method.parse().unwrap(), path)).await;
        assert_eq!(answer.reason().is_some(), closed, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_envoy_was_not_told_to_settle_is_warned_of_once() {
    let turn = Turn::shared().await;
    let policy = json!({ "operations": [{ "name": "orders", "match": { "paths": ["/orders"] } }] });
    let settled = json!({
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    });
    for (settings, expected) in [(json!({ "normalize_path": false }), 2.0), (settled, 0.0)] {
        let listener = Listener::direct().filter(Filter::new(&policy)).connection_manager(settings);
        let envoy = turn.start(Bootstrap::new(listener).concurrency(1)).await;
        let mut wire = Wire::connect(envoy.address()).await;
        let paths = ["//orders", "/a/../orders", "/a%2forders"];
        for path in paths.into_iter().chain(paths).chain(["/orders"]) {
            assert_eq!(wire.get(path, "").await.status, 200, "{path}");
        }
        for setting in ["merge_slashes", "normalize_path", "path_with_escaped_slashes_action"] {
            envoy.expect_metric("outrigger_host_errors_total", &[("call", setting)], expected).await;
            let lines = envoy.log().matches(&format!("{setting} is off in the HTTP connection manager")).count();
            assert_eq!(lines, usize::from(0.0 < expected), "{setting}: {}", envoy.log());
        }
    }
}
