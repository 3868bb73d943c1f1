//! Places that are held at most for a time: free then, though the request goes on, and given back once and not twice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::rc::Rc;
use std::time::Duration;

use crate::common::interleaving::{Race, in_random_orders};
use crate::common::sidecar::{MILLISECOND, SECOND, Sidecar, pass_until};
use crate::common::{MemoryHost, Random};
use outrigger::cx::Cx;
use outrigger::host::{Host, HostError};
use outrigger::limit::concurrency::Concurrency;
use outrigger::limit::places::{Left, Place, Places};
use outrigger::limit::shares::{KeyedShares, Shares};
use outrigger::pipeline::Ticket;
use outrigger::shared::format::HEADER_SIZE;
use outrigger::shared::table::KeyHash;
use outrigger::time::Timestamp;
use outrigger::worker::Worker;

const RECORD: &str = "outrigger/test/concurrency/all";
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const HOLD: u64 = 2 * SECOND;

/// A limit of all requests and the same per user, held for so long at most; and whether it is per user.
fn both(max_in_flight: u32, max_hold: Option<&str>) -> [(String, bool); 2] {
    let max_hold = max_hold.map(|it| format!(r#", "max_hold": "{it}""#)).unwrap_or_default();
    let limit = |key: &str| {
        let policy = format!(r#""concurrency": {{ "max_in_flight": {max_in_flight}{max_hold} }}"#);
        format!(r#"{{ "limits": [{{ "name": "all"{key}, {policy} }}] }}"#)
    };
    [(limit(""), false), (limit(r#", "max_keys": 64, "key": ["header:x-user"]"#), true)]
}

/// Units that the records of the limit say are taken.
fn taken(host: &MemoryHost) -> u32 {
    let records = host.records().into_iter().filter(|(key, _)| key.starts_with("outrigger/test/concurrency"));
    let units = |share: &[u8]| u32::from_le_bytes(share[8..12].try_into().unwrap());
    records.map(|(_, bytes)| bytes[HEADER_SIZE..].chunks(12).map(units).sum::<u32>()).sum()
}

fn expired(host: &MemoryHost) -> u64 {
    host.metric("limit=.=all;.;outrigger_holds_expired_total")
}

fn begin(sidecar: &Sidecar, user: &str) -> Option<Ticket> {
    sidecar.begin(&[("x-user", user)]).ok()
}

/// How many of `tries` requests of alice are admitted; they stay in flight.
fn hold(sidecar: &Sidecar, tries: usize, held: &mut Vec<Ticket>) -> usize {
    let before = held.len();
    held.extend((0..tries).filter_map(|_| begin(sidecar, "alice")));
    held.len() - before
}

#[test]
fn the_list_of_places_does_what_a_plain_one_does() {
    let max_hold = Duration::from_nanos(50);
    let mut random = Random::seeded(81);
    let (places, mut plain, mut now) = (Places::default(), Vec::new(), 0);
    for step in 0..20_000 {
        now += random.below(4);
        let at = Timestamp::from_nanos(now);
        let key = KeyHash(random.below(3));
        let units = 1 + random.below(2) as u32;
        match random.below(5) {
            0 | 1 => {
                let place = Place { taken: at, key, units };
                places.enter(place);
                plain.push(place);
            }
            2 | 3 => {
                let place = Place { taken: Timestamp::from_nanos(now.saturating_sub(random.below(60))), key, units };
                let found = plain.iter().position(|it| *it == place);
                let expected = if found.is_some() { Left::Held } else { Left::Overdue };
                found.map(|index| plain.remove(index));
                assert_eq!(places.leave(place), expected, "seed 81, step {step}");
            }
            _ => {
                let is_overdue = |it: &Place| max_hold <= at.saturating_since(it.taken);
                let expected: Vec<Place> = plain.iter().copied().filter(is_overdue).collect();
                plain.retain(|it| !is_overdue(it));
                assert_eq!(places.take_overdue(max_hold, at), expected, "seed 81, step {step}");
            }
        }
        assert_eq!(places.oldest(), plain.first().map(|it| it.taken), "seed 81, step {step}");
    }
}

#[test]
fn a_place_is_free_for_others_at_the_instant_and_no_earlier() {
    for (config, keyed) in both(3, Some("2s")) {
        let workers = Sidecar::several(2, &config);
        let [one, other] = &workers[..] else { panic!() };
        let (mut stuck, mut more) = (Vec::new(), Vec::new());
        assert_eq!(hold(one, 9, &mut stuck), 3);
        let start = one.now();
        pass_until(&workers, start + HOLD - 1);
        assert_eq!(hold(other, 9, &mut more), 0, "keyed: {keyed}");
        pass_until(&workers, start + HOLD);
        assert_eq!(expired(&one.host), 3, "keyed: {keyed}");
        assert_eq!(hold(other, 9, &mut more), 3, "keyed: {keyed}");
        // The requests go on, and what they have lost is not given back once more when they end.
        stuck.drain(..).for_each(|ticket| one.answer(ticket));
        pass_until(&workers, start + HOLD + SECOND);
        assert_eq!(hold(one, 9, &mut Vec::new()), 0, "keyed: {keyed}");
        assert_eq!(taken(&one.host), 3, "keyed: {keyed}");
    }
}

/// Requests on several workers, each with the instant at which its place was taken.
struct Crowd {
    workers: Vec<Sidecar>,
    open: Vec<(Ticket, usize, usize, u64)>,
    keyed: bool,
}

impl Crowd {
    /// How many hold places that one of the user could have.
    fn holders(&self, user: usize) -> usize {
        let now = self.workers[0].now();
        let holds = |(_, _, its_user, taken): &&(Ticket, usize, usize, u64)| {
            now < taken + HOLD && (!self.keyed || *its_user == user)
        };
        self.open.iter().filter(holds).count()
    }
}

#[test]
fn whatever_ends_and_stalls_the_places_are_those_of_who_came_within_the_time() {
    for (config, keyed) in both(5, Some("2s")) {
        for seed in 82..90 {
            let mut random = Random::seeded(seed);
            let mut crowd = Crowd { workers: Sidecar::several(3, &config), open: Vec::new(), keyed };
            let (mut now, mut stalled) = (crowd.workers[0].now(), 0);
            for step in 0..3_000 {
                now += random.below(60 * MILLISECOND);
                let all = crowd.open.iter().map(|(.., taken)| taken + HOLD);
                stalled += all.filter(|due| crowd.workers[0].now() < *due && *due <= now).count();
                pass_until(&crowd.workers, now);
                let (worker, user) = (random.below(3) as usize, random.below(3) as usize);
                let context = format!("seed {seed}, step {step}, keyed: {keyed}");
                if random.below(2) == 0 {
                    let expected = crowd.holders(user) < 5;
                    let begun = begin(&crowd.workers[worker], USERS[user]);
                    assert_eq!(begun.is_some(), expected, "{context}");
                    crowd.open.extend(begun.map(|ticket| (ticket, worker, user, now)));
                } else if !crowd.open.is_empty() && random.below(6) == 0 {
                    let (ticket, its_worker, ..) =
                        crowd.open.swap_remove(random.below(crowd.open.len() as u64) as usize);
                    crowd.workers[its_worker].end(ticket);
                }
                let holders: usize =
                    if keyed { (0..3).map(|user| crowd.holders(user)).sum() } else { crowd.holders(0) };
                assert_eq!(taken(&crowd.workers[0].host) as usize, holders, "{context}");
            }
            assert_eq!(expired(&crowd.workers[0].host) as usize, stalled, "seed {seed}, keyed: {keyed}");
            assert!(100 < stalled, "seed {seed} shows little: {stalled}");
        }
    }
}

/// Where a worker keeps a reserve too, which lies with it for a while.
#[test]
fn what_time_frees_of_a_large_limit_is_there_for_others() {
    let [(config, _), _] = both(100, Some("2s"));
    let workers = Sidecar::several(2, &config);
    let (mut stuck, mut more) = (Vec::new(), Vec::new());
    assert_eq!(hold(&workers[0], 200, &mut stuck), 100);
    pass_until(&workers, workers[0].now() + HOLD);
    assert_eq!(hold(&workers[1], 200, &mut more), 100);
    stuck.drain(..).for_each(|ticket| workers[0].end(ticket));
    pass_until(&workers, workers[0].now() + SECOND);
    assert_eq!(taken(&workers[0].host), 100);
}

#[test]
fn a_worker_that_vanished_gives_its_places_back_once() {
    for (config, keyed) in both(4, Some("2s")) {
        let gone = Sidecar::new(&config);
        let other = Sidecar::on(&gone.host, &config);
        let (mut lost, mut held) = (Vec::new(), Vec::new());
        assert_eq!(hold(&gone, 4, &mut lost), 4);
        drop((gone, lost));
        // By then it is taken for dead, and the time of its places is over too.
        pass_until([&other], other.now() + 6 * SECOND);
        assert_eq!(hold(&other, 9, &mut held), 4, "keyed: {keyed}");
        assert_eq!(expired(&other.host), 0, "keyed: {keyed}: nobody took them away");
        assert_eq!(taken(&other.host), 4, "keyed: {keyed}");
    }
}

/// Who writes it in a hurry means the requests that are stuck already.
#[test]
fn an_update_holds_for_the_requests_under_way() {
    let without = both(3, None);
    for (index, (config, keyed)) in both(3, Some("2s")).into_iter().enumerate() {
        let old = Sidecar::new(&without[index].0);
        let (mut stuck, mut more) = (Vec::new(), Vec::new());
        assert_eq!(hold(&old, 9, &mut stuck), 3);
        let start = old.now();
        pass_until([&old], start + 10 * SECOND);
        assert_eq!(hold(&old, 9, &mut more), 0, "keyed: {keyed}: without it there is no end to it");
        let new = old.reconfigured(&config);
        pass_until([&old, &new], old.now() + SECOND);
        assert_eq!(hold(&new, 9, &mut more), 3, "keyed: {keyed}");
        stuck.drain(..).for_each(|ticket| old.end(ticket));
        assert_eq!(hold(&new, 9, &mut more), 0, "keyed: {keyed}");

        // A longer one holds for them too, and none at all.
        let longer = new.reconfigured(&both(3, Some("1m")).into_iter().nth(index).unwrap().0);
        pass_until([&old, &new, &longer], new.now() + 50 * SECOND);
        assert_eq!(hold(&longer, 9, &mut Vec::new()), 0, "keyed: {keyed}");
        let endless = new.reconfigured(&without[index].0);
        pass_until([&new, &longer, &endless], new.now() + 50 * SECOND);
        assert_eq!(hold(&endless, 9, &mut Vec::new()), 0, "keyed: {keyed}");
        more.drain(..).for_each(|ticket| new.end(ticket));
        assert_eq!(hold(&endless, 9, &mut Vec::new()), 3, "keyed: {keyed}");
    }
}

#[test]
fn what_cannot_be_given_back_when_the_time_is_over_is_given_back_once_later() {
    for (config, keyed) in both(3, Some("2s")) {
        for call in ["shared_get", "shared_set"] {
            let sidecar = Sidecar::new(&config);
            let mut stuck = Vec::new();
            assert_eq!(hold(&sidecar, 9, &mut stuck), 3);
            sidecar.host.break_call(call);
            pass_until([&sidecar], sidecar.now() + HOLD + 50 * MILLISECOND);
            stuck.drain(..).for_each(|ticket| sidecar.end(ticket));
            assert_eq!(taken(&sidecar.host), 3, "{call}, keyed: {keyed}");
            sidecar.host.repair(call);
            pass_until([&sidecar], sidecar.now() + SECOND);
            assert_eq!(taken(&sidecar.host), 0, "{call}, keyed: {keyed}");
            assert_eq!(expired(&sidecar.host), 3, "{call}, keyed: {keyed}");
            assert_eq!(sidecar.due(), None, "{call}, keyed: {keyed}: nothing is owed any more");
        }
    }
}

#[test]
fn a_request_costs_no_call_more_with_it_than_without() {
    let calls = |config: &str| {
        let sidecar = Sidecar::new(config);
        (0..100).for_each(|_| sidecar.answer(begin(&sidecar, "alice").unwrap()));
        sidecar.host.take_calls()
    };
    for ((with, _), (without, _)) in both(50, Some("2s")).iter().zip(&both(50, None)) {
        assert_eq!(calls(with), calls(without));
    }
}

/// One worker's place comes to its time, it takes another, and then the first request ends, while another worker asks for a
/// place of the two.
struct Expiring {
    proxy: Rc<MemoryHost>,
    keyed: bool,
}

impl Race for Expiring {
    type Answer = bool;

    fn proxy(&self) -> &MemoryHost {
        &self.proxy
    }

    fn step(&self, worker: usize, host: &dyn Host) -> Result<bool, HostError> {
        let limit = Concurrency { max_in_flight: 2, max_hold: Some(Duration::from_nanos(HOLD)) };
        let (store, key, start) = (Worker::default(), KeyHash(7), host.now());
        let later = start.saturating_add(Duration::from_nanos(HOLD));
        let (at, after) = (Cx::at(host, &store.telemetry, start), Cx::at(host, &store.telemetry, later));
        if self.keyed {
            let shares = KeyedShares::new(format!("{RECORD}/"), 8, limit, Rc::clone(&store.limit.holdings));
            if worker == 1 {
                return Ok(shares.take(&after, key, 1)?.is_ok());
            }
            let first = shares.take(&at, key, 1)?.is_ok();
            assert_eq!(shares.take_overdue(later).requests, 1);
            let _ = store.limit.holdings.repay(&after);
            let second = shares.take(&after, key, 1)?.is_ok();
            shares.release(&after, key, start, 1)?;
            return Ok(first && second);
        }
        let shares = Shares::new(RECORD.to_owned(), limit, &store.limit.holdings);
        if worker == 1 {
            return Ok(shares.take(&after, 1)?.is_ok());
        }
        let first = shares.take(&at, 1)?.is_ok();
        assert_eq!(shares.take_overdue(later).requests, 1);
        shares.settle(&after)?;
        let second = shares.take(&after, 1)?.is_ok();
        shares.release(&after, start, 1)?;
        Ok(first && second)
    }
}

#[test]
fn in_any_order_of_calls_two_hold_the_two_places_and_the_late_end_frees_none() {
    for keyed in [false, true] {
        let start = || Expiring { proxy: MemoryHost::new(), keyed };
        in_random_orders(&[1, 1], 83, 3_000, start, |course| {
            let context = format!("seed 83, keyed: {keyed}, order {:?}", course.order);
            assert!(course.answers.iter().flatten().all(|it| *it), "{context}: there was room for each");
            assert_eq!(taken(&course.race.proxy), 2, "{context}");
        });
    }
}

/// Another number of keys puts each key into another record. What is given back must go where it was taken.
#[test]
fn a_change_of_the_number_of_keys_gives_places_back_where_they_were_taken() {
    let sidecar = Sidecar::new("{}");
    let (host, worker) = (&*sidecar.host, &*sidecar.worker);
    let limit = Concurrency { max_in_flight: 3, max_hold: Some(Duration::from_nanos(HOLD)) };
    let [before, after] = [64, 4_096]
        .map(|max_keys| KeyedShares::new("p/".to_owned(), max_keys, limit, Rc::clone(&worker.limit.holdings)));
    let alice = KeyHash(0x0123_4567_89ab_cdef);
    let cx = Cx::new(host, &worker.telemetry);
    assert_eq!(before.take(&cx, alice, 3).unwrap(), Ok(()));
    host.advance(HOLD);
    let cx = Cx::new(host, &worker.telemetry);
    assert_eq!(after.take(&cx, alice, 3).unwrap(), Ok(()));
    assert_eq!(after.take_overdue(cx.now()).requests, 0, "its own are young");
    assert_eq!(before.take_overdue(cx.now()).requests, 1);
    worker.limit.holdings.repay(&cx);
    assert_eq!(before.take(&cx, alice, 3).unwrap(), Ok(()), "they were given back");
    assert!(after.take(&cx, alice, 1).unwrap().is_err(), "these were not");
}
