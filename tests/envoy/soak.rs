//! Full load: with an update every two seconds nothing breaks, nothing leaks, and the rate stays what it was.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::load::{flood, steady};
use crate::rig::policy::{bucket, limits_by_path};
use crate::rig::turn::Turn;

const MIB: f64 = 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread")]
async fn leases_change_no_totals_at_twice_the_rate() {
    const TIME: Duration = Duration::from_secs(5);
    let turn = Turn::alone().await;
    let policy = limits_by_path(&[("metered", bucket(100, 1000, "1s"))]);
    let envoy = turn.start(Bootstrap::new(Listener::direct().quiet().filter(Filter::new(&policy)))).await;
    let clients = envoy.clients("/free").await;

    let tally = steady(&clients, "/metered", 2000, TIME).await;

    let offered = (tally.admitted + tally.refused) as f64 / tally.elapsed.as_secs_f64();
    assert!(offered > 1900.0, "no overload: {offered:.0} requests a second");
    let promised = 100.0 + 1000.0 * tally.elapsed.as_secs_f64();
    let ratio = tally.admitted as f64 / promised;
    assert!((0.97..=1.02).contains(&ratio), "{} admitted, {promised:.0} promised", tally.admitted);
}

/// The configuration of the soak: one limit that stays and does the work, one that changes with each second update.
fn policy(update: u32) -> Value {
    json!({
        "version": format!("soak-{update}"),
        "limits": [
            { "name": "steady", "token_bucket": bucket(50, 500, "1s") },
            { "name": "changing", "enforced": false, "token_bucket": bucket(1000 + update / 2, 100_000, "1s") },
            { "name": "per-user", "enforced": false, "key": ["header:x-user-id"], "token_bucket": bucket(9, 9, "1s") },
            { "name": "busy", "concurrency": { "max_in_flight": 1000 } },
        ],
    })
}

fn listener(update: u32) -> Listener {
    Listener::direct().quiet().filter(Filter::new(&policy(update)))
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_seconds_of_full_load_with_an_update_every_two_break_nothing() {
    const TIME: Duration = Duration::from_secs(30);
    const CONNECTIONS: usize = 32;
    let turn = Turn::alone().await;
    let bootstrap = Bootstrap::new(listener(0)).by_discovery().drain_within(Duration::from_secs(1));
    let envoy = turn.start(bootstrap).await;

    let load = tokio::spawn(flood(envoy.address(), CONNECTIONS, "/", TIME));
    let mut resident = Vec::new();
    for update in 1..15 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        resident.push(envoy.resident_memory() as f64 / MIB);
        envoy.publish(&[listener(update)]);
    }
    let flood = load.await.expect("the load does its work");
    resident.push(envoy.resident_memory() as f64 / MIB);

    let warm = resident.iter().skip(2).copied().next().expect("it is measured every two seconds");
    let grown = envoy.resident_memory() as f64 / MIB - warm;
    // After six seconds all that Envoy, its engine and the filter set up once is there. From then on there are hundreds of thousands of requests, hundreds of connections and a dozen configurations; a leak
    // of a few bytes in each request, or of a page of the machine's memory in each configuration, is more than this.
    assert!(grown < 2.0, "{grown:.2} MiB more after {warm:.2}: {resident:?}");

    let [admitted, refused] = [200, 429].map(|status| flood.statuses.get(&status).copied().unwrap_or_default());
    let total: usize = flood.statuses.values().sum();
    assert_eq!(admitted + refused, total, "other answers than 200 and 429: {:?}", flood.statuses);
    assert!(refused > 3 * admitted, "no full load: {admitted} admitted, {refused} refused");
    let promised = 50.0 + 500.0 * flood.elapsed.as_secs_f64();
    let ratio = admitted as f64 / promised;
    assert!((0.98..=1.02).contains(&ratio), "{admitted} admitted, {promised:.0} promised");

    envoy.expect_metric("envoy_listener_manager_listener_modified", &[], 14.0).await;
    assert!(flood.reconnects >= 14 * CONNECTIONS / 2, "{} connections saw an update", flood.reconnects);
    envoy.expect_metric("outrigger_config_info", &[("version", "soak-14")], 1.0).await;
    // Those before it are drained and gone.
    envoy.expect_metric("outrigger_config_info", &[], 1.0).await;
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
    envoy.expect_metric("outrigger_config_rejected_total", &[], 0.0).await;
    assert_eq!(envoy.vm_reloads().await, 0.0);
}
