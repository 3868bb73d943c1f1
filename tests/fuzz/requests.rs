//! Any requests, under any policies, with several workers.

use outrigger::host::End;

use crate::common::Random;
use crate::common::seeds::{seeds, shrink};
use crate::common::sidecar::SECOND;
use crate::policies::Policies;
use crate::proxy::Proxy;
use crate::steps::{Fields, Step, World, steps};

/// Seeds of a short run.
const RUNS: u64 = if cfg!(target_arch = "wasm32") { 20 } else { 30 };

/// Requests of each kind, [`PACE`] apart, to a service that works: after those a proxy is as good as new. The longest times of the
/// documents are a minute, and an open breaker's time at most doubles to 20 s.
const HEALING: u64 = 45;
const PACE: u64 = 10 * SECOND;

/// The longest that a request waits in a queue of the documents: eight places, a minute each.
const QUEUED: u64 = 8 * 60 * SECOND;

/// Longer than anything lasts: a bucket of eight is full after eight minutes.
const REST: u64 = 600 * SECOND;

/// Requests of each kind that are compared: more than any limit of a document lets pass at once.
pub const BURST: usize = 20;

/// One of every operation's, and of none's.
const KINDS: [(&str, &str); 4] = [("GET", "/read"), ("POST", "/write"), ("POST", "/shop.Orders/Get"), ("GET", "/")];

#[test]
fn whatever_comes_leaves_nothing_behind() {
    for seed in seeds("whatever_comes_leaves_nothing_behind", RUNS) {
        let mut random = Random::seeded(seed);
        let document = Policies(&mut random).document().to_string();
        let workers = 2 + random.below(3) as usize;
        let steps = steps(&mut random, 150, World::Sane);
        shrink(steps, |steps| {
            let mut proxy = Proxy::new(workers, seed, &document);
            proxy.run(steps);
            proxy.drain();
            // What a crashed worker held is free by now.
            if !steps.iter().any(|step| matches!(step, Step::Trap { .. })) {
                proxy.check_idle();
            }
            proxy.check_names();
            assert_good_as_new(proxy, last(&document, steps), BURST);
        });
    }
}

/// The document in use at the end.
pub fn last<'a>(document: &'a str, steps: &'a [Step]) -> &'a str {
    let reloads = steps.iter().rev().filter_map(|step| match step {
        Step::Reload { document } => Some(document.as_str()),
        _ => None,
    });
    reloads.into_iter().next().unwrap_or(document)
}

/// Panics unless the proxy decides about the first requests of a burst as one does that has just started.
pub fn assert_good_as_new(mut proxy: Proxy, document: &str, burst: usize) {
    for (method, path) in KINDS {
        for number in 0..HEALING {
            proxy.pass(PACE);
            proxy.ask(number as usize, &plain(method, path), End::Here);
            // A breaker hears of nothing that does not reach the service.
            if proxy.last_waits() {
                proxy.pass(QUEUED);
            }
            proxy.answer_last();
        }
    }
    let mut fresh = Proxy::new(proxy.workers(), 1, document);
    for (method, path) in KINDS {
        let decide = |proxy: &mut Proxy| -> Vec<(bool, Option<String>)> {
            proxy.drain();
            proxy.pass(REST);
            let ask = |number| {
                let refused = proxy.ask(number, &plain(method, path), End::Here);
                (proxy.last_waits(), refused)
            };
            (0..burst).map(ask).collect()
        };
        assert_eq!(decide(&mut proxy), decide(&mut fresh), "used and new, {method} {path} under {document}");
    }
}

fn plain(method: &str, path: &str) -> Fields {
    Fields::of(&[(":method", method), (":path", path), (":authority", "shop.example.com"), ("x-user", "zqsomebody")])
}
