//! A flood of keys: the memory of the filter is fixed by its configuration, and the flood hides no abuser.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::bucket;
use crate::rig::turn::Turn;
use crate::rig::wire::Wire;

const CONNECTIONS: usize = 32;
/// Of 220 000 requests every eleventh is the abuser's, which leaves 200 000 for others.
const REQUESTS: usize = 220_000;
const ABUSE: usize = 11;
const ABUSER: &str = "the-abuser";
const MIB: u64 = 1024 * 1024;

/// What a flood left behind.
struct Aftermath {
    resident: u64,
    abuser_admitted: usize,
    /// What the limit allows the abuser over the time between its first and last request.
    abuser_allowed: f64,
    evictions: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_keys_cost_no_more_memory_than_one_and_hide_no_abuser() {
    let turn = Turn::alone().await;

    let one = flood(&turn, |_| ABUSER.to_owned()).await;
    let many =
        flood(&turn, |number| if number % ABUSE == 0 { ABUSER.to_owned() } else { format!("user-{number:07}") }).await;

    let limit = one.resident + 5 * MIB;
    assert!(many.resident <= limit, "{} KiB with one key, {} KiB with many", one.resident / 1024, many.resident / 1024);
    assert!(many.evictions > 100_000.0, "the table did not overflow: {} evictions", many.evictions);
    assert_eq!(one.evictions, 0.0);
    for aftermath in [one, many] {
        let ratio = aftermath.abuser_admitted as f64 / aftermath.abuser_allowed;
        let Aftermath { abuser_admitted, abuser_allowed, .. } = aftermath;
        assert!((0.99..=1.01).contains(&ratio), "{abuser_admitted} admitted, {abuser_allowed:.1} allowed");
    }
}

/// Sends all requests, the key of each by its number, as fast as Envoy answers them.
async fn flood(turn: &Turn, key: impl Fn(usize) -> String + Copy + Send + 'static) -> Aftermath {
    let policy = json!({
        "limits": [{ "name": "per-user", "key": ["header:x-user-id"], "max_keys": 4096,
                     "token_bucket": bucket(20, 100, "1s") }],
    });
    let envoy = turn.start(Bootstrap::new(Listener::direct().quiet().filter(Filter::new(&policy)))).await;
    let mut callers = Vec::new();
    for (place, wire) in envoy.wires(CONNECTIONS).await.into_iter().enumerate() {
        callers.push(tokio::spawn(call(wire, place, key)));
    }
    let mut abuse = Vec::new();
    for caller in callers {
        abuse.extend(caller.await.expect("a caller does its work"));
    }
    let sent = abuse.iter().map(|(at, _)| *at);
    let elapsed: Duration = sent.clone().max().expect("abuse") - sent.min().expect("abuse");
    Aftermath {
        resident: envoy.resident_memory(),
        abuser_admitted: abuse.iter().filter(|(_, admitted)| *admitted).count(),
        abuser_allowed: 20.0 + 100.0 * elapsed.as_secs_f64(),
        evictions: envoy.metric("outrigger_table_evictions_total", &[]).await,
    }
}

/// One connection's share of the flood: of each request of the abuser, when it was sent and whether it was admitted.
async fn call(mut wire: Wire, place: usize, key: impl Fn(usize) -> String) -> Vec<(Instant, bool)> {
    let mut abuse = Vec::new();
    for number in (place..REQUESTS).step_by(CONNECTIONS) {
        let (key, sent) = (key(number), Instant::now());
        let status = wire.get("/", format!("x-user-id: {key}\r\n")).await.status;
        if key == ABUSER {
            assert!([200, 429].contains(&status), "{status}");
            abuse.push((sent, status == 200));
        } else {
            assert_eq!(status, 200, "{key} asks once only");
        }
    }
    abuse
}
