//! Breakers on the request path: whom they refuse and what that costs the others, and that each result counts once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;

use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, ended, header, pass_until, reason, refused, served};
use crate::common::{MemoryHost, Random};
use outrigger::degrade::breaker::record;
use outrigger::degrade::breaker::state::Phase;
use outrigger::host::{End, Host, LogField};
use outrigger::monitor::names::Names;
use outrigger::pipeline::{Answer, Decision, Ticket};
use outrigger::reply::Reply;

/// The record of the breaker in these tests.
const RECORD: &str = "outrigger/test/breaker/shop";

/// Longer than a breaker of [`SHOP`] is open after its first trip, jitter included.
const OPEN: u64 = 6_100 * MILLISECOND;

const SHOP: &str = r#"{
  "operations": [
    { "name": "place-order", "tier": "P0", "match": { "paths": ["/orders"] } },
    { "name": "reviews", "tier": "P3", "match": { "paths": ["/reviews/*"] } }
  ],
  "breakers": [{ "name": "shop", "operations": ["place-order", "reviews"],
                 "trip": { "consecutive_failures": 3, "slow_ratio": 1, "slow_after": "800ms", "min_requests": 1000 },
                 "probes": 1 BREAKER }],
  "on_failure": [RULES],
  "limits": [LIMITS],
  "fallbacks": [
    { "name": "empty", "status": 200, "json": { "reviews": [] } },
    { "name": "sorry", "status": 503, "text": "sorry, %REASON%", "retry_after": "30s" }
  ]
}"#;

/// The document with these additions to the breaker, rules for failures, and limits.
fn document(breaker: &str, rules: &str, limits: &str) -> String {
    SHOP.replace("BREAKER", breaker).replace("RULES", rules).replace("LIMITS", limits)
}

fn shop() -> Sidecar {
    Sidecar::new(&document("", "", ""))
}

const ORDER: [(&str, &str); 1] = [(":path", "/orders")];
const REVIEWS: [(&str, &str); 1] = [(":path", "/reviews/17")];
const CALL: [(&str, &str); 3] = [(":path", "/orders"), (":method", "POST"), ("content-type", "application/grpc")];

/// A request that the service answers with this status.
fn answered(sidecar: &Sidecar, request: &[(&str, &str)], status: &str) -> Option<Reply> {
    let ticket = sidecar.begin(request).unwrap();
    sidecar.replacement(ticket, &[(":status", status)])
}

/// So many failures.
fn fail(sidecar: &Sidecar, times: usize) {
    (0..times).for_each(|_| drop(answered(sidecar, &ORDER, "503")));
}

/// The breaker opens.
fn trip(sidecar: &Sidecar) {
    fail(sidecar, 3);
    assert_eq!(gauge(sidecar), 3);
}

/// A request that must be refused.
fn refusal(sidecar: &Sidecar, request: &[(&str, &str)]) -> Reply {
    sidecar.begin(request).err().unwrap_or_else(|| panic!("it is not open"))
}

fn is_open(sidecar: &Sidecar) -> bool {
    match sidecar.begin(&ORDER) {
        Ok(ticket) => {
            sidecar.end(ticket);
            false
        }
        Err(reply) => reason(&reply) == "breaker/shop",
    }
}

fn gauge(sidecar: &Sidecar) -> u64 {
    sidecar.host.metric(&Names::default().breaker_state("shop"))
}

fn changes(sidecar: &Sidecar, to: &str, cause: &str) -> u64 {
    sidecar.host.metric(&Names::default().breaker_transitions_total("shop", to, cause))
}

// === it opens ========================================================================================================

/// The reply that the request gets instead of going on.
fn resumed(sidecar: &Sidecar, ticket: &mut Ticket) -> Option<Box<Reply>> {
    match sidecar.resume(ticket) {
        Decision::Reply(reply) => Some(reply),
        Decision::Forward(_) => None,
        Decision::Wait(..) => panic!("it has waited"),
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
    let sidecar = shop();
    fail(&sidecar, 2);
    assert_eq!(answered(&sidecar, &ORDER, "200"), None);
    fail(&sidecar, 2);
    assert!(!is_open(&sidecar));
    fail(&sidecar, 1);
    assert!(is_open(&sidecar));
    assert_eq!((gauge(&sidecar), changes(&sidecar, "open", "consecutive_failures")), (3, 1));
}

#[test]
fn what_is_a_failure() {
    let response = |status: &'static str| vec![(":status", status)];
    let grpc = |code: &'static str| vec![(":status", "200"), ("grpc-status", code)];
    let http: Vec<(Vec<(&str, &str)>, bool)> = vec![
        (response("500"), true),
        (response("503"), true),
        (response("504"), true),
        (response("200"), false),
        (response("404"), false),
        (response("429"), false),
        (vec![(":status", "503"), ("x-envoy-ratelimited", "true")], false),
        (vec![], false),
    ];
    let calls = vec![
        (grpc("14"), true),
        (grpc("4"), true),
        (response("503"), true),
        (grpc("0"), false),
        (grpc("8"), false),
        (grpc("13"), false),
        (vec![(":status", "200"), ("grpc-status", "14"), ("x-envoy-ratelimited", "true")], false),
    ];
    for (request, cases) in [(&ORDER[..], http), (&CALL[..], calls)] {
        for (response, expected) in cases {
            let sidecar = shop();
            for _ in 0..3 {
                let ticket = sidecar.begin(request).unwrap();
                let _ = sidecar.answer_with(ticket, &response);
            }
            assert_eq!(is_open(&sidecar), expected, "{request:?}: {response:?}");
        }
    }
}

#[test]
fn a_grpc_status_in_the_trailers_is_a_result_too() {
    for (code, expected) in [(14, true), (4, true), (0, false), (5, false)] {
        let sidecar = shop();
        sidecar.host.set_grpc_status(Some(code));
        (0..3).for_each(|_| drop(answered(&sidecar, &CALL, "200")));
        assert_eq!(is_open(&sidecar), expected, "{code}");
    }
}

#[test]
fn a_response_that_breaks_off_is_a_failure_and_a_client_that_leaves_is_nothing() {
    let half = |sidecar: &Sidecar, request: &[(&str, &str)]| {
        let mut ticket = sidecar.begin(request).unwrap();
        sidecar.host.set_grpc_status(Some(2));
        sidecar.host.set_response(&[(":status", "200")]);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
        sidecar.end(ticket);
    };
    for request in [&ORDER[..], &CALL[..]] {
        let sidecar = shop();
        sidecar.host.set_broken_off(true);
        (0..3).for_each(|_| half(&sidecar, request));
        assert!(is_open(&sidecar), "{request:?}");
    }

    let sidecar = shop();
    fail(&sidecar, 2);
    // Neither a failure, nor a success that would begin the count anew.
    (0..5).for_each(|_| sidecar.end(sidecar.begin(&ORDER).unwrap()));
    assert!(!is_open(&sidecar));
    fail(&sidecar, 1);
    assert!(is_open(&sidecar));
}

/// Until the headers, from when the request went on: not until the body's end.
#[test]
fn slow_is_what_takes_long_until_the_headers() {
    let slow = |to_headers: u64, body: u64| {
        let document = document("", "", "")
            .replace("\"min_requests\": 1000", "\"min_requests\": 5")
            .replace("\"slow_ratio\": 1", "\"slow_ratio\": 0.1");
        let sidecar = Sidecar::new(&document);
        for _ in 0..20 {
            let Ok(mut ticket) = sidecar.begin(&ORDER) else { return true };
            sidecar.host.advance(to_headers);
            sidecar.host.set_response(&[(":status", "200")]);
            let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
            sidecar.host.advance(body);
            sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut ticket);
            sidecar.end(ticket);
        }
        is_open(&sidecar)
    };
    assert!(!slow(800 * MILLISECOND, 0), "at exactly slow_after it is not");
    assert!(slow(800 * MILLISECOND + 1, 0));
    assert!(!slow(0, 5 * SECOND));
}

/// A breaker that finds half of twenty requests slow after 300 ms, and perhaps retries that give up an attempt sooner.
fn slow_after_300(rest: &str) -> Sidecar {
    let trip = r#""slow_ratio": 0.5, "slow_after": "300ms", "window": "60s""#;
    Sidecar::new(&format!(
        r#"{{ "operations": [{{ "name": "place-order", "match": {{ "paths": ["/orders"] }} }}],
              "breakers": [{{ "name": "shop", "trip": {{ {trip} }}, "open_for": "5m", "max_open_for": "5m" }}] {rest} }}"#
    ))
}

/// When it opens after `start`, if it does within six seconds in which the timer is all that happens.
fn opens_after(sidecar: &Sidecar, start: u64) -> Option<u64> {
    let steps = (start..start + 6 * SECOND).step_by(10 * MILLISECOND as usize);
    for now in steps {
        pass_until([sidecar], now);
        if gauge(sidecar) == 3 {
            return Some(now - start);
        }
    }
    None
}

#[test]
fn a_dead_stop_opens_it_before_the_first_request_ends() {
    let sidecar = slow_after_300("");
    let start = sidecar.now();
    let hanging: Vec<Ticket> = (0..30).map(|_| sidecar.begin(&ORDER).unwrap()).collect();
    sidecar.host.take_calls();
    let after = opens_after(&sidecar, start).unwrap();
    assert!(300 * MILLISECOND < after && after <= 1_300 * MILLISECOND, "after {} ms", after / MILLISECOND);
    assert_eq!(changes(&sidecar, "open", "slow_ratio"), 1);
    assert!(is_open(&sidecar));
    // However they end: once is enough.
    sidecar.host.advance(6 * SECOND);
    for (turn, ticket) in hanging.into_iter().enumerate() {
        if turn % 2 == 0 { sidecar.end(ticket) } else { sidecar.answer(ticket) }
    }
    assert_eq!(changes(&sidecar, "open", "slow_ratio"), 1);
}

/// Both have one watch, and each root context a timer of its own, which stops when the context is gone.
#[test]
fn what_hangs_after_a_configuration_update_is_seen_whatever_timer_the_old_one_had_asked_for() {
    let document = r#"{ "breakers": [{ "name": "shop", "trip": { "slow_ratio": 0.5, "slow_after": "1s", "min_requests": 1 },
                                       "open_for": "5m", "max_open_for": "5m" }] }"#;
    let old = Sidecar::new(document);
    let new = old.reconfigured(document);
    let under_old = old.begin(&ORDER).unwrap();
    assert!(old.due().is_some(), "it asks for its timer");
    old.host.advance(100 * MILLISECOND);
    old.answer(under_old);
    let start = new.now();
    let hanging: Vec<Ticket> = (0..30).map(|_| new.begin(&ORDER).unwrap()).collect();
    old.filter.retire(&*old.host, &old.worker);
    let after = opens_after(&new, start).unwrap();
    assert!(SECOND < after && after <= 2 * SECOND, "after {} ms", after / MILLISECOND);
    hanging.into_iter().for_each(|ticket| new.end(ticket));
}

#[test]
fn what_is_answered_or_left_in_time_does_not_hang() {
    let headers_only = |sidecar: &Sidecar, response: &[(&str, &str)], ticket: &mut Ticket| {
        sidecar.host.set_response(response);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, ticket);
    };
    // A stream of events, a call that streams, a tunnel: their headers came, and they last.
    let upgrade = [(":path", "/orders"), ("connection", "upgrade"), ("upgrade", "websocket")];
    type Pairs<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Pairs<'_>, Pairs<'_>); 3] = [
        (&ORDER, &[(":status", "200"), ("content-type", "text/event-stream")]),
        (&CALL, &[(":status", "200"), ("content-type", "application/grpc")]),
        (&upgrade, &[(":status", "101")]),
    ];
    for (request, response) in cases {
        let sidecar = slow_after_300("");
        let mut streams: Vec<Ticket> = (0..30).map(|_| sidecar.begin(request).unwrap()).collect();
        sidecar.host.advance(100 * MILLISECOND);
        streams.iter_mut().for_each(|ticket| headers_only(&sidecar, response, ticket));
        assert_eq!(opens_after(&sidecar, sidecar.now()), None, "{response:?}");
        streams.into_iter().for_each(|ticket| sidecar.end(ticket));
        assert!(!is_open(&sidecar), "{response:?}");
    }
    // Clients who left in time.
    let sidecar = slow_after_300("");
    let tickets: Vec<Ticket> = (0..30).map(|_| sidecar.begin(&ORDER).unwrap()).collect();
    sidecar.host.advance(300 * MILLISECOND);
    tickets.into_iter().for_each(|ticket| sidecar.end(ticket));
    assert_eq!(opens_after(&sidecar, sidecar.now()), None);
}

#[test]
fn an_attempt_that_is_given_up_sooner_is_slow_sooner() {
    let opens = |retries: &str, request: &[(&str, &str)]| {
        let sidecar = slow_after_300(retries);
        let start = sidecar.now();
        let tickets: Vec<Ticket> = (0..30).map(|_| sidecar.begin(request).unwrap()).collect();
        let opened = opens_after(&sidecar, start).unwrap() / MILLISECOND;
        tickets.into_iter().for_each(|ticket| sidecar.end(ticket));
        opened
    };
    let budget = r#""budget": { "min_per_second": 100 }"#;
    let retries = format!(r#", "retries": [{{ "max_attempts": 2, "per_try_timeout": "50ms", {budget} }}]"#);
    let (sooner, later) = (opens(&retries, &ORDER), opens("", &ORDER));
    assert!(50 < sooner && sooner <= 300, "{sooner} ms");
    assert!(300 < later, "{later} ms");
    // Who may not be retried has all the time there is.
    assert!(300 < opens(&retries, &[(":path", "/orders"), (":method", "POST")]));
}

#[test]
fn other_operations_and_preflights_do_not_hear_of_it() {
    let sidecar = shop();
    (0..5).for_each(|_| drop(answered(&sidecar, &[], "503")));
    assert!(sidecar.host.record(RECORD).is_none());
    trip(&sidecar);
    assert_eq!(sidecar.serve(&[]), None);
    assert!(sidecar.serve(&REVIEWS).is_some(), "the other operation of the same breaker");
    let preflight =
        [ORDER[0], (":method", "OPTIONS"), ("origin", "https://a.example"), ("access-control-request-method", "POST")];
    assert_eq!(sidecar.serve(&preflight), None);
    assert!(sidecar.serve(&preflight[..3]).is_some(), "not a true one");
    // Its result does not count either.
    let sidecar = shop();
    (0..5).for_each(|_| drop(answered(&sidecar, &preflight, "503")));
    assert!(!is_open(&sidecar));
}

#[test]
fn of_several_breakers_the_first_that_applies_is_the_only_one() {
    let sidecar = Sidecar::new(
        r#"{ "breakers": [
            { "name": "writes", "methods": ["POST"], "trip": { "consecutive_failures": 1 } },
            { "name": "all", "trip": { "consecutive_failures": 1 } }
        ] }"#,
    );
    let post = [(":method", "POST")];
    assert_eq!(answered(&sidecar, &post, "500"), None);
    assert_eq!(sidecar.serve(&post).as_ref().map(reason), Some("breaker/writes"));
    assert_eq!(sidecar.serve(&[]), None);
    assert_eq!(answered(&sidecar, &[], "500"), None);
    assert_eq!(sidecar.serve(&[]).as_ref().map(reason), Some("breaker/all"));
}

// === what is told ====================================================================================================

#[test]
fn a_refusal_says_who_refuses_and_when_to_come_again() {
    let sidecar = shop();
    trip(&sidecar);
    sidecar.host.take_calls();
    let reply = refusal(&sidecar, &ORDER);
    assert_eq!((reply.status, reply.grpc_status, reply.details.as_str()), (503, 14, "outrigger_breaker_shop"));
    assert_eq!(reason(&reply), "breaker/shop");
    assert_eq!(header(&reply, "content-type"), Some("application/problem+json"));
    assert_eq!(header(&reply, "x-envoy-ratelimited"), Some("true"));
    let seconds: u64 = header(&reply, "retry-after").unwrap().parse().unwrap();
    assert!((4..=6).contains(&seconds), "five seconds and a jitter of a fifth: {seconds}");
    assert_eq!(refused(&sidecar.host, "breaker/shop"), 1);
    assert_eq!(ended(&sidecar.host, "place-order", "broken"), 1);
    assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("breaker/shop"));
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("consecutive_failures"));
    // At the instant that it names the client is not refused again.
    sidecar.host.advance(seconds * SECOND);
    assert!(sidecar.begin(&ORDER).map(|ticket| sidecar.answer(ticket)).is_ok());
}

#[test]
fn a_grpc_call_is_told_in_its_own_words() {
    let sidecar = shop();
    trip(&sidecar);
    let reply = refusal(&sidecar, &CALL);
    assert_eq!((reply.grpc_status, reply.body.as_slice()), (14, b"refused by breaker/shop".as_slice()));
    assert_eq!(header(&reply, "grpc-retry-pushback-ms"), Some("-1"));
}

#[test]
fn its_own_fallback_goes_before_the_rules_stale_answer_and_that_before_the_rules_fallback() {
    const STALE: &str = r#"{ "stale": { "max_age": "10m" }, "fallback": "empty" }"#;
    const GOOD: [(&str, &str); 2] = [(":status", "200"), ("cache-control", "max-age=60")];
    let broken = |breaker: &str, rules: &str| {
        let sidecar = Sidecar::new(&document(breaker, rules, ""));
        let ticket = sidecar.begin(&REVIEWS).unwrap();
        let _ = sidecar.answer_with_body(ticket, &GOOD, b"five stars");
        trip(&sidecar);
        let reply = refusal(&sidecar, &REVIEWS);
        assert_eq!((reason(&reply), reply.details.as_str()), ("breaker/shop", "outrigger_breaker_shop"));
        assert_eq!(ended(&sidecar.host, "reviews", "broken"), 1);
        assert_eq!(refused(&sidecar.host, "breaker/shop"), 1);
        assert_eq!(sidecar.host.log_field(LogField::Reason).as_deref(), Some("breaker/shop"));
        let counts = ["sorry", "stale", "empty"].map(|name| served(&sidecar.host, name, "breaker/shop"));
        (String::from_utf8(reply.body.clone()).unwrap(), header(&reply, "cache-status").map(str::to_owned), counts)
    };
    let own = r#", "fallback": "sorry""#;
    assert_eq!(broken(own, STALE), ("sorry, breaker/shop".to_owned(), None, [1, 0, 0]));
    let hit = Some("outrigger; hit; ttl=60; detail=stale-if-error".to_owned());
    assert_eq!(broken("", STALE), ("five stars".to_owned(), hit, [0, 1, 0]));
    assert_eq!(broken("", r#"{ "fallback": "empty" }"#), (r#"{ "reviews": [] }"#.to_owned(), None, [0, 0, 1]));
    let nothing_kept = r#"{ "methods": ["POST"], "stale": { "max_age": "10m" } }, { "fallback": "empty" }"#;
    assert_eq!(broken("", nothing_kept).2, [0, 0, 1]);
    assert_eq!(broken("", r#"{ "operations": ["place-order"], "fallback": "empty" }"#).2, [0, 0, 0]);
}

/// A tunnel that gets a page would not know what to do with it.
#[test]
fn a_tunnel_is_refused_without_the_rules_fallback() {
    let sidecar = Sidecar::new(&document("", r#"{ "fallback": "empty" }"#, ""));
    trip(&sidecar);
    let reply = refusal(&sidecar, &[ORDER[0], ("upgrade", "websocket")]);
    assert_eq!((reply.status, header(&reply, "content-type")), (503, Some("application/problem+json")));
}

// === metrics =========================================================================================================

#[test]
fn each_change_is_counted_once_and_the_gauge_follows() {
    let workers = Sidecar::several(2, &document("", "", ""));
    let sidecar = &workers[0];
    assert_eq!(answered(sidecar, &ORDER, "200"), None);
    assert_eq!(gauge(sidecar), 0);
    assert!(
        sidecar.host.metric_names().contains(&Names::default().breaker_state("shop")),
        "there before anything happens"
    );
    trip(sidecar);
    sidecar.host.advance(SECOND);
    assert!(is_open(&workers[1]), "and the other worker comes to know");
    sidecar.host.advance(OPEN);
    let probe = sidecar.begin(&ORDER).unwrap();
    assert_eq!((gauge(sidecar), changes(sidecar, "half_open", "open_over")), (1, 1));
    sidecar.answer(probe);
    assert_eq!((gauge(sidecar), changes(sidecar, "ramp", "probes_succeeded")), (2, 1));
    sidecar.host.advance(7 * SECOND);
    assert_eq!(workers[1].serve(&ORDER), None);
    assert_eq!(sidecar.serve(&ORDER), None);
    assert_eq!((gauge(sidecar), changes(sidecar, "closed", "ramp_over")), (0, 1));
    assert_eq!(changes(sidecar, "open", "consecutive_failures"), 1);
}

/// A new process begins with the gauges of the old one, but without its records.
#[test]
fn a_gauge_that_was_taken_over_is_set_right_by_the_first_request() {
    let sidecar = shop();
    sidecar.worker.cx(&*sidecar.host).set(Names::default().breaker_state("shop"), 3).unwrap();
    assert_eq!(answered(&sidecar, &ORDER, "200"), None);
    assert_eq!(gauge(&sidecar), 0);
}

/// A worker that begins anew knows nothing, but the record does.
#[test]
fn a_worker_that_begins_anew_obeys_the_record() {
    let sidecar = shop();
    trip(&sidecar);
    let anew = Sidecar::on(&sidecar.host, &document("", "", ""));
    assert!(is_open(&anew));
    assert_eq!(gauge(&anew), 3);
    assert_eq!(changes(&anew, "open", "consecutive_failures"), 1, "not once more");
}

// === workers =========================================================================================================

#[test]
fn a_trip_is_obeyed_by_all_workers_within_half_a_second() {
    let workers = Sidecar::several(4, &document("", "", ""));
    for worker in &workers {
        assert_eq!(answered(worker, &ORDER, "200"), None);
    }
    trip(&workers[0]);
    workers[0].host.advance(500 * MILLISECOND);
    for (number, worker) in workers.iter().enumerate() {
        assert!(is_open(worker), "worker {number}");
    }
}

#[test]
fn failures_of_several_workers_add_up() {
    let workers = Sidecar::several(3, &document("", "", ""));
    for worker in &workers {
        fail(worker, 1);
        worker.host.advance(300 * MILLISECOND);
    }
    assert!(workers.iter().all(is_open));
}

/// As the demo does it: eight failures 0.3 s apart, on either of two workers, of which one has a success to publish.
#[test]
fn a_success_of_before_an_outage_does_not_keep_it_closed() {
    for turn in 0_u32..256 {
        let workers = Sidecar::several(2, &document("", "", "").replace("_failures\": 3", "_failures\": 5"));
        for worker in [0, 1, 1] {
            assert_eq!(answered(&workers[worker], &ORDER, "200"), None);
            workers[0].host.advance(10 * MILLISECOND);
        }
        let reached = (0..8).filter(|failure| {
            pass_until(&workers, workers[0].now() + 300 * MILLISECOND);
            let worker = &workers[(turn >> failure & 1) as usize];
            worker.begin(&ORDER).map(|ticket| worker.answer_with(ticket, &[(":status", "503")])).is_ok()
        });
        assert!((5..=6).contains(&reached.count()), "{turn:08b}");
        assert_eq!(gauge(&workers[0]), 3, "{turn:08b}");
    }
}

#[test]
fn it_outlives_a_configuration() {
    let sidecar = shop();
    trip(&sidecar);
    assert!(is_open(&sidecar.reconfigured(&document(r#", "open_for": "7s""#, "", ""))));
    let renamed = document("", "", "").replace("\"name\": \"shop\"", "\"name\": \"other\"");
    assert!(!is_open(&sidecar.reconfigured(&renamed)));
}

// === probes ==========================================================================================================

/// A breaker whose time is over, so that the next request is its only probe.
fn about_to_probe(limits: &str) -> Sidecar {
    let sidecar = Sidecar::new(&document("", "", limits));
    trip(&sidecar);
    sidecar.host.advance(OPEN);
    sidecar
}

/// A probe is out: nobody else passes.
fn is_probing(sidecar: &Sidecar) -> bool {
    gauge(sidecar) == 1 && sidecar.begin(&ORDER).map(|ticket| sidecar.end(ticket)).is_err()
}

#[test]
fn a_probe_whose_client_leaves_is_given_back() {
    let sidecar = about_to_probe("");
    let probe = sidecar.begin(&ORDER).unwrap();
    assert!(is_probing(&sidecar));
    sidecar.end(probe);
    assert!(!is_probing(&sidecar), "the next may try");
    assert_eq!(gauge(&sidecar), 1);
    assert_eq!(answered(&sidecar, &ORDER, "200"), None);
    assert_eq!(gauge(&sidecar), 2);
}

#[test]
fn a_probe_that_another_filter_refused_is_given_back() {
    let sidecar = about_to_probe("");
    let probe = sidecar.begin(&ORDER).unwrap();
    let _ = sidecar.answer_with(probe, &[(":status", "503"), ("x-envoy-ratelimited", "true")]);
    assert_eq!(gauge(&sidecar), 1);
    assert!(!is_probing(&sidecar));
}

#[test]
fn a_limit_that_refuses_takes_no_probe() {
    let sidecar = about_to_probe(r#"{ "name": "flights", "concurrency": { "max_in_flight": 1 } }"#);
    let other = sidecar.begin(&[]).unwrap();
    let before = sidecar.host.record(RECORD);
    assert_eq!(reason(&refusal(&sidecar, &ORDER)), "limit/flights");
    assert_eq!(sidecar.host.record(RECORD), before);
    sidecar.answer(other);
    let probe = sidecar.begin(&ORDER).unwrap();
    sidecar.answer(probe);
    assert_eq!(gauge(&sidecar), 2);
}

/// A probe is claimed after the limits: what a request took of them that finds none is given back.
#[test]
fn who_finds_no_probe_keeps_nothing() {
    // Not taken in advance, so that one worker sees what the other leaves.
    let bucket = r#"{ "name": "tokens", "key": ["host"],
                      "token_bucket": { "max_tokens": 5, "tokens_per_fill": 1, "fill_interval": "1h" } }"#;
    let workers = Sidecar::several(2, &document("", "", bucket));
    trip(&workers[0]);
    let state = record::decode(&workers[0].host.record(RECORD).unwrap(), SECOND).unwrap().state;
    let Phase::Open { until, .. } = state.phase else { panic!("{state:?}") };
    // The other worker looks just before the time is over, so that its copy says for a while that there is a probe to be had.
    workers[0].host.set_now(until.as_nanos() - 100 * MILLISECOND);
    assert!(is_open(&workers[1]));
    workers[0].host.set_now(until.as_nanos());
    let probe = workers[0].begin(&ORDER).unwrap();
    let before = workers[0].host.record(RECORD);
    assert_eq!(reason(&refusal(&workers[1], &ORDER)), "breaker/shop");
    assert_eq!(workers[0].host.record(RECORD), before);
    // Three failures, the probe, and one that is left.
    assert_eq!(workers[1].admitted(3, &[]), 1);
    workers[0].answer(probe);
}

#[test]
fn a_failure_that_comes_after_the_probes_time_changes_nothing_and_the_loss_does() {
    let sidecar = about_to_probe("");
    let probe = sidecar.begin(&ORDER).unwrap();
    sidecar.host.advance(2 * SECOND);
    assert!(is_open(&sidecar));
    assert_eq!((gauge(&sidecar), changes(&sidecar, "open", "probe_lost")), (3, 1));
    let before = sidecar.host.record(RECORD);
    let _ = sidecar.replacement(probe, &[(":status", "503")]);
    assert_eq!(sidecar.host.record(RECORD), before);
    assert_eq!(changes(&sidecar, "open", "probe_failed"), 0);
}

#[test]
fn a_late_success_does_not_close_it() {
    let sidecar = about_to_probe("");
    let probe = sidecar.begin(&ORDER).unwrap();
    sidecar.host.advance(2 * SECOND);
    assert!(is_open(&sidecar));
    sidecar.answer(probe);
    assert_eq!(gauge(&sidecar), 3);
}

/// Headers are enough: a stream may last longer than a probe has.
#[test]
fn a_probe_is_settled_by_its_headers_and_once() {
    for (request, status) in
        [(&ORDER[..], "200"), (&CALL[..], "200"), (&[ORDER[0], ("upgrade", "websocket")][..], "101")]
    {
        let sidecar = about_to_probe("");
        let mut probe = sidecar.begin(request).unwrap();
        sidecar.host.set_response(&[(":status", status)]);
        let _ = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut probe);
        assert_eq!(gauge(&sidecar), 2, "{request:?}");
        let record = sidecar.host.record(RECORD);
        sidecar.host.set_grpc_status(Some(14));
        sidecar.host.set_broken_off(true);
        sidecar.filter.on_response_end(&*sidecar.host, &sidecar.worker, &mut probe);
        sidecar.end(probe);
        assert_eq!(sidecar.host.record(RECORD), record, "{request:?}: it has been heard");
    }
}

#[test]
fn a_failed_probe_opens_it_again() {
    let sidecar = about_to_probe("");
    assert_eq!(answered(&sidecar, &ORDER, "502"), None);
    assert_eq!((gauge(&sidecar), changes(&sidecar, "open", "probe_failed")), (3, 1));
    assert_eq!(sidecar.host.log_field(LogField::Detail), None);
    refusal(&sidecar, &ORDER);
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("probe_failed"));
}

// === results count once ==============================================================================================

/// A failure counts whether or not the client gets something better, and once.
#[test]
fn a_replaced_failure_counts_once() {
    let sidecar = Sidecar::new(&document("", r#"{ "fallback": "empty" }"#, ""));
    for number in 1..=3 {
        assert!(!is_open(&sidecar), "after {} failures", number - 1);
        let mut ticket = sidecar.begin(&ORDER).unwrap();
        sidecar.host.set_response(&[(":status", "503")]);
        let answer = sidecar.filter.on_response(&*sidecar.host, &sidecar.worker, End::Later, &mut ticket);
        assert!(matches!(answer, Answer::Replace(_)));
        // The reply comes by as if it were the service's.
        sidecar.host.set_response(&[(":status", "200")]);
        assert_eq!(sidecar.replacement(ticket, &[(":status", "200")]), None);
    }
    assert!(is_open(&sidecar));
    assert_eq!(ended(&sidecar.host, "place-order", "degraded"), 3);
}

#[test]
fn its_own_refusals_are_no_failures() {
    let sidecar = shop();
    trip(&sidecar);
    let record = sidecar.host.record(RECORD);
    for _ in 0..20 {
        let (decision, ticket) = sidecar.ask(&ORDER);
        assert!(matches!(decision, Decision::Reply(_)));
        assert_eq!(sidecar.replacement(ticket, &[(":status", "503")]), None);
    }
    assert_eq!(sidecar.host.record(RECORD), record);
    assert_eq!(changes(&sidecar, "open", "consecutive_failures"), 1);
}

/// Sent before the trip, answered after it.
#[test]
fn an_answer_of_before_the_trip_says_nothing_after_it() {
    let sidecar = shop();
    let early: Vec<Ticket> = (0..5).map(|_| sidecar.begin(&ORDER).unwrap()).collect();
    trip(&sidecar);
    let record = sidecar.host.record(RECORD);
    for (ticket, status) in early.into_iter().zip(["200", "503", "200", "503", "503"]) {
        let _ = sidecar.answer_with(ticket, &[(":status", status)]);
    }
    assert_eq!(sidecar.host.record(RECORD), record);
}

#[test]
fn a_record_that_cannot_be_used_admits_and_is_counted() {
    let sidecar = shop();
    trip(&sidecar);
    sidecar.host.advance(SECOND);
    for call in ["shared_get", "shared_set"] {
        sidecar.host.break_call(call);
    }
    let ticket = sidecar.begin(&ORDER).unwrap();
    sidecar.answer(ticket);
    assert!(0 < sidecar.host.metric("call=.=shared_get;.;outrigger_host_errors_total"));
}

// === waiting =========================================================================================================

/// One request a second, up to ten waiting.
const QUEUE: &str = r#"{ "name": "queue", "leaky_bucket": { "capacity": 10, "drain": 1, "drain_interval": "1s" } },
                       { "name": "tokens", "token_bucket": { "max_tokens": 4, "tokens_per_fill": 1, "fill_interval": "1h" } },
                       { "name": "flights", "concurrency": { "max_in_flight": 4 } }"#;

fn waiting(sidecar: &Sidecar) -> Ticket {
    let (decision, ticket) = sidecar.ask(&ORDER);
    assert!(matches!(decision, Decision::Wait(..)), "{decision:?}");
    ticket
}

/// How many requests of another operation, which nothing but the limits are for, pass or wait before one is refused.
fn room(sidecar: &Sidecar) -> usize {
    let mut taken = Vec::new();
    loop {
        let (decision, ticket) = sidecar.ask(&[]);
        if let Decision::Reply(_) = decision {
            sidecar.end(ticket);
            break;
        }
        taken.push(ticket);
    }
    let room = taken.len();
    taken.into_iter().for_each(|ticket| sidecar.end(ticket));
    room
}

#[test]
fn who_waits_is_refused_if_the_breaker_has_opened_meanwhile() {
    let sidecar = Sidecar::new(&document("", "", QUEUE));
    let sent: Vec<Ticket> = vec![sidecar.begin(&ORDER).unwrap()];
    let mut first = waiting(&sidecar);
    let mut second = waiting(&sidecar);
    // Others fail, through a worker without the queue.
    trip(&Sidecar::on(&sidecar.host, &document("", "", "")));
    sidecar.host.advance(SECOND);
    let reply = resumed(&sidecar, &mut first).expect("it is open");
    assert_eq!((reason(&reply), reply.status), ("breaker/shop", 503));
    assert_eq!(sidecar.worker.limit.waiting.get(), 1);
    assert_eq!(room(&sidecar), 2, "of four one was sent and one waits: what this one took is there again at once");
    assert_eq!(sidecar.host.log_field(LogField::Detail).as_deref(), Some("consecutive_failures"));
    assert_eq!(resumed(&sidecar, &mut first), None, "once");
    sidecar.end(first);
    sidecar.host.advance(SECOND);
    assert!(resumed(&sidecar, &mut second).is_some());
    sidecar.end(second);
    assert_eq!(sidecar.worker.limit.waiting.get(), 0);
    assert_eq!((ended(&sidecar.host, "place-order", "broken"), refused(&sidecar.host, "breaker/shop")), (2, 2));
    sent.into_iter().for_each(|ticket| sidecar.answer(ticket));
}

#[test]
fn who_waits_holds_no_probe_and_may_become_one() {
    let sidecar = Sidecar::new(&document("", "", QUEUE));
    trip(&Sidecar::on(&sidecar.host, &document("", "", "")));
    sidecar.host.advance(OPEN);
    let queued = sidecar.begin(&[]).unwrap();
    let before = sidecar.host.record(RECORD);
    let mut waits = waiting(&sidecar);
    let leaves = waiting(&sidecar);
    assert_eq!(sidecar.host.record(RECORD), before, "nothing is claimed yet");
    sidecar.end(leaves);
    assert_eq!(sidecar.host.record(RECORD), before);
    assert_eq!(ended(&sidecar.host, "place-order", "cancelled"), 1);
    sidecar.host.advance(SECOND);
    assert_eq!(resumed(&sidecar, &mut waits), None);
    assert_eq!(gauge(&sidecar), 1);
    sidecar.answer(waits);
    assert_eq!(gauge(&sidecar), 2);
    sidecar.answer(queued);
}

/// The time in the queue is not the service's.
#[test]
fn the_time_in_a_queue_is_not_slowness() {
    let document = document("", "", QUEUE)
        .replace("\"min_requests\": 1000", "\"min_requests\": 1")
        .replace("\"slow_ratio\": 1", "\"slow_ratio\": 0.05")
        .replace("\"max_tokens\": 4", "\"max_tokens\": 40");
    let sidecar = Sidecar::new(&document);
    sidecar.serve(&ORDER);
    for _ in 0..10 {
        let mut ticket = waiting(&sidecar);
        sidecar.host.advance(SECOND);
        assert_eq!(resumed(&sidecar, &mut ticket), None);
        sidecar.answer(ticket);
    }
    assert_eq!(gauge(&sidecar), 0);
    // The service's own is.
    for _ in 0..3 {
        let mut ticket = waiting(&sidecar);
        sidecar.host.advance(SECOND);
        assert_eq!(resumed(&sidecar, &mut ticket), None);
        sidecar.host.advance(801 * MILLISECOND);
        sidecar.answer(ticket);
        sidecar.host.advance(SECOND);
        sidecar.serve(&ORDER);
        if gauge(&sidecar) != 0 {
            break;
        }
    }
    assert_eq!((gauge(&sidecar), changes(&sidecar, "open", "slow_ratio")), (3, 1));
}

// === precedence ======================================================================================================

/// One random set of policies, and requests that are refused by any of them: switches, breakers, limits of every kind.
fn refused_requests_leave_no_trace(seed: u64) -> [usize; 3] {
    let mut random = Random::seeded(seed);
    let mut pick = |count: u64| random.below(count);
    let limits: Vec<String> = (0..1 + pick(4))
        .map(|index| {
            let some = 1 + pick(4);
            let policy = match pick(4) {
                0 => format!(
                    r#""token_bucket": {{ "max_tokens": {some}, "tokens_per_fill": 1, "fill_interval": "700ms" }}"#
                ),
                1 => format!(r#""leaky_bucket": {{ "capacity": {some}, "drain": 1, "drain_interval": "300ms" }}"#),
                2 => format!(r#""window": {{ "max_requests": {some}, "interval": "2s" }}"#),
                _ => format!(r#""concurrency": {{ "max_in_flight": {some} }}"#),
            };
            // Leases of limits without a key have clocks of their own.
            let key = r#""key": ["header:x-user"]"#;
            format!(r#"{{ "name": "l{index}", {key}, "enforced": {}, {policy} }}"#, pick(4) != 0)
        })
        .collect();
    let on = pick(2) == 0;
    let document = format!(
        r#"{{
            "operations": [{{ "name": "a", "tier": "P3", "match": {{ "paths": ["/a"] }} }},
                           {{ "name": "b", "match": {{ "paths": ["/b"] }} }}],
            "switches": [{{ "name": "s", "active": {on}, "tiers": ["P3"], "methods": ["POST"], "fallback": "f" }}],
            "breakers": [{{ "name": "shop", "operations": ["a", "b"], "open_for": "1s", "probes": {},
                            "trip": {{ "consecutive_failures": 2 }} }}],
            "on_failure": [{{ "operations": ["b"], "stale": {{ "max_age": "1m" }}, "fallback": "f" }}],
            "fallbacks": [{{ "name": "f", "status": 200 }}],
            "limits": [{}]
        }}"#,
        1 + pick(3),
        limits.join(", ")
    );
    let workers = Sidecar::several(2, &document);
    let mut open: Vec<(usize, Ticket, Option<u64>)> = Vec::new();
    let mut counts = [0; 3];
    for step in 0..120 {
        let context = format!("seed {seed}, step {step}, {document}");
        let host = &workers[0].host;
        host.advance(random.below(400) * MILLISECOND);
        // Some end, by an answer, a failure, or because the client leaves; also of those that wait.
        while !open.is_empty() && random.below(3) != 0 {
            let (worker, mut ticket, due) = open.swap_remove(random.below(open.len() as u64) as usize);
            let worker = &workers[worker];
            if due.is_some_and(|due| due <= worker.now()) && resumed(worker, &mut ticket).is_some() {
                worker.end(ticket);
                continue;
            }
            match random.below(3) {
                _ if due.is_some_and(|due| worker.now() < due) => worker.end(ticket),
                0 => worker.end(ticket),
                1 => worker.answer(ticket),
                _ => drop(worker.answer_with(ticket, &[(":status", "503")])),
            }
        }
        let index = random.below(2) as usize;
        let worker = &workers[index];
        let path = ["/a", "/b", "/c"][random.below(3) as usize];
        let method = ["GET", "POST"][random.below(2) as usize];
        let user = ["alice", "bob"][random.below(2) as usize];
        // What the breaker would do by itself: publish what its worker heard, and take note of the time.
        let (_, glance) = worker.ask(&[(":path", path), ("x-user", "glance")]);
        worker.end(glance);
        let before = host.records();
        let (decision, ticket) = worker.ask(&[(":path", path), (":method", method), ("x-user", user)]);
        match decision {
            Decision::Forward(_) => open.push((index, ticket, None)),
            Decision::Wait(_, due) => open.push((index, ticket, Some(due.as_nanos()))),
            Decision::Reply(reply) => {
                worker.end(ticket);
                let kind = match reply.details.split('_').nth(1) {
                    Some("switch") => 0,
                    Some("breaker") => 1,
                    _ => 2,
                };
                counts[kind] += 1;
                if kind != 1 {
                    assert_eq!(host.record(RECORD), before.get(RECORD).cloned(), "{}: {context}", reply.details);
                }
                for limit in &limits {
                    let (expected, found) = (future(&before, limit, host), future(&host.records(), limit, host));
                    assert_eq!(found, expected, "{}: {limit}, {context}", reply.details);
                }
            }
        }
    }
    counts
}

/// What the limit alone would do, of which there are these records, with a few requests of each user, none of which ends.
fn future(records: &BTreeMap<String, Vec<u8>>, limit: &str, host: &MemoryHost) -> Vec<Result<u64, String>> {
    let twin = MemoryHost::new();
    records.iter().for_each(|(key, bytes)| twin.put_record(key, bytes));
    twin.set_now(host.now().as_nanos());
    // Numbers that the first proxy has given to nobody.
    for _ in 0..100 {
        let _ = twin.random();
    }
    let limit = limit.replace("\"enforced\": false", "\"enforced\": true");
    let worker = Sidecar::on(&twin, &format!(r#"{{ "limits": [{limit}] }}"#));
    let mut held = Vec::new();
    let mut decide = |user: &str| {
        let (decision, ticket) = worker.ask(&[("x-user", user)]);
        held.push(ticket);
        match decision {
            Decision::Forward(_) => Ok(0),
            Decision::Wait(_, due) => Ok(due.as_nanos()),
            Decision::Reply(reply) => Err(header(&reply, "retry-after").unwrap_or_default().to_owned()),
        }
    };
    let decisions = (0..6).flat_map(|_| ["alice", "bob"]).map(&mut decide).collect();
    held.into_iter().for_each(|ticket| worker.end(ticket));
    decisions
}

#[test]
fn whoever_refuses_a_request_leaves_no_trace_with_the_others() {
    let mut sums = [0; 3];
    for seed in 1..=30 {
        let counts = refused_requests_leave_no_trace(seed);
        (0..3).for_each(|kind| sums[kind] += counts[kind]);
    }
    assert!(sums.iter().all(|it| 150 < *it), "each refuses now and then: {sums:?}");
}
