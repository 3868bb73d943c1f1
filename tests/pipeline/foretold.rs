//! What alerts are about is there at 0 before it happens.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::rc::Rc;

use outrigger::config::Config;
use outrigger::config::foretold::{AT_A_TIME, Foretold, MOST};
use outrigger::cx::{Cx, Telemetry};
use outrigger::degrade::stale::Cause;
use outrigger::host::HostError;
use outrigger::monitor::trouble::CALLS;
#[cfg(not(target_arch = "wasm32"))]
use outrigger::operation::path::Unsettled;

use crate::common::sidecar::{MILLISECOND, Sidecar};
use crate::common::{MemoryHost, Random};

/// The counters that an alert may be about.
const ALERTED: [&str; 8] = [
    "outrigger_refusals_total",
    "outrigger_breaker_transitions_total",
    "outrigger_fallbacks_total",
    "outrigger_table_evictions_total",
    "outrigger_holds_expired_total",
    "outrigger_host_errors_total",
    "outrigger_config_rejected_total",
    "outrigger_stale_not_kept_total",
];

const SHOP: &str = r#"{
  "operations": [
    { "name": "orders", "match": { "paths": ["/orders"] } },
    { "name": "reviews", "match": { "paths": ["/reviews"] } },
    { "name": "likes", "match": { "paths": ["/likes"] } }
  ],
  "limits": [
    { "name": "per-user", "key": ["header:x-user"], "max_keys": 8, "fallback": "sorry",
      "token_bucket": { "max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "20ms" } },
    { "name": "tried", "enforced": false, "operations": ["orders"], "window": { "max_requests": 2, "interval": "1s" } },
    { "name": "flights", "key": ["header:x-user"], "concurrency": { "max_in_flight": 1, "max_hold": "20ms" } }
  ],
  "switches": [{ "name": "no-likes", "operations": ["likes"], "active": true, "fallback": "sorry" }, { "name": "rest" },
               { "name": "tried", "enforced": false, "fallback": "sorry" }],
  "breakers": [
    { "name": "orders", "operations": ["orders"], "trip": { "consecutive_failures": 2, "min_requests": 5, "failure_ratio": 0.5 },
      "open_for": "100ms", "max_open_for": "100ms", "probes": 1 },
    { "name": "reviews", "operations": ["reviews"], "trip": { "consecutive_failures": 3 }, "fallback": "sorry",
      "open_for": "100ms", "max_open_for": "100ms", "probes": 1 }
  ],
  "on_failure": [
    { "operations": ["orders"], "stale": { "max_age": "10m" }, "fallback": "empty" },
    { "operations": ["reviews"], "fallback": "empty" }
  ],
  "deadlines": [{ "operations": ["orders"], "default": "1s" }],
  "fallbacks": [{ "name": "sorry", "status": 503, "text": "sorry" }, { "name": "empty", "status": 200, "json": {} }]
}"#;

fn foretell(document: &str, host: &MemoryHost) -> BTreeSet<String> {
    let config = Config::parse(document.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    define(&config, host).unwrap();
    host.metric_names().into_iter().collect()
}

/// Defines all, a few at a time.
fn define(config: &Config, host: &MemoryHost) -> Result<(), HostError> {
    let (mut foretold, telemetry) = (Foretold::of(config), Telemetry::default());
    let mut done = Ok(());
    while !foretold.is_done() {
        let before = host.metric_names().len();
        done = foretold.define(&Cx::new(host, &telemetry)).and(done);
        assert!(host.metric_names().len() - before <= AT_A_TIME);
    }
    done
}

fn named(names: &BTreeSet<String>, metric: &str) -> BTreeSet<String> {
    names.iter().filter_map(|name| name.strip_suffix(metric)).map(str::to_owned).collect()
}

fn expect<const N: usize>(names: &BTreeSet<String>, metric: &str, labels: [&str; N]) {
    assert_eq!(named(names, metric), labels.iter().map(|it| it.to_string()).collect(), "{metric}");
}

#[test]
fn each_policy_has_its_counters_and_no_other() {
    let host = MemoryHost::new();
    let names = foretell(SHOP, &host);
    expect(&names, "outrigger_config_rejected_total", [""]);
    assert_eq!(named(&names, "outrigger_host_errors_total").len(), CALLS.len());
    expect(
        &names,
        "outrigger_refusals_total",
        [
            "reason=.=limit/per-user;.;enforced=.=true;.;",
            "reason=.=limit/tried;.;enforced=.=false;.;",
            "reason=.=limit/flights;.;enforced=.=true;.;",
            "reason=.=switch/no-likes;.;enforced=.=true;.;",
            "reason=.=switch/rest;.;enforced=.=true;.;",
            "reason=.=switch/tried;.;enforced=.=false;.;",
            "reason=.=breaker/orders;.;enforced=.=true;.;",
            "reason=.=breaker/reviews;.;enforced=.=true;.;",
            "reason=.=deadline;.;enforced=.=true;.;",
        ],
    );
    expect(
        &names,
        "outrigger_breaker_transitions_total",
        [
            "breaker=.=orders;.;to=.=open;.;cause=.=consecutive_failures;.;",
            "breaker=.=orders;.;to=.=open;.;cause=.=failure_ratio;.;",
            "breaker=.=orders;.;to=.=open;.;cause=.=probe_failed;.;",
            "breaker=.=orders;.;to=.=open;.;cause=.=probe_lost;.;",
            "breaker=.=orders;.;to=.=half_open;.;cause=.=open_over;.;",
            "breaker=.=orders;.;to=.=ramp;.;cause=.=probes_succeeded;.;",
            "breaker=.=orders;.;to=.=closed;.;cause=.=ramp_over;.;",
            "breaker=.=reviews;.;to=.=open;.;cause=.=consecutive_failures;.;",
            "breaker=.=reviews;.;to=.=open;.;cause=.=probe_failed;.;",
            "breaker=.=reviews;.;to=.=open;.;cause=.=probe_lost;.;",
            "breaker=.=reviews;.;to=.=half_open;.;cause=.=open_over;.;",
            "breaker=.=reviews;.;to=.=ramp;.;cause=.=probes_succeeded;.;",
            "breaker=.=reviews;.;to=.=closed;.;cause=.=ramp_over;.;",
        ],
    );
    expect(
        &names,
        "outrigger_fallbacks_total",
        [
            "fallback=.=sorry;.;reason=.=limit/per-user;.;",
            "fallback=.=sorry;.;reason=.=switch/no-likes;.;",
            "fallback=.=sorry;.;reason=.=breaker/reviews;.;",
            "fallback=.=stale;.;reason=.=breaker/orders;.;",
            "fallback=.=empty;.;reason=.=breaker/orders;.;",
            "fallback=.=stale;.;reason=.=failure/orders;.;",
            "fallback=.=empty;.;reason=.=failure/orders;.;",
            "fallback=.=empty;.;reason=.=failure/reviews;.;",
        ],
    );
    expect(&names, "outrigger_holds_expired_total", ["limit=.=flights;.;"]);
    expect(
        &names,
        "outrigger_table_evictions_total",
        ["limit=.=per-user;.;kind=.=lossless;.;", "limit=.=per-user;.;kind=.=lossy;.;"],
    );
    let causes = Cause::ALL.map(|cause| format!("cause=.={};.;", cause.as_str()));
    assert_eq!(named(&names, "outrigger_stale_not_kept_total"), BTreeSet::from(causes));
    assert!(names.iter().all(|name| ALERTED.iter().any(|it| name.ends_with(it))), "nothing else: {names:?}");
    assert!(names.iter().all(|name| host.metric(name) == 0), "and all at 0");
}

#[test]
fn a_counter_that_cannot_be_defined_keeps_no_other_from_it() {
    let all = foretell(SHOP, &MemoryHost::new());
    let config = Config::parse(SHOP.as_bytes()).unwrap();
    for refused in &all {
        let host = MemoryHost::new();
        host.refuse_metric(refused);
        assert_eq!(define(&config, &host).unwrap_err().call, "define_metric");
        let mut defined: BTreeSet<String> = host.metric_names().into_iter().collect();
        assert!(defined.insert(refused.clone()));
        assert_eq!(defined, all);
    }
}

#[test]
fn an_empty_configuration_has_little_to_tell() {
    let names = foretell("{}", &MemoryHost::new());
    assert_eq!(names.len(), 1 + CALLS.len(), "{names:?}");
}

/// Rules times operations would be half a million.
#[test]
fn what_is_foretold_has_an_end() {
    let operations: Vec<String> =
        (0..1_000).map(|n| format!(r#"{{"name": "o{n}", "match": {{"paths": ["/o{n}"]}}}}"#)).collect();
    let rules = vec![r#"{"methods": ["GET"], "fallback": "sorry"}"#; 500];
    let document = format!(
        r#"{{"operations": [{}], "on_failure": [{}], "fallbacks": [{{"name": "sorry", "status": 503}}]}}"#,
        operations.join(","),
        rules.join(",")
    );
    let (config, host) = (Config::parse(document.as_bytes()).unwrap(), MemoryHost::new());
    let mut foretold = Foretold::of(&config);
    let mut turns = 0;
    while !foretold.is_done() {
        foretold.define(&Cx::new(&*host, &Telemetry::default())).unwrap();
        turns += 1;
    }
    assert_eq!(turns, MOST.div_ceil(AT_A_TIME));
    assert!(host.metric_names().iter().any(|name| name.contains("failure/other;")), "the first rule's are all there");
}

/// Whatever happens, it was foretold.
#[test]
fn no_alert_is_about_a_counter_that_was_not_there() {
    whatever_happens(SHOP);
}

/// Metrics of two filters are told apart by the scope, if there is one.
#[test]
fn all_that_a_filter_counts_carries_the_scope_that_is_configured() {
    let scoped = SHOP.replacen('{', r#"{ "scope": "inner", "retries": [{ "budget": { "min_per_second": 1 } }],"#, 1);
    for (document, scope) in [(SHOP, None), (scoped.as_str(), Some("scope=.=inner;.;"))] {
        let names = whatever_happens(document).metric_names();
        let all =
            ["outrigger_host_errors_total", "outrigger_shared_conflicts_total", "outrigger_config_rejected_total"];
        let (of_all, own): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| all.iter().any(|it| name.ends_with(it)));
        assert!(of_all.iter().all(|name| !name.contains("scope=")), "{of_all:?}");
        match scope {
            Some(scope) => assert!(own.iter().all(|name| name.starts_with(scope)), "{own:#?}"),
            None => assert!(own.iter().all(|name| !name.contains("scope=")), "{own:#?}"),
        }
        for metric in ["requests_total", "request_duration_milliseconds", "breaker_state"] {
            assert!(own.iter().any(|name| name.ends_with(metric)), "the test has seen {metric}");
        }
    }
}

fn whatever_happens(document: &str) -> Rc<MemoryHost> {
    let sidecar = Sidecar::new(document);
    let foretold = foretell(document, &sidecar.host);
    let mut random = Random::seeded(7);
    let mut open = Vec::new();
    let mut well = true;
    for turn in 0..20_000 {
        sidecar.host.advance(random.below(4) * MILLISECOND);
        if turn % 200 == 0 {
            well = !well;
        }
        let path = ["/orders", "/reviews", "/likes", "/"][random.below(4) as usize];
        let user = random.below(400).to_string();
        let mut headers = vec![(":path", path), ("x-user", user.as_str())];
        if random.below(50) == 0 {
            headers.push(("grpc-timeout", "0m"));
        }
        if let Ok(ticket) = sidecar.begin(&headers) {
            open.push(ticket);
        }
        if 6 < open.len() {
            let ticket = open.swap_remove(random.below(open.len() as u64) as usize);
            let status = if well { "200" } else { "503" };
            match random.below(20) {
                0 => sidecar.end(ticket),
                _ => drop(sidecar.answer_with_body(
                    ticket,
                    &[(":status", status), ("cache-control", "max-age=60")],
                    b"x",
                )),
            }
        }
        match random.below(2_000) {
            0 => sidecar.host.break_call("shared_set"),
            1..40 => sidecar.host.repair("shared_set"),
            40..80 => sidecar.tick(),
            _ => {}
        }
    }
    let happened = |name: &String| 0 < sidecar.host.metric(name);
    let names: BTreeSet<String> = sidecar.host.metric_names().into_iter().filter(happened).collect();
    for metric in &ALERTED[..6] {
        assert!(!named(&names, metric).is_empty(), "the test has seen {metric}");
    }
    let alerted = names.iter().filter(|name| ALERTED.iter().any(|it| name.ends_with(it)));
    let surprises: Vec<&String> = alerted.filter(|name| !foretold.contains(*name)).collect();
    assert!(surprises.is_empty(), "{surprises:#?}");
    Rc::clone(&sidecar.host)
}

/// What can go wrong is known when the module is built.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn every_call_that_may_fail_is_known() {
    let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut found = BTreeSet::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let before = ["call: \"", "failed(\"", "report(installed, \"", "host_errors_total(\""];
        for rest in before.iter().flat_map(|it| text.split(it).skip(1)) {
            found.insert(rest.split('"').next().unwrap().to_owned());
        }
    }
    for unsettled in [Unsettled::Normalize, Unsettled::MergeSlashes, Unsettled::EscapedSlashes] {
        found.insert(unsettled.setting().to_owned());
    }
    assert_eq!(found, CALLS.iter().map(|it| it.word.to_owned()).collect());
}
