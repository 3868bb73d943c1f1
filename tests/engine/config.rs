//! Reading the configuration: one good document, one change per case, and the exact text of each refusal.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use outrigger::config::{AccessLog, Config, Monitor, Outcomes, RateLimitHeaders};
use outrigger::degrade::breaker::rule::BreakerSpec;
use outrigger::degrade::breaker::{Breaker, Settings};
use outrigger::degrade::failure::FailureSpec;
use outrigger::degrade::stale;
use outrigger::degrade::switch::SwitchSpec;
use outrigger::limit::concurrency::Concurrency;
use outrigger::limit::cost::Cost;
use outrigger::limit::leaky_bucket::LeakyBucket;
use outrigger::limit::policy::Policy;
use outrigger::limit::rule::LimitSpec;
use outrigger::limit::token_bucket::TokenBucket;
use outrigger::limit::window::Window;
use outrigger::monitor::failures::{Failures, Term};
use outrigger::operation::client_ip::ClientIp;
use outrigger::operation::key::{KeyPart, KeySpec, Missing};
use outrigger::operation::path::Parameters;
use outrigger::operation::pattern::{PathPattern, Pattern};
use outrigger::operation::selection::{Selected, Selection, Tiers};
use outrigger::operation::{HeaderMatcher, Matcher, Operation, Tier};
use outrigger::reply::cors::Cors;
use outrigger::reply::fallback::Fallback;
use outrigger::reply::template::Template;
use outrigger::retry::budget::Budget;
use outrigger::retry::deadline::DeadlineRule;
use outrigger::retry::deadline::Reach;
use outrigger::retry::policy::{Conditions, GRPC_CONDITIONS, HTTP_CONDITIONS, Hedging, RetryPolicy};
use outrigger::retry::register::Placement;
use outrigger::retry::rule::{DeadlineSpec, RetrySpec};
use outrigger::shared::failure_mode::FailureMode;
use serde_json::{Map, Value};

/// Every field that this version has.
const BASELINE: &str = r#"{
  "version": "shop-2026-11-23",
  "scope": "orders-inbound",
  "client_ip": { "header": "X-Client-Chain", "trusted_hops": 2, "ipv6_prefix": 56 },
  "operations": [
    { "name": "place-order", "tier": "P0", "path_parameters": "keep",
      "match": { "hosts": ["shop.example.com", "*.shop.example.com"], "methods": ["POST"],
                 "paths": ["/orders", "/v2/orders/*", "/a/{*}/b"],
                 "headers": [ { "name": "X-App", "exact": "web" }, { "name": "a", "prefix": "b" },
                              { "name": "c", "suffix": "d" }, { "name": "e", "present": true } ] } },
    { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } },
    { "name": "users", "match": { "methods": ["GET"] } }
  ],
  "limits": [
    { "name": "all", "token_bucket": { "max_tokens": 1000, "tokens_per_fill": 500, "fill_interval": "1m30s" } },
    { "name": "decoration", "tiers": ["P2", "P3"], "cost": 3,
      "token_bucket": { "max_tokens": 5, "tokens_per_fill": 5, "fill_interval": "0.5s" } },
    { "name": "orders-per-user", "operations": ["place-order", "other"], "methods": ["POST", "PUT"],
      "key": ["client_ip", "method", "path", "host", "operation", "header:X-User", "cookie:Sid", "query:Q"],
      "max_keys": 100, "missing": "skip",
      "token_bucket": { "max_tokens": 20, "tokens_per_fill": 10, "fill_interval": "1s" },
      "cost": "header:X-Cost", "enforced": false, "fallback": "sorry", "failure_mode": "deny" }
  ],
  "fallbacks": [
    { "name": "slow-down", "status": 429, "headers": { "Cache-Control": "no-store" },
      "json": {"error":"slow down"} },
    { "name": "sorry", "status": 503, "methods": ["GET", "POST"], "text": "back in a minute", "retry_after": "30s", "grpc_status": 14 },
    { "name": "nothing", "status": 204,
      "cors": { "allow_origin": ["https://shop.example.com", "http://localhost:3000"], "allow_credentials": true } }
  ],
  "switches": [
    { "name": "no-reviews", "active": true, "tiers": ["P3"], "fallback": "nothing" },
    { "name": "read-only", "operations": ["place-order"], "methods": ["POST", "PUT"] }
  ],
  "breakers": [
    { "name": "inventory", "operations": ["place-order"], "methods": ["POST"], "failures": ["5xx", "!501"],
      "trip": { "consecutive_failures": 5, "failure_ratio": 0.5, "slow_ratio": 0.25, "slow_after": "800ms",
                "min_requests": 30, "window": "20s" },
      "open_for": "7s", "max_open_for": "70s", "probes": 3, "fallback": "sorry" },
    { "name": "rest", "tiers": ["P1"], "trip": { "consecutive_failures": 1 } }
  ],
  "on_failure": [
    { "operations": ["reviews"], "methods": ["GET"], "failures": ["!501", 502, "5xx"],
      "stale": { "max_age": "10m", "max_bytes": 8192, "assume_fresh": "30s", "ignore_cookies": ["_ga", "_ga_*"], "key": ["header:Accept-Language"] }, "fallback": "sorry" },
    { "tiers": ["P0"], "fallback": "nothing" }
  ],
  "retries": [
    { "operations": ["place-order"], "methods": ["POST"], "failures": [429, "5xx"], "max_attempts": 3,
      "retry_on": ["5xx", "reset", "connect-failure", "internal"], "per_try_timeout": "300ms", "timeout": "1s",
      "idempotency_key": "Idempotency-Key", "grpc_methods": ["/shop.Orders/Get"], "max_body_bytes": 32768, "hedge": true,
      "budget": { "ratio": 0.2, "min_per_second": 2.5, "ttl": "20s" } },
    { "tiers": ["P3"] }
  ],
  "deadlines": [
    { "operations": ["place-order"], "methods": ["POST"], "header": "X-Request-Timeout-Ms", "default": "3s",
      "cut_responses": true },
    { "tiers": ["P3"] }
  ],
  "monitor": { "access_log": false, "reason_header": false, "ratelimit_headers": "none",
               "ratelimit_headers_on_success": true, "outcomes": false }
}"#;

fn parse(document: &str) -> Result<Config, String> {
    let parsed = Config::parse(document.as_bytes()).map_err(|error| error.to_string());
    #[cfg(not(target_arch = "wasm32"))]
    crate::schema::agree(document, parsed.as_ref().err().map(String::as_str));
    parsed
}

/// The baseline with the value at the JSON pointer replaced or added, or removed if there is none.
fn poked(pointer: &str, value: Option<&str>) -> String {
    let mut document: Value = serde_json::from_str(BASELINE).unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match value.map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))) {
        Some(value) if parent.is_array() => parent[field.parse::<usize>().unwrap()] = value,
        Some(value) => drop(parent.as_object_mut().unwrap().insert(field.to_owned(), value)),
        None => drop(parent.as_object_mut().unwrap().remove(field)),
    }
    document.to_string()
}

/// The baseline with this value there is refused with exactly this text.
fn refuses(pointer: &str, value: &str, expected: &str) {
    let refusal = parse(&poked(pointer, Some(value)));
    assert_eq!(refusal.map(|_| "accepted".to_owned()), Err(expected.to_owned()), "{value} at {pointer}");
}

fn refuses_without(pointer: &str, expected: &str) {
    let refusal = parse(&poked(pointer, None));
    assert_eq!(refusal.map(|_| "accepted".to_owned()), Err(expected.to_owned()), "nothing at {pointer}");
}

fn accepts(pointer: &str, value: &str) -> Config {
    parse(&poked(pointer, Some(value))).unwrap_or_else(|error| panic!("{value} at {pointer}: {error}"))
}

/// Refuses values of another type than text, a number …; the rest of the message says what was expected.
fn refuses_types(pointer: &str, path: &str, values: &[&str], expected: &str) {
    for value in values {
        let given = match serde_json::from_str(value).unwrap() {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => format!("boolean `{value}`"),
            Value::Number(number) if number.is_f64() => format!("floating point `{value}`"),
            Value::Number(_) => format!("integer `{value}`"),
            Value::String(_) => format!("string {value}"),
            Value::Array(_) => "list".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        refuses(pointer, value, &format!("{path}: invalid type: {given}, expected {expected}"));
    }
}

// === what is read ====================================================================================================

fn bucket(max_tokens: u32, tokens_per_fill: u32, interval: Duration) -> TokenBucket {
    TokenBucket::new(max_tokens, tokens_per_fill, interval).unwrap()
}

/// A limit of which only what is required was said.
fn plain_limit(name: &str, operations: Selected, bucket: TokenBucket) -> LimitSpec {
    LimitSpec {
        name: name.to_owned(),
        selection: Selection { operations, methods: vec![] },
        key: None,
        max_keys: 4096,
        policy: Policy::TokenBucket(bucket),
        cost: Cost::Fixed(1),
        enforced: true,
        fallback: None,
        failure_mode: FailureMode::Allow,
    }
}

fn body(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn plain_fallback(name: &str, status: u16) -> Fallback {
    Fallback {
        name: name.to_owned(),
        status,
        methods: vec![],
        headers: vec![],
        body: body(""),
        retry_after: None,
        grpc_status: None,
        cors: None,
    }
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn baseline() -> Config {
    let header = |name: &str, value| HeaderMatcher { name: name.to_owned(), value };
    let path = |text| PathPattern::parse(text).unwrap();
    let place_order = Matcher {
        hosts: vec![Pattern::Exact("shop.example.com".into()), Pattern::Suffix(".shop.example.com".into())],
        methods: vec!["POST".to_owned()],
        paths: vec![path("/orders"), path("/v2/orders/*"), path("/a/{*}/b")],
        headers: vec![
            header("x-app", Pattern::Exact("web".into())),
            header("a", Pattern::Prefix("b".into())),
            header("c", Pattern::Suffix("d".into())),
            header("e", Pattern::Present),
        ],
        path_parameters: Parameters::Keep,
    };
    let operation = |name: &str, tier, matcher| Operation { name: name.to_owned(), tier, matcher };
    let key = KeySpec {
        parts: vec![
            KeyPart::ClientIp,
            KeyPart::Method,
            KeyPart::Path,
            KeyPart::Host,
            KeyPart::Operation,
            KeyPart::Header("x-user".to_owned()),
            KeyPart::Cookie("Sid".to_owned()),
            KeyPart::Query("Q".to_owned()),
        ],
        missing: Missing::Skip,
        client_ip: ClientIp { header: "x-client-chain".to_owned(), trusted_hops: 2, ipv6_prefix: 56 },
    };
    Config {
        placement: Placement::Downstream,
        version: Some("shop-2026-11-23".to_owned()),
        scope: Some("orders-inbound".to_owned()),
        operations: vec![
            operation("place-order", Tier::P0, place_order),
            operation("reviews", Tier::P3, Matcher { paths: vec![path("/reviews/*")], ..Matcher::default() }),
            operation("users", Tier::P1, Matcher { methods: vec!["GET".to_owned()], ..Matcher::default() }),
            operation("other", Tier::P1, Matcher::default()),
        ],
        limits: vec![
            plain_limit("all", Selected::OfTiers(Tiers::ALL), bucket(1000, 500, Duration::from_secs(90))),
            LimitSpec {
                cost: Cost::Fixed(3),
                ..plain_limit(
                    "decoration",
                    Selected::OfTiers(Tiers::of([Tier::P2, Tier::P3])),
                    bucket(5, 5, Duration::from_millis(500)),
                )
            },
            LimitSpec {
                name: "orders-per-user".to_owned(),
                selection: Selection {
                    operations: Selected::Named(vec![0, 3]),
                    methods: vec!["POST".to_owned(), "PUT".to_owned()],
                },
                key: Some(key),
                max_keys: 100,
                policy: Policy::TokenBucket(bucket(20, 10, Duration::from_secs(1))),
                cost: Cost::Header("x-cost".to_owned()),
                enforced: false,
                fallback: Some(1),
                failure_mode: FailureMode::Deny,
            },
        ],
        fallbacks: vec![
            Fallback {
                headers: owned(&[("cache-control", "no-store"), ("content-type", "application/json")]),
                body: body(r#"{"error":"slow down"}"#),
                ..plain_fallback("slow-down", 429)
            },
            Fallback {
                methods: vec!["GET".to_owned(), "POST".to_owned()],
                headers: owned(&[("content-type", "text/plain; charset=utf-8")]),
                body: body("back in a minute"),
                retry_after: Some(Duration::from_secs(30)),
                grpc_status: Some(14),
                ..plain_fallback("sorry", 503)
            },
            Fallback {
                cors: Some(Cors {
                    allow_origin: vec!["https://shop.example.com".to_owned(), "http://localhost:3000".to_owned()],
                    allow_credentials: true,
                }),
                ..plain_fallback("nothing", 204)
            },
        ],
        switches: switches(),
        breakers: breakers(),
        on_failure: on_failure(),
        retries: retries(),
        deadlines: deadlines(),
        monitor: Monitor {
            access_log: AccessLog::None,
            reason_header: false,
            ratelimit_headers: RateLimitHeaders::None,
            ratelimit_headers_on_success: true,
            outcomes: Outcomes::AsNeeded,
        },
    }
}

fn selection(operations: &[usize], methods: &[&str]) -> Selection {
    let operations = Selected::Named(operations.to_vec());
    Selection { operations, methods: methods.iter().map(|method| method.to_string()).collect() }
}

fn of_tier(tier: Tier) -> Selection {
    Selection { operations: Selected::OfTiers(Tiers::of([tier])), methods: vec![] }
}

fn switches() -> Vec<SwitchSpec> {
    let switch = |name: &str, active, selection, fallback| SwitchSpec {
        name: name.to_owned(),
        active,
        selection,
        enforced: true,
        fallback,
    };
    vec![
        switch("no-reviews", true, of_tier(Tier::P3), Some(2)),
        switch("read-only", false, selection(&[0], &["POST", "PUT"]), None),
    ]
}

fn breakers() -> Vec<BreakerSpec> {
    let inventory = Settings {
        consecutive_failures: Some(5),
        failure_ratio: Some(0.5),
        slow_ratio: Some(0.25),
        slow_after: Some(Duration::from_millis(800)),
        min_requests: 30,
        window: Duration::from_secs(20),
        open_for: Duration::from_secs(7),
        max_open_for: Duration::from_secs(70),
        probes: 3,
    };
    // What stands where the document says nothing.
    let rest = Settings {
        consecutive_failures: Some(1),
        failure_ratio: None,
        slow_ratio: None,
        slow_after: None,
        min_requests: 20,
        window: Duration::from_secs(10),
        open_for: Duration::from_secs(5),
        max_open_for: Duration::from_secs(60),
        probes: 5,
    };
    let breaker = |name: &str, settings, selection, failures, fallback| BreakerSpec {
        name: name.to_owned(),
        selection,
        failures,
        breaker: Breaker::new(settings).unwrap(),
        enforced: true,
        fallback,
    };
    vec![
        breaker(
            "inventory",
            &inventory,
            selection(&[0], &["POST"]),
            of(&[Term::With(500, 599), Term::Without(501, 501)]),
            Some(1),
        ),
        breaker("rest", &rest, of_tier(Tier::P1), Failures::default(), None),
    ]
}

fn of(terms: &[Term]) -> Failures {
    Failures::new(terms).unwrap()
}

fn on_failure() -> Vec<FailureSpec> {
    let client_ip = ClientIp { header: "x-client-chain".to_owned(), trusted_hops: 2, ipv6_prefix: 56 };
    let key = vec![KeyPart::Header("accept-language".to_owned())];
    let stale = stale::Spec {
        max_age: Duration::from_secs(600),
        max_bytes: 8192,
        assume_fresh: Some(Duration::from_secs(30)),
        ignore_cookies: stale::IgnoredCookies::new(vec!["_ga".to_owned(), "_ga_*".to_owned()]),
        key,
        client_ip,
    };
    vec![
        FailureSpec {
            selection: selection(&[1], &["GET"]),
            failures: of(&[Term::With(500, 599), Term::Without(501, 501)]),
            stale: Some(stale),
            fallback: Some(1),
        },
        FailureSpec { selection: of_tier(Tier::P0), failures: Failures::default(), stale: None, fallback: Some(2) },
    ]
}

fn retries() -> Vec<RetrySpec> {
    let place_order = RetryPolicy {
        max_attempts: 3,
        retry_on: Conditions::new(&["5xx", "reset", "connect-failure", "internal"]).unwrap(),
        per_try_timeout: Some(Duration::from_millis(300)),
        timeout: Some(Duration::from_secs(1)),
        idempotency_key: Some("idempotency-key".to_owned()),
        grpc_methods: vec!["/shop.Orders/Get".to_owned()],
        max_body_bytes: Some(32_768),
        hedging: Hedging::On,
        budget: Budget::new(0.2, 2.5, Duration::from_secs(20)).unwrap(),
    };
    // What stands where the document says nothing.
    let reviews = RetryPolicy {
        max_attempts: 2,
        retry_on: Conditions::new(&["5xx", "reset", "connect-failure", "unavailable"]).unwrap(),
        per_try_timeout: None,
        timeout: None,
        idempotency_key: None,
        grpc_methods: vec![],
        max_body_bytes: None,
        hedging: Hedging::Off,
        budget: Budget::new(0.1, 1.0, Duration::from_secs(10)).unwrap(),
    };
    vec![
        RetrySpec {
            selection: selection(&[0], &["POST"]),
            failures: of(&[Term::With(429, 429), Term::With(500, 599)]),
            policy: place_order,
        },
        RetrySpec { selection: of_tier(Tier::P3), failures: Failures::default(), policy: reviews },
    ]
}

fn deadlines() -> Vec<DeadlineSpec> {
    let rule = DeadlineRule { header: Some("x-request-timeout-ms".to_owned()), default: Some(Duration::from_secs(3)) };
    vec![
        DeadlineSpec { selection: selection(&[0], &["POST"]), rule, reach: Reach::End },
        DeadlineSpec {
            selection: of_tier(Tier::P3),
            rule: DeadlineRule { header: None, default: None },
            reach: Reach::Beginning,
        },
    ]
}

/// What the empty document means.
fn nothing() -> Config {
    Config {
        placement: Placement::Downstream,
        version: None,
        scope: None,
        operations: vec![Operation::other()],
        limits: vec![],
        switches: vec![],
        breakers: vec![],
        on_failure: vec![],
        retries: vec![],
        deadlines: vec![],
        fallbacks: vec![],
        monitor: Monitor {
            access_log: AccessLog::All,
            reason_header: true,
            ratelimit_headers: RateLimitHeaders::Ietf,
            ratelimit_headers_on_success: false,
            outcomes: Outcomes::All,
        },
    }
}

#[test]
fn reads_every_field() {
    assert_eq!(parse(BASELINE), Ok(baseline()));
}

#[test]
fn nothing_at_all_is_a_configuration_that_does_nothing() {
    for document in ["", " ", "\n", " \t\r\n ", "{}", " { } ", "\n{\n}\n", r#"{"limits": []}"#, r#"{"operations": []}"#]
    {
        assert_eq!(parse(document), Ok(nothing()), "{document:?}");
    }
    let lists = r#"{"operations": [], "limits": [], "fallbacks": [], "monitor": {}, "client_ip": {}}"#;
    assert_eq!(parse(lists), Ok(nothing()));
}

#[test]
fn what_is_left_out_has_its_default() {
    let document = r#"{
        "operations": [{"name": "a", "match": {"paths": ["/a"]}}],
        "limits": [{"name": "l", "key": ["client_ip"],
                    "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s"}}],
        "fallbacks": [{"name": "f", "status": 503}]
    }"#;
    let config = parse(document).unwrap();
    assert_eq!(config.operations[0].tier, Tier::P1);
    let client_ip = ClientIp { header: "x-forwarded-for".to_owned(), trusted_hops: 0, ipv6_prefix: 64 };
    let key = Some(KeySpec { parts: vec![KeyPart::ClientIp], missing: Missing::Shared, client_ip });
    let second = Duration::from_secs(1);
    assert_eq!(
        config.limits,
        [LimitSpec { key, ..plain_limit("l", Selected::OfTiers(Tiers::ALL), bucket(1, 1, second)) }]
    );
    assert_eq!(config.fallbacks, [plain_fallback("f", 503)]);
    assert_eq!(config.monitor, nothing().monitor);
}

#[test]
fn null_is_as_good_as_nothing_for_whatever_may_be_left_out() {
    let optional = [
        "/version",
        "/scope",
        "/client_ip/header",
        "/client_ip/ipv6_prefix",
        "/client_ip",
        "/operations/0/tier",
        "/operations/0/match/hosts",
        "/operations/0/match/methods",
        "/operations/0/match/paths",
        "/operations/0/match/headers",
        "/limits/1/tiers",
        "/limits/2/operations",
        "/limits/2/methods",
        "/limits/2/max_keys",
        "/limits/2/missing",
        "/limits/2/cost",
        "/limits/2/enforced",
        "/limits/2/fallback",
        "/limits/2/failure_mode",
        "/limits",
        "/fallbacks/0/headers",
        "/fallbacks/1/methods",
        "/fallbacks/0/json",
        "/fallbacks/1/text",
        "/fallbacks/1/retry_after",
        "/fallbacks/1/grpc_status",
        "/fallbacks/2/cors/allow_credentials",
        "/fallbacks/2/cors",
        "/switches/0/active",
        "/switches/0/tiers",
        "/switches/0/fallback",
        "/switches/1/operations",
        "/switches/1/methods",
        "/switches",
        "/breakers/0/operations",
        "/breakers/0/methods",
        "/breakers/0/trip/consecutive_failures",
        "/breakers/0/trip/failure_ratio",
        "/breakers/0/trip/slow_ratio",
        "/breakers/0/trip/min_requests",
        "/breakers/0/trip/window",
        "/breakers/0/open_for",
        "/breakers/0/max_open_for",
        "/breakers/0/probes",
        "/breakers/0/fallback",
        "/breakers/1/tiers",
        "/breakers",
        "/on_failure/0/operations",
        "/on_failure/0/methods",
        "/on_failure/0/failures",
        "/breakers/0/failures",
        "/retries/0/failures",
        "/deadlines/0/cut_responses",
        "/on_failure/0/stale/max_bytes",
        "/on_failure/0/stale/assume_fresh",
        "/on_failure/0/stale/ignore_cookies",
        "/on_failure/0/stale/key",
        "/on_failure/0/stale",
        "/on_failure/0/fallback",
        "/on_failure",
        "/retries/0/operations",
        "/retries/0/methods",
        "/retries/0/max_attempts",
        "/retries/0/retry_on",
        "/retries/0/timeout",
        "/retries/0/idempotency_key",
        "/retries/0/grpc_methods",
        "/retries/0/max_body_bytes",
        "/retries/0/hedge",
        "/retries/0/budget/ratio",
        "/retries/0/budget/min_per_second",
        "/retries/0/budget/ttl",
        "/retries/0/budget",
        "/retries/1/tiers",
        "/retries",
        "/deadlines/0/operations",
        "/deadlines/0/methods",
        "/deadlines/0/header",
        "/deadlines/0/default",
        "/deadlines/1/tiers",
        "/deadlines",
        "/monitor/access_log",
        "/monitor/reason_header",
        "/monitor/ratelimit_headers",
        "/monitor/outcomes",
        "/monitor",
    ];
    for pointer in optional {
        let without = parse(&poked(pointer, None)).unwrap_or_else(|error| panic!("{pointer}: {error}"));
        assert_eq!(parse(&poked(pointer, Some("null"))), Ok(without), "{pointer}");
    }
    // These are referred to elsewhere in the baseline.
    for field in "operations limits fallbacks placement switches breakers on_failure retries deadlines".split(' ') {
        assert_eq!(parse(&format!(r#"{{"{field}": null}}"#)), Ok(nothing()), "{field}");
    }
}

/// The text of a value, the keys of objects by `order`.
fn text(value: &Value, order: fn(&mut Vec<(&String, &Value)>)) -> String {
    match value {
        Value::Array(list) => {
            let entries: Vec<String> = list.iter().map(|entry| text(entry, order)).collect();
            format!("[{}]", entries.join(","))
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            order(&mut entries);
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key:?}:{}", text(value, order))).collect();
            format!("{{{}}}", entries.join(","))
        }
        other => other.to_string(),
    }
}

/// Istio sorts them.
#[test]
fn the_order_of_fields_does_not_matter() {
    let document: Value = serde_json::from_str(BASELINE).unwrap();
    assert_eq!(parse(&text(&document, |entries| entries.sort_by_key(|entry| entry.0))), Ok(baseline()));
    assert_eq!(parse(&text(&document, |entries| entries.sort_by(|one, other| other.0.cmp(one.0)))), Ok(baseline()));
}

fn with_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64().unwrap()),
        Value::Array(list) => list.into_iter().map(with_doubles).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, with_doubles(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

/// Istio makes numbers doubles.
#[test]
fn a_double_that_is_a_whole_number_is_one() {
    let document = with_doubles(serde_json::from_str(BASELINE).unwrap()).to_string();
    assert!(document.contains(r#""max_tokens":1000.0"#), "{document}");
    assert_eq!(parse(&document), Ok(baseline()));
    assert_eq!(parse(&BASELINE.replace("1000", "1e3")), Ok(baseline()));
    assert_eq!(parse(&BASELINE.replace("1000", "0.1E+4")), Ok(baseline()));
    assert_eq!(parse(&BASELINE.replace(r#""cost": 3"#, r#""cost": 3.0"#)), Ok(baseline()));
    assert_eq!(accepts("/client_ip/trusted_hops", "-0.0"), accepts("/client_ip/trusted_hops", "0"));
}

#[test]
fn lists_keep_their_order() {
    let config = accepts("/limits/2/operations", r#"["other", "users", "place-order", "users"]"#);
    assert_eq!(config.limits[2].selection.operations, Selected::Named(vec![0, 2, 3]), "a set");
    let names: Vec<&str> = config.limits.iter().map(|limit| limit.name.as_str()).collect();
    assert_eq!(names, ["all", "decoration", "orders-per-user"]);
    let names: Vec<&str> = config.operations.iter().map(|operation| operation.name.as_str()).collect();
    assert_eq!(names, ["place-order", "reviews", "users", "other"]);
}

#[test]
fn a_tier_selects_its_operations_and_p1_other_too() {
    let selected = |tiers| {
        let config = accepts("/limits/1/tiers", tiers);
        config.limits[1].selection.among(&config.operations).collect::<Vec<usize>>()
    };
    assert_eq!(selected(r#"["P0"]"#), [0]);
    assert_eq!(selected(r#"["P1"]"#), [2, 3]);
    assert_eq!(selected(r#"["P3", "P0", "P3"]"#), [0, 1]);
    assert_eq!(selected(r#"["P2"]"#), [0; 0]);
}

#[test]
fn a_fallbacks_content_type_can_be_its_own() {
    let config = accepts("/fallbacks/0/headers", r#"{"Content-Type": "application/vnd.shop+json"}"#);
    assert_eq!(config.fallbacks[0].headers, owned(&[("content-type", "application/vnd.shop+json")]));
    assert_eq!(accepts("/fallbacks/0/json", "[1, null]").fallbacks[0].body, body("[1,null]"));
    assert_eq!(accepts("/fallbacks/1/text", r#""""#).fallbacks[1].body, body(""));
}

// === placement =======================================================================================================

#[test]
fn one_document_serves_both_places() {
    assert_eq!(accepts("/placement", r#""downstream""#), accepts("/placement", "null"));
    let upstream = accepts("/placement", r#""upstream""#);
    let baseline = accepts("/placement", "null");
    let kept = Config {
        placement: Placement::Upstream,
        version: baseline.version,
        scope: baseline.scope,
        monitor: baseline.monitor,
        ..nothing()
    };
    assert_eq!(upstream, kept, "no policy acts on single attempts");
    refuses("/placement", r#""sidestream""#, r#"placement: "sidestream", must be "downstream" or "upstream""#);
    refuses_types("/placement", "placement", &["[]", "{}"], "a string");
    let broken = r#"{ "placement": "upstream", "retries": [{ "max_attempts": 9 }] }"#;
    assert!(parse(broken).is_err(), "what does not act is checked all the same");
}

// === fields that nobody knows, and fields that are missing ===========================================================

#[test]
fn refuses_unknown_fields_and_says_which_there_are() {
    let check = |parent: &str, path: &str, known: &str| {
        let known: Vec<String> = known.split(' ').map(|field| format!("`{field}`")).collect();
        let expected = format!("{path}nonsense: unknown field `nonsense`, expected one of {}", known.join(", "));
        refuses(&format!("{parent}/nonsense"), "1", &expected);
    };
    let top = "version scope placement client_ip operations limits fallbacks switches breakers on_failure retries \
               deadlines monitor";
    check("", "", top);
    check("/client_ip", "client_ip.", "header trusted_hops ipv6_prefix");
    check("/operations/1", "operations[1].", "name tier path_parameters match");
    check("/operations/0/match", "operations[0].match.", "hosts methods paths headers");
    check("/operations/0/match/headers/1", "operations[0].match.headers[1].", "name exact prefix suffix present");
    let limit = "name operations tiers methods key max_keys missing token_bucket leaky_bucket window concurrency cost \
                 enforced fallback failure_mode";
    check("/limits/2", "limits[2].", limit);
    check("/limits/2/token_bucket", "limits[2].token_bucket.", "max_tokens tokens_per_fill fill_interval");
    check("/fallbacks/0", "fallbacks[0].", "name status methods headers json text retry_after grpc_status cors");
    let expected =
        "fallbacks[2].cors.nonsense: unknown field `nonsense`, expected one of `allow_origin`, `allow_credentials`";
    refuses("/fallbacks/2/cors/nonsense", "1", expected);
    check("/switches/0", "switches[0].", "name active operations tiers methods enforced fallback");
    let breaker = "name operations tiers methods failures trip open_for max_open_for probes enforced fallback";
    check("/breakers/0", "breakers[0].", breaker);
    let trip = "consecutive_failures failure_ratio slow_ratio slow_after min_requests window";
    check("/breakers/0/trip", "breakers[0].trip.", trip);
    check("/on_failure/0", "on_failure[0].", "operations tiers methods failures statuses stale fallback");
    check("/on_failure/0/stale", "on_failure[0].stale.", "max_age max_bytes assume_fresh ignore_cookies key");
    let retry = "operations tiers methods failures max_attempts retry_on per_try_timeout timeout idempotency_key grpc_methods \
                 max_body_bytes hedge budget";
    check("/retries/0", "retries[0].", retry);
    check("/retries/0/budget", "retries[0].budget.", "ratio min_per_second ttl");
    check("/deadlines/0", "deadlines[0].", "operations tiers methods header default cut_responses");
    let monitor = "access_log reason_header ratelimit_headers ratelimit_headers_on_success outcomes";
    check("/monitor", "monitor.", monitor);
}

#[test]
fn an_unknown_field_may_be_a_known_one_misspelt() {
    let check = |parent: &str, given: &str, meant: Option<&str>| {
        let refusal = parse(&poked(&format!("{parent}/{given}"), Some("1"))).unwrap_err();
        let begun = match meant {
            Some(meant) => format!("unknown field `{given}`, did you mean `{meant}`? It may be one of `"),
            None => format!("unknown field `{given}`, expected one of `"),
        };
        assert!(refusal.contains(&begun), "{refusal}");
    };
    check("", "limit", Some("limits"));
    check("", "retry", None);
    check("", "on-failure", Some("on_failure"));
    check("/limits/2", "tokenbucket", Some("token_bucket"));
    check("/limits/2", "tokenBucket", Some("token_bucket"));
    check("/limits/2", "TOKEN-BUCKET", Some("token_bucket"));
    check("/limits/2", "operation", Some("operations"));
    check("/limits/2", "rate", None);
    check("/limits/2/token_bucket", "max_token", Some("max_tokens"));
    check("/limits/2/token_bucket", "", None);
    check("/switches/0", "activ", Some("active"));
    check("/switches/0", "off", None);
}

#[test]
fn long_values_and_names_are_cut_in_errors() {
    let (long, shown) = ("é".repeat(201), "é".repeat(200));
    let quoted = format!("{long:?}");
    refuses("/limits/2/fallback", &quoted, &format!("limits[2].fallback: \"{shown}…\", is not the name of a fallback"));
    refuses("/limits", &quoted, &format!("limits: invalid type: string \"{shown}…\", expected a list"));
    let whole = format!("\"{shown}\"");
    refuses("/limits/2/fallback", &whole, &format!("limits[2].fallback: {whole}, is not the name of a fallback"));
    let refusal = parse(&poked(&format!("/limits/2/{long}"), Some("1"))).unwrap_err();
    assert!(refusal.starts_with(&format!("limits[2].{shown}…: unknown field `{shown}…`, expected")), "{refusal}");
    // Every text that anything is wrong with.
    for pointer in texts() {
        let refusal = parse(&poked(&pointer, Some(&format!("\"\\n%A%{}\"", "?".repeat(10_000)))));
        assert!(refusal.as_ref().err().is_none_or(|error| error.len() < 700), "{pointer}: {refusal:?}");
    }
}

#[test]
fn an_error_is_one_line_whatever_a_field_is_called() {
    // JSON spells control characters out, and one of them needs no spelling.
    for (name, shown) in [("a\nb", "a\\nb"), ("\u{7f}", "\\u{7f}"), ("\u{1b}[31m", "\\u{1b}[31m"), ("it's\\", "it's\\")]
    {
        let refusal = parse(&poked(&format!("/limits/2/{name}"), Some("1"))).unwrap_err();
        let begun = format!("limits[2].{shown}: unknown field `{shown}`, ");
        assert!(refusal.starts_with(&begun), "{refusal:?}");
    }
}

// === what YAML makes of texts without quotes =========================================================================

/// The JSON pointers of all texts in the baseline.
fn texts() -> Vec<String> {
    fn collect(value: &Value, pointer: &str, found: &mut Vec<String>) {
        match value {
            Value::String(_) => found.push(pointer.to_owned()),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, it)| collect(it, &format!("{pointer}/{index}"), found));
            }
            Value::Object(map) => map.iter().for_each(|(name, it)| collect(it, &format!("{pointer}/{name}"), found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(BASELINE).unwrap(), "", &mut found);
    found
}

/// Where a number is a number and means something else than the text, or nothing; these have tests of their own.
const NUMBER_OR_TEXT: [&str; 3] = ["/limits/2/cost", "/on_failure/0/statuses", "/fallbacks/0/json"];
const DURATIONS: [&str; 13] = [
    "assume_fresh",
    "fill_interval",
    "retry_after",
    "slow_after",
    "window",
    "open_for",
    "max_open_for",
    "max_age",
    "per_try_timeout",
    "timeout",
    "ttl",
    "default",
    "interval",
];

#[test]
fn a_text_that_yaml_took_for_something_else_is_understood_or_refused_with_a_hint() {
    let texts = texts().into_iter().filter(|pointer| {
        let field = pointer.rsplit('/').next().unwrap();
        !NUMBER_OR_TEXT.iter().any(|it| pointer.starts_with(it)) && !DURATIONS.contains(&field)
    });
    let texts: Vec<String> = texts.collect();
    assert!(50 < texts.len(), "{texts:?}");
    for pointer in texts {
        for (number, text) in [("1000", "1000"), ("1000.0", "1000"), ("-5", "-5"), ("0", "0")] {
            let as_text = parse(&poked(&pointer, Some(&format!("{text:?}"))));
            assert_eq!(parse(&poked(&pointer, Some(number))), as_text, "{number} at {pointer}");
        }
        let hint = "must be a text: write it in quotes, or YAML takes";
        let refused = |value: &str, rest: &str| {
            let refusal = parse(&poked(&pointer, Some(value))).map(|_| "accepted");
            let expected = format!(": {value}, {hint} {rest}");
            assert!(refusal.as_ref().is_err_and(|it| it.ends_with(&expected)), "{value} at {pointer}: {refusal:?}");
        };
        refused("true", "on, yes and true for true");
        refused("false", "off, no and false for false");
        if pointer != "/version" {
            refused("1.5", "it for a number");
            // Of such a double nobody knows the digits.
            refused("9007199254740992.0", "it for a number");
        }
    }
}

#[test]
fn a_version_may_be_a_number_or_a_date() {
    for (value, version) in [
        ("1", "1"),
        ("1.1", "1.1"),
        ("1000", "1000"),
        ("20261128123456", "20261128123456"),
        ("20261128.0", "20261128"),
        (r#""2026-11-28""#, "2026-11-28"),
        (r#""2026-11-28T00:00:00Z""#, "2026-11-28T00:00:00Z"),
    ] {
        assert_eq!(accepts("/version", value).version.as_deref(), Some(version), "{value}");
    }
}

#[test]
fn names_that_are_numbers_are_found_by_either_spelling() {
    let document = r#"{
        "operations": [{ "name": 404, "match": { "paths": ["/404"] } }],
        "limits": [{ "name": 1, "operations": ["404"], "fallback": 503, "window": { "max_requests": 1, "interval": "1s" } }],
        "fallbacks": [{ "name": "503", "status": 503, "headers": { "x-limit": 100 } }]
    }"#;
    let config = parse(document).unwrap();
    assert_eq!(
        (&config.limits[0].selection.operations, config.limits[0].fallback),
        (&Selected::Named(vec![0]), Some(0))
    );
    assert_eq!(config.fallbacks[0].headers, owned(&[("x-limit", "100")]));
}

#[test]
fn the_old_spelling_of_active_is_read_and_what_yaml_makes_of_it() {
    for key in ["active", "on", "true"] {
        for active in [true, false] {
            let switch = format!(r#"{{ "name": "s", "{key}": {active} }}"#);
            assert_eq!(accepts("/switches/0", &switch).switches[0].active, active, "{switch}");
        }
        let refused = format!("switches[0].{key}: invalid type: integer `1`, expected a boolean");
        refuses("/switches/0", &format!(r#"{{ "name": "s", "{key}": 1 }}"#), &refused);
    }
    for old in ["on", "true"] {
        let both = format!(r#"{{ "name": "s", "active": true, "{old}": true }}"#);
        let problem = "must not have both active and on, its old spelling (of which YAML makes true)";
        refuses("/switches/0", &both, &format!("switches[0]: {problem}"));
    }
}

#[test]
fn refuses_missing_fields() {
    refuses_without("/operations/1/name", "operations[1]: missing field `name`");
    refuses_without("/operations/1/match", "operations[1]: missing field `match`");
    refuses_without("/operations/0/match/headers/1/name", "operations[0].match.headers[1]: missing field `name`");
    refuses_without("/limits/2/name", "limits[2]: missing field `name`");
    refuses_without(
        "/limits/2/token_bucket",
        "limits[2]: must have exactly one of token_bucket, leaky_bucket, window and concurrency",
    );
    refuses(
        "/limits/2/token_bucket",
        "null",
        "limits[2]: must have exactly one of token_bucket, leaky_bucket, window and concurrency",
    );
    let path = "limits[2].token_bucket: missing field";
    refuses_without("/limits/2/token_bucket/max_tokens", &format!("{path} `max_tokens`"));
    refuses_without("/limits/2/token_bucket/tokens_per_fill", &format!("{path} `tokens_per_fill`"));
    refuses_without("/limits/2/token_bucket/fill_interval", &format!("{path} `fill_interval`"));
    refuses_without("/fallbacks/1/name", "fallbacks[1]: missing field `name`");
    refuses_without("/fallbacks/1/status", "fallbacks[1]: missing field `status`");
    refuses_without("/fallbacks/2/cors/allow_origin", "fallbacks[2].cors: missing field `allow_origin`");
    refuses_without("/switches/0/name", "switches[0]: missing field `name`");
    refuses_without("/breakers/0/name", "breakers[0]: missing field `name`");
    refuses_without("/breakers/0/trip", "breakers[0]: missing field `trip`");
    refuses_without("/on_failure/0/stale/max_age", "on_failure[0].stale: missing field `max_age`");
}

#[test]
fn refuses_fields_that_are_given_twice() {
    let check =
        |document: &str, expected: &str| assert_eq!(parse(document).err().as_deref(), Some(expected), "{document}");
    check(r#"{"version": "a", "version": "b"}"#, "duplicate field `version`");
    check(r#"{"limits": [], "limits": []}"#, "duplicate field `limits`");
    check(r#"{"limits": [{"name": "a", "name": "b"}]}"#, "limits[0]: duplicate field `name`");
}

#[test]
fn refuses_headers_that_are_given_twice() {
    let rule = r#"fallbacks[0].headers: "a", is the name of an earlier entry too"#;
    refuses("/fallbacks/0/headers", r#"{"A": "1", "a": "2"}"#, rule);
    let document = r#"{"fallbacks": [{"name": "f", "status": 503, "headers": {"a": "1", "a": "2"}}]}"#;
    assert_eq!(parse(document).err().as_deref(), Some(rule));
}

// === values ==========================================================================================================

#[test]
fn accepts_names_up_to_63_lower_case_letters_digits_and_hyphens() {
    let longest = "a".repeat(63);
    for name in ["a", "7", "0-", "a-b-c", "10-per-user", &longest] {
        let value = format!("{name:?}");
        assert_eq!(accepts("/scope", &value).scope.as_deref(), Some(name));
        assert_eq!(accepts("/operations/2/name", &value).operations[2].name, name);
        assert_eq!(accepts("/limits/0/name", &value).limits[0].name, name);
        assert_eq!(accepts("/fallbacks/0/name", &value).fallbacks[0].name, name);
    }
    let rule = "must be 1 to 63 lower-case letters, digits and hyphens, not starting with a hyphen";
    let too_long = "a".repeat(64);
    for name in ["", "-a", "A", "a_b", "a b", "a.b", "a/b", "ä", "a\u{0}", &too_long] {
        let value = Value::from(name).to_string();
        for (pointer, path) in [
            ("/scope", "scope"),
            ("/operations/2/name", "operations[2].name"),
            ("/limits/0/name", "limits[0].name"),
            ("/fallbacks/0/name", "fallbacks[0].name"),
        ] {
            refuses(pointer, &value, &format!("{path}: {name:?}, {rule}"));
        }
    }
    refuses_types("/scope", "scope", &["[]", "{}"], "a string");
    refuses_types("/limits/0/name", "limits[0].name", &["null", "[]"], "a string");
}

#[test]
fn accepts_versions_of_63_characters_that_versions_are_made_of() {
    let longest = "v".repeat(63);
    for version in ["1", "v1.2.3-rc.4+build_5", "git:abc/def@9", &longest] {
        assert_eq!(accepts("/version", &format!("{version:?}")).version.as_deref(), Some(version));
    }
    let too_long = "v".repeat(64);
    for version in ["", "a b", "a;b", "a=b", "ä", &too_long] {
        let rule = "must be 1 to 63 letters, digits and characters of -_.:/+@";
        refuses("/version", &format!("{version:?}"), &format!("version: {version:?}, {rule}"));
    }
    refuses_types("/version", "version", &["[]", "{}"], "a string");
}

/// Whole numbers with their bounds.
const NUMBERS: [(&str, &str, u32, u32); 9] = [
    ("/client_ip/trusted_hops", "client_ip.trusted_hops", 0, 32),
    ("/client_ip/ipv6_prefix", "client_ip.ipv6_prefix", 1, 128),
    ("/limits/2/max_keys", "limits[2].max_keys", 1, 1_048_576),
    ("/limits/2/token_bucket/max_tokens", "limits[2].token_bucket.max_tokens", 1, 1_000_000_000),
    ("/limits/2/token_bucket/tokens_per_fill", "limits[2].token_bucket.tokens_per_fill", 1, 1_000_000_000),
    ("/limits/2/cost", "limits[2].cost", 1, 1_000_000_000),
    ("/fallbacks/1/status", "fallbacks[1].status", 200, 599),
    ("/fallbacks/1/grpc_status", "fallbacks[1].grpc_status", 1, 16),
    ("/retries/0/max_body_bytes", "retries[0].max_body_bytes", 0, 1_073_741_824),
];

#[test]
fn refuses_numbers_out_of_bounds_and_fractions() {
    for (pointer, path, least, most) in NUMBERS {
        let rule = format!("must be a whole number from {least} to {most}");
        let (below, above) = (i64::from(least) - 1, i64::from(most) + 1);
        for number in [below, above, -5, i64::MIN, 4_294_967_296, 4_294_967_297, i64::MAX] {
            refuses(pointer, &number.to_string(), &format!("{path}: {number}, {rule}"));
        }
        for number in ["5.5", "0.5", "-0.5", "0.999"] {
            refuses(pointer, number, &format!("{path}: {number}, {rule}"));
        }
    }
}

#[test]
fn shows_huge_numbers_shortly() {
    for (pointer, path, least, most) in NUMBERS {
        let rule = format!("must be a whole number from {least} to {most}");
        // As serde_json writes them into the document.
        refuses(pointer, "1e300", &format!("{path}: 1e+300, {rule}"));
        refuses(pointer, "-1e300", &format!("{path}: -1e+300, {rule}"));
    }
}

#[test]
fn accepts_numbers_at_their_bounds() {
    for (pointer, _, least, most) in NUMBERS {
        if ["/limits/2/cost", "/limits/2/token_bucket/max_tokens"].contains(&pointer) {
            // Bounded by the rest of the bucket too.
            continue;
        }
        for number in [least, most] {
            assert_eq!(accepts(pointer, &number.to_string()), accepts(pointer, &format!("{number}.0")), "{pointer}");
        }
    }
    assert_eq!(accepts("/limits/2/cost", "1").limits[2].cost, Cost::Fixed(1));
    assert_eq!(accepts("/limits/2/cost", "20").limits[2].cost, Cost::Fixed(20));
    assert_eq!(accepts("/limits/2/max_keys", "1048576").limits[2].max_keys, 1_048_576);
    assert_eq!(accepts("/client_ip/ipv6_prefix", "128").limits[2].key.as_ref().unwrap().client_ip.ipv6_prefix, 128);
}

#[test]
fn refuses_other_types_for_numbers() {
    for (pointer, path, least, most) in NUMBERS {
        let (types, expected) = match pointer {
            "/limits/2/cost" => (&["true", "[]", "{}"][..], r#"a number or "header:NAME""#.to_owned()),
            _ => (&["\"5\"", "true", "[]", "{}"][..], format!("a whole number from {least} to {most}")),
        };
        refuses_types(pointer, path, types, &expected);
    }
}

#[test]
fn reads_durations() {
    let check = |text: &str, millis: u64, nanos: u64| {
        let config = accepts("/fallbacks/1/retry_after", &format!("{text:?}"));
        let expected = Duration::from_millis(millis) + Duration::from_nanos(nanos);
        assert_eq!(config.fallbacks[1].retry_after, Some(expected), "{text}");
    };
    check("1ms", 1, 0);
    check("250ms", 250, 0);
    check("1s", 1_000, 0);
    check("1m", 60_000, 0);
    check("1h", 3_600_000, 0);
    check("1m30s", 90_000, 0);
    check("1h2m3s4ms", 3_723_004, 0);
    check("90s", 90_000, 0);
    check("007s", 7_000, 0);
    check("0s1ms", 1, 0);
    check("0.5s", 500, 0);
    check("1.5h", 5_400_000, 0);
    check("0.25m", 15_000, 0);
    check("1.000s", 1_000, 0);
    check("0.001s", 1, 0);
    check("1.5ms", 1, 500_000);
    check("1.000000001s", 1_000, 1);
    check("0.0000000000000001s1ms", 1, 0);
    check("8784h", 366 * 24 * 3_600_000, 0);
    check("1d", 24 * 3_600_000, 0);
    check("1d12h", 36 * 3_600_000, 0);
    check("0.5d", 12 * 3_600_000, 0);
    let interval = accepts("/limits/2/token_bucket/fill_interval", r#""2m30.5s""#);
    assert_eq!(interval.limits[2].policy, Policy::TokenBucket(bucket(20, 10, Duration::from_millis(150_500))));
}

#[test]
fn refuses_what_is_no_duration() {
    let rule = r#"must be a duration such as "250ms", "1m30s" or "1d" (units: ms, s, m, h, d)"#;
    let fields = [
        ("/limits/2/token_bucket/fill_interval", "limits[2].token_bucket.fill_interval"),
        ("/fallbacks/1/retry_after", "fallbacks[1].retry_after"),
    ];
    for (pointer, path) in fields {
        for text in [
            "", " ", "1", "1.5", "s", "ms", "1x", "1D", "1w", "1us", "1µs", "1ns", "1S", "1M", "1H", "1 s", " 1s",
            "1s ", "-1s", "+1s", ".5s", "5.s", ".s", "1..5s", "1.5.5s", "1e3s", "1,5s", "1s30", "1m 30s", "1m-30s",
            "PT1S", "1sec", "١s", "forever",
        ] {
            refuses(pointer, &format!("{text:?}"), &format!("{path}: {text:?}, {rule}"));
        }
        for number in ["30", "0", "-5", "1.5"] {
            refuses(pointer, number, &format!("{path}: {number}, {rule}"));
        }
        for text in ["0s", "0ms", "0h0m0s0ms", "0.9ms", "0.0009s", "0.999999999999ms"] {
            refuses(pointer, &format!("{text:?}"), &format!("{path}: {text:?}, must be at least 1ms"));
        }
        refuses_types(pointer, path, &["true", "[]", "{}"], r#"a duration such as "250ms", "1m30s" or "1d""#);
    }
}

#[test]
fn the_example_of_the_design_reads_as_it_says() {
    let expected = r#"limits[2].token_bucket.fill_interval: "0s", must be at least 1ms"#;
    refuses("/limits/2/token_bucket/fill_interval", r#""0s""#, expected);
    let error = Config::parse(poked("/limits/2/token_bucket/fill_interval", Some(r#""0s""#)).as_bytes()).unwrap_err();
    let paths: Vec<&str> = error.iter().map(|it| it.path()).collect();
    assert_eq!(paths, ["limits[2].token_bucket.fill_interval"]);
}

#[test]
fn refuses_words_that_are_none_of_the_choices() {
    let check = |pointer: &str, path: &str, word: &str, choices: &str| {
        refuses(pointer, &format!("{word:?}"), &format!("{path}: {word:?}, must be {choices}"));
        refuses_types(pointer, path, &["[]", "{}"], "a string");
    };
    let tiers = r#""P0", "P1", "P2" or "P3""#;
    check("/operations/0/tier", "operations[0].tier", "p0", tiers);
    check("/limits/1/tiers/0", "limits[1].tiers[0]", "P4", tiers);
    check("/limits/2/missing", "limits[2].missing", "drop", r#""shared" or "skip""#);
    check("/limits/2/failure_mode", "limits[2].failure_mode", "open", r#""allow" or "deny""#);
    check("/monitor/ratelimit_headers", "monitor.ratelimit_headers", "both", r#""ietf", "x-ratelimit" or "none""#);
}

#[test]
fn a_word_is_no_object() {
    refuses_types("/operations/0/tier", "operations[0].tier", &[r#"{"P0": null}"#], "a string");
    refuses_types("/limits/2/failure_mode", "limits[2].failure_mode", &[r#"{"deny": null}"#], "a string");
}

#[test]
fn refuses_what_is_neither_true_nor_false() {
    for (pointer, path) in [
        ("/limits/2/enforced", "limits[2].enforced"),
        ("/switches/0/enforced", "switches[0].enforced"),
        ("/breakers/0/enforced", "breakers[0].enforced"),
        ("/monitor/reason_header", "monitor.reason_header"),
        ("/operations/0/match/headers/3/present", "operations[0].match.headers[3].present"),
    ] {
        refuses_types(pointer, path, &["\"true\"", "1", "[]", "{}"], "a boolean");
    }
}

#[test]
fn the_access_log_is_shown_all_some_or_nothing() {
    let of = |value: &str| {
        let document = format!(r#"{{ "monitor": {{ "access_log": {value} }} }}"#);
        Config::parse(document.as_bytes()).unwrap().monitor.access_log
    };
    assert_eq!(of("true"), AccessLog::All);
    assert_eq!(of(r#""decisions""#), AccessLog::Decisions);
    assert_eq!(of("false"), AccessLog::None);
    assert_eq!(Config::parse(b"{}").unwrap().monitor.access_log, AccessLog::All);
    let rule = r#"true, false or "decisions""#;
    refuses("/monitor/access_log", r#""true""#, &format!(r#"monitor.access_log: "true", must be {rule}"#));
    for (value, given) in [("1", "integer `1`"), ("[]", "list"), ("{}", "object")] {
        refuses("/monitor/access_log", value, &format!("monitor.access_log: invalid type: {given}, expected {rule}"));
    }
}

/// Every list and object of the interface.
const LISTS: [(&str, &str); 24] = [
    ("/operations", "operations"),
    ("/operations/0/match/hosts", "operations[0].match.hosts"),
    ("/operations/0/match/methods", "operations[0].match.methods"),
    ("/operations/0/match/paths", "operations[0].match.paths"),
    ("/operations/0/match/headers", "operations[0].match.headers"),
    ("/limits", "limits"),
    ("/limits/0/operations", "limits[0].operations"),
    ("/limits/1/tiers", "limits[1].tiers"),
    ("/limits/2/operations", "limits[2].operations"),
    ("/limits/2/methods", "limits[2].methods"),
    ("/limits/2/key", "limits[2].key"),
    ("/fallbacks", "fallbacks"),
    ("/limits/0/methods", "limits[0].methods"),
    ("/fallbacks/2/cors/allow_origin", "fallbacks[2].cors.allow_origin"),
    ("/switches", "switches"),
    ("/switches/1/operations", "switches[1].operations"),
    ("/switches/1/methods", "switches[1].methods"),
    ("/breakers", "breakers"),
    ("/breakers/1/tiers", "breakers[1].tiers"),
    ("/breakers/0/methods", "breakers[0].methods"),
    ("/on_failure", "on_failure"),
    ("/on_failure/0/operations", "on_failure[0].operations"),
    ("/on_failure/0/failures", "on_failure[0].failures"),
    ("/on_failure/0/stale/key", "on_failure[0].stale.key"),
];
const OBJECTS: [(&str, &str); 14] = [
    ("/client_ip", "client_ip"),
    ("/operations/0", "operations[0]"),
    ("/operations/0/match", "operations[0].match"),
    ("/operations/0/match/headers/0", "operations[0].match.headers[0]"),
    ("/limits/1", "limits[1]"),
    ("/limits/1/token_bucket", "limits[1].token_bucket"),
    ("/fallbacks/0", "fallbacks[0]"),
    ("/fallbacks/2/cors", "fallbacks[2].cors"),
    ("/switches/0", "switches[0]"),
    ("/breakers/0", "breakers[0]"),
    ("/breakers/0/trip", "breakers[0].trip"),
    ("/on_failure/0", "on_failure[0]"),
    ("/on_failure/0/stale", "on_failure[0].stale"),
    ("/monitor", "monitor"),
];

#[test]
fn refuses_what_is_no_list() {
    for (pointer, path) in LISTS {
        refuses_types(pointer, path, &["\"a\"", "{}", "5"], "a list");
    }
}

#[test]
fn refuses_what_is_no_object() {
    for (pointer, path) in OBJECTS {
        refuses_types(pointer, path, &["\"a\"", "5", "true", "[]"], "an object");
    }
    refuses_types("/limits/1", "limits[1]", &["null"], "an object");
    refuses_types("/fallbacks/0/headers", "fallbacks[0].headers", &["\"a\"", "5", "[]"], "an object");
}

#[test]
fn an_array_is_no_object_although_its_entries_would_fit() {
    refuses_types("/client_ip", "client_ip", &[r#"["x", 0, 64]"#], "an object");
    refuses_types("/limits/1/token_bucket", "limits[1].token_bucket", &[r#"[5, 5, "1s"]"#], "an object");
    refuses_types("/operations/2", "operations[2]", &[r#"["users", "P1", {"methods": ["GET"]}]"#], "an object");
}

#[test]
fn refuses_empty_lists_where_they_would_match_nothing() {
    for (pointer, path) in LISTS {
        // The document's own lists may be empty, and a few say something else.
        let own = pointer.matches('/').count() == 1;
        if own || pointer.ends_with("/key") || pointer.ends_with("/allow_origin") {
            continue;
        }
        refuses(pointer, "[]", &format!("{path}: [], must not be empty (leave it out to match everything)"));
    }
}

#[test]
fn refuses_a_key_of_no_parts() {
    refuses(
        "/limits/2/key",
        "[]",
        "limits[2].key: [], must not be empty (leave it out to count all requests together)",
    );
}

// === matching ========================================================================================================

#[test]
fn an_operation_must_match_by_something() {
    let rule = "operations[1].match: must have at least one of hosts, methods, paths and headers";
    refuses("/operations/1/match", "{}", rule);
    refuses("/operations/1/match", r#"{"hosts": null, "paths": null}"#, rule);
}

#[test]
fn refuses_hosts_with_scheme_port_or_path() {
    for host in ["", "http://shop.example.com", "shop.example.com/x", "shop.example.com:80", "[::1]:80", "*:80", "h:"] {
        let expected = format!("operations[0].match.hosts[0]: {host:?}, must be a host without scheme, port and path");
        refuses("/operations/0/match/hosts/0", &format!("{host:?}"), &expected);
    }
    for host in ["shop", "127.0.0.1", "[::1]", "[2001:db8::1]", "*", "*.example.com", "shop.*"] {
        accepts("/operations/0/match/hosts/0", &format!("{host:?}"));
    }
    refuses_types("/operations/0/match/hosts/1", "operations[0].match.hosts[1]", &["[]", "null"], "a string");
}

#[test]
fn refuses_methods_that_are_no_tokens() {
    let fields = [
        ("/operations/0/match/methods/0", "operations[0].match.methods[0]"),
        ("/limits/2/methods/1", "limits[2].methods[1]"),
    ];
    for (pointer, path) in fields {
        for method in ["", "*", "G T", "GET,POST", "GET\n", "ÄNDERN"] {
            let expected = format!("{path}: {method:?}, must be a method such as \"GET\"");
            refuses(pointer, &Value::from(method).to_string(), &expected);
        }
        accepts(pointer, r#""get""#);
        accepts(pointer, r#""M-SEARCH""#);
    }
}

#[test]
fn refuses_paths_that_could_not_match() {
    let check = |path: &str, rule: &str| {
        refuses(
            "/operations/1/match/paths/0",
            &format!("{path:?}"),
            &format!("operations[1].match.paths[0]: {path:?}, {rule}"),
        );
    };
    check("", r#"must start with "/" or "*""#);
    check("orders", r#"must start with "/" or "*""#);
    check("/orders?id=1", r#"must not contain a query: paths match up to the "?""#);
    check("/a/{*}?x", r#"must use braces only for the segments "{*}" and "{**}""#);
    check("/{id}", r#"must use braces only for the segments "{*}" and "{**}""#);
    check("/foo/{*}.txt", r#"must use braces only for the segments "{*}" and "{**}""#);
    check("/*/baz/{*}", r#"must not mix "*" with the segments "{*}" and "{**}""#);
    check("/**/baz/{*}", r#"must not mix "*" with the segments "{*}" and "{**}""#);
    check("/{**}/foo/{*}", r#"must have "{**}" as its last operator"#);
}

#[test]
fn a_header_is_matched_in_exactly_one_way() {
    let rule = r#"operations[0].match.headers[1]: must have exactly one of exact, prefix, suffix and "present": true"#;
    let condition = |rest: &str| format!(r#"{{"name": "x"{rest}}}"#);
    let check = |rest: &str| refuses("/operations/0/match/headers/1", &condition(rest), rule);
    check("");
    check(r#", "exact": null"#);
    check(r#", "exact": "a", "prefix": "b""#);
    check(r#", "exact": "a", "suffix": "b""#);
    check(r#", "prefix": "a", "suffix": "b""#);
    check(r#", "exact": "a", "present": true"#);
    check(r#", "exact": "a", "present": false"#);
    check(r#", "present": false"#);
    accepts("/operations/0/match/headers/1", &condition(r#", "exact": """#));
    refuses_types(
        "/operations/0/match/headers/0/exact",
        "operations[0].match.headers[0].exact",
        &["[]", "{}"],
        "a string",
    );
}

#[test]
fn refuses_names_of_headers_that_are_no_tokens() {
    for name in ["", "a b", "a:", ":path", "a\n", "ä"] {
        let value = Value::from(name).to_string();
        refuses("/client_ip/header", &value, &format!("client_ip.header: {name:?}, must be the name of a header"));
        let expected = format!("operations[0].match.headers[0].name: {name:?}, must be the name of a header");
        refuses("/operations/0/match/headers/0/name", &value, &expected);
    }
    refuses_types("/client_ip/header", "client_ip.header", &["{}", "[]"], "a string");
}

// === limits ==========================================================================================================

#[test]
fn refuses_names_that_are_taken() {
    let rule = "is the name of an earlier entry too";
    refuses("/operations/2/name", r#""reviews""#, &format!(r#"operations[2].name: "reviews", {rule}"#));
    refuses("/limits/1/name", r#""all""#, &format!(r#"limits[1].name: "all", {rule}"#));
    refuses("/fallbacks/2/name", r#""slow-down""#, &format!(r#"fallbacks[2].name: "slow-down", {rule}"#));
    // The same name in different lists is no trouble.
    accepts("/limits/0/name", r#""reviews""#);
    accepts("/fallbacks/0/name", r#""all""#);
    let reserved = r#"operations[1].name: "other", is reserved for requests that no operation matches"#;
    refuses("/operations/1/name", r#""other""#, reserved);
    accepts("/limits/0/name", r#""other""#);
}

/// In falling order, the worst for a list that is kept in order.
#[test]
fn finds_the_one_name_that_is_taken_among_ten_thousand() {
    let mut names: Vec<String> = (0..9_999).rev().map(|number| format!("op-{number:05}")).collect();
    let config = |names: &[String]| {
        let operations: Vec<Value> =
            names.iter().map(|name| serde_json::json!({"name": name, "match": {"methods": ["GET"]}})).collect();
        Config::parse(&serde_json::to_vec(&serde_json::json!({"operations": operations})).unwrap())
    };
    assert_eq!(config(&names).unwrap().operations.len(), 10_000, "these and `other`");
    names.push("op-04711".to_owned());
    let expected = r#"operations[9999].name: "op-04711", is the name of an earlier entry too"#;
    assert_eq!(config(&names).unwrap_err().to_string(), expected);
}

#[test]
fn refuses_references_to_nothing() {
    let rule = "is not the name of an operation";
    refuses("/limits/2/operations/1", r#""orders""#, &format!(r#"limits[2].operations[1]: "orders", {rule}"#));
    refuses(
        "/limits/2/operations/0",
        r#""Place-Order""#,
        &format!(r#"limits[2].operations[0]: "Place-Order", {rule}"#),
    );
    refuses("/limits/2/operations/0", r#""""#, &format!(r#"limits[2].operations[0]: "", {rule}"#));
    refuses_types("/limits/2/operations/0", "limits[2].operations[0]", &["[]", "null"], "a string");
    let rule = "is not the name of a fallback";
    refuses("/limits/2/fallback", r#""standard""#, &format!(r#"limits[2].fallback: "standard", {rule}"#));
    refuses_types("/limits/2/fallback", "limits[2].fallback", &["[]", "{}"], "a string");
}

#[test]
fn refuses_operations_and_tiers_together() {
    let rule = "must not have both operations and tiers";
    refuses("/limits/2/tiers", r#"["P0"]"#, &format!("limits[2]: {rule}"));
    refuses("/limits/1/operations", r#"["reviews"]"#, &format!("limits[1]: {rule}"));
}

#[test]
fn refuses_parts_of_keys_that_there_are_not() {
    let rule = "must be client_ip, method, path, host, operation, header:NAME, cookie:NAME or query:NAME";
    for part in [
        "",
        "user",
        "Method",
        "ip",
        "header",
        "header:",
        "header:a b",
        "header::path",
        "cookie",
        "cookie:",
        "cookie:a;b",
        "query",
        "query:",
        "client_ip:x",
        "method:GET",
        " path",
        ":",
    ] {
        refuses("/limits/2/key/1", &format!("{part:?}"), &format!("limits[2].key[1]: {part:?}, {rule}"));
    }
    refuses_types("/limits/2/key/0", "limits[2].key[0]", &["null", "{}"], "a string");
}

#[test]
fn refuses_parts_of_keys_with_a_colon_for_nothing() {
    let rule = "must be client_ip, method, path, host, operation, header:NAME, cookie:NAME or query:NAME";
    for part in ["client_ip:", "method:", "path:", "host:", "operation:"] {
        refuses("/limits/2/key/1", &format!("{part:?}"), &format!("limits[2].key[1]: {part:?}, {rule}"));
    }
}

#[test]
fn refuses_what_means_nothing_without_a_key() {
    refuses("/limits/0/max_keys", "10", "limits[0].max_keys: means nothing without a key");
    refuses("/limits/0/missing", r#""skip""#, "limits[0].missing: means nothing without a key");
    let both = "limits[2].max_keys: means nothing without a key\nlimits[2].missing: means nothing without a key";
    refuses_without("/limits/2/key", both);
}

#[test]
fn refuses_costs_that_never_pass_or_say_nothing() {
    refuses("/limits/1/cost", "6", "limits[1].cost: 6, must be at most what the limit ever admits (5)");
    refuses(
        "/limits/1/cost",
        "1000000000",
        "limits[1].cost: 1000000000, must be at most what the limit ever admits (5)",
    );
    for text in ["", "5", "x-cost", "header:", "header:a b", "Header:x", "cookie:x"] {
        let expected = format!(r#"limits[1].cost: {text:?}, must be a number or "header:NAME""#);
        refuses("/limits/1/cost", &format!("{text:?}"), &expected);
    }
}

#[test]
fn refuses_buckets_that_cannot_be_kept() {
    let check = |bucket: &str, expected: &str| {
        refuses("/limits/0/token_bucket", bucket, &format!("limits[0].token_bucket: {expected}"));
    };
    let slow = r#"{"max_tokens": 367, "tokens_per_fill": 1, "fill_interval": "24h"}"#;
    check(slow, "367 tokens at 1 per 86400s, must fill within 366 days");
    let slow = r#"{"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "8784h1ms"}"#;
    check(slow, "1 tokens at 1 per 31622400.001s, must fill within 366 days");
    let fast = r#"{"max_tokens": 1, "tokens_per_fill": 1000001, "fill_interval": "1ms"}"#;
    check(fast, "1000001 tokens per 1ms, must not get more than 1000000000 tokens per second");
    let fast = r#"{"max_tokens": 1, "tokens_per_fill": 1000000000, "fill_interval": "0.999s"}"#;
    check(fast, "1000000000 tokens per 999ms, must not get more than 1000000000 tokens per second");
    accepts("/limits/0/token_bucket", r#"{"max_tokens": 366, "tokens_per_fill": 1, "fill_interval": "24h"}"#);
    accepts("/limits/0/token_bucket", r#"{"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "8784h"}"#);
    accepts("/limits/0/token_bucket", r#"{"max_tokens": 1, "tokens_per_fill": 1000000, "fill_interval": "1ms"}"#);
    let largest = r#"{"max_tokens": 1000000000, "tokens_per_fill": 1000000000, "fill_interval": "1s"}"#;
    accepts("/limits/0/token_bucket", largest);
}

// === fallbacks =======================================================================================================

#[test]
fn refuses_fallbacks_with_two_bodies_or_one_where_none_may_be() {
    refuses("/fallbacks/0/text", r#""x""#, "fallbacks[0]: must not have both json and text");
    for status in [204, 205, 304] {
        let expected = format!("fallbacks[1].status: {status}, must not have a body");
        refuses("/fallbacks/1/status", &status.to_string(), &expected);
        accepts("/fallbacks/2/status", &status.to_string());
    }
    refuses_types("/fallbacks/1/text", "fallbacks[1].text", &["[]", "{}"], "a string");
}

#[test]
fn refuses_headers_that_a_fallback_cannot_set() {
    let check = |name: &str, rule: &str| {
        let headers = format!("{{{}: \"x\"}}", Value::from(name));
        refuses("/fallbacks/0/headers", &headers, &format!("fallbacks[0].headers: {name:?}, {rule}"));
    };
    for name in ["", "a b", ":status", "a\n", "ä"] {
        check(name, "must be the name of a header");
    }
    for name in [
        "content-length",
        "Content-Length",
        "transfer-encoding",
        "connection",
        "grpc-status",
        "grpc-message",
        "trailer",
        "x-outrigger-reason",
        "X-Outrigger-",
    ] {
        check(name, "must not be set by a fallback");
    }
    refuses_types("/fallbacks/0/headers/a", "fallbacks[0].headers.a", &["null", "[]"], "a string");
}

#[test]
fn refuses_control_characters_in_headers() {
    for value in ["x\r\ny: z", "\n", "\0", "\u{1b}[31m", "\u{7f}"] {
        let expected = format!("fallbacks[0].headers.a: {value:?}, must not contain control characters");
        refuses("/fallbacks/0/headers/a", &Value::from(value).to_string(), &expected);
    }
    let config = accepts("/fallbacks/0/headers", r#"{"a": "tab\tand ümlaut"}"#);
    assert_eq!(config.fallbacks[0].headers[0], ("a".to_owned(), "tab\tand ümlaut".to_owned()));
}

#[test]
fn refuses_words_in_percent_signs_that_stand_for_nothing() {
    let rule = "is not one of %REASON%, %OPERATION% and %REQUEST_ID%";
    let text = |text: &str, word: &str| {
        refuses("/fallbacks/1/text", &Value::from(text).to_string(), &format!("fallbacks[1].text: \"{word}\", {rule}"));
    };
    text("%START_TIME%", "%START_TIME%");
    text("%REASON%, %REASONS%", "%REASONS%");
    text("%_%", "%_%");
    let json = r#"{"a": ["%REQUEST_ID%", "%REQ%"]}"#;
    refuses("/fallbacks/0/json", json, &format!("fallbacks[0].json: \"%REQ%\", {rule}"));
    for text in ["%", "100 %", "%reason%", "%C3%A4", "%REASON%%OPERATION%%REQUEST_ID%", "%REASON"] {
        let config = accepts("/fallbacks/1/text", &Value::from(text).to_string());
        assert_eq!(config.fallbacks[1].body, body(text), "{text}");
    }
}

#[test]
fn refuses_origins_that_no_browser_sends() {
    let pointer = "/fallbacks/2/cors/allow_origin";
    let rule = "must be \"*\" or an origin in lower case such as \"https://shop.example.com\", without a path";
    for origin in [
        "",
        "shop.example.com",
        "https://",
        "https://shop.example.com/",
        "https://Shop.example.com",
        "HTTPS://shop.example.com",
        "https://*.example.com",
        "https://a b",
        "https://a?b",
        "https://a#b",
        "https://ä.example",
        "null",
        "**",
    ] {
        let origins = format!("[\"https://a.example\", {}]", Value::from(origin));
        refuses(pointer, &origins, &format!("fallbacks[2].cors.allow_origin[1]: {origin:?}, {rule}"));
    }
    accepts(pointer, r#"["https://a.example:8443", "http://[::1]:3000", "app://x"]"#);
    refuses(pointer, "[]", "fallbacks[2].cors.allow_origin: [], must not be empty");
}

/// Any page could read what is meant for a user's own.
#[test]
fn refuses_any_origin_beside_others_or_with_credentials() {
    let cors = "/fallbacks/2/cors";
    let both = r#"{"allow_origin": ["*", "https://a.example"]}"#;
    refuses(cors, both, "fallbacks[2].cors.allow_origin: must not have \"*\" beside others");
    let any = r#"{"allow_origin": ["*"], "allow_credentials": true}"#;
    refuses(cors, any, "fallbacks[2].cors: must not allow credentials to any origin (\"*\")");
    accepts(cors, r#"{"allow_origin": ["*"], "allow_credentials": false}"#);
    refuses_types("/fallbacks/2/cors", "fallbacks[2].cors", &["5", "[]", "\"*\""], "an object");
}

/// What follows the path where nothing is listed.
const EMPTY_LIST: &str = "[], must not be empty (leave it out to match everything)";

// === switches, breakers, failures ====================================================================================

#[test]
fn switches_breakers_and_rules_refer_to_what_there_is() {
    for (list, earlier) in [("switches", Some("no-reviews")), ("breakers", Some("inventory")), ("on_failure", None)] {
        let first = format!("/{list}/0");
        refuses(
            &format!("{first}/fallback"),
            r#""no""#,
            &format!("{list}[0].fallback: \"no\", is not the name of a fallback"),
        );
        if let Some(earlier) = earlier {
            let rule = "is the name of an earlier entry too";
            let expected = format!("{list}[1].name: {earlier:?}, {rule}");
            refuses(&format!("/{list}/1/name"), &Value::from(earlier).to_string(), &expected);
            accepts(&format!("/{list}/1/name"), r#""all""#);
            let rule = "must be 1 to 63 lower-case letters, digits and hyphens, not starting with a hyphen";
            refuses(&format!("/{list}/1/name"), r#""No Reviews""#, &format!("{list}[1].name: \"No Reviews\", {rule}"));
        }
        let both = format!("{list}[0]: must not have both operations and tiers");
        let document = poked(&format!("{first}/operations"), Some(r#"["reviews"]"#));
        let mut document: Value = serde_json::from_str(&document).unwrap();
        document[list][0]["tiers"] = serde_json::json!(["P0"]);
        assert_eq!(parse(&document.to_string()), Err(both));
        let operations = poked(&format!("{first}/operations"), Some(r#"["orders"]"#));
        let mut document: Value = serde_json::from_str(&operations).unwrap();
        document[list][0].as_object_mut().unwrap().remove("tiers");
        let expected = format!("{list}[0].operations[0]: \"orders\", is not the name of an operation");
        assert_eq!(parse(&document.to_string()), Err(expected));
        document[list][0]["operations"] = serde_json::json!([]);
        assert_eq!(parse(&document.to_string()), Err(format!("{list}[0].operations: {EMPTY_LIST}")));
        let method = format!("{list}[0].methods[0]: \"\", must be a method such as \"GET\"");
        refuses(&format!("{first}/methods"), r#"[""]"#, &method);
    }
}

#[test]
fn a_switch_is_on_or_off() {
    refuses_types("/switches/0/active", "switches[0].active", &["\"true\"", "1"], "a boolean");
    assert!(!accepts("/switches/0/active", "false").switches[0].active);
    assert!(!accepts("/switches/0", r#"{"name": "s"}"#).switches[0].active, "off is where it starts");
    assert_eq!(
        accepts("/switches/0", r#"{"name": "s"}"#).switches[0].selection.operations,
        Selected::OfTiers(Tiers::ALL)
    );
}

#[test]
fn a_breaker_trips_by_something() {
    let rule = "must have at least one of consecutive_failures, failure_ratio and slow_ratio";
    for trip in ["{}", r#"{"slow_after": "1s"}"#, r#"{"window": "1s", "min_requests": 5}"#] {
        refuses("/breakers/0/trip", trip, &format!("breakers[0].trip: {rule}"));
    }
    for trip in [
        r#"{"consecutive_failures": 1}"#,
        r#"{"failure_ratio": 1}"#,
        r#"{"failure_ratio": 0.01}"#,
        r#"{"slow_ratio": 0.5, "slow_after": "1ms"}"#,
    ] {
        accepts("/breakers/0/trip", trip);
    }
}

#[test]
fn refuses_breakers_that_could_not_be() {
    let trip = |field: &str, value: &str, expected: &str| {
        refuses(&format!("/breakers/0/trip/{field}"), value, &format!("breakers[0].trip.{field}: {expected}"));
    };
    trip("consecutive_failures", "0", "0, must be a whole number from 1 to 1000000");
    trip("min_requests", "0", "0, must be a whole number from 1 to 1000000");
    trip("failure_ratio", "0", "0, must be above 0 and at most 1");
    trip("failure_ratio", "1.01", "1.01, must be above 0 and at most 1");
    trip("failure_ratio", "-0.5", "-0.5, must be above 0 and at most 1");
    trip("slow_ratio", "2", "2, must be above 0 and at most 1");
    trip("slow_after", "\"25h\"", "must be above 0 and at most 24h");
    trip("window", "\"999ms\"", "must be from 1s to 24h");
    trip("window", "\"25h\"", "must be from 1s to 24h");
    refuses_without("/breakers/0/trip/slow_after", "breakers[0].trip.slow_after: must be given where slow_ratio is");
    let breaker = |field: &str, value: &str, expected: &str| {
        refuses(&format!("/breakers/0/{field}"), value, &format!("breakers[0].{field}: {expected}"));
    };
    breaker("probes", "0", "0, must be a whole number from 1 to 16");
    breaker("probes", "17", "17, must be a whole number from 1 to 16");
    breaker("max_open_for", "\"6s\"", "must be at least open_for and at most 24h");
    breaker("max_open_for", "\"25h\"", "must be at least open_for and at most 24h");
    breaker("open_for", "\"0s\"", "\"0s\", must be at least 1ms");
    accepts("/breakers/0/probes", "16");
    accepts("/breakers/0/max_open_for", "\"7s\"");
}

/// A time that is said alone goes before the default of the other.
#[test]
fn a_breaker_that_is_open_for_longer_than_the_default_most_stays_so() {
    let config = accepts("/breakers/1/open_for", "\"2m\"");
    let two_minutes = Duration::from_secs(120);
    let settings = Settings {
        consecutive_failures: Some(1),
        open_for: two_minutes,
        max_open_for: two_minutes,
        ..Settings::default()
    };
    assert_eq!(config.breakers[1].breaker, Breaker::new(&settings).unwrap());
}

#[test]
fn a_rule_for_failures_replaces_them_by_something() {
    refuses("/on_failure/1", r#"{"tiers": ["P0"]}"#, "on_failure[1]: must have at least one of stale and fallback");
    refuses("/on_failure/1", r#"{"statuses": [500]}"#, "on_failure[1]: must have at least one of stale and fallback");
    accepts("/on_failure/1", r#"{"stale": {"max_age": "1s"}}"#);
}

#[test]
fn refuses_failures_that_are_none() {
    let rule = "must be \"5xx\", \"4xx\" or a status from 400 to 599, as \"!501\" if it is no failure";
    for place in ["breakers", "on_failure", "retries"] {
        let field = format!("/{place}/0/failures");
        let check = |value: &str, shown: &str| {
            refuses(&field, &format!("[{value}]"), &format!("{place}[0].failures[0]: {shown}, {rule}"));
        };
        for value in ["399", "600", "0", "70000", "-1"] {
            check(value, &format!("{value:?}"));
        }
        for text in ["", "3xx", "5XX", "gateway-error", "399", "600", "!", "!!501", "! 501", "!2xx", "+500"] {
            check(&Value::from(text).to_string(), &format!("{text:?}"));
        }
        let fraction = "500.5, must be a text: write it in quotes, or YAML takes it for a number";
        refuses(&field, "[500.5]", &format!("{place}[0].failures[0]: {fraction}"));
        refuses(&field, "[]", &format!("{place}[0].failures: {EMPTY_LIST}"));
        let none = format!("{place}[0].failures: must name a failure, as \"5xx\" or \"503\"");
        refuses(&field, r#"["!501"]"#, &none);
        refuses(&field, r#"["503", "!5xx"]"#, &none);
    }
}

#[test]
fn failures_are_listed_in_any_order() {
    let listed = |list| accepts("/breakers/0/failures", list).breakers[0].failures;
    assert_eq!(listed(r#"[500, 599.0, "500", "429"]"#), of(&[500, 599, 429].map(|it| Term::With(it, it))));
    assert_eq!(listed(r#"["!501", "5xx", "!505"]"#), Failures::default(), "what is none is none wherever it stands");
    let client = listed(r#"["4xx", "!404"]"#);
    assert_eq!([400, 404, 499, 500].map(|it| client.contains(it)), [true, false, true, false]);
    assert_eq!(accepts("/breakers/1/probes", "3").breakers[1].failures, Failures::default());
    let by_default = Failures::default();
    assert_eq!(
        [399, 499, 500, 501, 502, 504, 505, 506, 599, 600].map(|it| by_default.contains(it)),
        [false, false, true, false, true, true, false, true, true, false]
    );
}

#[test]
fn a_rule_for_failures_may_call_them_statuses() {
    let rule = |fields: &str| format!(r#"{{{fields}, "fallback": "sorry"}}"#);
    let listed = |fields: &str| accepts("/on_failure/1", &rule(fields)).on_failure[1].failures;
    assert_eq!(listed(r#""statuses": ["503"]"#), listed(r#""failures": ["503"]"#));
    let both = rule(r#""statuses": ["503"], "failures": ["503"]"#);
    refuses("/on_failure/1", &both, "on_failure[1].statuses: must not be given beside failures, which means the same");
    refuses(
        "/on_failure/1",
        &rule(r#""statuses": ["!5xx", 503]"#),
        "on_failure[1].statuses: must name a failure, as \"5xx\" or \"503\"",
    );
}

#[test]
fn refuses_stale_answers_without_bounds() {
    let check = |field: &str, value: &str, expected: &str| {
        refuses(&format!("/on_failure/0/stale/{field}"), value, &format!("on_failure[0].stale.{field}{expected}"));
    };
    check("max_bytes", "4095", ": 4095, must be a whole number from 4096 to 67108864");
    check("max_bytes", "67108865", ": 67108865, must be a whole number from 4096 to 67108864");
    check("max_age", "\"0s\"", ": \"0s\", must be at least 1ms");
    let part = "must be client_ip, method, path, host, operation, header:NAME, cookie:NAME or query:NAME";
    check("key", r#"["user"]"#, &format!("[0]: \"user\", {part}"));
    check("assume_fresh", "\"0s\"", ": \"0s\", must be at least 1ms");
    let name = "must be the name of a cookie, or the beginning of names with a \"*\" at its end";
    for bad in ["", "a b", "a=b", "a;b", "*_ga", "_*a", "_ga**"] {
        check("ignore_cookies", &format!(r#"["_ga", "{bad}"]"#), &format!("[1]: \"{bad}\", {name}"));
    }
    let all = "would be all cookies, those of sessions too: name the ones that say nothing of the user";
    check("ignore_cookies", r#"["*"]"#, &format!("[0]: \"*\", {all}"));
    accepts("/on_failure/0/stale/ignore_cookies", "[]");
    accepts("/on_failure/0/stale/max_bytes", "4096");
    accepts("/on_failure/0/stale/max_bytes", "67108864");
    let stale = accepts("/on_failure/0/stale", r#"{"max_age": "1s"}"#).on_failure[0].stale.clone().unwrap();
    assert_eq!((stale.max_bytes, stale.key), (1 << 20, vec![]));
}

/// The baseline with this value in its first rule for retries is refused with this text after the path.
fn refuses_retry(field: &str, value: &str, expected: &str) {
    let path = format!("retries[0].{}", field.replace('/', "."));
    refuses(&format!("/retries/0/{field}"), value, &format!("{path}{expected}"));
}

#[test]
fn refuses_numbers_of_attempts_that_are_none() {
    for value in ["0", "6", "-1", "1.5"] {
        refuses_retry("max_attempts", value, &format!(": {value}, must be a whole number from 1 to 5"));
    }
    refuses_types(
        "/retries/0/max_attempts",
        "retries[0].max_attempts",
        &["\"3\"", "true"],
        "a whole number from 1 to 5",
    );
    for (value, expected) in [("1", 1), ("5", 5), ("3.0", 3)] {
        assert_eq!(accepts("/retries/0/max_attempts", value).retries[0].policy.max_attempts, expected);
    }
}

#[test]
fn refuses_conditions_that_are_not_to_be_retried() {
    let rule = "must be one of 5xx, gateway-error, reset, reset-before-request, connect-failure, refused-stream, \
                retriable-4xx, cancelled, deadline-exceeded, internal and unavailable";
    for word in
        ["", "5XX", "503", " reset", "envoy-ratelimited", "resource-exhausted", "retriable-status-codes", "5xx,reset"]
    {
        refuses_retry("retry_on", &format!("[\"reset\", {word:?}]"), &format!("[1]: {word:?}, {rule}"));
    }
    refuses_retry("retry_on", "[]", &format!(": {EMPTY_LIST}"));
    for word in HTTP_CONDITIONS.iter().chain(&GRPC_CONDITIONS) {
        assert!(rule.contains(word), "{word}");
        let config = accepts("/retries/0/retry_on", &format!("[{word:?}]"));
        assert_eq!(config.retries[0].policy.retry_on, Conditions::new(&[word]).unwrap());
    }
}

#[test]
fn refuses_times_for_attempts_that_mean_nothing() {
    refuses_retry("per_try_timeout", "\"0s\"", ": \"0s\", must be at least 1ms");
    refuses_retry("timeout", "\"0s\"", ": \"0s\", must be at least 1ms");
    refuses_retry("per_try_timeout", "\"1s\"", ": 1s, must be below timeout");
    refuses("/retries/0/timeout", "\"300ms\"", "retries[0].per_try_timeout: 300ms, must be below timeout");
    refuses_retry("timeout", "\"24h1ms\"", ": \"24h1ms\", must be at most 24h");
    let alone = |per_try: &str| format!(r#"{{"per_try_timeout": "{per_try}"}}"#);
    refuses("/retries/0", &alone("24h1ms"), "retries[0].per_try_timeout: \"24h1ms\", must be at most 24h");
    accepts("/retries/0", &alone("24h"));
    accepts("/retries/0/timeout", "\"24h\"");
    accepts("/retries/0/timeout", "\"301ms\"");
}

#[test]
fn a_hedge_needs_a_time_for_an_attempt() {
    refuses_without("/retries/0/per_try_timeout", "retries[0].hedge: means nothing without per_try_timeout");
    refuses_types("/retries/0/hedge", "retries[0].hedge", &["\"on\"", "1"], "a boolean");
    assert_eq!(accepts("/retries/0/hedge", "false").retries[0].policy.hedging, Hedging::Off);
}

#[test]
fn refuses_what_is_no_grpc_method() {
    let rule = "must be a gRPC method such as \"/shop.Orders/Get\"";
    for method in
        ["", "/", "//", "shop.Orders/Get", "/shop.Orders", "/shop.Orders/", "//Get", "/shop.Orders/Get/", "/a/b/c"]
    {
        refuses_retry("grpc_methods", &format!("[\"/a/b\", {method:?}]"), &format!("[1]: {method:?}, {rule}"));
    }
    refuses_retry("grpc_methods", "[]", &format!(": {EMPTY_LIST}"));
    refuses_types("/retries/0/grpc_methods/0", "retries[0].grpc_methods[0]", &["[]", "null"], "a string");
}

#[test]
fn refuses_budgets_that_cannot_be_kept() {
    refuses_retry("budget/ratio", "1.01", ": 1.01, must be from 0 to 1");
    refuses_retry("budget/ratio", "-0.1", ": -0.1, must be from 0 to 1");
    refuses_retry("budget/min_per_second", "1000.5", ": 1000.5, must be from 0 to 1000");
    refuses_retry("budget/min_per_second", "-1", ": -1, must be from 0 to 1000");
    refuses_retry("budget/ttl", "\"999ms\"", ": \"999ms\", must be from 1s to 60s");
    refuses_retry("budget/ttl", "\"61s\"", ": \"61s\", must be from 1s to 60s");
    let nothing = r#"{"ratio": 0, "min_per_second": 0}"#;
    refuses_retry("budget", nothing, ": must not have both ratio and min_per_second 0");
    refuses_types("/retries/0/budget/ratio", "retries[0].budget.ratio", &["\"0.1\"", "true"], "a number");
    for budget in [r#"{"ratio": 0}"#, r#"{"ratio": 1}"#, r#"{"min_per_second": 0}"#, r#"{"min_per_second": 1000}"#] {
        accepts("/retries/0/budget", budget);
    }
    for ttl in ["1s", "60s"] {
        accepts("/retries/0/budget/ttl", &format!("{ttl:?}"));
    }
}

#[test]
fn refuses_deadlines_that_are_none() {
    refuses("/deadlines/0/default", "\"0s\"", "deadlines[0].default: \"0s\", must be at least 1ms");
    refuses("/deadlines/0/default", "\"24h1ms\"", "deadlines[0].default: \"24h1ms\", must be at most 24h");
    accepts("/deadlines/0/default", "\"24h\"");
    let read = "is read anyway, and has no milliseconds";
    refuses("/deadlines/0/header", "\"Grpc-Timeout\"", &format!("deadlines[0].header: \"grpc-timeout\", {read}"));
    for name in ["x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "content-length"] {
        let expected = format!("deadlines[0].header: {name:?}, says something else than a deadline");
        refuses("/deadlines/0/header", &format!("{:?}", name.to_uppercase()), &expected);
    }
    accepts("/deadlines/0/header", "\"x-envoy-expected-rq-timeout-ms\"");
}

/// Names of operations, tiers and methods are chosen as everywhere.
#[test]
fn rules_for_retries_and_deadlines_are_for_requests_that_there_are() {
    for list in ["retries", "deadlines"] {
        let field = |field: &str, value: &str, expected: &str| {
            refuses(&format!("/{list}/0/{field}"), value, &format!("{list}[0]{expected}"));
        };
        field("operations", r#"["nobody"]"#, ".operations[0]: \"nobody\", is not the name of an operation");
        field("operations", "[]", &format!(".operations: {EMPTY_LIST}"));
        field("tiers", r#"["P1"]"#, ": must not have both operations and tiers");
        field("methods", r#"["P O"]"#, r#".methods[0]: "P O", must be a method such as "GET""#);
    }
    let header = "must be the name of a header";
    refuses("/retries/0/idempotency_key", "\":path\"", &format!("retries[0].idempotency_key: \":path\", {header}"));
    refuses("/deadlines/0/header", "\"x y\"", &format!("deadlines[0].header: \"x y\", {header}"));
}

#[test]
fn outcomes_are_read_unless_they_are_not_wanted() {
    refuses_types("/monitor/outcomes", "monitor.outcomes", &["\"all\"", "0"], "a boolean");
    assert_eq!(accepts("/monitor/outcomes", "true").monitor.outcomes, Outcomes::All);
}

// === what is no such document ========================================================================================

const NOT_JSON: &str = "the configuration must be a JSON object; in Envoy's own configuration that is a \
                        google.protobuf.StringValue that holds JSON text (a google.protobuf.Struct reaches filters as \
                        protobuf bytes)";

fn refuses_document(document: &str, expected: &str) {
    assert_eq!(parse(document).map(|_| "accepted".to_owned()), Err(expected.to_owned()), "{document:?}");
}

#[test]
fn explains_what_it_must_be_where_it_is_no_object() {
    for document in ["[]", "null", "5", "true", "\"{}\"", "version: 1", "// c\n{}", "\u{feff}{}", "\0", "x", "<a/>"] {
        refuses_document(document, NOT_JSON);
    }
}

/// Protobuf, as much as a `Struct` needs.
mod protobuf {
    pub(super) fn bytes(field: u8, bytes: &[u8]) -> Vec<u8> {
        let mut message = vec![field << 3 | 2];
        let mut length = bytes.len();
        while 0x7f < length {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(bytes);
        message
    }

    pub(super) fn value(json: &serde_json::Value) -> Vec<u8> {
        use serde_json::Value;
        match json {
            Value::Null => vec![8, 0],
            Value::Number(number) => [&[2 << 3 | 1], &number.as_f64().unwrap().to_le_bytes()[..]].concat(),
            Value::String(text) => bytes(3, text.as_bytes()),
            Value::Bool(truth) => vec![4 << 3, u8::from(*truth)],
            Value::Object(_) => bytes(5, &structure(json)),
            Value::Array(list) => {
                let entries: Vec<u8> = list.iter().flat_map(|entry| bytes(1, &value(entry))).collect();
                bytes(6, &entries)
            }
        }
    }

    pub(super) fn structure(json: &serde_json::Value) -> Vec<u8> {
        let entry = |(name, json): (&String, &serde_json::Value)| {
            bytes(1, &[bytes(1, name.as_bytes()), bytes(2, &value(json))].concat())
        };
        json.as_object().unwrap().iter().flat_map(entry).collect()
    }
}

#[test]
fn explains_a_struct_that_was_sent_for_json_text() {
    let check = |json: &Value| {
        let refusal = Config::parse(&protobuf::structure(json)).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(refusal, Err(NOT_JSON.to_owned()), "{json}");
    };
    check(&serde_json::from_str(BASELINE).unwrap());
    check(&serde_json::json!({"version": "v1"}));
    check(&serde_json::json!({"limits": []}));
    check(&serde_json::json!({"": ""}));
    // A `Struct` starts with a line feed and a length, which can be a brace or white space.
    for length in 0..300 {
        let json = serde_json::json!({"version": "v".repeat(length)});
        check(&json);
    }
    assert_eq!(Config::parse(&protobuf::structure(&serde_json::json!({}))).unwrap(), nothing(), "it has no bytes");
}

#[test]
fn refuses_text_after_the_document() {
    let after = "text after the end of the document: trailing characters at line";
    refuses_document("{} x", &format!("{after} 1 column 4"));
    refuses_document("{}{}", &format!("{after} 1 column 3"));
    refuses_document("{}\n\n ]", &format!("{after} 3 column 2"));
    refuses_document("{}\0", NOT_JSON);
}

#[test]
fn says_where_the_syntax_is_wrong() {
    refuses_document(r#"{"version": }"#, "version: expected value at line 1 column 13");
    refuses_document(r#"{"version": NaN}"#, "version: expected value at line 1 column 13");
    refuses_document("{\n \"scope\": 01}", "scope: invalid number at line 2 column 12");
    refuses_document(
        r#"{"client_ip": {"trusted_hops": 1e999}}"#,
        "client_ip.trusted_hops: number out of range at line 1 column 36",
    );
}

#[test]
fn says_where_the_syntax_is_wrong_between_fields_without_a_question_mark() {
    refuses_document("{", "EOF while parsing an object at line 1 column 1");
    refuses_document("{'version': 1}", "key must be a string at line 1 column 2");
    refuses_document("{\n \"version\": \"a\",\n}", "trailing comma at line 3 column 1");
    refuses_document("{\"version\": \"a\"\n \"scope\": \"b\"}", "expected `,` or `}` at line 2 column 2");
    let cut = r#"{"limits": [{"token_bucket": {"max_tokens": 1"#;
    refuses_document(cut, "limits[0].token_bucket: EOF while parsing an object at line 1 column 45");
}

#[test]
fn survives_bytes_that_are_no_text() {
    let refusal = Config::parse(b"{\"version\": \"\xff\xfe\"}").unwrap_err().to_string();
    assert_eq!(refusal, "version: invalid unicode code point at line 1 column 14");
    assert_eq!(Config::parse(b"\xff\xfe{}").unwrap_err().to_string(), NOT_JSON);
    assert_eq!(Config::parse(&[0x80; 1_000]).unwrap_err().to_string(), NOT_JSON);
}

#[test]
fn survives_nesting_without_end() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let json = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let document = format!(r#"{{"fallbacks": [{{"name": "f", "status": 503, "json": {json}}}]}}"#);
        let refusal = parse(&document).unwrap_err();
        let expected =
            refusal.starts_with("fallbacks[0].json") && refusal.contains("recursion limit exceeded at line 1");
        assert!(expected, "{refusal:.200}");
        let document = format!(r#"{{"switches": {json}}}"#);
        assert!(parse(&document).is_err());
    }
}

#[test]
fn every_cut_of_a_good_document_is_refused_and_none_panics() {
    for length in 1..BASELINE.len() {
        assert!(Config::parse(&BASELINE.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn reads_every_kind_of_limit() {
    let policy = |json: &str| {
        let document = format!(r#"{{ "limits": [{{ "name": "a", {json} }}] }}"#);
        Config::parse(document.as_bytes()).map(|config| config.limits[0].policy)
    };
    let second = Duration::from_secs(1);
    let queue = LeakyBucket::new(50, 10, second).unwrap();
    let cases = [
        (r#""leaky_bucket": {"capacity": 50, "drain": 10, "drain_interval": "1s"}"#, Policy::LeakyBucket(queue)),
        (r#""window": {"max_requests": 9, "interval": "1s"}"#, Policy::Window(Window::new(9, second).unwrap())),
        (
            r#""concurrency": {"max_in_flight": 100}"#,
            Policy::Concurrency(Concurrency { max_in_flight: 100, max_hold: None }),
        ),
        (
            r#""concurrency": {"max_in_flight": 100, "max_hold": "30s"}"#,
            Policy::Concurrency(Concurrency { max_in_flight: 100, max_hold: Some(Duration::from_secs(30)) }),
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(policy(json), Ok(expected), "{json}");
    }
    let refused = [
        (
            r#""leaky_bucket": {"capacity": 1, "drain": 0, "drain_interval": "1s"}"#,
            "limits[0].leaky_bucket.drain: 0, must be a whole number from 1 to 1000000000",
        ),
        (
            r#""leaky_bucket": {"capacity": 3601, "drain": 1, "drain_interval": "1s"}"#,
            "limits[0].leaky_bucket: 3601 waiting at 1 per 1s, must release at most 1000000000 a second, and the last one that \
             waits within an hour",
        ),
        (
            r#""window": {"max_requests": 1, "interval": "8785h"}"#,
            "limits[0].window.interval: 31626000s, must be at most 366 days",
        ),
        (
            r#""concurrency": {"max_in_flight": 0}"#,
            "limits[0].concurrency.max_in_flight: 0, must be a whole number from 1 to 1000000",
        ),
        (
            r#""concurrency": {"max_in_flight": 1, "max_hold": "0s"}"#,
            "limits[0].concurrency.max_hold: \"0s\", must be at least 1ms",
        ),
        (
            r#""concurrency": {"max_in_flight": 1}, "window": {"max_requests": 1, "interval": "1s"}"#,
            "limits[0]: must have exactly one of token_bucket, leaky_bucket, window and concurrency",
        ),
    ];
    for (json, error) in refused {
        assert_eq!(policy(json).unwrap_err().to_string(), error, "{json}");
    }
}

// === what can never do what it says ==================================================================================

#[test]
fn refuses_the_header_that_envoy_does_not_keep() {
    let key = "must be \"host\": Envoy keeps no header of that name";
    for name in ["host", "Host", "HOST"] {
        let expected = format!("limits[2].key[0]: \"header:{name}\", {key}");
        refuses("/limits/2/key/0", &format!("\"header:{name}\""), &expected);
        let expected = format!("limits[2].cost: \"header:{name}\", must be a number or \"header:NAME\"");
        refuses("/limits/2/cost", &format!("\"header:{name}\""), &expected);
        let expected = format!("on_failure[0].stale.key[0]: \"header:{name}\", {key}");
        refuses("/on_failure/0/stale/key/0", &format!("\"header:{name}\""), &expected);
        for (pointer, place) in [
            ("/operations/0/match/headers/0/name", "operations[0].match.headers[0].name"),
            ("/client_ip/header", "client_ip.header"),
            ("/retries/0/idempotency_key", "retries[0].idempotency_key"),
            ("/deadlines/0/header", "deadlines[0].header"),
        ] {
            let rule = "is no header to Envoy, but :authority: use hosts in match, or the key part host";
            refuses(pointer, &format!("{name:?}"), &format!("{place}: {name:?}, {rule}"));
        }
    }
}

#[test]
fn refuses_a_header_of_addresses_that_nobody_is_trusted_to_write_or_that_is_not_read() {
    let refuses = |client_ip: &str, problem: &str| {
        let document = format!(r#"{{"client_ip": {client_ip}}}"#);
        assert_eq!(parse(&document).map(|_| ()), Err(format!("client_ip.header: {problem}")), "{document}");
    };
    refuses(r#"{"header": "x-real-ip"}"#, r#""x-real-ip", means nothing without trusted_hops"#);
    refuses(
        r#"{"header": "X-Forwarded-For", "trusted_hops": null}"#,
        r#""x-forwarded-for", means nothing without trusted_hops"#,
    );
    let form = "must be a list of addresses such as x-forwarded-for; the form of RFC 7239 is not read";
    refuses(r#"{"header": "Forwarded", "trusted_hops": 1}"#, &format!(r#""forwarded", {form}"#));
}

#[test]
fn refuses_patterns_that_no_request_can_match() {
    let host = "must be a host without scheme, port and path";
    for text in
        ["::1", "fe80::a", "*:8080", "[::1]:80", "a@shop.example.com", "shop example.com", "a?b", "a#b", ".", "\t"]
    {
        refuses(
            "/operations/0/match/hosts/0",
            &format!("{text:?}"),
            &format!("operations[0].match.hosts[0]: {text:?}, {host}"),
        );
    }
    let path = "must be written as in a request: encoded, without blanks and \"#\"";
    for text in ["/a b", "/a#b", "/a\n", "/a*\t"] {
        refuses(
            "/operations/1/match/paths/0",
            &format!("{text:?}"),
            &format!("operations[1].match.paths[0]: {text:?}, {path}"),
        );
    }
    let parameter = "must have no \";\" unless path_parameters of the operation is \"keep\"";
    for text in ["/orders;v=1", "/orders;*", "/a;b/{*}"] {
        refuses(
            "/operations/1/match/paths/0",
            &format!("{text:?}"),
            &format!("operations[1].match.paths[0]: {text:?}, {parameter}"),
        );
        accepts("/operations/0/match/paths/0", &format!("{text:?}"));
    }
    let blank = "operations[0].match.headers[0]: must not begin or end with a blank: values are compared without those around them";
    for condition in [r#""exact": " web""#, r#""exact": "web\t""#, r#""prefix": " web""#, r#""suffix": "web ""#] {
        refuses("/operations/0/match/headers/0", &format!(r#"{{"name": "x-app", {condition}}}"#), blank);
    }
    for condition in [r#""exact": "a web""#, r#""prefix": "web ""#, r#""suffix": " web""#, r#""exact": """#] {
        accepts("/operations/0/match/headers/0", &format!(r#"{{"name": "x-app", {condition}}}"#));
    }
    refuses(
        "/operations/0/path_parameters",
        "\"drop\"",
        r#"operations[0].path_parameters: "drop", must be "cut" or "keep""#,
    );
}

/// The warnings of a document with these operations: `orders` (POST), `reviews` (P3, GET or HEAD), and more.
fn warnings(more_operations: &str, rest: &str) -> Vec<String> {
    let document = format!(
        r#"{{ "operations": [
            {{ "name": "orders", "tier": "P0", "match": {{ "methods": ["POST"], "paths": ["/orders", "/orders/*"] }} }},
            {{ "name": "reviews", "tier": "P3", "match": {{ "methods": ["GET", "HEAD"], "paths": ["/reviews/{{*}}"] }} }}
            {more_operations} ] {rest} }}"#
    );
    let config = parse(&document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    config.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn warns_of_operations_that_an_earlier_one_hides() {
    let hidden = |matcher: &str, expected: bool| {
        let found = warnings(&format!(r#", {{ "name": "it", "match": {matcher} }}"#), "");
        let problem = r#"operations[2].match: no request gets here: operations[0] ("orders") matches them all"#;
        assert_eq!(found, if expected { vec![problem] } else { vec![] }, "{matcher}");
    };
    hidden(r#"{ "methods": ["POST"], "paths": ["/orders"] }"#, true);
    hidden(r#"{ "methods": ["post"], "paths": ["/orders/1", "/orders/{*}/items", "/orders/a*"] }"#, true);
    hidden(
        r#"{ "methods": ["POST"], "paths": ["/orders"], "hosts": ["a.org"], "headers": [{ "name": "a", "exact": "b" }] }"#,
        true,
    );
    hidden(r#"{ "paths": ["/orders"] }"#, false);
    hidden(r#"{ "methods": ["POST", "PUT"], "paths": ["/orders"] }"#, false);
    hidden(r#"{ "methods": ["POST"], "paths": ["/orders", "/carts"] }"#, false);
    hidden(r#"{ "methods": ["POST"], "paths": ["/orders*"] }"#, false);
    hidden(r#"{ "methods": ["POST"], "hosts": ["a.org"] }"#, false);
}

#[test]
fn warns_of_policies_that_no_request_gets_to() {
    let check = |rest: &str, expected: &[&str]| assert_eq!(warnings("", rest), expected, "{rest}");
    let bucket = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s" }"#;
    let limit = |rest: &str| format!(r#", "limits": [{{ "name": "l", {rest}, {bucket} }}]"#);
    let gets = "no request gets here";
    check(&limit(r#""tiers": ["P2"]"#), &[&format!("limits[0]: {gets}: no operation is of its tiers")]);
    check(&limit(r#""tiers": ["P2", "P3"]"#), &[]);
    let methods = format!("limits[0]: {gets}: its operations have none of its methods");
    check(&limit(r#""operations": ["orders"], "methods": ["GET"]"#), &[&methods]);
    check(&limit(r#""operations": ["orders", "reviews"], "methods": ["PUT"]"#), &[&methods]);
    check(&limit(r#""operations": ["orders", "reviews"], "methods": ["head"]"#), &[]);
    check(&limit(r#""operations": ["orders", "other"], "methods": ["PUT"]"#), &[]);
    check(&limit(r#""methods": ["PUT"]"#), &[]);
    let switches =
        r#", "switches": [{ "name": "s", "tiers": ["P3"] }, { "name": "t" }, { "name": "u", "tiers": ["P2"] }]"#;
    check(switches, &[&format!("switches[2]: {gets}: no operation is of its tiers")]);

    let earlier =
        |list: &str, index: usize| format!("{list}[{index}]: {gets}: earlier entries of the list take them all");
    check(r#", "deadlines": [{}, { "tiers": ["P0"] }]"#, &[&earlier("deadlines", 1)]);
    check(r#", "deadlines": [{ "tiers": ["P0"] }, {}]"#, &[]);
    check(r#", "deadlines": [{ "methods": ["GET", "HEAD"] }, { "tiers": ["P3"] }]"#, &[&earlier("deadlines", 1)]);
    let by_halves =
        r#", "deadlines": [{ "methods": ["GET"] }, { "methods": ["HEAD"] }, { "operations": ["reviews"] }]"#;
    check(by_halves, &[&earlier("deadlines", 2)]);
    check(r#", "deadlines": [{ "methods": ["GET"] }, { "operations": ["reviews"] }]"#, &[]);
    let trip = r#""trip": { "consecutive_failures": 5 }"#;
    let breakers = format!(r#", "breakers": [{{ "name": "a", {trip} }}, {{ "name": "b", "tiers": ["P3"], {trip} }}]"#);
    check(&breakers, &[&earlier("breakers", 1)]);
    // What is tried out takes nothing from what refuses, and is itself passed over for that.
    let shadow = |index: usize| {
        let parts: Vec<&str> = breakers.split(r#""name""#).collect();
        let marked = parts.iter().enumerate().map(|(place, part)| match place {
            0 => (*part).to_owned(),
            it if it == index + 1 => format!(r#""enforced": false, "name"{part}"#),
            _ => format!(r#""name"{part}"#),
        });
        marked.collect::<String>()
    };
    check(&shadow(0), &[]);
    check(&shadow(1), &[&earlier("breakers", 1)]);
    check(r#", "retries": [{}, { "methods": ["GET"] }]"#, &[&earlier("retries", 1)]);
    let sorry = r#""fallbacks": [{ "name": "f", "status": 503 }]"#;
    let twice =
        format!(r#", "on_failure": [{{ "statuses": [500], "fallback": "f" }}, {{ "fallback": "f" }}], {sorry}"#);
    check(&twice, &[&earlier("on_failure", 1)]);
}

#[test]
fn warns_of_policies_of_a_hidden_operation() {
    let hidden = r#", { "name": "it", "match": { "methods": ["POST"], "paths": ["/orders"] } }"#;
    let found = warnings(hidden, r#", "deadlines": [{ "operations": ["it"] }, { "operations": ["it", "orders"] }]"#);
    let policy = "deadlines[0]: no request gets here: earlier operations take all requests of its own";
    assert_eq!((found.len(), found[1].as_str()), (2, policy), "{found:?}");
}

#[test]
fn warns_of_fields_that_come_to_nothing() {
    let check = |rest: &str, expected: &[&str]| assert_eq!(warnings("", rest), expected, "{rest}");
    let bucket = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s" }"#;
    let limit = format!(r#""limits": [{{ "name": "l", "key": ["client_ip"], {bucket} }}]"#);
    let unread = "client_ip.header: is not read while trusted_hops is 0";
    check(&format!(r#", "client_ip": {{ "header": "x-real-ip", "trusted_hops": 0 }}, {limit}"#), &[unread]);
    check(&format!(r#", "client_ip": {{ "header": "x-real-ip", "trusted_hops": 1 }}, {limit}"#), &[]);
    let told = "monitor.ratelimit_headers_on_success: means nothing while ratelimit_headers is \"none\"";
    check(r#", "monitor": { "ratelimit_headers": "none", "ratelimit_headers_on_success": true }"#, &[told]);
    check(r#", "monitor": { "ratelimit_headers_on_success": true }"#, &[]);
    let stale = |rest: &str| format!(r#", "on_failure": [{{ {rest} }}]"#);
    let unkept = "on_failure[0].stale: keeps answers to GET only, and gets none";
    check(&stale(r#""operations": ["orders"], "stale": { "max_age": "1m" }"#), &[unkept]);
    check(&stale(r#""operations": ["orders", "reviews"], "stale": { "max_age": "1m" }"#), &[]);
    let absent = "on_failure[0].stale.key[1]: is never there: no answer to a request that has it is kept";
    check(&stale(r#""stale": { "max_age": "1m", "key": ["header:accept", "cookie:sid"] }"#), &[absent]);
    check(&stale(r#""stale": { "max_age": "1m", "key": ["header:accept", "header:Authorization"] }"#), &[absent]);
    let ignored = r#""stale": { "max_age": "1m", "ignore_cookies": ["_ga", "_ga"#;
    let useless = "on_failure[0].stale.ignore_cookies[1]: does nothing: \"_ga\" before it ignores the same cookies";
    check(&stale(&format!("{ignored}\"] }}")), &[useless]);
    check(&stale(&format!("{ignored}_*\"] }}")), &[]);
    let useless = "on_failure[0].stale.ignore_cookies[1]: does nothing: \"_g*\" before it ignores the same cookies";
    check(&stale(r#""stale": { "max_age": "1m", "ignore_cookies": ["_g*", "_ga*"] }"#), &[useless]);
    let retries = "retries[0]: retries nothing: its methods may be repeated only with idempotency_key or grpc_methods";
    check(r#", "retries": [{ "operations": ["orders"] }]"#, &[retries]);
    check(r#", "retries": [{ "methods": ["get"] }]"#, &[]);
    check(r#", "retries": [{ "methods": ["patch"] }]"#, &[retries]);
    check(r#", "retries": [{ "operations": ["orders"], "timeout": "1s" }]"#, &[]);
    check(r#", "retries": [{ "operations": ["orders"], "max_attempts": 1 }]"#, &[]);
    check(r#", "retries": [{ "operations": ["orders"], "idempotency_key": "idempotency-key" }]"#, &[]);
    check(r#", "retries": [{ "operations": ["orders"], "grpc_methods": ["/a/b"] }]"#, &[]);
}

#[test]
fn warns_of_fallbacks_of_what_only_counts() {
    let sorry = r#""fallbacks": [{ "name": "f", "status": 503 }]"#;
    let bucket = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s" }"#;
    for (list, rest) in [
        ("limits", bucket),
        ("switches", r#""active": true"#),
        ("breakers", r#""trip": { "consecutive_failures": 5 }"#),
    ] {
        for (enforced, expected) in [(true, None), (false, Some("is not served while enforced is false"))] {
            let policy = format!(r#"{{ "name": "it", "enforced": {enforced}, "fallback": "f", {rest} }}"#);
            let found = warnings("", &format!(r#", "{list}": [{policy}], {sorry}"#));
            let expected: Vec<String> = expected.iter().map(|it| format!("{list}[0].fallback: {it}")).collect();
            assert_eq!(found, expected, "{policy}");
        }
    }
}

#[test]
fn warns_of_fallbacks_that_answer_nobody() {
    let check = |fallback: &str, policies: &str, expected: &[&str]| {
        let rest = format!(r#", "fallbacks": [{{ "name": "f", {fallback} }}], {policies}"#);
        assert_eq!(warnings("", &rest), expected, "{rest}");
    };
    let switch = r#""switches": [{ "name": "s", "operations": ["orders"], "fallback": "f" }]"#;
    let told =
        "switches[0].fallback: answers calls of gRPC only: with a 2xx it is for GET and HEAD, unless it has methods";
    check(r#""status": 200"#, switch, &[told]);
    check(r#""status": 503"#, switch, &[]);
    check(r#""status": 200, "methods": ["post"]"#, switch, &[]);
    let other = "on_failure[0].fallback: answers none of the requests: they have none of its methods";
    check(r#""status": 503, "methods": ["PUT"]"#, r#""on_failure": [{ "tiers": ["P3"], "fallback": "f" }]"#, &[other]);
    check(r#""status": 200"#, r#""on_failure": [{ "operations": ["orders", "reviews"], "fallback": "f" }]"#, &[]);
}

#[test]
fn warns_of_stars_that_are_no_wildcards() {
    let star = "has a \"*\" that stands for itself: as a wildcard it is the first or the last character";
    let more = r#", { "name": "it", "match": { "hosts": ["shop.*.com", "*.a.org", "*"], "paths": ["/a/*/b", "/a/*", "/{*}/b", "*/*"] } }"#;
    let expected = [
        format!("operations[2].match.hosts[0]: {star}"),
        format!("operations[2].match.paths[0]: {star}"),
        format!("operations[2].match.paths[3]: {star}"),
    ];
    assert_eq!(warnings(more, ""), expected);
}

#[test]
fn what_does_all_that_it_says_is_not_warned_of() {
    assert_eq!(nothing().warnings(), []);
    let found: Vec<String> = baseline().warnings().iter().map(ToString::to_string).collect();
    let told = "answers calls of gRPC only: with a 2xx it is for GET and HEAD, unless it has methods";
    let meant = "means nothing while ratelimit_headers is \"none\"";
    assert_eq!(
        found,
        [
            format!("on_failure[1].fallback: {told}"),
            "limits[2].fallback: is not served while enforced is false".to_owned(),
            format!("monitor.ratelimit_headers_on_success: {meant}"),
        ],
        "what the baseline has to show that it is accepted"
    );
}

#[test]
fn says_what_two_filters_of_one_scope_count_in_one_place_by_other_numbers() {
    let config = |limit: &str, tokens: u32, breaker: u32| {
        let document = format!(
            r#"{{ "limits": [{{ "name": "mine", "concurrency": {{ "max_in_flight": 1 }} }},
                  {{ "name": "all", {limit} "token_bucket": {{ "max_tokens": {tokens}, "tokens_per_fill": 1, "fill_interval": "1s" }} }}],
                "breakers": [{{ "name": "b", "trip": {{ "consecutive_failures": {breaker} }} }}] }}"#
        );
        parse(&document).unwrap()
    };
    let places = |one: &Config, other: &Config| -> Vec<String> {
        one.disagreements(other).iter().map(|it| it.path().to_owned()).collect()
    };
    let one = config("", 5, 5);
    assert_eq!(places(&one, &config("", 5, 5)), [] as [&str; 0]);
    assert_eq!(places(&one, &config("", 6, 5)), ["limits[1]"]);
    assert_eq!(places(&one, &config("", 5, 6)), ["breakers[0]"]);
    assert_eq!(places(&one, &config("", 6, 6)), ["limits[1]", "breakers[0]"]);
    // One with a key and one without have different places.
    assert_eq!(places(&one, &config(r#""key": ["path"],"#, 6, 5)), [] as [&str; 0]);
    assert_eq!(places(&config(r#""key": ["path"],"#, 5, 5), &config(r#""key": ["path"],"#, 6, 5)), ["limits[1]"]);
    assert_eq!(
        one.disagreements(&config("", 6, 5))[0].to_string(),
        "limits[1]: \"all\" has other numbers in another filter that is in use, and both count in one place by these ones: \
         give each filter a scope of its own"
    );
}

// === everything that is wrong, at once ===============================================================================

fn errors(document: &str) -> Vec<String> {
    match Config::parse(document.as_bytes()) {
        Ok(_) => vec![],
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn tells_of_all_that_is_wrong_in_the_order_of_the_document() {
    let document = r#"{
        "deadlines": [{ "header": "content-length" }, { "default": "25h" }],
        "monitor": { "outcomes": 1 },
        "limits": [{ "name": "A", "tiers": ["P9"], "cost": 7, "window": { "max_requests": 0, "interval": "1s" } }, 5,
                   { "name": "b", "cost": 7, "window": { "max_requests": 5, "interval": "1s" }, "fallback": "nobody" }],
        "switches": [{ "name": "s", "operations": ["nowhere"], "methods": ["P O"] }],
        "operations": [{ "name": "o", "match": {} }],
        "nonsense": 1
    }"#;
    let expected = [
        "deadlines[0].header: \"content-length\", says something else than a deadline",
        "deadlines[1].default: \"25h\", must be at most 24h",
        "monitor.outcomes: invalid type: integer `1`, expected a boolean",
        "limits[0].name: \"A\", must be 1 to 63 lower-case letters, digits and hyphens, not starting with a hyphen",
        "limits[0].tiers[0]: \"P9\", must be \"P0\", \"P1\", \"P2\" or \"P3\"",
        "limits[0].window.max_requests: 0, must be a whole number from 1 to 1000000000",
        "limits[1]: invalid type: integer `5`, expected an object",
        "limits[2].cost: 7, must be at most what the limit ever admits (5)",
        "limits[2].fallback: \"nobody\", is not the name of a fallback",
        "switches[0].operations[0]: \"nowhere\", is not the name of an operation",
        "switches[0].methods[0]: \"P O\", must be a method such as \"GET\"",
        "operations[0].match: must have at least one of hosts, methods, paths and headers",
    ];
    let found = errors(document);
    assert_eq!(found[..expected.len()], expected);
    assert!(found[expected.len()].starts_with("nonsense: unknown field `nonsense`, expected one of"), "{found:?}");
    assert_eq!(found.len(), expected.len() + 1);
}

/// What cannot be read is told of once; who refers to it is well.
#[test]
fn an_error_makes_no_others() {
    let policies = r#""limits": [{ "name": "l", "operations": ["o", "p"], "fallback": "f", "window": { "max_requests": 5, "interval": "1s" } }],
        "switches": [{ "name": "s", "operations": ["p"], "fallback": "g" }], "on_failure": [{ "fallback": "f" }]"#;
    let check = |operations: &str, fallbacks: &str, expected: &[&str]| {
        let document = format!(r#"{{ "operations": {operations}, "fallbacks": {fallbacks}, {policies} }}"#);
        let found = errors(&document);
        let begun = found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
        assert!(found.len() == expected.len() && begun, "{document}: {found:#?}");
    };
    let (o, p) =
        (r#"{ "name": "o", "match": { "paths": ["/o"] } }"#, r#"{ "name": "p", "match": { "paths": ["/p"] } }"#);
    let (f, g) = (r#"{ "name": "f", "status": 503 }"#, r#"{ "name": "g", "status": 503 }"#);
    let list = |one: &str, other: &str| format!("[{one}, {other}]");
    check(&list(o, p), &list(f, g), &[]);
    for (broken, error) in [
        (r#"{ "name": "o", "match": { "paths": ["o"] } }"#, "operations[0].match.paths[0]: "),
        (r#"{ "name": "o", "match": { } }"#, "operations[0].match: "),
        (r#"{ "name": "o", "match": 5 }"#, "operations[0].match: "),
        (r#"{ "name": "o" }"#, "operations[0]: missing field `match`"),
        (r#"{ "name": "o", "matches": {} }"#, "operations[0].matches: unknown field"),
        (r#"{ "name": "O", "match": { "paths": ["/o"] } }"#, "operations[0].name: "),
        (r#"{ "name": "other", "match": { "paths": ["/o"] } }"#, "operations[0].name: "),
        (r#"{ "match": { "paths": ["/o"] } }"#, "operations[0]: missing field `name`"),
        (r#""o""#, "operations[0]: invalid type"),
    ] {
        check(&list(broken, p), &list(f, g), &[error]);
    }
    check(&list(p, p), &list(f, g), &[r#"operations[1].name: "p", is the name of an earlier entry too"#]);
    check(r#""o""#, &list(f, g), &["operations: invalid type"]);
    for (broken, error) in [
        (r#"{ "name": "f", "status": 99 }"#, "fallbacks[0].status: "),
        (r#"{ "name": "f", "status": 204, "text": "x" }"#, "fallbacks[0].status: "),
        (r#"{ "name": "f", "status": 503, "json": {"a": 1, "a": 2} }"#, "fallbacks[0].json.a: "),
        (r#"{ "name": "f", "stats": 503 }"#, "fallbacks[0].stats: unknown field"),
        (r#"{ "name": "f f", "status": 503 }"#, "fallbacks[0].name: "),
        ("null", "fallbacks[0]: invalid type"),
    ] {
        check(&list(o, p), &list(broken, g), &[error]);
    }
    check(&list(o, p), "{}", &["fallbacks: invalid type"]);
    check("[5]", "[6]", &["operations[0]: ", "fallbacks[0]: "]);
}

#[test]
fn tells_of_twenty_and_counts_the_rest() {
    let document =
        |count: usize| format!(r#"{{ "retries": [{}] }}"#, vec![r#"{ "max_attempts": 9 }"#; count].join(","));
    let found = errors(&document(20));
    assert_eq!(
        (found.len(), found[19].as_str()),
        (20, "retries[19].max_attempts: 9, must be a whole number from 1 to 5")
    );
    let found = errors(&document(1_234));
    assert_eq!((found.len(), found[20].as_str()), (21, "and 1214 more"));
    // Those that are found last and stand first are among them.
    let switches = r#"{ "switches": [{ "name": "s", "operations": ["nobody"] }], "#;
    let late = document(30).replacen('{', switches, 1);
    let found = errors(&late);
    assert_eq!(found[0], "switches[0].operations[0]: \"nobody\", is not the name of an operation");
    assert_eq!((found.len(), found[20].as_str()), (21, "and 11 more"));
}

// === sizes ===========================================================================================================

#[test]
fn refuses_what_is_too_long() {
    let list = |entry: &str, count: usize| vec![entry; count].join(",");
    for field in ["operations", "limits", "fallbacks", "switches", "breakers", "on_failure", "retries", "deadlines"] {
        let document = format!(r#"{{ "{field}": [{}] }}"#, list("{}", 10_001));
        assert_eq!(errors(&document), [format!("{field}: 10001 entries, must be at most 10000")]);
    }
    let hosts =
        format!(r#"{{ "operations": [{{ "name": "a", "match": {{ "hosts": [{}] }} }}] }}"#, list(r#""a""#, 10_001));
    assert_eq!(errors(&hosts), ["operations[0].match.hosts: 10001 entries, must be at most 10000"]);
    let headers = |count: usize| {
        let headers: Vec<String> = (0..count).map(|number| format!(r#""h{number}": "x""#)).collect();
        format!(r#"{{ "fallbacks": [{{ "name": "f", "status": 503, "headers": {{ {} }} }}] }}"#, headers.join(","))
    };
    assert_eq!(errors(&headers(1_000)), [] as [&str; 0]);
    assert_eq!(errors(&headers(1_001)), ["fallbacks[0].headers: 1001 entries, must be at most 1000"]);
    assert_eq!(errors(&headers(300_000)), ["fallbacks[0].headers: 300000 entries, must be at most 1000"]);
    let document = format!("{{{}}}", " ".repeat((8 << 20) - 2));
    assert_eq!(errors(&document), [] as [&str; 0]);
    assert_eq!(errors(&format!("{document} ")), ["8388609 bytes, must be at most 8388608 (8 MiB)"]);
}

/// A document with `count` of everything, in names of a falling order.
#[cfg(not(target_arch = "wasm32"))]
fn large(count: usize) -> String {
    let list = |make: &dyn Fn(usize) -> String| (0..count).rev().map(make).collect::<Vec<_>>().join(",");
    let operations = list(&|it| {
        format!(r#"{{ "name": "o-{it:06}", "match": {{ "methods": ["GET"], "paths": ["/{it}", "/x/{it}/*"] }} }}"#)
    });
    let limits = list(&|it| {
        let selection = match it % 3 {
            0 => String::new(),
            1 => format!(r#""operations": ["o-{it:06}", "other"],"#),
            _ => r#""tiers": ["P1"],"#.to_owned(),
        };
        format!(
            r#"{{ "name": "l-{it:06}", {selection} "fallback": "f-{it:06}", "window": {{ "max_requests": 1, "interval": "1s" }} }}"#
        )
    });
    let fallbacks =
        list(&|it| format!(r#"{{ "name": "f-{it:06}", "status": 503, "headers": {{ "a": "b", "c": "d" }} }}"#));
    let breakers = list(&|it| {
        format!(r#"{{ "name": "b-{it:06}", "operations": ["o-{it:06}"], "trip": {{ "consecutive_failures": 5 }} }}"#)
    });
    let deadlines = list(&|it| format!(r#"{{ "operations": ["o-{it:06}"], "default": "1s" }}"#));
    let json = (0..count).rev().map(|it| format!(r#""k{it}": {it}"#)).collect::<Vec<_>>().join(",");
    format!(
        r#"{{ "operations": [{operations}], "limits": [{limits}], "breakers": [{breakers}], "deadlines": [{deadlines}],
              "fallbacks": [{fallbacks}, {{ "name": "json", "status": 503, "json": {{ {json} }} }}] }}"#
    )
}

/// Checks that what takes the one so long takes the other no more than eight times as long, in some round: the rest of the machine
/// disturbs rounds, and what is quadratic takes sixteen times as long in all.
#[cfg(not(target_arch = "wasm32"))]
fn grows_with_size<T>(what: &str, small: &T, large: &T, run: &dyn Fn(&T)) {
    let time = |it: &T| {
        #[allow(clippy::disallowed_methods, reason = "what is measured is the reader itself")]
        let start = std::time::Instant::now();
        run(it);
        start.elapsed()
    };
    let rounds: Vec<(Duration, Duration)> = (0..10).map(|_| (time(small), time(large))).collect();
    assert!(rounds.iter().any(|(small, large)| *large < *small * 8), "{what}: {rounds:?}");
}

/// Time grows with size. A quadratic reader would take sixteen times as long for four times as much.
#[test]
#[cfg(not(target_arch = "wasm32"))]
fn four_times_the_document_takes_no_more_than_eight_times_as_long() {
    let check = |what: &str, make: &dyn Fn(usize) -> String, is_good: bool| {
        let read = |text: &String| assert_eq!(Config::parse(text.as_bytes()).is_ok(), is_good, "{what}");
        grows_with_size(what, &make(1_000), &make(4_000), &read);
    };
    check("reading", &large, true);
    let config = |text: &str| Config::parse(text.as_bytes()).unwrap();
    let (small, four_times) = (config(&large(1_000)), config(&large(4_000)));
    grows_with_size("warnings", &small, &four_times, &|it| assert!(it.warnings().is_empty()));
    grows_with_size("disagreements", &small, &four_times, &|it| assert!(it.disagreements(it).is_empty()));
    let unknown = |count: usize| {
        let fields: Vec<String> = (0..count * 10).map(|it| format!(r#""u{it}": 1"#)).collect();
        format!("{{ {} }}", fields.join(","))
    };
    check("unknown fields", &unknown, false);
    let wrong = |count: usize| large(count).replace(r#""status": 503"#, r#""status": 99"#).replace("GET", "G T");
    check("errors", &wrong, false);
    let hidden = |count: usize| {
        let operation = |it: usize| format!(r#"{{ "name": "o{it}", "match": {{ "methods": ["M{it}", "GET"] }} }}"#);
        format!(r#"{{ "operations": [{}] }}"#, (0..count).map(operation).collect::<Vec<_>>().join(","))
    };
    let (small, four_times) = (config(&hidden(1_000)), config(&hidden(4_000)));
    grows_with_size("operations without paths", &small, &four_times, &|it| assert!(it.warnings().is_empty()));
}

/// Documents that are legal, or wrong a thousand times, and whose every part is compared with every other one by a search that is not
/// bounded: each takes minutes then.
#[test]
#[cfg(not(target_arch = "wasm32"))]
#[allow(clippy::disallowed_methods, reason = "times work by the clock")]
fn no_document_takes_long_to_be_read_and_warned_of() {
    let paths = |own: usize| {
        let paths: Vec<String> = (0..9_999).map(|n| format!("\"/p{n}\"")).collect();
        format!(r#"{{"name": "o{own}", "match": {{"paths": ["/own{own}", {}]}}}}"#, paths.join(","))
    };
    let alike: Vec<String> = (0..10).map(paths).collect();
    let operations: Vec<String> =
        (0..8_000).map(|n| format!(r#"{{"name": "o{n}", "match": {{"paths": ["/o{n}"]}}}}"#)).collect();
    let deadlines = vec![r#"{"methods": ["GET"], "default": "1s"}"#; 8_000];
    let unknown: Vec<String> = (0..50_000).map(|n| format!("\"a{n}\": 0")).collect();
    let documents = [
        format!(r#"{{"operations": [{}]}}"#, alike.join(",")),
        format!(r#"{{"operations": [{}], "deadlines": [{}]}}"#, operations.join(","), deadlines.join(",")),
        format!(r#"{{{}, "limits": [{}]}}"#, unknown.join(","), vec!["{}"; 10_000].join(",")),
    ];
    for document in documents {
        let start = std::time::Instant::now();
        let warnings = Config::parse(document.as_bytes()).map(|config| config.warnings().len());
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{took:?} for {} bytes: {:?}", document.len(), warnings.map_err(|it| it.more()));
    }
}
