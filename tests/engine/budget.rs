//! Retry budget: what successes and time pay for, never more in any interval, and never much less in the long run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use crate::common::Random;
use outrigger::monitor::outcome::Outcome;
use outrigger::retry::budget::{Account, Budget, MAX_CAP, MAX_PER_SECOND, MIN_CAP, SetAside, Unrepresentable};
use outrigger::shared::by_key::ByKey;
use outrigger::time::Timestamp;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const TTL: u64 = 10 * SECOND;
/// Some instant long after the clock's origin.
const START: u64 = 1_000 * SECOND;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn budget(ratio: f64, min_per_second: f64) -> Budget {
    Budget::new(ratio, min_per_second, Duration::from_secs(10)).unwrap()
}

/// An account and the clock, for tests of one worker at a time.
struct Client {
    budget: Budget,
    account: Account,
    workers: u32,
    now: u64,
}

impl Client {
    fn new(ratio: f64, min_per_second: f64) -> Self {
        Self { budget: budget(ratio, min_per_second), account: Account::default(), workers: 1, now: START }
    }

    fn of(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    fn go(&mut self, wanted: u32) -> SetAside {
        self.account.set_aside(&self.budget, wanted, self.workers, at(self.now))
    }

    fn come(&mut self, set_aside: SetAside, retries: Option<u32>, outcome: Outcome) {
        self.account.settle(&self.budget, set_aside, retries, outcome, self.workers, at(self.now));
    }

    fn end(&mut self, outcome: Outcome, times: usize) {
        for _ in 0..times {
            self.come(SetAside::nothing(), None, outcome);
        }
    }

    /// How many retries could be had now; nothing changes.
    fn there(&mut self) -> u32 {
        let all = self.go(u32::MAX);
        let there = all.retries();
        self.come(all, Some(0), Outcome::Cancelled);
        there
    }

    /// Uses up all that there is.
    fn drain(&mut self) {
        let all = self.go(u32::MAX);
        self.come(all, None, Outcome::Cancelled);
    }
}

// === the promise ===

/// What a run did, in the order of time. Amounts are billionths of a token.
struct Run {
    per_success: i128,
    /// Billionths of a token per millisecond: thousandths per second.
    per_milli: i128,
    workers: u64,
    longest_flight: u64,
    /// For each worker what successes paid within the last ttl, and its sum.
    deposits: Vec<(VecDeque<u64>, i128)>,
    /// For each event its time, what it spent or deposited, and the sum of the caps.
    events: Vec<(u64, i128, i128)>,
}

const TOKEN: i128 = 1_000_000_000;

impl Run {
    /// What the cap of the sidecar may be, counted from scratch.
    fn cap(&mut self, now: u64) -> i128 {
        let workers = i128::from(self.workers);
        let (least, most) = (i128::from(MIN_CAP) * TOKEN / workers, i128::from(MAX_CAP) * TOKEN / workers);
        let by_time = self.per_milli * i128::from(TTL / MILLISECOND) / workers;
        let mut cap = 0;
        for (times, sum) in &mut self.deposits {
            while times.front().is_some_and(|time| time + TTL <= now) {
                times.pop_front();
                *sum -= self.per_success;
            }
            cap += (*sum + by_time).clamp(least, most).max(TOKEN);
        }
        cap
    }

    fn success(&mut self, worker: usize, now: u64) {
        let (times, sum) = &mut self.deposits[worker];
        times.push_back(now);
        *sum += self.per_success;
        self.event(now, -self.per_success);
    }

    fn event(&mut self, now: u64, spent: i128) {
        let cap = self.cap(now);
        self.events.push((now, spent, cap));
    }

    /// The least that any interval had left of what it was allowed, as a part of the cap. Negative: too much was spent.
    fn least_slack(&self) -> f64 {
        let mut slack = f64::MAX;
        // What was allowed minus what was spent, since the start and without the cap, before each event.
        let mut sum = 0;
        let mut before = 0;
        // The greatest excess of that and of the cap that an interval may begin with.
        let mut least_begin: Option<(i128, i128)> = None;
        // Caps within the longest flight that nothing later exceeds.
        let mut caps: VecDeque<(u64, i128)> = VecDeque::new();
        for (time, spent, cap) in &self.events {
            let passed = i128::from(time - before) * self.per_milli / i128::from(MILLISECOND);
            before = *time;
            sum -= passed;
            while caps.back().is_some_and(|(_, earlier)| earlier <= cap) {
                caps.pop_back();
            }
            caps.push_back((*time, *cap));
            while caps.front().is_some_and(|(earlier, _)| self.longest_flight < time - earlier) {
                caps.pop_front();
            }
            let cap = caps[0].1;
            let begin = (sum + cap, cap);
            least_begin = Some(least_begin.map_or(begin, |it| it.min(begin)));
            sum += spent;
            let (begin, cap) = least_begin.unwrap();
            slack = slack.min((begin - sum) as f64 / cap as f64);
        }
        slack
    }
}

/// Several workers. In calm spells all requests succeed; in the others some or all fail and need retries at any time of their lives,
/// some of them all that there are.
fn run(seed: u64, ratio: f64, min_per_second: f64, workers: u32, rate: u64) -> f64 {
    const FLIGHT: u64 = SECOND;
    const PAUSE: u64 = 4 * SECOND;
    let mut random = Random::seeded(seed);
    let budget = budget(ratio, min_per_second);
    let mut accounts = vec![Account::default(); workers as usize];
    let mut run = Run {
        per_success: (ratio * 1e9).round() as i128,
        per_milli: (min_per_second * 1e6).round() as i128,
        workers: u64::from(workers),
        // A flight that ends in a pause is noticed after it.
        longest_flight: FLIGHT + PAUSE,
        deposits: vec![(VecDeque::new(), 0); workers as usize],
        events: Vec::new(),
    };
    let mut in_flight: Vec<(usize, SetAside, u32, u64)> = Vec::new();
    let mut now = START;
    let (mut luck, mut calm) = (100, true);
    for turn in 0..8_000 {
        if turn % 400 == 0 {
            calm = turn % 800 == 0;
            luck = if calm { 100 } else { [95, 40, 0][random.below(3) as usize] };
        }
        now += match random.below(2_000) {
            0 => random.below(PAUSE),
            _ => random.below(2 * SECOND / rate / 3),
        };
        // Those whose time is up, and one at random.
        let mut ending: Vec<usize> =
            (0..in_flight.len()).filter(|it| in_flight[*it].3 <= now || random.below(50) == 0).collect();
        while let Some(index) = ending.pop() {
            let (worker, set_aside, made, _) = in_flight.swap_remove(index);
            let outcome = match random.below(100) {
                it if it < luck => Outcome::Success,
                99 => Outcome::Cancelled,
                _ => Outcome::Failure,
            };
            let made = if !calm && random.below(20) == 0 { None } else { Some(made) };
            accounts[worker].settle(&budget, set_aside, made, outcome, workers, at(now));
            if outcome == Outcome::Success {
                run.success(worker, now);
            }
        }
        match random.below(3) {
            0 if !in_flight.is_empty() && !calm => {
                let index = random.below(in_flight.len() as u64) as usize;
                let retries = in_flight[index].1.retries();
                // Some use up all at once.
                while in_flight[index].2 < retries {
                    in_flight[index].2 += 1;
                    run.event(now, TOKEN);
                }
            }
            _ => {
                let worker = random.below(u64::from(workers)) as usize;
                let wanted = if !calm && random.below(20) == 0 { u32::MAX } else { 1 + random.below(4) as u32 };
                let set_aside = accounts[worker].set_aside(&budget, wanted, workers, at(now));
                in_flight.push((worker, set_aside, 0, now + random.below(FLIGHT)));
            }
        }
    }
    run.least_slack()
}

#[test]
fn no_interval_sees_more_retries_than_are_paid_for() {
    let mut least = f64::MAX;
    for (seed, (ratio, min_per_second)) in
        [(0.1, 1.0), (0.5, 0.0), (1.0, 10.0), (0.01, 0.1), (0.0, 3.0)].iter().enumerate()
    {
        for workers in [1, 2, 4, 16] {
            for rate in [10, 1_000] {
                let slack = run(7 + seed as u64, *ratio, *min_per_second, workers, rate);
                assert!(0.0 <= slack, "{ratio}, {min_per_second}/s, {workers} workers, {rate}/s: {slack} caps");
                least = least.min(slack);
            }
        }
    }
    // It is a bound, not a distant one.
    assert!(least < 0.1, "{least}");
}

#[test]
fn in_the_long_run_it_is_the_ratio() {
    for ratio in [0.01, 0.05, 0.1, 0.2, 0.3, 0.33, 0.5, 0.6, 0.75, 0.99, 1.0] {
        for wanted in [1, 2, 4] {
            let mut client = Client::new(ratio, 0.0);
            let mut retries = 0;
            const REQUESTS: u32 = 20_000;
            client.drain();
            for _ in 0..REQUESTS {
                client.now += MILLISECOND;
                let set_aside = client.go(wanted);
                let made = set_aside.retries().min(1);
                retries += made;
                client.come(set_aside, Some(made), Outcome::Success);
            }
            let measured = f64::from(retries) / f64::from(REQUESTS);
            assert!((measured - ratio).abs() <= 0.01 * ratio, "{ratio}: {measured}, wanted {wanted}");
        }
    }
}

/// A bucket that prices a retry at a whole number of deposits makes it 1 for every percentage above a half, and 3 for a third.
#[test]
fn tower_truncation_a_ratio_of_six_tenths_is_not_one() {
    for (ratio, successes, retries) in [(0.6, 1_000, 600), (0.75, 1_000, 750), (0.99, 1_000, 990), (0.3, 1_000, 300)] {
        let mut client = Client::new(ratio, 0.0);
        client.drain();
        let mut made = 0;
        for _ in 0..successes {
            client.end(Outcome::Success, 1);
            let set_aside = client.go(1);
            made += set_aside.retries();
            client.come(set_aside, None, Outcome::Cancelled);
        }
        assert_eq!(made, retries, "{ratio}");
    }
}

#[test]
fn workers_together_pay_for_what_time_allows_once() {
    for workers in [1, 3, 8] {
        let mut clients: Vec<Client> = (0..workers).map(|_| Client::new(0.1, 2.0).of(workers)).collect();
        let mut retries = 0;
        for client in &mut clients {
            client.drain();
            for _ in 0..100_000 {
                client.now += MILLISECOND;
                let set_aside = client.go(1);
                retries += set_aside.retries();
                client.come(set_aside, None, Outcome::Cancelled);
            }
        }
        assert!((200 - workers..=200).contains(&retries), "{retries} in 100 s by {workers}");
    }
}

// === what is there ===

#[test]
fn it_starts_half_full() {
    assert_eq!(Client::new(0.1, 1.0).there(), 5);
    assert_eq!(Client::new(0.1, 1.0).of(2).there(), 2);
    // Ten seconds of forty a second are four hundred.
    assert_eq!(Client::new(0.1, 40.0).there(), 200);
    assert_eq!(Client::new(0.1, MAX_PER_SECOND).there(), 250);
}

#[test]
fn time_pays_to_the_nanosecond() {
    let mut client = Client::new(0.1, 1.0);
    client.drain();
    client.now += SECOND - 1;
    assert_eq!(client.there(), 0);
    client.now += 1;
    assert_eq!(client.there(), 1);
    for (passed, there) in [(3 * SECOND - 1, 0), (3 * SECOND, 1)] {
        let mut client = Client::new(0.1, 1.0).of(4);
        // Half of the share of two and a half was one and a quarter.
        client.drain();
        client.now += passed;
        assert_eq!(client.there(), there);
    }
}

#[test]
fn the_cap_is_ten_at_least_and_five_hundred_at_most() {
    let mut client = Client::new(0.1, 0.0);
    client.now += 3_600 * SECOND;
    client.end(Outcome::Success, 100);
    assert_eq!(client.there(), 10, "a hundred successes pay ten");
    client.end(Outcome::Success, 10);
    assert_eq!(client.there(), 11);
    client.end(Outcome::Success, 10_000);
    assert_eq!(client.there(), 500);
    // A ttl later, what they paid is forfeit, bit by bit.
    client.now += TTL - SECOND;
    assert_eq!(client.there(), 500);
    client.now += SECOND;
    assert_eq!(client.there(), 10);
}

#[test]
fn each_of_many_workers_may_have_one() {
    let mut client = Client::new(0.1, 1.0).of(32);
    assert_eq!(client.there(), 0);
    client.now += 16 * SECOND;
    assert_eq!(client.there(), 1);
    client.now += 3_600 * SECOND;
    assert_eq!(client.there(), 1);
    // Of five hundred, fifteen are the worker's.
    client.end(Outcome::Success, 10_000);
    assert_eq!(client.there(), 15);
}

#[test]
fn a_worker_that_comes_takes_its_share_from_the_others() {
    let mut client = Client::new(0.1, 1.0);
    client.now += TTL;
    assert_eq!(client.there(), 5, "nothing is paid before the first use");
    client.now += TTL;
    assert_eq!(client.there(), 10);
    client.workers = 2;
    assert_eq!(client.there(), 5);
    client.workers = 1;
    assert_eq!(client.there(), 5);
    client.workers = 0;
    client.now += SECOND;
    assert_eq!(client.there(), 6, "0 counts as 1");
}

// === set aside ===

#[test]
fn what_is_set_aside_is_nobody_elses_until_it_returns() {
    let mut client = Client::new(0.1, 0.0);
    let first = client.go(2);
    let second = client.go(2);
    let third = client.go(2);
    let fourth = client.go(2);
    let retries = [&first, &second, &third, &fourth].map(SetAside::retries);
    assert_eq!(retries, [2, 2, 1, 0], "fewer if there are fewer");
    client.come(first, Some(0), Outcome::Cancelled);
    assert_eq!(client.there(), 2);
    client.come(second, Some(1), Outcome::Cancelled);
    assert_eq!(client.there(), 3);
    // After a reset nobody knows, so all count as made.
    client.come(third, None, Outcome::Cancelled);
    assert_eq!(client.there(), 3);
    client.come(fourth, Some(0), Outcome::Cancelled);
    assert_eq!(client.there(), 3);
    // More than were allowed are somebody else's.
    let fifth = client.go(1);
    client.come(fifth, Some(7), Outcome::Cancelled);
    assert_eq!(client.there(), 2);
}

#[test]
fn the_cap_holds_for_what_is_free_and_what_is_set_aside() {
    let mut client = Client::new(0.1, 1.0);
    client.now += 1;
    client.there();
    client.now += TTL;
    let all = client.go(u32::MAX);
    assert_eq!(all.retries(), 10);
    client.now += 3_600 * SECOND;
    assert_eq!(client.there(), 0, "time pays nothing more while all of the cap is out");
    client.come(all, Some(4), Outcome::Cancelled);
    assert_eq!(client.there(), 6);
}

#[test]
fn only_a_success_pays() {
    for (outcome, there) in [
        (Outcome::Success, 1),
        (Outcome::Failure, 0),
        (Outcome::ClientError, 0),
        (Outcome::Cancelled, 0),
        (Outcome::Limited, 0),
    ] {
        let mut client = Client::new(1.0, 0.0);
        client.drain();
        client.end(outcome, 1);
        assert_eq!(client.there(), there, "{outcome:?}");
    }
}

// === while it fails ===

#[test]
fn while_fewer_than_half_succeed_half_is_kept() {
    let mut client = Client::new(0.1, 1.0);
    client.there();
    client.now += TTL;
    client.end(Outcome::Success, 10);
    client.end(Outcome::Failure, 10);
    // The cap is what ten seconds and ten successes pay: eleven.
    assert_eq!(client.there(), 11, "half succeed");
    client.end(Outcome::Failure, 1);
    assert_eq!(client.there(), 5, "what lies above five and a half");
    client.drain();
    assert_eq!(client.there(), 0);
    client.end(Outcome::Success, 1);
    assert_eq!(client.there(), 6, "half succeed again, and find what was kept");
}

#[test]
fn a_few_failures_say_nothing() {
    let mut client = Client::new(0.1, 1.0);
    client.end(Outcome::Failure, 3);
    assert_eq!(client.there(), 5);
    client.end(Outcome::Failure, 1);
    assert_eq!(client.there(), 0);
}

#[test]
fn what_neither_succeeds_nor_fails_says_nothing() {
    let mut client = Client::new(0.1, 1.0);
    client.end(Outcome::Cancelled, 100);
    client.end(Outcome::ClientError, 100);
    client.end(Outcome::Limited, 100);
    assert_eq!(client.there(), 5);
}

#[test]
fn failures_count_half_after_a_tenth_of_the_ttl() {
    let mut client = Client::new(0.1, 0.0);
    client.end(Outcome::Failure, 16);
    assert_eq!(client.there(), 0);
    client.now += 2 * SECOND;
    assert_eq!(client.there(), 0, "four are left, and enough");
    client.now += SECOND - 1;
    assert_eq!(client.there(), 0);
    client.now += 1;
    assert_eq!(client.there(), 5);
    // Recent successes outweigh older failures.
    client.end(Outcome::Failure, 100);
    client.now += 3 * SECOND;
    assert_eq!(client.there(), 0);
    client.end(Outcome::Success, 13);
    assert_eq!(client.there(), 6);
}

#[test]
fn in_an_outage_the_requests_that_fail_earn_nothing() {
    let mut client = Client::new(0.2, 0.0);
    client.end(Outcome::Success, 10_000);
    assert_eq!(client.there(), 500);
    let mut retries = 0;
    for _ in 0..100_000 {
        client.now += MILLISECOND;
        let set_aside = client.go(4);
        retries += set_aside.retries();
        client.come(set_aside, None, Outcome::Failure);
    }
    // All but what is kept; and of that the successes of the first ten seconds paid more than the cap now holds.
    assert!((250..=500).contains(&retries), "{retries}");
    assert_eq!(client.there(), 0);
}

// === clocks ===

#[test]
fn a_clock_that_goes_back_pays_nothing_twice() {
    for step in [1, MILLISECOND, SECOND] {
        let mut client = Client::new(0.1, 1.0);
        client.drain();
        let mut made = 0;
        for turn in 0..10_000_u64 {
            client.now = if turn % 2 == 0 { client.now + step / 2 + 1 } else { client.now - step / 2 };
            let set_aside = client.go(1);
            made += set_aside.retries();
            client.come(set_aside, None, Outcome::Cancelled);
        }
        let passed = client.now - START + step;
        assert!(u64::from(made) <= passed / SECOND, "{made} in {passed} ns");
    }
}

#[test]
fn after_a_long_step_back_time_pays_from_there() {
    let mut client = Client::new(0.1, 1.0);
    client.now += TTL;
    client.end(Outcome::Success, 200);
    client.drain();
    client.now = SECOND;
    assert_eq!(client.there(), 0);
    client.now += SECOND;
    assert_eq!(client.there(), 1);
    // A short one adds nothing until the clock has caught up.
    client.now -= SECOND;
    assert_eq!(client.there(), 1);
    client.now += 2 * SECOND - 1;
    assert_eq!(client.there(), 1);
    client.now += 1;
    assert_eq!(client.there(), 2);
    // The cap fades from there too.
    client.now += TTL;
    assert_eq!(client.there(), 10);
}

#[test]
fn the_ends_of_time_are_instants_like_others() {
    for instants in [[0, u64::MAX, 0], [u64::MAX, 0, u64::MAX], [u64::MAX, u64::MAX, u64::MAX]] {
        let mut client = Client::new(1.0, MAX_PER_SECOND);
        for now in instants {
            client.now = now;
            client.end(Outcome::Success, 3);
            client.end(Outcome::Failure, 3);
            assert!(client.there() <= 500);
        }
    }
}

#[test]
fn the_cap_holds_while_the_clock_has_not_caught_up() {
    let mut client = Client::new(1.0, 0.0);
    client.there();
    client.now -= MILLISECOND;
    client.end(Outcome::Success, 1_000);
    assert_eq!(client.there(), 500);
}

// === configurations ===

#[test]
fn an_account_outlives_its_configuration() {
    let accounts: ByKey<RefCell<Account>> = ByKey::default();
    let old = budget(0.1, 1.0);
    let new = Budget::new(0.5, 0.0, Duration::from_secs(1)).unwrap();
    let account = accounts.of("outrigger/test/retry/0");
    let set_aside = account.borrow_mut().set_aside(&old, 3, 1, at(START));
    assert_eq!(set_aside.retries(), 3);
    let account = accounts.of("outrigger/test/retry/0");
    account.borrow_mut().settle(&new, set_aside, Some(2), Outcome::Success, 1, at(START));
    // Three of five, and half a token.
    assert_eq!(account.borrow_mut().set_aside(&new, 9, 1, at(START)).retries(), 3);
}

#[test]
fn what_makes_no_budget_is_refused() {
    let of = |ratio, min_per_second, ttl| Budget::new(ratio, min_per_second, ttl);
    let ttl = Duration::from_secs(10);
    for ratio in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
        assert_eq!(of(ratio, 1.0, ttl), Err(Unrepresentable::Ratio), "{ratio}");
    }
    for min_per_second in [-1.0, MAX_PER_SECOND + 1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(of(0.1, min_per_second, ttl), Err(Unrepresentable::PerSecond), "{min_per_second}");
    }
    for millis in [0, 999, 60_001] {
        assert_eq!(of(0.1, 1.0, Duration::from_millis(millis)), Err(Unrepresentable::Ttl), "{millis}");
    }
    assert_eq!(of(0.0, 0.0, ttl), Err(Unrepresentable::Nothing));
    assert!(of(0.0, 0.001, Duration::from_secs(1)).is_ok());
    assert!(of(1.0, 0.0, Duration::from_secs(60)).is_ok());
    assert_eq!(of(0.1, 1.0, ttl), Ok(Budget::default()));
}
