//! Failures of the service on the request path: what takes their place, what is left alone, and what is told of it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, ended, header, reason, refused, served};
use outrigger::degrade::stale::MAX_CAPTURES;
use outrigger::host::{End, LogField, Origin};
use outrigger::monitor::metrics::host_errors_total;
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;
use outrigger::reply::placed::Placed;

const SHOP: &str = r#"{
  "operations": [
    { "name": "place-order", "tier": "P0", "match": { "paths": ["/orders"] } },
    { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } }
  ],
  "on_failure": [RULES],
  "fallbacks": [
    { "name": "empty", "status": 200, "json": { "reviews": [], "why": "%REASON% %REQUEST_ID%" } },
    { "name": "sorry", "status": 503, "text": "sorry" },
    { "name": "call", "status": 200, "grpc_status": 8 }
  ]
}"#;

const EMPTY: &str = r#"{ "operations": ["reviews"], "fallback": "empty" }"#;

fn shop(rules: &str) -> Sidecar {
    Sidecar::new(&SHOP.replace("RULES", rules))
}

const REVIEWS: [(&str, &str); 2] = [(":path", "/reviews/17"), ("x-request-id", "i-1")];
const CALL: [(&str, &str); 3] = [(":path", "/reviews/Get"), (":method", "POST"), ("content-type", "application/grpc")];

/// What the client gets in place of this response; `None` if the response itself.
fn replaced(sidecar: &Sidecar, request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<Reply> {
    let ticket = sidecar.begin(request).unwrap();
    sidecar.replacement(ticket, response)
}

fn status(sidecar: &Sidecar, request: &[(&str, &str)], status: &str) -> Option<Reply> {
    replaced(sidecar, request, &[(":status", status)])
}

// === which failures are replaced =====================================================================================

#[test]
fn a_failure_is_replaced_and_everything_else_left_alone() {
    let sidecar = shop(EMPTY);
    for failure in ["500", "502", "503", "504", "599"] {
        let reply = status(&sidecar, &REVIEWS, failure).unwrap_or_else(|| panic!("{failure} passed"));
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body, br#"{ "reviews": [], "why": "failure/reviews i-1" }"#, "as written");
        assert_eq!(reason(&reply), "failure/reviews");
        assert_eq!(reply.details, "outrigger_failure_reviews");
        assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some(failure), "what it was");
    }
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("failure/reviews"));
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 5);
    assert_eq!(served(&sidecar.host, "empty", "failure/reviews"), 5);
    for other in ["200", "204", "302", "400", "404", "429", "499"] {
        assert_eq!(status(&sidecar, &REVIEWS, other), None, "{other}");
    }
    assert_eq!((ended(&sidecar.host, "reviews", "success"), ended(&sidecar.host, "reviews", "client_error")), (3, 4));
    assert_eq!(ended(&sidecar.host, "reviews", "failure"), 0);
    assert_eq!(refused(&sidecar.host, "failure/reviews"), 0, "nobody was refused");
}

#[test]
fn a_failure_that_no_rule_is_for_passes_and_leaves_no_trace_in_the_log() {
    let sidecar = shop(EMPTY);
    assert_eq!(status(&sidecar, &[(":path", "/orders")], "503"), None);
    assert_eq!(ended(&sidecar.host, "place-order", "failure"), 1);
    assert_eq!(sidecar.host.log_field(LogField::Reason), None);
    assert_eq!(sidecar.host.log_field(LogField::Detail), None);
}

#[test]
fn the_statuses_of_a_rule_are_those_it_replaces() {
    let sidecar = shop(r#"{ "statuses": [502, "504"], "fallback": "sorry" }"#);
    for (failure, expected) in [("500", false), ("502", true), ("503", false), ("504", true)] {
        assert_eq!(status(&sidecar, &REVIEWS, failure).is_some(), expected, "{failure}");
    }
    assert_eq!((ended(&sidecar.host, "reviews", "degraded"), ended(&sidecar.host, "reviews", "failure")), (2, 2));
}

#[test]
fn where_nobody_answered_a_rule_replaces_the_failure_whatever_its_list_says() {
    for list in [r#""failures": ["429"]"#, r#""statuses": [502]"#, r#""failures": ["4xx", "!429"]"#] {
        let sidecar = shop(&format!(r#"{{ {list}, "fallback": "sorry" }}"#));
        for (origin, said, expected) in [
            (Origin::Unreachable, "503", true),
            (Origin::Unanswered, "503", true),
            (Origin::Unanswered, "504", true),
            (Origin::Service, "503", false),
            (Origin::Service, "504", false),
            (Origin::Injected, "503", false),
            (Origin::Overflow, "503", false),
            (Origin::Elsewhere, "503", false),
        ] {
            sidecar.host.set_origin(origin);
            assert_eq!(status(&sidecar, &REVIEWS, said).is_some(), expected, "{list} {origin:?} {said}");
        }
        assert_eq!((ended(&sidecar.host, "reviews", "degraded"), ended(&sidecar.host, "reviews", "failure")), (3, 5));
    }
}

/// A request whose time is over has no answer either, unless its caller left it too little.
#[test]
fn a_request_that_the_filter_ends_is_replaced_whatever_the_list_says() {
    let rule = r#"{ "failures": ["429"], "fallback": "sorry" }"#;
    let document = SHOP.replace("RULES", rule).replacen('{', r#"{ "deadlines": [{ "default": "1s" }],"#, 1);
    let sidecar = Sidecar::new(&document);
    let mut ticket = sidecar.begin(&REVIEWS).unwrap();
    sidecar.host.advance(SECOND);
    assert_eq!(sidecar.expire(&mut ticket).unwrap().body, b"sorry");
    sidecar.end(ticket);
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 1);
}

/// A rule is chosen by what the request is, before anybody knows how it ends.
#[test]
fn the_first_rule_for_the_request_is_the_only_one() {
    let sidecar = shop(
        r#"{ "operations": ["reviews"], "methods": ["POST"], "fallback": "sorry" },
           { "operations": ["reviews"], "statuses": [502], "fallback": "empty" },
           { "fallback": "sorry" }"#,
    );
    let post = [(":path", "/reviews/1"), (":method", "POST")];
    assert_eq!(status(&sidecar, &post, "502").map(|it| it.status), Some(503));
    assert_eq!(status(&sidecar, &REVIEWS, "502").map(|it| it.status), Some(200));
    assert_eq!(status(&sidecar, &REVIEWS, "503"), None, "not what the third rule says");
    let reply = status(&sidecar, &[(":path", "/about")], "503").unwrap();
    assert_eq!(reason(&reply), "failure/other", "the reason names the operation");
}

/// Another filter's refusal says nothing about the service, and whoever refused meant it.
#[test]
fn a_failure_that_is_a_refusal_is_left_alone() {
    let sidecar = shop(EMPTY);
    let refusal = [(":status", "503"), ("x-envoy-ratelimited", "true")];
    assert_eq!(replaced(&sidecar, &REVIEWS, &refusal), None);
    assert_eq!(ended(&sidecar.host, "reviews", "client_error"), 1);
    assert_eq!(sidecar.host.log_field(LogField::Reason), None);
}

#[test]
fn tunnels_are_left_alone() {
    let sidecar = shop(r#"{ "fallback": "empty" }"#);
    let upgrade = [(":path", "/reviews/1"), ("upgrade", "websocket"), ("connection", "upgrade")];
    assert_eq!(status(&sidecar, &upgrade, "503"), None);
    assert_eq!(status(&sidecar, &[(":method", "CONNECT"), (":path", "")], "503"), None);
    assert_eq!((ended(&sidecar.host, "reviews", "failure"), ended(&sidecar.host, "other", "failure")), (1, 1));
    assert_eq!(status(&sidecar, &upgrade, "101"), None);
    assert_eq!(ended(&sidecar.host, "reviews", "success"), 1);
    let names = sidecar.host.metric_names();
    assert!(!names.iter().any(|name| name.contains("duration")), "{names:?}");
}

#[test]
fn the_reply_that_is_served_is_not_judged_again() {
    let sidecar = shop(r#"{ "fallback": "sorry" }"#);
    let mut ticket = sidecar.begin(&REVIEWS).unwrap();
    sidecar.host.set_response(&[(":status", "500")]);
    let first = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
    assert!(matches!(first, Answer::Replace(_)));
    // The reply comes by, with a status of its own.
    assert_eq!(sidecar.replacement(ticket, &[(":status", "503")]), None);
    assert_eq!(
        (ended(&sidecar.host, "reviews", "degraded"), served(&sidecar.host, "sorry", "failure/reviews")),
        (1, 1)
    );
}

#[test]
fn a_response_whose_status_cannot_be_read_passes() {
    let sidecar = shop(EMPTY);
    sidecar.host.break_call("response_status");
    assert_eq!(status(&sidecar, &REVIEWS, "503"), None);
    assert_eq!(sidecar.host.metric("call=.=response_headers;.;outrigger_host_errors_total"), 1);
    sidecar.host.repair("response_status");
    assert_eq!(replaced(&sidecar, &REVIEWS, &[]), None, "nor one that has none");
    assert_eq!(status(&sidecar, &REVIEWS, "five"), None);
}

/// It is taken for the service's.
#[test]
fn a_failure_of_which_nobody_knows_who_answered_is_replaced_and_counts() {
    let breaker = r#""breakers": [{ "name": "b", "trip": { "consecutive_failures": 3 } }],"#;
    let sidecar = Sidecar::new(&SHOP.replace("RULES", EMPTY).replacen('{', &format!("{{ {breaker}"), 1));
    for (call, times) in [("origin", 2), ("response_header", 1)] {
        sidecar.host.break_call(call);
        for _ in 0..times {
            assert_eq!(status(&sidecar, &REVIEWS, "503").map(|it| it.status), Some(200), "{call}");
        }
        sidecar.host.repair(call);
    }
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 3);
    assert_eq!(reason(&sidecar.begin(&REVIEWS).unwrap_err()), "breaker/b");
    assert_eq!(sidecar.host.metric(&host_errors_total("get_property")), 2, "the trouble is told");
}

// === gRPC ============================================================================================================

#[test]
fn a_grpc_failure_in_the_headers_is_replaced_by_a_status() {
    let sidecar = shop(r#"{ "operations": ["reviews"], "fallback": "call" }"#);
    for (code, status) in [("14", "503"), ("4", "504")] {
        let response = [(":status", "200"), ("grpc-status", code), ("content-type", "application/grpc")];
        let reply = replaced(&sidecar, &CALL, &response).unwrap_or_else(|| panic!("{code} passed"));
        assert_eq!(reply.grpc_status, 8);
        assert_eq!(reply.body, b"refused by failure/reviews");
        assert_eq!(header(&reply, "grpc-retry-pushback-ms"), Some("-1"));
        assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some(status), "what the code stands for");
    }
    for code in ["0", "1", "5", "7", "8", "13", "16", "99"] {
        let response = [(":status", "200"), ("grpc-status", code)];
        assert_eq!(replaced(&sidecar, &CALL, &response), None, "{code}");
    }
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 2);
    assert_eq!(ended(&sidecar.host, "reviews", "success"), 1);
    assert_eq!(ended(&sidecar.host, "reviews", "client_error"), 7);
}

#[test]
fn the_statuses_of_a_rule_choose_among_grpc_codes_by_what_they_stand_for() {
    let sidecar = shop(r#"{ "statuses": [504], "fallback": "call" }"#);
    let call = |code| replaced(&sidecar, &CALL, &[(":status", "200"), ("grpc-status", code)]).is_some();
    assert_eq!((call("14"), call("4")), (false, true));
}

#[test]
fn a_page_that_says_failure_is_one_to_a_grpc_call_too() {
    let sidecar = shop(EMPTY);
    let reply = status(&sidecar, &CALL, "503").unwrap();
    assert_eq!(reply.grpc_status, 14, "a page that says success is no answer to a call");
    assert_eq!(status(&sidecar, &CALL, "404"), None);
    let refusal = [(":status", "200"), ("grpc-status", "14"), ("x-envoy-ratelimited", "true")];
    assert_eq!(replaced(&sidecar, &CALL, &refusal), None);
    assert_eq!((ended(&sidecar.host, "reviews", "degraded"), ended(&sidecar.host, "reviews", "client_error")), (1, 2));
}

/// The client has the headers already. It is a failure all the same.
#[test]
fn a_grpc_failure_in_the_trailers_comes_too_late_and_counts() {
    let sidecar = shop(EMPTY);
    sidecar.host.set_grpc_status(Some(14));
    assert_eq!(status(&sidecar, &CALL, "200"), None);
    sidecar.host.set_grpc_status(Some(0));
    assert_eq!(status(&sidecar, &CALL, "200"), None);
    assert_eq!((ended(&sidecar.host, "reviews", "failure"), ended(&sidecar.host, "reviews", "success")), (1, 1));
}

/// Without trailers the proxy makes up a status, `UNKNOWN` (2), from the 200 of the headers. That says nothing.
#[test]
fn a_grpc_stream_that_ends_before_its_trailers_failed_or_was_left() {
    for (broken_off, made_up, outcome) in
        [(false, None, "cancelled"), (false, Some(2), "cancelled"), (true, None, "failure"), (true, Some(2), "failure")]
    {
        let sidecar = shop(EMPTY);
        let mut ticket = sidecar.begin(&CALL).unwrap();
        sidecar.host.set_response(&[(":status", "200")]);
        sidecar.host.set_grpc_status(made_up);
        sidecar.host.set_broken_off(broken_off);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
        sidecar.end(ticket);
        assert_eq!(ended(&sidecar.host, "reviews", outcome), 1, "{broken_off}, {made_up:?}");
    }
}

// === responses that break off ========================================================================================

/// The service answers with 200 and part of a body, and then the stream ends.
fn broken_off(sidecar: &Sidecar, mut ticket: Ticket) {
    sidecar.host.set_response(&[(":status", "200"), ("cache-control", "max-age=60")]);
    let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
    sidecar.host.set_body(b"half");
    sidecar.filter.on_response_body(&*sidecar.host, &sidecar.worker, &mut ticket, 4);
    sidecar.end(ticket);
}

#[test]
fn a_response_that_the_service_breaks_off_is_a_failure_and_one_that_the_client_leaves_is_not() {
    let sidecar = shop(EMPTY);
    sidecar.host.set_broken_off(true);
    broken_off(&sidecar, sidecar.begin(&REVIEWS).unwrap());
    assert_eq!(ended(&sidecar.host, "reviews", "failure"), 1);
    sidecar.host.set_broken_off(false);
    broken_off(&sidecar, sidecar.begin(&REVIEWS).unwrap());
    assert_eq!((ended(&sidecar.host, "reviews", "failure"), ended(&sidecar.host, "reviews", "success")), (1, 1));
    // A tunnel ends as its sides like, and a whole response is whole.
    sidecar.host.set_broken_off(true);
    broken_off(&sidecar, sidecar.begin(&[(":path", "/reviews/1"), ("upgrade", "websocket")]).unwrap());
    assert_eq!(status(&sidecar, &REVIEWS, "200"), None);
    assert_eq!((ended(&sidecar.host, "reviews", "failure"), ended(&sidecar.host, "reviews", "success")), (1, 3));
}

#[test]
fn how_a_whole_response_ended_is_not_asked() {
    let sidecar = shop(EMPTY);
    sidecar.host.take_calls();
    assert_eq!(status(&sidecar, &REVIEWS, "200"), None);
    assert_eq!(sidecar.host.take_calls().get("ended"), None);
}

// === stale answers ===================================================================================================

const STALE: &str = r#"{ "operations": ["reviews"], "stale": { "max_age": "10m", "key": ["header:accept-language"] },
                         "fallback": "empty" }"#;

const GOOD: [(&str, &str); 3] =
    [(":status", "200"), ("content-type", "text/plain"), ("cache-control", "public, max-age=60")];

/// The service answers with these parts of a body, and the stream ends.
fn answer_in_parts(sidecar: &Sidecar, mut ticket: Ticket, response: &[(&str, &str)], parts: &[&str]) {
    let (host, worker) = (&*sidecar.host, &*sidecar.worker);
    host.set_response(response);
    let _ = sidecar.filter.on_response(host, worker, End::Later, &mut ticket);
    for part in parts {
        host.set_body(part.as_bytes());
        sidecar.filter.on_response_body(host, worker, &mut ticket, part.len());
    }
    sidecar.filter.on_response_end(host, worker, &mut ticket);
    sidecar.end(ticket);
}

fn keep(sidecar: &Sidecar, request: &[(&str, &str)], body: &str) {
    let ticket = sidecar.begin(request).unwrap();
    answer_in_parts(sidecar, ticket, &GOOD, &[body]);
}

#[test]
fn a_rule_that_tells_requests_apart_by_something_else_does_not_find_what_the_one_before_it_kept() {
    let by = |part: &str| {
        let rule = format!(r#"{{ "operations": ["reviews"], "stale": {{ "max_age": "10m", "key": ["{part}"] }} }}"#);
        SHOP.replace("RULES", &rule)
    };
    let user = [(":path", "/reviews/17"), ("x-user-id", "7"), ("x-tenant-id", "7")];
    let sidecar = Sidecar::new(&by("header:x-user-id"));
    keep(&sidecar, &user, "of user 7");
    let same = sidecar.reconfigured(&by("header:x-user-id"));
    assert!(status(&same, &user, "503").is_some());
    let other = sidecar.reconfigured(&by("header:x-tenant-id"));
    assert_eq!(status(&other, &user, "503"), None);
}

#[test]
fn what_another_filter_of_our_kind_made_up_is_no_good_answer() {
    for mark in [("x-outrigger-reason", "failure/reviews"), ("cache-status", "cdn; fwd=miss, outrigger; hit; ttl=-5")] {
        let sidecar = shop(STALE);
        keep(&sidecar, &REVIEWS, "the service's");
        sidecar.host.advance(100 * SECOND);
        let ticket = sidecar.begin(&REVIEWS).unwrap();
        answer_in_parts(&sidecar, ticket, &[&GOOD[..], &[mark]].concat(), &["made up"]);
        assert_eq!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"the service's", "{mark:?}");
    }
}

#[test]
fn an_answer_that_one_origin_may_read_is_kept_for_that_origin() {
    let from = |origin| [(":path", "/reviews/17"), ("origin", origin)];
    let sidecar = shop(STALE);
    let ticket = sidecar.begin(&from("https://a.example")).unwrap();
    let response = [&GOOD[..], &[("access-control-allow-origin", "https://a.example")]].concat();
    answer_in_parts(&sidecar, ticket, &response, &["for a"]);
    assert_eq!(status(&sidecar, &from("https://a.example"), "503").unwrap().body, b"for a");
    assert_eq!(served(&sidecar.host, "stale", "failure/reviews"), 1);
    let _ = status(&sidecar, &from("https://b.example"), "503");
    let _ = status(&sidecar, &REVIEWS, "503");
    assert_eq!(served(&sidecar.host, "stale", "failure/reviews"), 1);
}

/// Neither of the headers that tell of a body: HTTP/2 needs none, and the proxy takes one away.
#[test]
fn what_a_request_with_a_body_is_answered_is_nobody_elses() {
    let sidecar = shop(STALE);
    let (decision, ticket) = sidecar.ask_ending(End::Later, &REVIEWS);
    assert!(matches!(decision, Decision::Forward(_)));
    answer_in_parts(&sidecar, ticket, &GOOD, &["what was searched for"]);
    assert_ne!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"what was searched for");
    // Nor is it answered by what another one was.
    keep(&sidecar, &REVIEWS, "all of them");
    let (_, ticket) = sidecar.ask_ending(End::Later, &REVIEWS);
    assert_ne!(sidecar.replacement(ticket, &[(":status", "503")]).unwrap().body, b"all of them");
    assert_eq!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"all of them");
}

#[test]
fn server_sent_events_are_left_alone() {
    let sidecar = shop(STALE);
    let events = [(":path", "/reviews/17"), ("accept", "text/event-stream")];
    assert_eq!(status(&sidecar, &events, "503"), None);
    let ticket = sidecar.begin(&events).unwrap();
    sidecar.host.advance(3_600 * SECOND);
    answer_in_parts(&sidecar, ticket, &GOOD, &["data: 1"]);
    assert_eq!(sidecar.host.metric("operation=.=reviews;.;outrigger_request_duration_milliseconds"), 0);
    assert!(sidecar.host.record_keys().iter().all(|key| !key.contains("/stale/")));
}

/// As clients of the Model Context Protocol ask; what they get is told by the response.
#[test]
fn a_request_that_takes_events_among_others_is_an_ordinary_one() {
    for accept in ["application/json, text/event-stream", "text/event-stream;q=0", "text/event-stream, */*;q=0.1"] {
        let sidecar = shop(STALE);
        let request = [(":path", "/reviews/17"), ("accept", accept)];
        assert_eq!(status(&sidecar, &request, "503").unwrap().status, 200, "the fallback: {accept}");
        let ticket = sidecar.begin(&request).unwrap();
        let events = [GOOD[0], GOOD[2], ("content-type", "text/event-stream")];
        answer_in_parts(&sidecar, ticket, &events, &["data: 1"]);
        assert_ne!(status(&sidecar, &request, "503").unwrap().body, b"data: 1", "no stream is kept: {accept}");
        keep(&sidecar, &request, "five stars");
        assert_eq!(status(&sidecar, &request, "503").unwrap().body, b"five stars", "{accept}");
    }
}

#[test]
fn the_last_good_answer_takes_the_place_of_a_failure() {
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "five stars");
    sidecar.host.advance(90 * SECOND);
    let reply = status(&sidecar, &REVIEWS, "503").unwrap();
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"five stars".as_slice()));
    assert_eq!(header(&reply, "content-type"), Some("text/plain"));
    assert_eq!(header(&reply, "age"), Some("90"));
    let said = "outrigger; fwd=stale; fwd-status=503; ttl=-30; detail=stale-if-error";
    assert_eq!(header(&reply, "cache-status"), Some(said));
    assert_eq!((reason(&reply), reply.details.as_str()), ("failure/reviews", "outrigger_failure_reviews"));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), None);
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("503"));
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("failure/reviews"));
    assert_eq!(served(&sidecar.host, "stale", "failure/reviews"), 1);
    assert_eq!(served(&sidecar.host, "empty", "failure/reviews"), 0);
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 1);
}

#[test]
fn an_answer_is_served_for_less_than_its_age_and_then_the_fallback() {
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "five stars");
    let kept = sidecar.now();
    sidecar.host.set_now(kept + 600 * SECOND - 1);
    assert_eq!(status(&sidecar, &REVIEWS, "500").unwrap().body, b"five stars");
    sidecar.host.set_now(kept + 600 * SECOND);
    assert_eq!(header(&status(&sidecar, &REVIEWS, "500").unwrap(), "content-type"), Some("application/json"));
}

#[test]
fn without_an_answer_and_without_a_fallback_the_failure_passes() {
    let sidecar = shop(r#"{ "operations": ["reviews"], "stale": { "max_age": "10m" } }"#);
    assert_eq!(status(&sidecar, &REVIEWS, "503"), None);
    assert_eq!(ended(&sidecar.host, "reviews", "failure"), 1);
    assert_eq!(sidecar.host.log_field(LogField::Reason), None);
    assert_eq!(sidecar.host.log_field(LogField::Detail), None);
    keep(&sidecar, &REVIEWS, "five stars");
    assert!(status(&sidecar, &REVIEWS, "503").is_some());
}

#[test]
fn another_workers_answer_is_as_good() {
    let workers = Sidecar::several(2, &SHOP.replace("RULES", STALE));
    keep(&workers[0], &REVIEWS, "five stars");
    assert_eq!(status(&workers[1], &REVIEWS, "503").unwrap().body, b"five stars");
}

#[test]
fn only_the_same_request_gets_it() {
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "five stars");
    let body = |request: &[(&str, &str)]| status(&sidecar, request, "503").map(|reply| reply.body);
    assert_eq!(body(&[(":path", "/reviews/17")]).unwrap(), b"five stars");
    let others: [&[(&str, &str)]; 7] = [
        &[(":path", "/reviews/18")],
        &[(":path", "/reviews/17?page=2")],
        &[(":path", "/reviews/17"), (":method", "HEAD")],
        &[(":path", "/reviews/17"), (":method", "POST")],
        &[(":path", "/reviews/17"), ("cookie", "sid=1")],
        &[(":path", "/reviews/17"), ("authorization", "Bearer x")],
        &[(":path", "/reviews/17"), ("accept-language", "de")],
    ];
    for other in others {
        assert_ne!(body(other).as_deref(), Some(b"five stars".as_slice()), "{other:?}");
    }
}

/// Identity in a header of the service's own: only what the service itself calls good for all is kept.
#[test]
fn nothing_without_explicit_freshness_is_kept() {
    let sidecar = shop(STALE);
    let bad: [&[(&str, &str)]; 8] = [
        &[(":status", "200")],
        &[(":status", "200"), ("etag", "\"1\""), ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")],
        &[(":status", "200"), ("cache-control", "private, max-age=60")],
        &[(":status", "200"), ("cache-control", "no-cache, max-age=60")],
        &[(":status", "200"), ("cache-control", "no-store, max-age=60")],
        &[(":status", "200"), ("cache-control", "must-revalidate, max-age=60")],
        &[(":status", "200"), ("cache-control", "max-age=60"), ("set-cookie", "sid=1")],
        &[(":status", "404"), ("cache-control", "max-age=60")],
    ];
    for response in bad {
        let ticket = sidecar.begin(&[(":path", "/reviews/17"), ("x-user", "alice")]).unwrap();
        answer_in_parts(&sidecar, ticket, response, &["alice's"]);
        let reply = status(&sidecar, &[(":path", "/reviews/17"), ("x-user", "bob")], "503").unwrap();
        assert_eq!(header(&reply, "content-type"), Some("application/json"), "{response:?}");
    }
    assert_eq!(sidecar.host.record_keys(), ["outrigger/seed"], "{:?}", sidecar.host.record_keys());
}

#[test]
fn a_body_comes_in_as_many_parts_as_it_likes() {
    let sidecar = shop(STALE);
    let parts: [&[&str]; 5] = [&[], &[""], &["", "five", " ", "stars", ""], &["five", " stars"], &["five stars"]];
    for (path, parts) in ["/reviews/0", "/reviews/1", "/reviews/2", "/reviews/3", "/reviews/4"].iter().zip(parts) {
        let ticket = sidecar.begin(&[(":path", path)]).unwrap();
        answer_in_parts(&sidecar, ticket, &GOOD, parts);
        let reply = status(&sidecar, &[(":path", path)], "503").unwrap();
        assert_eq!(reply.body, parts.concat().as_bytes(), "{parts:?}");
        assert_eq!(header(&reply, "content-type"), Some("text/plain"), "{parts:?}: the answer, not the fallback");
    }
}

#[test]
fn an_answer_that_is_too_long_passes_and_is_not_kept() {
    let sidecar = shop(r#"{ "operations": ["reviews"], "stale": { "max_age": "10m", "max_bytes": 4096 } }"#);
    let long = "x".repeat(2_000);
    keep(&sidecar, &REVIEWS, &long);
    assert_eq!(status(&sidecar, &REVIEWS, "503"), None);
    let said = [(":status", "200"), ("cache-control", "max-age=60"), ("content-length", "2000")];
    let ticket = sidecar.begin(&[(":path", "/reviews/2")]).unwrap();
    answer_in_parts(&sidecar, ticket, &said, &[&long]);
    assert_eq!(status(&sidecar, &[(":path", "/reviews/2")], "503"), None);
}

/// As many as a worker may have on their way, all lost, and another round of them.
#[test]
fn an_answer_that_never_ends_gives_its_place_back() {
    let sidecar = shop(STALE);
    for round in 0..3 {
        let begin = |number: usize| sidecar.begin(&[(":path", format!("/reviews/{round}-{number}").as_str())]).unwrap();
        let mut tickets: Vec<Ticket> = (0..MAX_CAPTURES).map(begin).collect();
        for ticket in &mut tickets {
            sidecar.host.set_response(&GOOD);
            let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, ticket);
            sidecar.host.set_body(b"half");
            sidecar.filter.on_response_body(&*sidecar.host, &sidecar.worker, ticket, 4);
        }
        // There is no room for one more now.
        let path = format!("/reviews/{round}");
        keep(&sidecar, &[(":path", &path)], "whole");
        let reply = status(&sidecar, &[(":path", &path)], "503").unwrap();
        assert_eq!(header(&reply, "content-type"), Some("application/json"), "round {round}");
        for ticket in tickets {
            sidecar.end(ticket);
        }
        let reply = status(&sidecar, &[(":path", format!("/reviews/{round}-0").as_str())], "503").unwrap();
        assert_eq!(header(&reply, "content-type"), Some("application/json"), "half an answer is none");
        keep(&sidecar, &[(":path", &path)], "whole");
        assert_eq!(status(&sidecar, &[(":path", &path)], "503").unwrap().body, b"whole", "round {round}");
    }
}

/// What cannot be read is not kept, and passes.
#[test]
fn a_body_that_the_proxy_does_not_hand_out_is_not_kept() {
    for call in ["response_body", "response_headers", "shared_set", "shared_get", "random_get"] {
        let sidecar = shop(STALE);
        sidecar.host.break_call(call);
        keep(&sidecar, &REVIEWS, "five stars");
        sidecar.host.repair(call);
        let reply = status(&sidecar, &REVIEWS, "503").unwrap();
        assert_eq!(header(&reply, "content-type"), Some("application/json"), "{call}");
        assert_eq!(
            sidecar.host.metric("call=.=response_body;.;outrigger_host_errors_total") == 1,
            call == "response_body"
        );
        assert_eq!(ended(&sidecar.host, "reviews", "success"), 1, "{call}");
        // And all is well the next time.
        sidecar.host.advance(11 * SECOND);
        keep(&sidecar, &REVIEWS, "five stars");
        assert_eq!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"five stars", "{call}");
    }
}

#[test]
fn requests_that_no_rule_is_for_cost_nothing_of_it() {
    let calls = |rules: &str| {
        let sidecar = shop(rules);
        let orders = [(":path", "/orders")];
        (0..3).for_each(|_| keep(&sidecar, &orders, "x"));
        sidecar.host.take_calls();
        keep(&sidecar, &orders, "x");
        sidecar.host.advance(MILLISECOND);
        sidecar.host.take_calls()
    };
    assert_eq!(calls(STALE), calls(""));
}

/// Of whatever operation the write is: a rule that keeps what is read is seldom one for what is written.
#[test]
fn a_write_that_succeeds_gives_up_what_is_kept_of_its_address_and_of_those_that_its_answer_names() {
    let write = |method: &'static str, path: &'static str| [(":method", method), (":path", path)];
    let none: &[(&str, &str)] = &[];
    let cases = [
        (write("DELETE", "/reviews/17"), "204", none, true),
        (write("PUT", "/reviews/17"), "200", none, true),
        (write("PATCH", "/reviews/17"), "303", none, true),
        (write("POST", "/reviews/17"), "201", none, true),
        (write("FROB", "/reviews/17"), "200", none, true),
        (write("POST", "/orders"), "201", &[("location", "/reviews/17")], true),
        (write("POST", "/orders"), "200", &[("content-location", "http://shop.example.com/reviews/17")], true),
        (write("POST", "/reviews/"), "201", &[("location", "17")], true),
        (write("POST", "/orders"), "201", &[("location", "https://evil.example.com/reviews/17")], false),
        (write("POST", "/orders"), "201", none, false),
        (write("DELETE", "/reviews/17"), "404", none, false),
        (write("DELETE", "/reviews/17"), "503", none, false),
        (write("DELETE", "/reviews/18"), "204", none, false),
        (write("delete", "/reviews/17"), "204", none, true),
        (write("GET", "/reviews/17?x"), "200", none, false),
        (write("get", "/orders"), "200", &[("location", "/reviews/17")], false),
        (write("options", "/reviews/17"), "204", none, false),
        (write("OPTIONS", "/reviews/17"), "204", none, false),
    ];
    for (request, said, headers, gone) in cases {
        for outcomes in ["true", "false"] {
            let document = SHOP.replace("RULES", STALE).replacen(
                '{',
                &format!(r#"{{ "monitor": {{ "outcomes": {outcomes} }},"#),
                1,
            );
            let sidecar = Sidecar::new(&document);
            keep(&sidecar, &REVIEWS, "five stars");
            let ticket = sidecar.begin(&request).unwrap();
            let _ = sidecar.answer_with(ticket, &[&[(":status", said)], headers].concat());
            let reply = status(&sidecar, &REVIEWS, "503").unwrap();
            assert_eq!(reply.body != b"five stars", gone, "{request:?} {said} {headers:?} {outcomes}");
        }
    }
}

#[test]
fn a_page_that_has_gone_is_not_served_in_the_next_outage() {
    for gone in ["404", "410", "301"] {
        let sidecar = shop(STALE);
        keep(&sidecar, &REVIEWS, "five stars");
        assert_eq!(status(&sidecar, &REVIEWS, gone), None);
        assert_ne!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"five stars", "{gone}");
    }
}

/// A direct response, a redirect or a filter's refusal: with a breaker and without, whether anybody needs outcomes or not.
#[test]
fn what_the_proxy_answers_changes_nothing_that_is_kept() {
    const BREAKER: &str = r#""breakers": [{ "name": "b", "trip": { "consecutive_failures": 9 } }],"#;
    let read: &[(&str, &str)] = &REVIEWS;
    let write = |method: &'static str| [(":method", method), (":path", "/reviews/17")];
    let (post, delete) = (write("POST"), write("DELETE"));
    for (request, said) in
        [(read, "403"), (read, "404"), (read, "301"), (read, "200"), (&post, "200"), (&post, "301"), (&delete, "204")]
    {
        for more in ["", BREAKER, r#""monitor": { "outcomes": false },"#] {
            let sidecar = Sidecar::new(&SHOP.replace("RULES", STALE).replacen('{', &format!("{{ {more}"), 1));
            keep(&sidecar, &REVIEWS, "five stars");
            sidecar.host.set_origin(Origin::Elsewhere);
            let ticket = sidecar.begin(request).unwrap();
            answer_in_parts(
                &sidecar,
                ticket,
                &[(":status", said), ("cache-control", "public, max-age=60")],
                &["moved"],
            );
            sidecar.host.set_origin(Origin::Service);
            assert_eq!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"five stars", "{request:?} {said} {more}");
        }
    }
}

/// Whoever answered: what may be untrue is not served in the next outage.
#[test]
fn a_proxy_that_does_not_say_who_answered_takes_the_words_for_the_services() {
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "five stars");
    sidecar.host.break_call("sent");
    assert_eq!(status(&sidecar, &REVIEWS, "404"), None);
    sidecar.host.repair("sent");
    assert_ne!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"five stars");
}

#[test]
fn a_page_of_another_origin_gets_what_it_can_read() {
    const RULES: &str = r#"{ "operations": ["reviews"], "fallback": "readable", "stale": { "max_age": "10m" } }"#;
    let document = SHOP.replace("RULES", RULES).replace(
        r#"{ "name": "sorry""#,
        r#"{ "name": "readable", "status": 200, "text": "prepared", "cors": { "allow_origin": ["https://page.example"] } },
           { "name": "sorry""#,
    );
    let from = |origin| [(":path", "/reviews/17"), ("origin", origin)];
    let sidecar = Sidecar::new(&document);
    let body = |request: &[(&str, &str)]| status(&sidecar, request, "503").unwrap().body;
    keep(&sidecar, &REVIEWS, "kept");
    assert_eq!(body(&REVIEWS), b"kept");
    assert_eq!(body(&from("https://page.example")), b"prepared", "which says that the page may read it");
    assert_eq!(body(&from("https://other.example")), b"kept", "it can read neither");
    // Once there is one for all, or for that origin, it is the better one.
    for allowed in ["*", "https://page.example"] {
        let sidecar = Sidecar::new(&document);
        let ticket = sidecar.begin(&from("https://page.example")).unwrap();
        answer_in_parts(
            &sidecar,
            ticket,
            &[&GOOD[..], &[("access-control-allow-origin", allowed)]].concat(),
            &["kept"],
        );
        assert_eq!(status(&sidecar, &from("https://page.example"), "503").unwrap().body, b"kept", "{allowed}");
    }
    // Without a fallback that could be read there is nothing better.
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "kept");
    assert_eq!(status(&sidecar, &from("https://page.example"), "503").unwrap().body, b"kept");
}

/// An answer in demand is written now and then, not each time.
#[test]
fn an_answer_that_was_just_kept_is_not_kept_again() {
    let sidecar = shop(STALE);
    keep(&sidecar, &REVIEWS, "five stars");
    // The index hears now and then that it is asked for more often.
    (0..16).for_each(|_| keep(&sidecar, &REVIEWS, "five stars"));
    sidecar.host.take_calls();
    keep(&sidecar, &REVIEWS, "four stars");
    let calls = sidecar.host.take_calls();
    assert!(["shared_get", "shared_set", "response_body"].iter().all(|it| !calls.contains_key(it)), "{calls:?}");
    sidecar.host.advance(10 * SECOND);
    keep(&sidecar, &REVIEWS, "three stars");
    assert_eq!(status(&sidecar, &REVIEWS, "503").unwrap().body, b"three stars");
}

// === in place ========================================================================================================

type Pairs<'a> = &'a [(&'a str, &'a str)];

const PAGE: [(&str, &str); 1] = [("origin", "https://page.example")];

/// What becomes of a failed response with these headers, which end it or not.
fn becomes(sidecar: &Sidecar, request: &[(&str, &str)], response: &[(&str, &str)], end: End) -> Answer {
    let mut ticket = sidecar.begin(request).unwrap();
    sidecar.host.set_response(response);
    let answer = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, end, &mut ticket);
    sidecar.end(ticket);
    answer
}

fn headers_of(placed: &Placed) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    placed.headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Or filters in front, such as Envoy's CORS filter, do not see what takes its place.
#[test]
fn a_failed_response_becomes_the_fallback_and_nothing_of_the_failure_stays() {
    let sidecar = shop(EMPTY);
    let response = [
        (":status", "503"),
        ("content-type", "text/html"),
        ("content-length", "4000"),
        ("content-encoding", "br"),
        ("etag", "x"),
        ("set-cookie", "a=b"),
        ("cache-control", "max-age=60"),
        ("retry-after", "7"),
        ("x-envoy-upstream-service-time", "3"),
        ("x-made-up", "x"),
        ("vary", "origin"),
        ("access-control-allow-origin", "https://page.example"),
        ("x-request-id", "i-1"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    let Answer::Become(placed) = becomes(&sidecar, &[&REVIEWS[..], &PAGE].concat(), &response, End::Later) else {
        panic!("it was to be changed in place");
    };
    let body = br#"{ "reviews": [], "why": "failure/reviews i-1" }"#;
    let length = body.len().to_string();
    let expected = [
        (":status", "200"),
        ("content-type", "application/json"),
        ("x-outrigger-reason", "failure/reviews"),
        ("content-length", length.as_str()),
        ("vary", "origin"),
        ("access-control-allow-origin", "https://page.example"),
        ("x-request-id", "i-1"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    assert_eq!(headers_of(&placed), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(placed.into_body(), body);
    assert_eq!(ended(&sidecar.host, "reviews", "degraded"), 1);
}

#[test]
fn what_cannot_become_the_reply_is_replaced_by_it() {
    let sidecar = shop(EMPTY);
    let head = [&REVIEWS[..], &[(":method", "HEAD")]].concat();
    let call = [&CALL[..], &[("x-request-id", "i")]].concat();
    let web = [&CALL[..], &[("x-grpc-web", "1")]].concat();
    let page = [&REVIEWS[..], &PAGE].concat();
    let (failed, unavailable) = ([(":status", "503")], [(":status", "200"), ("grpc-status", "14")]);
    let cases: [(Pairs<'_>, Pairs<'_>, End, bool); 11] = [
        // It might never end, and the reply with it.
        (&REVIEWS, &failed, End::Later, false),
        (&head, &failed, End::Later, false),
        // A page could not read the reply otherwise.
        (&page, &failed, End::Later, true),
        // It cannot be given a body.
        (&page, &failed, End::Here, false),
        (&REVIEWS, &failed, End::Here, false),
        (&head, &failed, End::Here, true),
        (&call, &unavailable, End::Here, true),
        // Its client takes the status only from headers that end the response, but for one of gRPC-Web.
        (&call, &failed, End::Later, false),
        (&web, &failed, End::Later, true),
        (&web, &unavailable, End::Here, true),
        (&call, &failed, End::Here, true),
    ];
    for (request, response, end, in_place) in cases {
        let answer = becomes(&sidecar, request, response, end);
        assert_eq!(matches!(answer, Answer::Become(_)), in_place, "{request:?} {response:?} {end:?}");
        assert_eq!(matches!(answer, Answer::Replace(_)), !in_place, "{request:?} {response:?} {end:?}");
    }
    // Nor if its headers cannot be read.
    sidecar.host.break_call("response_headers");
    assert!(matches!(becomes(&sidecar, &page, &failed, End::Later), Answer::Replace(_)));
}

#[test]
fn a_length_is_told_where_the_response_told_one_or_asked_for_no_body() {
    let sidecar = shop(EMPTY);
    let length =
        |request: &[(&str, &str)], response: &[(&str, &str)], end| match becomes(&sidecar, request, response, end) {
            Answer::Become(placed) => headers_of(&placed).into_iter().find(|(name, _)| name == "content-length"),
            other => panic!("{other:?}"),
        };
    let told = Some(("content-length".to_owned(), "47".to_owned()));
    let page = [&REVIEWS[..], &PAGE].concat();
    assert_eq!(length(&page, &[(":status", "503"), ("content-length", "9")], End::Later), told);
    assert_eq!(length(&page, &[(":status", "503")], End::Later), None, "there may be trailers and no body");
    let head = [&REVIEWS[..], &[(":method", "HEAD")]].concat();
    assert_eq!(length(&head, &[(":status", "503")], End::Here), told);
}

#[test]
fn a_failed_call_becomes_headers_with_a_status() {
    let sidecar = shop(EMPTY);
    let response =
        [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", "x")];
    let Answer::Become(placed) = becomes(&sidecar, &CALL, &response, End::Here) else {
        panic!("it was to be changed in place");
    };
    let expected = [
        (":status", "200"),
        ("x-envoy-ratelimited", "true"),
        ("x-outrigger-reason", "failure/reviews"),
        ("grpc-retry-pushback-ms", "-1"),
        ("content-type", "application/grpc"),
        ("grpc-status", "14"),
        ("grpc-message", "refused by failure/reviews"),
    ];
    assert_eq!(headers_of(&placed), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(placed.into_body(), b"");
}

/// One read of the response's headers more, and that only of a failure.
#[test]
fn what_is_changed_in_place_costs_one_call_more() {
    let sidecar = shop(EMPTY);
    let calls = |end| {
        sidecar.host.take_calls();
        let _ = becomes(&sidecar, &[&REVIEWS[..], &PAGE].concat(), &[(":status", "503")], end);
        sidecar.host.take_calls().get("response_headers").copied()
    };
    let _ = calls(End::Later);
    assert_eq!((calls(End::Later), calls(End::Here)), (Some(1), None));
}

// === nobody asks =====================================================================================================

#[test]
fn where_nobody_needs_the_outcome_it_is_not_read() {
    let document = r#"{
        "operations": [{ "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } }],
        "on_failure": [{ "operations": ["reviews"], "fallback": "f" }],
        "fallbacks": [{ "name": "f", "status": 200 }],
        "limits": [{ "name": "l", "concurrency": { "max_in_flight": 5 } }],
        "monitor": { "outcomes": false }
    }"#;
    let sidecar = Sidecar::new(document);
    let grpc = ("content-type", "application/grpc");
    for (request, response) in
        [(vec![], "200"), (vec![], "503"), (vec![("upgrade", "websocket")], "101"), (vec![grpc], "200")]
    {
        sidecar.host.set_grpc_status(Some(14));
        sidecar.host.take_calls();
        assert_eq!(status(&sidecar, &request, response), None, "{request:?}");
        let calls = sidecar.host.take_calls();
        for call in ["response_status", "response_header", "response_headers", "grpc_status", "ended", "response_body"]
        {
            assert!(!calls.contains_key(call), "{request:?}: {calls:?}");
        }
    }
    assert_eq!(ended(&sidecar.host, "other", "unknown"), 4);
    // Where a rule needs it, it is read.
    assert!(status(&sidecar, &REVIEWS, "503").is_some());
    assert_eq!(status(&sidecar, &REVIEWS, "200"), None);
    assert_eq!((ended(&sidecar.host, "reviews", "degraded"), ended(&sidecar.host, "reviews", "success")), (1, 1));
    // What never had a response is known all the same.
    let ticket = sidecar.begin(&[]).unwrap();
    sidecar.end(ticket);
    assert_eq!(ended(&sidecar.host, "other", "cancelled"), 1);
}
