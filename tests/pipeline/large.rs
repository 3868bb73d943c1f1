//! What is configured in thousands is put to work in a time in proportion to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test may panic, and times work by the clock"
)]

use std::time::{Duration, Instant};

use outrigger::config::Config;
use outrigger::config::foretold::Foretold;
use outrigger::filter::Filter;
use outrigger::host::End;
use outrigger::worker::Worker;

use crate::common::MemoryHost;
use crate::common::sidecar::Sidecar;

/// As many limits as operations, in four tiers. `selection` says which operations the limit with the number is for.
fn document(size: usize, selection: &dyn Fn(usize) -> String) -> String {
    let operations: Vec<String> = (0..size)
        .map(|n| format!(r#"{{"name": "o{n}", "tier": "P{}", "match": {{"paths": ["/o{n}/{{*}}"]}}}}"#, n % 4))
        .collect();
    let bucket = r#""token_bucket": {"max_tokens": 100, "tokens_per_fill": 100, "fill_interval": "1s"}"#;
    let limits: Vec<String> = (0..size).map(|n| format!(r#"{{"name": "l{n}", {}{bucket}}}"#, selection(n))).collect();
    format!(r#"{{"operations": [{}], "limits": [{}]}}"#, operations.join(","), limits.join(","))
}

/// From a configuration to the first answer: parameters announced, put to work, counters foretold, a request decided.
fn time_to_first_answer(config: &Config) -> Duration {
    let host = MemoryHost::new();
    host.set_request(&[(":path", "/o7/1"), (":method", "GET")]);
    let worker = Worker::default();
    let start = Instant::now();
    for scope in ["inbound", "outbound", "unspecified"] {
        Filter::announce(config, scope, &worker);
    }
    let filter = Filter::new(config, "inbound", &worker);
    let mut foretold = Foretold::of(config);
    foretold.define(&worker.cx(&*host)).unwrap();
    let (_, ticket) = filter.on_request(&*host, &worker, End::Here);
    let took = start.elapsed();
    filter.on_done(&*host, &worker, ticket);
    took
}

#[test]
fn four_times_as_much_takes_far_less_than_sixteen_times_as_long() {
    let ways: [(&str, &dyn Fn(usize) -> String); 3] = [
        ("all", &|_| String::new()),
        ("tier", &|n| format!(r#""tiers": ["P{}"], "#, n % 4)),
        ("name", &|n| format!(r#""operations": ["o{n}", "o{}"], "#, n / 2)),
    ];
    for (way, selection) in ways {
        let [less, more] = [1_000, 4_000].map(|size| {
            let config = Config::parse(document(size, selection).as_bytes()).unwrap();
            (0..5).map(|_| time_to_first_answer(&config)).min().unwrap()
        });
        // Squared it would be sixteen times; caches and a busy machine take some.
        assert!(more < less * 12, "{way}: {less:?}, {more:?}");
        println!("{way}: {less:?}, {more:?}");
    }
}

/// Two machines of a proxy take up a configuration of so many breakers and say some times that they are there; one gives it up.
fn time_of_beats(size: usize) -> Duration {
    let breakers: Vec<String> =
        (0..size).map(|n| format!(r#"{{"name": "b{n}", "trip": {{"consecutive_failures": 5}}}}"#)).collect();
    let config = Config::parse(format!(r#"{{"breakers": [{}]}}"#, breakers.join(",")).as_bytes()).unwrap();
    let host = MemoryHost::new();
    let workers = [Worker::default(), Worker::default()];
    let start = Instant::now();
    workers.iter().for_each(|worker| worker.in_use.take_up(config.gauges()));
    for _ in 0..3 {
        host.advance(2_000_000_001);
        for worker in &workers {
            worker.in_use.show(&worker.cx(&*host));
        }
    }
    workers[0].in_use.give_up(&workers[0].cx(&*host), config.gauges());
    start.elapsed()
}

#[test]
fn what_is_in_use_is_told_in_a_time_in_proportion_to_it() {
    let [less, more] = [1_000, 4_000].map(|size| (0..5).map(|_| time_of_beats(size)).min().unwrap());
    println!("{less:?}, {more:?}");
    assert!(more < less * 12, "{less:?}, {more:?}");
}

/// Limits of the tier and limits of the name are asked in the document's order, those that only count after all others.
#[test]
fn limits_by_tier_and_by_name_are_asked_in_one_order() {
    let limit = |name: &str, rest: &str| {
        let bucket = r#""token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h"}"#;
        format!(r#"{{"name": "{name}", {rest}, {bucket}}}"#)
    };
    let ways = [r#""tiers": ["P1", "P2"]"#, r#""operations": ["a"]"#, r#""methods": ["GET"]"#];
    for first in ways {
        for second in ways {
            let limits =
                [limit("shadow", &format!(r#""enforced": false, {first}"#)), limit("one", second), limit("two", first)];
            let operations = r#"[{"name": "a", "match": {"paths": ["/a"]}}]"#;
            let document = format!(r#"{{"operations": {operations}, "limits": [{}]}}"#, limits.join(","));
            let sidecar = Sidecar::new(&document);
            let headers = [(":method", "GET"), (":path", "/a")];
            sidecar.end(sidecar.begin(&headers).unwrap());
            let reply = sidecar.begin(&headers).unwrap_err();
            let reason = reply.headers.iter().find(|(name, _)| name == "x-outrigger-reason").unwrap();
            assert_eq!(reason.1, "limit/one", "{document}");
            let counted = |name: &str| sidecar.host.metric(&format!("reason=.=limit/{name}outrigger_refusals_total"));
            assert_eq!(counted("shadow;.;enforced=.=false;.;"), 0, "what is refused is not counted in shadow");
        }
    }
}
