//! Leaky buckets: who waits, for how long, and what becomes of the places of those who leave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, Sidecar, header, reason};
use crate::common::{MemoryHost, Random};
use outrigger::cx::{Cx, Telemetry};
use outrigger::host::Host;
use outrigger::limit::leaky_bucket::{LeakyBucket, MAX_WAIT, NextRelease};
use outrigger::limit::waiting::{self, MAX_WAITING, PLACES, Queue, Waiting};
use outrigger::pipeline::{Decision, Ticket};
use outrigger::shared::failure_mode::FailureMode;
use outrigger::shared::format::HEADER_SIZE;
use outrigger::shared::meter::{Denial, Meter};
use outrigger::shared::single::Single;
use outrigger::shared::table::KeyHash;
use outrigger::time::Timestamp;

const RECORD: &str = "outrigger/test/leaky_bucket/all";

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

fn queue(capacity: u32, spacing: u64) -> LeakyBucket {
    LeakyBucket::new(capacity, 1, Duration::from_nanos(spacing)).unwrap()
}

// === the policy ===

/// A queue as one would draw it: the instants at which those in it leave, and when the last one did.
struct Drawn {
    capacity: usize,
    spacing: u64,
    waiting: Vec<u64>,
    /// The first instant after all that were given out.
    next: u64,
}

impl Drawn {
    fn new(capacity: u32, spacing: u64) -> Self {
        Self { capacity: capacity as usize, spacing, waiting: Vec::new(), next: 0 }
    }

    /// When the request is released, or when the first place is free.
    fn arrive(&mut self, now: u64) -> Result<u64, u64> {
        self.waiting.retain(|release| now < *release);
        let release = self.next.max(now);
        if now < release && self.capacity <= self.waiting.len() {
            // A place is free when the first of those who wait goes; without places the next instant must come.
            return Err(self.waiting.first().copied().unwrap_or(release));
        }
        if now < release {
            self.waiting.push(release);
        }
        self.next = release + self.spacing;
        Ok(release)
    }

    /// The last of those who wait leaves.
    fn last_leaves(&mut self) -> Option<u64> {
        let left = self.waiting.pop();
        if left.is_some() {
            self.next -= self.spacing;
        }
        left
    }
}

#[test]
fn decides_like_a_queue_as_one_would_draw_it() {
    for seed in 1..=40 {
        let mut random = Random::seeded(seed);
        let capacity = [0, 1, 2, 10, 100][random.below(5) as usize];
        let scale = [10, 1_000, 100 * MILLISECOND][random.below(3) as usize];
        let spacing = 1 + random.below(scale);
        let queue = queue(capacity, spacing);
        let mut drawn = Drawn::new(capacity, spacing);
        let mut state = NextRelease::default();
        let mut now = random.below(SECOND);
        let mut load = 1;
        for step in 0..1_500 {
            if step % 100 == 0 {
                load = [1, 2, 4, 20][random.below(4) as usize];
            }
            now += random.below(2 * spacing / load + 2);
            let context = format!("seed {seed}, step {step}, {queue:?} at {now}");
            drawn.waiting.retain(|release| now < *release);
            if random.below(10) == 0
                && let Some(release) = drawn.last_leaves()
            {
                state = queue.refund(state, 1, at(release));
                continue;
            }
            match (queue.take(state, 1, at(now)), drawn.arrive(now)) {
                (Ok(grant), Ok(release)) => {
                    assert_eq!(nanos(grant.wait), release - now, "{context}");
                    assert!(grant.wait <= queue.max_wait(), "{context}");
                    let places = u64::from(capacity) + 1 - drawn.waiting.len() as u64;
                    assert!(grant.remaining < places, "{context}: {} of {places} remain", grant.remaining);
                    state = grant.state;
                }
                (Err(denial), Err(free)) => {
                    let retry_after = Some(Duration::from_nanos(free - now));
                    assert_eq!(denial, Denial { remaining: 0, retry_after }, "{context}");
                    assert!(queue.take(state, 1, at(free - 1)).is_err(), "{context}: 1 ns before");
                    assert!(queue.take(state, 1, at(free)).is_ok(), "{context}: at the instant");
                }
                (policy, drawn) => panic!("{context}: {policy:?}, not {drawn:?}"),
            }
        }
    }
}

#[test]
fn releases_are_in_order_and_apart_whatever_the_order_of_clocks() {
    for seed in 51..=60 {
        let mut random = Random::seeded(seed);
        let spacing = 1 + random.below(10 * MILLISECOND);
        let queue = queue(random.below(50) as u32, spacing);
        let (mut state, mut now, mut last) = (NextRelease::default(), SECOND, 0);
        let mut admitted = 0;
        for step in 0..2_000 {
            now += random.below(2 * spacing);
            let clock = now - random.below(10 * MILLISECOND);
            if let Ok(grant) = queue.take(state, 1, at(clock)) {
                let release = clock + nanos(grant.wait);
                assert!(last + spacing <= release || admitted == 0, "seed {seed}, step {step}, {queue:?}");
                (state, last) = (grant.state, release);
                admitted += 1;
            }
        }
        assert!(500 < admitted, "seed {seed}: {admitted}");
    }
}

#[test]
fn a_refusal_names_the_exact_instant_whatever_requests_cost() {
    let mut random = Random::seeded(61);
    for round in 0..200 {
        let capacity = random.below(10) as u32;
        let queue = queue(capacity, 1 + random.below(SECOND));
        let (mut state, mut now) = (NextRelease::default(), SECOND);
        for step in 0..50 {
            now += random.below(2 * nanos(queue.spacing()));
            let cost = 1 + random.below(u64::from(capacity) + 1);
            let context = format!("seed 61, round {round}, step {step}, {queue:?}, cost {cost}");
            match queue.take(state, cost, at(now)) {
                Ok(grant) => state = grant.state,
                Err(denial) => {
                    let free = now + nanos(denial.retry_after.unwrap());
                    assert!(queue.take(state, cost, at(free - 1)).is_err(), "{context}: 1 ns before");
                    assert!(queue.take(state, cost, at(free)).is_ok(), "{context}: at the instant");
                }
            }
        }
    }
}

#[test]
fn a_cost_above_what_the_queue_holds_never_passes() {
    let queue = queue(5, SECOND);
    for cost in [7, 1_000, u64::MAX] {
        let denial = queue.take(NextRelease::default(), cost, at(SECOND)).unwrap_err();
        assert_eq!(denial, Denial { remaining: 6, retry_after: None }, "cost {cost}");
    }
    assert!(queue.take(NextRelease::default(), 6, at(SECOND)).is_ok());
}

#[test]
fn without_capacity_a_request_passes_at_its_instant_or_not_at_all() {
    let queue = queue(0, 100);
    let state = queue.take(NextRelease::default(), 1, at(1_000)).unwrap().state;
    let denial = queue.take(state, 1, at(1_099)).unwrap_err();
    assert_eq!(denial.retry_after, Some(Duration::from_nanos(1)));
    let grant = queue.take(state, 1, at(1_100)).unwrap();
    assert_eq!(grant.wait, Duration::ZERO);
}

#[test]
fn what_is_given_back_was_never_taken() {
    let mut random = Random::seeded(62);
    for round in 0..2_000 {
        let queue = queue(20, 1 + random.below(1_000));
        let (mut state, now) = (NextRelease::default(), at(SECOND));
        for _ in 0..random.below(20) {
            state = queue.take(state, 1, now).unwrap().state;
        }
        let cost = 1 + random.below(5);
        let Ok(grant) = queue.take(state, cost, now) else {
            continue;
        };
        let instant = now.saturating_add(grant.wait);
        let back = queue.refund(grant.state, cost, instant);
        assert_eq!(queue.load(back, now), queue.load(state, now), "seed 62, round {round}");
        let earlier = at(instant.as_nanos() - 1);
        assert_eq!(queue.refund(grant.state, cost, earlier), grant.state, "not the last place");
    }
}

#[test]
fn another_pace_keeps_how_many_wait() {
    let (slow, fast) = (queue(50, SECOND), queue(80, SECOND / 10));
    let now = at(10 * SECOND);
    let mut state = NextRelease::default();
    for _ in 0..8 {
        state = slow.take(state, 1, now).unwrap().state;
    }
    let adopted = fast.adopt(state, slow.stamp(), now);
    assert_eq!(fast.take(adopted, 1, now).unwrap().wait, Duration::from_millis(800));
    let back = slow.adopt(adopted, fast.stamp(), now);
    assert_eq!(slow.take(back, 1, now).unwrap().wait, Duration::from_secs(8));
    let small = queue(3, SECOND);
    assert!(small.take(small.adopt(state, slow.stamp(), now), 1, now).is_err(), "more wait than it has places");
}

#[test]
fn an_exhausted_queue_has_a_place_after_one_release() {
    let (queue, now) = (queue(5, SECOND), at(7 * SECOND));
    let denial = queue.take(queue.exhausted(now), 1, now).unwrap_err();
    assert_eq!(denial, Denial { remaining: 0, retry_after: Some(Duration::from_secs(1)) });
    assert_eq!(queue.load(NextRelease::default(), now), 0);
}

#[test]
fn refuses_parameters_that_cannot_be_kept() {
    let second = Duration::from_secs(1);
    assert_eq!(LeakyBucket::new(1, 0, second), None, "nothing leaves");
    assert_eq!(LeakyBucket::new(1, 1, Duration::ZERO), None, "everything leaves at once");
    assert_eq!(LeakyBucket::new(1, 11, Duration::from_nanos(10)), None, "more than one a nanosecond");
    assert_eq!(LeakyBucket::new(3_601, 1, second), None, "the last waits longer than an hour");
    assert_eq!(LeakyBucket::new(3_600, 1, second).unwrap().max_wait(), MAX_WAIT);
    assert_eq!(LeakyBucket::new(0, 1, MAX_WAIT + second), None);
    assert_eq!(LeakyBucket::new(5, 3, second).unwrap().spacing(), Duration::from_nanos(333_333_334));
}

#[test]
fn no_state_and_no_clock_make_it_panic() {
    let mut random = Random::seeded(63);
    let edges = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, SECOND];
    for _ in 0..20_000 {
        let mut pick = || *edges.get(random.below(12) as usize).unwrap_or(&random.next());
        let (next, cost, now) = (LeakyBucket::decode(&pick().to_le_bytes()).unwrap(), pick(), at(pick()));
        let spacing = 1 + pick() % SECOND;
        let (queue, other) = (queue((pick() % 1_000) as u32, spacing), queue(5, 1 + pick() % SECOND));
        let _ = queue.take(next, cost, now);
        let _ = queue.refund(next, cost, now);
        let _ = queue.adopt(next, other.stamp(), now);
        let _ = queue.exhausted(now);
        let _ = queue.load(next, now);
    }
    assert_eq!(LeakyBucket::decode(&[0; 7]), None);
    assert_eq!(LeakyBucket::decode(&[0; 9]), None);
}

// === in a shared record ===

struct Shared {
    host: Rc<MemoryHost>,
    telemetry: Telemetry,
    single: Single<LeakyBucket>,
}

impl Shared {
    fn new(queue: LeakyBucket, mode: FailureMode) -> Self {
        let single = Single::new(RECORD.to_owned(), queue, mode);
        Self { host: MemoryHost::new(), telemetry: Telemetry::default(), single }
    }

    /// The wait of one who is admitted, or of one who is refused.
    fn take(&self, cost: u64, now: u64) -> Result<u64, u64> {
        let taken = self.single.take(&Cx::at(&*self.host, &self.telemetry, at(now)), cost).unwrap();
        taken.map(|grant| nanos(grant.wait)).map_err(|denial| nanos(denial.retry_after.unwrap()))
    }
}

#[test]
fn a_clock_that_steps_back_an_hour_costs_a_full_queue_at_most() {
    let shared = Shared::new(queue(5, SECOND), FailureMode::Allow);
    while shared.take(1, 2 * HOUR).is_ok() {}
    let wait = shared.take(1, HOUR).unwrap_err();
    assert!(wait <= SECOND, "{wait}");
    assert_eq!(shared.take(1, HOUR + wait), Ok(5 * SECOND));
    assert_eq!(shared.take(1, HOUR + 10 * SECOND), Ok(0));
}

#[test]
fn garbage_in_the_record_holds_nobody_longer_than_a_full_queue() {
    let mut random = Random::seeded(64);
    for round in 0..500 {
        for mode in [FailureMode::Allow, FailureMode::Deny] {
            let shared = Shared::new(queue(5, SECOND), mode);
            shared.take(1, HOUR).unwrap();
            let mut record = shared.host.record(RECORD).unwrap();
            match round % 3 {
                0 => record.truncate(random.below(record.len() as u64) as usize),
                1 => record.iter_mut().for_each(|byte| *byte = random.next() as u8),
                _ => record[HEADER_SIZE..].iter_mut().for_each(|byte| *byte = random.next() as u8),
            }
            shared.host.put_record(RECORD, &record);
            let _ = shared.take(1, HOUR);
            let later = shared.take(1, HOUR + 7 * SECOND);
            assert_eq!(later, Ok(0), "seed 64, round {round}, {mode:?}: {record:?}");
        }
    }
}

/// On the shared record, where a refusal may write: places for the future are given out once.
#[test]
fn no_cost_and_no_refusal_raise_the_rate() {
    for seed in 71..=90 {
        let mut random = Random::seeded(seed);
        let capacity = random.below(10) as u32;
        let spacing = SECOND / 2 + random.below(2 * SECOND);
        let shared = Shared::new(queue(capacity, spacing), FailureMode::Allow);
        let (mut now, mut taken) = (HOUR, 0);
        let end = now + 1_000 * spacing;
        while now < end {
            now += random.below(spacing);
            let cost = 1 + random.below(u64::from(capacity) + 1);
            if shared.take(cost, now).is_ok() {
                taken += cost;
            }
        }
        // What was given out for later, the last request being as large as may be.
        let most = 1_000 + 2 * u64::from(capacity) + 3;
        assert!(taken <= most, "seed {seed}: {taken} of {most}, capacity {capacity}");
    }
}

// === in the pipeline ===

fn config(capacity: u32, drain: u32) -> String {
    format!(
        r#"{{ "limits": [{{ "name": "all",
            "leaky_bucket": {{ "capacity": {capacity}, "drain": {drain}, "drain_interval": "1s" }} }}] }}"#
    )
}

/// The instant at which an admitted request goes on.
fn release(sidecar: &Sidecar, decision: &Decision) -> Option<u64> {
    match decision {
        Decision::Forward(_) => Some(sidecar.now()),
        Decision::Wait(_, until) => Some(until.as_nanos()),
        Decision::Reply(_) => None,
    }
}

#[test]
fn requests_go_on_one_by_one_over_all_workers() {
    let workers = Sidecar::several(4, &config(3, 10));
    let start = workers[0].now();
    let releases: Vec<Option<u64>> =
        workers.iter().map(|it| it.ask(&[])).map(|(decision, _)| release(&workers[0], &decision)).collect();
    let expected = [0, 1, 2, 3].map(|place| Some(start + place * 100 * MILLISECOND));
    assert_eq!(releases, expected);
    let refused = workers[0].begin(&[]).unwrap_err();
    assert_eq!(header(&refused, "retry-after"), Some("1"));
    assert_eq!(reason(&refused), "limit/all");
    workers[0].host.advance(100 * MILLISECOND);
    assert_eq!(release(&workers[1], &workers[1].ask(&[]).0), Some(start + 400 * MILLISECOND));
}

#[test]
fn twenty_a_second_go_on_under_ten_times_as_many() {
    let workers = Sidecar::several(4, &config(50, 20));
    let spacing = 50 * MILLISECOND;
    let mut random = Random::seeded(91);
    let start = workers[0].now();
    let mut releases = Vec::new();
    while workers[0].now() < start + 5 * SECOND {
        workers[0].host.advance(random.below(10 * MILLISECOND));
        let worker = &workers[random.below(4) as usize];
        let (decision, ticket) = worker.ask(&[]);
        match release(worker, &decision) {
            None => worker.end(ticket),
            Some(release) => {
                releases.push(release);
                assert!(release - worker.now() <= 50 * spacing);
            }
        }
    }
    assert!(releases.is_sorted_by(|one, next| one + spacing <= *next), "seed 91");
    let by_now = releases.iter().filter(|release| **release < start + 5 * SECOND).count();
    assert!((99..=101).contains(&by_now), "{by_now} in 5 s");
    assert_eq!(releases.len() - by_now, 50, "the queue is full");
}

#[test]
fn a_request_that_went_on_says_how_long_it_waited() {
    let sidecar = Sidecar::new(&config(5, 10));
    let histogram = "limit=.=all;.;outrigger_queue_wait_milliseconds";
    let (_, first) = sidecar.ask(&[]);
    let (decision, mut second) = sidecar.ask(&[]);
    let Decision::Wait(_, until) = decision else { panic!("{decision:?}") };
    assert_eq!(sidecar.worker.limit.waiting.get(), 1);
    sidecar.host.set_now(until.as_nanos() + MILLISECOND);
    let _ = sidecar.resume(&mut second);
    assert_eq!((sidecar.worker.limit.waiting.get(), sidecar.host.metric(histogram)), (0, 101));
    // Once: a request does not go on twice.
    let _ = sidecar.resume(&mut second);
    assert_eq!((sidecar.worker.limit.waiting.get(), sidecar.host.metric(histogram)), (0, 101));
    let before = sidecar.host.records();
    sidecar.answer(first);
    sidecar.answer(second);
    assert_eq!(sidecar.host.records(), before, "who went on used its place up");
    let success = "operation=.=other;.;tier=.=P1;.;outcome=.=success;.;outrigger_requests_total";
    assert_eq!(sidecar.host.metric(success), 2);
    assert_eq!(sidecar.due(), None, "nothing waits, nothing wakes");
}

#[test]
fn a_thousand_clients_that_leave_while_waiting_leave_nothing_behind() {
    for workers in [1, 4] {
        let config = config(2_000, 10);
        let queue = LeakyBucket::new(2_000, 10, Duration::from_secs(1)).unwrap();
        let workers = Sidecar::several(workers, &config);
        let mut random = Random::seeded(92);
        assert!(matches!(workers[0].ask(&[]).0, Decision::Forward(_)));
        let before = workers[0].host.records();
        let mut waiting: Vec<(usize, Ticket)> = Vec::new();
        for client in 0..1_000 {
            let worker = client % workers.len();
            let (decision, ticket) = workers[worker].ask(&[]);
            assert!(matches!(decision, Decision::Wait(..)));
            waiting.push((worker, ticket));
        }
        // The first five go on; whoever is left leaves, in any order. A crowd as large as those gets their places.
        workers[0].host.advance(500 * MILLISECOND);
        for (worker, mut ticket) in waiting.drain(..5) {
            let _ = workers[worker].resume(&mut ticket);
            workers[worker].answer(ticket);
        }
        while !waiting.is_empty() {
            let (worker, ticket) = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
            workers[worker].end(ticket);
        }
        let now = workers[0].now();
        let mut instants: Vec<u64> = Vec::new();
        let mut crowd: Vec<(usize, Ticket)> = Vec::new();
        for client in 0..995 {
            // Each worker has as many places to give as clients left it.
            let (decision, ticket) = workers[client % workers.len()].ask(&[]);
            instants.push(release(&workers[0], &decision).unwrap());
            crowd.push((client % workers.len(), ticket));
        }
        instants.sort_unstable();
        let spacing = nanos(queue.spacing());
        assert!(instants.windows(2).all(|pair| spacing <= pair[1] - pair[0]), "no instant is given twice");
        assert!(instants[994] <= now + 1_000 * spacing, "no place was lost: {}", instants[994] - now);
        for (worker, ticket) in crowd {
            workers[worker].end(ticket);
        }
        assert!(workers.iter().all(|it| it.worker.limit.waiting.get() == 0), "{} workers", workers.len());
        let cancelled = "operation=.=other;.;tier=.=P1;.;outcome=.=cancelled;.;outrigger_requests_total";
        assert_eq!(workers[0].host.metric(cancelled), 2 * 995);
        let keys: Vec<String> = before.into_keys().collect();
        assert_eq!(workers[0].host.record_keys(), keys, "no record was made for them");
    }
}

#[test]
fn clients_that_leave_do_not_let_more_go_on_than_the_rate() {
    let (capacity, spacing) = (20, 100 * MILLISECOND);
    for seed in 93..=97 {
        let sidecar = Sidecar::new(&config(capacity, 10));
        let mut random = Random::seeded(seed);
        let mut waiting: Vec<(u64, Ticket)> = Vec::new();
        let mut gone_on: Vec<u64> = Vec::new();
        for _ in 0..5_000 {
            sidecar.host.advance(random.below(30 * MILLISECOND));
            let now = sidecar.now();
            waiting.sort_by_key(|(release, _)| *release);
            while waiting.first().is_some_and(|(release, _)| *release <= now) {
                let (release, mut ticket) = waiting.remove(0);
                let _ = sidecar.resume(&mut ticket);
                gone_on.push(release);
                sidecar.answer(ticket);
            }
            if random.below(3) == 0 && !waiting.is_empty() {
                sidecar.end(waiting.swap_remove(random.below(waiting.len() as u64) as usize).1);
            }
            let (decision, ticket) = sidecar.ask(&[]);
            match release(&sidecar, &decision) {
                Some(release) if release == now => {
                    gone_on.push(release);
                    sidecar.answer(ticket);
                }
                Some(release) => waiting.push((release, ticket)),
                None => sidecar.end(ticket),
            }
        }
        gone_on.sort_unstable();
        for (index, start) in gone_on.iter().enumerate() {
            for (further, end) in gone_on[index..].iter().enumerate() {
                // As many as if nobody had left: one per spacing.
                let most = 1 + (end - start) / spacing;
                assert!((further as u64) < most, "seed {seed}: {} in {} ms", further + 1, (end - start) / MILLISECOND);
            }
        }
        assert!(400 < gone_on.len(), "seed {seed}: {}", gone_on.len());
    }
}

#[test]
fn a_worker_holds_no_more_than_its_cap_and_the_refused_leave_their_places() {
    let workers = Sidecar::several(2, &config(5_000, 100));
    let mut tickets = Vec::new();
    for _ in 0..=MAX_WAITING {
        let (decision, ticket) = workers[0].ask(&[]);
        assert!(!matches!(decision, Decision::Reply(_)));
        tickets.push(ticket);
    }
    assert_eq!(workers[0].worker.limit.waiting.get(), MAX_WAITING);
    let before = workers[0].host.records();
    let reply = workers[0].begin(&[]).unwrap_err();
    assert_eq!(header(&reply, "retry-after"), Some("11"), "10.25 s, for which it would have waited");
    assert_eq!(workers[0].host.records(), before);
    assert!(matches!(workers[1].ask(&[]).0, Decision::Wait(..)), "another worker has its own");
    workers[0].end(tickets.pop().unwrap());
    assert!(matches!(workers[0].ask(&[]).0, Decision::Wait(..)), "there is a place again");
}

/// A queue per user, of any length, that moves so slowly that nobody goes on.
fn endless(limits: &[&str]) -> String {
    let limit = |name: &&str| {
        format!(
            r#"{{ "name": "{name}", "operations": ["{name}"], "key": ["header:x-user"],
                 "leaky_bucket": {{ "capacity": 3000, "drain": 1, "drain_interval": "1s" }} }}"#
        )
    };
    let operation = |name: &&str| format!(r#"{{ "name": "{name}", "match": {{ "paths": ["/{name}"] }} }}"#);
    let list = |parts: Vec<String>| parts.join(", ");
    let (limits, operations) = (limits.iter().map(limit).collect(), limits.iter().map(operation).collect());
    format!(r#"{{ "operations": [{}], "limits": [{}] }}"#, list(operations), list(limits))
}

/// Whether a request of the user waits. The first of each goes on.
fn waits(sidecar: &Sidecar, path: &str, user: &str, tickets: &mut Vec<Ticket>) -> bool {
    match sidecar.ask(&[(":path", path), ("x-user", user)]) {
        (Decision::Reply(_), ticket) => {
            sidecar.end(ticket);
            false
        }
        (Decision::Wait(..), ticket) => {
            tickets.push(ticket);
            true
        }
        (Decision::Forward(_), ticket) => {
            sidecar.answer(ticket);
            waits(sidecar, path, user, tickets)
        }
    }
}

/// One key that keeps refilling its queue, and fifty others.
#[test]
fn a_greedy_key_takes_no_place_that_others_want() {
    let sidecar = Sidecar::new(&endless(&["a"]));
    let (mut greedy, mut others) = (Vec::new(), Vec::new());
    while waits(&sidecar, "/a", "greedy", &mut greedy) {}
    assert_eq!(greedy.len(), MAX_WAITING);
    for user in 0..50 {
        for turn in 0..10 {
            assert!(waits(&sidecar, "/a", &user.to_string(), &mut others), "{turn} of user {user}");
            assert!(!waits(&sidecar, "/a", "greedy", &mut greedy), "nor does it refill");
        }
    }
    // It takes none until it holds no more than is free: 773 of 1024, beside 500 of others.
    for left in (773..MAX_WAITING).rev() {
        sidecar.end(greedy.pop().unwrap());
        let mut refilled = Vec::new();
        assert_eq!(waits(&sidecar, "/a", "greedy", &mut refilled), left == 773, "{left} left");
        greedy.extend(refilled);
    }
    others.into_iter().chain(greedy).for_each(|ticket| sidecar.end(ticket));
}

/// Also where it has a limit of its own, or several keys.
#[test]
fn greedy_keys_get_equal_shares_and_leave_as_much() {
    for greedy in [1, 2, 3, 10, 49] {
        let sidecar = Sidecar::new(&endless(&["a", "b"]));
        let mut tickets = Vec::new();
        let mut counts = vec![0; greedy];
        for _ in 0..PLACES {
            for (key, count) in counts.iter_mut().enumerate() {
                let path = if key % 2 == 0 { "/a" } else { "/b" };
                *count += usize::from(waits(&sidecar, path, &(key / 2).to_string(), &mut tickets));
            }
        }
        let share = PLACES / (greedy + 1);
        assert!(counts.iter().all(|count| share <= *count && *count <= share + 1), "{greedy}: {counts:?}");
        assert!(share <= PLACES - sidecar.worker.limit.waiting.get() + 1, "{greedy}: as much is free");
        assert!(waits(&sidecar, "/b", "new", &mut tickets));
        tickets.into_iter().for_each(|ticket| sidecar.end(ticket));
        assert_eq!(sidecar.worker.limit.waiting.get(), 0);
    }
}

/// Against a model, with keys of two limits that come, wait, go on and leave, over configurations.
#[test]
fn places_are_shared_as_the_model_shares_them() {
    let mut random = Random::seeded(3);
    for _ in 0..4 {
        let waiting = Waiting::default();
        let limits = ["a", "b"].map(waiting::limit);
        assert_ne!(limits[0], limits[1]);
        let mut model: Vec<Queue> = Vec::new();
        let mut counts: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        let keys = 1 + random.below(60);
        for _ in 0..10_000 {
            // Most come from a few keys.
            let key = random.below(keys).min(random.below(keys)).min(random.below(keys));
            let queue = Queue { limit: limits[random.below(2) as usize], key: KeyHash(key) };
            let own = counts.get(&(queue.limit, key)).copied().unwrap_or(0);
            let free = PLACES - model.len();
            assert_eq!(waiting.has_place(queue), own < free);
            if own < free && random.below(8) != 0 {
                waiting.join(queue);
                model.push(queue);
                *counts.entry((queue.limit, key)).or_default() += 1;
            } else if !model.is_empty() && random.below(2) == 0 {
                let gone = model.swap_remove(random.below(model.len() as u64) as usize);
                waiting.leave(gone);
                *counts.get_mut(&(gone.limit, gone.key.0)).unwrap() -= 1;
            }
            assert_eq!(waiting.get(), model.len());
            assert!(model.len() < PLACES);
        }
        waiting.leave(Queue { limit: 7, key: KeyHash(7) });
        model.drain(..).for_each(|queue| waiting.leave(queue));
        assert_eq!(waiting.get(), 0);
    }
}

#[test]
fn nobody_waits_longer_than_its_caller_does() {
    let sidecar = Sidecar::new(&config(100, 10));
    let (_, _first) = sidecar.ask(&[]);
    // The next one would wait for 100 ms.
    let before = sidecar.host.records();
    let grpc = ("content-type", "application/grpc");
    let hasty: [&[(&str, &str)]; 6] = [
        &[("grpc-timeout", "100m"), grpc],
        &[("grpc-timeout", "99999u"), grpc],
        &[("grpc-timeout", "1n"), grpc],
        &[("x-envoy-expected-rq-timeout-ms", "100")],
        &[("x-envoy-expected-rq-timeout-ms", "99")],
        &[("grpc-timeout", "5S"), ("x-envoy-expected-rq-timeout-ms", "50")],
    ];
    for headers in hasty {
        let (decision, ticket) = sidecar.ask(headers);
        let Decision::Reply(reply) = decision else { panic!("{headers:?}") };
        assert_eq!((reason(&reply), header(&reply, "retry-after")), ("limit/all", Some("1")), "{headers:?}");
        sidecar.end(ticket);
        assert_eq!(sidecar.host.records(), before, "{headers:?}: it leaves its place");
    }
    let patient: [&[(&str, &str)]; 7] = [
        &[("grpc-timeout", "101m"), grpc],
        &[("grpc-timeout", "99999999H"), grpc],
        &[("x-envoy-expected-rq-timeout-ms", "101")],
        &[("x-envoy-expected-rq-timeout-ms", "-5")],
        &[("x-envoy-expected-rq-timeout-ms", "soon")],
        &[("grpc-timeout", "123456789n")],
        &[("grpc-timeout", "")],
    ];
    for headers in patient {
        let (decision, ticket) = sidecar.ask(headers);
        assert!(matches!(decision, Decision::Wait(..)), "{headers:?}: {decision:?}");
        sidecar.end(ticket);
    }
}

#[test]
fn of_two_queues_the_longer_wait_counts_and_both_get_their_places_back() {
    let slow = r#"{ "name": "slow", "leaky_bucket": { "capacity": 10, "drain": 1, "drain_interval": "1s" } }"#;
    let fast = r#"{ "name": "fast", "leaky_bucket": { "capacity": 10, "drain": 10, "drain_interval": "1s" } }"#;
    for limits in [[slow, fast], [fast, slow]] {
        let sidecar = Sidecar::new(&format!(r#"{{ "limits": [{}] }}"#, limits.join(",")));
        let (_, _first) = sidecar.ask(&[]);
        let before = sidecar.host.records();
        let (decision, ticket) = sidecar.ask(&[]);
        assert_eq!(release(&sidecar, &decision), Some(sidecar.now() + SECOND));
        sidecar.end(ticket);
        assert_eq!(sidecar.host.records(), before);
        let (_, mut ticket) = sidecar.ask(&[]);
        sidecar.host.advance(SECOND);
        let _ = sidecar.resume(&mut ticket);
        assert_eq!(sidecar.host.metric("limit=.=slow;.;outrigger_queue_wait_milliseconds"), 1_000);
        assert_eq!(sidecar.host.metric("limit=.=fast;.;outrigger_queue_wait_milliseconds"), 0);
    }
}

#[test]
fn each_key_has_its_own_queue() {
    let config = config(2, 1).replace(r#""name": "all""#, r#""name": "all", "key": ["header:x-user"]"#);
    let workers = Sidecar::several(2, &config);
    for user in ["alice", "bob", "carol"] {
        for place in 0..3 {
            let worker = &workers[place % 2];
            let (decision, _ticket) = worker.ask(&[("x-user", user)]);
            assert_eq!(release(worker, &decision), Some(worker.now() + place as u64 * SECOND), "{user}");
        }
        assert!(workers[0].begin(&[("x-user", user)]).is_err(), "{user}");
    }
}

#[test]
fn a_queue_whose_state_cannot_be_used_follows_the_failure_mode() {
    for (mode, passes) in [("allow", true), ("deny", false)] {
        for call in ["shared_get", "shared_set"] {
            let config = config(2, 1).replace(r#""name""#, &format!(r#""failure_mode": "{mode}", "name""#));
            let sidecar = Sidecar::new(&config);
            sidecar.host.break_call(call);
            for _ in 0..5 {
                assert_eq!(sidecar.begin(&[]).is_ok(), passes, "{mode}, {call}");
            }
            sidecar.host.repair(call);
            assert!(matches!(sidecar.ask(&[]).0, Decision::Forward(_)), "{mode}, {call}");
            assert_eq!(sidecar.host.now(), at(sidecar.now()));
        }
    }
}

/// Who waits has taken its tokens of the other limits too; when it leaves after these came back with time, they must not come
/// back again.
#[test]
fn a_crowd_that_leaves_a_queue_late_does_not_fill_a_bucket_beyond_its_size() {
    for key in ["", r#""key": ["host"], "#] {
        let bucket = r#""token_bucket": { "max_tokens": 50, "tokens_per_fill": 50, "fill_interval": "1s" }"#;
        let queue = r#""leaky_bucket": { "capacity": 1000, "drain": 10, "drain_interval": "1s" }"#;
        let sidecar = Sidecar::new(&format!(
            r#"{{ "limits": [{{ "name": "b", {key}{bucket} }}, {{ "name": "q", "methods": ["GET"], {queue} }}] }}"#
        ));
        let mut waiting = Vec::new();
        for _ in 0..200 {
            sidecar.host.advance(20 * MILLISECOND);
            waiting.push(sidecar.ask(&[]).1);
        }
        sidecar.host.advance(2 * SECOND);
        for ticket in waiting {
            sidecar.end(ticket);
        }
        let passes = |_: &usize| matches!(sidecar.ask(&[(":method", "POST")]).0, Decision::Forward(_));
        assert_eq!((0..300).filter(passes).count(), 50, "{key}");
    }
}
