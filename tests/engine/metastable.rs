//! Outages that outlive their cause: a service loses four fifths of its capacity for ten seconds, and what matters is whether
//! and when it comes back. Clients, queue and service are simulated; the budget and the concurrency limit are the real ones.
//!
//! The service works in order of arrival and does not know who still waits: it finishes what nobody wants any more. Without retries
//! it has to work off its queue (the backlog of ten seconds at 95 % load, with 5 % to spare). With them it may never.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::common::Random;
use outrigger::limit::concurrency::{Concurrency, Demand, Share};
use outrigger::monitor::outcome::Outcome;
use outrigger::retry::budget::{Account, Budget, SetAside};
use outrigger::shared::roster::WorkerId;
use outrigger::time::Timestamp;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// Requests that the service answers in a second, at full strength.
const CAPACITY: u64 = 700;
/// A client waits so long for each attempt.
const TIMEOUT: u64 = 3 * SECOND;
/// The service is weak from here to there.
const WEAK: (u64, u64) = (10 * SECOND, 20 * SECOND);
/// And then has a fifth of its strength.
const WEAKNESS: u64 = 5;

/// What clients do about an attempt that failed.
#[derive(Clone, Copy)]
enum Clients {
    /// They try again so often.
    Naive(u32),
    /// They try again up to twice, if there is a budget for it: so many sidecars, each with so many workers.
    Budgeted { sidecars: usize, workers: u32 },
}

/// What stands before the service.
#[derive(Clone, Copy)]
enum Front {
    Nothing,
    /// At most so many requests in it at once.
    Cap(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Sent(usize),
    Attempt(usize),
    Answered(usize),
    TimedOut(usize),
    /// The service is done with an attempt, whether somebody waits for it or not.
    Done,
}

struct Request {
    sent: u64,
    account: usize,
    attempts: u32,
    set_aside: SetAside,
    succeeded: bool,
}

struct Service {
    busy_until: u64,
    cap: Option<Concurrency>,
    shares: Vec<Share>,
}

const SERVICE: WorkerId = WorkerId(1);

impl Service {
    /// When an attempt that comes now is done with.
    fn work(&mut self, now: u64) -> u64 {
        let start = self.busy_until.max(now);
        self.busy_until = done(start, SECOND / CAPACITY);
        self.busy_until
    }

    fn admits(&mut self) -> bool {
        let Some(cap) = self.cap else {
            return true;
        };
        let more = Concurrency::held(&self.shares, 0, SERVICE) + 1;
        let demand = Demand { tag: 0, owner: SERVICE, least: more, want: more };
        cap.demand(&mut self.shares, 1, &demand).is_ok()
    }
}

/// When a piece of work is done that takes so long at full strength.
fn done(start: u64, work: u64) -> u64 {
    let (weak, strong) = WEAK;
    let before = weak.saturating_sub(start).min(work);
    let (start, work) = (start + before, work - before);
    if work == 0 || strong <= start {
        return start + work;
    }
    let within = ((strong - start) / WEAKNESS).min(work);
    start + within * WEAKNESS + (work - within)
}

struct Outage {
    /// For each second, the requests sent in it and how many of them succeeded.
    seconds: Vec<(u64, u64)>,
    attempts: u64,
    requests: u64,
}

impl Outage {
    /// The time from when the service is strong again until 99 % of what is sent in each second succeed for good; `None` if that
    /// does not come.
    fn recovery(&self) -> Option<u64> {
        let bad = |(sent, succeeded): &(u64, u64)| succeeded * 100 < sent * 99;
        let last_bad = self.seconds.iter().rposition(bad).unwrap();
        let good_from = last_bad as u64 + 1;
        (last_bad + 10 < self.seconds.len()).then(|| good_from.saturating_sub(WEAK.1 / SECOND))
    }

    fn amplification(&self) -> f64 {
        self.attempts as f64 / self.requests as f64
    }
}

struct Simulation {
    clients: Clients,
    budget: Budget,
    accounts: Vec<Account>,
    service: Service,
    random: Random,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    attempts: u64,
}

impl Simulation {
    fn workers(&self) -> u32 {
        match self.clients {
            Clients::Naive(_) => 1,
            Clients::Budgeted { workers, .. } => workers,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.events.push(Reverse((time, event)));
    }

    fn send(&mut self, now: u64) {
        let account = self.random.below(self.accounts.len() as u64) as usize;
        let workers = self.workers();
        let set_aside = match self.clients {
            Clients::Naive(_) => SetAside::nothing(),
            Clients::Budgeted { .. } => {
                self.accounts[account].set_aside(&self.budget, 2, workers, Timestamp::from_nanos(now))
            }
        };
        self.requests.push(Request { sent: now, account, attempts: 0, set_aside, succeeded: false });
        self.attempt(now, self.requests.len() - 1);
    }

    fn attempt(&mut self, now: u64, request: usize) {
        self.attempts += 1;
        self.requests[request].attempts += 1;
        if !self.service.admits() {
            // Whoever refuses asks not to be asked again.
            return self.end(now, request, Outcome::ClientError);
        }
        let done = self.service.work(now);
        self.at(done, Event::Done);
        match done <= now + TIMEOUT {
            true => self.at(done, Event::Answered(request)),
            false => self.at(now + TIMEOUT, Event::TimedOut(request)),
        }
    }

    fn timed_out(&mut self, now: u64, request: usize) {
        let it = &self.requests[request];
        let retries = match self.clients {
            Clients::Naive(retries) => retries,
            Clients::Budgeted { .. } => it.set_aside.retries(),
        };
        if it.attempts <= retries {
            let backoff = self.random.below(25 * MILLISECOND);
            return self.at(now + backoff, Event::Attempt(request));
        }
        self.end(now, request, Outcome::Failure);
    }

    fn end(&mut self, now: u64, request: usize, outcome: Outcome) {
        let workers = self.workers();
        let it = &mut self.requests[request];
        it.succeeded = outcome == Outcome::Success;
        if let Clients::Budgeted { .. } = self.clients {
            let set_aside = std::mem::take(&mut it.set_aside);
            let now = Timestamp::from_nanos(now);
            self.accounts[it.account].settle(&self.budget, set_aside, Some(it.attempts - 1), outcome, workers, now);
        }
    }
}

fn outage(clients: Clients, load_percent: u64, front: Front, seconds: u64) -> Outage {
    let accounts = match clients {
        Clients::Naive(_) => 1,
        Clients::Budgeted { sidecars, workers } => sidecars * workers as usize,
    };
    let cap = match front {
        Front::Nothing => None,
        Front::Cap(max_in_flight) => Some(Concurrency { max_in_flight, max_hold: None }),
    };
    let mut sim = Simulation {
        clients,
        budget: Budget::default(),
        accounts: vec![Account::default(); accounts],
        service: Service { busy_until: 0, cap, shares: Vec::new() },
        random: Random::seeded(42),
        requests: Vec::new(),
        events: BinaryHeap::new(),
        attempts: 0,
    };
    let gap = 100 * SECOND / (CAPACITY * load_percent);
    sim.at(0, Event::Sent(0));
    while let Some(Reverse((now, event))) = sim.events.pop() {
        match event {
            Event::Sent(number) => {
                sim.send(now);
                // Evenly but for some jitter: what is measured is not how a queue copes with chance.
                let next = (number as u64 + 1) * gap + sim.random.below(gap);
                if next < seconds * SECOND {
                    sim.at(next, Event::Sent(number + 1));
                }
            }
            Event::Attempt(request) => sim.attempt(now, request),
            Event::Answered(request) => sim.end(now, request, Outcome::Success),
            Event::TimedOut(request) => sim.timed_out(now, request),
            Event::Done => Concurrency::release(&mut sim.service.shares, 0, SERVICE, 1),
        }
    }
    let mut per_second = vec![(0, 0); seconds as usize];
    for request in &sim.requests {
        let second = &mut per_second[(request.sent / SECOND) as usize];
        second.0 += 1;
        second.1 += u64::from(request.succeeded);
    }
    Outage { seconds: per_second, attempts: sim.attempts, requests: sim.requests.len() as u64 }
}

/// One budget for all clients; a fleet of sidecars with several workers each. (What time pays, each sidecar has for itself: with
/// twenty of them it is 3 % of the capacity and takes most of what the service has to spare at 95 %.)
const BUDGETED: [Clients; 2] =
    [Clients::Budgeted { sidecars: 1, workers: 1 }, Clients::Budgeted { sidecars: 5, workers: 4 }];

#[test]
fn naive_retries_never_recover() {
    for (load, seconds) in [(60, 60), (95, 320)] {
        let outage = outage(Clients::Naive(2), load, Front::Nothing, seconds);
        assert_eq!(outage.recovery(), None, "at {load} %");
        let last: u64 = outage.seconds.iter().rev().take(20).map(|(_, succeeded)| succeeded).sum();
        assert_eq!(last, 0, "at {load} %");
        assert!(2.5 < outage.amplification(), "{}", outage.amplification());
    }
}

#[test]
fn without_retries_the_queue_is_worked_off() {
    let recovery = outage(Clients::Naive(0), 95, Front::Nothing, 180).recovery();
    // A backlog of 7.5 s of work, down to the 3 s that clients wait, at a twentieth to spare.
    assert!(recovery.is_some_and(|it| (85..=95).contains(&it)), "{recovery:?}");
}

#[test]
fn budgeted_retries_recover_as_if_there_were_none() {
    for clients in BUDGETED {
        for (load, seconds) in [(60, 60), (89, 90), (95, 160)] {
            let ours = outage(clients, load, Front::Nothing, seconds);
            assert!(ours.recovery().is_some_and(|it| it <= 120), "{:?} at {load} %", ours.recovery());
        }
    }
}

#[test]
fn behind_a_short_queue_they_recover_at_once() {
    // A second's work.
    let cap = Front::Cap(CAPACITY as u32);
    for clients in BUDGETED {
        for load in [60, 89, 95] {
            let ours = outage(clients, load, cap, 60);
            assert!(ours.recovery().is_some_and(|it| it <= 5), "{:?} at {load} %", ours.recovery());
        }
    }
}

// === a chain of services ===

/// A chain in which each service calls the next and the last one fails always.
struct Chain {
    budget: Budget,
    accounts: Vec<Account>,
    /// Calls of the last service.
    calls: u64,
}

impl Chain {
    fn call(&mut self, layer: usize, now: Timestamp) {
        if layer == self.accounts.len() {
            self.calls += 1;
            return;
        }
        let set_aside = self.accounts[layer].set_aside(&self.budget, 2, 1, now);
        let retries = set_aside.retries();
        for _ in 0..=retries {
            self.call(layer + 1, now);
        }
        self.accounts[layer].settle(&self.budget, set_aside, Some(retries), Outcome::Failure, 1, now);
    }

    fn calls_in(&mut self, seconds: std::ops::Range<u64>, rate: u64) -> u64 {
        let before = self.calls;
        for request in seconds.start * rate..seconds.end * rate {
            self.call(0, Timestamp::from_nanos(request * SECOND / rate));
        }
        self.calls - before
    }
}

#[test]
fn five_layers_in_total_failure_add_next_to_nothing() {
    let budget = Budget::new(0.1, 1.0, Duration::from_secs(10)).unwrap();
    let mut chain = Chain { budget, accounts: vec![Account::default(); 5], calls: 0 };
    // What the accounts hold at first is spent.
    chain.calls_in(0..30, 150);
    let calls = chain.calls_in(30..90, 150);
    let amplification = calls as f64 / (60.0 * 150.0);
    assert!((1.0..=1.05).contains(&amplification), "{amplification}");
    // Three attempts in each layer would be 3⁵ = 243, a tenth of the requests 1.1⁵ = 1.61.
}
