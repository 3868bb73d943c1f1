//! Leases: workers that take batches of a shared bucket call the proxy seldom and admit what the bucket admits.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use crate::common::bound::{Admitted, excess};
use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, Sidecar, header, pass_until, take_shared_calls};
use crate::common::{MemoryHost, Random};
use outrigger::cx::{Cx, Telemetry};
use outrigger::limit::token_bucket::{Tat, TokenBucket};
use outrigger::limit::window::LeasedWindow;
use outrigger::pipeline::Decision;
use outrigger::shared::failure_mode::FailureMode;
use outrigger::shared::format::HEADER_SIZE;
use outrigger::shared::lease::{HORIZON, LIFETIME, MAX_PAUSE};
use outrigger::shared::leased::{Leased, Leases};
use outrigger::shared::live::{Latest, Live};
use outrigger::shared::meter::{Leasable, Meter};
use outrigger::shared::single::Single;
use outrigger::time::Timestamp;

const RECORD: &str = "outrigger/test/token_bucket/all";
const WINDOW_RECORD: &str = "outrigger/test/window/all";

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

fn one_limit(max_tokens: u32, rate: u32, interval: &str) -> String {
    format!(
        r#"{{ "limits": [{{ "name": "all", "token_bucket":
            {{ "max_tokens": {max_tokens}, "tokens_per_fill": {rate}, "fill_interval": "{interval}" }} }}] }}"#
    )
}

fn per_second(max_tokens: u32, rate: u32) -> TokenBucket {
    TokenBucket::new(max_tokens, rate, Duration::from_secs(1)).unwrap()
}

/// Sixteenths of a nanosecond in which a token is added.
fn emission(bucket: &TokenBucket) -> u64 {
    bucket.load(bucket.exhausted(at(0)), at(0)) / bucket.max_tokens()
}

/// The state in the shared record: a version byte, what the header says, then the state.
fn state(host: &MemoryHost) -> Tat {
    let record = host.record(RECORD).unwrap();
    TokenBucket::decode(&record[HEADER_SIZE..]).unwrap()
}

/// A time until the next of `rate` arrivals per second that do not know of each other.
fn pause(random: &mut Random, rate: f64) -> u64 {
    let uniform = (random.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
    (-uniform.ln() / rate * 1e9) as u64
}

/// What became of a simulated load.
#[derive(Debug, Default)]
struct Run {
    offered: usize,
    admitted: usize,
    /// What one bucket without workers admits of the same requests.
    exact: usize,
    shared_calls: usize,
}

/// Offers `offered` requests per second to `workers`, the first of which gets half of them if `uneven`.
fn simulate(workers: &[Sidecar], bucket: &TokenBucket, offered: f64, uneven: bool, seconds: u64, seed: u64) -> Run {
    let mut random = Random::seeded(seed);
    let mut run = Run::default();
    let mut exact = Tat::FULL;
    let start = workers[0].now();
    let mut now = start;
    loop {
        now += pause(&mut random, offered);
        if start + seconds * SECOND < now {
            break;
        }
        pass_until(workers, now);
        let worker = match random.below(2) {
            0 if uneven => 0,
            _ if uneven => 1 + random.below(workers.len() as u64 - 1) as usize,
            _ => random.below(workers.len() as u64) as usize,
        };
        run.offered += 1;
        run.admitted += usize::from(workers[worker].serve(&[]).is_none());
        if let Ok(grant) = bucket.take(exact, 1, at(now)) {
            exact = grant.state;
            run.exact += 1;
        }
    }
    run.shared_calls = take_shared_calls(&workers[0].host);
    run
}

// === few calls, next to nothing lost ===

fn at_ten_thousand_requests_per_second(size: u32, rate: u32, seed: u64) {
    let workers = Sidecar::several(8, &one_limit(size, rate, "1s"));
    let run = simulate(&workers, &per_second(size, rate), 10_000.0, true, 5, seed);
    let context = format!("{size}, {rate}/s, seed {seed}: {run:?}");
    assert!(run.shared_calls * 10 <= run.offered, "more than a call in ten requests at {context}");
    assert!(run.exact.abs_diff(run.admitted) * 100 <= run.exact, "more than 1 % off the exact bucket at {context}");
}

#[test]
fn below_the_limit_eight_workers_call_once_in_ten_requests_at_most_and_admit_like_one_bucket() {
    for seed in 1..=2 {
        at_ten_thousand_requests_per_second(1_000, 12_500, seed);
        at_ten_thousand_requests_per_second(100, 12_500, seed);
    }
}

#[test]
fn at_twice_the_limit_eight_workers_call_once_in_ten_requests_at_most_and_admit_like_one_bucket() {
    for seed in 3..=4 {
        at_ten_thousand_requests_per_second(1_000, 5_000, seed);
        at_ten_thousand_requests_per_second(10_000, 5_000, seed);
    }
}

/// Its tokens come back in 20 ms, so nobody can let them collect for as long as in a larger one.
#[test]
fn a_bucket_that_fills_in_twenty_milliseconds_costs_a_little_more_at_twice_the_limit() {
    let workers = Sidecar::several(8, &one_limit(100, 5_000, "1s"));
    let run = simulate(&workers, &per_second(100, 5_000), 10_000.0, true, 5, 6);
    assert!(run.shared_calls * 100 <= run.offered * 15, "{run:?}");
    assert!(run.exact.abs_diff(run.admitted) * 100 <= run.exact, "{run:?}");
}

#[test]
fn at_the_limit_eight_workers_admit_like_one_bucket() {
    at_ten_thousand_requests_per_second(1_000, 10_000, 5);
}

#[test]
fn low_rates_are_exact() {
    for seed in 11..=13 {
        let workers = Sidecar::several(4, &one_limit(20, 100, "1s"));
        let run = simulate(&workers, &per_second(20, 100), 500.0, false, 20, seed);
        assert!(run.exact.abs_diff(run.admitted) <= 2, "seed {seed}: {run:?}");
    }
}

#[test]
fn the_first_burst_over_several_workers_is_exact() {
    for (size, apart) in [(8, 0), (100, 0), (1_000, 0), (1_000, 1_000)] {
        // Nothing to speak of is added meanwhile.
        let workers = Sidecar::several(8, &one_limit(size, 1, "1h"));
        let mut random = Random::seeded(u64::from(size));
        let mut admitted = 0;
        for _ in 0..2 * size {
            workers[0].host.advance(apart);
            admitted += workers[random.below(8) as usize].admitted(1, &[]);
        }
        assert_eq!(admitted, size as usize, "a request every {apart} ns");
    }
}

// === the bound ===

/// The most tokens that were asked for within a horizon, and a quarter more: what is on lease at most.
fn largest_lease(asked: &[u64]) -> u64 {
    let mut first = 0;
    let mut most = 0;
    for (last, nanos) in asked.iter().enumerate() {
        while asked[first] + common_horizon() <= *nanos {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    (most + most / 4) as u64
}

fn common_horizon() -> u64 {
    nanos(HORIZON)
}

/// A load that swells and ebbs, on workers that are stopped for up to 10 ms after they read the clock, are given their
/// ticks late, and lose races to another worker. Every interval must keep the bound.
fn stormy_run(bucket: &TokenBucket, config: &str, offered: f64, seed: u64) {
    const LATEST: u64 = 10 * MILLISECOND;
    let workers = Sidecar::several(6, config);
    let host = Rc::clone(&workers[0].host);
    let admitted = Rc::new(RefCell::new(Vec::new()));
    let rival = Single::new(RECORD.to_owned(), *bucket, FailureMode::Allow);
    let (telemetry, mut dice, log) = (Telemetry::default(), Random::seeded(seed + 1_000), Rc::clone(&admitted));
    host.interfere(move |host| {
        // Several in a row, so that updates are lost more than once.
        while dice.below(3) == 0 {
            let now = outrigger::host::Host::now(host);
            let tokens = 1 + dice.below(3);
            if rival.take(&Cx::at(host, &telemetry, now), tokens).unwrap().is_ok() {
                log.borrow_mut().push(Admitted { nanos: now.as_nanos(), tokens });
            }
        }
    });
    let mut random = Random::seeded(seed);
    let mut clocks = [0_u64; 6];
    let mut asked: [Vec<u64>; 6] = std::array::from_fn(|_| Vec::new());
    let mut now = workers[0].now();
    let (mut load, mut favourite) = (1.0, 0);
    for step in 0..40_000 {
        if step % 500 == 0 {
            load = [0.1, 0.8, 1.0, 1.2, 3.0, 10.0][random.below(6) as usize];
            favourite = random.below(6) as usize;
            now += random.below(3) * random.below(100 * MILLISECOND);
        }
        now += pause(&mut random, offered * load);
        let index = if random.below(2) == 0 { favourite } else { random.below(6) as usize };
        // The clock of one worker does not go back.
        let clock = clocks[index].max(now - random.below(LATEST + 1));
        clocks[index] = clock;
        let worker = &workers[index];
        host.set_now(clock);
        if worker.due().is_some_and(|due| due + random.below(LATEST) <= clock) {
            worker.tick();
        }
        asked[index].push(clock);
        if worker.serve(&[]).is_none() {
            admitted.borrow_mut().push(Admitted { nanos: clock, tokens: 1 });
        }
    }
    let on_lease: u64 = asked.iter().map(|it| largest_lease(it)).sum();
    let worst = excess(bucket, &admitted.borrow(), 0);
    let emission = i128::from(emission(bucket));
    let context = format!("seed {seed}, {bucket:?}: {} of {on_lease} tokens", worst / emission);
    assert!(worst <= i128::from(on_lease) * emission, "{context}");
    // A bound that is never approached shows nothing.
    assert!(-i128::from(bucket.max_tokens()) * emission < 2 * worst, "{context}");
    assert!(0 < host.metric("call=.=token_bucket;.;outrigger_shared_conflicts_total"), "{context}");
}

#[test]
fn no_interval_admits_more_than_size_plus_rate_plus_leases_whatever_the_workers_suffer() {
    for (seed, (size, rate)) in (21..).zip([(20, 1_000), (100, 5_000), (1_000, 5_000), (1_000, 20_000)]) {
        stormy_run(&per_second(size, rate), &one_limit(size, rate, "1s"), f64::from(rate), seed);
    }
}

// === what is not used goes back ===

/// Workers that were busy enough to have leases. Returns how many requests were admitted, all of them.
fn warm_up(workers: &[Sidecar], seed: u64) -> u64 {
    warm_up_with(workers, 5_000, seed)
}

fn warm_up_with(workers: &[Sidecar], requests: u64, seed: u64) -> u64 {
    let mut random = Random::seeded(seed);
    let mut now = workers[0].now();
    for _ in 0..requests {
        now += random.below(100_000);
        pass_until(workers, now);
        assert_eq!(workers[random.below(workers.len() as u64) as usize].serve(&[]), None, "seed {seed}");
    }
    requests
}

#[test]
fn an_idle_lease_is_given_back_in_its_lifetime_as_if_it_had_never_been_taken() {
    const TICK: u64 = MILLISECOND;
    let bucket = TokenBucket::new(100_000, 1, Duration::from_secs(60)).unwrap();
    let workers = Sidecar::several(4, &one_limit(100_000, 1, "60s"));
    // The first token is taken from a full bucket; from then on it is never full again.
    workers[0].serve(&[]);
    let first = state(&workers[0].host).to_bits();
    let admitted = warm_up(&workers, 31);
    let unused = first + admitted * emission(&bucket);
    assert!(unused + 8 * emission(&bucket) < state(&workers[0].host).to_bits(), "there are tokens on lease");
    let end = workers[0].now();
    pass_until(&workers, end + nanos(LIFETIME) + TICK);
    assert_eq!(state(&workers[0].host).to_bits(), unused, "each token taken was used or given back");
    for worker in &workers {
        assert_eq!(worker.due(), None, "a worker that holds nothing needs no tick");
    }
}

#[test]
fn a_bucket_that_only_one_worker_uses_is_wholly_used_again_after_the_others_went_idle() {
    let workers = Sidecar::several(4, &one_limit(6_000, 1, "1h"));
    let admitted = warm_up(&workers, 32) as usize;
    let end = workers[0].now();
    pass_until(&workers, end + nanos(LIFETIME) + MILLISECOND);
    let rest: usize = (0..2_000)
        .map(|_| {
            pass_until(&workers, workers[3].now() + 100_000);
            workers[3].admitted(1, &[])
        })
        .sum();
    assert_eq!(admitted + rest, 6_000);
}

#[test]
fn tokens_of_a_request_that_a_later_limit_refused_come_back() {
    let config = r#"{ "limits": [
        { "name": "all", "token_bucket": { "max_tokens": 100000, "tokens_per_fill": 1, "fill_interval": "1m" } },
        { "name": "user", "key": ["header:x-user"],
          "token_bucket": { "max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "1h" } } ] }"#;
    let emission = emission(&TokenBucket::new(100_000, 1, Duration::from_secs(60)).unwrap());
    let workers = Sidecar::several(3, config);
    workers[0].serve(&[("x-user", "first")]);
    let first = state(&workers[0].host).to_bits();
    let mut random = Random::seeded(33);
    let mut admitted = 0;
    for _ in 0..6_000 {
        pass_until(&workers, workers[0].now() + random.below(200_000));
        let user = random.below(100).to_string();
        admitted += workers[random.below(3) as usize].admitted(1, &[("x-user", &user)]) as u64;
    }
    assert_eq!(admitted, 100, "one for each user");
    pass_until(&workers, workers[0].now() + nanos(LIFETIME) + MILLISECOND);
    assert_eq!(state(&workers[0].host).to_bits(), first + admitted * emission, "the refused took nothing");
}

// === refusals ===

#[test]
fn a_refusal_that_is_remembered_costs_no_shared_call() {
    let workers = Sidecar::several(2, &one_limit(10, 1, "1s"));
    assert_eq!(workers[0].admitted(10, &[]), 10);
    assert_eq!(workers[0].admitted(1, &[]), 0);
    workers[0].host.take_calls();
    workers[0].host.advance(SECOND / 2);
    assert_eq!(workers[0].admitted(100, &[]), 0);
    assert_eq!(take_shared_calls(&workers[0].host), 0);
    assert_eq!(workers[1].admitted(100, &[]), 0);
    assert_eq!(take_shared_calls(&workers[0].host), 1, "each worker asks once");
    workers[0].host.advance(SECOND / 2);
    assert_eq!(workers[0].admitted(1, &[]), 1, "at the instant itself it is forgotten");
}

#[test]
fn a_refusal_is_forgotten_after_its_longest_pause() {
    let worker = Sidecar::new(&one_limit(10, 1, "1h"));
    assert_eq!(worker.admitted(11, &[]), 10);
    // Others give back what they had.
    let record = worker.host.record(RECORD).unwrap();
    let full = [&record[..HEADER_SIZE], &[0; 8]].concat();
    worker.host.put_record(RECORD, &full);
    worker.host.advance(nanos(MAX_PAUSE) - 1);
    assert_eq!(worker.admitted(1, &[]), 0, "it does not know");
    worker.host.advance(1);
    assert_eq!(worker.admitted(1, &[]), 1);
}

/// A worker's lease of a bucket, without the pipeline: waits to the nanosecond.
struct Alone<M: Copy> {
    host: Rc<MemoryHost>,
    telemetry: Telemetry,
    leased: Leased<M>,
}

impl<M: Leasable> Alone<M> {
    fn new(meter: M) -> Self {
        Self::on(&MemoryHost::new(), meter)
    }

    fn on(host: &Rc<MemoryHost>, meter: impl Into<Live<M>>) -> Self {
        let single = Single::new(RECORD.to_owned(), meter, FailureMode::Allow);
        let leased = Leased::new(single, &Leases::default());
        Self { host: Rc::clone(host), telemetry: Telemetry::default(), leased }
    }

    /// The refusal that it says a request would get.
    fn foresee(&self, cost: u64, now: u64) -> Option<outrigger::shared::meter::Denial> {
        self.host.set_now(now);
        self.leased.peek(&Cx::at(&*self.host, &self.telemetry, at(now)), cost).unwrap()
    }

    /// The wait that a refusal names.
    fn take(&self, cost: u64, now: u64) -> Result<(), Duration> {
        self.host.set_now(now);
        let taken = self.leased.take(&Cx::at(&*self.host, &self.telemetry, at(now)), cost).unwrap();
        taken.map(|_| ()).map_err(|denial| denial.retry_after.unwrap())
    }
}

/// Whatever a worker was doing: if it is left alone for as long as a refusal says, it admits.
fn keeps_its_word<M: Leasable + Debug>(bucket: M, pace: u64, costs: u64, seed: u64) {
    let mut random = Random::seeded(seed);
    let alone = Alone::new(bucket);
    let mut now = SECOND;
    let mut refusals = 0;
    for step in 0..20_000 {
        now += random.below(1 + pace / [1, 2, 8, 64][step / 250 % 4]);
        let cost = 1 + random.below(costs);
        let Err(wait) = alone.take(cost, now) else {
            continue;
        };
        refusals += 1;
        if random.below(3) == 0 {
            now += nanos(wait);
            let again = alone.take(cost, now);
            assert_eq!(again, Ok(()), "seed {seed}, step {step}, cost {cost}: was told {wait:?}, {bucket:?}");
        }
    }
    assert!(50 < refusals, "{refusals} refusals show little");
}

#[test]
fn a_worker_that_is_left_alone_admits_when_its_refusal_said() {
    for (seed, (size, rate)) in (41..).zip([(1, 10), (20, 100), (100, 5_000), (1_000, 20_000)]) {
        keeps_its_word(per_second(size, rate), SECOND / u64::from(rate), 1, seed);
    }
}

#[test]
fn a_worker_that_is_left_alone_admits_when_its_refusal_said_if_tokens_are_rare() {
    keeps_its_word(TokenBucket::new(3, 1, Duration::from_secs(60)).unwrap(), 60 * SECOND, 1, 45);
}

#[test]
fn a_worker_that_is_left_alone_admits_when_its_refusal_said_if_it_leases_a_window() {
    for (seed, (max, milliseconds)) in (81..).zip([(1, 1_000), (20, 100), (300, 200), (500, 1_000), (600, 2_000)]) {
        let pace = milliseconds * MILLISECOND / u64::from(8 * max);
        keeps_its_word(window(max, milliseconds), pace, 1, seed);
        keeps_its_word(window(max, milliseconds), pace, u64::from(max.min(10)), seed);
    }
}

#[test]
fn a_worker_that_is_left_alone_admits_when_its_refusal_said_whatever_requests_cost() {
    for (seed, (size, rate)) in (46..).zip([(20, 100), (1_000, 20_000)]) {
        keeps_its_word(per_second(size, rate), SECOND / u64::from(rate), 10, seed);
    }
}

#[test]
fn a_refusal_that_is_remembered_promises_what_the_first_one_did() {
    let worker = Sidecar::new(&one_limit(1, 1, "1h"));
    assert_eq!(worker.serve(&[]), None);
    for seconds in [0, 1, 1, 2] {
        worker.host.advance(seconds * SECOND / 2);
        let left = (HOUR + SECOND - worker.now()).div_ceil(SECOND);
        let reply = worker.serve(&[]).unwrap();
        assert_eq!(header(&reply, "retry-after"), Some(left.to_string().as_str()));
    }
}

#[test]
fn a_worker_that_would_be_admitted_does_not_say_that_it_would_be_refused() {
    let alone = Alone::new(per_second(1_000, 5_000));
    let mut random = Random::seeded(49);
    let mut now = SECOND;
    let mut refusals = 0;
    for step in 0..30_000 {
        now += pause(&mut random, 10_000.0);
        let cost = if random.below(20) == 0 { 1 + random.below(20) } else { 1 };
        let foreseen = alone.foresee(cost, now);
        let taken = alone.take(cost, now);
        if foreseen.is_some() {
            refusals += 1;
            assert!(taken.is_err(), "seed 49, step {step}, cost {cost}: {foreseen:?}");
        }
    }
    assert!(1_000 < refusals, "{refusals} refusals show little");
}

// === configuration updates ===

#[test]
fn a_configuration_update_forgets_the_refusals_of_the_old_bucket() {
    let old = Sidecar::new(&one_limit(10, 1, "1h"));
    assert_eq!(old.admitted(11, &[]), 10);
    let new = old.reconfigured(&one_limit(15, 1, "1h"));
    assert_eq!(new.admitted(10, &[]), 5, "ten of fifteen are taken");
    let same = old.reconfigured(&one_limit(15, 1, "1h"));
    same.host.take_calls();
    assert_eq!(same.admitted(10, &[]), 0);
    assert_eq!(take_shared_calls(&same.host), 0, "an update that changes nothing forgets nothing");
}

#[test]
fn a_configuration_update_keeps_the_tokens_on_lease() {
    let deny = |config: String| config.replace(r#""name": "all","#, r#""name": "all", "failure_mode": "deny","#);
    let old = Sidecar::new(&deny(one_limit(100_000, 1, "60s")));
    warm_up(std::slice::from_ref(&old), 51);
    let new = old.reconfigured(&deny(one_limit(200_000, 1, "30s")));
    new.host.break_call("shared_get");
    let admitted = new.admitted(1_000, &[]) as u64;
    assert!(0 < admitted && admitted < 1_000, "{admitted}: there were some, and no more can be had");
    new.host.repair("shared_get");
    assert_eq!(new.admitted(1, &[]), 1);
    pass_until([&new], new.now() + nanos(LIFETIME));
    let bucket = TokenBucket::new(200_000, 1, Duration::from_secs(30)).unwrap();
    assert_eq!(bucket.available(state(&new.host), at(new.now())), 200_000 - 5_000 - admitted - 1);
}

#[test]
fn an_empty_bucket_whose_rate_is_raised_fills_at_the_new_rate() {
    for key in ["", r#""key": ["path"],"#] {
        let with_key = |config: String| config.replace(r#""name": "all","#, &format!(r#""name": "all", {key}"#));
        let old = Sidecar::new(&with_key(one_limit(10, 1, "1h")));
        assert_eq!(old.admitted(11, &[]), 10);
        let new = old.reconfigured(&with_key(one_limit(10, 1_000, "1s")));
        assert_eq!(new.admitted(10, &[]), 0, "it is still empty");
        new.host.advance(20 * MILLISECOND);
        assert_eq!(new.admitted(20, &[]), 10, "twenty more came in 20 ms, of which ten fit; {key}");
    }
}

// === clocks ===

#[test]
fn a_clock_that_steps_back_an_hour_costs_a_fill_at_most_and_admits_nothing_extra() {
    let (size, rate) = (1_000, 5_000);
    let bucket = per_second(size, rate);
    let workers = Sidecar::several(4, &one_limit(size, rate, "1s"));
    workers[0].host.set_now(2 * HOUR);
    simulate(&workers, &bucket, 10_000.0, true, 1, 61);
    let stepped = workers[0].now() - HOUR;
    workers[0].host.set_now(stepped);
    let mut random = Random::seeded(62);
    let mut admitted = Vec::new();
    let mut now = stepped;
    let mut on_lease = 0;
    while now < stepped + 2 * SECOND {
        now += pause(&mut random, 10_000.0);
        workers[0].host.set_now(now);
        let worker = &workers[random.below(4) as usize];
        if worker.due().is_some_and(|due| due < now + SECOND) {
            worker.tick();
        }
        if worker.serve(&[]).is_none() {
            admitted.push(Admitted { nanos: now, tokens: 1 });
        }
        on_lease = on_lease.max(10_000 * nanos(HORIZON) / SECOND * 5 / 4);
    }
    let worst = excess(&bucket, &admitted, 0);
    assert!(worst <= i128::from(2 * on_lease) * i128::from(emission(&bucket)), "{worst} ticks too many");
    let late = admitted.iter().filter(|it| stepped + SECOND <= it.nanos).count();
    assert!(4_900 <= late, "{late} admitted in the second after the bucket filled");
}

#[test]
fn a_lease_does_not_outlive_a_clock_that_steps_back() {
    let worker = Sidecar::new(&one_limit(100_000, 1, "60s"));
    worker.host.set_now(2 * HOUR);
    warm_up(std::slice::from_ref(&worker), 63);
    let before = state(&worker.host).to_bits();
    worker.host.set_now(HOUR);
    worker.tick();
    assert!(state(&worker.host).to_bits() < before, "it goes back at the next tick");
    assert_eq!(worker.due(), None);
}

// === windows ===

fn window(max_requests: u32, milliseconds: u64) -> LeasedWindow {
    LeasedWindow::new(max_requests, Duration::from_millis(milliseconds)).unwrap()
}

fn one_window(max_requests: u32, milliseconds: u64) -> String {
    format!(
        r#"{{ "limits": [{{ "name": "all", "window":
            {{ "max_requests": {max_requests}, "interval": "{milliseconds}ms" }} }}] }}"#
    )
}

/// The most that was admitted in any interval of that length, both ends included. In the order of time.
fn most_in_any(interval: u64, admitted: &[Admitted]) -> u64 {
    let (mut first, mut sum, mut most) = (0, 0, 0);
    for last in admitted {
        sum += last.tokens;
        while admitted[first].nanos + interval < last.nanos {
            sum -= admitted[first].tokens;
            first += 1;
        }
        most = most.max(sum);
    }
    most
}

/// What an adversary gets of a window. It drives six workers as it likes: lets them learn a demand, has them take leases and
/// sit on them, sends again when it suits best, stops a worker between its reading of the clock and its decision for up to a
/// quarter of a sub-window, and makes it lose races. Half-way all clocks step back by so many nanoseconds. Returns what was
/// admitted, by a clock that is never late and does not step, and how many calls for shared data it cost.
fn attack(window: LeasedWindow, step_back: u64, tries: usize, seed: u64) -> (Vec<Admitted>, usize) {
    let host = MemoryHost::new();
    let workers: Vec<_> = (0..6).map(|_| Alone::on(&host, window)).collect();
    let (interval, part) = (nanos(window.interval()), nanos(window.part()));
    let life = nanos(LIFETIME.min(window.lifetime()));
    let truth = Rc::new(Cell::new(0));
    let admitted = Rc::new(RefCell::new(Vec::new()));
    let (single, telemetry) = (Single::new(RECORD.to_owned(), window, FailureMode::Allow), Telemetry::default());
    let (mut dice, log, true_now) = (Random::seeded(seed + 1_000), Rc::clone(&admitted), Rc::clone(&truth));
    host.interfere(move |host| {
        while dice.below(8) == 0 {
            let (now, tokens) = (outrigger::host::Host::now(host), 1 + dice.below(3));
            if single.take(&Cx::at(host, &telemetry, now), tokens).unwrap().is_ok() {
                log.borrow_mut().push(Admitted { nanos: true_now.get(), tokens });
            }
        }
    });
    let mut random = Random::seeded(seed);
    let mut now = 10 * HOUR + random.below(interval);
    let mut clocks = [0_u64; 6];
    let fair = interval / window.max_requests();
    let (mut pace, mut favourite, mut behind) = (fair, 0, 0);
    for turn in 0..tries {
        if turn == tries / 2 {
            behind = step_back;
            clocks = [0; 6];
        }
        if turn % (window.max_requests() as usize / 10) == 0 {
            pace = fair / [1, 2, 4, 8, 16][random.below(5) as usize];
            favourite = random.below(6) as usize;
            now += match random.below(8) {
                // To the last instant of a sub-window, or the first one.
                0 => part - now % part,
                1 => (2 * part - 1 - now % part) % part,
                // A lease is almost over.
                2 => life - 1,
                // The oldest goes out of sight.
                3 => interval - random.below(2 * part),
                4 => part + random.below(part),
                _ => 0,
            };
        }
        now += random.below(2 * pace + 1);
        truth.set(now);
        let worker = if random.below(4) == 0 { random.below(6) as usize } else { favourite };
        let late = [0, part / 4 - 1, random.below(part / 4)][random.below(3) as usize];
        clocks[worker] = clocks[worker].max(now - late - behind);
        let tokens = if random.below(50) == 0 { 1 + random.below(5) } else { 1 };
        if workers[worker].take(tokens, clocks[worker]).is_ok() {
            admitted.borrow_mut().push(Admitted { nanos: now, tokens });
        }
    }
    let admitted = admitted.take();
    (admitted, take_shared_calls(&host))
}

#[test]
fn no_interval_admits_more_than_a_leased_window_whatever_the_workers_suffer() {
    let mut tries = 0;
    for (seed, (max, milliseconds)) in (71..).zip([(1_000, 700), (2_000, 1_000), (3_000, 1_000), (4_000, 2_000)]) {
        for seed in [seed, seed + 100, seed + 200] {
            let window = window(max, milliseconds);
            let (admitted, calls) = attack(window, 0, 40_000, seed);
            tries += 40_000;
            let most = most_in_any(nanos(window.interval()), &admitted);
            let context = format!("seed {seed}, {max} in {milliseconds} ms: {most}, {} calls", calls);
            assert!(most <= u64::from(max), "{context}");
            // A promise that is never tried shows nothing, nor do leases that are never had.
            assert!(u64::from(max) * 99 / 100 <= most, "{context}");
            assert!(calls < 2 * admitted.len(), "{context}");
        }
    }
    assert!(100_000 <= tries);
}

#[test]
fn no_interval_admits_more_than_a_leased_window_when_clocks_step_back() {
    for (seed, step_back) in
        (401..).zip([MILLISECOND, 20 * MILLISECOND, 60 * MILLISECOND, SECOND / 2, 2 * SECOND, HOUR])
    {
        for seed in [seed, seed + 100] {
            let (admitted, _) = attack(window(2_000, 1_000), step_back, 30_000, seed);
            let most = most_in_any(SECOND, &admitted);
            assert!(most <= 2_000, "seed {seed}, {step_back} ns: {most}");
            let pauses = admitted.windows(2).map(|pair| pair[1].nanos - pair[0].nanos);
            // An interval and a tenth, what a step that is too small to be noticed adds, and what the adversary waits.
            assert!(pauses.max().unwrap() <= 4 * SECOND, "seed {seed}, {step_back} ns");
        }
    }
}

#[test]
fn an_update_of_a_leased_window_holds_from_its_instant() {
    for (seed, (before, after)) in (421..).zip([
        (window(20_000, 10_000), window(1_000, 1_000)),
        (window(20_000, 10_000), window(300, 100)),
        (window(1_000, 1_000), window(2_000, 1_000)),
        (window(2_000, 1_000), window(3_000, 2_000)),
    ]) {
        let (host, latest) = (MemoryHost::new(), Latest::default());
        let workers: Vec<_> = (0..4).map(|_| Alone::on(&host, latest.of(RECORD, before))).collect();
        let mut random = Random::seeded(seed);
        let (mut now, mut since) = (HOUR, Vec::new());
        for turn in 0..40_000 {
            now += pause(&mut random, 10_000.0);
            if turn == 10_000 {
                latest.announce(RECORD, after);
            }
            if workers[random.below(4) as usize].take(1, now).is_ok() && 10_000 <= turn {
                since.push(Admitted { nanos: now, tokens: 1 });
            }
        }
        let most = most_in_any(nanos(after.interval()), &since);
        assert!(most <= after.max_requests(), "seed {seed}, {before:?}, {after:?}: {most}");
        assert_eq!(most, after.max_requests(), "seed {seed}, {before:?}, {after:?}: it goes on");
    }
}

#[test]
fn what_is_leased_at_the_end_of_a_sub_window_and_used_as_late_as_can_be_is_in_sight_for_the_interval() {
    for milliseconds in [700, 1_000, 1_400, 1_600] {
        let window = window(2_000, milliseconds);
        let (interval, part) = (nanos(window.interval()), nanos(window.part()));
        let host = MemoryHost::new();
        let [busy, other] = [Alone::on(&host, window), Alone::on(&host, window)];
        let end = HOUR / part * part;
        for turn in 0..300 {
            busy.take(1, end - 181 * MILLISECOND + turn * MILLISECOND / 3).unwrap();
        }
        // The lease that it has now is over by then.
        let counted = end - 1;
        busy.take(1, counted).unwrap();
        take_shared_calls(&host);
        let last = counted + nanos(LIFETIME.min(window.lifetime())) - 1;
        let on_lease = std::iter::from_fn(|| (take_shared_calls(&host) == 0).then(|| busy.take(1, last)));
        let used = on_lease.count() as u64 - 1;
        assert!(10 < used, "{milliseconds} ms: {used}");
        // It was stopped for the fourth of a sub-window that is left for that.
        let end = last + part / 4 + interval;
        let admitted = (0..2_000).filter(|_| other.take(1, end).is_ok()).count() as u64;
        assert!(used + admitted <= 2_000, "{milliseconds} ms: {used} and {admitted}");
    }
}

/// Offers 10 000 requests per second to eight workers, the first of which gets half of them. Returns the instants of those
/// that were offered, when each was admitted, and the calls for shared data.
fn offer_to_window(max_requests: u32, seconds: u64, seed: u64) -> (usize, Vec<Admitted>, usize) {
    let workers = Sidecar::several(8, &one_window(max_requests, 1_000));
    let mut random = Random::seeded(seed);
    let (mut now, mut offered, mut admitted) = (SECOND, 0, Vec::new());
    while now < (1 + seconds) * SECOND {
        now += pause(&mut random, 10_000.0);
        pass_until(&workers, now);
        offered += 1;
        let worker = if random.below(2) == 0 { 0 } else { 1 + random.below(7) as usize };
        if workers[worker].serve(&[]).is_none() {
            admitted.push(Admitted { nanos: now, tokens: 1 });
        }
    }
    (offered, admitted, take_shared_calls(&workers[0].host))
}

#[test]
fn eight_workers_under_a_window_call_once_in_ten_requests_at_most_from_the_first_request_on() {
    let (offered, admitted, calls) = offer_to_window(12_500, 5, 91);
    assert_eq!(admitted.len(), offered, "0.8 of the limit");
    assert!(calls * 10 <= offered, "{calls} calls for {offered} requests at 0.8 of the limit");

    let seconds = 6;
    let (offered, admitted, calls) = offer_to_window(5_000, seconds, 92);
    assert!(calls * 10 <= offered, "{calls} calls for {offered} requests at twice the limit");
    assert!(most_in_any(SECOND, &admitted) <= 5_000, "at twice the limit");
    // What the burst at the start adds is not counted.
    let late = admitted.iter().filter(|it| 2 * SECOND <= it.nanos).count() as u64;
    assert!(5_000 * (seconds - 1) * 9 <= late * 10, "{late} at twice the limit");
}

#[test]
fn an_idle_lease_of_a_window_is_given_back_in_its_lifetime_as_if_it_had_never_been_taken() {
    let workers = Sidecar::several(4, &one_window(100_000, 60_000));
    let admitted = warm_up(&workers, 93);
    let window = window(100_000, 60_000);
    let load = |now| {
        let record = workers[0].host.record(WINDOW_RECORD).unwrap();
        window.load(LeasedWindow::decode(&record[HEADER_SIZE..]).unwrap(), at(now))
    };
    let end = workers[0].now();
    assert!(admitted + 8 < load(end), "there are requests on lease");
    pass_until(&workers, end + nanos(LIFETIME));
    assert_eq!(load(workers[0].now()), admitted, "each request taken was used or given back");
    for worker in &workers {
        assert_eq!(worker.due(), None, "a worker that holds nothing needs no tick");
    }
    // Into the sub-windows in which it was counted.
    assert_eq!(load(end + 66 * SECOND), 0);
}

#[test]
fn a_window_whose_parts_are_too_short_for_a_lease_is_exact() {
    let workers = Sidecar::several(4, &one_window(1_000, 600));
    let admitted = warm_up_with(&workers, 900, 94);
    let window = window(1_000, 600);
    let record = workers[0].host.record(WINDOW_RECORD).unwrap();
    let load = window.load(LeasedWindow::decode(&record[HEADER_SIZE..]).unwrap(), at(workers[0].now()));
    assert!(load <= admitted, "{load} of {admitted}");
    assert!(workers.iter().all(|it| it.due().is_none()), "nothing is on lease");
    assert_eq!(take_shared_calls(&workers[0].host), 2 * admitted as usize);
}

#[test]
fn what_comes_back_after_its_lease_is_not_used_for_another_lifetime() {
    let window = window(2_000, 1_000);
    let host = MemoryHost::new();
    let busy = Alone::on(&host, window);
    let load = |now| {
        let record = host.record(RECORD).unwrap();
        window.load(LeasedWindow::decode(&record[HEADER_SIZE..]).unwrap(), at(now))
    };
    let mut now = HOUR;
    let mut taken = Vec::new();
    for _ in 0..300 {
        now += MILLISECOND / 3;
        host.set_now(now);
        taken.push(busy.leased.take(&Cx::at(&*host, &busy.telemetry, at(now)), 1).unwrap().unwrap().counted);
    }
    let before = load(now);
    let (first, last) = (taken[250], taken[299]);
    assert!(first < last, "these are of two leases");
    assert!(busy.leased.refund(&Cx::at(&*host, &busy.telemetry, at(now)), 1, last).unwrap());
    assert_eq!(load(now), before, "back on the lease that it is of");
    assert!(busy.leased.refund(&Cx::at(&*host, &busy.telemetry, at(now)), 1, first).unwrap());
    assert_eq!(load(now), before - 1, "back in the window");
}

#[test]
fn a_lease_ends_when_an_update_leaves_it_no_time() {
    let worker = Sidecar::new(&one_window(100_000, 60_000));
    warm_up(std::slice::from_ref(&worker), 95);
    let new = worker.reconfigured(&one_window(100_000, 100));
    take_shared_calls(&new.host);
    assert_eq!(new.serve(&[]), None);
    assert_eq!(take_shared_calls(&new.host), 2, "it asks, although it has some on lease");
}

// === queues ===

#[test]
fn a_worker_remembers_that_a_queue_is_full_until_a_place_is_free() {
    let config = r#"{ "limits": [{ "name": "all", "leaky_bucket":
        { "capacity": 2, "drain": 10, "drain_interval": "1s" } }] }"#;
    let workers = Sidecar::several(2, config);
    let mut waiting: Vec<_> = (0..3).map(|_| workers[0].ask(&[])).collect();
    assert!(waiting.iter().all(|(decision, _)| !matches!(decision, Decision::Reply(_))));
    assert_eq!(workers[0].admitted(1, &[]), 0);
    take_shared_calls(&workers[0].host);
    assert_eq!((workers[0].admitted(100, &[]), take_shared_calls(&workers[0].host)), (0, 0));
    assert_eq!((workers[1].admitted(100, &[]), take_shared_calls(&workers[0].host)), (0, 1), "each worker asks once");
    workers[0].host.advance(100 * MILLISECOND - 1);
    assert_eq!((workers[0].admitted(1, &[]), take_shared_calls(&workers[0].host)), (0, 0), "1 ns before");
    workers[0].host.advance(1);
    waiting.push(workers[0].ask(&[]));
    assert!(matches!(waiting[3].0, Decision::Wait(..)), "at the instant");
    assert_eq!(workers[0].admitted(1, &[]), 0);
    // Who leaves makes room for the next one that comes to the same worker.
    workers[0].end(waiting.pop().unwrap().1);
    waiting.push(workers[0].ask(&[]));
    assert!(matches!(waiting[3].0, Decision::Wait(..)), "a place that was given up");
    for (_, ticket) in waiting {
        workers[0].end(ticket);
    }
}
