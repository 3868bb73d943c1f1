//! Where the key of a limit comes from: each source must tell apart exactly what it is about.

use std::net::IpAddr;

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Client, send};
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;

/// A request to `/` with these differences.
#[derive(Clone, Copy)]
struct Variant {
    method: Option<&'static str>,
    path: Option<&'static str>,
    headers: &'static [(&'static str, &'static str)],
}

const PLAIN: Variant = Variant { method: None, path: None, headers: &[] };

async fn ask(client: &Client, variant: Variant) -> u16 {
    let method = variant.method.map_or(Method::GET, |method| method.parse().unwrap());
    let request = client.request(method, variant.path.unwrap_or("/"));
    send(variant.headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await.status
}

/// One request per key is admitted. `first` and `other` differ in the key, `first` and `same` do not.
async fn tells_apart(turn: &Turn, key: Value, first: Variant, same: Variant, other: Variant) {
    let policy = json!({
        "operations": [
            { "name": "left", "match": { "paths": ["/left/*"] } },
            { "name": "right", "match": { "paths": ["/right/*"] } },
        ],
        "limits": [{ "name": "keyed", "key": key, "token_bucket": supply(1) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();

    assert_eq!(ask(&client, first).await, 200, "{key}: the first of its key");
    assert_eq!(ask(&client, same).await, 429, "{key}: the second of its key");
    assert_eq!(ask(&client, other).await, 200, "{key}: the first of another key");
    assert_eq!(ask(&client, other).await, 429, "{key}: the second of that key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_the_request_line() {
    let turn = Turn::shared().await;
    let post = Variant { method: Some("POST"), ..PLAIN };
    let path = |path| Variant { path: Some(path), ..PLAIN };
    let host = |headers| Variant { headers, ..PLAIN };
    tells_apart(&turn, json!(["method"]), PLAIN, path("/elsewhere"), post).await;
    tells_apart(&turn, json!(["path"]), path("/a?x=1"), path("/a?x=2"), path("/b?x=1")).await;
    tells_apart(&turn, json!(["query:q"]), path("/?q=1&r=1"), path("/?r=2&q=1"), path("/?q=2&r=1")).await;
    tells_apart(&turn, json!(["operation"]), path("/left/1"), path("/left/2"), path("/right/1")).await;
    let (one, same, two) = (&[("host", "a.test")], &[("host", "A.test:80")], &[("host", "b.test")]);
    tells_apart(&turn, json!(["host"]), host(one), host(same), host(two)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_headers_and_cookies_and_several_at_once() {
    let turn = Turn::shared().await;
    let with = |headers| Variant { headers, ..PLAIN };
    let cookies = |headers| with(headers);
    tells_apart(
        &turn,
        json!(["cookie:session"]),
        cookies(&[("cookie", "a=1; session=x")]),
        cookies(&[("cookie", "session=x; a=2")]),
        cookies(&[("cookie", "a=1; session=y")]),
    )
    .await;
    // Parts must not run into each other: (ab, c) is not (a, bc).
    tells_apart(
        &turn,
        json!(["header:x-one", "header:x-two"]),
        with(&[("x-one", "ab"), ("x-two", "c")]),
        with(&[("x-two", "c"), ("x-one", "ab"), ("x-three", "d")]),
        with(&[("x-one", "a"), ("x-two", "bc")]),
    )
    .await;
    // A repeated header is one value in the order of its parts.
    tells_apart(
        &turn,
        json!(["header:x-tag"]),
        with(&[("x-tag", "1"), ("x-tag", "2")]),
        with(&[("x-tag", "1"), ("x-tag", "2")]),
        with(&[("x-tag", "2"), ("x-tag", "1")]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_can_be_the_address_of_the_peer() {
    let turn = Turn::shared().await;
    let policy = json!({ "limits": [{ "name": "per-address", "key": ["client_ip"], "token_bucket": supply(2) }] });
    // Without this setting Envoy itself takes `x-forwarded-for` for the address of the peer.
    let listener = Listener::direct().connection_manager(json!({ "use_remote_address": true }));
    let envoy = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy)))).await;
    let from = |last| Client::from(IpAddr::from([127, 0, 0, last]), envoy.address());

    assert_eq!(from(1).get("/").await.status, 200);
    assert_eq!(from(1).get_with("/", "x-forwarded-for", "203.0.113.1").await.status, 200);
    let claimed = from(1).get_with("/", "x-forwarded-for", "203.0.113.2").await;
    assert_eq!(claimed.status, 429, "another port is the same address, and a claim is no address");
    assert_eq!(from(2).admitted("/", 3).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_address_is_the_one_it_saw() {
    let turn = Turn::shared().await;
    let policy = json!({
        "client_ip": { "header": "x-forwarded-for", "trusted_hops": 1, "ipv6_prefix": 64 },
        "limits": [{ "name": "per-address", "key": ["client_ip"], "token_bucket": supply(1) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    let claims = [
        ("203.0.113.1", 200, "first of its address"),
        ("198.51.100.7, 203.0.113.1", 429, "what the client itself wrote does not count"),
        ("203.0.113.2", 200, "another address"),
        ("2001:db8:1:1::1", 200, "first of its network"),
        ("2001:db8:1:1:ffff::2", 429, "the same /64"),
        ("2001:db8:1:2::1", 200, "another /64"),
    ];
    for (forwarded, status, why) in claims {
        let answer = client.get_with("/", "x-forwarded-for", forwarded).await;
        assert_eq!(answer.status, status, "{forwarded}: {why}");
    }
}
