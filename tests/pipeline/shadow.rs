//! Policies that are tried out: what they would refuse goes on, is counted, and says in the access log who it was.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, pass_until, reason, refused};
use crate::common::{MemoryHost, Random};
use outrigger::host::LogField;
use outrigger::monitor::names::Names;

const SHOP: &str = r#"{
  "operations": [
    { "name": "orders", "match": { "paths": ["/orders"] } },
    { "name": "reviews", "match": { "paths": ["/reviews/*"] } }
  ],
  REST
}"#;

fn shop(rest: &str) -> String {
    SHOP.replace("REST", rest)
}

const ORDER: [(&str, &str); 1] = [(":path", "/orders")];
const REVIEWS: [(&str, &str); 1] = [(":path", "/reviews/17")];

/// How many requests would have been refused for the reason.
fn would_be_refused(host: &MemoryHost, reason: &str) -> u64 {
    host.metric(&format!("reason=.={reason};.;enforced=.=false;.;outrigger_refusals_total"))
}

fn gauge(sidecar: &Sidecar, breaker: &str) -> u64 {
    sidecar.host.metric(&Names::default().breaker_state(breaker))
}

/// A request that the service answers with this status.
fn answered(sidecar: &Sidecar, request: &[(&str, &str)], status: &str) {
    let ticket = sidecar.begin(request).unwrap();
    let _ = sidecar.answer_with(ticket, &[(":status", status)]);
}

// === switches ========================================================================================================

#[test]
fn a_switch_in_shadow_counts_what_the_enforced_ones_leave_and_refuses_nothing() {
    let config = shop(
        r#""switches": [
            { "name": "tried", "active": true, "enforced": false },
            { "name": "second", "active": true, "enforced": false },
            { "name": "off", "active": false, "enforced": false },
            { "name": "real", "active": true, "operations": ["reviews"] }
        ]"#,
    );
    let workers = Sidecar::several(2, &config);
    for sidecar in &workers {
        assert!(sidecar.serve(&ORDER).is_none());
        let reply = sidecar.serve(&REVIEWS).unwrap();
        assert_eq!(reason(&reply), "switch/real", "whatever stands before it is no obstacle");
    }
    let host = &workers[0].host;
    assert_eq!((would_be_refused(host, "switch/tried"), refused(host, "switch/real")), (2, 2));
    assert_eq!(would_be_refused(host, "switch/second"), 0, "the first acts");
    assert_eq!(would_be_refused(host, "switch/off"), 0);
    let preflight = [(":method", "OPTIONS"), ("origin", "https://a.test"), ("access-control-request-method", "GET")];
    assert!(workers[0].serve(&preflight).is_none());
    assert_eq!(would_be_refused(host, "switch/tried"), 2, "a preflight passes either way");
}

// === breakers ========================================================================================================

fn breaker(enforced: bool) -> String {
    let trip = r#"{ "consecutive_failures": 3, "failure_ratio": 0.5, "min_requests": 5, "window": "2s" }"#;
    shop(&format!(
        r#""breakers": [{{ "name": "b", "enforced": {enforced}, "trip": {trip}, "open_for": "500ms",
                           "max_open_for": "2s", "probes": 2 }}]"#
    ))
}

/// Two proxies with the same load on three workers each, one with the breaker enforced, one with it in shadow.
#[test]
fn a_breaker_in_shadow_goes_through_the_phases_that_an_enforced_one_would() {
    for seed in 91..99 {
        let mut random = Random::seeded(seed);
        let (enforced, shadow) = (Sidecar::several(3, &breaker(true)), Sidecar::several(3, &breaker(false)));
        let (mut refusals, mut now, mut is_down) = (0, enforced[0].now(), false);
        for step in 0..10_000 {
            if random.below(1_500) == 0 {
                is_down = !is_down;
            }
            now += random.below(20 * MILLISECOND);
            pass_until(&enforced, now);
            pass_until(&shadow, now);
            let worker = random.below(3) as usize;
            let status = if random.below(10) < if is_down { 9 } else { 0 } { "503" } else { "200" };
            let context = format!("seed {seed}, step {step}");
            let really = enforced[worker].begin(&ORDER);
            // What is held back from the service there gets to it here, and fails or succeeds without being heard of.
            let tried = shadow[worker].begin(&ORDER).unwrap_or_else(|reply| panic!("{context}: {reply:?}"));
            let _ = shadow[worker].answer_with(tried, &[(":status", status)]);
            match really {
                Ok(ticket) => drop(enforced[worker].answer_with(ticket, &[(":status", status)])),
                Err(_) => refusals += 1,
            }
            assert_eq!(enforced[0].host.records(), shadow[0].host.records(), "{context}");
            assert_eq!(would_be_refused(&shadow[0].host, "breaker/b"), refusals, "{context}");
            assert_eq!(gauge(&enforced[0], "b"), gauge(&shadow[0], "b"), "{context}");
        }
        let changes = |sidecar: &Sidecar, to: &str, cause: &str| {
            sidecar.host.metric(&Names::default().breaker_transitions_total("b", to, cause))
        };
        for (to, cause) in [("open", "consecutive_failures"), ("half_open", "open_over"), ("closed", "ramp_over")] {
            assert_eq!(changes(&enforced[0], to, cause), changes(&shadow[0], to, cause), "seed {seed}: {to}");
            assert!(0 < changes(&shadow[0], to, cause), "seed {seed} shows little: {to}");
        }
        assert_eq!(refused(&shadow[0].host, "breaker/b"), 0);
    }
}

/// One in shadow for reviews before an enforced one for everything.
const BEFORE: &str = r#""breakers": [
    { "name": "tried", "operations": ["reviews"], "enforced": false, "trip": { "consecutive_failures": 2 } },
    { "name": "real", "trip": { "consecutive_failures": 4 } }
]"#;

#[test]
fn a_breaker_in_shadow_takes_no_request_from_an_enforced_one_behind_it() {
    let sidecar = Sidecar::new(&shop(BEFORE));
    (0..2).for_each(|_| answered(&sidecar, &REVIEWS, "503"));
    assert_eq!((gauge(&sidecar, "tried"), gauge(&sidecar, "real")), (3, 0), "both hear of it");
    (0..2).for_each(|_| answered(&sidecar, &REVIEWS, "503"));
    assert_eq!(gauge(&sidecar, "real"), 3);
    assert_eq!(would_be_refused(&sidecar.host, "breaker/tried"), 2);
    let reply = sidecar.begin(&REVIEWS).unwrap_err();
    assert_eq!(reason(&reply), "breaker/real");
    assert_eq!(would_be_refused(&sidecar.host, "breaker/tried"), 2, "it sees what the enforced one lets through");
}

#[test]
fn a_breaker_in_shadow_behind_an_enforced_one_that_acts_is_never_asked() {
    let behind = r#""breakers": [
        { "name": "real", "operations": ["reviews"], "trip": { "consecutive_failures": 100 } },
        { "name": "tried", "enforced": false, "trip": { "consecutive_failures": 1 } }
    ]"#;
    let sidecar = Sidecar::new(&shop(behind));
    (0..5).for_each(|_| answered(&sidecar, &REVIEWS, "503"));
    assert_eq!(gauge(&sidecar, "tried"), 0);
    answered(&sidecar, &ORDER, "503");
    assert_eq!(gauge(&sidecar, "tried"), 3, "of other requests it hears");
    assert_eq!(would_be_refused(&sidecar.host, "breaker/tried"), 0);
}

#[test]
fn a_breaker_that_an_update_enforces_has_the_state_that_it_had_in_shadow() {
    let tried = Sidecar::new(&breaker(false));
    (0..3).for_each(|_| answered(&tried, &ORDER, "503"));
    assert_eq!(gauge(&tried, "b"), 3);
    assert!(tried.serve(&ORDER).is_none());
    let real = tried.reconfigured(&breaker(true));
    assert_eq!(reason(&real.serve(&ORDER).unwrap()), "breaker/b");
    let again = real.reconfigured(&breaker(false));
    assert!(again.serve(&ORDER).is_none());
    assert_eq!(would_be_refused(&again.host, "breaker/b"), 2);
}

/// It waits in a queue while the breaker opens.
#[test]
fn a_request_that_a_breaker_in_shadow_would_refuse_after_its_wait_goes_on() {
    let queue = r#""limits": [{ "name": "q", "methods": ["PUT"],
        "leaky_bucket": { "capacity": 5, "drain": 1, "drain_interval": "1s" } }]"#;
    let config = breaker(false).replace(r#""breakers""#, &format!("{queue}, \"breakers\""));
    let sidecar = Sidecar::new(&config);
    let put = [(":path", "/orders"), (":method", "PUT")];
    let (_, first) = sidecar.ask(&put);
    let (_, mut second) = sidecar.ask(&put);
    assert!(second.is_held());
    (0..3).for_each(|_| answered(&sidecar, &ORDER, "503"));
    assert!(matches!(sidecar.resume(&mut second), outrigger::pipeline::Decision::Forward(_)));
    assert_eq!(would_be_refused(&sidecar.host, "breaker/b"), 1);
    assert_eq!(sidecar.host.log_field(LogField::Shadow).as_deref(), Some("breaker/b"));
    sidecar.end(first);
    sidecar.end(second);
}

// === who it was ======================================================================================================

/// The access-log field after one request that goes on, and the calls that set fields.
fn logged(config: &str) -> (Option<String>, usize) {
    let sidecar = Sidecar::new(config);
    sidecar.host.take_calls();
    assert!(sidecar.serve(&ORDER).is_none(), "{config}");
    (sidecar.host.log_field(LogField::Shadow), sidecar.host.take_calls().get("set_property").copied().unwrap_or(0))
}

#[test]
fn the_access_log_names_the_first_policy_that_would_have_refused_and_costs_one_call() {
    let closed =
        r#""token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" }, "cost": "header:x""#;
    let limit = |name: &str| format!(r#"{{ "name": "{name}", "enforced": false, {closed} }}"#);
    let limits = format!(r#""limits": [{}, {}]"#, limit("one"), limit("two"));
    let switch = r#""switches": [{ "name": "s", "active": true, "enforced": false }]"#;
    let off = r#""monitor": { "access_log": false }"#;
    let costly = |rest: &str| {
        let sidecar = Sidecar::new(&shop(rest));
        sidecar.host.take_calls();
        assert!(sidecar.serve(&[(":path", "/orders"), ("x", "2")]).is_none());
        let calls = sidecar.host.take_calls().get("set_property").copied().unwrap_or(0);
        (sidecar.host.log_field(LogField::Shadow), calls)
    };
    assert_eq!(logged(&shop(&limits)), (None, 2), "operation and tier; nobody would refuse it");
    assert_eq!(costly(&limits), (Some("limit/one".to_owned()), 3));
    assert_eq!(costly(&format!("{switch}, {limits}")), (Some("switch/s".to_owned()), 3));
    assert_eq!(costly(&format!("{switch}, {limits}, {off}")), (None, 0));
}

#[test]
fn the_access_log_names_a_breaker_in_shadow_while_it_is_open() {
    let sidecar = Sidecar::new(&breaker(false));
    (0..3).for_each(|_| answered(&sidecar, &ORDER, "503"));
    assert_eq!(sidecar.host.log_field(LogField::Shadow), None);
    answered(&sidecar, &ORDER, "200");
    assert_eq!(sidecar.host.log_field(LogField::Shadow).as_deref(), Some("breaker/b"));
    assert_eq!(sidecar.host.log_field(LogField::Reason), None, "it was not refused");
    // It heals by its probes, though nothing was ever held back.
    pass_until([&sidecar], sidecar.now() + SECOND);
    (0..2).for_each(|_| answered(&sidecar, &ORDER, "200"));
    assert_eq!(gauge(&sidecar, "b"), 2, "the ramp");
    pass_until([&sidecar], sidecar.now() + 7 * SECOND);
    answered(&sidecar, &ORDER, "200");
    assert_eq!(gauge(&sidecar, "b"), 0);
}
