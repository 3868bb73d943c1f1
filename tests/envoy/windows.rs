//! Windows: never more than so many requests in any interval, wherever it is laid, to each key its own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::crowd::{Crowd, count};
use crate::rig::envoy_process::eventually;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::upstream::{Arrival, Upstream};
use crate::rig::wire::request;

const MOST: usize = 20;
const INTERVAL: Duration = Duration::from_secs(2);
/// How much longer one request may take from the filter's decision to the upstream than another: two of a busy machine's
/// time slices.
const JITTER: Duration = Duration::from_millis(20);

/// So many requests for `/counted` per interval, together or per user. Other paths are free.
fn window(version: &str, key: Option<&str>) -> Value {
    let mut policy = json!({
        "version": version,
        "operations": [{ "name": "counted", "match": { "paths": ["/counted"] } }],
        "limits": [{ "name": "window", "operations": ["counted"],
                     "window": { "max_requests": MOST, "interval": "2s" } }],
    });
    if let Some(key) = key {
        policy["limits"][0]["key"] = json!([key]);
    }
    policy
}

/// Asserts that no interval saw more than it may.
fn assert_bounded<'a>(arrivals: impl Iterator<Item = &'a Arrival>, whose: &str) {
    let instants: Vec<_> = arrivals.map(|arrival| arrival.at).collect();
    for one_too_many in instants.windows(MOST + 1) {
        let elapsed = one_too_many[MOST] - one_too_many[0];
        assert!(INTERVAL <= elapsed + JITTER, "{whose}: {} requests in {elapsed:?}", MOST + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_interval_ever_sees_more_than_the_limit_under_ten_times_the_load() {
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&window("one", None)));
    let envoy = turn.start(Bootstrap::new(listener)).await;
    let crowd = Crowd::at(&envoy, 16).await;

    let exchanges = crowd.steady(100, Duration::from_millis(6800), |_| request("/counted", "")).await;

    let arrivals = upstream.arrivals("/counted");
    assert_eq!(arrivals.len(), count(&exchanges, 200));
    assert_eq!(exchanges.len() - arrivals.len(), count(&exchanges, 429), "other answers than 200 and 429");
    assert_bounded(arrivals.iter(), "all");
    // A request counts for up to a tenth of the interval longer than the interval: at 0 s, 2.2 s, 4.4 s and 6.6 s.
    assert!((4 * MOST - 2..=4 * MOST).contains(&arrivals.len()), "{} admitted", arrivals.len());
    for exchange in exchanges.iter().filter(|exchange| exchange.reply.status == 429) {
        let reply = &exchange.reply;
        assert_eq!(reply.header("x-outrigger-reason"), Some("limit/window"));
        assert_eq!(reply.header("ratelimit-policy"), Some("\"window\";q=20;w=2"));
        let wait: u64 = reply.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time to come back");
        assert!((1..=3).contains(&wait), "{wait} s");
    }
    envoy.expect_metric("outrigger_host_errors_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_has_a_window_of_its_own_that_an_update_does_not_open_again() {
    const USERS: usize = 5;
    let turn = Turn::alone().await;
    let upstream = Upstream::start().await;
    let listener = |version: &str| {
        Listener::to(upstream.cluster()).filter(Filter::new(&window(version, Some("header:x-user-id"))))
    };
    let envoy = turn.start(Bootstrap::new(listener("one")).by_discovery().drain_within(Duration::from_secs(1))).await;
    let crowd = Crowd::at(&envoy, 16).await;

    // Each user asks forty times a second, over both workers, and the configuration changes in the middle of an interval.
    let load = crowd.steady(200, Duration::from_millis(4200), |number| {
        request("/counted", format!("x-user-id: user-{}\r\nx-number: {number}\r\n", number % USERS))
    });
    let update = async {
        tokio::time::sleep(Duration::from_millis(1300)).await;
        envoy.publish(&[listener("two")]);
        eventually("the new configuration is in use", async || {
            (envoy.metric("outrigger_config_info", &[("version", "two")]).await == 1.0).then_some(())
        })
        .await;
    };
    let (exchanges, ()) = tokio::join!(load, update);

    assert_eq!(count(&exchanges, 200) + count(&exchanges, 429), exchanges.len(), "other answers than 200 and 429");
    let mut by_user: BTreeMap<usize, Vec<Arrival>> = BTreeMap::new();
    for arrival in upstream.arrivals("/counted") {
        by_user.entry(arrival.number.expect("a number") % USERS).or_default().push(arrival);
    }
    assert_eq!(by_user.len(), USERS);
    for (user, arrivals) in &by_user {
        assert_bounded(arrivals.iter(), &format!("user {user}"));
        assert!((2 * MOST - 2..=2 * MOST).contains(&arrivals.len()), "{} of user {user}", arrivals.len());
    }
    assert_eq!(envoy.vm_reloads().await, 0.0);
}
