//! What the engine needs of a proxy.
//!
//! The pipeline sees the proxy only through [`Host`]. The adapter in `envoy` implements it over proxy-wasm;
//! the tests implement it in memory. The trait is object-safe on purpose: the pipeline is compiled once.
//!
//! No call panics. A call that the proxy refuses returns a [`HostError`], which the pipeline turns into the configured
//! failure mode, a counter and one log line.

use std::fmt;

use crate::headers::Headers;
use crate::time::Timestamp;

/// The version that a shared record had when it was read; only good for writing the same record back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

/// A shared record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The record's bytes. May be empty.
    pub bytes: Vec<u8>,
    /// What a conditional write of this record must name.
    pub version: Version,
}

/// What must hold for a conditional write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Nobody has created the record yet.
    Absent,
    /// Nobody has written the record since it was read at this version.
    Unchanged(Version),
}

/// How a conditional write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// The record now holds the given bytes.
    Done,
    /// The expectation did not hold; nothing was written. Read again and decide anew.
    Conflict,
}

/// A metric that the proxy knows, valid in this worker only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricId(pub u32);

/// The kinds of metric a proxy offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Is set.
    Gauge,
    /// Collects a distribution.
    Histogram,
}

/// Which way the traffic of a listener goes, as the proxy was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nobody said.
    Unspecified,
    /// Towards the service that this proxy stands beside.
    Inbound,
    /// From the service that this proxy stands beside.
    Outbound,
}

impl Direction {
    /// The word for it in a scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Where a message ends. Only the proxy knows: a body needs no header that tells of it, and the proxy removes some that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this.
    Here,
    /// More comes.
    Later,
}

/// How a stream ended, as far as the proxy's word is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The service, or the connection to it, broke off.
    ByUpstream,
    /// It went to nobody: the proxy found no host, or has as many requests under way as it may.
    Unsent,
    /// The proxy broke off, because a time was over.
    ByTimeout,
    /// The client left, or the end just was not seen.
    Otherwise,
}

/// Who made a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The service.
    Service,
    /// The proxy, because it could not reach the service: no host, no connection.
    Unreachable,
    /// The proxy, because the service did not answer: a reset.
    Unanswered,
    /// The proxy, because it would wait no longer for an answer.
    TimedOut,
    /// The proxy, because it was told to play a service that fails: people try with this what happens then.
    Injected,
    /// The proxy, because it has as many requests of the service's under way as it may.
    Overflow,
    /// The proxy or one of its filters, without asking the service: refusals, redirects, no route.
    Elsewhere,
}

/// Whether the proxy sent a request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// To a service, which need not have answered.
    On,
    /// To nobody.
    Nowhere,
}

/// A field that the proxy's access log can print, as `%FILTER_STATE(wasm.<name>:PLAIN)%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogField {
    /// Why the request was refused; absent on requests that were not.
    Reason,
    /// Why the request would have been refused, by the first policy that is only tried out; absent on requests that would not.
    Shadow,
    /// What the reason does not say: the status of a failure that was replaced, or why a breaker is open.
    Detail,
    /// The operation that the request was matched to.
    Operation,
    /// The tier of that operation.
    Tier,
}

impl LogField {
    /// The field's name in the access log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reason => "outrigger_reason",
            Self::Shadow => "outrigger_shadow",
            Self::Detail => "outrigger_detail",
            Self::Operation => "outrigger_operation",
            Self::Tier => "outrigger_tier",
        }
    }
}

/// A call that the proxy did not carry out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError {
    /// The call, as it is named in the `call` label of `outrigger_host_errors_total`.
    pub call: &'static str,
    /// The proxy's status code.
    pub status: u32,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host call {} failed with status {}", self.call, self.status)
    }
}

/// A proxy, seen from the callback of one request (or of the configuration).
///
/// Calls are grouped by what they cost on Envoy: those that return bytes make the proxy allocate inside the module
/// and cost about ten times a scalar one.
pub trait Host {
    // === scalar calls ===

    /// The monotonic clock. Read once per callback and passed on.
    fn now(&self) -> Timestamp;

    /// Writes a shared record if `expected` holds, atomically with respect to all workers.
    ///
    /// Records are never deleted, so `key` must come from a set that the configuration bounds, never from a request.
    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError>;

    /// Asks for [`Filter::on_tick`](crate::filter::Filter::on_tick) at `instant` at the latest. To ask for a later call than
    /// one that is due anyway costs nothing.
    fn wake_at(&self, instant: Timestamp);

    /// Makes `value` visible to the access log of the current request.
    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError>;

    /// Gives the current request a number, which its attempts can [read](Host::request_number).
    fn set_request_number(&self, number: u64) -> Result<(), HostError>;

    /// Makes a metric known and returns its handle. Each call costs memory in the proxy for good, so the worker
    /// remembers the handle.
    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError>;

    /// Raises a counter by `amount`, which must not be zero.
    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError>;

    /// Sets a gauge, or adds a value to a histogram.
    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError>;

    /// Whether the current request was sent on. Valid once there is a response. Costs the proxy a search, but no bytes where the
    /// service answers.
    fn sent(&self) -> Result<Sent, HostError>;

    /// Whether the current response says that the request succeeded (a status below 400) at its first attempt. `false` also where the
    /// proxy cannot tell in one call without bytes: then [`Host::response_status`] and [`Host::attempts`] are to be asked. Valid in
    /// the response callback only, and `false` elsewhere.
    fn succeeded_at_once(&self) -> bool;

    // === calls that return bytes ===

    /// All headers of the current request, pseudo-headers included. Valid in the request callback only.
    fn request_headers(&self) -> Result<Headers, HostError>;

    /// The address at the other end of the connection, as `ip:port`. `None` where there is none.
    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError>;

    /// The number of the request that the current attempt belongs to; `None` if it has none.
    fn request_number(&self) -> Result<Option<u64>, HostError>;

    /// The direction of the listener that the current request came through. Asked for where the configuration names no
    /// scope for its shared state.
    fn direction(&self) -> Result<Direction, HostError>;

    /// All headers of the current response, pseudo-headers included. Valid in the response callback only.
    fn response_headers(&self) -> Result<Headers, HostError>;

    /// The `size` bytes of a response's body that have come. Valid in the callback that says how many.
    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError>;

    /// The status of the current response, `None` when it has none or an unreadable one. Valid in the response
    /// callback only.
    fn response_status(&self) -> Result<Option<u16>, HostError>;

    /// The first value of a header of the current response. Valid in the response callback only.
    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError>;

    /// Who made the current response. Valid once its headers are there.
    fn origin(&self) -> Result<Origin, HostError>;

    /// The gRPC status that the current stream ended with, from trailers, headers or the HTTP status. `None` when the
    /// stream ended without a response. Valid from the callback on that has them: trailers, headers that nothing follows,
    /// or the end of the stream.
    fn grpc_status(&self) -> Result<Option<u32>, HostError>;

    /// How often the current request was sent to the service, as far as the proxy knows. Valid when it is logged and after.
    fn attempts(&self) -> Result<Option<u32>, HostError>;

    /// How the current stream ended. Valid when it is logged and after; asked only where something was not seen: the end of a
    /// response, or the attempts of a request.
    fn ended(&self) -> Result<Ended, HostError>;

    /// Reads a shared record; `None` if nobody created it.
    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError>;

    /// Sixteen bytes that nobody can predict.
    fn random(&self) -> Result<[u8; 16], HostError>;
}
