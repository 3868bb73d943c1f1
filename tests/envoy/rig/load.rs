//! Many requests at a set pace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::rig::client::Client;
use crate::rig::wire::Wire;

/// What became of the requests of one load.
pub(crate) struct Tally {
    pub(crate) admitted: usize,
    pub(crate) refused: usize,
    /// From just before the first request was sent until just before the last was.
    pub(crate) elapsed: Duration,
}

/// Sends `rate` requests a second for `duration`, spread over the clients, and sorts the answers into 200 and 429.
///
/// Each client keeps to its own beat; one that falls behind catches up, so that the rate holds.
pub(crate) async fn steady(clients: &[Client], path: &str, rate: u32, duration: Duration) -> Tally {
    let beat = Duration::from_secs(1) / rate;
    let start = Instant::now() + Duration::from_millis(20);
    let callers: Vec<_> = (0u32..)
        .zip(clients)
        .map(|(place, client)| {
            let (client, path) = (client.clone(), path.to_owned());
            let period = beat * u32::try_from(clients.len()).expect("not that many clients");
            tokio::spawn(async move { call(&client, &path, start + beat * place, period, start + duration).await })
        })
        .collect();
    let mut statuses = Vec::new();
    let mut sent = Vec::new();
    for caller in callers {
        let (caller_statuses, caller_sent) = caller.await.expect("a caller does its work");
        statuses.extend(caller_statuses);
        sent.extend(caller_sent);
    }
    let count = |status| statuses.iter().filter(|&&seen| seen == status).count();
    let (admitted, refused) = (count(200), count(429));
    assert_eq!(admitted + refused, statuses.len(), "other answers than 200 and 429");
    let (first, last) = (sent.iter().min().expect("a load"), sent.iter().max().expect("a load"));
    Tally { admitted, refused, elapsed: *last - *first }
}

async fn call(client: &Client, path: &str, start: Instant, period: Duration, end: Instant) -> (Vec<u16>, Vec<Instant>) {
    let mut beat = interval_at(start, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut statuses, mut sent) = (Vec::new(), Vec::new());
    while beat.tick().await < end {
        sent.push(Instant::now());
        statuses.push(client.get(path).await.status);
    }
    (statuses, sent)
}

/// What became of a load without pauses.
pub(crate) struct Flood {
    /// How many replies had each status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// From just before the first request was sent until the last reply was there.
    pub(crate) elapsed: Duration,
    /// How often Envoy asked for a new connection, as it does when a listener is replaced.
    pub(crate) reconnects: usize,
}

/// Sends one request after the other over each of so many connections. Whatever goes wrong with one fails the test.
pub(crate) async fn flood(address: SocketAddr, connections: usize, path: &'static str, duration: Duration) -> Flood {
    let start = Instant::now();
    let callers: Vec<_> =
        (0..connections).map(|_| tokio::spawn(call_without_pause(address, path, start + duration))).collect();
    let mut flood = Flood { statuses: BTreeMap::new(), elapsed: Duration::ZERO, reconnects: 0 };
    for caller in callers {
        let (statuses, reconnects) = caller.await.expect("a caller does its work");
        for (status, count) in statuses {
            *flood.statuses.entry(status).or_default() += count;
        }
        flood.reconnects += reconnects;
    }
    flood.elapsed = start.elapsed();
    flood
}

async fn call_without_pause(address: SocketAddr, path: &str, end: Instant) -> (BTreeMap<u16, usize>, usize) {
    let mut wire = Wire::connect(address).await;
    let (mut statuses, mut reconnects) = (BTreeMap::new(), 0);
    while Instant::now() < end {
        let reply = wire.get(path, "").await;
        *statuses.entry(reply.status).or_default() += 1;
        if reply.header("connection") == Some("close") {
            wire = Wire::connect(address).await;
            reconnects += 1;
        }
    }
    (statuses, reconnects)
}
