//! Processor time per request.
//!
//! The load generator sends a burst to one Envoy after the other and the kernel says what each used. All Envoys run
//! all the time, and each round has an order of its own, so that what drifts, drifts for all alike.

use std::time::Duration;

use crate::bench::Proxy;
use crate::plan::Plan;

/// What remains to be done after the last answer: closing connections, and counting what they did.
const SETTLING: Duration = Duration::from_millis(5);

/// The bursts of one variant.
#[derive(Clone, Default)]
pub(crate) struct Cost {
    /// Nanoseconds per request, a number for each round.
    pub(crate) cpu_ns: Vec<f64>,
    /// The part of the time in which it ran, a number for each round.
    pub(crate) busy: Vec<f64>,
}

/// The costs of the proxies, in their order.
pub(crate) fn measure(proxies: &[Proxy], plan: &Plan) -> Vec<Cost> {
    for proxy in proxies {
        proxy.target().burst(plan.warm_up, plan.connections);
    }
    let mut costs = vec![Cost::default(); proxies.len()];
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut order: Vec<usize> = (0..proxies.len()).collect();
    for _ in 0..plan.rounds {
        random.shuffle(&mut order);
        for &place in &order {
            let (proxy, cost) = (&proxies[place], &mut costs[place]);
            let before = proxy.envoy.processor_time();
            let elapsed = proxy.target().burst(plan.burst, plan.connections);
            std::thread::sleep(SETTLING);
            let used = proxy.envoy.processor_time().saturating_sub(before);
            cost.cpu_ns.push((used.as_nanos() as f64 / f64::from(plan.burst)).round());
            cost.busy.push(used.as_secs_f64() / elapsed.as_secs_f64());
        }
    }
    costs
}
