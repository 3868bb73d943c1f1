//! The engine's host over Envoy's calls.

use super::abi::{self, Expression, Map, Metric, Status};
use super::details;
use super::timer::Timer;
use crate::headers::Headers;
use crate::host::{
    Direction, Ended, Expected, Host, HostError, LogField, MetricId, MetricKind, Origin, Sent, Version, Versioned,
    Written,
};
use crate::time::Timestamp;

/// A version that no record has: Envoy counts versions up from 1 and creates a record whatever version is named, so this
/// one creates and never overwrites.
const NO_VERSION: u32 = u32::MAX;

/// The property of a request that its attempts read.
const REQUEST_NUMBER: &[u8] = b"outrigger_request";

/// Envoy, as seen from a callback of a root context or one of its streams.
#[derive(Clone, Copy)]
pub(super) struct Envoy<'a> {
    /// The root's timer.
    pub(super) timer: &'a Timer,
    /// [`AT_ONCE`], where the configuration needs it and the proxy has CEL.
    pub(super) at_once: Option<Expression>,
}

/// Empty for a response that says that the request succeeded at its first attempt, and only for that: an error if one of the two
/// is not known. Texts of three digits compare as their numbers do.
const AT_ONCE: &str = "response.headers[':status'] < '400' && upstream.request_attempt_count == 1 ? '' : 'x'";

/// What [`Host::succeeded_at_once`] asks. `None`, with a line in the log, where the proxy was built without CEL: it costs a request
/// a call more, and changes nothing.
pub(super) fn at_once() -> Option<Expression> {
    let expression = abi::compile_expression(AT_ONCE);
    expression
        .map_err(|status| log::info!("no CEL here (status {status}): status and attempts are read one by one"))
        .ok()
}

fn failed(call: &'static str) -> impl Fn(Status) -> HostError {
    move |status| HostError { call, status }
}

impl Host for Envoy<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(abi::monotonic_nanos())
    }

    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError> {
        let cas = match expected {
            Expected::Absent => NO_VERSION,
            Expected::Unchanged(Version(version)) => version,
        };
        match abi::set_shared_data(key, value, cas) {
            Ok(()) => Ok(Written::Done),
            Err(abi::CAS_MISMATCH) => Ok(Written::Conflict),
            Err(status) => Err(HostError { call: "shared_set", status }),
        }
    }

    fn wake_at(&self, instant: Timestamp) {
        self.timer.wake_at(instant);
    }

    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError> {
        abi::set_property(field.name().as_bytes(), value.as_bytes()).map_err(failed("set_property"))
    }

    fn set_request_number(&self, number: u64) -> Result<(), HostError> {
        abi::set_property(REQUEST_NUMBER, &number.to_le_bytes()).map_err(failed("set_property"))
    }

    fn succeeded_at_once(&self) -> bool {
        self.at_once.is_some_and(|expression| abi::result_length(expression) == Ok(0))
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        let kind = match kind {
            MetricKind::Counter => Metric::Counter,
            MetricKind::Gauge => Metric::Gauge,
            MetricKind::Histogram => Metric::Histogram,
        };
        abi::define_metric(kind, name).map(MetricId).map_err(failed("define_metric"))
    }

    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError> {
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        abi::increment_metric(id.0, amount).map_err(failed("increment_metric"))
    }

    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        abi::record_metric(id.0, value).map_err(failed("record_metric"))
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        abi::header_block(Map::Request).map(Headers::from_block).map_err(failed("request_headers"))
    }

    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError> {
        abi::property(b"source\0address").map_err(failed("get_property"))
    }

    fn request_number(&self) -> Result<Option<u64>, HostError> {
        let number = abi::property(REQUEST_NUMBER).map_err(failed("get_property"))?;
        Ok(number.and_then(|number| number.try_into().ok()).map(u64::from_le_bytes))
    }

    fn direction(&self) -> Result<Direction, HostError> {
        let property = abi::property(b"xds\0listener_direction").map_err(failed("get_property"))?;
        Ok(match property.as_deref().and_then(as_integer) {
            Some(1) => Direction::Inbound,
            Some(2) => Direction::Outbound,
            _ => Direction::Unspecified,
        })
    }

    fn response_headers(&self) -> Result<Headers, HostError> {
        abi::header_block(Map::Response).map(Headers::from_block).map_err(failed("response_headers"))
    }

    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError> {
        abi::response_body(size).map(Option::unwrap_or_default).map_err(failed("response_body"))
    }

    fn response_status(&self) -> Result<Option<u16>, HostError> {
        let status = abi::header(Map::Response, ":status").map_err(failed("response_headers"))?;
        Ok(status.and_then(|it| std::str::from_utf8(&it).ok()?.parse().ok()))
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        abi::header(Map::Response, name).map_err(failed("response_headers"))
    }

    fn sent(&self) -> Result<Sent, HostError> {
        let reason = abi::property(b"upstream\0transport_failure_reason").map_err(failed("get_property"))?;
        Ok(if reason.is_some() { Sent::On } else { Sent::Nowhere })
    }

    fn origin(&self) -> Result<Origin, HostError> {
        Ok(code_details()?.map_or(Origin::Elsewhere, |details| details::origin(&details)))
    }

    fn grpc_status(&self) -> Result<Option<u32>, HostError> {
        let status = abi::property(b"response\0grpc_status").map_err(failed("get_property"))?;
        Ok(status.as_deref().and_then(as_integer).and_then(|it| u32::try_from(it).ok()))
    }

    fn attempts(&self) -> Result<Option<u32>, HostError> {
        let attempts = abi::property(b"upstream\0request_attempt_count").map_err(failed("get_property"))?;
        Ok(attempts.as_deref().and_then(as_integer).and_then(|it| u32::try_from(it).ok()))
    }

    fn ended(&self) -> Result<Ended, HostError> {
        let flags = abi::property(b"response\0flags").map_err(failed("get_property"))?;
        let flags = flags.as_deref().and_then(as_integer).unwrap_or(0);
        Ok(match flags {
            flags if flags & BROKEN_OFF != 0 => Ended::ByUpstream,
            flags if flags & UNSENT != 0 => Ended::Unsent,
            flags if flags & TIMED_OUT != 0 => Ended::ByTimeout,
            0 if code_details()?.is_some_and(|details| details::is_over(&details)) => Ended::ByTimeout,
            _ => Ended::Otherwise,
        })
    }

    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        let record = abi::shared_data(key).map_err(failed("shared_get"))?;
        Ok(record.map(|(bytes, version)| Versioned { bytes, version: Version(version) }))
    }

    fn random(&self) -> Result<[u8; 16], HostError> {
        abi::random().map_err(failed("random_get"))
    }
}

/// Envoy's response flags of a stream that its upstream broke off (`envoy/stream_info/stream_info.h`): remote reset,
/// connection failure, connection termination, protocol error. Not the timeouts: a client that reads slowly runs into them.
const BROKEN_OFF: i64 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 23;

/// And of one whose time was over: of the route or of the retry rule (`UT`), of a stream on which nothing moves (`SI`), or of a
/// stream of the cluster (`UMSDR`). The clock of the client's stream has [no flag](details::is_over).
const TIMED_OUT: i64 = 1 << 2 | 1 << 16 | 1 << 19;

/// And of one that it sent to nobody: no healthy upstream, upstream overflow, no route, no cluster.
const UNSENT: i64 = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 24;

fn code_details() -> Result<Option<Vec<u8>>, HostError> {
    abi::property(b"response\0code_details").map_err(failed("get_property"))
}

/// Envoy hands integers over as eight little-endian bytes.
fn as_integer(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_le_bytes)
}

/// By what the user told plugins apart: the root id and, where it says something else, the plugin's name.
pub(super) fn plugin() -> String {
    let [root_id, name] = [&b"plugin_root_id"[..], b"plugin_name"].map(|property| {
        let text = abi::property(property).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    });
    if name.is_empty() || name == root_id { root_id } else { format!("{root_id}/{name}") }
}
