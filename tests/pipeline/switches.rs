//! Switches on the request path: which requests are given up, what they are told, and that nothing else hears of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common::sidecar::{Sidecar, ended, header, reason, refused, served};
use outrigger::host::LogField;
use outrigger::pipeline::Decision;
use outrigger::reply::Reply;

const SHOP: &str = r#"{
  "operations": [
    { "name": "place-order", "tier": "P0", "match": { "paths": ["/orders", "/orders/*"] } },
    { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } },
    { "name": "likes", "tier": "P3", "match": { "paths": ["/likes/*"] } }
  ],
  "limits": [
    { "name": "all", "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } },
    { "name": "per-path", "key": ["path"], "window": { "max_requests": 1, "interval": "1h" } },
    { "name": "flights", "concurrency": { "max_in_flight": 1 } }
  ],
  "breakers": [{ "name": "shop", "trip": { "consecutive_failures": 1 } }],
  "switches": SWITCHES,
  "fallbacks": [
    { "name": "no-reviews", "status": 200, "json": { "reviews": [] } },
    { "name": "sorry", "status": 503, "text": "back in a minute", "retry_after": "30s", "grpc_status": 8 }
  ],
  "monitor": MONITOR
}"#;

fn shop(switches: &str) -> String {
    SHOP.replace("SWITCHES", switches).replace("MONITOR", "{}")
}

/// The reason why the first of all requests is refused; `None` if it goes on.
fn given_up(switches: &str, headers: &[(&str, &str)]) -> Option<String> {
    let sidecar = Sidecar::new(&shop(switches));
    sidecar.serve(headers).map(|reply| reason(&reply).to_owned())
}

fn refusal(config: &str, headers: &[(&str, &str)]) -> (Sidecar, Reply) {
    let sidecar = Sidecar::new(config);
    let reply = sidecar.serve(headers).unwrap_or_else(|| panic!("{headers:?} went on"));
    (sidecar, reply)
}

const REVIEWS: [(&str, &str); 1] = [(":path", "/reviews/17")];

#[test]
fn the_first_switch_that_is_on_and_applies_gives_up_the_request() {
    let switches = r#"[
        { "name": "off", "active": false },
        { "name": "orders", "active": true, "operations": ["place-order"], "fallback": "sorry" },
        { "name": "writes", "active": true, "methods": ["POST"] },
        { "name": "decoration", "active": true, "tiers": ["P3"], "fallback": "no-reviews" },
        { "name": "never-reached", "active": true, "tiers": ["P3"] }
    ]"#;
    let cases = [
        ("GET", "/orders/1", Some("switch/orders")),
        ("POST", "/orders", Some("switch/orders")),
        ("POST", "/reviews/1", Some("switch/writes")),
        ("GET", "/reviews/1", Some("switch/decoration")),
        ("GET", "/likes/1", Some("switch/decoration")),
        ("GET", "/about", None),
        // A method in small letters gets to the service too, which may take it for the one in capitals.
        ("post", "/about", Some("switch/writes")),
        ("POST", "/about", Some("switch/writes")),
    ];
    for (method, path, expected) in cases {
        let found = given_up(switches, &[(":method", method), (":path", path)]);
        assert_eq!(found.as_deref(), expected, "{method} {path}");
    }
}

#[test]
fn a_switch_that_selects_nothing_selects_everything_and_one_that_is_off_nothing() {
    assert_eq!(given_up(r#"[{ "name": "closed", "active": true }]"#, &[]), Some("switch/closed".to_owned()));
    assert_eq!(given_up(r#"[{ "name": "closed", "active": false }]"#, &[]), None);
    assert_eq!(given_up(r#"[{ "name": "closed" }]"#, &[]), None, "off is where it starts");
    assert_eq!(given_up(r#"[{ "name": "closed", "active": true, "operations": ["other"] }]"#, &REVIEWS), None);
}

/// The documented example: who reads is served, who writes is told to come back.
#[test]
fn read_only_is_a_switch_of_methods() {
    let switches = r#"[{ "name": "read-only", "active": true, "operations": ["place-order"],
                         "methods": ["POST", "PUT", "PATCH", "DELETE"], "fallback": "sorry" }]"#;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let found = given_up(switches, &[(":method", method), (":path", "/orders/1")]);
        assert_eq!(found.as_deref(), Some("switch/read-only"), "{method}");
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        assert_eq!(given_up(switches, &[(":method", method), (":path", "/orders/1")]), None, "{method}");
    }
}

#[test]
fn a_preflight_passes_and_only_a_true_one() {
    let closed = r#"[{ "name": "closed", "active": true }]"#;
    let options = (":method", "OPTIONS");
    let origin = ("origin", "https://shop.example.com");
    let asks = ("access-control-request-method", "POST");
    assert_eq!(given_up(closed, &[options, origin, asks]), None);
    for almost in [vec![options], vec![options, origin], vec![options, asks], vec![(":method", "GET"), origin, asks]] {
        assert_eq!(given_up(closed, &almost).as_deref(), Some("switch/closed"), "{almost:?}");
    }
}

#[test]
fn limits_apply_to_preflights_all_the_same() {
    let sidecar = Sidecar::new(&shop(r#"[{ "name": "closed", "active": true }]"#));
    let preflight = [(":method", "OPTIONS"), ("origin", "https://a.example"), ("access-control-request-method", "GET")];
    assert_eq!(sidecar.serve(&preflight), None);
    let reply = sidecar.serve(&preflight).unwrap();
    assert!(reason(&reply).starts_with("limit/"), "{}", reason(&reply));
}

#[test]
fn without_a_fallback_the_reply_is_the_standard_one() {
    let (sidecar, reply) = refusal(&shop(r#"[{ "name": "closed", "active": true }]"#), &REVIEWS);
    assert_eq!(reply.status, 503);
    assert_eq!(reply.grpc_status, 14);
    assert_eq!(reply.details, "outrigger_switch_closed");
    let document = "{\"type\":\"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity\",\
                    \"title\":\"Request cannot be satisfied due to temporary server capacity constraints\",\
                    \"status\":503}";
    assert_eq!(String::from_utf8(reply.body.clone()).unwrap(), document);
    let headers: Vec<(&str, &str)> = reply.headers.iter().map(|(name, value)| (&**name, value.as_str())).collect();
    let expected = [
        ("content-type", "application/problem+json"),
        ("retry-after", "60"),
        ("x-envoy-ratelimited", "true"),
        ("x-outrigger-reason", "switch/closed"),
    ];
    assert_eq!(headers, expected);
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("switch/closed"));
    assert_eq!(sidecar.host.log_field(LogField::Operation).as_deref(), Some("reviews"));
    assert_eq!(sidecar.host.log_field(LogField::Tier).as_deref(), Some("P3"));
    assert_eq!(sidecar.host.log_field(LogField::Detail), None);
}

#[test]
fn a_grpc_call_is_told_in_its_own_words() {
    let grpc = [(":method", "POST"), (":path", "/reviews/17"), ("content-type", "application/grpc+proto")];
    let (_, reply) = refusal(&shop(r#"[{ "name": "closed", "active": true }]"#), &grpc);
    assert_eq!((reply.grpc_status, reply.details.as_str()), (14, "outrigger_switch_closed"));
    assert_eq!(reply.body, b"refused by switch/closed");
    assert_eq!(header(&reply, "content-type"), None, "the proxy's");
    assert_eq!(header(&reply, "grpc-retry-pushback-ms"), Some("-1"));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    assert_eq!(reason(&reply), "switch/closed");

    // A page that says success is no answer to a call.
    let (_, reply) = refusal(&shop(r#"[{ "name": "closed", "active": true, "fallback": "no-reviews" }]"#), &grpc);
    assert_eq!((reply.grpc_status, reply.body.as_slice()), (14, b"refused by switch/closed".as_slice()));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    let (_, reply) = refusal(&shop(r#"[{ "name": "closed", "active": true, "fallback": "sorry" }]"#), &grpc);
    assert_eq!(reply.grpc_status, 8);
}

#[test]
fn a_fallback_takes_the_place_of_the_standard_reply() {
    let (sidecar, reply) = refusal(&shop(r#"[{ "name": "s", "active": true, "fallback": "no-reviews" }]"#), &REVIEWS);
    assert_eq!((reply.status, reply.body.as_slice()), (200, br#"{ "reviews": [] }"#.as_slice()));
    assert_eq!(reply.details, "outrigger_switch_s");
    assert_eq!(header(&reply, "content-type"), Some("application/json"));
    assert_eq!(header(&reply, "retry-after"), None, "who has an answer need not come again");
    assert_eq!(header(&reply, "x-envoy-ratelimited"), None);
    assert_eq!(reason(&reply), "switch/s");
    assert_eq!(served(&sidecar.host, "no-reviews", "switch/s"), 1);

    let (_, reply) = refusal(&shop(r#"[{ "name": "s", "active": true, "fallback": "sorry" }]"#), &REVIEWS);
    assert_eq!((reply.status, header(&reply, "retry-after")), (503, Some("30")), "the fallback's own");
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
}

#[test]
fn each_refusal_is_counted_once_and_the_request_as_degraded() {
    let switches = r#"[{ "name": "a", "active": true, "operations": ["reviews"] }, { "name": "b", "active": true }]"#;
    let sidecar = Sidecar::new(&shop(switches));
    for _ in 0..3 {
        assert!(sidecar.serve(&REVIEWS).is_some());
    }
    assert!(sidecar.serve(&[]).is_some());
    assert_eq!((refused(&sidecar.host, "switch/a"), refused(&sidecar.host, "switch/b")), (3, 1));
    assert_eq!((ended(&sidecar.host, "reviews", "degraded"), ended(&sidecar.host, "other", "degraded")), (3, 1));
    let names = sidecar.host.metric_names();
    assert!(!names.iter().any(|name| name.contains("fallbacks_total")), "none was served: {names:?}");
    assert!(!names.iter().any(|name| name.contains("duration")), "none was forwarded: {names:?}");
}

/// The filter's own reply comes back to it as a response.
#[test]
fn the_own_reply_is_not_taken_for_the_services() {
    let sidecar = Sidecar::new(&shop(r#"[{ "name": "s", "active": true }]"#));
    let (decision, ticket) = sidecar.ask(&REVIEWS);
    assert!(matches!(decision, Decision::Reply(_)));
    sidecar.host.take_calls();
    assert_eq!(sidecar.replacement(ticket, &[(":status", "503")]), None);
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 1);
    assert_eq!(ended(&sidecar.host, "reviews", "failure"), 0);
    let calls = sidecar.host.take_calls();
    assert!(!calls.contains_key("response_status"), "{calls:?}");
    assert_eq!(sidecar.host.records().len(), 0, "no breaker heard of it");
}

#[test]
fn what_a_switch_refuses_costs_neither_limits_nor_breakers_anything() {
    let sidecar = Sidecar::new(&shop(r#"[{ "name": "s", "active": true, "tiers": ["P3"] }]"#));
    for _ in 0..5 {
        assert_eq!(sidecar.serve(&REVIEWS).as_ref().map(reason), Some("switch/s"));
    }
    assert!(sidecar.host.records().is_empty(), "{:?}", sidecar.host.record_keys());
    let calls = sidecar.host.take_calls();
    assert!(!calls.contains_key("shared_get") && !calls.contains_key("shared_set"), "{calls:?}");
    // The one token and the one place are still there, for a request that is not given up.
    let ticket = sidecar.begin(&[]).unwrap();
    let before = sidecar.host.records();
    assert_eq!(sidecar.serve(&REVIEWS).as_ref().map(reason), Some("switch/s"), "also when a limit would refuse too");
    assert_eq!(sidecar.host.records(), before);
    assert_eq!(refused(&sidecar.host, "limit/all"), 0);
    sidecar.answer(ticket);
}

#[test]
fn header_and_access_log_can_be_turned_off() {
    let document = SHOP.replace("SWITCHES", r#"[{ "name": "s", "active": true }]"#);
    let document = document.replace("MONITOR", r#"{ "reason_header": false, "access_log": false }"#);
    let (sidecar, reply) = refusal(&document, &REVIEWS);
    assert_eq!(header(&reply, "x-outrigger-reason"), None);
    assert_eq!(reply.details, "outrigger_switch_s", "details are for the log alone");
    assert!(!sidecar.host.take_calls().contains_key("set_property"));
}
