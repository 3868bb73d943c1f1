//! A document of thousands of operations and limits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::supply;
use crate::rig::turn::Turn;

/// So many of both, in four tiers; `selection` says which operations the limit with the number is for.
fn policy(operations: usize, limits: usize, selection: &dyn Fn(usize) -> Value) -> Value {
    let operation = |n| json!({ "name": format!("o{n}"), "tier": format!("P{}", n % 4), "match": { "paths": [format!("/o{n}/{{*}}")] } });
    let limit = |n| {
        let mut limit = selection(n);
        limit["name"] = json!(format!("l{n}"));
        limit["token_bucket"] = supply(10);
        limit
    };
    json!({
        "operations": (0..operations).map(operation).collect::<Vec<Value>>(),
        "limits": (0..limits).map(limit).collect::<Vec<Value>>(),
    })
}

/// From the start of the proxy to the first answer.
async fn first_answer(turn: &Turn, policy: &Value) -> Duration {
    let start = Instant::now();
    let envoy = turn.start(Bootstrap::new(Listener::direct().filter(Filter::new(policy)))).await;
    assert_eq!(envoy.client().get("/o7/1").await.status, 200);
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_operations_and_limits_are_up_soon() {
    let turn = Turn::alone().await;
    let empty = first_answer(&turn, &json!({})).await;
    let by_tier = policy(5_000, 5_000, &|n| json!({ "tiers": [format!("P{}", n % 4)] }));
    let by_name = policy(5_000, 5_000, &|n| json!({ "operations": [format!("o{n}")] }));
    let of_all = policy(5_000, 5_000, &|_| json!({}));
    for (way, policy) in [("tier", by_tier), ("name", by_name), ("all", of_all)] {
        let took = first_answer(&turn, &policy).await.saturating_sub(empty);
        println!("{way}: {took:?} beyond {empty:?}");
        // A busy machine slows both: an empty configuration is up in about a second on one that has nothing else to do.
        let bound = (empty * 3).max(Duration::from_secs(1));
        assert!(took < bound, "{way}: {took:?} beyond {empty:?}");
    }
}
