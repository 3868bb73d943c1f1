//! How much time a request still has.

use std::time::Duration;

use crate::operation::request::Request;

/// The time that the caller said it would wait: the smaller of `grpc-timeout` (gRPC over HTTP/2) and
/// `x-envoy-expected-rq-timeout-ms` (set by the caller's Envoy). `None` if it said nothing that makes sense.
pub fn known(request: &Request<'_>) -> Option<Duration> {
    let grpc = request.headers.get("grpc-timeout").and_then(grpc_timeout);
    let envoy = request.headers.get("x-envoy-expected-rq-timeout-ms").and_then(number).map(Duration::from_millis);
    match (grpc, envoy) {
        (Some(grpc), Some(envoy)) => Some(grpc.min(envoy)),
        (grpc, envoy) => grpc.or(envoy),
    }
}

/// One to eight digits and a unit: `H`, `M`, `S`, `m`, `u` or `n`.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if 8 < digits.len() {
        return None;
    }
    let amount = number(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
