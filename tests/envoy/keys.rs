//! Where the key of a limit comes from: each source must tell apart exactly what it is about.

use std::net::IpAddr;

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::{Client, send};
use crate::rig::envoy_process::Envoy;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;
use crate::rig::wire::Wire;

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

/// A client, a CDN and a load balancer, with and without Envoy's own entry. What the filter calls `trusted_hops` is one more than
/// what Envoy calls `xff_num_trusted_hops`, and with the one the other is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn trusted_hops_is_one_more_than_envoys_own_number_and_either_finds_the_client() {
    // As two proxies in front of this one wrote it. What precedes the client's address it made up.
    const ONE: &str = "192.0.2.1, 203.0.113.1, 198.51.100.1";
    const ONE_AGAIN: &str = "192.0.2.2, 203.0.113.1, 198.51.100.1";
    const OTHER: &str = "192.0.2.1, 203.0.113.2, 198.51.100.1";
    let envoys = |appends: bool, hops: u32| json!({ "use_remote_address": appends, "xff_num_trusted_hops": hops });
    let ours = |hops: u32| json!({ "trusted_hops": hops });
    let turn = Turn::shared().await;
    for (manager, client_ip, expected) in [
        (envoys(true, 0), ours(3), [200, 429, 200]),
        (envoys(true, 2), ours(0), [200, 429, 200]),
        (envoys(false, 0), ours(2), [200, 429, 200]),
        (envoys(false, 1), ours(0), [200, 429, 200]),
        // One too few is the CDN, and everybody comes by that.
        (envoys(true, 0), ours(2), [200, 429, 429]),
        (envoys(true, 1), ours(0), [200, 429, 429]),
        // One too many is what the client made up.
        (envoys(true, 0), ours(4), [200, 200, 429]),
        (envoys(false, 0), ours(3), [200, 200, 429]),
        (envoys(true, 3), ours(0), [200, 200, 429]),
        // In a sidecar nothing is the peer's own word.
        (envoys(false, 0), ours(0), [200, 429, 429]),
    ] {
        let policy = json!({
            "client_ip": client_ip,
            "limits": [{ "name": "per-address", "key": ["client_ip"], "token_bucket": supply(1) }],
        });
        let listener = Listener::direct().connection_manager(manager.clone()).filter(Filter::new(&policy));
        let envoy = turn.start(Bootstrap::new(listener)).await;
        let client = envoy.client();
        let mut statuses = Vec::new();
        for forwarded in [ONE, ONE_AGAIN, OTHER] {
            statuses.push(client.get_with("/", "x-forwarded-for", forwarded).await.status);
        }
        assert_eq!(statuses, expected, "{manager}, {client_ip}");
    }
}

/// Behind two proxies, with a number for three.
#[tokio::test(flavor = "multi_thread")]
async fn one_trusted_proxy_too_many_is_warned_of_once_and_counted() {
    let turn = Turn::shared().await;
    let policy = json!({
        "client_ip": { "trusted_hops": 3 },
        "limits": [{ "name": "logins", "key": ["client_ip"], "token_bucket": supply(1000) }],
    });
    let listener = Listener::direct().connection_manager(json!({ "use_remote_address": true }));
    // Each worker judges by its own requests.
    let envoy = turn.start(Bootstrap::new(listener.filter(Filter::new(&policy))).concurrency(1)).await;
    let client = envoy.client();
    let errors = [("call", "trusted_hops")];
    envoy.expect_metric("outrigger_host_errors_total", &errors, 0.0).await;
    for number in 0..250 {
        let chain = if number % 10 == 0 { "192.0.2.1, 203.0.113.7" } else { "203.0.113.7" };
        assert_eq!(client.get_with("/", "x-forwarded-for", chain).await.status, 200);
    }
    envoy.expect_metric("outrigger_host_errors_total", &errors, 180.0).await;
    let warning = "limit logins: client_ip.trusted_hops is 3, and 90 of the last 100 requests had fewer entries in x-forwarded-for";
    assert_eq!(envoy.log().matches(warning).count(), 1, "{}", envoy.log());
    assert!(!envoy.log().contains("203.0.113.7"), "whom it is about is nobody's business");
}

/// An Envoy with a limit of three per key.
async fn three_per(turn: &Turn, key: Value) -> Envoy {
    let policy = json!({ "limits": [{ "name": "keyed", "key": key, "token_bucket": supply(3) }] });
    turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn blanks_before_a_value_make_no_other_key() {
    let turn = Turn::shared().await;
    let envoy = three_per(&turn, json!(["header:x-user-id"])).await;
    let client = Client::http2(envoy.address());
    let mut admitted = 0;
    for blanks in 0..200 {
        let value = format!("{}ada{}", " ".repeat(blanks), "\t".repeat(blanks % 2));
        admitted += usize::from(client.get_with("/", "x-user-id", &value).await.status == 200);
    }
    assert_eq!(admitted, 3, "the service reads one key");
    assert_eq!(client.get_with("/", "x-user-id", "bob").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_that_a_service_settles_makes_another_key() {
    let turn = Turn::shared().await;

    let envoy = three_per(&turn, json!(["host"])).await;
    let mut admitted = 0;
    for host in
        ["shop.example.com", "SHOP.example.com", "shop.example.com.", "shop.example.com.:80", "shop.EXAMPLE.com:443"]
    {
        admitted += usize::from(envoy.client().get_with("/", "host", host).await.status == 200);
    }
    assert_eq!(admitted, 3, "one host");

    let envoy = three_per(&turn, json!(["cookie:sid"])).await;
    let mut admitted = 0;
    for cookie in ["sid=a b", "sid=\"a b\"", "x=1; sid = a b ", "sid=a%20b", "sid=%61 b; sid=other"] {
        admitted += usize::from(envoy.client().get_with("/", "cookie", cookie).await.status == 200);
    }
    assert_eq!(admitted, 3, "one cookie");

    let envoy = three_per(&turn, json!(["path", "query:q"])).await;
    let mut admitted = 0;
    for path in ["/a?q=1+2", "/a;v=1?q=1%202", "/a;v=2?%71=1+2", "/a;?q=%31+2", "/a?q=1+2&q=other"] {
        admitted += usize::from(envoy.client().get(path).await.status == 200);
    }
    assert_eq!(admitted, 3, "one page");

    let envoy = three_per(&turn, json!(["method"])).await;
    let client = Client::http2(envoy.address());
    let mut admitted = 0;
    for method in ["GET", "get", "Get", "gEt", "geT"] {
        admitted += usize::from(send(client.request(method.parse().unwrap(), "/")).await.status == 200);
    }
    assert_eq!(admitted, 3, "one method");

    let envoy = three_per(&turn, json!(["header:x-roles"])).await;
    let mut wire = Wire::connect(envoy.address()).await;
    let mut admitted = 0;
    let lines = [
        "x-roles: a,b",
        "x-roles: a\r\nx-roles: b",
        "x-roles: a , b",
        "x-roles: ,a,,b,",
        "x-roles: a\r\nx-roles:\r\nx-roles: b",
    ];
    for lines in lines {
        admitted += usize::from(wire.get("/", format!("{lines}\r\n")).await.status == 200);
    }
    assert_eq!(admitted, 3, "one list");
    envoy.expect_metric("outrigger_host_errors_total", &[("call", "repeated_header")], 2.0).await;
    assert!(envoy.log().contains("limit keyed: x-roles of its key came in several lines"), "{}", envoy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_a_zone_is_an_address() {
    let turn = Turn::shared().await;
    let policy = json!({
        "client_ip": { "header": "x-real-ip", "trusted_hops": 1, "ipv6_prefix": 128 },
        "limits": [{ "name": "per-address", "key": ["client_ip"], "missing": "skip", "token_bucket": supply(3) }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    let mut admitted = 0;
    for address in ["fe80::1%eth0", "[fe80::1%eth0]", "[fe80::1%eth1]:8080", "fe80::1", "fe80::1%25eth0"] {
        admitted += usize::from(client.get_with("/", "x-real-ip", address).await.status == 200);
    }
    assert_eq!(admitted, 3, "a zone is neither a lack of the address nor another one");
    assert_eq!(client.get_with("/", "x-real-ip", "fe80::2%eth0").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_leave_the_key_less_their_own() {
    let turn = Turn::shared().await;
    let policy = json!({
        "limits": [
            { "name": "reports-per-user", "key": ["header:x-user-id"], "window": { "max_requests": 20, "interval": "1h" } },
            { "name": "all", "token_bucket": supply(60) },
        ],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(&policy)))).await;
    let client = envoy.client();
    let preflight = || {
        let request = client.request(Method::OPTIONS, "/reports").header("origin", "https://shop.example.com");
        let request = request.header("access-control-request-method", "POST");
        send(request.header("access-control-request-headers", "x-user-id"))
    };
    for user in 0..25 {
        assert_eq!(preflight().await.status, 200, "the preflight of user {user}");
        assert_eq!(client.get_with("/reports", "x-user-id", &format!("user-{user}")).await.status, 200);
    }
    assert_eq!(client.admitted("/reports", 10).await, 10, "none of the key-less ones was used up");
    let refused = preflight().await;
    assert_eq!(refused.reason(), Some("limit/all"), "preflights count where all requests do");
}
