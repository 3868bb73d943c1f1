//! What Envoy's response-code details say of who answered.
//!
//! The words are those of `source/common/stream_info` (`ResponseCodeDetailValues`) and of the filter for fault injection; what
//! follows in braces are causes. A filter in Wasm or Lua may leave the details empty: it is not the service either.

use crate::attempt::UNPAID;
use crate::host::Origin;

/// When the time of a whole stream of a client is over, by its route or its connection manager (`max_stream_duration`).
const MAX_DURATION: &[u8] = b"max_duration_timeout";

/// What Envoy answers when it waits no longer.
const TIMEOUTS: [&[u8]; 6] = [
    MAX_DURATION,
    b"response_timeout",
    b"stream_idle_timeout",
    b"upstream_max_stream_duration_reached",
    b"upstream_per_try_idle_timeout",
    b"upstream_per_try_timeout",
];

/// And when the connection broke.
const RESETS: [&[u8]; 2] = [b"upstream_reset_before_response_started", b"upstream_reset_after_response_started"];

/// Who answered with these details.
pub(super) fn origin(details: &[u8]) -> Origin {
    let has = |word: &[u8]| details.windows(word.len()).any(|it| it == word);
    match details {
        b"via_upstream" => Origin::Service,
        b"no_healthy_upstream" => Origin::Unreachable,
        b"fault_filter_abort" => Origin::Injected,
        it if TIMEOUTS.contains(&it) => Origin::TimedOut,
        it if it == UNPAID.as_bytes() => Origin::Unanswered,
        it if it.starts_with(b"dns_resolution_failure") => Origin::Unreachable,
        it if RESETS.iter().any(|reset| it.starts_with(reset)) => match () {
            () if has(b"overflow") => Origin::Overflow,
            () if has(b"connection_failure") || has(b"connection_timeout") => Origin::Unreachable,
            () => Origin::Unanswered,
        },
        _ => Origin::Elsewhere,
    }
}

/// Whether these are the details of a response that was cut off because the stream's time was over.
pub(super) fn is_over(details: &[u8]) -> bool {
    details == MAX_DURATION
}
