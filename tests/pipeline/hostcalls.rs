//! What a request costs in calls of the proxy, by kind, for typical configurations. It is the measure of speed that never
//! varies: on Envoy most of what a filter costs is the crossing of its boundary.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;

use crate::common::sidecar::{MILLISECOND, Sidecar, pass_until};
use outrigger::host::End;
use outrigger::pipeline::Decision;

/// The table as it was when somebody last looked at it and found it good.
const EXPECTED: &str = include_str!("hostcalls.txt");

const BUCKET: &str = r#""token_bucket": { "max_tokens": 100000, "tokens_per_fill": 100000, "fill_interval": "1s" }"#;

/// Twenty operations; the last is what [`request`] is.
fn twenty_operations() -> String {
    let operation =
        |n| format!(r#"{{ "name": "o{n}", "tier": "P2", "match": {{ "methods": ["GET"], "paths": ["/o{n}/*"] }} }}"#);
    let mut list: Vec<String> = (1..20).map(operation).collect();
    list.push(r#"{ "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } }"#.to_owned());
    format!(r#""operations": [{}]"#, list.join(", "))
}

/// By the row's name. `grpc` in a name makes the requests calls, and `refused` says what becomes of them.
fn configurations() -> Vec<(&'static str, String)> {
    let limits = |limits: &str| format!(r#"{{ {}, "limits": [{limits}] }}"#, twenty_operations());
    let one = |rest: &str| limits(&format!(r#"{{ "name": "a", {rest} }}"#));
    let user = r#""key": ["header:x-user-id"]"#;
    let reference =
        format!(r#"{{ "name": "all", {BUCKET} }}, {{ "name": "user", "tiers": ["P3"], {user}, {BUCKET} }}"#);
    let empty = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "24h" }"#;
    let flights = r#""concurrency": { "max_in_flight": 1000 }"#;
    let degraded = |rest: &str| format!(r#"{{ {}, {rest} }}"#, twenty_operations());
    let breaker = r#""breakers": [{ "name": "b", "tiers": ["P3"], "trip": { "consecutive_failures": 5, "failure_ratio": 0.5 } }]"#;
    let retries = |rest: &str| degraded(&format!(r#""retries": [{{ "tiers": ["P3"], {rest} }}]"#));
    let deadline = degraded(r#""deadlines": [{ "tiers": ["P3"], "default": "3s" }]"#);
    let methods = r#""grpc_methods": ["/reviews/17"]"#;
    let rule = |rule: &str| degraded(&format!(r#""on_failure": [{{ "operations": ["reviews"], {rule} }}]"#));
    let switch = |on: bool| degraded(&format!(r#""switches": [{{ "name": "s", "active": {on}, "tiers": ["P3"] }}]"#));
    let no_outcomes = r#"{ "monitor": { "outcomes": false } }"#;
    vec![
        ("nothing", "{}".to_owned()),
        ("nothing, no outcomes", no_outcomes.to_owned()),
        ("nothing, no outcomes, grpc", no_outcomes.to_owned()),
        ("switch that is off", switch(false)),
        ("switch, refused", switch(true)),
        ("switch in shadow", switch(true).replace(r#""tiers""#, r#""enforced": false, "tiers""#)),
        ("breaker", degraded(breaker)),
        ("breaker in shadow", degraded(&breaker.replace(r#""tiers""#, r#""enforced": false, "tiers""#))),
        ("breaker, grpc", degraded(breaker)),
        (
            "breaker for what hangs",
            degraded(&breaker.replace("0.5", r#"0.5, "slow_ratio": 0.5, "slow_after": "300ms""#)),
        ),
        (
            "fallback on failure",
            rule(r#""statuses": [500], "fallback": "f" }], "fallbacks": [{ "name": "f", "status": 200"#),
        ),
        ("stale answer on failure", rule(r#""stale": { "max_age": "10m" }"#)),
        ("stale answer on failure, write", rule(r#""stale": { "max_age": "10m" }"#)),
        ("retries", retries(r#""max_attempts": 3"#)),
        ("retries, grpc", retries(methods)),
        ("retries of another method", retries(r#""methods": ["PUT"]"#)),
        ("retries of another method, grpc", retries(r#""methods": ["PUT"]"#)),
        ("one attempt", retries(r#""max_attempts": 1"#)),
        ("deadline", deadline.clone()),
        ("deadline, with a body", deadline.clone()),
        ("deadline, grpc", deadline),
        (
            "rules for others",
            degraded(
                r#""on_failure": [{ "operations": ["o1"], "stale": { "max_age": "10m" } }],
            "breakers": [{ "name": "b", "operations": ["o1"], "trip": { "consecutive_failures": 5 } }]"#,
            ),
        ),
        ("nothing, no access log", r#"{ "monitor": { "access_log": false } }"#.to_owned()),
        ("nothing, decisions logged", r#"{ "monitor": { "access_log": "decisions" } }"#.to_owned()),
        ("nothing, grpc", "{}".to_owned()),
        ("twenty operations", limits("")),
        ("token bucket", one(BUCKET)),
        ("token bucket, told", {
            let limit = format!(r#"{{ "name": "a", {BUCKET} }}"#);
            format!(r#"{{ "limits": [{limit}], "monitor": {{ "ratelimit_headers_on_success": true }} }}"#)
        }),
        ("token bucket, refused", one(empty)),
        ("token bucket in shadow", one(&format!(r#""enforced": false, {empty}"#))),
        ("token bucket per user", one(&format!("{user}, {BUCKET}"))),
        ("token bucket per address", one(&format!(r#""key": ["client_ip"], {BUCKET}"#))),
        ("token bucket and one per user", limits(&reference)),
        ("leaky bucket", one(r#""leaky_bucket": { "capacity": 50, "drain": 100000, "drain_interval": "1s" }"#)),
        ("window", one(r#""window": { "max_requests": 1000000, "interval": "1s" }"#)),
        ("concurrency", one(flights)),
        ("concurrency, held for a time", one(&flights.replace("1000", r#"1000, "max_hold": "30s""#))),
        ("concurrency per user", one(&format!("{user}, {flights}"))),
    ]
}

/// Ten thousand requests a second, through one worker.
const BETWEEN: u64 = MILLISECOND / 10;

/// A whole life, at the instant.
fn serve<'s>(sidecar: &'s Sidecar, nanos: u64, name: &str) -> Decision<'s> {
    let content_type = if name.contains("grpc") { "application/grpc" } else { "text/plain" };
    let method = if name.contains("write") { "PUT" } else { "GET" };
    pass_until([sidecar], nanos);
    sidecar.host.set_response(&[(":status", "200"), ("cache-control", "public, max-age=60")]);
    sidecar.host.set_grpc_status(Some(0));
    sidecar.host.set_attempts(Some(1));
    // The sidecar's own headers come first; the last of a name is what counts.
    let user = ("x-user-id", "u1");
    let headers = [(":path", "/reviews/17"), (":method", method), user, ("content-type", content_type)];
    let end = if name.contains("with a body") { End::Later } else { End::Here };
    let (decision, mut ticket) = sidecar.ask_ending(end, &headers);
    let (host, worker) = (&*sidecar.host, &*sidecar.worker);
    if end == End::Later {
        sidecar.filter.on_request_end(host, worker, &mut ticket);
    }
    let _ = sidecar.filter.on_response(host, worker, End::Later, &mut ticket);
    sidecar.host.set_body(b"{}");
    sidecar.filter.on_response_body(host, worker, &mut ticket, 2);
    sidecar.filter.on_response_end(host, worker, &mut ticket);
    sidecar.end(ticket);
    decision
}

/// Calls per request by name, in thousandths, when the first requests have defined metrics and filled leases.
fn measure(name: &str, configuration: &str) -> BTreeMap<&'static str, usize> {
    const REQUESTS: usize = 4_000;
    let sidecar = Sidecar::new(configuration);
    sidecar.host.set_peer("192.0.2.1:40000");
    let mut instants = (sidecar.now()..).step_by(BETWEEN as usize);
    for nanos in instants.by_ref().take(REQUESTS) {
        let _ = serve(&sidecar, nanos, name);
    }
    sidecar.host.take_calls();
    for nanos in instants.take(REQUESTS) {
        match serve(&sidecar, nanos, name) {
            Decision::Forward(_) => assert!(!name.contains("refused"), "{name}"),
            Decision::Wait(..) => panic!("{name}: nothing waits here"),
            Decision::Reply(_) => assert!(name.contains("refused"), "{name}"),
        }
    }
    let calls = sidecar.host.take_calls();
    calls
        .into_iter()
        .map(|(call, count)| (call, (count * 1_000).div_ceil(REQUESTS)))
        .filter(|(_, it)| 0 < *it)
        .collect()
}

#[test]
fn every_call_of_the_proxy_is_accounted_for() {
    let mut table = String::new();
    for (name, configuration) in configurations() {
        table.push_str(name);
        table.push('\n');
        for (call, thousandths) in measure(name, &configuration) {
            table.push_str(&format!("    {:<18}{}.{:03}\n", call, thousandths / 1_000, thousandths % 1_000));
        }
    }
    assert!(
        table.trim() == EXPECTED.trim(),
        "the calls per request are no longer those of tests/pipeline/hostcalls.txt. If the change is meant, put this there:\n\n{table}"
    );
}

/// The budget, which the table above could slowly outgrow.
#[test]
fn no_request_that_goes_on_costs_more_than_it_may() {
    for (name, configuration) in configurations() {
        let calls = measure(name, &configuration);
        let count = |names: &[&str]| -> usize { names.iter().filter_map(|it| calls.get(it)).sum() };
        let shared = count(&["shared_get", "shared_set"]);
        let most = match name {
            it if it.starts_with("concurrency per") => 4_010,
            it if it.contains(" per ") => 2_010,
            // A place in a queue is not taken in advance, nor is a window's.
            "leaky bucket" | "window" => 2_010,
            // Whether anything is kept of the address.
            "stale answer on failure, write" => 1_000,
            _ => 100,
        };
        assert!(shared <= most, "{name}: {shared} thousandths of a shared operation");
        if name.contains("refused") || name.contains("told") {
            continue;
        }
        assert_eq!(count(&["request_headers"]), 1_000, "{name}: one call brings all headers");
        let outcome = match name {
            // Whether it failed is asked while something can still be done about it, and at the end.
            "breaker, grpc" => 3_000,
            // The status, and how many attempts it took, unless one word says both.
            "retries" => 0,
            "retries, grpc" => 2_000,
            // The status, and then what the answer says of its freshness.
            it if it.starts_with("stale answer on failure") => 2_000,
            it if it.contains("no outcomes") => 0,
            _ => 1_000,
        };
        let calls = [
            "response_status",
            "response_header",
            "response_headers",
            "grpc_status",
            "response_body",
            "ended",
            "attempts",
        ];
        assert!(count(&calls) <= outcome, "{name}: so many bring the outcome");
        assert!(count(&["get_property", "direction"]) == 0, "{name}");
        assert!(count(&["peer_address"]) <= if name.contains("address") { 1_000 } else { 0 }, "{name}");
        let scalar =
            count(&["now", "shared_set", "set_property", "increment_metric", "record_metric", "define_metric"]);
        assert!(scalar <= 14_000, "{name}: {scalar} thousandths of a scalar call");
    }
}
