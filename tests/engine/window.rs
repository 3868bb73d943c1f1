//! Windows: never more than the limit in any interval, however cleverly somebody sends.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::rc::Rc;
use std::time::Duration;

use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, Sidecar, header, take_shared_calls};
use crate::common::{MemoryHost, Random};
use outrigger::cx::{Cx, Telemetry};
use outrigger::limit::window::{Counts, LeasedWindow, MAX_INTERVAL, Ring, Window};
use outrigger::pipeline::{Decision, Ticket};
use outrigger::shared::failure_mode::FailureMode;
use outrigger::shared::format::HEADER_SIZE;
use outrigger::shared::meter::{Denial, Meter};
use outrigger::shared::single::Single;
use outrigger::shared::table::{KeyHash, Table};
use outrigger::time::Timestamp;

const RECORD: &str = "outrigger/test/window/all";

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

fn ring<const PARTS: usize, const SEEN: usize>(max_requests: u32, interval: u64) -> Ring<PARTS, SEEN> {
    Ring::new(max_requests, Duration::from_nanos(interval)).unwrap()
}

fn window(max_requests: u32, interval: u64) -> Window {
    ring(max_requests, interval)
}

/// The most that was admitted in any interval of that length, both ends included. In the order of time.
fn most_in_any(interval: u64, admitted: &[(u64, u64)]) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for (time, cost) in admitted {
        sum += cost;
        while admitted[first].0 + interval < *time {
            sum -= admitted[first].1;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// Offers a request at each of the instants; returns what was admitted, and checks the promise.
fn offer<const PARTS: usize, const SEEN: usize>(
    window: &Ring<PARTS, SEEN>,
    interval: u64,
    requests: impl Iterator<Item = (u64, u64)>,
    context: &str,
) -> Vec<(u64, u64)> {
    let mut counts = Counts::default();
    let mut admitted = Vec::new();
    for (now, cost) in requests {
        if let Ok(grant) = window.take(counts, cost, at(now)) {
            counts = grant.state;
            admitted.push((now, cost));
        }
    }
    let most = most_in_any(interval, &admitted);
    assert!(most <= window.max_requests(), "{context}: {most} in {interval} ns, {window:?}");
    admitted
}

// === the promise ===

fn greedy<const PARTS: usize, const SEEN: usize>() {
    const TRIES: u64 = 100_000;
    for (interval, pace) in [(10 * SECOND, 5 * MILLISECOND), (SECOND, 3_333_333), (999_999_937, 7_919_000), (1_000, 1)]
    {
        let window: Ring<PARTS, SEEN> = ring(100, interval);
        let tries = (0..TRIES).map(|turn| (SECOND + turn * pace, 1));
        let admitted = offer(&window, interval, tries, "steady").len() as u64;
        let ideal = 100 * (TRIES * pace / interval);
        assert!(ideal * 9 <= admitted * 10, "{admitted} of {ideal}, {window:?}");
    }
}

#[test]
fn a_greedy_caller_never_gets_more_than_the_limit_and_nine_tenths_of_it() {
    greedy::<10, 11>();
    greedy::<20, 22>();
}

fn rhythms<const PARTS: usize, const SEEN: usize>() {
    for seed in 1..=20 {
        let mut random = Random::seeded(seed);
        let interval = 1 + random.below(20 * SECOND);
        let limit = 1 + random.below(200) as u32;
        let window: Ring<PARTS, SEEN> = ring(limit, interval);
        let part = nanos(window.interval()) / PARTS as u64;
        let mut now = random.below(HOUR);
        let tries = (0..10_000).map(|turn| {
            now += match seed % 4 {
                // Jitter about the fair pace.
                0 => random.below(2 * interval / u64::from(limit) + 1),
                // Bursts, and pauses of about an interval.
                1 if random.below(50) == 0 => interval - random.below(part + 1) + random.below(part + 1),
                1 => random.below(1 + part / 50),
                // Bursts on both sides of the bounds of sub-windows.
                2 if turn % 300 == 0 => part * (1 + random.below(12)) - now % part - random.below(2).min(now % 2),
                2 => random.below(2),
                _ => random.below(1 + part / 10),
            };
            (now, 1)
        });
        offer(&window, interval, tries, &format!("seed {seed}"));
    }
}

#[test]
fn no_rhythm_gets_more_than_the_limit_in_any_interval() {
    rhythms::<10, 11>();
    rhythms::<20, 22>();
}

fn costs<const PARTS: usize, const SEEN: usize>() {
    for seed in 21..=30 {
        let mut random = Random::seeded(seed);
        let interval = 1 + random.below(20 * SECOND);
        let window: Ring<PARTS, SEEN> = ring(50, interval);
        let mut now = 0;
        let tries = (0..10_000).map(|_| {
            now += random.below(1 + interval / 40);
            (now, 1 + random.below(60))
        });
        let admitted = offer(&window, interval, tries, &format!("seed {seed}"));
        assert!(admitted.iter().any(|(_, cost)| 30 < *cost), "seed {seed}: large ones pass too");
    }
}

#[test]
fn costs_count_as_many_requests() {
    costs::<10, 11>();
    costs::<20, 22>();
}

#[test]
fn late_clocks_do_not_matter_where_there_is_a_sub_window_to_spare() {
    for seed in 301..=320 {
        let mut random = Random::seeded(seed);
        let window: LeasedWindow = ring(40, 50 * MILLISECOND + random.below(SECOND));
        let (interval, latest) = (nanos(window.interval()), nanos(window.part()));
        let (mut counts, mut now) = (Counts::default(), SECOND);
        let mut admitted = Vec::new();
        for _ in 0..10_000 {
            now += random.below(interval / 40);
            let clock = now - [0, latest, random.below(latest + 1)][random.below(3) as usize];
            if let Ok(grant) = window.take(counts, 1, at(clock)) {
                counts = grant.state;
                admitted.push((now, 1));
            }
        }
        let most = most_in_any(interval, &admitted);
        assert!(most <= 40, "seed {seed}: {most} in {interval} ns");
        assert!(2_000 < admitted.len(), "seed {seed}: {}", admitted.len());
    }
}

#[test]
fn late_clocks_shorten_the_interval_by_no_more_than_they_are_late() {
    const LATEST: u64 = 10 * MILLISECOND;
    for seed in 31..=40 {
        let mut random = Random::seeded(seed);
        let interval = 50 * MILLISECOND + random.below(SECOND);
        let window = window(40, interval);
        let (mut counts, mut now) = (Counts::default(), SECOND);
        let mut admitted = Vec::new();
        for _ in 0..10_000 {
            now += random.below(interval / 40);
            let clock = now - random.below(LATEST);
            if let Ok(grant) = window.take(counts, 1, at(clock)) {
                counts = grant.state;
                admitted.push((now, 1));
            }
        }
        let most = most_in_any(interval - LATEST, &admitted);
        assert!(most <= 40, "seed {seed}: {most} in {interval} ns less {LATEST}");
        assert!(2_000 < admitted.len(), "seed {seed}: {}", admitted.len());
    }
}

/// Random states that come about, with a limit and an instant.
fn for_random_states<const PARTS: usize, const SEEN: usize>(
    seed: u64,
    mut check: impl FnMut(&Ring<PARTS, SEEN>, Counts<SEEN>, u64, &mut Random, &str),
) {
    let mut random = Random::seeded(seed);
    for round in 0..400 {
        let interval = 10 + random.below(10 * SECOND);
        let window = ring(1 + random.below(30) as u32, interval);
        let (mut counts, mut now) = (Counts::default(), random.below(HOUR));
        for _ in 0..20 {
            now += random.below(interval / 5);
            let cost = 1 + random.below(3);
            counts = window.take(counts, cost, at(now)).map_or(counts, |grant| grant.state);
        }
        check(&window, counts, now, &mut random, &format!("seed {seed}, round {round}"));
    }
}

fn refusals<const PARTS: usize, const SEEN: usize>() {
    let mut refusals = 0;
    for_random_states::<PARTS, SEEN>(41, |window, counts, now, random, context| {
        for _ in 0..10 {
            let cost = 1 + random.below(window.max_requests());
            let Err(denial) = window.take(counts, cost, at(now)) else {
                continue;
            };
            refusals += 1;
            let free = now + nanos(denial.retry_after.unwrap());
            assert!(denial.remaining < cost, "{context}, cost {cost}");
            assert!(window.take(counts, cost, at(free - 1)).is_err(), "{context}, cost {cost}: 1 ns before");
            assert!(window.take(counts, cost, at(free)).is_ok(), "{context}, cost {cost}: at the instant");
        }
    });
    assert!(1_000 < refusals, "{refusals}");
}

#[test]
fn a_refusal_names_the_exact_instant() {
    refusals::<10, 11>();
    refusals::<20, 22>();
}

fn remainders<const PARTS: usize, const SEEN: usize>() {
    for_random_states::<PARTS, SEEN>(42, |window, counts, now, _, context| {
        let load = window.load(counts, at(now));
        let left = window.max_requests() - load;
        if 0 < left {
            let grant = window.take(counts, left, at(now)).unwrap();
            assert_eq!((grant.remaining, grant.wait), (0, Duration::ZERO), "{context}");
        }
        if load != 0 {
            let denial = window.take(counts, left + 1, at(now)).unwrap_err();
            assert_eq!(denial.remaining, left, "{context}");
        }
    });
}

#[test]
fn what_remains_is_there_and_not_one_more() {
    remainders::<10, 11>();
    remainders::<20, 22>();
}

#[test]
fn a_cost_above_the_limit_never_passes() {
    let window = window(10, SECOND);
    for cost in [11, u64::from(u32::MAX) + 1, u64::MAX] {
        let denial = window.take(Counts::default(), cost, at(HOUR)).unwrap_err();
        assert_eq!(denial, Denial { remaining: 10, retry_after: None });
    }
}

fn given_back<const PARTS: usize, const SEEN: usize>() {
    for_random_states::<PARTS, SEEN>(43, |window, counts, now, random, context| {
        let cost = 1 + random.below(3);
        let Ok(grant) = window.take(counts, cost, at(now)) else {
            return;
        };
        let back = window.refund(grant.state, cost, at(now));
        for parts in 0..SEEN as u64 {
            let later = at(now + parts * nanos(window.part()));
            assert_eq!(window.load(back, later), window.load(counts, later), "{context}");
        }
        let none = window.refund(back, u64::MAX, at(now));
        assert!(window.load(none, at(now)) <= window.load(back, at(now)), "{context}: no more than there is");
    });
}

#[test]
fn what_is_given_back_at_once_was_never_taken() {
    given_back::<10, 11>();
    given_back::<20, 22>();
}

#[test]
fn nothing_is_remembered_after_the_interval_and_a_tenth() {
    for_random_states(44, |window: &Window, counts, now, _, context| {
        let forgotten = now + nanos(window.interval()) / 10 * 11;
        assert_eq!(window.load(counts, at(forgotten)), 0, "{context}");
        let all = window.take(counts, window.max_requests(), at(forgotten));
        assert_eq!(all, window.take(Counts::default(), window.max_requests(), at(forgotten)), "{context}");
    });
    let window = window(7, SECOND);
    let exhausted = window.exhausted(at(HOUR));
    assert_eq!(window.load(exhausted, at(HOUR)), 7);
    assert!(window.take(exhausted, 1, at(HOUR + SECOND - 1)).is_err());
    assert!(window.take(exhausted, 7, at(HOUR + SECOND / 10 * 11)).is_ok());
}

fn bytes<const PARTS: usize, const SEEN: usize>() {
    for_random_states::<PARTS, SEEN>(45, |_, counts, _, random, context| {
        let mut bytes = Vec::new();
        Ring::<PARTS, SEEN>::encode(counts, &mut bytes);
        assert_eq!(bytes.len(), Ring::<PARTS, SEEN>::SIZE, "{context}");
        assert_eq!(Ring::<PARTS, SEEN>::decode(&bytes), Some(counts), "{context}");
        bytes.truncate(random.below(Ring::<PARTS, SEEN>::SIZE as u64) as usize);
        assert_eq!(Ring::<PARTS, SEEN>::decode(&bytes), None, "{context}");
    });
    assert_eq!(Ring::<PARTS, SEEN>::decode(&vec![0; Ring::<PARTS, SEEN>::SIZE + 1]), None);
    assert_eq!(Ring::<PARTS, SEEN>::decode(&vec![0; Ring::<PARTS, SEEN>::SIZE]), Some(Counts::default()));
}

#[test]
fn a_state_is_its_bytes() {
    bytes::<10, 11>();
    bytes::<20, 22>();
}

#[test]
fn refuses_parameters_that_cannot_be_kept() {
    let second = Duration::from_secs(1);
    assert_eq!(Window::new(0, second), None);
    assert_eq!(Window::new(1, Duration::ZERO), None);
    assert_eq!(Window::new(1, MAX_INTERVAL + Duration::from_nanos(1)), None);
    assert_eq!(Window::new(u32::MAX, MAX_INTERVAL).unwrap().interval(), MAX_INTERVAL);
    assert_eq!(Window::new(1, Duration::from_nanos(1)).unwrap().interval(), Duration::from_nanos(10), "rounded up");
}

#[test]
fn no_state_and_no_clock_make_it_panic() {
    let mut random = Random::seeded(46);
    let edges = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, SECOND];
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..Window::SIZE).map(|_| random.next() as u8).collect();
        let mut pick = || *edges.get(random.below(12) as usize).unwrap_or(&random.next());
        bytes[..8].copy_from_slice(&pick().to_le_bytes());
        let counts = Window::decode(&bytes).unwrap();
        let (cost, now) = (pick(), at(pick()));
        let (window, other) = (window((pick() as u32).max(1), 1 + pick() % HOUR), window(5, 1 + pick() % HOUR));
        let _ = window.take(counts, cost, now);
        let _ = window.refund(counts, cost, now);
        let _ = window.adopt(counts, other.stamp(), now);
        let _ = window.exhausted(now);
        let _ = window.load(counts, now);
    }
}

// === in a shared record ===

struct Shared {
    host: Rc<MemoryHost>,
    telemetry: Telemetry,
    single: Single<Window>,
}

impl Shared {
    fn new(window: Window, mode: FailureMode) -> Self {
        Self::on(&MemoryHost::new(), window, mode)
    }

    fn on(host: &Rc<MemoryHost>, window: Window, mode: FailureMode) -> Self {
        let single = Single::new(RECORD.to_owned(), window, mode);
        Self { host: Rc::clone(host), telemetry: Telemetry::default(), single }
    }

    fn take(&self, cost: u64, now: u64) -> Result<(), Denial> {
        self.single.take(&Cx::at(&*self.host, &self.telemetry, at(now)), cost).unwrap().map(|_| ())
    }
}

#[test]
fn a_clock_that_steps_back_costs_an_interval_at_most_and_admits_nothing_extra() {
    for (seed, step_back) in (51..).zip([SECOND / 2, 2 * SECOND, 9 * SECOND, 12 * SECOND, HOUR]) {
        let interval = 10 * SECOND;
        let shared = Shared::new(window(50, interval), FailureMode::Allow);
        let mut random = Random::seeded(seed);
        // By a clock that did not step.
        let (mut truth, mut admitted) = (2 * HOUR, Vec::new());
        let (mut stepped, mut step) = (0, 0);
        for turn in 0..4_000 {
            truth += random.below(20 * MILLISECOND);
            if turn == 2_000 {
                (stepped, step) = (step_back, truth);
            }
            if shared.take(1, truth - stepped).is_ok() {
                admitted.push((truth, 1));
            }
        }
        let most = most_in_any(interval, &admitted);
        assert!(most <= 50, "{step_back} ns: {most}");
        // Until the counts are out of sight, and what a step that is too small to be noticed adds.
        let longest = interval + interval / 10 + 2 * SECOND;
        let pauses = admitted.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0.max(step)));
        let pause = pauses.max().unwrap();
        assert!(pause <= longest, "{step_back} ns: nothing for {pause} ns");
    }
}

#[test]
fn garbage_in_the_record_does_no_harm_for_longer_than_an_interval() {
    let mut random = Random::seeded(56);
    for round in 0..500 {
        for mode in [FailureMode::Allow, FailureMode::Deny] {
            let shared = Shared::new(window(5, SECOND), mode);
            shared.take(1, HOUR).unwrap();
            let mut record = shared.host.record(RECORD).unwrap();
            match round % 3 {
                0 => record.truncate(random.below(record.len() as u64) as usize),
                1 => record.iter_mut().for_each(|byte| *byte = random.next() as u8),
                _ => record[HEADER_SIZE..].iter_mut().for_each(|byte| *byte = random.next() as u8),
            }
            shared.host.put_record(RECORD, &record);
            let _ = shared.take(1, HOUR);
            let later = shared.take(5, HOUR + SECOND / 10 * 11);
            assert_eq!(later, Ok(()), "seed 56, round {round}, {mode:?}: {record:?}");
        }
    }
}

#[test]
fn another_limit_takes_over_what_was_counted() {
    for seed in 61..=100 {
        let mut random = Random::seeded(seed);
        let host = MemoryHost::new();
        let (before, after) = (random.below(10 * SECOND) + 10, random.below(10 * SECOND) + 10);
        let (old, new) = (1 + random.below(50) as u32, 1 + random.below(50) as u32);
        let context = format!("seed {seed}: {old} in {before} ns, then {new} in {after} ns");
        let first = Shared::on(&host, window(old, before), FailureMode::Allow);
        let mut now = HOUR;
        let mut admitted = Vec::new();
        for _ in 0..200 {
            now += random.below(before / 20 + 1);
            if first.take(1, now).is_ok() {
                admitted.push((now, 1));
            }
        }
        let update = now;
        // What of it lies in the last of the old intervals counts on.
        let known = admitted.iter().filter(|(time, _)| update < time + before).count() as u64;
        let second = Shared::on(&host, window(new, after), FailureMode::Allow);
        let mut since = Vec::new();
        while now < update + 3 * after {
            if second.take(1, now).is_ok() {
                since.push((now, 1));
            }
            now += random.below(after / 40 + 1);
        }
        assert!(most_in_any(after, &since) <= u64::from(new), "{context}");
        let soon = since.iter().filter(|(time, _)| *time <= update + before.min(after)).count() as u64;
        assert!(soon <= u64::from(new).saturating_sub(known), "{context}: {soon} beside {known}");
        assert!(!since.is_empty(), "{context}: it goes on");
    }
}

#[test]
fn each_key_of_a_table_has_its_own_window() {
    let host = MemoryHost::new();
    let telemetry = Telemetry::default();
    let interval = 2 * SECOND;
    let table = Table::new(format!("{RECORD}/"), 64, window(20, interval), FailureMode::Allow);
    let mut random = Random::seeded(101);
    let mut admitted: [Vec<(u64, u64)>; 8] = std::array::from_fn(|_| Vec::new());
    let mut now = HOUR;
    for _ in 0..20_000 {
        now += random.below(2 * MILLISECOND);
        let user = random.below(8);
        // Three to a set.
        let key = KeyHash(((user + 1) << 32) | (user % 3));
        if table.take(&Cx::at(&*host, &telemetry, at(now)), key, 1).unwrap().result.is_ok() {
            admitted[user as usize].push((now, 1));
        }
    }
    for (user, admitted) in admitted.iter().enumerate() {
        assert!(most_in_any(interval, admitted) <= 20, "seed 101, user {user}");
        assert!(150 < admitted.len(), "seed 101, user {user}: {}", admitted.len());
    }
}

// === in the pipeline ===

fn config(max_requests: u32, interval: &str, key: &str) -> String {
    format!(
        r#"{{ "limits": [{{ "name": "all", {key}
            "window": {{ "max_requests": {max_requests}, "interval": "{interval}" }} }}] }}"#
    )
}

const BY_USER: &str = r#""key": ["header:x-user"],"#;

#[test]
fn several_workers_share_one_window() {
    for key in ["", BY_USER] {
        let workers = Sidecar::several(4, &config(30, "1s", key));
        let mut random = Random::seeded(111);
        let mut admitted = [Vec::new(), Vec::new()];
        for _ in 0..5_000 {
            workers[0].host.advance(random.below(4 * MILLISECOND));
            let user = random.below(2) as usize;
            let worker = &workers[random.below(4) as usize];
            if worker.serve(&[("x-user", ["alice", "bob"][user])]).is_none() {
                admitted[if key.is_empty() { 0 } else { user }].push((worker.now(), 1));
            }
        }
        for admitted in admitted.iter().filter(|it| !it.is_empty()) {
            assert_eq!(most_in_any(SECOND, admitted), 30, "seed 111, {key}");
            assert!(240 < admitted.len(), "seed 111, {key}: {}", admitted.len());
        }
    }
}

#[test]
fn a_refusal_says_when_there_is_room_and_what_the_policy_is() {
    let sidecar = Sidecar::new(&config(3, "1m", ""));
    assert_eq!(sidecar.admitted(5, &[]), 3);
    let reply = sidecar.serve(&[]).unwrap();
    // From 1 s on the clock; the first sub-window is out of sight at 66 s.
    assert_eq!(header(&reply, "retry-after"), Some("65"));
    assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=0;t=65"#));
    assert_eq!(header(&reply, "ratelimit-policy"), Some(r#""all";q=3;w=60"#));
    sidecar.host.set_now(66 * SECOND - 1);
    assert_eq!(sidecar.admitted(1, &[]), 0);
    sidecar.host.set_now(66 * SECOND);
    assert_eq!(sidecar.admitted(5, &[]), 3);
}

#[test]
fn a_request_costs_two_shared_calls_and_a_refusal_one() {
    for key in ["", BY_USER] {
        let sidecar = Sidecar::new(&config(2, "1m", key));
        sidecar.serve(&[]);
        take_shared_calls(&sidecar.host);
        sidecar.serve(&[]);
        assert_eq!(take_shared_calls(&sidecar.host), 2);
        assert!(sidecar.serve(&[]).is_some());
        assert_eq!(take_shared_calls(&sidecar.host), 1);
    }
}

/// What leaves a queue is not counted, and what was counted at other times is, for as long as it must.
#[test]
fn who_leaves_a_queue_late_leaves_no_room_for_more_than_the_limit() {
    for key in ["", BY_USER] {
        for seed in 121..=140 {
            let interval = SECOND;
            let limit = config(10, "1s", key);
            let open = limit.strip_suffix("] }").unwrap();
            let config = format!(
                r#"{open}, {{ "name": "queue", "methods": ["PUT"],
                    "leaky_bucket": {{ "capacity": 1000, "drain": 1, "drain_interval": "1s" }} }} ] }}"#
            );
            let sidecar = Sidecar::new(&config);
            let mut random = Random::seeded(seed);
            let mut counted: Vec<(u64, u64)> = Vec::new();
            let mut waiting: Vec<(u64, Ticket)> = Vec::new();
            for _ in 0..2_000 {
                sidecar.host.advance(random.below(20 * MILLISECOND));
                let now = sidecar.now();
                if random.below(8) == 0 && !waiting.is_empty() {
                    let (began, ticket) = waiting.swap_remove(random.below(waiting.len() as u64) as usize);
                    sidecar.end(ticket);
                    let place = counted.iter().position(|it| it.0 == began).unwrap();
                    counted.remove(place);
                }
                let method = if random.below(3) == 0 { "PUT" } else { "GET" };
                let (decision, ticket) = sidecar.ask(&[(":method", method)]);
                match decision {
                    Decision::Reply(_) => sidecar.end(ticket),
                    Decision::Wait(..) => {
                        counted.push((now, 1));
                        waiting.push((now, ticket));
                    }
                    Decision::Forward(_) => {
                        counted.push((now, 1));
                        sidecar.answer(ticket);
                    }
                }
            }
            let most = most_in_any(interval, &counted);
            assert!(most <= 10, "seed {seed}, {key}: {most}");
        }
    }
}
