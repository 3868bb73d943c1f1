//! Retries and deadlines on the request path: what the router and the service are told, who is refused for want of time, and
//! that whatever was set aside for retries comes back unless they were made.

#![allow(
    clippy::type_complexity,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::time::Duration;

use crate::common::Random;
use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, ended, header, reason, refused};
use outrigger::host::{End, Host, LogField};
use outrigger::pipeline::{Answer, Decision, Edits, Ticket};
use outrigger::reply::Reply;
use outrigger::retry::budget::Budget;
use outrigger::retry::router;
use outrigger::shared::roster::{BEAT, EXPIRY};

const SHOP: &str = r#"{
  "operations": [
    { "name": "place-order", "tier": "P0", "match": { "paths": ["/orders"] } },
    { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } },
    { "name": "calls", "tier": "P2", "match": { "paths": ["/shop.Orders/*"] } }
  ],
  "retries": [RETRIES],
  "deadlines": [DEADLINES],
  MORE
  "version": "test"
}"#;

/// For every request; its budget is the default one: a tenth of a retry per success, one a second, five at first.
const THREE: &str = r#"{ "max_attempts": 3, "retry_on": ["5xx", "reset", "unavailable"], "per_try_timeout": "300ms",
                         "timeout": "1s", "idempotency_key": "Idempotency-Key", "grpc_methods": ["/shop.Orders/Get"] }"#;

/// For every request.
const DEADLINE: &str = r#"{ "header": "X-Request-Timeout-Ms", "default": "3s" }"#;

fn document(retries: &str, deadlines: &str, more: &str) -> String {
    SHOP.replace("RETRIES", retries).replace("DEADLINES", deadlines).replace("MORE", more)
}

fn shop(retries: &str, deadlines: &str) -> Sidecar {
    Sidecar::new(&document(retries, deadlines, ""))
}

/// What the proxy was asked about the response to an order, at its headers and at the end.
fn asked_about(sidecar: &Sidecar, status: &str, attempts: u32) -> Vec<&'static str> {
    let (_, mut ticket) = sidecar.ask(&ORDER);
    sidecar.host.set_response(&[(":status", status)]);
    sidecar.host.set_attempts(Some(attempts));
    sidecar.host.take_calls();
    let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Here, &mut ticket);
    sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
    sidecar.end(ticket);
    let calls = sidecar.host.take_calls();
    ["succeeded_at_once", "response_status", "attempts"].into_iter().filter(|it| calls.contains_key(it)).collect()
}

#[test]
fn one_word_of_the_proxy_says_that_a_request_succeeded_at_its_first_attempt() {
    let sidecar = shop(THREE, "");
    assert_eq!(asked_about(&sidecar, "200", 1), ["succeeded_at_once"]);
    assert_eq!(asked_about(&sidecar, "304", 1), ["succeeded_at_once"]);
    let all = ["succeeded_at_once", "response_status", "attempts"];
    assert_eq!(asked_about(&sidecar, "404", 1), all, "a client's mistake is told from a success");
    assert_eq!(asked_about(&sidecar, "503", 1), all);
    assert_eq!(asked_about(&sidecar, "200", 2), all, "the retry is paid for");
}

#[test]
fn a_proxy_that_cannot_say_it_in_one_word_is_asked_for_each() {
    let sidecar = shop(THREE, "");
    sidecar.host.break_call("succeeded_at_once");
    assert_eq!(asked_about(&sidecar, "200", 1), ["succeeded_at_once", "response_status", "attempts"]);
}

#[test]
fn the_status_itself_is_read_where_a_policy_waits_for_it() {
    let breaker = r#""breakers": [{ "name": "b", "trip": { "consecutive_failures": 5 } }],"#;
    let sidecar = Sidecar::new(&document(THREE, "", breaker));
    assert_eq!(asked_about(&sidecar, "200", 1), ["response_status", "attempts"]);
}

/// The operation and the tier that the access log has of a request with these headers and this answer.
fn logged(sidecar: &Sidecar, request: &[(&str, &str)], status: &str, attempts: u32) -> [Option<String>; 2] {
    sidecar.host.clear_log_fields();
    let (decision, mut ticket) = sidecar.ask(request);
    sidecar.host.set_response(&[(":status", status)]);
    sidecar.host.set_attempts(Some(attempts));
    if matches!(decision, Decision::Forward(_)) {
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Here, &mut ticket);
        sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
    }
    sidecar.end(ticket);
    [LogField::Operation, LogField::Tier].map(|field| sidecar.host.log_field(field))
}

#[test]
fn decisions_are_logged_with_their_operation_and_what_just_passed_is_not() {
    let empty = r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "24h" }"#;
    let more = format!(
        r#""monitor": {{ "access_log": "decisions" }}, "limits": [
             {{ "name": "few", "operations": ["reviews"], {empty} }},
             {{ "name": "tried", "operations": ["calls"], "enforced": false, {empty} }}],"#
    );
    let sidecar = Sidecar::new(&document(THREE, "", &more));
    let nothing = [None, None];
    let both = |operation: &str, tier: &str| [Some(operation.to_owned()), Some(tier.to_owned())];
    assert_eq!(logged(&sidecar, &ORDER, "200", 1), nothing);
    assert_eq!(logged(&sidecar, &ORDER, "503", 1), both("place-order", "P0"), "it failed");
    assert_eq!(logged(&sidecar, &ORDER, "200", 2), both("place-order", "P0"), "it was retried");
    assert_eq!(logged(&sidecar, &REVIEWS, "200", 1), nothing);
    assert_eq!(logged(&sidecar, &REVIEWS, "200", 1), both("reviews", "P3"), "it was refused");
    let call = [(":path", "/shop.Orders/Get")];
    assert_eq!(logged(&sidecar, &call, "200", 1), nothing);
    assert_eq!(logged(&sidecar, &call, "200", 1), both("calls", "P2"), "it would have been refused");
}

const ORDER: [(&str, &str); 1] = [(":path", "/orders")];
const REVIEWS: [(&str, &str); 1] = [(":path", "/reviews/17")];
const POST: [(&str, &str); 2] = [(":path", "/orders"), (":method", "POST")];
const CALL: [(&str, &str); 3] =
    [(":path", "/shop.Orders/Get"), (":method", "POST"), ("content-type", "application/grpc")];
const UNAVAILABLE: [(&str, &str); 1] = [(":status", "503")];

/// The request with one more header.
fn with<'a>(request: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    [request, &[(name, value)]].concat()
}

/// What becomes of the headers of a request that goes on.
fn edited<'s>(sidecar: &'s Sidecar, request: &[(&str, &str)]) -> (Edits<'s>, Ticket) {
    match sidecar.ask(request) {
        (Decision::Forward(edits), ticket) => (edits, ticket),
        (other, _) => panic!("{request:?}: {other:?}"),
    }
}

/// What is set, as `name: value` in the order of names.
fn lines(edits: &Edits<'_>) -> Vec<String> {
    let mut lines: Vec<String> = edits.set.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    lines.sort();
    lines
}

/// What a request is told that the service answers at once, in the first attempt.
fn told(sidecar: &Sidecar, request: &[(&str, &str)]) -> Vec<String> {
    let (edits, ticket) = edited(sidecar, request);
    let lines = lines(&edits);
    sidecar.host.set_attempts(Some(1));
    sidecar.host.set_grpc_status(Some(0));
    sidecar.answer(ticket);
    lines
}

/// How many retries a request is allowed.
fn allowed(edits: &Edits<'_>) -> u32 {
    let mut values = edits.set.iter().filter(|(name, _)| *name == router::MAX_RETRIES).map(|(_, value)| value);
    let value = values.next().expect("it is said in every case");
    assert_eq!(values.next(), None, "once");
    value.parse().unwrap()
}

/// The refusal of a request.
fn refusal(sidecar: &Sidecar, request: &[(&str, &str)]) -> Reply {
    sidecar.begin(request).unwrap_err()
}

/// How often something was decided about retries of an operation.
fn decided(sidecar: &Sidecar, operation: &str, decision: &str) -> u64 {
    sidecar.host.metric(&format!("operation=.={operation};.;decision=.={decision};.;outrigger_retries_total"))
}

fn decisions(sidecar: &Sidecar, operation: &str) -> [u64; 6] {
    ["made", "no_budget", "not_idempotent", "is_retry", "no_time", "too_large"]
        .map(|it| decided(sidecar, operation, it))
}

/// The account of the first rule, and all that is in it.
fn account(sidecar: &Sidecar) -> String {
    format!("{:?}", sidecar.worker.retry.accounts.of("test/0").borrow())
}

/// How many retries the first rule's account would pay for now.
fn funds(sidecar: &Sidecar) -> u32 {
    let mut account = sidecar.worker.retry.accounts.of("test/0").borrow().clone();
    let workers = sidecar.worker.retry.census.last();
    account.set_aside(&Budget::default(), u32::MAX, workers, sidecar.host.now()).retries()
}

/// The operation's requests usually take so long: as many successes as it takes to know.
fn usually(sidecar: &Sidecar, request: &[(&str, &str)], millis: u64) {
    for _ in 0..20 {
        let (_, ticket) = edited(sidecar, request);
        sidecar.host.advance(millis * MILLISECOND);
        sidecar.host.set_attempts(Some(1));
        sidecar.answer(ticket);
    }
}

// === what the router is told =========================================================================================

#[test]
fn a_request_that_may_be_retried_goes_on_with_all_that_the_router_must_know() {
    let sidecar = shop(THREE, "");
    let all = [
        "x-envoy-max-retries: 2",
        "x-envoy-retry-grpc-on: unavailable",
        "x-envoy-retry-on: 5xx,reset",
        "x-envoy-upstream-rq-per-try-timeout-ms: 300",
        "x-envoy-upstream-rq-timeout-ms: 1000",
    ];
    for request in [&CALL[..], &with(&POST, "idempotency-key", "7")] {
        assert_eq!(told(&sidecar, request), all, "{request:?}");
    }
    // What is no POST is no gRPC.
    let http: Vec<&str> = all.into_iter().filter(|it| !it.contains("grpc")).collect();
    for request in [&ORDER[..], &REVIEWS] {
        assert_eq!(told(&sidecar, request), http, "{request:?}");
    }
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert_eq!(told(&sidecar, &with(&ORDER, ":method", method)), http, "{method}");
    }
    assert_eq!(told(&shop(r#"{ "max_attempts": 5 }"#, ""), &ORDER)[0], "x-envoy-max-retries: 4");
    assert_eq!(
        told(&shop("{}", ""), &ORDER),
        ["x-envoy-max-retries: 1", "x-envoy-retry-on: 5xx,reset,connect-failure"]
    );
    let hedging = r#"{ "per_try_timeout": "50ms", "hedge": true }"#;
    assert_eq!(told(&shop(hedging, ""), &ORDER)[0], "x-envoy-hedge-on-per-try-timeout: true");
}

/// Otherwise a route's own policy would retry what must not be repeated.
#[test]
fn a_request_that_may_not_be_retried_is_told_so_and_counted_by_the_reason() {
    let sidecar = shop(THREE, "");
    let none = ["x-envoy-max-retries: 0", "x-envoy-upstream-rq-timeout-ms: 1000"];
    for request in [&POST[..], &with(&POST, "idempotency-key", ""), &with(&ORDER, ":method", "PATCH")] {
        assert_eq!(told(&sidecar, request), none, "{request:?}");
    }
    assert_eq!(decisions(&sidecar, "place-order"), [0, 0, 3, 0, 0, 0]);
    let unlisted = with(&CALL, ":path", "/shop.Orders/Put");
    assert_eq!(told(&sidecar, &unlisted), none);
    assert_eq!(told(&sidecar, &with(&unlisted, "idempotency-key", "7")), none, "a key is HTTP's");
    assert_eq!(decisions(&sidecar, "calls"), [0, 0, 2, 0, 0, 0]);
    for (name, value) in [("x-envoy-attempt-count", "2"), ("grpc-previous-rpc-attempts", "1")] {
        assert_eq!(told(&sidecar, &with(&REVIEWS, name, value)), none, "{name}");
    }
    assert_eq!(decisions(&sidecar, "reviews"), [0, 0, 0, 2, 0, 0]);
    assert_eq!(told(&sidecar, &with(&REVIEWS, "x-envoy-attempt-count", "1")).len(), 4, "the first attempt");
    let once = shop(r#"{ "max_attempts": 1 }"#, "");
    assert_eq!(told(&once, &ORDER), ["x-envoy-max-retries: 0"]);
    assert_eq!(decisions(&once, "place-order"), [0; 6], "nothing was to be decided");
}

/// A retry of it would be Envoy's 507 in place of what the service said.
#[test]
fn a_request_with_a_large_body_is_told_to_have_no_retries_and_counted() {
    let put = with(&ORDER, ":method", "PUT");
    let (large, small) = (with(&put, "content-length", "400000"), with(&put, "content-length", "400"));
    let retries = |sidecar: &Sidecar, request: &[(&str, &str)]| {
        let (decision, ticket) = sidecar.ask_ending(End::Later, request);
        let Decision::Forward(edits) = decision else { panic!("{request:?}: {decision:?}") };
        let allowed = allowed(&edits);
        sidecar.answer(ticket);
        allowed
    };
    let hedging = r#"{ "per_try_timeout": "50ms", "hedge": true, "idempotency_key": "idempotency-key" }"#;
    for rule in ["{}", hedging] {
        let sidecar = shop(rule, "");
        // The last is sent in chunks.
        let answers = [&small, &large, &put].map(|request| retries(&sidecar, request));
        assert_eq!(answers, [1, 0, 0], "{rule}");
        assert_eq!(decisions(&sidecar, "place-order"), [0, 0, 0, 0, 0, 2], "{rule}");
    }
    let named = shop(r#"{ "max_body_bytes": 400000 }"#, "");
    assert_eq!([&small, &large, &put].map(|request| retries(&named, request)), [1, 1, 1]);
}

#[test]
fn a_long_stream_has_neither_retries_nor_a_timeout() {
    let sidecar = shop(THREE, DEADLINE);
    let timed =
        |request: &[(&str, &str)]| with(&with(request, "x-request-timeout-ms", "5"), "grpc-timeout", "0m").len();
    assert_eq!(timed(&ORDER), 3);
    let streams = [
        with(&ORDER, "upgrade", "websocket"),
        with(&ORDER, "accept", "text/event-stream"),
        with(&[], ":method", "CONNECT"),
    ];
    for stream in &streams {
        let stream = with(&with(stream, "x-request-timeout-ms", "0"), router::TIMEOUT, "1");
        let (edits, ticket) = edited(&sidecar, &stream);
        assert_eq!(lines(&edits), ["x-envoy-max-retries: 0"], "{stream:?}");
        assert_eq!(edits.remove, [router::TIMEOUT.as_bytes()]);
        sidecar.end(ticket);
    }
    assert_eq!(decisions(&sidecar, "place-order"), [0; 6]);
    let no_retries = shop("", DEADLINE);
    assert_eq!(told(&no_retries, &streams[1]), [""; 0]);
}

/// As clients of the Model Context Protocol ask.
const EITHER: (&str, &str) = ("accept", "application/json, text/event-stream");

#[test]
fn a_request_that_takes_events_among_others_has_retries_and_a_deadline_for_when_its_answer_begins() {
    let sidecar = shop(THREE, DEADLINE);
    let (edits, ticket) = edited(&sidecar, &with(&ORDER, EITHER.0, EITHER.1));
    let lines = lines(&edits);
    assert!(lines.contains(&"x-envoy-max-retries: 2".to_owned()), "{lines:?}");
    assert!(lines.contains(&"x-request-timeout-ms: 3000".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with(router::TIMEOUT)), "it may be a stream: {lines:?}");
    sidecar.end(ticket);
    let no_retries = shop("", DEADLINE);
    let told = told(&no_retries, &with(&ORDER, EITHER.0, EITHER.1));
    assert_eq!(told, ["x-envoy-upstream-rq-per-try-timeout-ms: 3000", "x-request-timeout-ms: 3000"]);
    // The same for who cannot take events at all.
    let never = shop("", DEADLINE);
    let (edits, ticket) = edited(&never, &with(&ORDER, "accept", "application/json, text/event-stream;q=0"));
    assert!(
        edits.set.iter().any(|(name, value)| (*name, value.as_ref()) == (router::PER_TRY_TIMEOUT, "3000")),
        "{edits:?}"
    );
    never.end(ticket);
}

/// The router's time for all attempts would cut off a stream that has begun, and its time for each starts anew with each.
#[test]
fn the_time_for_all_attempts_is_kept_for_who_takes_events_among_others_until_the_answer_begins() {
    let rule = r#"{ "max_attempts": 3, "timeout": "1s" }"#;
    let either = with(&ORDER, EITHER.0, EITHER.1);
    let due = |ticket: &Ticket| ticket.due().map(|it| it.as_nanos());
    for (deadline, first, after) in [
        ("", 1_000, None),
        (r#"{ "default": "3s" }"#, 1_000, None),
        (r#"{ "default": "3s", "cut_responses": true }"#, 1_000, Some(3_000)),
        (r#"{ "default": "500ms" }"#, 500, None),
    ] {
        let sidecar = shop(rule, deadline);
        let (_, mut ticket) = edited(&sidecar, &either);
        let start = sidecar.now();
        assert_eq!(due(&ticket), Some(start + first * MILLISECOND), "{deadline}");
        sidecar.host.advance(first * MILLISECOND);
        let reply = sidecar.expire(&mut ticket).unwrap();
        assert_eq!((reply.status, reply.details.as_str()), (504, "outrigger_expired"), "{deadline}");
        assert_eq!((due(&ticket), sidecar.expire(&mut ticket)), (None, None));
        sidecar.end(ticket);
        assert_eq!(ended(&sidecar.host, "place-order", "failure"), 1, "{deadline}");

        for (content_type, after) in [("application/json", after), ("text/event-stream", None)] {
            let (_, mut ticket) = edited(&sidecar, &either);
            let start = sidecar.now();
            sidecar.host.set_response(&[(":status", "200"), ("content-type", content_type)]);
            let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
            assert_eq!(due(&ticket), after.map(|it| start + it * MILLISECOND), "{deadline} {content_type}");
            sidecar.answer(ticket);
        }
    }
    // The router keeps it for others, and nobody for what is a stream for sure.
    let sidecar = shop(rule, "");
    for request in [ORDER.to_vec(), with(&ORDER, "accept", "text/event-stream")] {
        let (_, ticket) = edited(&sidecar, &request);
        assert_eq!(due(&ticket), None, "{request:?}");
        sidecar.end(ticket);
    }
}

#[test]
fn a_request_is_a_long_stream_when_its_response_is_one() {
    let duration =
        |sidecar: &Sidecar| sidecar.host.metric("operation=.=place-order;.;outrigger_request_duration_milliseconds");
    let either = with(&ORDER, EITHER.0, EITHER.1);
    for (content_type, is_stream) in [("text/event-stream; charset=utf-8", true), ("application/json", false)] {
        let sidecar = shop("", DEADLINE);
        let (_, mut ticket) = edited(&sidecar, &either);
        sidecar.host.set_response(&[(":status", "200"), ("content-type", content_type)]);
        let (host, worker) = (&*sidecar.host, &*sidecar.worker);
        let _ = sidecar.filter.on_response(host, worker, outrigger::host::End::Later, &mut ticket);
        sidecar.host.advance(3_600_000 * MILLISECOND);
        // Streams end in the middle, as far as anybody can tell.
        sidecar.host.set_broken_off(true);
        sidecar.end(ticket);
        assert_eq!(duration(&sidecar), if is_stream { 0 } else { 3_600_000 }, "{content_type}");
        let outcome = if is_stream { "success" } else { "failure" };
        assert_eq!(ended(&sidecar.host, "place-order", outcome), 1, "{content_type}");
    }
    // Nobody else pays for it.
    let calls = |request: &[(&str, &str)]| {
        let sidecar = shop("", DEADLINE);
        sidecar.answer(edited(&sidecar, request).1);
        sidecar.host.take_calls().get("response_header").copied()
    };
    assert_eq!((calls(&either), calls(&ORDER), calls(&with(&ORDER, "accept", "*/*"))), (Some(1), None, None));
}

#[test]
fn what_a_client_tells_the_router_is_removed_wherever_a_rule_is_for_the_request() {
    let mut request: Vec<(&str, &str)> = ORDER.to_vec();
    request.extend(router::CONTROL.map(|name| (name, "7")));
    // Once more, and some that are none.
    request.extend([
        (router::MAX_RETRIES, "9"),
        ("x-envoy-attempt-count", "1"),
        ("x-outrigger-reason", "x"),
        ("x-a", "b"),
    ]);
    let mut expected: Vec<&[u8]> = router::CONTROL.iter().map(|name| name.as_bytes()).collect();
    expected.extend([router::MAX_RETRIES.as_bytes(), b"x-outrigger-reason"]);
    expected.sort();
    for (retries, deadlines) in [(THREE, ""), ("", DEADLINE), (THREE, DEADLINE), (r#"{ "max_attempts": 1 }"#, "")] {
        let sidecar = shop(retries, deadlines);
        let (mut edits, ticket) = edited(&sidecar, &request);
        edits.remove.sort();
        assert_eq!(edits.remove, expected, "{retries} {deadlines}");
        sidecar.end(ticket);
    }
    let get = r#"{ "methods": ["POST"] }"#;
    for sidecar in [shop("", ""), shop(get, get), shop(r#"{ "operations": ["reviews"] }"#, "")] {
        let (edits, ticket) = edited(&sidecar, &request);
        assert_eq!((edits.remove, edits.set.len()), (vec![b"x-outrigger-reason".to_vec()], 0), "no rule is for it");
        sidecar.end(ticket);
    }
}

#[test]
fn the_first_rule_for_a_request_is_the_only_one() {
    let sidecar = shop(
        r#"{ "operations": ["place-order"], "methods": ["POST"], "timeout": "1s", "max_attempts": 1 },
           { "operations": ["place-order"], "timeout": "2s", "max_attempts": 1 },
           { "tiers": ["P0", "P3"], "timeout": "3s", "max_attempts": 1 }"#,
        r#"{ "operations": ["place-order"], "methods": ["POST"], "default": "100ms" }, { "operations": ["reviews"], "default": "200ms" },
           { "default": "50ms", "methods": ["DELETE"] }"#,
    );
    let timeout = |request: &[(&str, &str)], millis: u32| {
        // What is left until the deadline is told as the time of an attempt, which does not cut off what has begun.
        let times =
            told(&sidecar, request).into_iter().filter_map(|it| it.rsplit_once("-timeout-ms: ")?.1.parse().ok());
        assert_eq!(times.min(), Some(millis), "{request:?}");
    };
    timeout(&POST, 100);
    timeout(&ORDER, 2000);
    timeout(&REVIEWS, 200);
    timeout(&with(&ORDER, ":method", "DELETE"), 50);
    assert_eq!(told(&sidecar, &CALL), [""; 0]);
}

// === deadlines =======================================================================================================

const X: &str = "x-request-timeout-ms";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";
const GRPC: &str = "grpc-timeout";

#[test]
fn the_smallest_time_counts_and_is_passed_on_where_the_caller_said_it() {
    let sidecar = shop("", DEADLINE);
    let check = |given: &[(&str, &str)], expected: &[&str]| {
        assert_eq!(told(&sidecar, &[&ORDER, given].concat()), expected, "{given:?}");
    };
    let timeout = |millis: u32| format!("{}: {millis}", router::PER_TRY_TIMEOUT);
    check(&[], &[&timeout(3000), "x-request-timeout-ms: 3000"]);
    check(&[(X, "700")], &[&timeout(700), "x-request-timeout-ms: 700"]);
    check(&[(X, "4000")], &[&timeout(3000), "x-request-timeout-ms: 3000"]);
    check(&[(ENVOY, "600")], &["x-envoy-expected-rq-timeout-ms: 600", &timeout(600), "x-request-timeout-ms: 600"]);
    check(&[(GRPC, "500m")], &["grpc-timeout: 500m", &timeout(500), "x-request-timeout-ms: 500"]);
    let all = ["grpc-timeout: 400m", "x-envoy-expected-rq-timeout-ms: 400", &timeout(400), "x-request-timeout-ms: 400"];
    for (grpc, envoy, named) in [("400m", "500", "600"), ("1S", "400", "600"), ("1S", "500", "400")] {
        check(&[(GRPC, grpc), (ENVOY, envoy), (X, named)], &all);
    }
    check(&[(X, "soon"), (ENVOY, "-1")], &[&timeout(3000), "x-request-timeout-ms: 3000"]);
    let bare = shop("", "{}");
    assert_eq!(told(&bare, &with(&ORDER, X, "500")), [""; 0], "nobody named it");
    assert_eq!(told(&bare, &with(&ORDER, ENVOY, "500")), ["x-envoy-expected-rq-timeout-ms: 500", &timeout(500)]);
}

/// They hold for retried operations too, whatever their own timeout, which is never extended by them.
#[test]
fn a_rule_for_retries_reads_what_callers_proxies_say() {
    let time = |lines: Vec<String>, name: &str| lines.into_iter().find(|it| it.starts_with(name));
    let all = |lines| time(lines, router::TIMEOUT);
    let each = |lines| time(lines, router::PER_TRY_TIMEOUT);
    let second = Some("x-envoy-upstream-rq-timeout-ms: 1000".to_owned());
    let attempt = |millis: u32| Some(format!("{}: {millis}", router::PER_TRY_TIMEOUT));
    let sidecar = shop(THREE, "");
    let grpc = told(&sidecar, &with(&CALL, GRPC, "200m"));
    assert_eq!(grpc[0], "grpc-timeout: 200m");
    assert_eq!((all(grpc.clone()), each(grpc)), (second.clone(), attempt(200)));
    assert_eq!(each(told(&sidecar, &with(&ORDER, ENVOY, "2000"))), attempt(300), "the rule's own");
    assert_eq!(each(told(&sidecar, &with(&ORDER, X, "10"))), attempt(300), "no rule names it");
    let both = shop(THREE, DEADLINE);
    assert_eq!(each(told(&both, &with(&ORDER, X, "10"))), attempt(10));
    assert_eq!(each(told(&both, &ORDER)), attempt(300));
    assert_eq!(all(told(&both, &ORDER)), second);
    assert_eq!(each(told(&shop("{}", DEADLINE), &ORDER)), attempt(3000));
}

#[test]
fn a_request_without_time_is_refused_at_once_and_nobody_may_repeat_it() {
    let sidecar = Sidecar::new(&document(
        THREE,
        DEADLINE,
        r#""limits": [{ "name": "all", "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } }],"#,
    ));
    let reply = refusal(&sidecar, &with(&ORDER, X, "0"));
    assert_eq!((reply.status, reply.grpc_status, reply.details.as_str()), (504, 4, "outrigger_deadline"));
    assert_eq!((reason(&reply), header(&reply, "x-envoy-ratelimited")), ("deadline", Some("true")));
    assert_eq!(header(&reply, "retry-after"), None, "later it has no more time than now");
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("deadline"));
    let call = refusal(&sidecar, &with(&CALL, GRPC, "999u"));
    assert_eq!((call.grpc_status, call.body.as_slice()), (4, &b"refused by deadline"[..]));
    assert_eq!(header(&call, "grpc-retry-pushback-ms"), Some("-1"));
    assert_eq!(header(&call, "x-envoy-ratelimited"), Some("true"));
    assert_eq!((ended(&sidecar.host, "place-order", "expired"), ended(&sidecar.host, "calls", "expired")), (1, 1));
    assert_eq!(refused(&sidecar.host, "deadline"), 2);
    assert_eq!([decisions(&sidecar, "place-order"), decisions(&sidecar, "calls")], [[0; 6]; 2]);
    assert_eq!(account(&sidecar), account(&shop(THREE, "")), "the budget was not asked");
    let (_, ticket) = edited(&sidecar, &with(&ORDER, X, "1"));
    sidecar.end(ticket);
    assert_eq!(reason(&refusal(&sidecar, &ORDER)), "limit/all", "the refused took nothing of it");
}

#[test]
fn a_request_that_has_less_time_than_its_operation_takes_is_refused_but_for_one_a_second() {
    let sidecar = shop("", DEADLINE);
    usually(&sidecar, &ORDER, 200);
    // 200 ms stand for 196.6 ms, the lower edge of their bucket.
    let (enough, little) = (with(&ORDER, X, "197"), with(&ORDER, X, "196"));
    for _ in 0..10 {
        sidecar.end(edited(&sidecar, &enough).1);
    }
    let (_, trial) = edited(&sidecar, &little);
    for _ in 0..10 {
        assert_eq!(refusal(&sidecar, &little).status, 504);
    }
    assert_eq!(told(&sidecar, &[(":path", "/reviews/1"), (X, "100")]).len(), 2, "another operation");
    sidecar.host.advance(SECOND - 1);
    assert_eq!(refusal(&sidecar, &little).status, 504);
    sidecar.host.advance(1);
    let (_, other) = edited(&sidecar, &little);
    for ticket in [trial, other] {
        sidecar.end(ticket);
    }
    assert_eq!(ended(&sidecar.host, "place-order", "expired"), 11);
}

/// Failures are often fast, and what another rule is for says nothing about what this one is for.
#[test]
fn only_successes_that_a_rule_is_for_tell_what_is_usual() {
    let little = with(&ORDER, X, "1");
    let learn = |sidecar: &Sidecar, request: &[(&str, &str)], response: &[(&str, &str)], millis: u64| {
        for _ in 0..40 {
            let (_, ticket) = edited(sidecar, request);
            sidecar.host.advance(millis * MILLISECOND);
            let _ = sidecar.answer_with(ticket, response);
        }
    };
    let ok = [(":status", "200")];
    let known = |sidecar: &Sidecar| (0..2).any(|_| sidecar.serve(&little).is_some());
    let gets = r#"{ "methods": ["GET"], "header": "x-request-timeout-ms" }"#;
    let cases: [(&str, &[(&str, &str)], &[(&str, &str)], bool); 6] = [
        ("success", &ORDER, &ok, true),
        ("failure", &ORDER, &UNAVAILABLE, false),
        ("client error", &ORDER, &[(":status", "404")], false),
        ("another rule", &POST, &ok, false),
        ("stream", &[(":path", "/orders"), ("accept", "text/event-stream")], &ok, false),
        ("protocol switch", &[(":path", "/orders"), ("upgrade", "websocket")], &[(":status", "101")], false),
    ];
    for (name, request, response, expected) in cases {
        let sidecar = shop("", gets);
        learn(&sidecar, request, response, 50);
        assert_eq!(known(&sidecar), expected, "{name}");
    }
}

// === after a queue ===================================================================================================

/// Ten a second, one at a time.
const QUEUE: &str =
    r#""limits": [{ "name": "q", "leaky_bucket": { "capacity": 50, "drain": 10, "drain_interval": "1s" } }],"#;

/// The ticket of a request that waits so long.
fn queued(sidecar: &Sidecar, request: &[(&str, &str)], millis: u64) -> Ticket {
    let (decision, ticket) = sidecar.ask(request);
    let Decision::Wait(edits, due) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(due.as_nanos() - sidecar.now(), millis * MILLISECOND);
    assert!(edits.set.is_empty(), "nothing is said before it goes on: {edits:?}");
    ticket
}

#[test]
fn a_wait_is_taken_off_the_time_and_the_budget_is_asked_after_it() {
    let sidecar = Sidecar::new(&document(THREE, DEADLINE, QUEUE));
    sidecar.end(edited(&sidecar, &ORDER).1);
    let untouched = account(&sidecar);
    let request = [(":path", "/orders"), (X, "700"), (ENVOY, "800"), (router::MAX_RETRIES, "9")];
    let (decision, mut ticket) = sidecar.ask(&request);
    let Decision::Wait(edits, _) = decision else {
        panic!("{decision:?}");
    };
    assert_eq!(edits.remove, [router::MAX_RETRIES.as_bytes()]);
    assert_eq!(account(&sidecar), untouched, "who waits has set nothing aside");
    sidecar.host.advance(250 * MILLISECOND + 1);
    let Decision::Forward(edits) = sidecar.resume(&mut ticket) else {
        panic!("it goes on");
    };
    let expected = [
        "x-envoy-expected-rq-timeout-ms: 449",
        "x-envoy-max-retries: 2",
        "x-envoy-retry-on: 5xx,reset",
        "x-envoy-upstream-rq-per-try-timeout-ms: 300",
        "x-envoy-upstream-rq-timeout-ms: 1000",
        "x-request-timeout-ms: 449",
    ];
    assert_eq!(lines(&edits), expected);
    assert_ne!(account(&sidecar), untouched);
    sidecar.host.set_attempts(Some(1));
    sidecar.answer(ticket);
}

#[test]
fn who_has_waited_too_long_is_refused_and_keeps_nothing() {
    let sidecar = Sidecar::new(&document(
        THREE,
        DEADLINE,
        &QUEUE.replace("}],", r#"}, { "name": "one", "concurrency": { "max_in_flight": 2 } }],"#),
    ));
    let (_, first) = edited(&sidecar, &ORDER);
    let untouched = account(&sidecar);
    let mut late = queued(&sidecar, &with(&ORDER, X, "150"), 100);
    // The timer is late: less than a millisecond is left.
    sidecar.host.advance(149 * MILLISECOND + 1);
    let Decision::Reply(reply) = sidecar.resume(&mut late) else {
        panic!("it has no time left");
    };
    assert_eq!((reply.status, reply.grpc_status, reason(&reply)), (504, 4, "deadline"));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    assert_eq!(account(&sidecar), untouched);
    // Its place among those in flight is free before its stream ends.
    let (decision, second) = sidecar.ask(&ORDER);
    assert!(!matches!(decision, Decision::Reply(_)), "{decision:?}");
    for ticket in [first, late, second] {
        sidecar.end(ticket);
    }
    assert_eq!(ended(&sidecar.host, "place-order", "expired"), 1);
    assert_eq!(refused(&sidecar.host, "deadline"), 1);
}

#[test]
fn who_still_has_a_millisecond_goes_on() {
    let sidecar = Sidecar::new(&document("", DEADLINE, QUEUE));
    sidecar.end(edited(&sidecar, &ORDER).1);
    let mut ticket = queued(&sidecar, &with(&ORDER, X, "150"), 100);
    sidecar.host.advance(149 * MILLISECOND);
    let Decision::Forward(edits) = sidecar.resume(&mut ticket) else {
        panic!("it has time left");
    };
    assert_eq!(lines(&edits), ["x-envoy-upstream-rq-per-try-timeout-ms: 1", "x-request-timeout-ms: 1"]);
    sidecar.end(ticket);
}

/// To wait first and be refused then is worse than to be refused.
#[test]
fn nobody_waits_who_would_have_too_little_time_after_it() {
    let sidecar = Sidecar::new(&document("", DEADLINE, QUEUE));
    usually(&sidecar, &ORDER, 200);
    sidecar.host.advance(SECOND);
    sidecar.end(edited(&sidecar, &ORDER).1);
    // 200 ms stand for 196.6 ms, the lower edge of their bucket.
    let reply = refusal(&sidecar, &with(&ORDER, X, "296"));
    assert_eq!((reply.status, reason(&reply)), (429, "limit/q"));
    let mut ticket = queued(&sidecar, &with(&ORDER, X, "297"), 100);
    sidecar.host.advance(100 * MILLISECOND);
    assert!(matches!(sidecar.resume(&mut ticket), Decision::Forward(_)));
    sidecar.end(ticket);
}

// === the budget ======================================================================================================

#[test]
fn a_burst_of_requests_cannot_overdraw_the_account() {
    let sidecar = shop(THREE, "");
    let mut tickets = Vec::new();
    let mut each = Vec::new();
    for _ in 0..5 {
        let (edits, ticket) = edited(&sidecar, &ORDER);
        each.push(allowed(&edits));
        tickets.push(ticket);
    }
    assert_eq!(each, [2, 2, 1, 0, 0], "half of ten");
    assert_eq!(decisions(&sidecar, "place-order"), [0, 2, 0, 0, 0, 0]);
    sidecar.host.set_attempts(Some(3));
    for ticket in tickets.drain(..2) {
        let _ = sidecar.answer_with(ticket, &UNAVAILABLE);
    }
    assert_eq!(decided(&sidecar, "place-order", "made"), 4);
    assert_eq!(funds(&sidecar), 0);
    sidecar.host.set_attempts(Some(1));
    for ticket in tickets {
        let _ = sidecar.answer_with(ticket, &UNAVAILABLE);
    }
    assert_eq!(decided(&sidecar, "place-order", "made"), 4, "one attempt is no retry");
    assert_eq!(funds(&sidecar), 0, "one came back, but while so much fails half of the ten is kept");
    sidecar.host.advance(SECOND);
    assert_eq!(funds(&sidecar), 2, "after a second five failures say too little, and it has paid one more");
}

/// What is left of the five tokens, whatever becomes of a request for which two were set aside.
#[test]
fn what_was_set_aside_comes_back_however_the_request_ends() {
    type End = fn(&Sidecar, Ticket);
    let cases: [(&str, Option<u32>, End, u32); 10] = [
        ("success", Some(1), |sidecar, ticket| sidecar.answer(ticket), 5),
        ("success after a retry", Some(2), |sidecar, ticket| sidecar.answer(ticket), 4),
        ("failure after all retries", Some(3), |sidecar, ticket| drop(sidecar.answer_with(ticket, &UNAVAILABLE)), 3),
        ("client error", Some(1), |sidecar, ticket| drop(sidecar.answer_with(ticket, &[(":status", "404")])), 5),
        (
            "another filter's refusal",
            Some(0),
            |sidecar, ticket| {
                let _ = sidecar.answer_with(ticket, &[(":status", "503"), ("x-envoy-ratelimited", "true")]);
            },
            5,
        ),
        ("cancelled before it was sent", Some(0), Sidecar::end, 5),
        ("cancelled", Some(1), Sidecar::end, 5),
        ("cancelled in the second attempt", Some(2), Sidecar::end, 4),
        (
            "reset in the middle of the response",
            Some(1),
            |sidecar, mut ticket| {
                sidecar.host.set_response(&[(":status", "200")]);
                sidecar.host.set_broken_off(true);
                let _ = sidecar.filter.on_response(
                    &*sidecar.host,
                    &sidecar.worker,
                    outrigger::host::End::Later,
                    &mut ticket,
                );
                sidecar.end(ticket);
            },
            5,
        ),
        // The bound must hold.
        ("nobody knows", None, Sidecar::end, 3),
    ];
    for (name, attempts, end, expected) in cases {
        let sidecar = shop(THREE, "");
        let (edits, ticket) = edited(&sidecar, &ORDER);
        assert_eq!((allowed(&edits), funds(&sidecar)), (2, 3), "{name}");
        sidecar.host.set_attempts(attempts);
        end(&sidecar, ticket);
        assert_eq!(funds(&sidecar), expected, "{name}");
        let made = attempts.unwrap_or(0).saturating_sub(1);
        assert_eq!(decided(&sidecar, "place-order", "made"), u64::from(made), "{name}");
        // Nothing of it is held any more: time fills the account to its cap.
        sidecar.host.advance(60 * SECOND);
        assert_eq!(funds(&sidecar), 10, "{name}");
    }
    let sidecar = shop(THREE, "");
    let (_, ticket) = edited(&sidecar, &ORDER);
    sidecar.host.break_call("attempts");
    sidecar.answer(ticket);
    assert_eq!(funds(&sidecar), 3, "who cannot be asked is taken to have retried");
    assert_eq!(sidecar.host.metric("call=.=get_property;.;outrigger_host_errors_total"), 1);
}

#[test]
fn whoever_refuses_a_request_leaves_the_account_as_it_is() {
    let limit = |max: u32| {
        format!(
            r#""limits": [{{ "name": "all", "methods": ["GET"],
                             "token_bucket": {{ "max_tokens": {max}, "tokens_per_fill": 1, "fill_interval": "1h" }} }}],"#
        )
    };
    let breaker =
        r#""breakers": [{ "name": "shop", "trip": { "consecutive_failures": 1 }, "methods": ["GET"], "probes": 1 }],"#;
    let switch = r#""switches": [{ "name": "s", "active": true, "methods": ["GET"] }],"#;
    for (more, expected) in [(limit(1).as_str(), "limit/all"), (breaker, "breaker/shop"), (switch, "switch/s")] {
        let sidecar = Sidecar::new(&document(THREE, "", more));
        // So that the account was used, and the limit or breaker has had enough.
        let _ = sidecar.answer_with(edited(&sidecar, &with(&POST, "idempotency-key", "7")).1, &UNAVAILABLE);
        if let Ok(ticket) = sidecar.begin(&ORDER) {
            let _ = sidecar.answer_with(ticket, &UNAVAILABLE);
        }
        let untouched = account(&sidecar);
        let reply = refusal(&sidecar, &ORDER);
        assert_eq!((reason(&reply), account(&sidecar)), (expected, untouched), "{expected}");
        assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"), "{expected}");
        let call = [(":path", "/shop.Orders/Get"), ("content-type", "application/grpc")];
        assert_eq!(header(&refusal(&sidecar, &call), "grpc-retry-pushback-ms"), Some("-1"), "{expected}");
        assert_eq!(decided(&sidecar, "calls", "no_budget"), 0);
    }
}

/// A breaker that admits a probe and no more refuses when the limits have admitted already.
#[test]
fn whoever_finds_no_probe_after_a_wait_set_nothing_aside() {
    let breaker = r#""breakers": [{ "name": "shop", "trip": { "consecutive_failures": 1 } }],"#;
    let sidecar = Sidecar::new(&document(THREE, "", &format!("{QUEUE}{breaker}")));
    let (_, first) = edited(&sidecar, &ORDER);
    let mut second = queued(&sidecar, &ORDER, 100);
    sidecar.host.set_attempts(Some(3));
    let _ = sidecar.answer_with(first, &UNAVAILABLE);
    let untouched = account(&sidecar);
    sidecar.host.advance(100 * MILLISECOND);
    let Decision::Reply(reply) = sidecar.resume(&mut second) else {
        panic!("the breaker has opened");
    };
    sidecar.end(second);
    assert_eq!((reason(&reply), account(&sidecar)), ("breaker/shop", untouched));
}

#[test]
fn successes_pay_whether_or_not_they_might_have_been_retried() {
    let rule = THREE.replacen('{', r#"{ "budget": { "ratio": 0.5, "min_per_second": 0 }, "#, 1);
    let sidecar = shop(&rule, "");
    sidecar.host.set_grpc_status(Some(0));
    let (mut held, mut paid) = (vec![], 0);
    while let (edits, ticket) = edited(&sidecar, &ORDER)
        && 0 < allowed(&edits)
    {
        paid += allowed(&edits);
        held.push(ticket);
    }
    assert_eq!(paid, 5);
    // What is set aside counts towards the cap of ten, so there is room for five more.
    for request in
        [&POST[..], &with(&ORDER, "x-envoy-attempt-count", "2"), &CALL, &with(&CALL, ":path", "/shop.Orders/Put")]
    {
        sidecar.host.set_attempts(Some(1));
        sidecar.answer(edited(&sidecar, request).1);
    }
    let (edits, ticket) = edited(&sidecar, &ORDER);
    assert_eq!(allowed(&edits), 2, "four successes, the listed call's own tokens given back");
    for ticket in held.into_iter().chain([ticket]) {
        sidecar.end(ticket);
    }
}

/// A failure that was replaced is one to the service, even if the client sees a success.
#[test]
fn a_replaced_failure_does_not_pay() {
    let more = r#""on_failure": [{ "fallback": "empty" }], "fallbacks": [{ "name": "empty", "status": 200 }],"#;
    let sidecar = Sidecar::new(&document(THREE, "", more));
    for _ in 0..100 {
        let (_, ticket) = edited(&sidecar, &ORDER);
        sidecar.host.set_attempts(Some(1));
        assert!(matches!(sidecar.answer_with(ticket, &UNAVAILABLE), Answer::Replace(_)));
    }
    assert_eq!(ended(&sidecar.host, "place-order", "degraded"), 100);
    let plain = shop(THREE, "");
    for _ in 0..100 {
        let (_, ticket) = edited(&plain, &ORDER);
        plain.host.set_attempts(Some(1));
        let _ = plain.answer_with(ticket, &UNAVAILABLE);
    }
    assert_eq!(account(&sidecar), account(&plain));
}

#[test]
fn a_grpc_call_that_fails_in_its_trailers_does_not_pay_either() {
    let accounts = [0, 14].map(|status| {
        let sidecar = shop(THREE, "");
        for _ in 0..50 {
            let (_, ticket) = edited(&sidecar, &CALL);
            sidecar.host.set_attempts(Some(1));
            sidecar.host.set_grpc_status(Some(status));
            sidecar.answer(ticket);
        }
        funds(&sidecar)
    });
    // Five at first, and five more; in the other case what is kept for better days.
    assert_eq!(accounts, [10, 0]);
}

#[test]
fn an_account_outlives_a_configuration_and_belongs_to_its_rule() {
    let two = |first: &str| {
        document(&format!(r#"{{ "operations": ["reviews"], {first} }}, {{ "max_attempts": 5 }}"#), "", "")
    };
    let sidecar = Sidecar::new(&two(r#""max_attempts": 3"#));
    let (_, ticket) = edited(&sidecar, &REVIEWS);
    assert_eq!(funds(&sidecar), 3);
    let later = sidecar.reconfigured(&two(r#""max_attempts": 5"#));
    let (edits, second) = edited(&later, &REVIEWS);
    assert_eq!(allowed(&edits), 3);
    let (edits, other) = edited(&later, &ORDER);
    assert_eq!(allowed(&edits), 4, "the other rule's account");
    sidecar.host.set_attempts(Some(1));
    sidecar.answer(ticket);
    for ticket in [second, other] {
        later.end(ticket);
    }
    assert_eq!(funds(&later), 5);
}

/// Nothing would be seen of the service while whatever stands behind the deadline takes the trials for itself.
#[test]
fn a_trial_that_is_not_sent_on_is_left_to_the_next_request() {
    let little = with(&ORDER, X, "100");
    let is_trial = |sidecar: &Sidecar| match sidecar.ask(&little) {
        (Decision::Forward(_), ticket) => {
            sidecar.answer(ticket);
            true
        }
        (_, ticket) => {
            sidecar.end(ticket);
            false
        }
    };

    // A limit that is used up by the requests that teach what is usual.
    let limit = r#""limits": [{ "name": "l", "operations": ["place-order"], "window": { "max_requests": 20, "interval": "5s" } }],"#;
    let sidecar = Sidecar::new(&document("", DEADLINE, limit));
    usually(&sidecar, &ORDER, 200);
    for _ in 0..3 {
        assert_eq!(reason(&refusal(&sidecar, &little)), "limit/l", "not for want of time");
    }
    sidecar.host.advance(2 * SECOND);
    assert!(is_trial(&sidecar), "the limit has room again");
    assert_eq!(reason(&refusal(&sidecar, &little)), "deadline", "that was the trial of this second");

    // A queue in which it waits for 50 ms.
    let queue = r#""limits": [{ "name": "q", "operations": ["reviews"], "cost": 10,
        "leaky_bucket": { "capacity": 10, "drain": 200, "drain_interval": "1s" } }],"#;
    let waiting = |sidecar: &Sidecar| {
        let _ = sidecar.ask(&REVIEWS);
        match sidecar.ask(&with(&REVIEWS, X, "100")) {
            (Decision::Wait(..), ticket) => ticket,
            (other, _) => panic!("{other:?}"),
        }
    };
    let sidecar = Sidecar::new(&document("", DEADLINE, queue));
    usually(&sidecar, &REVIEWS, 200);
    // Whose client left.
    let left = waiting(&sidecar);
    sidecar.end(left);
    sidecar.host.advance(SECOND / 2);
    // Whose time was over when its turn came.
    let mut late = waiting(&sidecar);
    sidecar.host.advance(SECOND / 2);
    assert!(matches!(sidecar.resume(&mut late), Decision::Reply(_)));
    sidecar.end(late);
    let last = waiting(&sidecar);
    assert_eq!(reason(&refusal(&sidecar, &with(&REVIEWS, X, "100"))), "deadline", "the trial is that of the last");
    sidecar.end(last);
}

#[test]
fn a_retry_that_would_come_too_late_is_not_paid_for() {
    let sidecar = shop(THREE, DEADLINE);
    usually(&sidecar, &ORDER, 200);
    // The lower edge of the bucket of 200 ms, 196.6 ms, and the router's wait of 25 ms.
    let retries = |millis| {
        let (edits, ticket) = edited(&sidecar, &with(&ORDER, X, millis));
        sidecar.host.set_attempts(Some(1));
        sidecar.answer(ticket);
        allowed(&edits)
    };
    let little = retries("221");
    assert_eq!((little, decided(&sidecar, "place-order", "no_time")), (0, 1));
    assert_eq!((retries("222"), decided(&sidecar, "place-order", "no_time")), (2, 1));
}

// === several workers =================================================================================================

/// A failing request that makes all the retries it is allowed.
fn fail(sidecar: &Sidecar) -> u32 {
    let (edits, ticket) = edited(sidecar, &ORDER);
    let retries = allowed(&edits);
    sidecar.host.set_attempts(Some(1 + retries));
    let _ = sidecar.answer_with(ticket, &UNAVAILABLE);
    retries
}

/// What time pays is the sidecar's, and is divided by those who are there.
#[test]
fn workers_share_what_time_pays_and_those_who_go_leave_theirs() {
    const STEP: u64 = 100 * MILLISECOND;
    let config = document(&THREE.replacen('{', r#"{ "budget": { "ratio": 0, "min_per_second": 2 }, "#, 1), "", "");
    let workers = Sidecar::several(4, &config);
    let host = &workers[0].host;
    let minute = |some: &[Sidecar]| -> u32 {
        let step = |_| {
            host.advance(STEP);
            some.iter().map(fail).sum::<u32>()
        };
        (0..60 * SECOND / STEP).map(step).sum()
    };
    minute(&workers);
    for (some, name) in [(4, "all"), (1, "one"), (3, "three"), (4, "all again")] {
        let retries = minute(&workers[..some]);
        let (least, most) = (120 - 12, 120 + 20);
        assert!((least..=most).contains(&retries), "{name}: {retries}");
    }
}

/// The most by which the retries of a run exceed what was paid for them, over all of its intervals.
#[derive(Default)]
struct Excess {
    now: f64,
    most: f64,
}

impl Excess {
    fn add(&mut self, paid: f64, retries: u32) {
        self.now = (self.now - paid).max(0.0) + f64::from(retries);
        self.most = self.most.max(self.now);
    }
}

/// A request of a random worker after a random time up to `pause`, that fails or succeeds and makes some of its retries.
fn random_request(workers: &[Sidecar], random: &mut Random, pause: u64, excess: &mut Excess) {
    let step = random.below(pause);
    let host = &workers[0].host;
    host.advance(step);
    let worker = &workers[random.below(workers.len() as u64) as usize];
    let (edits, ticket) = edited(worker, &ORDER);
    // Ten good seconds, ten bad ones.
    let success = (worker.now() / (10 * SECOND)).is_multiple_of(2);
    let made = if success { 0 } else { random.below(u64::from(allowed(&edits)) + 1) as u32 };
    host.set_attempts(Some(1 + made));
    let _ = worker.answer_with(ticket, if success { &[(":status", "200")] } else { &UNAVAILABLE });
    excess.add(step as f64 / SECOND as f64 + if success { 0.1 } else { 0.0 }, made);
}

/// In any interval of any run, whichever worker a request comes to.
#[test]
fn the_bound_holds_for_all_workers_together() {
    for seed in 1..=10 {
        let mut random = Random::seeded(seed);
        let workers = Sidecar::several(1 + random.below(8) as usize, &document(THREE, "", ""));
        let mut excess = Excess::default();
        for _ in 0..10_000 {
            random_request(&workers, &mut random, 20 * MILLISECOND, &mut excess);
        }
        // Ten seconds of deposits: of a hundred successes a second, and of time.
        let cap = 0.1 * 1_000.0 * 1.1 + 10.0;
        assert!(excess.most <= cap, "seed {seed}: {} of {cap} with {} workers", excess.most, workers.len());
        assert!(cap / 4.0 < excess.most, "seed {seed}: {}: the run says nothing", excess.most);
    }
}

/// The same where so little comes that workers take each other for gone.
#[test]
fn the_bound_holds_for_workers_that_are_seldom_needed() {
    for seed in 1..=10 {
        let mut random = Random::seeded(seed);
        let workers = Sidecar::several(4, &document(THREE, "", ""));
        let mut excess = Excess::default();
        for _ in 0..5_000 {
            random_request(&workers, &mut random, 4 * SECOND, &mut excess);
        }
        assert!(excess.most <= 11.0, "seed {seed}: {}", excess.most);
        assert!(5.0 < excess.most, "seed {seed}: {}: the run says nothing", excess.most);
    }
}

/// Each would find itself alone, or nearly so.
#[test]
fn workers_that_come_back_together_spend_what_is_theirs_together() {
    let workers = Sidecar::several(8, &document(THREE, "", ""));
    let host = &workers[0].host;
    let serve = |requests: u64| {
        for _ in 0..requests {
            workers.iter().for_each(|worker| drop(told(worker, &ORDER)));
            host.advance(BEAT.as_nanos() as u64);
        }
    };
    serve(10);
    // What successes paid for is forgotten, and with it what they add to the cap.
    host.advance(10 * SECOND);
    for quiet in [EXPIRY, Duration::from_secs(60), Duration::from_secs(3_600)] {
        host.advance(quiet.as_nanos() as u64);
        let retries: u32 = (0..5).map(|_| workers.iter().map(fail).sum::<u32>()).sum();
        assert!((8..=10).contains(&retries), "after {quiet:?}: {retries}");
        host.advance(10 * SECOND);
        // A few seldom requests do not make them forget each other.
        serve(1);
        host.advance(10 * SECOND);
        serve(1);
    }
    // Nor do they remember for ever.
    for _ in 0..10 {
        drop(told(&workers[0], &ORDER));
        host.advance(BEAT.as_nanos() as u64);
    }
    assert_eq!(workers[0].worker.retry.census.last(), 1);
}

#[test]
fn a_worker_is_told_of_the_others_within_a_beat_and_of_their_end_when_they_expire() {
    let workers = Sidecar::several(2, &document(THREE, "", ""));
    let alive = || [workers[0].worker.roster.alive(), workers[1].worker.roster.alive()];
    let serve = |worker: &Sidecar| drop(told(worker, &ORDER));
    let host = &workers[0].host;
    serve(&workers[0]);
    serve(&workers[1]);
    assert_eq!(alive(), [1, 2]);
    host.advance(BEAT.as_nanos() as u64);
    serve(&workers[0]);
    assert_eq!(alive(), [2, 2]);
    let expiry = (EXPIRY - BEAT + Duration::from_nanos(1)).as_nanos() as u64;
    host.advance(expiry);
    serve(&workers[0]);
    assert_eq!(alive(), [1, 2], "the second was not heard of since its first request");
    host.break_call("shared_get");
    host.advance(10 * SECOND);
    serve(&workers[1]);
    assert_eq!(alive(), [1, 2], "as many as there were");
    assert_eq!(funds(&workers[1]), 5, "half of the cap");
}

// === what it costs ===================================================================================================

const BYTES: [&str; 9] = [
    "request_headers",
    "response_status",
    "response_header",
    "response_headers",
    "response_body",
    "grpc_status",
    "attempts",
    "ended",
    "peer_address",
];

/// Calls that return bytes, of one request.
fn bytes_returned(sidecar: &Sidecar, request: &[(&str, &str)], answer: &[(&str, &str)]) -> Vec<&'static str> {
    sidecar.host.set_attempts(Some(1));
    sidecar.host.set_grpc_status(Some(0));
    sidecar.host.take_calls();
    let (_, ticket) = edited(sidecar, request);
    let _ = sidecar.answer_with(ticket, answer);
    let calls = sidecar.host.take_calls();
    let times = |name: &&'static str| vec![*name; calls.get(name).copied().unwrap_or(0)];
    BYTES.iter().flat_map(times).collect()
}

#[test]
fn only_requests_that_a_rule_is_for_cost_a_call_more_and_only_if_they_may_be_retried() {
    let ok = [(":status", "200")];
    let http = ["request_headers", "response_status"];
    let grpc = ["request_headers", "grpc_status"];
    let each = ["request_headers", "response_status", "attempts"];
    let rule = THREE.replacen('{', r#"{ "operations": ["place-order", "calls"], "methods": ["GET", "PUT"], "#, 1);
    let sidecar = shop(&rule, "");
    let get = [(":path", "/shop.Orders/Get"), ("content-type", "application/grpc")];
    assert_eq!(bytes_returned(&sidecar, &REVIEWS, &ok), http, "another operation");
    assert_eq!(bytes_returned(&sidecar, &POST, &ok), http, "another method");
    assert_eq!(bytes_returned(&sidecar, &CALL, &ok), grpc, "another method");
    assert_eq!(bytes_returned(&sidecar, &ORDER, &ok), ["request_headers"], "one word says both");
    assert_eq!(bytes_returned(&sidecar, &ORDER, &[(":status", "404")]), each, "each is read where it does not");
    assert_eq!(bytes_returned(&sidecar, &get, &ok), ["request_headers", "grpc_status", "attempts"]);
    assert_eq!(bytes_returned(&sidecar, &with(&ORDER, "x-envoy-attempt-count", "2"), &ok), http, "it gets no retries");
    let sidecar = shop("", DEADLINE);
    assert_eq!(bytes_returned(&sidecar, &ORDER, &ok), http);
    assert_eq!(bytes_returned(&sidecar, &CALL, &ok), grpc);
    // Where nobody wants outcomes, those are read that are needed.
    let sidecar = Sidecar::new(&document(&rule, "", r#""monitor": { "outcomes": false },"#));
    assert_eq!(bytes_returned(&sidecar, &POST, &ok), ["request_headers"]);
    assert_eq!(bytes_returned(&sidecar, &CALL, &ok), ["request_headers"]);
    assert_eq!(bytes_returned(&sidecar, &ORDER, &ok), ["request_headers"]);
    assert_eq!(bytes_returned(&sidecar, &get, &ok), ["request_headers", "grpc_status", "attempts"]);
}
