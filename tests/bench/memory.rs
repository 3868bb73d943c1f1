//! What a worker's virtual machine takes: the memory of proxies with one and with four workers that have all served.

use crate::bench::Proxy;
use crate::plan::Plan;
use crate::results::Workers;
use crate::rig::cluster::Cluster;
use crate::variant::{self, EMPTY, NONE, REFERENCE, Variant};

/// For no filter, the empty one and the reference policy.
pub(crate) async fn measure(cluster: &Cluster, plan: &Plan) -> Vec<Workers> {
    let mut all = Vec::new();
    for variant in variant::all().iter().filter(|variant| [NONE, EMPTY, REFERENCE].contains(&variant.name)) {
        let mut workers = Workers { name: variant.name.to_owned(), one_kib: Vec::new(), four_kib: Vec::new() };
        for _ in 0..plan.repetitions {
            workers.one_kib.push(resident(variant, cluster, plan, 1).await);
            workers.four_kib.push(resident(variant, cluster, plan, 4).await);
        }
        all.push(workers);
    }
    all
}

/// Of a new proxy, in KiB, after each worker has served as many requests as before the other measurements.
pub(crate) async fn resident(variant: &Variant, cluster: &Cluster, plan: &Plan, workers: u32) -> f64 {
    let proxy = Proxy::start(variant, cluster.clone(), workers as usize).await;
    proxy.target().burst(workers * plan.warm_up, workers * plan.connections);
    (proxy.envoy.resident_memory() / 1024) as f64
}
