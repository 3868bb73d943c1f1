//! Every order in which the calls of several workers can reach one proxy.
//!
//! What a worker does next depends only on what the proxy answered so far. So a worker needs no thread: it is stopped
//! by an error after each call that others could notice, and goes on by doing its step again from the start, with the
//! answers that it already got; what a step makes of the error does not matter. All orders are tried in turn, the same on every target.

use std::cell::{Cell, RefCell};

use outrigger::headers::Headers;
use outrigger::host::{
    Direction, Ended, Expected, Host, HostError, LogField, MetricId, MetricKind, Origin, Sent, Versioned, Written,
};
use outrigger::time::Timestamp;

use super::{MemoryHost, Random};

/// Workers that race on one proxy.
pub trait Race {
    /// What a step ends with.
    type Answer;

    fn proxy(&self) -> &MemoryHost;

    /// One step of a worker, for example to take a token. It must call `host` only.
    fn step(&self, worker: usize, host: &dyn Host) -> Result<Self::Answer, HostError>;
}

/// How a race went in one order of calls.
pub struct Course<R: Race> {
    pub race: R,
    /// Who was next, call by call. For messages.
    pub order: Vec<usize>,
    /// What each worker's steps ended with.
    pub answers: Vec<Vec<R::Answer>>,
}

/// Runs the race in every order of calls and returns how many there are. Worker `i` takes `steps[i]` steps.
pub fn in_every_order<R: Race>(steps: &[usize], start: impl Fn() -> R, mut check: impl FnMut(&Course<R>)) -> usize {
    // At each call, which of how many ready workers is next.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    for orders in 1.. {
        check(&run(steps, start(), &mut choices));
        while let Some((chosen, ready)) = choices.pop() {
            if chosen + 1 < ready {
                choices.push((chosen + 1, ready));
                break;
            }
        }
        if choices.is_empty() {
            return orders;
        }
    }
    0
}

/// Runs the race in so many orders of calls that chance chooses, where there are too many to try them all.
pub fn in_random_orders<R: Race>(
    steps: &[usize],
    seed: u64,
    orders: usize,
    start: impl Fn() -> R,
    mut check: impl FnMut(&Course<R>),
) {
    let mut random = Random::seeded(seed);
    for _ in 0..orders {
        // As long as any race.
        let mut choices = (0..1_000).map(|_| (random.below(1 << 20) as usize, 0)).collect();
        check(&run(steps, start(), &mut choices));
    }
}

fn run<R: Race>(steps: &[usize], race: R, choices: &mut Vec<(usize, usize)>) -> Course<R> {
    let mut answers: Vec<Vec<R::Answer>> = steps.iter().map(|_| Vec::new()).collect();
    let mut heard: Vec<Vec<Heard>> = steps.iter().map(|_| Vec::new()).collect();
    let mut order = Vec::new();
    loop {
        let ready: Vec<usize> = (0..steps.len()).filter(|worker| answers[*worker].len() < steps[*worker]).collect();
        if ready.is_empty() {
            return Course { race, order, answers };
        }
        if order.len() == choices.len() {
            choices.push((0, ready.len()));
        }
        let worker = ready[choices[order.len()].0 % ready.len()];
        order.push(worker);
        let turn = Turn {
            proxy: race.proxy(),
            heard: RefCell::new(std::mem::take(&mut heard[worker])),
            next: Cell::new(0),
            called: Cell::new(false),
            stopped: Cell::new(false),
        };
        match race.step(worker, &turn) {
            _ if turn.stopped.get() => heard[worker] = turn.heard.into_inner(),
            Ok(answer) => answers[worker].push(answer),
            Err(error) => panic!("{error} in order {order:?}"),
        }
    }
}

/// What a step is told whose turn is over: it is taken again later. It is counted as a call that no race makes.
const STOPPED: HostError = HostError { call: "get_property", status: u32::MAX };

/// An answer of the proxy that depends on when it was asked.
#[derive(Clone)]
enum Heard {
    Read(Option<Versioned>),
    Wrote(Written),
    Random([u8; 16]),
}

/// The proxy as a worker sees it for the length of one new call.
struct Turn<'p> {
    proxy: &'p MemoryHost,
    heard: RefCell<Vec<Heard>>,
    next: Cell<usize>,
    called: Cell<bool>,
    stopped: Cell<bool>,
}

impl Turn<'_> {
    fn ask(&self, call: impl FnOnce() -> Result<Heard, HostError>) -> Result<Heard, HostError> {
        let place = self.next.replace(self.next.get() + 1);
        if let Some(heard) = self.heard.borrow().get(place) {
            return Ok(heard.clone());
        }
        if self.called.replace(true) {
            self.stopped.set(true);
            return Err(STOPPED);
        }
        let heard = call()?;
        self.heard.borrow_mut().push(heard.clone());
        Ok(heard)
    }
}

impl Host for Turn<'_> {
    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        match self.ask(|| self.proxy.shared_get(key).map(Heard::Read))? {
            Heard::Read(record) => Ok(record),
            _ => panic!("a step must do the same when it is told the same"),
        }
    }

    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError> {
        match self.ask(|| self.proxy.shared_set(key, value, expected).map(Heard::Wrote))? {
            Heard::Wrote(written) => Ok(written),
            _ => panic!("a step must do the same when it is told the same"),
        }
    }

    fn random(&self) -> Result<[u8; 16], HostError> {
        match self.ask(|| self.proxy.random().map(Heard::Random))? {
            Heard::Random(bytes) => Ok(bytes),
            _ => panic!("a step must do the same when it is told the same"),
        }
    }

    /// Counted once, although the step runs several times.
    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError> {
        if self.called.get() { self.proxy.increment_metric(id, amount) } else { Ok(()) }
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        self.proxy.define_metric(kind, name)
    }

    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        if self.called.get() { self.proxy.record_metric(id, value) } else { Ok(()) }
    }

    fn wake_at(&self, instant: Timestamp) {
        self.proxy.wake_at(instant);
    }

    fn now(&self) -> Timestamp {
        self.proxy.now()
    }

    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError> {
        self.proxy.set_log_field(field, value)
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        self.proxy.request_headers()
    }

    fn set_request_number(&self, number: u64) -> Result<(), HostError> {
        self.proxy.set_request_number(number)
    }

    fn request_number(&self) -> Result<Option<u64>, HostError> {
        self.proxy.request_number()
    }

    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError> {
        self.proxy.peer_address()
    }

    fn direction(&self) -> Result<Direction, HostError> {
        self.proxy.direction()
    }

    fn response_headers(&self) -> Result<Headers, HostError> {
        self.proxy.response_headers()
    }

    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError> {
        self.proxy.response_body(size)
    }

    fn response_status(&self) -> Result<Option<u16>, HostError> {
        self.proxy.response_status()
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.proxy.response_header(name)
    }

    fn origin(&self) -> Result<Origin, HostError> {
        self.proxy.origin()
    }

    fn sent(&self) -> Result<Sent, HostError> {
        self.proxy.sent()
    }

    fn grpc_status(&self) -> Result<Option<u32>, HostError> {
        self.proxy.grpc_status()
    }

    fn succeeded_at_once(&self) -> bool {
        self.proxy.succeeded_at_once()
    }

    fn attempts(&self) -> Result<Option<u32>, HostError> {
        self.proxy.attempts()
    }

    fn ended(&self) -> Result<Ended, HostError> {
        self.proxy.ended()
    }
}
