//! Proxies that fail and lie, records that are garbage, and clocks that jump.

use outrigger::host::End;

use crate::common::Random;
use crate::common::seeds::{seeds, shrink};
use crate::fickle::Faults;
use crate::policies::Policies;
use crate::proxy::Proxy;
use crate::requests::{BURST, assert_good_as_new, last};
use crate::steps::{Fields, World, steps};

/// Seeds of a short run.
const RUNS: u64 = if cfg!(target_arch = "wasm32") { 20 } else { 30 };

/// Nothing panics and no callback calls without end, however the proxy lies; troubles are counted; and once the proxy is sane, it
/// admits within minutes what a new one does.
#[test]
fn a_proxy_that_lies_is_survived_and_healed_from() {
    for seed in seeds("a_proxy_that_lies_is_survived_and_healed_from", RUNS) {
        let mut random = Random::seeded(seed);
        let document = Policies(&mut random).document().to_string();
        let mut percent = |most: u64| if random.below(2) == 0 { random.below(most + 1) } else { 0 };
        let faults =
            Faults { failing: percent(100), lying: percent(60), jumping: percent(60), constant: percent(1) == 1 };
        let workers = 2 + random.below(3) as usize;
        let steps = steps(&mut random, 120, World::Mad);
        shrink(steps, |steps| {
            let mut proxy = Proxy::new(workers, seed, &document);
            proxy.host.memory.take_any_metric();
            proxy.host.faults.set(faults);
            proxy.run(steps);
            let failed = proxy.host.failed();
            proxy.host.faults.set(Faults::default());
            // By minutes back and forth the clock goes on from where it was left.
            proxy.host.memory.set_now(1 << 50);
            proxy.drain();
            proxy.check_names();
            // A worker that crashed and metrics that fail take counts with them.
            if 200 < failed && faults.failing < 50 {
                assert!(0 < proxy.troubles(), "{failed} calls failed and none was counted");
            }
            // Workers that drew the same number are one to limits, for as long as they live.
            let burst = if faults.constant { 1 } else { BURST };
            assert_good_as_new(proxy, last(&document, steps), burst);
        });
    }
}

/// While nothing that is shared can be read or written, limits do what they were told to do then.
#[test]
fn a_limit_without_its_record_does_what_it_was_told_to() {
    for seed in seeds("a_limit_without_its_record_does_what_it_was_told_to", RUNS) {
        let mut random = Random::seeded(seed);
        let mut document = Policies(&mut random).document();
        let mode = if random.below(2) == 0 { "allow" } else { "deny" };
        document["switches"] = serde_json::json!([]);
        for limit in document["limits"].as_array_mut().into_iter().flatten() {
            limit["failure_mode"] = mode.into();
            limit["enforced"] = true.into();
            limit
                .as_object_mut()
                .unwrap()
                .retain(|field, _| !["operations", "tiers", "methods", "missing"].contains(&field.as_str()));
        }
        let limits = document["limits"].as_array().map_or(0, Vec::len);
        let mut proxy = Proxy::new(2, seed, &document.to_string());
        proxy.host.memory.break_call("shared_get");
        proxy.host.memory.break_call("shared_set");
        let request = Fields::of(&[(":method", "GET"), (":path", "/"), (":authority", "zq"), ("x-user", "zq")]);
        for worker in 0..8 {
            let refused = proxy.ask(worker, &request, End::Here);
            let by_limit = refused.as_deref().is_some_and(|it| it.starts_with("limit/") || it.is_empty());
            assert_eq!(by_limit, mode == "deny" && 0 < limits, "{refused:?} under {document}");
        }
        assert!(limits == 0 || 0 < proxy.troubles(), "trouble is counted");
        proxy.drain();
    }
}
