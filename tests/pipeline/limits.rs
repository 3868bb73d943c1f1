//! The pipeline with its limits, on a proxy in memory: what a request is told, what is counted, what it costs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::rc::Rc;

use crate::common::MemoryHost;
use outrigger::config::Config;
use outrigger::filter::Filter;
use outrigger::host::{End, LogField};
use outrigger::limit::quota::FieldEdits;
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::worker::Worker;

const SECOND: u64 = 1_000_000_000;

/// One worker of a sidecar, under one configuration.
struct Sidecar {
    host: Rc<MemoryHost>,
    worker: Rc<Worker>,
    filter: Filter,
}

impl Sidecar {
    fn new(config: &str) -> Self {
        Self::on(MemoryHost::new(), config, "test")
    }

    fn on(host: Rc<MemoryHost>, config: &str, scope: &str) -> Self {
        let config = Config::parse(config.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let worker = Rc::<Worker>::default();
        let filter = Filter::new(&config, scope, &worker);
        Self { host, worker, filter }
    }

    /// Another worker of the same proxy.
    fn another(&self, config: &str) -> Self {
        Self::on(Rc::clone(&self.host), config, "test")
    }

    /// The same worker after a configuration update.
    fn reconfigured(&self, config: &str) -> Self {
        let config = Config::parse(config.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        Filter::announce(&config, "test", &self.worker);
        let filter = Filter::new(&config, "test", &self.worker);
        Self { host: Rc::clone(&self.host), worker: Rc::clone(&self.worker), filter }
    }

    fn ask(&self, request: &[(&str, &str)]) -> (Decision<'_>, Ticket) {
        self.host.set_request(request);
        self.filter.on_request(&*self.host, &self.worker, End::Here)
    }

    /// A whole life: the reply if it was refused, else the service answers with `status`.
    fn serve(&self, request: &[(&str, &str)], status: &str) -> Option<Reply> {
        let (decision, mut ticket) = self.ask(request);
        let reply = match decision {
            Decision::Forward(_) => {
                self.host.set_response(&[(":status", status)]);
                None
            }
            Decision::Wait(..) => panic!("nothing waits here"),
            Decision::Reply(reply) => {
                self.host.set_response(&[(":status", &reply.status.to_string())]);
                Some(*reply)
            }
        };
        let _ = self.filter.on_response(&*self.host, &self.worker, End::Later, &mut ticket);
        self.filter.on_response_end(&*self.host, &self.worker, &mut ticket);
        self.filter.on_done(&*self.host, &self.worker, ticket);
        reply
    }

    /// How many of `tries` requests pass.
    fn admitted(&self, tries: usize, request: &[(&str, &str)]) -> usize {
        (0..tries).filter(|_| self.serve(request, "200").is_none()).count()
    }

    fn metric(&self, name: &str) -> u64 {
        self.host.metric(name)
    }
}

fn get(path: &str) -> [(&str, &str); 3] {
    [(":method", "GET"), (":path", path), (":authority", "shop.example.com")]
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let mut values = reply.headers.iter().filter(|(it, _)| it == name).map(|(_, value)| value.as_str());
    let first = values.next();
    assert_eq!(values.next(), None, "{name} appears twice");
    first
}

const GLOBAL: &str = r#"{
  "version": "v1",
  "operations": [{ "name": "place-order", "tier": "P0", "match": { "methods": ["POST"], "paths": ["/orders"] } }],
  "limits": [{ "name": "all", "token_bucket": { "max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "1s" } }]
}"#;

#[test]
fn an_empty_document_forwards_and_counts() {
    for document in ["", "{}", "  \n"] {
        let sidecar = Sidecar::new(document);
        assert_eq!(sidecar.serve(&get("/"), "200"), None);
        assert_eq!(sidecar.metric("operation=.=other;.;tier=.=P1;.;outcome=.=success;.;outrigger_requests_total"), 1);
        assert_eq!(sidecar.host.record_keys(), [""; 0], "nothing is shared where nothing is limited");
    }
}

#[test]
fn admits_the_burst_then_the_rate() {
    let sidecar = Sidecar::new(GLOBAL);
    assert_eq!(sidecar.admitted(10, &get("/")), 3);
    sidecar.host.advance(2 * SECOND);
    assert_eq!(sidecar.admitted(10, &get("/")), 2);
}

#[test]
fn workers_share_one_bucket() {
    let first = Sidecar::new(GLOBAL);
    let second = first.another(GLOBAL);
    assert_eq!(first.admitted(2, &get("/")), 2);
    assert_eq!(second.admitted(5, &get("/")), 1);
    assert_eq!(first.admitted(1, &get("/")), 0);
}

#[test]
fn a_refusal_says_when_and_why_and_that_nobody_should_retry() {
    let sidecar = Sidecar::new(GLOBAL);
    sidecar.admitted(3, &get("/"));
    sidecar.host.advance(SECOND / 4);
    let reply = sidecar.serve(&get("/"), "200").unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(reply.grpc_status, 8);
    assert_eq!(reply.details, "outrigger_limit_all");
    assert_eq!(header(&reply, "content-type"), Some("application/problem+json"));
    assert_eq!(header(&reply, "retry-after"), Some("1"), "0.75 s, never rounded down");
    assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=0;t=1"#));
    assert_eq!(header(&reply, "ratelimit-policy"), Some(r#""all";q=3;w=3"#));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    assert_eq!(header(&reply, "x-outrigger-reason"), Some("limit/all"));
    assert_eq!(header(&reply, "grpc-retry-pushback-ms"), None);
    let problem: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["status"], 429);
    assert_eq!(problem["violated-policies"], serde_json::json!(["all"]));
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("limit/all"));
}

#[test]
fn a_grpc_refusal_is_resource_exhausted_and_pushes_back() {
    let sidecar = Sidecar::new(GLOBAL);
    sidecar.admitted(3, &get("/"));
    let mut request = get("/shop.Orders/Place").to_vec();
    request.push(("content-type", "application/grpc+proto"));
    let reply = sidecar.serve(&request, "200").unwrap();
    assert_eq!(reply.grpc_status, 8);
    assert_eq!(header(&reply, "grpc-retry-pushback-ms"), Some("-1"));
    assert_eq!(header(&reply, "content-type"), None);
    assert_eq!(reply.body, b"refused by limit/all");
}

#[test]
fn a_quota_that_fills_within_a_second_has_no_window() {
    let config = GLOBAL.replace(r#""tokens_per_fill": 1"#, r#""tokens_per_fill": 100"#);
    let sidecar = Sidecar::new(&config);
    sidecar.admitted(3, &get("/"));
    let reply = sidecar.serve(&get("/"), "200").unwrap();
    assert_eq!(header(&reply, "ratelimit-policy"), Some(r#""all";q=3"#));
    assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=0;t=1"#));
}

#[test]
fn what_monitor_switches_off_is_not_shown() {
    let monitor =
        r#""monitor": { "access_log": false, "reason_header": false, "ratelimit_headers": "none" }, "limits""#;
    let sidecar = Sidecar::new(&GLOBAL.replace(r#""limits""#, monitor));
    sidecar.admitted(3, &get("/"));
    let reply = sidecar.serve(&get("/"), "200").unwrap();
    for name in ["ratelimit", "ratelimit-policy", "x-outrigger-reason"] {
        assert_eq!(header(&reply, name), None);
    }
    assert_eq!(header(&reply, "retry-after"), Some("1"));
    for field in [LogField::Reason, LogField::Operation, LogField::Tier] {
        assert_eq!(sidecar.host.log_field(field), None);
    }
}

#[test]
fn a_request_above_the_capacity_is_refused_without_a_promise() {
    let config = GLOBAL.replace(r#""limits": [{"#, r#""limits": [{ "cost": "header:x-cost","#);
    let sidecar = Sidecar::new(&config);
    for cost in ["4", "1000000000000000000000000000000"] {
        let mut request = get("/").to_vec();
        request.push(("x-cost", cost));
        let reply = sidecar.serve(&request, "200").unwrap();
        assert_eq!(header(&reply, "retry-after"), None);
        assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=3"#));
    }
    assert_eq!(sidecar.admitted(5, &get("/")), 3, "the refused took nothing");
}

#[test]
fn a_malformed_cost_is_one_and_counted() {
    let config = GLOBAL.replace(r#""limits": [{"#, r#""limits": [{ "cost": "header:x-cost","#);
    let sidecar = Sidecar::new(&config);
    for cost in ["-5", "NaN", "0"] {
        let mut request = get("/").to_vec();
        request.push(("x-cost", cost));
        assert_eq!(sidecar.serve(&request, "200"), None);
    }
    assert_eq!(sidecar.metric("call=.=cost_header;.;outrigger_host_errors_total"), 3);
    assert_eq!(sidecar.admitted(1, &get("/")), 0);
}

const TWO: &str = r#"{
  "limits": [
    { "name": "wide",   "token_bucket": { "max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "1h" } },
    { "name": "narrow", "token_bucket": { "max_tokens": 2, "tokens_per_fill": 1, "fill_interval": "1h" },
      "key": ["header:x-user-id"] }
  ]
}"#;

#[test]
fn a_refused_request_takes_nothing_from_the_limits_that_admitted_it() {
    let sidecar = Sidecar::new(TWO);
    let mut alice = get("/").to_vec();
    alice.push(("x-user-id", "alice"));
    assert_eq!(sidecar.admitted(2, &alice), 2);
    let before = sidecar.host.records();
    assert_eq!(sidecar.admitted(100, &alice), 0);
    // What a busy worker took of the wide limit came back to itself, and goes back to the bucket with its lease.
    sidecar.host.advance(SECOND / 10);
    sidecar.filter.on_tick(&*sidecar.host, &sidecar.worker);
    assert_eq!(sidecar.host.records(), before, "alice's refusals leave no trace");
    let mut bob = get("/").to_vec();
    bob.push(("x-user-id", "bob"));
    assert_eq!(sidecar.admitted(2, &bob), 2, "alice did not use up what bob shares with her");
}

#[test]
fn each_key_has_its_own_bucket() {
    let sidecar = Sidecar::new(&TWO.replace(r#""max_tokens": 5"#, r#""max_tokens": 1000"#));
    for user in 0..50 {
        let user = user.to_string();
        let mut request = get("/").to_vec();
        request.push(("x-user-id", &user));
        assert_eq!(sidecar.admitted(5, &request), 2, "user {user}");
    }
    assert_eq!(sidecar.admitted(5, &get("/")), 2, "requests without the key share a bucket");
}

#[test]
fn a_request_without_the_key_passes_if_so_configured() {
    let sidecar = Sidecar::new(&TWO.replace(r#""key":"#, r#""missing": "skip", "key":"#));
    assert_eq!(sidecar.admitted(10, &get("/")), 5, "only the wide limit applies");
}

#[test]
fn a_shadow_limit_counts_what_the_enforced_ones_admit_and_refuses_nothing() {
    let config = r#"{ "limits": [
        { "name": "shadow", "enforced": false,
          "token_bucket": { "max_tokens": 2, "tokens_per_fill": 1, "fill_interval": "1h" } },
        { "name": "real", "token_bucket": { "max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "1h" } }
    ] }"#;
    let sidecar = Sidecar::new(config);
    assert_eq!(sidecar.admitted(10, &get("/")), 5);
    assert_eq!(sidecar.metric("reason=.=limit/shadow;.;enforced=.=false;.;outrigger_refusals_total"), 3);
    assert_eq!(sidecar.metric("reason=.=limit/real;.;enforced=.=true;.;outrigger_refusals_total"), 5);
}

#[test]
fn limits_apply_by_operation_tier_and_method() {
    let config = r#"{
      "operations": [
        { "name": "orders",  "tier": "P0", "match": { "paths": ["/orders"] } },
        { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } }
      ],
      "limits": [
        { "name": "writes", "operations": ["orders"], "methods": ["POST"],
          "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } },
        { "name": "decoration", "tiers": ["P2", "P3"],
          "token_bucket": { "max_tokens": 2, "tokens_per_fill": 1, "fill_interval": "1h" } },
        { "name": "rest", "operations": ["other"],
          "token_bucket": { "max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "1h" } }
      ]
    }"#;
    let sidecar = Sidecar::new(config);
    assert_eq!(sidecar.admitted(9, &[(":method", "GET"), (":path", "/orders")]), 9);
    assert_eq!(sidecar.admitted(9, &[(":method", "POST"), (":path", "/orders")]), 1);
    assert_eq!(sidecar.admitted(9, &get("/reviews/7")), 2);
    assert_eq!(sidecar.admitted(9, &get("/elsewhere")), 3);
}

const QUOTAS: &str = r#"{
  "limits": [
    { "name": "wide",   "token_bucket": { "max_tokens": 9, "tokens_per_fill": 1, "fill_interval": "1h" } },
    { "name": "narrow", "window": { "max_requests": 4, "interval": "10m" } },
    { "name": "shadow", "enforced": false, "window": { "max_requests": 1, "interval": "10m" } }
  ],
  "monitor": { "ratelimit_headers_on_success": true, "ratelimit_headers": "STYLE" }
}"#;

/// What an admitted client is told, if the service sends these headers itself.
fn told(style: &str, service: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let mut edits = edits_of_response(style, service);
    edits.set.sort();
    edits.set
}

fn edits_of_response(style: &str, service: &[(&str, &str)]) -> FieldEdits {
    edits_of_policy(&QUOTAS.replace("STYLE", style), service)
}

fn edits_of_policy(policy: &str, service: &[(&str, &str)]) -> FieldEdits {
    let sidecar = Sidecar::new(policy);
    let (_, mut ticket) = sidecar.ask(&get("/"));
    let mut response = vec![(":status", "200")];
    response.extend(service);
    sidecar.host.set_response(&response);
    let answer = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
    sidecar.filter.on_done(&*sidecar.host, &sidecar.worker, ticket);
    match answer {
        Answer::Pass(edits) => edits,
        other => panic!("{other:?}"),
    }
}

fn field(name: &'static str, value: &str) -> (&'static str, String) {
    (name, value.to_owned())
}

#[test]
fn an_admitted_client_is_told_its_quotas_the_strictest_first() {
    let policy = field("ratelimit-policy", r#""narrow";q=4;w=600, "wide";q=9;w=32400"#);
    assert_eq!(told("ietf", &[]), [field("ratelimit", r#""narrow";r=3, "wide";r=8"#), policy]);
    let expected = [
        field("x-ratelimit-limit", r#"4, 4;w=600;name="narrow", 9;w=32400;name="wide""#),
        field("x-ratelimit-remaining", "3"),
    ];
    assert_eq!(told("x-ratelimit", &[]), expected);
    assert_eq!(told("none", &[]), []);
}

#[test]
fn limits_that_leave_the_same_are_told_in_the_order_of_the_document() {
    let policy = QUOTAS.replace("STYLE", "ietf").replace(r#""max_tokens": 9"#, r#""max_tokens": 4"#);
    let edits = edits_of_policy(&policy, &[]);
    let told = edits.set.iter().find(|(name, _)| *name == "ratelimit").map(|(_, value)| value.as_str());
    assert_eq!(told, Some(r#""wide";r=3, "narrow";r=3"#));
}

#[test]
fn what_the_service_says_of_its_quotas_is_kept_the_stricter_first() {
    let of = |style, service: &[(&str, &str)], name| {
        told(style, service).into_iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    };
    let ours = r#""narrow";r=3, "wide";r=8"#;
    let stricter = r#""db";r=2;t=5"#;
    let looser = r#""db";r=5;t=5"#;
    assert_eq!(of("ietf", &[("ratelimit", stricter)], "ratelimit"), Some(format!("{stricter}, {ours}")));
    assert_eq!(of("ietf", &[("ratelimit", looser)], "ratelimit"), Some(format!("{ours}, {looser}")));
    assert_eq!(told("x-ratelimit", &[("x-ratelimit-remaining", "2")]), [], "the service's own are stricter");
    let remaining = of("x-ratelimit", &[("x-ratelimit-remaining", "5")], "x-ratelimit-remaining");
    assert_eq!(remaining.as_deref(), Some("3"));
    let replaced = edits_of_response("x-ratelimit", &[("x-ratelimit-remaining", "5"), ("x-ratelimit-reset", "9")]);
    assert_eq!(replaced.remove, ["x-ratelimit-reset"], "the service's instant is not ours");
}

#[test]
fn a_refusal_can_speak_the_older_fields() {
    let sidecar = Sidecar::new(&QUOTAS.replace("STYLE", "x-ratelimit"));
    sidecar.admitted(4, &get("/"));
    let reply = sidecar.serve(&get("/"), "200").unwrap();
    assert_eq!(header(&reply, "x-ratelimit-limit"), Some(r#"4, 4;w=600;name="narrow""#));
    assert_eq!(header(&reply, "x-ratelimit-remaining"), Some("0"));
    // Of the eleven sub-windows in sight ten must go by, and what is left of the first.
    let reset: u64 = header(&reply, "x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((600..=660).contains(&reset), "{reset}");
}

#[test]
fn of_several_refusals_the_one_that_lasts_longest_is_told_whatever_the_order() {
    let limits = [
        r#"{ "name": "hour", "key": ["path"],
             "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } }"#,
        r#"{ "name": "minute", "window": { "max_requests": 1, "interval": "1m" } }"#,
        r#"{ "name": "second", "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1s" } }"#,
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let config = format!(r#"{{ "limits": [{}] }}"#, order.map(|index| limits[index]).join(","));
        let sidecar = Sidecar::new(&config);
        assert_eq!(sidecar.admitted(1, &get("/")), 1);
        // The token bucket without a key answers only from memory, so let it be asked first.
        sidecar.serve(&get("/"), "200");
        let reply = sidecar.serve(&get("/"), "200").unwrap();
        assert_eq!(header(&reply, "x-outrigger-reason"), Some("limit/hour"), "{order:?}");
        assert_eq!(header(&reply, "retry-after"), Some("3600"), "{order:?}");
    }
}

const FALLBACK: &str = r#"{
  "limits": [{ "name": "all", "fallback": "F",
               "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } }],
  "fallbacks": [FALLBACK]
}"#;

fn refused_with(fallback: &str, grpc: bool) -> Reply {
    let config = FALLBACK.replace("FALLBACK", fallback).replace("\"F\"", "\"f\"");
    let sidecar = Sidecar::new(&config);
    sidecar.admitted(1, &get("/"));
    let mut request = get("/").to_vec();
    if grpc {
        request.push(("content-type", "application/grpc"));
    }
    let reply = sidecar.serve(&request, "200").unwrap();
    assert_eq!(sidecar.metric("fallback=.=f;.;reason=.=limit/all;.;outrigger_fallbacks_total"), 1);
    reply
}

#[test]
fn a_fallback_is_served_as_configured_with_what_the_limit_knows() {
    let fallback =
        r#"{ "name": "f", "status": 503, "headers": { "Cache-Control": "no-store" }, "json": { "a": [1] } }"#;
    let reply = refused_with(fallback, false);
    assert_eq!((reply.status, reply.body.as_slice()), (503, br#"{ "a": [1] }"#.as_slice()));
    assert_eq!(header(&reply, "cache-control"), Some("no-store"));
    assert_eq!(header(&reply, "content-type"), Some("application/json"));
    assert_eq!(header(&reply, "retry-after"), Some("3600"));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=0;t=3600"#));
}

#[test]
fn what_a_fallback_sets_is_not_set_again() {
    let fallback = r#"{ "name": "f", "status": 429, "text": "slow down", "retry_after": "30s",
                        "headers": { "content-type": "text/x-mine", "RateLimit": "mine" } }"#;
    let reply = refused_with(fallback, false);
    assert_eq!(header(&reply, "content-type"), Some("text/x-mine"));
    assert_eq!(header(&reply, "ratelimit"), Some("mine"));
    assert_eq!(header(&reply, "retry-after"), Some("30"));
}

#[test]
fn a_fallback_that_says_success_does_not_speak_of_retries() {
    let reply = refused_with(r#"{ "name": "f", "status": 200, "json": { "reviews": [] } }"#, false);
    assert_eq!(reply.status, 200);
    assert_eq!(header(&reply, "retry-after"), None);
    assert_eq!(header(&reply, "x-envoy-ratelimited"), None);
    assert_eq!(header(&reply, "x-outrigger-reason"), Some("limit/all"));
}

#[test]
fn a_fallback_on_grpc_becomes_a_status() {
    let cases = [
        (r#"{ "name": "f", "status": 200, "text": "x" }"#, 14),
        (r#"{ "name": "f", "status": 429, "text": "x" }"#, 8),
        (r#"{ "name": "f", "status": 200, "text": "x", "grpc_status": 9 }"#, 9),
    ];
    for (fallback, status) in cases {
        let reply = refused_with(fallback, true);
        assert_eq!(reply.grpc_status, status, "{fallback}");
        assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"), "{fallback}: nobody should retry it");
        assert_eq!(header(&reply, "content-type"), None);
    }
}

#[test]
fn outcomes_follow_the_response() {
    let outcome =
        |outcome: &str| format!("operation=.=other;.;tier=.=P1;.;outcome=.={outcome};.;outrigger_requests_total");
    let cases =
        [("200", "success"), ("304", "success"), ("101", "success"), ("404", "client_error"), ("503", "failure")];
    for (status, name) in cases {
        let sidecar = Sidecar::new("{}");
        sidecar.serve(&get("/"), status);
        assert_eq!(sidecar.metric(&outcome(name)), 1, "{status}");
    }
    let sidecar = Sidecar::new("{}");
    let (_, mut ticket) = sidecar.ask(&get("/"));
    sidecar.host.set_response(&[(":status", "503"), ("x-envoy-ratelimited", "true")]);
    let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
    sidecar.filter.on_done(&*sidecar.host, &sidecar.worker, ticket);
    assert_eq!(sidecar.metric(&outcome("client_error")), 1, "another filter's refusal is no failure of the service");

    let (_, ticket) = sidecar.ask(&get("/"));
    sidecar.filter.on_done(&*sidecar.host, &sidecar.worker, ticket);
    assert_eq!(sidecar.metric(&outcome("cancelled")), 1, "the client left before there was a response");
}

#[test]
fn a_grpc_outcome_is_that_of_the_end_of_the_stream() {
    let cases = [
        (Some(0), "success"),
        (Some(14), "failure"),
        (Some(4), "failure"),
        (Some(5), "client_error"),
        (None, "cancelled"),
    ];
    for (status, outcome) in cases {
        let sidecar = Sidecar::new("{}");
        sidecar.host.set_grpc_status(status);
        sidecar.serve(&[(":method", "POST"), (":path", "/a.B/C"), ("content-type", "application/grpc")], "200");
        let name = format!("operation=.=other;.;tier=.=P1;.;outcome=.={outcome};.;outrigger_requests_total");
        assert_eq!(sidecar.metric(&name), 1, "{status:?}");
    }
}

#[test]
fn durations_are_of_forwarded_requests_without_long_streams() {
    let name = "operation=.=other;.;outrigger_request_duration_milliseconds";
    let sidecar = Sidecar::new("{}");
    for request in [get("/").to_vec(), vec![(":method", "CONNECT")], vec![(":path", "/"), ("upgrade", "websocket")]] {
        let (_, mut ticket) = sidecar.ask(&request);
        sidecar.host.advance(25_000_000);
        sidecar.host.set_response(&[(":status", "200")]);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
        sidecar.filter.on_done(&*sidecar.host, &sidecar.worker, ticket);
    }
    assert_eq!(sidecar.metric(name), 25);
}

#[test]
fn headers_that_are_ours_alone_are_removed() {
    let sidecar = Sidecar::new("{}");
    let mut request = get("/").to_vec();
    request.extend([("x-outrigger-reason", "forged"), ("x-other", "kept"), ("x-outrigger-anything", "")]);
    let (decision, ticket) = sidecar.ask(&request);
    let Decision::Forward(edits) = decision else { panic!("refused") };
    assert_eq!(edits.remove, [b"x-outrigger-reason".to_vec(), b"x-outrigger-anything".to_vec()]);
    sidecar.filter.on_done(&*sidecar.host, &sidecar.worker, ticket);
}

#[test]
fn scopes_do_not_share_and_the_same_scope_does() {
    let host = MemoryHost::new();
    let one = Sidecar::on(Rc::clone(&host), GLOBAL, "root/inbound");
    let other = Sidecar::on(Rc::clone(&host), GLOBAL, "root/outbound");
    assert_eq!(one.admitted(9, &get("/")), 3);
    assert_eq!(other.admitted(9, &get("/")), 3);
    let explicit = GLOBAL.replace(r#""version": "v1""#, r#""scope": "mine""#);
    let first = Sidecar::on(Rc::clone(&host), &explicit, "root/inbound");
    let second = Sidecar::on(host, &explicit, "root/outbound");
    assert_eq!(first.admitted(2, &get("/")), 2);
    assert_eq!(second.admitted(9, &get("/")), 1);
}

#[test]
fn state_outlives_a_configuration_and_keeps_what_was_taken() {
    let old = Sidecar::new(GLOBAL);
    assert_eq!(old.admitted(9, &get("/")), 3);
    let same = old.reconfigured(&GLOBAL.replace("v1", "v2"));
    assert_eq!(same.admitted(9, &get("/")), 0);
    let larger = old.reconfigured(&GLOBAL.replace(r#""max_tokens": 3"#, r#""max_tokens": 5"#));
    assert_eq!(larger.admitted(9, &get("/")), 2, "three of five are taken");
    assert_eq!(old.admitted(9, &get("/")), 0, "the old configuration, draining, sees the same bucket");
}

/// For as long as old connections are drained, both configurations see traffic.
#[test]
fn a_tightened_limit_holds_at_once_and_for_the_old_configuration_too() {
    let limits = [
        (r#""token_bucket": { "max_tokens": 1000, "tokens_per_fill": 1, "fill_interval": "1h" }"#, "1000", "20"),
        (r#""window": { "max_requests": 1000, "interval": "1h" }"#, "1000", "20"),
    ];
    for (limit, before, after) in limits {
        for key in ["", r#""key": ["path"], "#] {
            let config =
                |size: &str| format!(r#"{{ "limits": [{{ "name": "a", {key}{} }}] }}"#, limit.replace(before, size));
            let old = Sidecar::new(&config(before));
            assert_eq!(old.admitted(10, &get("/")), 10);
            let new = old.reconfigured(&config(after));
            let admitted: usize = (0..500).map(|_| old.admitted(1, &get("/")) + new.admitted(1, &get("/"))).sum();
            assert_eq!(admitted, 10, "ten of twenty were taken: {limit} {key}");
        }
    }
}

/// An idle connection of the old configuration may send its first request after the new one has served.
#[test]
fn an_old_configuration_that_begins_late_does_not_undo_the_new_one() {
    let old = GLOBAL.replace(r#""max_tokens": 3"#, r#""max_tokens": 1000"#);
    let new = Sidecar::new(GLOBAL);
    assert_eq!(new.admitted(9, &get("/")), 3);
    let config = Config::parse(old.as_bytes()).unwrap();
    let late = Sidecar {
        host: Rc::clone(&new.host),
        worker: Rc::clone(&new.worker),
        filter: Filter::new(&config, "test", &new.worker),
    };
    assert_eq!(late.admitted(99, &get("/")) + new.admitted(99, &get("/")), 0);
}

/// Lowered while many requests are in flight, the limit is kept as soon as these allow, and shuts nobody out.
#[test]
fn a_lowered_concurrency_limit_takes_hold_as_requests_end() {
    let config =
        |most: u32| format!(r#"{{ "limits": [{{ "name": "a", "concurrency": {{ "max_in_flight": {most} }} }}] }}"#);
    let old = Sidecar::new(&config(100));
    let mut open: Vec<Ticket> = (0..50).map(|_| old.ask(&get("/")).1).collect();
    let new = old.reconfigured(&config(10));
    let mut opened = Vec::new();
    let mut admitted = 0;
    while let Some(ticket) = open.pop() {
        old.filter.on_done(&*old.host, &old.worker, ticket);
        new.host.advance(SECOND / 5);
        new.filter.on_tick(&*new.host, &new.worker);
        let (decision, ticket) = new.ask(&get("/"));
        match decision {
            Decision::Forward(_) => {
                admitted += 1;
                opened.push(ticket);
            }
            _ => new.filter.on_done(&*new.host, &new.worker, ticket),
        }
        assert!(open.is_empty() || open.len() + opened.len() <= 50, "never more than before");
    }
    assert_eq!(admitted, 10, "as many as the new limit has places, once the old ones are gone");
    for ticket in opened {
        new.filter.on_done(&*new.host, &new.worker, ticket);
    }
}

#[test]
fn a_changed_interval_does_not_shut_a_window_while_both_configurations_serve() {
    let config = |interval: &str| {
        format!(r#"{{ "limits": [{{ "name": "a", "window": {{ "max_requests": 100, "interval": "{interval}" }} }}] }}"#)
    };
    let old = Sidecar::new(&config("10s"));
    assert_eq!(old.admitted(200, &get("/")), 100);
    let new = old.reconfigured(&config("60s"));
    let mut admitted = 0;
    for _ in 0..10 * 60 {
        old.host.advance(SECOND);
        admitted += old.admitted(1, &get("/")) + new.admitted(1, &get("/"));
    }
    // Nine intervals at about nine tenths of the limit, offered 120 each.
    assert!((750..=1000).contains(&admitted), "{admitted}");
}

#[test]
fn metrics_are_defined_once_per_worker() {
    let old = Sidecar::new(GLOBAL);
    old.admitted(9, &get("/"));
    let new = old.reconfigured(GLOBAL);
    new.admitted(9, &get("/"));
    let mut names = old.host.metric_names();
    let defined = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), defined);
}

/// Both failure modes, for each way in which the shared state can be out of reach.
#[test]
fn unusable_state_follows_the_failure_mode_and_is_counted() {
    for (mode, admitted) in [("allow", 4), ("deny", 0)] {
        for call in ["shared_get", "shared_set"] {
            for limit in [r#""name": "all""#, r#""name": "all", "key": ["path"]"#] {
                let config = GLOBAL
                    .replace(r#""name": "all""#, limit)
                    .replace(r#""token_bucket""#, &format!(r#""failure_mode": "{mode}", "token_bucket""#));
                let sidecar = Sidecar::new(&config);
                sidecar.host.break_call(call);
                assert_eq!(sidecar.admitted(4, &get("/")), admitted, "{mode} {call} {limit}");
                let errors = sidecar.metric(&format!("call=.={call};.;outrigger_host_errors_total"));
                assert_eq!(errors, 4, "{mode} {call} {limit}");
                sidecar.host.repair(call);
                assert_eq!(sidecar.admitted(9, &get("/")), 3, "it works again once the state does");
            }
        }
    }
}

#[test]
fn a_refusal_for_want_of_state_makes_no_promise() {
    let sidecar = Sidecar::new(&GLOBAL.replace(r#""token_bucket""#, r#""failure_mode": "deny", "token_bucket""#));
    sidecar.host.break_call("shared_get");
    let reply = sidecar.serve(&get("/"), "200").unwrap();
    assert_eq!(reply.status, 429);
    assert_eq!(header(&reply, "retry-after"), None);
    assert_eq!(header(&reply, "ratelimit"), None);
    assert_eq!(header(&reply, "x-outrigger-reason"), Some("limit/all"));
}

#[test]
fn no_single_broken_call_stops_a_request() {
    let calls = [
        "request_headers",
        "set_property",
        "define_metric",
        "increment_metric",
        "record_metric",
        "response_status",
        "response_header",
        "grpc_status",
        "peer_address",
        "random_get",
    ];
    let config = GLOBAL.replace(r#""name": "all""#, r#""name": "all", "key": ["client_ip"]"#);
    for call in calls {
        let sidecar = Sidecar::new(&config);
        sidecar.host.break_call(call);
        assert_eq!(sidecar.serve(&get("/"), "500"), None, "{call}");
    }
}

/// The budget: one byte-returning call for the request (one more for the client's address), one for the response, and few
/// scalar ones; shared data apart.
#[test]
fn a_request_stays_within_its_budget_of_host_calls() {
    const BYTES_ON_REQUEST: [&str; 4] = ["request_headers", "peer_address", "direction", "random_get"];
    const BYTES_ON_RESPONSE: [&str; 3] = ["response_status", "response_header", "grpc_status"];
    const SHARED: [&str; 2] = ["shared_get", "shared_set"];
    let grpc = [(":method", "POST"), (":path", "/a.B/C"), ("content-type", "application/grpc")];
    let open = GLOBAL.replace(r#""max_tokens": 3"#, r#""max_tokens": 1000"#);
    let by_address = open.replace(r#""name": "all""#, r#""name": "all", "key": ["client_ip"]"#);
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], [usize; 4]);
    // Configuration, request; then calls that return bytes on request and response, scalar ones, shared ones.
    let cases: [Case<'_>; 6] = [
        ("{}", &get("/"), [1, 1, 6, 0]),
        ("{}", &grpc, [1, 1, 6, 0]),
        (r#"{ "monitor": { "access_log": false } }"#, &get("/"), [1, 1, 4, 0]),
        (&open, &get("/"), [1, 1, 6, 2]),
        (&by_address, &get("/"), [2, 1, 6, 2]),
        (&by_address, &grpc, [2, 1, 6, 2]),
    ];
    for (config, request, expected) in cases {
        let sidecar = Sidecar::new(config);
        sidecar.host.set_peer("192.0.2.7:4711");
        sidecar.host.set_grpc_status(Some(0));
        sidecar.serve(request, "200");
        sidecar.host.take_calls();
        assert_eq!(sidecar.serve(request, "200"), None);
        let calls = sidecar.host.take_calls();
        let of = |names: &[&str]| -> usize {
            calls.iter().filter(|(call, _)| names.contains(call)).map(|(_, count)| count).sum()
        };
        let all: usize = calls.values().sum();
        let [on_request, on_response, shared] = [of(&BYTES_ON_REQUEST), of(&BYTES_ON_RESPONSE), of(&SHARED)];
        let measured = [on_request, on_response, all - on_request - on_response - shared, shared];
        assert_eq!(measured, expected, "{config} {request:?}: {calls:?}");
    }
}
