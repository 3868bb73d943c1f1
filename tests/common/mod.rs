//! A proxy in memory, for tests that need one: a clock that is set by hand, shared records with the real rules, a count of
//! every call, and faults on demand. Several workers are several `Worker`s on one `MemoryHost`.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

pub mod bound;
pub mod defined;
pub mod interleaving;
pub mod seeds;
pub mod sidecar;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use outrigger::headers::Headers;
use outrigger::host::{
    Direction, Ended, Expected, Host, HostError, LogField, MetricId, MetricKind, Origin, Sent, Version, Versioned,
    Written,
};
use outrigger::time::Timestamp;

/// What runs in place of another worker, right before a conditional write.
pub type Interloper = Box<dyn FnMut(&MemoryHost)>;

/// The proxy. Interior mutability throughout, because `Host` is called by shared reference.
#[derive(Default)]
pub struct MemoryHost {
    now: Cell<u64>,
    records: RefCell<BTreeMap<String, (Vec<u8>, u32)>>,
    last_version: Cell<u32>,
    metrics: RefCell<Vec<(MetricKind, String, u64)>>,
    headers: RefCell<Headers>,
    peer: RefCell<Option<Vec<u8>>>,
    response: RefCell<Vec<(String, String)>>,
    grpc_status: Cell<Option<u32>>,
    ended: Cell<Option<Ended>>,
    origin: Cell<Option<Origin>>,
    sent: Cell<Option<Sent>>,
    attempts: Cell<Option<u32>>,
    request_number: Cell<Option<u64>>,
    body: RefCell<Vec<u8>>,
    log_fields: RefCell<BTreeMap<&'static str, String>>,
    calls: RefCell<BTreeMap<&'static str, usize>>,
    failing: RefCell<BTreeSet<&'static str>>,
    refused_metric: RefCell<Option<String>>,
    /// Whether metrics may have names that the table does not have.
    any_metric: Cell<bool>,
    interloper: RefCell<Option<Interloper>>,
    randomness: Cell<u8>,
    wake: Cell<Option<u64>>,
}

/// What the adapter for Envoy calls a call in its errors: several of ours are one of the proxy's.
fn as_adapted(call: &'static str) -> &'static str {
    match call {
        "response_status" | "response_header" => "response_headers",
        "peer_address" | "request_number" | "direction" | "grpc_status" | "attempts" | "ended" | "origin" | "sent" => {
            "get_property"
        }
        other => other,
    }
}

impl MemoryHost {
    pub fn new() -> Rc<Self> {
        let host = Rc::new(Self::default());
        host.set_now(1_000_000_000);
        host
    }

    // === what a test arranges ===

    pub fn set_now(&self, nanos: u64) {
        self.now.set(nanos);
    }

    pub fn advance(&self, nanos: u64) {
        self.now.set(self.now.get() + nanos);
    }

    pub fn set_request(&self, pairs: &[(&str, &str)]) {
        *self.headers.borrow_mut() = Headers::from_pairs(pairs);
    }

    pub fn set_headers(&self, headers: Headers) {
        *self.headers.borrow_mut() = headers;
    }

    pub fn set_peer(&self, peer: &str) {
        *self.peer.borrow_mut() = Some(peer.into());
    }

    pub fn set_response(&self, pairs: &[(&str, &str)]) {
        *self.response.borrow_mut() = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    }

    pub fn set_grpc_status(&self, status: Option<u32>) {
        self.grpc_status.set(status);
    }

    /// The part of the response's body that has come.
    pub fn set_body(&self, body: &[u8]) {
        *self.body.borrow_mut() = body.to_vec();
    }

    /// How often the router sent the request.
    pub fn set_attempts(&self, attempts: Option<u32>) {
        self.attempts.set(attempts);
    }

    /// The number that the current attempt's request has.
    pub fn set_request_number_to(&self, number: Option<u64>) {
        self.request_number.set(number);
    }

    /// Whether the service breaks off its responses.
    pub fn set_broken_off(&self, broken_off: bool) {
        self.ended.set(broken_off.then_some(Ended::ByUpstream));
    }

    /// Whether the proxy finds nobody to send requests to. It counts an attempt all the same, as Envoy does.
    pub fn set_unsent(&self, unsent: bool) {
        self.ended.set(unsent.then_some(Ended::Unsent));
    }

    /// Who answers; by default the service. What the proxy answers without a service was sent to nobody.
    pub fn set_origin(&self, origin: Origin) {
        self.origin.set(Some(origin));
        let sent = if matches!(origin, Origin::Elsewhere | Origin::Overflow) { Sent::Nowhere } else { Sent::On };
        self.sent.set(Some(sent));
    }

    /// Whether the proxy breaks off what takes too long.
    pub fn set_timed_out(&self, timed_out: bool) {
        self.ended.set(timed_out.then_some(Ended::ByTimeout));
    }

    /// From now on the call fails with status 10, until [`MemoryHost::repair`].
    pub fn break_call(&self, call: &'static str) {
        self.failing.borrow_mut().insert(call);
    }

    /// Takes metrics of any name: a shared record that tells of gauges may be garbage.
    pub fn take_any_metric(&self) {
        self.any_metric.set(true);
    }

    /// The metric of this name cannot be defined.
    pub fn refuse_metric(&self, name: &str) {
        *self.refused_metric.borrow_mut() = Some(name.to_owned());
    }

    pub fn repair(&self, call: &'static str) {
        self.failing.borrow_mut().remove(call);
    }

    /// Runs `interloper` right before each conditional write, in place of another worker. Not called re-entrantly.
    pub fn interfere(&self, interloper: impl FnMut(&MemoryHost) + 'static) {
        *self.interloper.borrow_mut() = Some(Box::new(interloper));
    }

    pub fn put_record(&self, key: &str, bytes: &[u8]) {
        let version = self.next_version();
        self.records.borrow_mut().insert(key.to_owned(), (bytes.to_vec(), version));
    }

    // === what a test looks at ===

    pub fn record(&self, key: &str) -> Option<Vec<u8>> {
        self.records.borrow().get(key).map(|(bytes, _)| bytes.clone())
    }

    pub fn record_keys(&self) -> Vec<String> {
        self.records.borrow().keys().cloned().collect()
    }

    /// Everything shared, for "nothing changed".
    pub fn records(&self) -> BTreeMap<String, Vec<u8>> {
        self.records.borrow().iter().map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    /// The value of a counter or gauge, the sum of a histogram; 0 if nobody defined it.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics.borrow().iter().filter(|(_, it, _)| it == name).map(|(_, _, value)| value).sum()
    }

    pub fn metric_names(&self) -> Vec<String> {
        self.metrics.borrow().iter().map(|(_, name, _)| name.clone()).collect()
    }

    pub fn clear_log_fields(&self) {
        self.log_fields.borrow_mut().clear();
    }

    pub fn log_field(&self, field: LogField) -> Option<String> {
        self.log_fields.borrow().get(field.name()).cloned()
    }

    /// The instant for which a tick was asked since the last time this was asked.
    pub fn take_wake(&self) -> Option<u64> {
        self.wake.take()
    }

    /// Calls since the last time this was asked, by name.
    pub fn take_calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.calls.borrow_mut())
    }

    fn next_version(&self) -> u32 {
        self.last_version.set(self.last_version.get() + 1);
        self.last_version.get()
    }

    fn called(&self, call: &'static str) -> Result<(), HostError> {
        *self.calls.borrow_mut().entry(call).or_default() += 1;
        match self.failing.borrow().contains(call) {
            true => Err(HostError { call: as_adapted(call), status: 10 }),
            false => Ok(()),
        }
    }
}

impl Host for MemoryHost {
    fn now(&self) -> Timestamp {
        let _ = self.called("now");
        Timestamp::from_nanos(self.now.get())
    }

    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError> {
        self.called("shared_set")?;
        let interloper = self.interloper.borrow_mut().take();
        if let Some(mut interloper) = interloper {
            interloper(self);
            self.interloper.borrow_mut().get_or_insert(interloper);
        }
        let current = self.records.borrow().get(key).map(|(_, version)| *version);
        let holds = match expected {
            Expected::Absent => current.is_none(),
            // As on Envoy: a record that does not exist is created whatever version is named.
            Expected::Unchanged(Version(version)) => current.is_none_or(|current| current == version),
        };
        if !holds {
            return Ok(Written::Conflict);
        }
        self.put_record(key, value);
        Ok(Written::Done)
    }

    fn wake_at(&self, instant: Timestamp) {
        let due = instant.as_nanos();
        self.wake.set(Some(self.wake.get().map_or(due, |before| before.min(due))));
    }

    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError> {
        self.called("set_property")?;
        self.log_fields.borrow_mut().insert(field.name(), value.to_owned());
        Ok(())
    }

    fn set_request_number(&self, number: u64) -> Result<(), HostError> {
        self.called("set_property")?;
        self.request_number.set(Some(number));
        Ok(())
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        self.called("define_metric")?;
        if !self.any_metric.get() {
            defined::is_in_the_table(kind, name);
        }
        if self.refused_metric.borrow().as_deref() == Some(name) {
            return Err(HostError { call: "define_metric", status: 10 });
        }
        let mut metrics = self.metrics.borrow_mut();
        // As on Envoy: all workers mean the same metric by a name.
        let known = metrics.iter().position(|(_, it, _)| it == name);
        let index = known.unwrap_or_else(|| {
            metrics.push((kind, name.to_owned(), 0));
            metrics.len() - 1
        });
        Ok(MetricId(index as u32))
    }

    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError> {
        self.called("increment_metric")?;
        self.metrics.borrow_mut()[id.0 as usize].2 += amount;
        Ok(())
    }

    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        self.called("record_metric")?;
        let metric = &mut self.metrics.borrow_mut()[id.0 as usize];
        metric.2 = if metric.0 == MetricKind::Gauge { value } else { metric.2 + value };
        Ok(())
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        self.called("request_headers")?;
        Ok(self.headers.borrow().clone())
    }

    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError> {
        self.called("peer_address")?;
        Ok(self.peer.borrow().clone())
    }

    fn request_number(&self) -> Result<Option<u64>, HostError> {
        self.called("request_number")?;
        Ok(self.request_number.get())
    }

    fn direction(&self) -> Result<Direction, HostError> {
        self.called("direction")?;
        Ok(Direction::Inbound)
    }

    fn response_headers(&self) -> Result<Headers, HostError> {
        self.called("response_headers")?;
        Ok(Headers::from_pairs(&self.response.borrow()))
    }

    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError> {
        self.called("response_body")?;
        Ok(self.body.borrow().iter().copied().take(size).collect())
    }

    fn response_status(&self) -> Result<Option<u16>, HostError> {
        self.called("response_status")?;
        let response = self.response.borrow();
        Ok(response.iter().find(|(name, _)| name == ":status").and_then(|(_, status)| status.parse().ok()))
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.called("response_header")?;
        Ok(self.response.borrow().iter().find(|(it, _)| it == name).map(|(_, value)| value.clone().into_bytes()))
    }

    fn grpc_status(&self) -> Result<Option<u32>, HostError> {
        self.called("grpc_status")?;
        Ok(self.grpc_status.get())
    }

    fn succeeded_at_once(&self) -> bool {
        if self.called("succeeded_at_once").is_err() {
            return false;
        }
        let response = self.response.borrow();
        let status = response.iter().find(|(name, _)| name == ":status").map(|(_, status)| status.as_str());
        status.is_some_and(|it| it < "400") && self.attempts.get() == Some(1)
    }

    fn attempts(&self) -> Result<Option<u32>, HostError> {
        self.called("attempts")?;
        Ok(self.attempts.get())
    }

    fn ended(&self) -> Result<Ended, HostError> {
        self.called("ended")?;
        Ok(self.ended.get().unwrap_or(Ended::Otherwise))
    }

    fn origin(&self) -> Result<Origin, HostError> {
        self.called("origin")?;
        Ok(self.origin.get().unwrap_or(Origin::Service))
    }

    fn sent(&self) -> Result<Sent, HostError> {
        self.called("sent")?;
        Ok(self.sent.get().unwrap_or(Sent::On))
    }

    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        self.called("shared_get")?;
        let records = self.records.borrow();
        Ok(records.get(key).map(|(bytes, version)| Versioned { bytes: bytes.clone(), version: Version(*version) }))
    }

    fn random(&self) -> Result<[u8; 16], HostError> {
        self.called("random_get")?;
        // Another value each time, so that a test sees who agreed on which.
        self.randomness.set(self.randomness.get() + 1);
        Ok([self.randomness.get(); 16])
    }
}

/// Marsaglia's xorshift64*: numbers for tests, the same in every run and on every target.
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
