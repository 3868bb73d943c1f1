//! How long requests take when the proxy has little to do.

use std::time::Duration;

use crate::bench::Proxy;
use crate::plan::Plan;
use crate::statistics::quantile;

/// The quantiles of one variant in microseconds, a number for each round.
#[derive(Clone, Default)]
pub(crate) struct Latency {
    pub(crate) p50_us: Vec<f64>,
    pub(crate) p99_us: Vec<f64>,
}

/// The latencies of the proxies, in their order. One after the other is asked, in an order that each round has anew.
pub(crate) fn measure(proxies: &[Proxy], plan: &Plan) -> Vec<Latency> {
    let mut latencies = vec![Latency::default(); proxies.len()];
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut order: Vec<usize> = (0..proxies.len()).collect();
    for _ in 0..plan.latency_rounds {
        random.shuffle(&mut order);
        for &place in &order {
            let (target, latency) = (proxies[place].target(), &mut latencies[place]);
            let times = target.paced(plan.latency_requests, plan.latency_connections, plan.latency_rate);
            let micros: Vec<f64> = times.iter().map(Duration::as_secs_f64).map(|seconds| seconds * 1e6).collect();
            latency.p50_us.push(quantile(&micros, 0.5).round());
            latency.p99_us.push(quantile(&micros, 0.99).round());
        }
    }
    latencies
}
