//! A proxy whose calls fail, lie and come late, as often as it is told; as honest as the one beneath it otherwise.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use outrigger::headers::Headers;
use outrigger::host::{
    Direction, Ended, Expected, Host, HostError, LogField, MetricId, MetricKind, Origin, Sent, Versioned, Written,
};
use outrigger::time::Timestamp;

use crate::common::{MemoryHost, Random};

/// Statuses of the ABI that no caller expects.
const STATUSES: [u32; 5] = [2, 7, 8, 10, 12];

/// The record of the secret under which keys are hashed. A worker reads it once in its life, and workers with different secrets count
/// the same key in different places until they are restarted; so nothing lies about it here.
pub const SECRET: &str = "outrigger/seed";

/// What a proxy does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of a hundred calls so many fail.
    pub failing: u64,
    /// Of a hundred so many succeed, and say something that is not so.
    pub lying: u64,
    /// Of a hundred readings of the clock so many are off, by milliseconds to years.
    pub jumping: u64,
    /// Whether every draw of randomness is the same.
    pub constant: bool,
}

/// The proxy.
pub struct FickleHost {
    pub memory: Rc<MemoryHost>,
    pub faults: Cell<Faults>,
    random: RefCell<Random>,
    calls: Cell<u64>,
    failed: Cell<u64>,
}

impl FickleHost {
    pub fn new(memory: Rc<MemoryHost>, seed: u64) -> Self {
        let random = RefCell::new(Random::seeded(seed ^ 0x5eed));
        Self { memory, faults: Cell::default(), random, calls: Cell::new(0), failed: Cell::new(0) }
    }

    /// Calls since this was last asked.
    pub fn take_calls(&self) -> u64 {
        self.calls.take()
    }

    /// How many calls have failed that the filter must count; those of metrics themselves it cannot.
    pub fn failed(&self) -> u64 {
        self.failed.get()
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    fn happens(&self, percent: u64) -> bool {
        0 < percent && self.below(100) < percent
    }

    /// Whether the call lies, if it does not fail.
    fn call(&self, call: &'static str) -> Result<bool, HostError> {
        self.calls.set(self.calls.get() + 1);
        if self.happens(self.faults.get().failing) {
            if !call.ends_with("_metric") {
                self.failed.set(self.failed.get() + 1);
            }
            return Err(HostError { call, status: STATUSES[self.below(STATUSES.len() as u64) as usize] });
        }
        Ok(self.happens(self.faults.get().lying))
    }

    fn garbage(&self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.below(256) as u8).collect()
    }

    /// The bytes, cut, changed or replaced.
    fn spoiled(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len() as u64 + 1) as usize),
            1 => bytes.extend(self.garbage(64)),
            2 if !bytes.is_empty() => {
                for _ in 0..=self.below(4) {
                    let place = self.below(bytes.len() as u64) as usize;
                    bytes[place] = self.below(256) as u8;
                }
            }
            _ => bytes = self.garbage(300),
        }
        bytes
    }
}

impl Host for FickleHost {
    fn now(&self) -> Timestamp {
        self.calls.set(self.calls.get() + 1);
        let now = self.memory.now().as_nanos();
        if !self.happens(self.faults.get().jumping) {
            return Timestamp::from_nanos(now);
        }
        // From a millisecond to some thirty years.
        let by = 1_000_000_u64 << self.below(40);
        Timestamp::from_nanos(if self.below(2) == 0 { now.saturating_add(by) } else { now.saturating_sub(by) })
    }

    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError> {
        // A write that is said to be done is: what it gave back would be lost for good otherwise, and no proxy says so.
        match self.call("shared_set")? {
            false => self.memory.shared_set(key, value, expected),
            true => Ok(Written::Conflict),
        }
    }

    fn wake_at(&self, instant: Timestamp) {
        self.memory.wake_at(instant);
    }

    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError> {
        self.call("set_property")?;
        self.memory.set_log_field(field, value)
    }

    fn set_request_number(&self, number: u64) -> Result<(), HostError> {
        self.call("set_property")?;
        self.memory.set_request_number(number)
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        self.call("define_metric")?;
        self.memory.define_metric(kind, name)
    }

    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError> {
        self.call("increment_metric")?;
        self.memory.increment_metric(id, amount)
    }

    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        self.call("record_metric")?;
        self.memory.record_metric(id, value)
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        let lies = self.call("request_headers")?;
        let headers = self.memory.request_headers()?;
        Ok(if lies { Headers::from_block(self.spoiled(headers.as_block().to_vec())) } else { headers })
    }

    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError> {
        let lies = self.call("get_property")?;
        let peer = self.memory.peer_address()?;
        Ok(if lies { peer.map(|it| self.spoiled(it)) } else { peer })
    }

    fn request_number(&self) -> Result<Option<u64>, HostError> {
        let lies = self.call("get_property")?;
        Ok(if lies { Some(self.below(100)) } else { self.memory.request_number()? })
    }

    fn direction(&self) -> Result<Direction, HostError> {
        self.call("get_property")?;
        self.memory.direction()
    }

    fn response_headers(&self) -> Result<Headers, HostError> {
        let lies = self.call("response_headers")?;
        let headers = self.memory.response_headers()?;
        Ok(if lies { Headers::from_block(self.spoiled(headers.as_block().to_vec())) } else { headers })
    }

    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError> {
        let lies = self.call("response_body")?;
        let body = self.memory.response_body(size)?;
        Ok(if lies { self.spoiled(body) } else { body })
    }

    fn response_status(&self) -> Result<Option<u16>, HostError> {
        let lies = self.call("response_headers")?;
        Ok(if lies {
            [None, Some(0), Some(999), Some(65_535)][self.below(4) as usize]
        } else {
            self.memory.response_status()?
        })
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        let lies = self.call("response_headers")?;
        Ok(if lies { Some(self.garbage(100)) } else { self.memory.response_header(name)? })
    }

    fn origin(&self) -> Result<Origin, HostError> {
        self.call("get_property")?;
        self.memory.origin()
    }

    fn sent(&self) -> Result<Sent, HostError> {
        self.call("get_property")?;
        self.memory.sent()
    }

    fn succeeded_at_once(&self) -> bool {
        self.call("call_foreign_function").is_ok_and(|lies| lies != self.memory.succeeded_at_once())
    }

    fn grpc_status(&self) -> Result<Option<u32>, HostError> {
        let lies = self.call("get_property")?;
        Ok(if lies { Some(u32::MAX) } else { self.memory.grpc_status()? })
    }

    fn attempts(&self) -> Result<Option<u32>, HostError> {
        let lies = self.call("get_property")?;
        Ok(if lies { [None, Some(0), Some(u32::MAX)][self.below(3) as usize] } else { self.memory.attempts()? })
    }

    fn ended(&self) -> Result<Ended, HostError> {
        self.call("get_property")?;
        self.memory.ended()
    }

    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        let lies = self.call("shared_get")? && key != SECRET;
        let record = self.memory.shared_get(key)?;
        if !lies {
            return Ok(record);
        }
        Ok(record.map(|it| Versioned { bytes: self.spoiled(it.bytes), ..it }).filter(|_| self.below(4) != 0))
    }

    fn random(&self) -> Result<[u8; 16], HostError> {
        self.call("random_get")?;
        if self.faults.get().constant {
            return Ok([7; 16]);
        }
        Ok(std::array::from_fn(|_| self.below(256) as u8))
    }
}
