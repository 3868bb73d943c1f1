//! One run: all that is measured, in order.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::core::{ENVOYS, LOADER};
use crate::cost::{self, Cost};
use crate::latency::{self, Latency};
use crate::load::Target;
use crate::plan::Plan;
use crate::results::{Measured, Module, Results};
use crate::rig::bootstrap::Bootstrap;
use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::Envoy;
use crate::rig::tool;
use crate::statistics::median;
use crate::upstream::Upstream;
use crate::variant::{self, Status, Variant};
use crate::{instructions, machine, memory, startup};

/// How often Envoys flush their statistics: seldom, since that is no request's cost.
const STATS_FLUSH: Duration = Duration::from_secs(60);

/// A running Envoy of a variant.
pub(crate) struct Proxy {
    pub(crate) envoy: Envoy,
    status: Status,
}

impl Proxy {
    /// Starts one, ready to be measured.
    pub(crate) async fn start(variant: &Variant, cluster: Cluster, workers: usize) -> Self {
        let bootstrap = Bootstrap::new(variant.listener(cluster)).concurrency(workers);
        start_proxy(bootstrap, variant.status).await
    }

    pub(crate) fn target(&self) -> Target {
        Target { address: self.envoy.address(), status: self.status }
    }
}

/// Starts one that answers so.
pub(crate) async fn start_proxy(bootstrap: Bootstrap, status: Status) -> Proxy {
    let proxy = Proxy { envoy: start(bootstrap).await, status };
    if status == Status::Refused {
        // The only request of the hour.
        proxy.envoy.client().get("/").await;
    }
    proxy
}

/// Starts an Envoy on the core of the Envoys.
pub(crate) async fn start(bootstrap: Bootstrap) -> Envoy {
    ENVOYS.take();
    let envoy = Envoy::start(bootstrap.flush_every(STATS_FLUSH)).await;
    LOADER.take();
    envoy
}

/// Does what is planned.
pub(crate) async fn run(plan: Plan) -> Results {
    let begin = Instant::now();
    let machine = machine::describe();
    LOADER.take();
    let cluster = Upstream::start().cluster();
    let variants = variant::all();
    let mut proxies = Vec::new();
    for variant in &variants {
        proxies.push(Proxy::start(variant, cluster.clone(), 1).await);
    }
    say(begin, "CPU per request");
    let costs = cost::measure(&proxies, &plan);
    say(begin, "latency");
    let latencies = latency::measure(&proxies, &plan);
    let measured = variants.iter().zip(&proxies).zip(costs.into_iter().zip(latencies));
    let measured = measured.map(|((variant, proxy), (cost, latency))| measured_of(variant, proxy, cost, latency));
    let measured = measured.collect();
    drop(proxies);
    say(begin, "instructions per request");
    let instructions = instructions::measure(&cluster, &plan).await;
    say(begin, "memory");
    let workers = memory::measure(&cluster, &plan).await;
    say(begin, "start-up");
    let starts = startup::measure(&cluster, &plan).await;
    let modules = vec![module(variant::EMPTY, &variant::empty_module()), module("Outrigger", &tool::module())];
    let run_seconds = begin.elapsed().as_secs();
    Results { machine, plan, run_seconds, variants: measured, instructions, workers, starts, modules }
}

fn measured_of(variant: &Variant, proxy: &Proxy, cost: Cost, latency: Latency) -> Measured {
    Measured {
        name: variant.name.to_owned(),
        shows: variant.shows.to_owned(),
        busy: (median(&cost.busy) * 100.0).round() / 100.0,
        cpu_ns: cost.cpu_ns,
        p50_us: latency.p50_us,
        p99_us: latency.p99_us,
        resident_kib: proxy.envoy.resident_memory() / 1024,
    }
}

fn module(name: &str, path: &Path) -> Module {
    let bytes = path.metadata().expect("a module is a file").len();
    Module { name: name.to_owned(), bytes }
}

fn say(begin: Instant, step: &str) {
    eprintln!("bench: {step} (after {} s)", begin.elapsed().as_secs());
}
