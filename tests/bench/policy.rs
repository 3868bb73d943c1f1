//! The configurations of the filter that are measured. The request is that of [`load`](crate::load).

use serde_json::{Value, json};

/// What a service of ordinary size needs: twenty operations, of which the tenth matches, a limit for everybody and one
/// for each user, both far from being reached, retries, and metrics.
pub(crate) fn reference() -> Value {
    json!({
        "scope": "bench",
        "operations": operations(20),
        "limits": [
            { "name": "everybody", "token_bucket": bucket(1_000_000) },
            { "name": "per-user", "key": ["header:x-user-id"], "token_bucket": bucket(100_000) },
        ],
        "retries": [{ "operations": ["read-item"], "max_attempts": 3 }],
    })
}

/// The second instance for exact retries.
pub(crate) fn upstream() -> Value {
    json!({ "placement": "upstream" })
}

/// Nothing but counting, and of that no more than must be.
pub(crate) fn leanest() -> Value {
    json!({ "monitor": { "access_log": false, "outcomes": false } })
}

/// Ten times as many operations, and 50 limits, of which the same two apply.
pub(crate) fn large() -> Value {
    let mut policy = reference();
    policy["operations"] = json!(operations(200));
    if let Some(limits) = policy["limits"].as_array_mut() {
        limits.extend((0..48).map(|number| {
            let operation = operation_name(number);
            json!({ "name": format!("of-{operation}"), "operations": [operation], "token_bucket": bucket(1000) })
        }));
    }
    policy
}

/// The reference policy with a limit for everybody of one request an hour.
pub(crate) fn refusing() -> Value {
    let mut policy = reference();
    policy["limits"][0]["token_bucket"] = json!({ "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" });
    policy
}

/// 200 operations and nothing else.
pub(crate) fn many_operations() -> Value {
    json!({ "operations": operations(200) })
}

/// So many operations under one prefix, of the three usual kinds of path; the one in the middle matches the request.
fn operations(count: usize) -> Vec<Value> {
    let middle = count / 2;
    let before = (0..middle).map(other_operation);
    let matching =
        json!({ "name": "read-item", "tier": "P0", "match": { "methods": ["GET"], "paths": ["/api/v1/items/{*}"] } });
    let after = (middle..count - 1).map(other_operation);
    before.chain([matching]).chain(after).collect()
}

fn other_operation(number: usize) -> Value {
    let path = match number % 3 {
        0 => format!("/api/v1/area-{number}"),
        1 => format!("/api/v1/area-{number}/*"),
        _ => format!("/api/v1/area-{number}/{{*}}/parts"),
    };
    let tier = ["P0", "P1", "P2", "P3"][number % 4];
    json!({ "name": operation_name(number), "tier": tier, "match": { "methods": ["GET", "POST"], "paths": [path] } })
}

fn operation_name(number: usize) -> String {
    format!("area-{number}")
}

fn bucket(per_second: u32) -> Value {
    json!({ "max_tokens": per_second, "tokens_per_fill": per_second, "fill_interval": "1s" })
}
