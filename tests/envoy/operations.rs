//! Which operation a request belongs to, as Envoy presents requests.

use reqwest::Method;
use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::send;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;

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
