//! Retry policy: who may be retried, how often, and what the router hears about it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use outrigger::headers::Headers;
use outrigger::host::End;
use outrigger::monitor::outcome::Outcome;
use outrigger::operation::request::{Events, Request};
use outrigger::operation::stream;
use outrigger::retry::budget::{Account, Budget, SetAside};
use outrigger::retry::policy::{
    Advice, BACKOFF, Conditions, Decision, Eligibility, Failures, GRPC_CONDITIONS, HTTP_CONDITIONS, Hedging,
    MAX_ATTEMPTS, Payment, RetryPolicy, Time,
};
use outrigger::retry::router::{self, Bound};
use outrigger::time::Timestamp;

const NOW: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        retry_on: Conditions::new(&["5xx", "reset", "unavailable", "connect-failure"]).unwrap(),
        per_try_timeout: Some(Duration::from_millis(300)),
        timeout: Some(Duration::from_secs(1)),
        idempotency_key: Some("idempotency-key".into()),
        grpc_methods: vec!["/shop.Orders/Get".into()],
        max_body_bytes: None,
        hedging: Hedging::Off,
        budget: Budget::default(),
    }
}

fn eligibility(policy: &RetryPolicy, method: &str, path: &str, headers: &[(&str, &str)]) -> Eligibility {
    let mut all = vec![(":method", method), (":path", path), (":authority", "shop.example.com")];
    all.extend(headers);
    policy.eligibility(&Request::read(&Headers::from_pairs(&all)))
}

fn get(headers: &[(&str, &str)]) -> Eligibility {
    eligibility(&policy(), "GET", "/", headers)
}

fn advise<'p>(policy: &'p RetryPolicy, eligibility: Eligibility, time: Time) -> Advice<'p> {
    policy.advise(eligibility, time, Payment::InAdvance, &mut Account::default(), 1, NOW)
}

/// As `name: value` lines.
fn fields(advice: &Advice<'_>) -> Vec<String> {
    advice.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

fn time(left: u64, usual: u64) -> Time {
    Time { left: Some(Duration::from_millis(left)), usual: Some(Duration::from_millis(usual)), bound: Bound::Answer }
}

const ELIGIBLE: Eligibility = Eligibility::Eligible(Failures::HttpOrGrpc);
const HTTP: Eligibility = Eligibility::Eligible(Failures::Http);
const NOT_IDEMPOTENT: Eligibility = Eligibility::Ineligible(Decision::NotIdempotent);
const IS_RETRY: Eligibility = Eligibility::Ineligible(Decision::IsRetry);

// === who ===

#[test]
fn idempotent_methods_are_retried_and_others_with_a_key() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "get", "Delete"] {
        assert_eq!(eligibility(&policy(), method, "/", &[]), HTTP, "{method}");
    }
    for method in ["POST", "PATCH", "patch", "LOCK", ""] {
        assert_eq!(eligibility(&policy(), method, "/", &[]), NOT_IDEMPOTENT, "{method}");
        let key = |value| [("idempotency-key", value)];
        let expected = if method == "POST" { ELIGIBLE } else { HTTP };
        assert_eq!(eligibility(&policy(), method, "/", &key("7")), expected, "{method}");
        assert_eq!(eligibility(&policy(), method, "/", &key(" ")), NOT_IDEMPOTENT, "{method}");
    }
    let keyless = RetryPolicy { idempotency_key: None, ..policy() };
    assert_eq!(eligibility(&keyless, "POST", "/", &[("idempotency-key", "7")]), NOT_IDEMPOTENT);
}

#[test]
fn grpc_methods_are_retried_if_they_are_listed() {
    for (path, expected) in [
        ("/shop.Orders/Get", ELIGIBLE),
        ("/shop.Orders/Get?x=1", ELIGIBLE),
        ("/shop.Orders/GetAll", NOT_IDEMPOTENT),
        ("/shop.Orders/get", NOT_IDEMPOTENT),
        ("/", NOT_IDEMPOTENT),
    ] {
        for content_type in ["application/grpc", "application/grpc+proto"] {
            let headers = [("content-type", content_type), ("idempotency-key", "7")];
            assert_eq!(eligibility(&policy(), "POST", path, &headers), expected, "{path}");
        }
    }
    // Without being gRPC it is a POST.
    assert_eq!(eligibility(&policy(), "POST", "/shop.Orders/Get", &[]), NOT_IDEMPOTENT);
}

/// The router keeps a body to send it again, but not any.
#[test]
fn what_has_too_large_a_body_to_be_sent_twice_is_sent_once() {
    const TOO_LARGE: Eligibility = Eligibility::Ineligible(Decision::TooLarge);
    let of = |max_body_bytes, method: &str, end, headers: &[(&str, &str)]| {
        let headers = Headers::from_pairs(&[&[(":method", method), (":path", "/")], headers].concat());
        let policy = RetryPolicy { max_body_bytes, ..policy() };
        policy.eligibility(&Request { end, ..Request::read(&headers) })
    };
    let length = |length| [("content-length", length)];
    // Without a word in the rule: 64 KiB, and nothing of which nobody knows.
    for (method, end, headers, expected) in [
        ("PUT", End::Later, &length("65536")[..], HTTP),
        ("PUT", End::Later, &length("65537"), TOO_LARGE),
        ("PUT", End::Later, &length("18446744073709551616"), TOO_LARGE),
        ("PUT", End::Later, &length("many"), TOO_LARGE),
        ("PUT", End::Here, &length("0"), HTTP),
        ("PUT", End::Here, &[], HTTP),
        ("PUT", End::Later, &[], TOO_LARGE),
        ("GET", End::Here, &[], HTTP),
        ("GET", End::Later, &[], TOO_LARGE),
        ("DELETE", End::Later, &length("65537"), TOO_LARGE),
        ("POST", End::Here, &[("idempotency-key", "7")], ELIGIBLE),
        ("POST", End::Later, &[("idempotency-key", "7")], TOO_LARGE),
        ("PATCH", End::Later, &[("idempotency-key", "7"), ("content-length", "12")], HTTP),
        // That it is not idempotent is the better reason.
        ("POST", End::Later, &length("65537"), NOT_IDEMPOTENT),
    ] {
        assert_eq!(of(None, method, end, headers), expected, "{method} {end:?} {headers:?}");
    }
    // With one: what the rule says, and chunks at the risk of who says it.
    for (max, end, headers, expected) in [
        (32_768, End::Later, &length("32768")[..], HTTP),
        (32_768, End::Later, &length("32769"), TOO_LARGE),
        (400_000, End::Later, &length("400000"), HTTP),
        (32_768, End::Later, &[], HTTP),
        (0, End::Later, &length("1"), TOO_LARGE),
        (0, End::Here, &[], HTTP),
    ] {
        assert_eq!(of(Some(max), "PUT", end, headers), expected, "{max} {end:?} {headers:?}");
    }
    // Calls of gRPC say how long they are if they like.
    let call = |headers: &[(&str, &str)]| {
        let call = [(":method", "POST"), (":path", "/shop.Orders/Get"), ("content-type", "application/grpc")];
        let headers = Headers::from_pairs(&[&call[..], headers].concat());
        policy().eligibility(&Request { end: End::Later, ..Request::read(&headers) })
    };
    assert_eq!([call(&[]), call(&length("65536")), call(&length("65537"))], [ELIGIBLE, ELIGIBLE, TOO_LARGE]);
}

#[test]
fn a_retry_is_not_retried() {
    for (header, value, expected) in [
        ("x-envoy-attempt-count", "1", HTTP),
        ("x-envoy-attempt-count", "2", IS_RETRY),
        ("x-envoy-attempt-count", "0", HTTP),
        ("x-envoy-attempt-count", "-2", HTTP),
        ("x-envoy-attempt-count", "two", HTTP),
        ("x-envoy-attempt-count", "", HTTP),
        ("grpc-previous-rpc-attempts", "0", HTTP),
        ("grpc-previous-rpc-attempts", "1", IS_RETRY),
    ] {
        assert_eq!(get(&[(header, value)]), expected, "{header}: {value}");
    }
    // It counts as what it is, whatever its method.
    assert_eq!(eligibility(&policy(), "POST", "/", &[("x-envoy-attempt-count", "2")]), IS_RETRY);
}

#[test]
fn long_streams_are_left_alone() {
    for headers in [
        [("upgrade", "websocket")],
        [("accept", "text/event-stream")],
        [("accept", "Text/Event-Stream;q=0.9, ,")],
        [("accept", "text/event-stream ; charset=utf-8;q=1")],
        [("accept", "text/event-stream, */*;q=0")],
        [("accept", "application/json;q=0.000 , text/event-stream;v=\"a,b;q=0\"")],
    ] {
        assert_eq!(get(&headers), Eligibility::LongStream, "{headers:?}");
    }
    assert_eq!(eligibility(&policy(), "CONNECT", "", &[]), Eligibility::LongStream);
    let ordinary = [
        "*/*",
        "text/event-streams",
        "text/html;q=text/event-stream",
        "",
        "application/json, text/event-stream",
        "text/event-stream, */*;q=0.1",
        "text/event-stream;q=0, application/vnd.shop+json",
        "text/event-stream;q=0",
        "text/event-stream; Q=0.0",
        "application/json;q=0.001, text/event-stream",
    ];
    for accept in ordinary {
        assert_eq!(get(&[("accept", accept)]), HTTP, "{accept}");
    }
    let of = |lines: &[(&str, &str)]| Request::read(&Headers::from_pairs(lines)).events;
    let (html, events) = (("accept", "text/html"), ("accept", "text/event-stream"));
    assert_eq!((of(&[html, events]), of(&[events, html])), (Events::AmongOthers, Events::AmongOthers));
    assert_eq!((of(&[events, events]), of(&[html])), (Events::Only, Events::No));
    assert_eq!(of(&[("accept", "text/event-stream;q=0, text/html")]), Events::No);
}

#[test]
fn a_response_is_a_stream_of_events_by_its_content_type() {
    for kind in ["text/event-stream", "Text/Event-Stream; charset=utf-8", " text/event-stream ;x"] {
        assert!(stream::is_events(kind.as_bytes()), "{kind}");
    }
    for kind in ["", "text/event-streams", "application/json; x=text/event-stream", "text/event"] {
        assert!(!stream::is_events(kind.as_bytes()), "{kind}");
    }
}

/// The router's time for all attempts would cut off a stream that its time for one lets go on.
#[test]
fn what_may_become_a_stream_is_held_to_when_it_begins() {
    let time = Time { left: Some(Duration::from_millis(700)), bound: Bound::Beginning, ..Time::default() };
    let policy = RetryPolicy { per_try_timeout: None, ..policy() };
    let fields_of = |policy: &RetryPolicy, eligibility| fields(&advise(policy, eligibility, time));
    assert!(fields_of(&policy, ELIGIBLE).contains(&"x-envoy-upstream-rq-per-try-timeout-ms: 700".to_owned()));
    assert_eq!(advise(&policy, ELIGIBLE, time).to_begin, policy.timeout, "the filter keeps it");
    assert_eq!(advise(&policy, ELIGIBLE, Time::default()).to_begin, None, "the router keeps it");
    let quick = RetryPolicy { per_try_timeout: Some(Duration::from_millis(300)), ..policy.clone() };
    for (policy, eligibility, expected) in [(&quick, ELIGIBLE, "300"), (&quick, Eligibility::OneAttempt, "700")] {
        let fields = fields_of(policy, eligibility);
        let times: Vec<_> = fields.iter().filter(|field| field.contains("timeout-ms")).collect();
        assert_eq!(times, [&format!("x-envoy-upstream-rq-per-try-timeout-ms: {expected}")], "{fields:?}");
    }
}

#[test]
fn one_attempt_is_no_retry() {
    let policy = RetryPolicy { max_attempts: 1, ..policy() };
    let eligibility = eligibility(&policy, "POST", "/", &[]);
    assert_eq!(eligibility, Eligibility::OneAttempt);
    let advice = advise(&policy, eligibility, Time::default());
    assert_eq!(advice.decision, None);
    assert_eq!(fields(&advice), ["x-envoy-max-retries: 0", "x-envoy-upstream-rq-timeout-ms: 1000"]);
}

// === what the router hears ===

#[test]
fn a_request_that_may_be_retried_says_all() {
    let policy = policy();
    let advice = advise(&policy, ELIGIBLE, Time::default());
    assert_eq!(advice.set_aside.retries(), 2);
    assert_eq!(advice.decision, None);
    let expected = [
        "x-envoy-max-retries: 2",
        "x-envoy-upstream-rq-timeout-ms: 1000",
        "x-envoy-retry-on: 5xx,reset,connect-failure",
        "x-envoy-retry-grpc-on: unavailable",
        "x-envoy-upstream-rq-per-try-timeout-ms: 300",
    ];
    assert_eq!(fields(&advice), expected);
    let advice = advise(&policy, HTTP, Time::default());
    assert_eq!(fields(&advice), expected.into_iter().filter(|it| !it.contains("grpc")).collect::<Vec<_>>());
}

#[test]
fn a_request_that_may_not_says_so_and_its_time() {
    let policy = policy();
    for decision in [Decision::NotIdempotent, Decision::IsRetry, Decision::TooLarge] {
        let advice = advise(&policy, Eligibility::Ineligible(decision), Time::default());
        assert_eq!(advice.decision, Some(decision));
        assert_eq!(advice.set_aside, SetAside::nothing());
        assert_eq!(fields(&advice), ["x-envoy-max-retries: 0", "x-envoy-upstream-rq-timeout-ms: 1000"]);
    }
    let advice = advise(&policy, Eligibility::LongStream, time(500, 1));
    assert_eq!((fields(&advice), advice.decision), (vec!["x-envoy-max-retries: 0".to_owned()], None));
}

#[test]
fn what_the_rule_leaves_open_is_left_to_the_route() {
    let policy = RetryPolicy {
        retry_on: Conditions::default(),
        per_try_timeout: None,
        timeout: None,
        hedging: Hedging::On,
        ..policy()
    };
    let advice = advise(&policy, ELIGIBLE, Time::default());
    assert_eq!(fields(&advice), ["x-envoy-max-retries: 2"]);
}

#[test]
fn the_budget_decides_how_many() {
    let policy = RetryPolicy { max_attempts: MAX_ATTEMPTS, ..policy() };
    let mut account = Account::default();
    let mut advise = |expected: u32| {
        let advice = policy.advise(ELIGIBLE, Time::default(), Payment::InAdvance, &mut account, 1, NOW);
        assert_eq!(advice.set_aside.retries(), expected);
        assert_eq!(fields(&advice)[0], format!("x-envoy-max-retries: {expected}"));
        assert_eq!(advice.decision, (expected == 0).then_some(Decision::NoBudget));
        assert_eq!(fields(&advice).iter().any(|it| it.starts_with("x-envoy-retry-on")), 0 < expected);
        assert_eq!(fields(&advice).iter().any(|it| it.contains("per-try")), 0 < expected);
        advice.set_aside
    };
    let first = advise(4);
    let second = advise(1);
    let third = advise(0);
    for set_aside in [first, second, third] {
        account.settle(&policy.budget, set_aside, Some(0), Outcome::Cancelled, 1, NOW);
    }
    // A request that may not be retried takes nothing.
    let advice = policy.advise(NOT_IDEMPOTENT, Time::default(), Payment::InAdvance, &mut account, 1, NOW);
    assert_eq!(advice.set_aside, SetAside::nothing());
    let advice = policy.advise(ELIGIBLE, time(20, 30), Payment::InAdvance, &mut account, 1, NOW);
    assert_eq!(advice.set_aside, SetAside::nothing());
    assert_eq!(account.set_aside(&policy.budget, u32::MAX, 1, NOW).retries(), 5);
}

#[test]
fn a_retry_that_could_not_end_in_time_is_none() {
    let policy = RetryPolicy { timeout: None, ..policy() };
    let backoff = u64::try_from(BACKOFF.as_millis()).unwrap();
    for (left, usual, decision) in [
        (100 + backoff, 100, None),
        (99 + backoff, 100, Some(Decision::NoTime)),
        (1, 100, Some(Decision::NoTime)),
        (backoff, 0, None),
    ] {
        let advice = advise(&policy, ELIGIBLE, time(left, usual));
        assert_eq!(advice.decision, decision, "{left} ms left, {usual} ms needed");
        assert_eq!(advice.set_aside.retries(), if decision.is_none() { 2 } else { 0 });
        assert_eq!(fields(&advice).last().unwrap(), &format!("x-envoy-upstream-rq-per-try-timeout-ms: {left}"));
    }
    // Unknown is enough; and what the rule allows is an end of time too.
    for time in [Time { usual: None, ..time(1, 0) }, Time { left: None, ..time(0, 100) }, Time::default()] {
        assert_eq!(advise(&policy, ELIGIBLE, time).decision, None);
    }
    let policy = RetryPolicy { timeout: Some(Duration::from_millis(120)), ..policy };
    assert_eq!(advise(&policy, ELIGIBLE, time(500, 100)).decision, Some(Decision::NoTime));
}

#[test]
fn the_router_never_waits_longer_for_an_attempt_than_the_caller() {
    let policy = RetryPolicy { per_try_timeout: None, ..policy() };
    let times = |left: Duration| {
        let advice = advise(&policy, ELIGIBLE, Time { left: Some(left), ..Time::default() });
        fields(&advice).into_iter().filter(|it| it.contains("timeout")).collect::<Vec<_>>()
    };
    let millis = Duration::from_millis;
    let all = "x-envoy-upstream-rq-timeout-ms: 1000";
    assert_eq!(times(millis(999)), [all, "x-envoy-upstream-rq-per-try-timeout-ms: 999"]);
    // The router ignores a time for one that is not shorter than that for all.
    assert_eq!(times(millis(1000)), [all]);
    assert_eq!(times(millis(1001)), [all]);
    let nearly = millis(1000) - Duration::from_nanos(1);
    assert_eq!(times(nearly), [all, "x-envoy-upstream-rq-per-try-timeout-ms: 999"]);
    // 0 would be for ever.
    assert_eq!(times(Duration::from_nanos(1)), [all, "x-envoy-upstream-rq-per-try-timeout-ms: 1"]);
}

/// A hedge is sent when the rule's time for an attempt is over, not when the caller's is.
#[test]
fn only_the_rules_own_time_for_an_attempt_sends_a_hedge() {
    let policy = RetryPolicy { hedging: Hedging::On, ..policy() };
    for (left, expected) in [(301, 2), (300, 2), (299, 1)] {
        let advice = advise(&policy, ELIGIBLE, Time { usual: None, ..time(left, 0) });
        let of_attempts = fields(&advice).into_iter().filter(|it| it.contains("per-try"));
        assert_eq!(of_attempts.count(), expected, "{left}");
    }
    let advice = advise(&policy, ELIGIBLE, Time::default());
    assert_eq!(fields(&advice).last().unwrap(), "x-envoy-hedge-on-per-try-timeout: true");
}

#[test]
fn conditions_are_sorted_out_and_none_is_made_up() {
    let all: Vec<&str> = HTTP_CONDITIONS.into_iter().chain(GRPC_CONDITIONS).collect();
    assert!(Conditions::new(&all).is_ok());
    for word in ["envoy-ratelimited", "resource-exhausted", "retriable-status-codes", "5XX", "5xx,reset", ""] {
        assert_eq!(Conditions::new(&["5xx", word]), Err(1), "{word}");
    }
}

#[test]
fn a_client_does_not_tell_the_router() {
    assert!(router::CONTROL.is_sorted());
    let ours = [
        router::MAX_RETRIES,
        router::RETRY_ON,
        router::RETRY_GRPC_ON,
        router::TIMEOUT,
        router::PER_TRY_TIMEOUT,
        router::HEDGE,
    ];
    assert!(ours.iter().all(|name| router::CONTROL.contains(name)));
    let mut pairs = vec![(":method", "GET"), ("x-envoy-attempt-count", "1"), ("x-envoy", "1"), ("x-app", "web")];
    pairs.extend(router::CONTROL.map(|name| (name, "9")));
    pairs.extend([("x-envoy-expected-rq-timeout-ms", "9"), (router::RETRY_ON, "again")]);
    let headers = Headers::from_pairs(&pairs);
    let request = Request::read(&headers);
    let sent: Vec<&str> = router::sent_by_client(&request).map(|name| std::str::from_utf8(name).unwrap()).collect();
    let mut expected = router::CONTROL.to_vec();
    expected.push(router::RETRY_ON);
    assert_eq!(sent, expected);
}

#[test]
fn the_words_of_the_metric() {
    let all = [
        Decision::Made,
        Decision::NoBudget,
        Decision::NotIdempotent,
        Decision::IsRetry,
        Decision::NoTime,
        Decision::TooLarge,
    ];
    assert_eq!(all.len(), Decision::COUNT);
    assert_eq!(all.map(Decision::as_str), ["made", "no_budget", "not_idempotent", "is_retry", "no_time", "too_large"]);
    assert_eq!(all.map(|it| it as usize), [0, 1, 2, 3, 4, 5]);
}

// === one by one ===

#[test]
fn what_is_paid_for_one_by_one_sets_nothing_aside_and_may_have_all_its_retries() {
    let (policy, mut empty) = (policy(), Account::default());
    while 0 < empty.set_aside(&policy.budget, 1, 1, NOW).retries() {}
    let advice = policy.advise(ELIGIBLE, Time::default(), Payment::OneByOne, &mut empty, 1, NOW);
    assert_eq!((advice.set_aside.retries(), advice.retries, advice.decision), (0, 2, None));
    assert!(fields(&advice).contains(&"x-envoy-max-retries: 2".to_owned()));
    for eligibility in [NOT_IDEMPOTENT, IS_RETRY, Eligibility::OneAttempt, Eligibility::LongStream] {
        let advice = policy.advise(eligibility, Time::default(), Payment::OneByOne, &mut empty, 1, NOW);
        assert_eq!((advice.set_aside.retries(), advice.retries), (0, 0), "{eligibility:?}");
    }
}

/// By the router's own rules (`RetryStateImpl::wouldRetryFromHeaders`).
#[test]
fn a_condition_covers_the_statuses_that_the_router_retries() {
    let cases: [(&str, &[u16], &[u16]); 5] = [
        ("5xx", &[500, 503, 599], &[200, 409, 499]),
        ("gateway-error", &[502, 503, 504], &[500, 501, 505, 409]),
        ("retriable-4xx", &[409], &[400, 404, 500, 503]),
        ("reset", &[], &[200, 409, 503]),
        ("connect-failure", &[], &[200, 409, 503]),
    ];
    for (word, covered, others) in cases {
        let conditions = Conditions::new(&[word]).unwrap();
        assert!(covered.iter().all(|status| conditions.cover(*status)), "{word}");
        assert!(!others.iter().any(|status| conditions.cover(*status)), "{word}");
        assert!(!conditions.know_grpc(), "{word}");
    }
    for (word, covered) in [("cancelled", 1), ("deadline-exceeded", 4), ("internal", 13), ("unavailable", 14)] {
        let conditions = Conditions::new(&[word]).unwrap();
        for status in 0..=16 {
            assert_eq!(conditions.cover_grpc(status.to_string().as_bytes()), status == covered, "{word} {status}");
        }
        assert!(conditions.know_grpc() && !conditions.cover(503) && !conditions.cover_grpc(b"x"), "{word}");
    }
    let both = Conditions::new(&["retriable-4xx", "gateway-error", "unavailable"]).unwrap();
    assert!(both.cover(409) && both.cover(502) && !both.cover(500));
}
