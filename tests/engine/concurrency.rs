//! Concurrency limits: requests in flight over all workers, however they race, end or vanish.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::common::interleaving::{Race, in_every_order, in_random_orders};
use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, Sidecar, header, pass_until, take_shared_calls};
use crate::common::{MemoryHost, Random};
use outrigger::host::{End, Host, HostError};
use outrigger::limit::concurrency::{Concurrency, Demand, Share, Unmet};
use outrigger::limit::shares::{KeyedShares, PLACES_PER_SET, RESERVE_LIFETIME, Shares};
use outrigger::pipeline::{Decision, Ticket};
use outrigger::shared::format::{HEADER_SIZE, NO_METER, begin, open};
use outrigger::shared::roster::{BEAT, EXPIRY, WorkerId};
use outrigger::shared::table::KeyHash;
use outrigger::worker::Worker;

const RECORD: &str = "outrigger/test/concurrency/all";
const ROSTER: &str = "outrigger/roster";
const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Bytes of a record that holds no share.
const EMPTY: usize = HEADER_SIZE;

fn together(max_in_flight: u32) -> String {
    format!(r#"{{ "limits": [{{ "name": "all", "concurrency": {{ "max_in_flight": {max_in_flight} }} }}] }}"#)
}

fn per_user(max_in_flight: u32) -> String {
    together(max_in_flight).replace(r#""name": "all""#, r#""name": "all", "max_keys": 64, "key": ["header:x-user"]"#)
}

/// Both, and whether it is per user.
fn both(max_in_flight: u32) -> [(String, bool); 2] {
    [(together(max_in_flight), false), (per_user(max_in_flight), true)]
}

/// Units that the records of the limit say are taken.
fn taken(host: &MemoryHost) -> u32 {
    let records = host.records().into_iter().filter(|(key, _)| key.starts_with("outrigger/test/concurrency"));
    let units = |share: &[u8]| u32::from_le_bytes(share[8..12].try_into().unwrap());
    records.map(|(_, bytes)| bytes[EMPTY..].chunks(12).map(units).sum::<u32>()).sum()
}

/// How many of `tries` requests are admitted; they stay in flight.
fn hold(sidecar: &Sidecar, tries: usize, held: &mut Vec<Ticket>) -> usize {
    let before = held.len();
    held.extend((0..tries).filter_map(|_| sidecar.begin(&[("x-user", "alice")]).ok()));
    held.len() - before
}

fn end_all(sidecar: &Sidecar, held: &mut Vec<Ticket>) {
    held.drain(..).for_each(|ticket| sidecar.end(ticket));
}

// === the policy ===

/// How many keys have shares.
fn tags(shares: &[Share]) -> usize {
    shares.iter().map(|share| share.tag).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn one_key_on_many_workers_does_not_crowd_itself_out() {
    let limit = Concurrency { max_in_flight: 20, max_hold: None };
    let mut shares = Vec::new();
    for worker in 0..64 {
        let demand = Demand { tag: 7, owner: WorkerId(worker), least: 1, want: 1 };
        let expected = if worker < 20 { Ok(1) } else { Err(Unmet::Limit(0)) };
        assert_eq!(limit.demand(&mut shares, 1, &demand), expected, "worker {worker}");
    }
}

#[test]
fn no_list_of_demands_and_releases_goes_beyond_the_limit() {
    let mut random = Random::seeded(1);
    for round in 0..50 {
        let limit = Concurrency { max_in_flight: 1 + random.below(30) as u32, max_hold: None };
        let places = 1 + random.below(5) as usize;
        let mut shares = Vec::new();
        for step in 0..500 {
            let (tag, owner) = (random.below(5) as u32, WorkerId(random.below(6) as u32));
            let context = format!("seed 1, round {round}, step {step}");
            let before: Vec<Share> = shares.clone();
            let own = Concurrency::held(&before, tag, owner);
            if random.below(3) == 0 {
                let units = random.below(10) as u32;
                Concurrency::release(&mut shares, tag, owner, units);
                assert_eq!(Concurrency::held(&shares, tag, owner), own.saturating_sub(units), "{context}");
                continue;
            }
            let least = random.below(15) as u32;
            let want = least + random.below(10) as u32;
            let others: u32 = before.iter().filter(|it| it.tag == tag && it.owner != owner).map(|it| it.units).sum();
            let room = limit.max_in_flight - others;
            match limit.demand(&mut shares, places, &Demand { tag, owner, least, want }) {
                Ok(units) => {
                    assert_eq!(units, want.min(room).max(least), "{context}");
                    assert_eq!(Concurrency::held(&shares, tag, owner), units, "{context}");
                }
                Err(Unmet::Limit(left)) => {
                    assert!(room < least && left == room.saturating_sub(own), "{context}");
                    assert_eq!(shares, before, "{context}");
                }
                Err(Unmet::Crowded) => {
                    assert!(tags(&before) == places && before.iter().all(|it| it.tag != tag), "{context}");
                    assert_eq!(shares, before, "{context}");
                }
            }
            let of_tag: u32 = shares.iter().filter(|it| it.tag == tag).map(|it| it.units).sum();
            assert!(of_tag <= limit.max_in_flight, "{context}: {of_tag} of {limit:?}");
            assert!(tags(&shares) <= places && shares.iter().all(|it| it.units != 0), "{context}");
        }
    }
}

// === never more than the limit ===

/// Requests in flight on several workers, by user.
struct Crowd {
    workers: Vec<Sidecar>,
    open: Vec<Vec<(Ticket, usize)>>,
    /// What a worker holds that acts between the reads and the writes of the others.
    rival: Rc<RefCell<Vec<(Ticket, usize)>>>,
    /// Whose request it is at the moment.
    user: Rc<Cell<usize>>,
}

impl Crowd {
    fn new(config: &str, count: usize, seed: u64) -> Self {
        let workers = Sidecar::several(count, config);
        let host = &workers[0].host;
        let (rival, user) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        let (its_own, current) = (Rc::clone(&rival), Rc::clone(&user));
        let worker = Sidecar::on(&MemoryHost::new(), config);
        let mut random = Random::seeded(seed + 1_000);
        host.interfere(move |host: &MemoryHost| {
            let mut held = its_own.borrow_mut();
            let now = host.now().as_nanos();
            while random.below(3) == 0 {
                match random.below(2) {
                    0 => {
                        let (decision, ticket) = worker.filter.on_request(host, &worker.worker, End::Here);
                        match decision {
                            Decision::Reply(_) => worker.filter.on_done(host, &worker.worker, ticket),
                            _ => held.push((ticket, current.get())),
                        }
                    }
                    _ if !held.is_empty() => {
                        let index = random.below(held.len() as u64) as usize;
                        worker.filter.on_done(host, &worker.worker, held.swap_remove(index).0);
                    }
                    _ => {}
                }
            }
            // It is never late, however seldom it is called.
            if now.is_multiple_of(7) {
                worker.filter.on_tick(host, &worker.worker);
            }
        });
        Self { open: workers.iter().map(|_| Vec::new()).collect(), workers, rival, user }
    }

    fn in_flight(&self, user: Option<usize>) -> usize {
        let rival = self.rival.borrow();
        let all = self.open.iter().flatten().chain(rival.iter());
        all.filter(|(_, it)| user.is_none_or(|user| user == *it)).count()
    }

    fn begin(&mut self, worker: usize, user: usize) {
        self.user.set(user);
        if let Ok(ticket) = self.workers[worker].begin(&[("x-user", USERS[user])]) {
            self.open[worker].push((ticket, user));
        }
    }

    fn end(&mut self, worker: usize, index: usize) {
        let (ticket, _) = self.open[worker].swap_remove(index);
        self.workers[worker].end(ticket);
    }
}

/// Workers take, give back and tick in random order, and lose races. Returns the most that was in flight for a user.
fn random_schedule(config: &str, keyed: bool, max: usize, steps: usize, seed: u64) -> usize {
    let mut crowd = Crowd::new(config, 5, seed);
    let mut random = Random::seeded(seed);
    let mut most = 0;
    let mut now = crowd.workers[0].now();
    for step in 0..steps {
        now += random.below(10 * MILLISECOND) * random.below(2);
        pass_until(&crowd.workers, now);
        let worker = random.below(5) as usize;
        let user = random.below(3) as usize;
        // Ebb and flow.
        let fills = random.below(10) < if step / 200 % 2 == 0 { 8 } else { 3 };
        match random.below(20) {
            0 => crowd.workers[worker].tick(),
            _ if fills => crowd.begin(worker, user),
            _ if crowd.open[worker].is_empty() => {}
            _ => crowd.end(worker, random.below(crowd.open[worker].len() as u64) as usize),
        }
        let users = if keyed { vec![Some(0), Some(1), Some(2)] } else { vec![None] };
        for user in users {
            let in_flight = crowd.in_flight(user);
            assert!(in_flight <= max, "seed {seed}, step {step}: {in_flight} of {max}, {config}");
            most = most.max(in_flight);
        }
    }
    let host = Rc::clone(&crowd.workers[0].host);
    assert!(0 < host.metric("call=.=concurrency;.;outrigger_shared_conflicts_total"), "seed {seed}");
    // All end; the rival's worker is given up, and its share with it.
    host.interfere(|_| {});
    crowd.rival.borrow_mut().clear();
    for worker in 0..5 {
        while !crowd.open[worker].is_empty() {
            crowd.end(worker, 0);
        }
    }
    pass_until(&crowd.workers, now + 3 * SECOND);
    for worker in &crowd.workers {
        assert_eq!(worker.due(), None, "seed {seed}: a worker that holds nothing needs no tick");
    }
    for user in USERS {
        let mut held = Vec::new();
        while let Ok(ticket) = crowd.workers[0].begin(&[("x-user", user)]) {
            held.push(ticket);
        }
        assert_eq!(held.len(), max, "seed {seed}: all of it can be had again, {config}");
        end_all(&crowd.workers[0], &mut held);
    }
    pass_until(&crowd.workers, now + 4 * SECOND);
    assert_eq!(taken(&host), 0, "seed {seed}, {config}");
    most
}

#[test]
fn never_more_than_the_limit_is_in_flight_over_all_workers() {
    for (seed, max) in (11..).zip([1, 2, 5, 20, 100]) {
        let most = random_schedule(&together(max), false, max as usize, 5_000, seed);
        assert!(max as usize * 9 <= most * 10, "seed {seed}: {most} of {max} shows little");
    }
}

#[test]
fn never_more_than_the_limit_is_in_flight_for_a_key_over_all_workers() {
    for (seed, max) in (21..).zip([1, 2, 5, 20]) {
        let most = random_schedule(&per_user(max), true, max as usize, 5_000, seed);
        assert!(max as usize * 9 <= most * 10, "seed {seed}: {most} of {max} shows little");
    }
}

/// Workers that never were take one unit each, all at once.
struct Joining {
    proxy: Rc<MemoryHost>,
    limit: Concurrency,
    keyed: bool,
}

impl Race for Joining {
    type Answer = bool;

    fn proxy(&self) -> &MemoryHost {
        &self.proxy
    }

    fn step(&self, _: usize, host: &dyn Host) -> Result<bool, HostError> {
        let worker = Worker::default();
        let cx = worker.cx(host);
        let taken = match self.keyed {
            true => {
                let prefix = format!("{RECORD}/");
                KeyedShares::new(prefix, 8, self.limit, Rc::clone(&worker.limit.holdings)).take(&cx, KeyHash(7), 1)?
            }
            false => Shares::new(RECORD.to_owned(), self.limit, &worker.limit.holdings).take(&cx, 1)?,
        };
        Ok(taken.is_ok())
    }
}

#[test]
fn workers_that_join_at_once_share_the_limit_in_every_order_of_calls() {
    for keyed in [false, true] {
        for max_in_flight in [1, 2] {
            let start =
                || Joining { proxy: MemoryHost::new(), limit: Concurrency { max_in_flight, max_hold: None }, keyed };
            let orders = in_every_order(&[1, 1], start, |course| {
                let admitted = course.answers.iter().flatten().filter(|it| **it).count();
                assert_eq!(admitted, max_in_flight as usize, "keyed: {keyed}, order {:?}", course.order);
            });
            assert!(100 < orders, "{orders} orders");
        }
    }
}

#[test]
fn workers_that_find_the_share_of_a_dead_one_at_once_share_what_it_had() {
    for keyed in [false, true] {
        let limit = Concurrency { max_in_flight: 1, max_hold: None };
        let start = || {
            let race = Joining { proxy: MemoryHost::new(), limit, keyed };
            assert_eq!(race.step(0, &*race.proxy), Ok(true));
            race.proxy.advance(3 * SECOND);
            race
        };
        in_random_orders(&[1, 1], 71, 5_000, start, |course| {
            let admitted = course.answers.iter().flatten().filter(|it| **it).count();
            assert_eq!(admitted, 1, "seed 71, keyed: {keyed}, order {:?}", course.order);
        });
    }
}

// === released exactly once ===

/// Limits that admit everything, and one that a request may fail.
fn with_others(limit: &str) -> String {
    let open = limit.strip_suffix("] }").unwrap();
    format!(
        r#"{open},
        {{ "name": "queue", "methods": ["PUT"],
           "leaky_bucket": {{ "capacity": 1000, "drain": 1, "drain_interval": "1s" }} }},
        {{ "name": "closed", "methods": ["POST"], "cost": "header:x-cost",
           "window": {{ "max_requests": 1, "interval": "1s" }} }} ] }}"#
    )
}

#[test]
fn what_a_request_held_is_free_again_exactly_once_whatever_ends_it() {
    type Life = fn(&Sidecar);
    let lives: [(&str, Life); 8] = [
        ("answered", |it| it.answer(it.begin(&[]).unwrap())),
        ("client gone before the answer", |it| it.end(it.begin(&[]).unwrap())),
        ("refused by a later limit", |it| assert!(it.begin(&[(":method", "POST"), ("x-cost", "2")]).is_err())),
        ("left while waiting", |it| {
            it.end(it.ask(&[(":method", "PUT")]).1);
            let (decision, ticket) = it.ask(&[(":method", "PUT")]);
            assert!(matches!(decision, Decision::Wait(..)) || matches!(decision, Decision::Forward(_)));
            it.end(ticket);
        }),
        ("refused for want of time", |it| {
            let hasty = [(":method", "PUT"), ("grpc-timeout", "1n")];
            it.end(it.ask(&hasty).1);
            let (decision, ticket) = it.ask(&hasty);
            assert!(matches!(decision, Decision::Reply(_)));
            it.end(ticket);
        }),
        ("resumed and answered", |it| {
            let (_, mut ticket) = it.ask(&[(":method", "PUT")]);
            let _ = it.resume(&mut ticket);
            it.answer(ticket);
        }),
        ("an upgrade that was closed", |it| it.answer(it.begin(&[("upgrade", "websocket")]).unwrap())),
        ("a gRPC stream without status", |it| it.end(it.begin(&[("content-type", "application/grpc")]).unwrap())),
    ];
    for (config, keyed) in both(4) {
        let config = with_others(&config);
        for (life, live) in &lives {
            let sidecar = Sidecar::new(&config);
            let other = Sidecar::on(&sidecar.host, &config);
            let mut held = Vec::new();
            assert_eq!(hold(&other, 1, &mut held), 1);
            for _ in 0..20 {
                live(&sidecar);
            }
            let context = format!("{life}, keyed: {keyed}");
            pass_until([&sidecar, &other], sidecar.now() + SECOND);
            assert_eq!(taken(&sidecar.host), 1, "{context}");
            assert_eq!(hold(&sidecar, 10, &mut Vec::new()), 3, "{context}");
        }
    }
}

#[test]
fn a_reserve_goes_back_in_its_lifetime() {
    let sidecar = Sidecar::new(&together(100));
    let mut held = Vec::new();
    assert_eq!(hold(&sidecar, 1, &mut held), 1);
    assert!(1 < taken(&sidecar.host), "so far from the limit there is a reserve");
    // However long the request lasted.
    let lifetime = RESERVE_LIFETIME.as_nanos() as u64;
    for lasted in [0, 50 * MILLISECOND, 150 * MILLISECOND, 10 * SECOND] {
        hold(&sidecar, 1, &mut held);
        pass_until([&sidecar], sidecar.now() + lasted);
        end_all(&sidecar, &mut held);
        pass_until([&sidecar], sidecar.now() + lifetime + MILLISECOND);
        assert_eq!(taken(&sidecar.host), 0, "after a request of {} ms", lasted / MILLISECOND);
    }
}

#[test]
fn a_refusal_makes_no_promise_and_says_that_it_is_about_requests_in_flight() {
    for (config, _) in both(2) {
        let sidecar = Sidecar::new(&config);
        let mut held = Vec::new();
        hold(&sidecar, 2, &mut held);
        let reply = sidecar.begin(&[("x-user", "alice")]).unwrap_err();
        assert_eq!(header(&reply, "retry-after"), None);
        assert_eq!(header(&reply, "ratelimit"), Some(r#""all";r=0"#));
        assert_eq!(header(&reply, "ratelimit-policy"), Some(r#""all";q=2;qu="concurrent-requests""#));
    }
}

#[test]
fn a_configuration_update_keeps_what_is_in_flight() {
    for (smaller, larger) in both(3).into_iter().zip(both(5)) {
        let old = Sidecar::new(&smaller.0);
        let mut held = Vec::new();
        assert_eq!(hold(&old, 9, &mut held), 3);
        let new = old.reconfigured(&larger.0);
        let mut more = Vec::new();
        assert_eq!(hold(&new, 9, &mut more), 2);
        // The old streams end under the configuration that they began under.
        end_all(&old, &mut held);
        assert_eq!(hold(&new, 9, &mut more), 3);
        end_all(&new, &mut more);
        new.host.advance(SECOND / 5);
        new.tick();
        assert_eq!(taken(&new.host), 0);
    }
}

#[test]
fn a_limit_that_an_update_lowers_holds_for_the_configuration_before_it_too() {
    for (larger, smaller) in both(5).into_iter().zip(both(2)) {
        let old = Sidecar::new(&larger.0);
        let mut held = Vec::new();
        assert_eq!(hold(&old, 1, &mut held), 1);
        let _new = old.reconfigured(&smaller.0);
        assert_eq!(hold(&old, 9, &mut held), 1);
        end_all(&old, &mut held);
    }
}

// === workers that vanish ===

#[test]
fn the_share_of_a_worker_that_vanished_is_free_in_three_seconds_and_not_before_it_may_be_dead() {
    for (config, keyed) in both(10) {
        // How long before its end it said last that it was there, and what the others are at.
        for since_beat in [0, 100, 250, 499] {
            for others_hold in [0, 1] {
                let context = format!("keyed: {keyed}, {since_beat} ms after a beat, others hold {others_hold}");
                let gone = Sidecar::new(&config);
                let other = Sidecar::on(&gone.host, &config);
                let (mut lost, mut kept) = (Vec::new(), Vec::new());
                assert_eq!(hold(&gone, 5, &mut lost), 5);
                assert_eq!(hold(&other, others_hold, &mut kept), others_hold);
                pass_until([&gone, &other], gone.now() + 5 * SECOND + since_beat * MILLISECOND);
                let end = gone.now();
                drop((gone, lost));
                let rest = 5 - others_hold;
                let early =
                    end + EXPIRY.as_nanos() as u64 - BEAT.as_nanos() as u64 - 2 * RESERVE_LIFETIME.as_nanos() as u64;
                pass_until([&other], early);
                assert_eq!(hold(&other, 10, &mut kept), rest, "{context}: it may be there still");
                pass_until([&other], end + 3 * SECOND);
                assert_eq!(hold(&other, 10, &mut kept), 5, "{context}");
            }
        }
    }
}

#[test]
fn workers_that_are_there_keep_their_shares_for_minutes() {
    for (config, keyed) in both(10) {
        let workers = Sidecar::several(3, &config);
        let (mut held, mut more) = (Vec::new(), Vec::new());
        assert_eq!(hold(&workers[0], 6, &mut held), 6);
        let mut random = Random::seeded(31);
        for turn in 0..1_200 {
            pass_until(&workers, workers[0].now() + random.below(400) * MILLISECOND);
            let worker = &workers[1 + turn % 2];
            assert_eq!(hold(worker, 5, &mut more), 4, "keyed: {keyed}, turn {turn}, seed 31");
            end_all(worker, &mut more);
            // A worker without reserve gives back at once; nobody keeps what the next turn needs.
        }
        end_all(&workers[0], &mut held);
        pass_until(&workers, workers[0].now() + SECOND);
        assert_eq!(taken(&workers[0].host), 0, "keyed: {keyed}");
    }
}

#[test]
fn a_worker_that_was_taken_for_dead_exceeds_the_limit_until_its_requests_end_and_no_longer() {
    for (config, keyed) in both(10) {
        let (late, other) = {
            let late = Sidecar::new(&config);
            let other = Sidecar::on(&late.host, &config);
            (late, other)
        };
        let (mut old, mut others, mut new) = (Vec::new(), Vec::new(), Vec::new());
        assert_eq!(hold(&late, 10, &mut old), 10);
        pass_until([&other], late.now() + 3 * SECOND);
        assert_eq!(hold(&other, 10, &mut others), 10, "keyed: {keyed}: its share is given away");
        // It goes on. One by one its requests end, and new ones come.
        late.tick();
        while let Some(ticket) = old.pop() {
            late.end(ticket);
            pass_until([&late, &other], late.now() + 50 * MILLISECOND);
            hold(&late, 1, &mut new);
            let all = old.len() + others.len() + new.len();
            assert!(all <= 10 + old.len(), "keyed: {keyed}: {all} with {} old ones left", old.len());
        }
        end_all(&late, &mut new);
        end_all(&other, &mut others);
        pass_until([&late, &other], late.now() + SECOND);
        assert_eq!(taken(&late.host), 0, "keyed: {keyed}");
        assert_eq!(hold(&late, 20, &mut new), 10, "keyed: {keyed}");
    }
}

#[test]
fn a_clock_that_steps_back_an_hour_loses_no_place_for_long() {
    for (config, keyed) in both(10) {
        let workers = Sidecar::several(2, &config);
        workers[0].host.set_now(2 * HOUR);
        let (mut one, mut two) = (Vec::new(), Vec::new());
        assert_eq!(hold(&workers[0], 5, &mut one), 5);
        assert_eq!(hold(&workers[1], 5, &mut two), 5);
        workers[0].host.set_now(HOUR);
        // The timers of a proxy run on.
        workers.iter().for_each(Sidecar::tick);
        pass_until(&workers, HOUR + SECOND);
        end_all(&workers[0], &mut one);
        end_all(&workers[1], &mut two);
        pass_until(&workers, HOUR + 4 * SECOND);
        assert_eq!(hold(&workers[1], 20, &mut two), 10, "keyed: {keyed}");
        end_all(&workers[1], &mut two);
        pass_until(&workers, HOUR + 8 * SECOND);
        assert_eq!(taken(&workers[0].host), 0, "keyed: {keyed}");
    }
}

// === calls ===

/// Calls for shared data per hundred requests, the beats of the roster apart.
fn calls_per_hundred(config: &str, in_flight: usize, keyed: bool) -> usize {
    const REQUESTS: usize = 5_000;
    let workers = Sidecar::several(4, config);
    let mut random = Random::seeded(41);
    let mut open: Vec<Vec<Ticket>> = workers.iter().map(|_| Vec::new()).collect();
    let start = workers[0].now();
    for request in 0..REQUESTS + 500 {
        if request == 500 {
            workers[0].host.take_calls();
        }
        pass_until(&workers, workers[0].now() + random.below(2 * MILLISECOND));
        let worker = random.below(4) as usize;
        let user = if keyed { random.below(200).to_string() } else { String::new() };
        open[worker].push(workers[worker].begin(&[("x-user", &user)]).unwrap());
        while in_flight < open.iter().map(Vec::len).sum::<usize>() {
            let worker = random.below(4) as usize;
            if !open[worker].is_empty() {
                workers[worker].answer(open[worker].remove(0));
            }
        }
    }
    let beats = 4 * ((workers[0].now() - start) / BEAT.as_nanos() as u64) as usize;
    take_shared_calls(&workers[0].host).saturating_sub(2 * beats) * 100 / REQUESTS
}

#[test]
fn a_keyed_request_costs_four_shared_calls() {
    let calls = calls_per_hundred(&per_user(10).replace(r#""max_keys": 64"#, r#""max_keys": 4096"#), 20, true);
    assert!(calls <= 400, "{calls} in a hundred requests");
}

#[test]
fn far_from_the_limit_most_requests_cost_no_shared_call() {
    let calls = calls_per_hundred(&together(1_000), 20, false);
    assert!(calls <= CALLS_FAR_FROM_THE_LIMIT, "{calls} in a hundred requests");
}

/// In a hundred requests, at 1 000 requests per second on four workers.
const CALLS_FAR_FROM_THE_LIMIT: usize = 25;

#[test]
fn near_the_limit_a_request_costs_four_shared_calls() {
    let calls = calls_per_hundred(&together(22), 20, false);
    assert!(calls <= 410, "{calls} in a hundred requests");
}

// === trouble ===

#[test]
fn shared_state_that_cannot_be_used_follows_the_failure_mode_and_is_counted() {
    for (mode, passes) in [("allow", true), ("deny", false)] {
        for call in ["shared_get", "shared_set", "random_get"] {
            for (config, keyed) in both(2) {
                let config = config.replace(r#""name""#, &format!(r#""failure_mode": "{mode}", "name""#));
                let context = format!("{mode}, {call}, keyed: {keyed}");
                let sidecar = Sidecar::new(&config);
                sidecar.host.break_call(call);
                for _ in 0..5 {
                    let begun = sidecar.begin(&[("x-user", "alice")]);
                    assert_eq!(begun.is_ok(), passes, "{context}");
                    match begun {
                        Ok(ticket) => sidecar.answer(ticket),
                        Err(reply) => assert_eq!(header(&reply, "retry-after"), None, "{context}"),
                    }
                }
                assert_eq!(
                    sidecar.host.metric(&format!("call=.={call};.;outrigger_host_errors_total")),
                    5,
                    "{context}"
                );
                sidecar.host.repair(call);
                assert_eq!(hold(&sidecar, 5, &mut Vec::new()), 2, "{context}: it works again once the state does");
            }
        }
    }
}

#[test]
fn what_could_not_be_given_back_comes_back() {
    for call in ["shared_get", "shared_set"] {
        for (config, keyed) in both(4) {
            let sidecar = Sidecar::new(&config);
            let mut held = Vec::new();
            assert_eq!(hold(&sidecar, 4, &mut held), 4);
            sidecar.host.break_call(call);
            end_all(&sidecar, &mut held);
            sidecar.host.repair(call);
            pass_until([&sidecar], sidecar.now() + 4 * SECOND);
            let other = Sidecar::on(&sidecar.host, &config);
            assert_eq!(hold(&other, 9, &mut held), 4, "{call}, keyed: {keyed}");
        }
    }
}

/// From now on another worker wins every race for the limit's records, as long as it is told to.
fn contend(host: &MemoryHost) -> Rc<Cell<bool>> {
    let contended = Rc::new(Cell::new(true));
    let told = Rc::clone(&contended);
    host.interfere(move |host| {
        let records = host.records().into_iter().filter(|(key, _)| key.starts_with("outrigger/test/concurrency"));
        records.filter(|_| told.get()).for_each(|(key, bytes)| host.put_record(&key, &bytes));
    });
    contended
}

/// A worker that stays alive, for what else it does, keeps nothing of what its requests held.
#[test]
fn what_lost_every_race_is_given_back_when_the_race_is_over() {
    for (config, keyed) in both(4) {
        for contention in [0, SECOND] {
            let sidecar = Sidecar::new(&config);
            let other = Sidecar::on(&sidecar.host, &config);
            let mut held = Vec::new();
            assert_eq!(hold(&sidecar, 4, &mut held), 4);
            let contended = contend(&sidecar.host);
            end_all(&sidecar, &mut held);
            let live_until = |end: u64| {
                while sidecar.now() < end {
                    pass_until([&sidecar, &other], (sidecar.now() + 400 * MILLISECOND).min(end));
                    // As every request does that may be retried.
                    sidecar.worker.retry.census.count(&sidecar.worker.cx(&*sidecar.host));
                }
            };
            live_until(sidecar.now() + contention);
            assert_eq!(taken(&sidecar.host), 4, "keyed: {keyed}: every race is lost");
            contended.set(false);
            live_until(sidecar.now() + 200 * MILLISECOND);
            assert_eq!(taken(&sidecar.host), 0, "keyed: {keyed}, after {contention} ns");
            assert_eq!(hold(&other, 9, &mut held), 4, "keyed: {keyed}");
        }
    }
}

/// Not only a tick: a request that comes before it is not refused for want of what nobody holds.
#[test]
fn what_lost_every_race_is_there_for_the_workers_next_request() {
    for (config, keyed) in both(4) {
        let sidecar = Sidecar::new(&config);
        let (mut held, mut more) = (Vec::new(), Vec::new());
        assert_eq!(hold(&sidecar, 4, &mut held), 4);
        let contended = contend(&sidecar.host);
        end_all(&sidecar, &mut held);
        contended.set(false);
        assert_eq!(hold(&sidecar, 9, &mut more), 4, "keyed: {keyed}");
        assert_eq!(taken(&sidecar.host), 4, "keyed: {keyed}");
        end_all(&sidecar, &mut more);
        pass_until([&sidecar], sidecar.now() + SECOND);
        assert_eq!(taken(&sidecar.host), 0, "keyed: {keyed}");
        assert_eq!(sidecar.due(), None, "keyed: {keyed}: nothing is owed any more");
    }
}

#[test]
fn a_crowded_set_follows_the_failure_mode_and_is_counted() {
    for (mode, passes) in [("allow", true), ("deny", false)] {
        let config = per_user(3)
            .replace(r#""max_keys": 64"#, r#""max_keys": 8"#)
            .replace(r#""name""#, &format!(r#""failure_mode": "{mode}", "name""#));
        let sidecar = Sidecar::new(&config);
        let mut held = Vec::new();
        for user in 0..PLACES_PER_SET {
            held.push(sidecar.begin(&[("x-user", &user.to_string())]).unwrap());
        }
        let begun = sidecar.begin(&[("x-user", "one too many")]);
        assert_eq!(begun.is_ok(), passes, "{mode}");
        assert_eq!(sidecar.host.metric("call=.=concurrency_table_full;.;outrigger_host_errors_total"), 1, "{mode}");
        // Who has a place may go on to its limit.
        assert!(sidecar.begin(&[("x-user", "0")]).is_ok(), "{mode}");
        if let Ok(uncounted) = begun {
            sidecar.end(uncounted);
        }
        assert_eq!(taken(&sidecar.host) as usize, PLACES_PER_SET + 1, "{mode}: what was not counted frees nothing");
        sidecar.end(held.swap_remove(3));
        assert!(sidecar.begin(&[("x-user", "one too many")]).is_ok(), "{mode}: there is a place again");
    }
}

#[test]
fn garbage_in_the_records_does_no_lasting_harm() {
    let mut random = Random::seeded(51);
    for round in 0..300 {
        for (config, keyed) in both(3) {
            let workers = Sidecar::several(2, &config);
            let host = &workers[0].host;
            let mut held = Vec::new();
            assert_eq!(hold(&workers[0], 1, &mut held), 1);
            let keys: Vec<String> = host.record_keys().into_iter().filter(|key| key != "outrigger/seed").collect();
            let key = &keys[random.below(keys.len() as u64) as usize];
            let mut garbage: Vec<u8> = (0..random.below(80)).map(|_| random.next() as u8).collect();
            // As likely as not with a beginning that is good.
            if HEADER_SIZE <= garbage.len() && random.below(2) == 0 {
                let rest = garbage.split_off(HEADER_SIZE);
                begin(&mut garbage, 0, NO_METER);
                garbage.extend(rest);
            }
            host.put_record(key, &garbage);
            let context = format!("seed 51, round {round}, keyed: {keyed}, {key}: {garbage:?}");
            for _ in 0..5 {
                let _ = hold(&workers[1], 1, &mut Vec::new());
            }
            let readable = garbage.is_empty() || open(&garbage).is_some();
            let counted = host.metric("call=.=shared_decode;.;outrigger_host_errors_total");
            assert!(readable || 0 < counted, "{context}");
            // Both workers are given up and what they held is free, whatever the garbage said.
            let heir = Sidecar::on(host, &config);
            pass_until([&heir], heir.now() + 3 * SECOND);
            assert_eq!(hold(&heir, 5, &mut Vec::new()), 3, "{context}");
            assert!(host.record(ROSTER).unwrap().len() <= EMPTY + 12, "{context}: who is gone is off the roster");
        }
    }
}
