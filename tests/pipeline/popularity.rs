//! Whose answers are kept when there is no room for all: those that are asked for, whatever a flood of made-up addresses asks.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use crate::common::Random;
use crate::common::sidecar::{SECOND, Sidecar};
use outrigger::degrade::stale::Cause;

const SHOP: &str = r#"{ "on_failure": [{ "stale": { "max_age": "10m" } }] }"#;
const GOOD: [(&str, &str); 2] = [(":status", "200"), ("cache-control", "public, max-age=60")];
const PAGES: u64 = 50;

/// Requests a second of the flood, and of all popular pages together.
const FLOOD: u64 = 245;
const POPULAR: u64 = 100;

fn ask(sidecar: &Sidecar, path: &str) {
    let ticket = sidecar.begin(&[(":path", path)]).unwrap();
    let _ = sidecar.answer_with_body(ticket, &GOOD, &[b'x'; 2_000]);
}

/// How many popular pages of the season are served when the service fails.
fn kept(workers: &[Sidecar], season: u64) -> u64 {
    let is_kept = |page: &u64| {
        let sidecar = &workers[*page as usize % workers.len()];
        let ticket = sidecar.begin(&[(":path", &format!("/popular/{season}/{page}"))]).unwrap();
        sidecar.replacement(ticket, &[(":status", "503")]).is_some()
    };
    (0..PAGES).filter(is_kept).count() as u64
}

/// Where requests go.
#[derive(Clone, Copy, Debug)]
enum Spread {
    /// Each to any worker.
    Even,
    /// The flood to the first worker, and what is popular to the others.
    Apart,
}

struct Flood {
    workers: Vec<Sidecar>,
    random: Random,
    spread: Spread,
    /// How often it asks for each address.
    times: u64,
    asked: u64,
}

impl Flood {
    fn new(workers: usize, spread: Spread, times: u64) -> Self {
        let random = Random::seeded(workers as u64 * 10 + times);
        Self { workers: Sidecar::several(workers, SHOP), random, spread, times, asked: 0 }
    }

    fn worker(&mut self, is_flood: bool) -> &Sidecar {
        let count = self.workers.len() as u64;
        let index = match (self.spread, is_flood) {
            (Spread::Even, _) => self.random.below(count),
            (Spread::Apart, true) => 0,
            (Spread::Apart, false) => 1 + self.random.below(count - 1),
        };
        &self.workers[index as usize]
    }

    /// Lets both ask for so many seconds.
    fn run(&mut self, seconds: u64, season: u64) {
        for _ in 0..seconds * (FLOOD + POPULAR) {
            self.workers[0].host.advance(SECOND / (FLOOD + POPULAR));
            if self.random.below(FLOOD + POPULAR) < POPULAR {
                let page = self.random.below(PAGES);
                ask(self.worker(false), &format!("/popular/{season}/{page}"));
            } else {
                let number = self.asked / self.times;
                self.asked += 1;
                ask(self.worker(true), &format!("/product/1?cb={number}"));
            }
        }
    }
}

#[test]
fn a_flood_of_addresses_that_are_asked_for_once_pushes_out_nothing_that_is_popular() {
    for workers in 2..=4 {
        for spread in [Spread::Even, Spread::Apart] {
            let mut flood = Flood::new(workers, spread, 1);
            flood.run(8, 0);
            let after = kept(&flood.workers, 0);
            assert!(48 <= after, "{workers} workers, {spread:?}: {after} of {PAGES} from a cold start");
            flood.run(60, 0);
            let after = kept(&flood.workers, 0);
            assert!(48 <= after, "{workers} workers, {spread:?}: {after} of {PAGES} a minute later");
            // Others have become popular.
            flood.run(10, 1);
            let after = kept(&flood.workers, 1);
            assert!(48 <= after, "{workers} workers, {spread:?}: {after} of the next {PAGES}");
        }
    }
}

#[test]
fn nor_does_one_that_asks_for_each_twice_or_three_times() {
    for times in [2, 3] {
        for spread in [Spread::Even, Spread::Apart] {
            let mut flood = Flood::new(2, spread, times);
            flood.run(20, 0);
            let after = kept(&flood.workers, 0);
            assert!(48 <= after, "{times} times, {spread:?}: {after} of {PAGES}");
        }
    }
}

/// What will not be admitted is known before its body comes, and mostly without a look at the index.
#[test]
fn what_is_not_admitted_costs_next_to_nothing() {
    let mut flood = Flood::new(2, Spread::Even, 1);
    flood.run(20, 0);
    let sidecar = &flood.workers[0];
    sidecar.host.take_calls();
    for number in 0..100 {
        ask(sidecar, &format!("/product/2?cb={number}"));
    }
    let calls = sidecar.host.take_calls();
    assert_eq!(calls.get("response_body"), None, "{calls:?}");
    assert!(calls.get("shared_get").is_none_or(|it| *it <= 2), "{calls:?}");
    assert_eq!(calls.get("shared_set"), None, "{calls:?}");
    let name = format!("cause=.={};.;outrigger_stale_not_kept_total", Cause::NotAdmitted.as_str());
    assert!(100 <= sidecar.host.metric(&name));
}

/// Of large answers and small ones in a small budget, what is kept is asked for more than what it takes the place of.
#[test]
fn a_large_answer_does_not_push_out_several_small_ones_that_are_asked_for_as_often() {
    let document = r#"{ "on_failure": [{ "stale": { "max_age": "10m", "max_bytes": 40000 } }] }"#;
    let sidecar = Sidecar::new(document);
    let ask = |path: &str, size: usize| {
        let ticket = sidecar.begin(&[(":path", path)]).unwrap();
        let length = size.to_string();
        let response = [GOOD[0], GOOD[1], ("content-length", length.as_str())];
        let _ = sidecar.answer_with_body(ticket, &response, &vec![b'x'; size]);
    };
    let is_kept = |path: &str| {
        let ticket = sidecar.begin(&[(":path", path)]).unwrap();
        sidecar.replacement(ticket, &[(":status", "503")]).is_some()
    };
    let small: Vec<String> = (0..13).map(|page| format!("/small/{page}")).collect();
    for _ in 0..4 {
        small.iter().for_each(|path| ask(path, 2_900));
    }
    let ask_large = || {
        sidecar.host.advance(SECOND + 1);
        ask("/large", 8_900);
    };
    for turn in 1..=12 {
        ask_large();
        assert!(!is_kept("/large"), "asked for {turn} times, against three that were asked for four times each");
    }
    assert!(small.iter().all(|path| is_kept(path)));
    ask_large();
    assert!(is_kept("/large"), "it has overtaken them together");
    assert_eq!(small.iter().filter(|path| is_kept(path)).count(), 10);
}

/// However many small answers it takes the place of: each of them was asked for once or twice, and it is asked for all the time.
#[test]
fn a_large_answer_in_demand_pushes_out_any_number_that_are_not() {
    for times in [1, 2] {
        let sidecar = Sidecar::new(r#"{ "on_failure": [{ "stale": { "max_age": "1h" } }] }"#);
        let ask = |path: &str, size: usize| {
            let ticket = sidecar.begin(&[(":path", path)]).unwrap();
            let length = size.to_string();
            let response = [GOOD[0], GOOD[1], ("content-length", length.as_str())];
            let _ = sidecar.answer_with_body(ticket, &response, &vec![b'x'; size]);
            sidecar.host.advance(SECOND / 100);
        };
        for _ in 0..times {
            (0..360).for_each(|number| ask(&format!("/p?cb={number}"), 4_000));
        }
        (0..800).for_each(|_| ask("/home", 200_000));
        let ticket = sidecar.begin(&[(":path", "/home")]).unwrap();
        assert!(
            sidecar.replacement(ticket, &[(":status", "503")]).is_some(),
            "after addresses asked for {times} times"
        );
    }
}

/// What an earlier release of the module has written, and still uses until it has drained, stays as it is.
#[test]
fn the_records_of_another_layout_are_left_alone() {
    let sidecar = Sidecar::new(SHOP);
    let earlier = ["outrigger/test/stale/0/index", "outrigger/test/stale/0/0"];
    earlier.iter().for_each(|key| sidecar.host.put_record(key, b"\x02 of a release before"));
    ask(&sidecar, "/a");
    sidecar.host.advance(20 * SECOND);
    ask(&sidecar, "/a");
    let ticket = sidecar.begin(&[(":path", "/a")]).unwrap();
    assert!(sidecar.replacement(ticket, &[(":status", "503")]).is_some());
    let write = sidecar.begin(&[(":path", "/a"), (":method", "DELETE")]).unwrap();
    sidecar.answer(write);
    for key in earlier {
        assert_eq!(sidecar.host.record(key).unwrap(), b"\x02 of a release before", "{key}");
    }
    let keys = sidecar.host.record_keys();
    assert!(keys.iter().any(|key| key.starts_with("outrigger/test/stale/0/v3/")), "{keys:?}");
}
