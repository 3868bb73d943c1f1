//! Pieces of the filter's configuration that many scenarios share.

use serde_json::{Value, json};

/// `max_tokens` at once, and `tokens_per_fill` more per `fill_interval`.
pub(crate) fn bucket(max_tokens: u32, tokens_per_fill: u32, fill_interval: &str) -> Value {
    json!({ "max_tokens": max_tokens, "tokens_per_fill": tokens_per_fill, "fill_interval": fill_interval })
}

/// So many requests and, within the life of a scenario, not one more.
pub(crate) fn supply(tokens: u32) -> Value {
    bucket(tokens, 1, "10m")
}

/// A configuration with one limit, called `name`, on every request.
pub(crate) fn one_limit(name: &str, token_bucket: Value) -> Value {
    json!({ "limits": [{ "name": name, "token_bucket": token_bucket }] })
}

/// A configuration whose limits apply to an operation each: limit `name` to the requests of path `/name`.
///
/// Any other path is free, so that connections can be opened without touching a limit.
pub(crate) fn limits_by_path(limits: &[(&str, Value)]) -> Value {
    let operations: Vec<Value> =
        limits.iter().map(|(name, _)| json!({ "name": name, "match": { "paths": [format!("/{name}")] } })).collect();
    let limits: Vec<Value> = limits
        .iter()
        .map(|(name, bucket)| json!({ "name": name, "operations": [name], "token_bucket": bucket }))
        .collect();
    json!({ "operations": operations, "limits": limits })
}
