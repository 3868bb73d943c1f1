//! Circuit breakers: they trip when they should, only then, and always come back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::common::interleaving::{Race, in_every_order};
use crate::common::sidecar::{HOUR, MILLISECOND, SECOND, take_shared_calls};
use crate::common::{MemoryHost, Random};
use outrigger::cx::{Cx, Telemetry};
use outrigger::degrade::breaker::machine::{FORGIVEN_AFTER, MAX_PATIENCE, RETRY_SOON, Standing};
use outrigger::degrade::breaker::ramp::{RAMP, STEP, Turn, Turnstile, share};
use outrigger::degrade::breaker::ratio::{Ratio, lower_bound};
use outrigger::degrade::breaker::record::{self, Parts};
use outrigger::degrade::breaker::ring::{Counts, Ring};
use outrigger::degrade::breaker::run::{CELL, GROUPS, Group, Run};
use outrigger::degrade::breaker::state::{Phase, Probe, Probing, Slowest, State, Transition};
use outrigger::degrade::breaker::stop::{SETTLED, Stop};
use outrigger::degrade::breaker::tally::{Outcome, Pace, Response, Tally};
use outrigger::degrade::breaker::trip::TripReason;
use outrigger::degrade::breaker::under_way::{MAX_SLOTS, SLOT, Stay, UnderWay};
use outrigger::degrade::breaker::watch::{BURST, MAX_AGE, MAX_AGE_CLOSE, MAX_AGE_IDLE, Publish, Watch};
use outrigger::degrade::breaker::watched::{Admission, Answer, By, Change, Refusal, Watched, Watches};
use outrigger::degrade::breaker::{Breaker, Invalid, MAX_PROBES, Settings};
use outrigger::host::{Host, HostError};
use outrigger::shared::live::Latest;
use outrigger::time::Timestamp;

const RECORD: &str = "outrigger/test/breaker/inventory";

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What stands in the documentation's example.
fn example() -> Settings {
    Settings {
        consecutive_failures: Some(5),
        failure_ratio: Some(0.5),
        slow_ratio: Some(0.5),
        slow_after: Some(millis(800)),
        ..Settings::default()
    }
}

fn breaker(settings: &Settings) -> Breaker {
    Breaker::new(settings).unwrap()
}

const OK: Response = Response { outcome: Outcome::Success, latency: Duration::from_millis(20) };
const FAILED: Response = Response { outcome: Outcome::Failure, latency: Duration::from_millis(20) };
const SLOW: Response = Response { outcome: Outcome::Success, latency: Duration::from_millis(900) };

/// Several workers of one proxy, with a breaker.
struct Fleet {
    host: Rc<MemoryHost>,
    telemetry: Telemetry,
    breaker: Breaker,
    workers: Vec<Watched>,
    changes: RefCell<Vec<(u64, usize, Change)>>,
    errors: Cell<usize>,
}

impl Fleet {
    fn new(workers: usize, settings: &Settings) -> Self {
        Self::on(MemoryHost::new(), workers, settings)
    }

    fn on(host: Rc<MemoryHost>, workers: usize, settings: &Settings) -> Self {
        let breaker = breaker(settings);
        let workers = (0..workers).map(|_| watched(breaker)).collect();
        Self {
            host,
            telemetry: Telemetry::default(),
            breaker,
            workers,
            changes: RefCell::default(),
            errors: Cell::new(0),
        }
    }

    /// The worker's virtual machine is no more, and another takes its place.
    fn restart(&mut self, worker: usize) {
        self.workers[worker] = watched(self.breaker);
    }

    fn now(&self) -> u64 {
        self.host.now().as_nanos()
    }

    fn take<T>(&self, worker: usize, answer: Answer<T>) -> T {
        let now = self.now();
        self.changes.borrow_mut().extend(answer.changes.into_iter().map(|change| (now, worker, change)));
        self.errors.set(self.errors.get() + usize::from(answer.error.is_some()));
        answer.value
    }

    fn admit(&self, worker: usize) -> Result<Admission, Refusal> {
        let now = self.host.now();
        self.take(worker, self.workers[worker].peek(&Cx::at(&*self.host, &self.telemetry, now)))?;
        self.take(worker, self.workers[worker].claim(&Cx::at(&*self.host, &self.telemetry, now)))
    }

    fn end(&self, worker: usize, admission: Admission, response: &Response) {
        let now = self.host.now();
        self.take(worker, self.workers[worker].report(&Cx::at(&*self.host, &self.telemetry, now), admission, response));
    }

    fn give_back(&self, worker: usize, admission: Admission) {
        let now = self.host.now();
        self.take(worker, self.workers[worker].give_back(&Cx::at(&*self.host, &self.telemetry, now), admission));
    }

    /// A request that is answered at once. Returns whether it passed.
    fn serve(&self, worker: usize, response: &Response) -> bool {
        match self.admit(worker) {
            Ok(admission) => {
                self.end(worker, admission, response);
                true
            }
            Err(_) => false,
        }
    }

    fn state(&self) -> State {
        let bytes = self.host.record(RECORD).unwrap_or_default();
        record::decode(&bytes, self.breaker.trip().part()).unwrap().state
    }

    fn put(&self, state: &State) {
        let mut bytes = Vec::new();
        record::encode(state, self.breaker.trip().part(), &mut bytes);
        self.host.put_record(RECORD, &bytes);
    }

    /// Changes since the last time this was asked.
    fn take_changes(&self) -> Vec<(u64, usize, Change)> {
        self.changes.take()
    }

    /// Changes that a worker made, since the last time this was asked.
    fn take_made(&self) -> Vec<Transition> {
        let made = self.take_changes().into_iter().filter(|it| it.2.by == By::Us);
        made.map(|it| it.2.transition).collect()
    }
}

fn watched(breaker: Breaker) -> Watched {
    Watched::new(RECORD.to_owned(), breaker, &Watches::default())
}

/// Requests on their way, answered in the order of time.
#[derive(Default)]
struct InFlight {
    requests: BTreeMap<(u64, usize), (usize, Admission, Response)>,
    sent: usize,
}

impl InFlight {
    fn send(&mut self, fleet: &Fleet, worker: usize, admission: Admission, response: Response) {
        self.sent += 1;
        let due = fleet.now() + nanos(response.latency);
        self.requests.insert((due, self.sent), (worker, admission, response));
    }

    /// Lets time pass until `now`, with all answers until then.
    fn pass_until(&mut self, fleet: &Fleet, now: u64) {
        while let Some(entry) = self.requests.first_entry().filter(|it| it.key().0 <= now) {
            fleet.host.set_now(entry.key().0);
            let (worker, admission, response) = entry.remove();
            fleet.end(worker, admission, &response);
        }
        fleet.host.set_now(now);
    }
}

// === when it trips ===

#[test]
fn the_bound_is_wilsons() {
    // Found by bisection of what Wilson's formula solves, (p - b)² = z² b(1 - b) / n with z = 1.64; see `ratio`.
    let known = [
        (0, 10, 0.0),
        (1, 1, 0.271_032_090),
        (3, 5, 0.273_186_518),
        (5, 5, 0.650_228_881),
        (8, 10, 0.541_591_933),
        (10, 20, 0.327_852_614),
        (14, 20, 0.516_745_283),
        (20, 20, 0.881_461_110),
        (40, 68, 0.488_820_547),
        (41, 68, 0.503_504_012),
        (99, 100, 0.956_574_774),
        (526, 1_000, 0.500_069_323),
        (267, 267, 0.990_027_053),
        (1, 1_000, 0.000_223_962),
    ];
    for (hits, total, bound) in known {
        let found = lower_bound(hits, total);
        assert!((found - bound).abs() < 1e-8, "{hits} of {total}: {found}, not {bound}");
    }
    assert_eq!(lower_bound(0, 0), 0.0);
    assert_eq!(lower_bound(9, 5), lower_bound(5, 5), "more hits than requests");
}

#[test]
fn a_ratio_is_proven_by_enough_requests_only() {
    let half = Ratio::new(0.5).unwrap();
    // A share of 60 % is proven to be over a half by 68 requests, one of 80 % by 8, one of 51 % by 6 724.
    for (too_few, enough) in [((39, 65), (42, 70)), ((4, 5), (8, 10)), ((3_417, 6_700), (3_468, 6_800))] {
        assert!(!half.is_proven_by(too_few.0, too_few.1), "{too_few:?}");
        assert!(half.is_proven_by(enough.0, enough.1), "{enough:?}");
    }
    assert!(!half.is_proven_by(0, 0));
    // The bound of "all" stays below 1; twenty of twenty prove everything all the same.
    let all = Ratio::new(1.0).unwrap();
    assert!(!all.is_proven_by(19, 19) && all.is_proven_by(20, 20) && !all.is_proven_by(999, 1_000));
    for wrong in [0.0, -0.5, 1.000_001, f64::NAN, f64::INFINITY] {
        assert_eq!(Ratio::new(wrong), None, "{wrong}");
    }
}

#[test]
fn a_ring_shows_the_whole_window_and_no_more_than_a_part_beyond_it() {
    const PART: u64 = SECOND;
    let one = Counts { total: 1, failed: 1, slow: 1 };
    let mut random = Random::seeded(1);
    let mut ring = Ring::default();
    let mut then: Vec<u64> = Vec::new();
    let mut now = 100 * SECOND;
    for _ in 0..5_000 {
        now += random.below(400 * MILLISECOND);
        if random.below(50) == 0 {
            now += random.below(15) * SECOND;
        }
        let late = random.below(3) * random.below(250 * MILLISECOND);
        ring = ring.plus(PART, one, at(now - late), at(now));
        then.push(now - late);
        let sum = u64::from(ring.at(PART, at(now)).sum().failed);
        let within = |age: u64| then.iter().filter(|it| now < **it + age).count() as u64;
        assert!(within(10 * SECOND) <= sum && sum <= within(11 * SECOND), "{sum} at {now}");
    }
    // Exact: part 0 is in sight in parts 0 to 10.
    let ring = Ring::default().plus(PART, one, at(0), at(0));
    assert_eq!(ring.at(PART, at(11 * SECOND - 1)).sum(), one);
    assert_eq!(ring.at(PART, at(11 * SECOND)).sum(), Counts::default());
    // A reader that is late sees what is there; one whose clock went back sees nothing.
    let ring = Ring::default().plus(PART, one, at(HOUR), at(HOUR));
    assert_eq!(ring.at(PART, at(HOUR - SECOND)).sum(), one);
    assert_eq!(ring.at(PART, at(HOUR - 2 * SECOND)).sum(), Counts::default());
}

/// A batch of outcomes, each with its instant.
fn tallied(breaker: &Breaker, epoch: u64, outcomes: &[(u64, Response)]) -> Tally {
    let mut tally = Tally::of(epoch);
    for (now, response) in outcomes {
        tally.add(breaker.trip(), response, breaker.pace(response.latency), at(*now));
    }
    tally
}

/// What a breaker makes of these outcomes, each published by itself, a millisecond apart.
fn after(breaker: &Breaker, outcomes: impl IntoIterator<Item = Response>) -> State {
    let mut state = State::default();
    let mut now = HOUR;
    for response in outcomes {
        now += MILLISECOND;
        let tally = tallied(breaker, state.epoch, &[(now, response)]);
        state = breaker.count(state, &tally, at(now));
    }
    state
}

fn reason(state: &State) -> Option<TripReason> {
    match state.phase {
        Phase::Open { reason, .. } => Some(reason),
        Phase::Closed { .. } | Phase::HalfOpen(_) | Phase::Ramp { .. } => None,
    }
}

#[test]
fn each_condition_trips_at_its_boundary_and_an_absent_one_never() {
    let in_turn = |good: usize, bad: usize, response: Response| [vec![OK; good], vec![response; bad]].concat();
    let consecutive = breaker(&Settings { consecutive_failures: Some(5), ..Settings::default() });
    assert_eq!(reason(&after(&consecutive, in_turn(50, 4, FAILED))), None);
    assert_eq!(reason(&after(&consecutive, in_turn(50, 5, FAILED))), Some(TripReason::ConsecutiveFailures));
    assert_eq!(reason(&after(&consecutive, [FAILED, FAILED, FAILED, FAILED, OK, FAILED])), None);

    let failures = breaker(&Settings { failure_ratio: Some(0.5), ..Settings::default() });
    assert_eq!(reason(&after(&failures, in_turn(6, 13, FAILED))), None, "19 requests");
    assert_eq!(reason(&after(&failures, in_turn(6, 14, FAILED))), Some(TripReason::FailureRatio));
    assert_eq!(reason(&after(&failures, in_turn(7, 13, FAILED))), None, "13 of 20 may be chance");
    assert_eq!(reason(&after(&failures, in_turn(0, 100, SLOW))), None);

    let slow = Settings { slow_ratio: Some(0.5), slow_after: Some(millis(800)), ..Settings::default() };
    let slow = breaker(&slow);
    assert_eq!(reason(&after(&slow, in_turn(6, 13, SLOW))), None);
    assert_eq!(reason(&after(&slow, in_turn(6, 14, SLOW))), Some(TripReason::SlowRatio));
    assert_eq!(reason(&after(&slow, in_turn(0, 100, FAILED))), None, "these are quick");
    let late = Response { outcome: Outcome::Failure, latency: seconds(15) };
    assert_eq!(reason(&after(&slow, in_turn(6, 14, late))), Some(TripReason::SlowRatio), "a timeout is slow too");
    assert_eq!(slow.pace(millis(800)), Pace::InTime);
    assert_eq!(slow.pace(millis(800) + Duration::from_nanos(1)), Pace::Slow);

    // Of several at once the first is named.
    let all = breaker(&Settings { consecutive_failures: Some(20), ..example() });
    assert_eq!(reason(&after(&all, in_turn(0, 20, late))), Some(TripReason::ConsecutiveFailures));

    let none = breaker(&Settings::default());
    assert_eq!(after(&none, in_turn(0, 1_000, late)).epoch, 0);
    assert!(!none.trip().has_any() && all.trip().has_any());
}

#[test]
fn a_run_of_failures_spans_workers_and_ends_with_a_success_or_the_window() {
    let breaker = breaker(&Settings { consecutive_failures: Some(4), ..Settings::default() });
    let window = breaker.trip().window();
    let in_a_row = |state: &State, now: u64| state.run.failures(window, at(now));
    let count =
        |state, outcomes: &[(u64, Response)], now| breaker.count(state, &tallied(&breaker, 0, outcomes), at(now));
    let state = count(State::default(), &[(HOUR, OK), (HOUR + 1, FAILED), (HOUR + 2, FAILED)], HOUR + 2);
    assert_eq!(in_a_row(&state, HOUR + 2), 2);
    // Without a success it goes on, with one it starts with what came after that.
    let on = count(state, &[(HOUR + 3, FAILED)], HOUR + 3);
    assert_eq!(in_a_row(&on, HOUR + 3), 3);
    let broken = count(on, &[(HOUR + 4, FAILED), (HOUR + 5, OK), (HOUR + 6, FAILED)], HOUR + 6);
    assert_eq!((in_a_row(&broken, HOUR + 6), reason(&broken)), (1, None));
    assert_eq!(in_a_row(&count(on, &[(HOUR + 4, FAILED), (HOUR + 5, OK)], HOUR + 5), HOUR + 5), 0);
    assert_eq!(reason(&count(on, &[(HOUR + 4, FAILED)], HOUR + 4)), Some(TripReason::ConsecutiveFailures));
    // One worker's outcomes are in order where the clock stands still.
    assert_eq!(in_a_row(&count(on, &[(HOUR + 4, FAILED), (HOUR + 4, OK), (HOUR + 4, FAILED)], HOUR + 4), HOUR + 4), 1);
    // The last failure may be as old as the window, and no older.
    let end = HOUR + 3 + nanos(window);
    assert_eq!(count(on, &[(end, FAILED)], end).epoch, 1);
    assert_eq!(in_a_row(&count(on, &[(end + 1, FAILED)], end + 1), end + 1), 1);
    // Published too late to mean anything.
    let late: Vec<(u64, Response)> = (0..9).map(|turn| (HOUR + turn, FAILED)).collect();
    let end = HOUR + 8 + nanos(window);
    assert_eq!(count(State::default(), &late, end).epoch, 1);
    assert_eq!(count(State::default(), &late, end + 1).epoch, 0);
}

#[test]
fn settings_that_make_no_breaker_are_refused_by_name() {
    type Poke = fn(&mut Settings);
    let cases: [(&str, Poke); 14] = [
        ("trip.consecutive_failures", |it| it.consecutive_failures = Some(0)),
        ("trip.failure_ratio", |it| it.failure_ratio = Some(0.0)),
        ("trip.failure_ratio", |it| it.failure_ratio = Some(f64::NAN)),
        ("trip.slow_ratio", |it| it.slow_ratio = Some(1.5)),
        ("trip.slow_after", |it| it.slow_after = None),
        ("trip.slow_after", |it| it.slow_after = Some(Duration::ZERO)),
        ("trip.min_requests", |it| it.min_requests = 0),
        ("trip.window", |it| it.window = millis(999)),
        ("trip.window", |it| it.window = seconds(24 * 3_600 + 1)),
        ("open_for", |it| it.open_for = Duration::ZERO),
        ("max_open_for", |it| it.max_open_for = millis(4_999)),
        ("max_open_for", |it| it.max_open_for = Duration::MAX),
        ("probes", |it| it.probes = 0),
        ("probes", |it| it.probes = 1 + MAX_PROBES as u32),
    ];
    for (setting, poke) in cases {
        let mut settings = example();
        poke(&mut settings);
        let refused: Invalid = Breaker::new(&settings).unwrap_err();
        assert_eq!(refused.setting, setting, "{settings:?}");
    }
    let largest = Settings { probes: MAX_PROBES as u32, window: seconds(86_400), ..example() };
    assert!(Breaker::new(&example()).is_ok() && Breaker::new(&largest).is_ok());
}

// === a life ===

#[test]
fn a_breaker_trips_waits_probes_ramps_and_closes() {
    let fleet = Fleet::new(2, &Settings { slow_ratio: None, ..example() });
    let start = fleet.now();
    // Four failures are bad luck, five are not.
    for _ in 0..4 {
        assert!(fleet.serve(0, &FAILED));
    }
    assert_eq!(fleet.take_changes(), []);
    let late = fleet.admit(0).unwrap();
    assert!(fleet.serve(0, &FAILED));
    assert_eq!(fleet.take_made(), [Transition::Opened(TripReason::ConsecutiveFailures)]);

    // Open for 5 s, give or take a fifth. Neither peek nor claim pass, and both say for how long.
    let Phase::Open { until, .. } = fleet.state().phase else { panic!("{:?}", fleet.state()) };
    let open = until.as_nanos() - start;
    assert!((4 * SECOND..=6 * SECOND).contains(&open), "{open}");
    assert_eq!(fleet.admit(0).unwrap_err().retry_after, Duration::from_nanos(open));
    // A result of before the trip means nothing now.
    let before = fleet.state();
    fleet.end(0, late, &OK);
    assert_eq!(fleet.state(), before);
    fleet.host.set_now(until.as_nanos() - 1);
    assert_eq!(fleet.admit(1).unwrap_err().retry_after, Duration::from_nanos(1));

    // At the very instant the first request is a probe; five go out and no more.
    fleet.host.set_now(until.as_nanos());
    let mut probes: VecDeque<Admission> = (0..5).map(|turn| fleet.admit(turn % 2).unwrap()).collect();
    assert!(probes.iter().all(Admission::is_probe));
    assert_eq!(fleet.admit(0).unwrap_err().retry_after, RETRY_SOON);
    assert_eq!(fleet.take_made(), [Transition::HalfOpened]);
    // One that comes to nothing makes room for another.
    fleet.give_back(0, probes.pop_front().unwrap());
    probes.push_back(fleet.admit(0).unwrap());
    assert!(fleet.admit(0).is_err());
    for (turn, probe) in probes.into_iter().enumerate() {
        assert_eq!(fleet.take_made(), [], "{turn} of 5");
        fleet.end(turn % 2, probe, &OK);
    }
    assert_eq!(fleet.take_made(), [Transition::Ramped]);

    // A tenth, a quarter, a half; then all.
    let ramp = fleet.now();
    for (step, percent) in (0..).zip([10, 25, 50]) {
        fleet.host.set_now(ramp + step * 2 * SECOND);
        let passed = (0..100).filter(|_| fleet.serve(0, &OK)).count();
        assert!((percent - 1..=percent + 1).contains(&passed), "{passed} in step {step}");
    }
    fleet.host.set_now(ramp + 6 * SECOND);
    assert!((0..100).all(|_| fleet.serve(0, &OK)));
    assert_eq!(fleet.take_made(), [Transition::Closed]);
    // The other comes to know.
    assert!(fleet.serve(1, &OK));
    let seen: Vec<Change> = fleet.take_changes().into_iter().map(|it| it.2).collect();
    assert_eq!(seen, [Change { transition: Transition::Closed, by: By::Others }]);
    assert_eq!(fleet.workers[1].latest(), Transition::Closed);
    assert_eq!(fleet.errors.get(), 0);
}

#[test]
fn labels_are_what_the_metrics_say() {
    let all = [
        (Transition::Closed, "closed", "ramp_over", 0),
        (Transition::HalfOpened, "half_open", "open_over", 1),
        (Transition::Ramped, "ramp", "probes_succeeded", 2),
        (Transition::Opened(TripReason::ConsecutiveFailures), "open", "consecutive_failures", 3),
        (Transition::Opened(TripReason::FailureRatio), "open", "failure_ratio", 3),
        (Transition::Opened(TripReason::SlowRatio), "open", "slow_ratio", 3),
        (Transition::Opened(TripReason::ProbeFailed), "open", "probe_failed", 3),
        (Transition::Opened(TripReason::ProbeSlow), "open", "probe_slow", 3),
        (Transition::Opened(TripReason::ProbeLost), "open", "probe_lost", 3),
    ];
    for (transition, to, cause, gauge) in all {
        assert_eq!((transition.to(), transition.cause(), transition.gauge()), (to, cause, gauge));
    }
    assert!(Transition::ALL.iter().all(|it| all.iter().any(|(known, ..)| known == it)));
    assert_eq!(Transition::ALL.len(), all.len());
}

/// The state right after a trip at `now` that follows so many.
fn tripped(breaker: &Breaker, trips: u8, now: u64) -> State {
    let probe = Probe { epoch: 7, place: 0 };
    let mut probing = Probing::default();
    probing.deadlines[0] = at(now + 1);
    let state = State { epoch: 7, trips, phase: Phase::HalfOpen(probing), ..State::default() };
    breaker.probed(state, &probe, &FAILED, at(now))
}

#[test]
fn each_trip_doubles_the_time_up_to_the_longest_and_a_minute_of_peace_forgives_all() {
    let breaker = breaker(&example());
    for (trips, time) in (0..).zip([5, 10, 20, 40, 60, 60, 60]) {
        assert_eq!(breaker.open_time(trips), seconds(time));
        let (mut least, mut most) = (u64::MAX, 0);
        for turn in 0..2_000 {
            let now = HOUR + turn * 12_345_678;
            let state = tripped(&breaker, trips, now);
            assert_eq!((state.trips, reason(&state)), (trips + 1, Some(TripReason::ProbeFailed)));
            let Phase::Open { until, .. } = state.phase else { panic!() };
            (least, most) = (least.min(until.as_nanos() - now), most.max(until.as_nanos() - now));
        }
        // A fifth either way, and the whole of it used.
        assert!(time * 800 * MILLISECOND <= least && least < time * 810 * MILLISECOND, "{least} of {time} s");
        assert!(time * 1_190 * MILLISECOND < most && most <= time * 1_200 * MILLISECOND, "{most} of {time} s");
    }
    assert_eq!(breaker.open_time(255), seconds(60));
    assert_eq!(tripped(&breaker, 255, HOUR).trips, 32);

    // Closed for a nanosecond less than a minute, and for a minute.
    let closed = State { epoch: 4, trips: 3, phase: Phase::Closed { since: at(HOUR) }, ..State::default() };
    for (age, trips) in [(nanos(FORGIVEN_AFTER) - 1, 4), (nanos(FORGIVEN_AFTER), 1)] {
        let now = HOUR + age;
        let tally = tallied(&breaker, 4, &[(now, FAILED); 5]);
        assert_eq!(breaker.count(closed, &tally, at(now)).trips, trips);
    }
}

#[test]
fn a_probe_is_given_three_times_what_a_success_takes_and_more_with_each_trip() {
    let quick = breaker(&Settings { slow_ratio: None, slow_after: None, ..example() });
    let state = |slowest, trips| State { trips, slowest: Slowest { latency: slowest, at: at(0) }, ..State::default() };
    assert_eq!(quick.patience(&state(millis(100), 1)), seconds(1));
    assert_eq!(quick.patience(&state(millis(2_000), 1)), seconds(6));
    assert_eq!(quick.patience(&state(Duration::ZERO, 3)), seconds(4), "nothing is known but that less was too little");
    assert_eq!(quick.patience(&state(Duration::ZERO, 32)), MAX_PATIENCE);
    assert_eq!(quick.patience(&state(Duration::MAX, 1)), MAX_PATIENCE);
    let slow = breaker(&Settings { slow_after: Some(seconds(90)), ..example() });
    assert_eq!(slow.patience(&state(millis(1), 1)), seconds(90) + Duration::from_nanos(1));

    // The longest success fades while others succeed, and not in an outage.
    let success = |latency, then| Slowest::of(latency, at(then));
    let slowest = Slowest::default().plus(&success(seconds(4), HOUR));
    assert_eq!(slowest.plus(&success(millis(1), HOUR + 60 * SECOND)).latency, seconds(2));
    assert_eq!(slowest.plus(&success(millis(1), HOUR + 24 * HOUR)).latency, seconds(2));
    assert_eq!(slowest.plus(&success(seconds(5), HOUR + SECOND)).latency, seconds(5));
    assert_eq!(Slowest::default().plus(&success(Duration::MAX, HOUR)).latency, Slowest::CEILING);
    // One that comes to be known late has faded since it happened, and makes nothing younger.
    let late = success(seconds(1), HOUR + 60 * SECOND).plus(&success(seconds(4), HOUR));
    assert_eq!(late, success(seconds(2), HOUR + 60 * SECOND));
    let mut fading = slowest;
    for turn in 1..=4 * 120 {
        fading = fading.plus(&success(millis(1), HOUR + turn * 250 * MILLISECOND));
    }
    // e^-1 of 4 s after two minutes.
    assert!((1_460..1_480).contains(&fading.latency.as_millis()), "{fading:?}");
}

#[test]
fn a_probe_that_fails_is_slow_or_is_lost_opens_again() {
    for (response, expected) in [(FAILED, TripReason::ProbeFailed), (SLOW, TripReason::ProbeSlow)] {
        let fleet = Fleet::new(1, &example());
        fleet.put(&State {
            epoch: 1,
            trips: 1,
            phase: Phase::Open { until: at(0), reason: TripReason::SlowRatio },
            ..State::default()
        });
        let probe = fleet.admit(0).unwrap();
        let other = fleet.admit(0).unwrap();
        fleet.end(0, probe, &response);
        assert_eq!(fleet.take_made(), [Transition::HalfOpened, Transition::Opened(expected)]);
        assert_eq!(fleet.state().trips, 2);
        let before = fleet.state();
        fleet.end(0, other, &OK);
        assert_eq!(fleet.state(), before, "its epoch is over");
    }
    // Lost with its worker: in time nobody minds, at the deadline whoever comes first does.
    let mut fleet = Fleet::new(2, &example());
    fleet.put(&State {
        epoch: 1,
        trips: 1,
        phase: Phase::Open { until: at(0), reason: TripReason::SlowRatio },
        ..State::default()
    });
    let started = fleet.now();
    let lost = fleet.admit(0).unwrap();
    fleet.restart(0);
    fleet.host.set_now(started + SECOND - 1);
    let probe = fleet.admit(1).unwrap();
    fleet.end(1, probe, &OK);
    fleet.take_made();
    fleet.host.set_now(started + SECOND);
    assert!(fleet.admit(1).is_err());
    assert_eq!(fleet.take_made(), [Transition::Opened(TripReason::ProbeLost)]);
    // It comes to its senses.
    let before = fleet.state();
    fleet.end(0, lost, &OK);
    assert_eq!(fleet.state(), before);
    // A worker that reports too late finds its own probe lost.
    let Phase::Open { until, .. } = before.phase else { panic!() };
    fleet.host.set_now(until.as_nanos());
    let late = fleet.admit(1).unwrap();
    fleet.host.advance(2 * SECOND);
    fleet.take_made();
    fleet.end(1, late, &OK);
    assert_eq!(fleet.take_made(), [Transition::Opened(TripReason::ProbeLost)]);
}

// === every state there is ===

/// A worker in the exploration: what it has not published, and its requests under way.
#[derive(Clone, Default)]
struct Explorer {
    tally: Tally,
    out: Vec<Out>,
}

#[derive(Clone, Copy, PartialEq)]
enum Out {
    Regular(u64),
    Probe(Probe),
}

/// The shared state, the workers, and the instant [`NOW`] at which all of it is looked at.
#[derive(Clone)]
struct World {
    state: State,
    workers: [Explorer; 2],
}

/// Time does not pass in the exploration; instants come nearer.
const NOW: u64 = 1_000 * HOUR;

/// Every epoch that is over.
const OLD: u64 = 999;
/// The epoch that is not.
const CURRENT: u64 = 1_000;

/// Requests that a worker has under way.
const MOST_OUT: usize = 2;

impl Out {
    fn epoch(&self) -> u64 {
        match self {
            Self::Regular(epoch) => *epoch,
            Self::Probe(probe) => probe.epoch,
        }
    }
}

/// Makes an instant the one with the greatest of these ages that it has reached.
fn age(instant: &mut Timestamp, ages: &[u64]) {
    let age = NOW - instant.as_nanos();
    *instant = at(NOW - ages.iter().filter(|it| **it <= age).max().unwrap());
}

/// The instants of a run.
fn instants(run: &mut Run) -> Vec<&mut Timestamp> {
    let groups = run.groups.iter_mut().filter(|it| 0 < it.failures).flat_map(|it| [&mut it.first, &mut it.last]);
    groups.chain([&mut run.success]).collect()
}

/// The run without what cannot matter any more: what is out of sight, more failures than are enough, and what is no later than
/// a success that everybody knows.
fn pruned(run: &Run, known: Timestamp, window: u64) -> Run {
    let in_sight = |instant: Timestamp| NOW <= instant.as_nanos() + window;
    let matters = |it: &&Group| 0 < it.failures && in_sight(it.last) && known < it.first;
    let mut pruned = Run::default();
    if in_sight(run.success) && known < run.success {
        pruned.success = run.success;
    }
    for (place, group) in pruned.groups.iter_mut().zip(run.groups.iter().filter(matters).take(2)) {
        *place = *group;
    }
    pruned
}

impl World {
    /// Every instant, the same for all that can be in sight.
    fn instants(&mut self) -> Vec<&mut Timestamp> {
        let mut all: Vec<&mut Timestamp> = Vec::new();
        match &mut self.state.phase {
            Phase::Closed { since } | Phase::Ramp { since } => all.push(since),
            Phase::Open { until, .. } => all.push(until),
            Phase::HalfOpen(probing) => all.extend(probing.deadlines.iter_mut().filter(|it| **it != at(0))),
        }
        let runs = self.workers.iter_mut().map(|it| &mut it.tally.run).chain([&mut self.state.run]);
        all.extend(runs.flat_map(instants));
        all
    }

    fn pass(mut self, time: u64) -> Self {
        for instant in self.instants() {
            *instant = at(instant.as_nanos().saturating_sub(time));
        }
        self
    }

    /// What behaves alike made the same.
    fn normal(mut self, breaker: &Breaker) -> Self {
        let epoch = self.state.epoch;
        self.state.epoch = CURRENT;
        // Successes are quick here, so the least patience is what counts.
        self.state.slowest = Slowest::default();
        assert_eq!(self.state.ring, Ring::default(), "no ratio, no ring");
        let window = nanos(breaker.trip().window());
        let known = self.state.run.success;
        // No share of slow requests is judged.
        self.state.stop = Stop::default();
        // A success that all know has done what it does: what is no later is pruned.
        self.state.run = Run { success: at(0), ..pruned(&self.state.run, at(0), window) };
        let forgiven = nanos(FORGIVEN_AFTER);
        match &mut self.state.phase {
            Phase::Closed { since } if self.state.trips == 0 => *since = at(NOW - forgiven),
            Phase::Closed { since } => age(since, &[0, forgiven - 1, forgiven]),
            Phase::Ramp { since } => age(since, &[0, nanos(RAMP) - 1, nanos(RAMP)]),
            Phase::Open { until, .. } => *until = (*until).max(at(NOW)),
            Phase::HalfOpen(probing) => {
                for deadline in probing.deadlines.iter_mut().filter(|it| **it != at(0)) {
                    *deadline = (*deadline).max(at(NOW));
                }
            }
        }
        // Further trips make times longer and nothing else.
        self.state.trips = self.state.trips.min(2);
        for worker in &mut self.workers {
            // What comes of another epoch is looked at in each state, see `check`.
            worker.out.retain(|it| it.epoch() == epoch);
            for out in &mut worker.out {
                *out = match *out {
                    Out::Regular(_) => Out::Regular(CURRENT),
                    Out::Probe(probe) => Out::Probe(Probe { epoch: CURRENT, ..probe }),
                };
            }
            worker.out.sort_by_key(|it| match *it {
                Out::Regular(epoch) => (epoch, 0),
                Out::Probe(probe) => (probe.epoch, 1 + probe.place),
            });
            let tally = &mut worker.tally;
            if tally.is_empty() || tally.epoch != epoch {
                *tally = Tally::default();
                continue;
            }
            *tally = Tally { outcomes: 1, run: pruned(&tally.run, known, window), ..Tally::of(CURRENT) };
            if tally.run == Run::default() {
                *tally = Tally::default();
            }
        }
        // Of what is in sight the order matters, and whether it is about to be out of sight.
        let mut runs: Vec<&mut Run> = self.workers.iter_mut().map(|it| &mut it.tally.run).collect();
        runs.push(&mut self.state.run);
        let mut all: Vec<&mut Timestamp> = runs.into_iter().flat_map(instants).collect();
        let mut order: Vec<Timestamp> = all.iter().map(|it| **it).collect();
        order.sort_unstable();
        order.dedup();
        for instant in all.iter_mut().filter(|it| NOW < it.as_nanos() + window) {
            let later = order.iter().filter(|it| **instant < **it).count() as u64;
            **instant = at(NOW - 1 - later);
        }
        // Which worker is which does not matter.
        self.workers.sort_by_key(|it| it.key());
        self
    }

    fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        record::encode(&self.state, 1, &mut key);
        for worker in &self.workers {
            key.extend(worker.key());
        }
        key
    }
}

impl Explorer {
    fn key(&self) -> Vec<u8> {
        let (tally, mut run) = (&self.tally, Vec::new());
        let mut key = vec![self.out.len() as u8, u8::from(tally.is_empty())];
        record::encode(&State { epoch: tally.epoch, run: tally.run, ..State::default() }, 1, &mut run);
        key.extend(run);
        for out in &self.out {
            let (epoch, place) = match *out {
                Out::Regular(epoch) => (epoch, u8::MAX),
                Out::Probe(probe) => (probe.epoch, probe.place),
            };
            key.extend(epoch.to_le_bytes());
            key.push(place);
        }
        key
    }

    fn heard(&mut self, breaker: &Breaker, epoch: u64, response: &Response) {
        if self.tally.is_empty() {
            self.tally = Tally::of(epoch);
        }
        self.tally.add(breaker.trip(), response, breaker.pace(response.latency), at(NOW));
    }
}

/// How a request under way ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Answered(Response),
    Cancelled,
}

/// All that can happen next.
fn next(breaker: &Breaker, world: &World) -> Vec<World> {
    let mut worlds = Vec::new();
    let standing = breaker.standing(&world.state, at(NOW));
    let (claimed, probe) = breaker.claim(world.state, at(NOW));
    assert_eq!(probe.is_some(), standing == Standing::Probes, "{:?}", world.state);
    // Somebody notices that a time is over.
    worlds.push(World { state: breaker.at(world.state, at(NOW)), ..world.clone() });
    for index in 0..world.workers.len() {
        let mut with = |change: &dyn Fn(&mut World)| {
            let mut world = world.clone();
            change(&mut world);
            worlds.push(world);
        };
        let worker = &world.workers[index];
        if worker.out.len() < MOST_OUT {
            match (standing, probe) {
                (_, Some(probe)) => with(&|world| {
                    world.state = claimed;
                    world.workers[index].out.push(Out::Probe(probe));
                }),
                (Standing::Admits | Standing::Shares(_), None) => with(&|world| {
                    world.state = breaker.at(world.state, at(NOW));
                    world.workers[index].out.push(Out::Regular(world.state.epoch));
                }),
                (Standing::Refuses(_) | Standing::Probes, None) => {}
            }
        }
        for (place, out) in worker.out.iter().enumerate() {
            for end in [End::Answered(OK), End::Answered(FAILED), End::Answered(SLOW), End::Cancelled] {
                with(&|world| {
                    world.workers[index].out.remove(place);
                    match (*out, end) {
                        (Out::Regular(epoch), End::Answered(response)) => {
                            world.workers[index].heard(breaker, epoch, &response);
                        }
                        (Out::Regular(_), End::Cancelled) => {}
                        (Out::Probe(probe), End::Answered(response)) => {
                            world.state = breaker.probed(world.state, &probe, &response, at(NOW));
                        }
                        (Out::Probe(probe), End::Cancelled) => {
                            world.state = breaker.give_back(world.state, &probe, at(NOW));
                        }
                    }
                });
            }
        }
        with(&|world| {
            let tally = std::mem::take(&mut world.workers[index].tally);
            world.state = breaker.count(world.state, &tally, at(NOW));
        });
        // Its virtual machine traps.
        with(&|world| world.workers[index] = Explorer::default());
    }
    let ends: Vec<u64> = match world.state.phase {
        Phase::Closed { since } => vec![since.as_nanos() + nanos(FORGIVEN_AFTER)],
        Phase::Open { until, .. } => vec![until.as_nanos()],
        Phase::HalfOpen(probing) => probing.deadlines.iter().map(|it| it.as_nanos()).collect(),
        Phase::Ramp { since } => vec![since.as_nanos() + nanos(RAMP)],
    };
    let runs = world.workers.iter().map(|it| &it.tally.run).chain([&world.state.run]);
    let failures = runs.flat_map(|it| it.groups).filter(|it| 0 < it.failures);
    let forgotten = failures.map(|it| it.last.as_nanos() + nanos(breaker.trip().window()) + 1);
    for end in ends.into_iter().chain(forgotten).filter(|end| NOW < *end) {
        worlds.push(world.clone().pass(end - NOW));
        worlds.push(world.clone().pass(end - NOW - 1));
    }
    worlds
}

/// What must hold wherever the breaker gets to.
fn check(breaker: &Breaker, world: &World) {
    let out = world.workers.iter().flat_map(|it| &it.out);
    let probes = out.filter(|it| matches!(it, Out::Probe(probe) if probe.epoch == CURRENT)).count();
    let known = match world.state.phase {
        Phase::HalfOpen(probing) => {
            assert!(usize::from(probing.successes) + probing.out() <= 2, "{probing:?}");
            probing.out()
        }
        Phase::Closed { .. } | Phase::Open { .. } | Phase::Ramp { .. } => 0,
    };
    assert!(probes <= known, "{probes} probes out, {known} known: {:?}", world.state);
    // Whatever comes late from another epoch.
    let settled = breaker.at(world.state, at(NOW));
    for response in [OK, FAILED, SLOW] {
        let tally = tallied(breaker, OLD, &[(NOW, response); 9]);
        assert_eq!(breaker.count(world.state, &tally, at(NOW)), settled);
        for place in 0..3 {
            let probe = Probe { epoch: OLD, place };
            assert_eq!(breaker.probed(world.state, &probe, &response, at(NOW)), settled);
            assert_eq!(breaker.give_back(world.state, &probe, at(NOW)), settled);
        }
    }
}

#[test]
fn from_every_state_that_can_be_there_is_a_way_to_closed() {
    let breaker = breaker(&Settings {
        consecutive_failures: Some(2),
        slow_after: Some(millis(800)),
        open_for: seconds(4),
        max_open_for: seconds(8),
        probes: 2,
        ..Settings::default()
    });
    let start = World { state: State::default(), workers: [Explorer::default(), Explorer::default()] };
    let start = start.normal(&breaker);
    let mut known: HashMap<Vec<u8>, usize> = HashMap::from([(start.key(), 0)]);
    let mut worlds = vec![start];
    // Who leads to each.
    let mut before: Vec<Vec<usize>> = vec![Vec::new()];
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    let mut from = 0;
    while from < worlds.len() {
        assert!(worlds.len() < 300_000, "time is not abstract enough: {phases:?}");
        let world = worlds[from].clone();
        check(&breaker, &world);
        let word = Transition::into_phase(&world.state.phase);
        *phases.entry(format!("{} {}", word.to(), word.cause())).or_default() += 1;
        for reached in next(&breaker, &world) {
            let risen = reached.state.epoch - world.state.epoch;
            assert!(risen <= 1, "{:?} to {:?}", world.state, reached.state);
            assert!(risen == 1 || word == Transition::into_phase(&reached.state.phase), "{:?}", reached.state);
            let reached = reached.normal(&breaker);
            let key = reached.key();
            let to = *known.entry(key).or_insert(worlds.len());
            if to == worlds.len() {
                worlds.push(reached);
                before.push(Vec::new());
            }
            before[to].push(from);
        }
        from += 1;
    }
    println!("{} states: {phases:?}", worlds.len());
    let is_closed = |index: &usize| matches!(worlds[*index].state.phase, Phase::Closed { .. });
    let mut to_visit: Vec<usize> = (0..worlds.len()).filter(is_closed).collect();
    let mut leads_to_closed: Vec<bool> = (0..worlds.len()).map(|index| is_closed(&index)).collect();
    while let Some(to) = to_visit.pop() {
        for from in &before[to] {
            if !std::mem::replace(&mut leads_to_closed[*from], true) {
                to_visit.push(*from);
            }
        }
    }
    let stuck = leads_to_closed.iter().position(|it| !it);
    assert_eq!(stuck, None, "{:?}", stuck.map(|it| worlds[it].state));
    // An exploration that has become small shows nothing.
    assert!(10_000 < worlds.len() && phases.len() == 7, "{} states: {phases:?}", worlds.len());
}

// === what workers learn late ===

/// Outcomes of several workers in the order of time, and to whom each happened.
fn any_outcomes(random: &mut Random, workers: u64) -> Vec<(u64, usize, Response)> {
    let mut now = HOUR;
    let mut outcomes = Vec::new();
    for _ in 0..1 + random.below(40) {
        now += 1 + random.below(100 * MILLISECOND) * random.below(2) + random.below(MILLISECOND);
        let latency = Duration::from_nanos(random.below(2 * SECOND));
        let outcome = if random.below(3) == 0 { Outcome::Success } else { Outcome::Failure };
        outcomes.push((now, random.below(workers) as usize, Response { outcome, latency }));
    }
    outcomes
}

/// Failures since the last success, of outcomes in any order.
fn in_a_row(outcomes: &[(u64, Response)]) -> u32 {
    let is = |wanted| outcomes.iter().filter(move |it| it.1.outcome == wanted).map(|it| it.0);
    let success = is(Outcome::Success).max().unwrap_or(0);
    is(Outcome::Failure).filter(|then| success < *then).count() as u32
}

/// The reference sees all that was published in the order of time; the breaker sees it in batches, in any order.
#[test]
fn what_is_known_does_not_depend_on_who_published_first() {
    let mut random = Random::seeded(41);
    // No threshold that is met on the way, which would begin an epoch.
    for threshold in [GROUPS as u32, 1_000] {
        let never = Settings { failure_ratio: Some(1.0), slow_ratio: Some(1.0), min_requests: 1_000, ..example() };
        let breaker = breaker(&Settings { consecutive_failures: Some(threshold), ..never });
        let (trip, part) = (*breaker.trip(), breaker.trip().part());
        let mut broken_late = 0;
        for turn in 0..3_000 {
            let workers = 1 + random.below(4);
            let outcomes = any_outcomes(&mut random, workers);
            let end = outcomes.last().unwrap().0;
            // Each worker's outcomes in batches, all batches in any order.
            let mut batches: Vec<Vec<(u64, Response)>> = Vec::new();
            for worker in 0..workers as usize {
                let own: Vec<_> = outcomes.iter().filter(|it| it.1 == worker).map(|it| (it.0, it.2)).collect();
                let mut rest = &own[..];
                while !rest.is_empty() {
                    let (batch, after) = rest.split_at(1 + random.below(rest.len() as u64) as usize);
                    batches.push(batch.to_vec());
                    rest = after;
                }
            }
            let mut state = State::default();
            let mut seen: Vec<(u64, Response)> = Vec::new();
            while !batches.is_empty() {
                let batch = batches.swap_remove(random.below(batches.len() as u64) as usize);
                let before = state;
                state = breaker.count(state, &tallied(&breaker, state.epoch, &batch), at(end));
                seen.extend(&batch);
                let expected = in_a_row(&seen);
                if Phase::default() != state.phase {
                    assert!(threshold <= expected, "turn {turn}: tripped at {expected} of {threshold}: {before:?}");
                    break;
                }
                let found = state.run.failures(trip.window(), at(end));
                if threshold <= GROUPS as u32 {
                    // Exact as far as it decides.
                    assert!(expected < threshold, "turn {turn}: {expected} did not trip it");
                    assert_eq!(found.min(threshold), expected, "turn {turn}: {seen:?}");
                } else {
                    // At most what happened in the cell in which the last success was, and never more than there is.
                    let success = seen.iter().filter(|it| it.1.outcome == Outcome::Success).map(|it| it.0).max();
                    let cell = |instant: u64| instant / nanos(CELL);
                    let beside = |it: &&(u64, Response)| success.is_some_and(|then| cell(then) == cell(it.0));
                    let spread = seen.iter().map(|it| cell(it.0)).collect::<std::collections::BTreeSet<u64>>();
                    assert!(found <= expected, "turn {turn}: {found} of {expected}");
                    if spread.len() <= GROUPS {
                        let lost = seen.iter().filter(beside).count() as u32;
                        assert!(expected <= found + lost, "turn {turn}: {found} of {expected}, {lost} beside");
                    }
                    broken_late += u32::from(found < expected);
                }
            }
            if Phase::default() != state.phase {
                continue;
            }
            // Ratios: each in its part; the slowest: as if told in order, but for a millisecond a batch.
            let in_order = outcomes.iter().fold(Ring::default(), |ring, (then, _, response)| {
                let failed = u32::from(response.outcome == Outcome::Failure);
                let slow = u32::from(breaker.pace(response.latency) == Pace::Slow);
                ring.plus(part, Counts { total: 1, failed, slow }, at(*then), at(*then))
            });
            assert_eq!(state.ring.at(part, at(end)), in_order.at(part, at(end)), "turn {turn}");
            let last = outcomes.iter().filter(|it| it.2.outcome == Outcome::Success).map(|it| it.0).max();
            assert_eq!(state.slowest.at, at(last.unwrap_or(0)), "turn {turn}");
        }
        assert!(threshold == GROUPS as u32 || 0 < broken_late, "the grain was never coarse");
    }
}

/// The same on workers that publish by themselves: once all have, the run is the one that happened.
#[test]
fn workers_that_publish_by_themselves_come_to_the_run_that_happened() {
    let mut trips = 0;
    for seed in 1..=300 {
        let mut random = Random::seeded(seed);
        let workers = 2 + random.below(3) as usize;
        let fleet = Fleet::new(workers, &Settings { consecutive_failures: Some(5), ..Settings::default() });
        let mut happened: Vec<(u64, Response)> = Vec::new();
        let mut longest = 0;
        for _ in 0..60 {
            fleet.tick_until(fleet.now() + 1 + random.below(60 * MILLISECOND));
            let response = if random.below(2) == 0 { OK } else { FAILED };
            if !fleet.serve(random.below(workers as u64) as usize, &response) {
                break;
            }
            happened.push((fleet.now(), response));
            longest = longest.max(in_a_row(&happened));
            let is_open = reason(&fleet.state()).is_some();
            // Never late: whoever has a failure tells at once, and knows of all others.
            assert!(is_open || in_a_row(&happened) < 5, "seed {seed}: {happened:?}");
            if is_open {
                break;
            }
        }
        let now = fleet.now();
        if reason(&fleet.state()).is_some() {
            // Never for nothing, but for successes that somebody who has no requests has kept for a while.
            let known: Vec<_> = happened
                .iter()
                .filter(|it| it.1.outcome == Outcome::Failure || it.0 + nanos(MAX_AGE_IDLE) <= now)
                .copied()
                .collect();
            assert!(5 <= in_a_row(&known), "seed {seed}: {happened:?}");
            trips += 1;
            continue;
        }
        fleet.host.advance(nanos(MAX_AGE));
        for worker in 0..workers {
            drop(fleet.admit(worker));
        }
        let found = fleet.state().run.failures(seconds(10), fleet.host.now());
        assert_eq!(found, in_a_row(&happened), "seed {seed}: {happened:?}");
    }
    assert!((50..250).contains(&trips), "{trips} of 300 tripped");
}

/// The demo: one worker holds a success of before the outage, and publishes it among the failures of the other.
#[test]
fn a_success_of_before_the_outage_breaks_no_run_whenever_it_is_published() {
    // Which worker gets which of the failures, and when the success was.
    for turn in 0_u32..256 {
        let fleet = Fleet::new(2, &Settings { consecutive_failures: Some(5), ..Settings::default() });
        assert!(fleet.serve(0, &OK) && fleet.serve(1, &OK));
        fleet.host.advance(10 * MILLISECOND);
        // Too soon after the last to be published.
        assert!(fleet.serve(1, &OK));
        let passed = (0..8).filter(|failure| {
            fleet.host.advance(300 * MILLISECOND);
            fleet.serve((turn >> failure & 1) as usize, &FAILED)
        });
        let passed = passed.count();
        assert!((5..=6).contains(&passed), "{turn:08b}: {passed} failures reached the service");
        assert!(reason(&fleet.state()).is_some(), "{turn:08b}");
    }
}

#[test]
fn an_outage_costs_the_threshold_and_one_request_of_each_other_worker() {
    for workers in [1, 2, 4, 8] {
        for threshold in [1, 2, 3, 5, 8, 12, 16] {
            let mut most = 0;
            for seed in 1..=40 {
                let mut random = Random::seeded(seed);
                let settings = Settings { consecutive_failures: Some(threshold), ..Settings::default() };
                let (fleet, mut in_flight) = (Fleet::new(workers, &settings), InFlight::default());
                let outage = fleet.now() + 2 * SECOND;
                run(&fleet, &mut in_flight, 200, outage, &mut random, |_| OK);
                in_flight.pass_until(&fleet, outage + SECOND / 10);
                // One after another: what is under way cannot be called back.
                let mut failed = 0;
                // Shorter than it is open.
                for _ in 0..300 {
                    fleet.host.advance(random.below(10 * MILLISECOND));
                    failed += usize::from(fleet.serve(random.below(workers as u64) as usize, &FAILED));
                }
                most = most.max(failed);
            }
            let bound = threshold as usize + workers - 1;
            println!("{workers} workers, threshold {threshold}: at most {most} of {bound} failures");
            assert!((threshold as usize..=bound).contains(&most), "{workers} workers, {threshold}: {most}");
        }
    }
}

#[test]
fn a_service_that_fails_all_the_time_without_tripping_costs_no_call_per_failure() {
    // 10 000 requests a second over two workers, of which every tenth fails.
    let fleet = Fleet::new(2, &Settings { consecutive_failures: Some(5), ..Settings::default() });
    let mut calls = Vec::new();
    for second in 0..5_u64 {
        for turn in 0..10_000_u64 {
            fleet.host.advance(MILLISECOND / 10);
            let failed = (second * 10_000 + turn) % 10 == 0;
            assert!(fleet.serve((turn / 3 % 2) as usize, if failed { &FAILED } else { &OK }));
        }
        calls.push(take_shared_calls(&fleet.host));
    }
    println!("{calls:?} calls in each second, for 1000 failures of 10000 requests over two workers");
    // 20 publications of two calls a worker; in the first second the burst too.
    assert!(calls[0] <= 2 * (40 + 2 * BURST as usize) + 10, "{calls:?}");
    assert!(calls[1..].iter().all(|it| *it <= 2 * 40 + 10), "{calls:?}");
}

// === requests that hang ===

#[test]
fn requests_under_way_are_overdue_once_and_never_too_soon() {
    for seed in 1..=50 {
        let mut random = Random::seeded(seed);
        let mut under_way = UnderWay::default();
        // The reference: each request.
        let mut model: Vec<u64> = Vec::new();
        let mut now = HOUR;
        for _ in 0..2_000 {
            now += random.below(40 * MILLISECOND);
            match random.below(5) {
                0..=1 => {
                    let due = now + random.below(2) * random.below(SECOND) + 300 * MILLISECOND;
                    assert_eq!(under_way.enter(at(due)), Stay::Until(at(due)));
                    model.push(due);
                }
                2 if !model.is_empty() => {
                    let due = model.swap_remove(random.below(model.len() as u64) as usize);
                    assert!(under_way.leave(at(due)), "it was not overdue");
                }
                _ => {
                    let overdue = under_way.take_overdue(at(now)) as usize;
                    let before = model.len();
                    // Those of whole slots.
                    model.retain(|due| now < (due / nanos(SLOT) + 1) * nanos(SLOT));
                    assert_eq!(overdue, before - model.len(), "seed {seed}");
                }
            }
            assert_eq!(under_way.next().is_none(), model.is_empty());
            assert!(under_way.next().is_none_or(|it| it.as_nanos() <= model.iter().min().unwrap() + nanos(SLOT)));
        }
    }
    // Bounded, whatever is asked of it.
    let mut under_way = UnderWay::default();
    let slots: Vec<Stay> = (0..2 * MAX_SLOTS as u64).map(|turn| under_way.enter(at(turn * nanos(SLOT)))).collect();
    assert_eq!(slots.iter().filter(|it| **it == Stay::Outside).count(), MAX_SLOTS);
    assert!(!UnderWay::default().leave(at(HOUR)), "who is not there was overdue");
}

impl Fleet {
    /// A request that the service has.
    fn send(&self, worker: usize) -> Result<Admission, Refusal> {
        let mut admission = self.admit(worker)?;
        self.workers[worker].follow(&Cx::at(&*self.host, &self.telemetry, self.host.now()), &mut admission, None);
        Ok(admission)
    }

    fn answered(&self, worker: usize, admission: &mut Admission) {
        self.workers[worker].answered(admission, self.host.now());
    }

    /// Lets time pass until `now`, with the timers of all workers, which go off for all.
    fn tick_until(&self, now: u64) {
        while let Some(due) = self.host.take_wake() {
            if now < due {
                self.host.wake_at(at(due));
                break;
            }
            self.host.set_now(due.max(self.now()));
            for worker in 0..self.workers.len() {
                let tick = self.workers[worker].tick(&Cx::at(&*self.host, &self.telemetry, self.host.now()));
                self.take(worker, tick);
            }
        }
        self.host.set_now(now);
    }
}

fn slow_half() -> Settings {
    Settings { slow_ratio: Some(0.5), slow_after: Some(millis(300)), ..Settings::default() }
}

#[test]
fn a_dead_stop_opens_it_while_the_requests_hang_whether_others_come_or_not() {
    for per_second in [0, 20, 50, 1_000] {
        let fleet = Fleet::new(2, &slow_half());
        for turn in 0..20 {
            fleet.host.advance(20 * MILLISECOND);
            assert!(fleet.serve(turn % 2, &OK));
        }
        // Twenty clients wait, and none of them sends another request; others may.
        let stop = fleet.now();
        let mut out: Vec<_> = (0..40).map(|turn| fleet.send(turn % 2).unwrap()).collect();
        let mut opened = None;
        let mut now = stop;
        while opened.is_none() && now < stop + 5 * SECOND {
            now += SECOND.checked_div(per_second).unwrap_or(10 * MILLISECOND);
            fleet.tick_until(now);
            if 0 < per_second {
                out.extend(fleet.send((now / MILLISECOND % 2) as usize));
            }
            opened = fleet.take_made().first().map(|it| (*it, fleet.now() - stop));
        }
        let (transition, after) = opened.unwrap();
        assert_eq!(transition, Transition::Opened(TripReason::SlowRatio));
        assert!(300 * MILLISECOND < after && after <= 1_300 * MILLISECOND, "{per_second}: {} ms", after / MILLISECOND);
        println!("{per_second} requests a second besides: open after {} ms", after / MILLISECOND);
        // Nothing of before the trip counts after it, and no timer is left.
        let before = fleet.state();
        for (turn, admission) in out.into_iter().enumerate() {
            fleet.end(turn % 2, admission, &Response { outcome: Outcome::Failure, latency: seconds(6) });
        }
        assert_eq!(fleet.state(), before);
        let end = fleet.now();
        fleet.tick_until(end + 3 * SECOND);
        assert_eq!(fleet.host.take_wake(), None, "the timer is off");
    }
}

/// A window full of good answers does not hide that there are none any more.
#[test]
fn a_dead_stop_is_seen_behind_a_window_of_good_answers() {
    for (workers, per_second) in [(1, 50), (2, 50), (4, 100), (4, 1_000)] {
        // Whether requests keep coming, or forty clients wait for what they asked.
        for most_out in [40, usize::MAX] {
            let mut random = Random::seeded(workers as u64);
            let (fleet, mut in_flight) = (Fleet::new(workers, &slow_half()), InFlight::default());
            let stop = fleet.now() + 15 * SECOND;
            run(&fleet, &mut in_flight, per_second, stop, &mut random, |_| OK);
            in_flight.pass_until(&fleet, stop + 20 * MILLISECOND);
            let mut out = Vec::new();
            let mut opened = None;
            while opened.is_none() && fleet.now() < stop + 10 * SECOND {
                fleet.tick_until(fleet.now() + SECOND / per_second);
                if out.len() < most_out {
                    out.extend(fleet.send(random.below(workers as u64) as usize));
                }
                opened = fleet.take_made().first().map(|it| (*it, fleet.now() - stop));
            }
            let (transition, after) = opened.unwrap();
            assert_eq!(transition, Transition::Opened(TripReason::SlowRatio));
            let after = after / MILLISECOND;
            println!("{workers} workers, {per_second} requests a second, {most_out} at most: open after {after} ms");
            assert!(300 < after && after <= 1_300, "{workers} workers, {per_second}/s, {most_out}: {after} ms");
        }
    }
}

/// One worker's clients have slow requests only, the other's quick ones; less than half of all are slow.
#[test]
fn slow_requests_on_one_worker_are_no_dead_stop_while_another_answers() {
    for seed in 1..=20 {
        let mut random = Random::seeded(seed);
        let fleet = Fleet::new(2, &slow_half());
        let mut in_flight = InFlight::default();
        for _ in 0..4_000 {
            fleet.tick_until(fleet.now() + random.below(14 * MILLISECOND));
            let (worker, response) = if random.below(100) < 35 { (0, SLOW) } else { (1, OK) };
            let admission = fleet.send(worker).unwrap();
            in_flight.send(&fleet, worker, admission, response);
            in_flight.pass_until(&fleet, fleet.now());
        }
        assert_eq!(fleet.take_made(), [], "seed {seed}");
    }
}

#[test]
fn a_stop_has_no_answer_in_it_whoever_published_first() {
    let breaker = breaker(&Settings { consecutive_failures: None, min_requests: 1_000, ..slow_half() });
    let mut random = Random::seeded(43);
    for turn in 0..5_000 {
        // Batches of workers, each in the order of time, published in any order. Every other time there is a stop.
        let mut batches: Vec<Vec<(u64, Response)>> = vec![Vec::new(); 1 + random.below(5) as usize];
        for step in 0..30 {
            let is_good = if turn % 2 == 0 { step < 10 } else { random.below(4) == 0 };
            let place = random.below(batches.len() as u64) as usize;
            batches[place].push((HOUR + step * MILLISECOND, if is_good { OK } else { SLOW }));
        }
        let (mut state, mut seen) = (State::default(), Vec::new());
        for batch in batches {
            state = breaker.count(state, &tallied(&breaker, 0, &batch), at(HOUR + SECOND));
            seen.extend(batch);
            let answered = seen.iter().filter(|it| it.1 == OK).map(|it| it.0).max().unwrap_or(0);
            let slow = seen.iter().filter(|it| it.1 == SLOW && answered < it.0).count();
            assert!(state.stop.slow as usize <= slow, "turn {turn}: {seen:?}");
            assert!(turn % 2 == 1 || state.stop.slow as usize == slow, "turn {turn}: {seen:?}");
            assert_eq!(state.stop.answered, at(answered));
        }
    }
    let stop = Stop { answered: at(HOUR), since: at(HOUR + 1), slow: 20 };
    assert_eq!((stop.settles(20), stop.settles(21)), (Some(at(HOUR + 1 + nanos(SETTLED))), None));
    assert_eq!(Stop::default().settles(0), None);
}

#[test]
fn a_request_that_hangs_counts_once_however_it_ends() {
    const HANG: u64 = 2 * SECOND;
    let late = |outcome| Response { outcome, latency: seconds(2) };
    let settings = Settings { consecutive_failures: Some(1_000), min_requests: 1_000, ..slow_half() };
    let counts = |fleet: &Fleet| {
        fleet.host.advance(nanos(MAX_AGE));
        drop(fleet.admit(0));
        let state = fleet.state();
        (state.ring.sum(), state.run.failures(seconds(10), fleet.host.now()))
    };
    // It hangs, is counted, and then succeeds, fails, or is left by its client.
    for (end, failed) in [(Some(Outcome::Success), 0), (Some(Outcome::Failure), 1), (None, 0)] {
        let fleet = Fleet::new(1, &settings);
        let admission = fleet.send(0).unwrap();
        fleet.tick_until(fleet.now() + HANG);
        assert_eq!(counts(&fleet), (Counts { total: 1, failed: 0, slow: 1 }, 0), "{end:?}: while it hangs");
        match end {
            Some(outcome) => fleet.end(0, admission, &late(outcome)),
            None => fleet.give_back(0, admission),
        }
        assert_eq!(counts(&fleet), (Counts { total: 1, failed, slow: 1 }, failed), "{end:?}");
    }
    // It ends before anybody looked: as ever. Its client leaves in time: nothing.
    for (end, expected) in [
        (Some(late(Outcome::Success)), Counts { total: 1, failed: 0, slow: 1 }),
        (Some(OK), Counts { total: 1, failed: 0, slow: 0 }),
        (None, Counts::default()),
    ] {
        let fleet = Fleet::new(1, &settings);
        let admission = fleet.send(0).unwrap();
        fleet.host.advance(end.map_or(MILLISECOND, |it| nanos(it.latency)));
        match end {
            Some(response) => fleet.end(0, admission, &response),
            None => fleet.give_back(0, admission),
        }
        fleet.tick_until(fleet.now() + HANG);
        assert_eq!(counts(&fleet).0, expected, "{end:?}");
    }
    // A stream that has begun hangs no more, however long it lasts; at exactly `slow_after` it is not slow.
    for (nanoseconds, slow) in [(300 * MILLISECOND, 0), (300 * MILLISECOND + 1, 1)] {
        let fleet = Fleet::new(1, &settings);
        let mut admission = fleet.send(0).unwrap();
        fleet.host.advance(nanoseconds);
        fleet.answered(0, &mut admission);
        fleet.tick_until(fleet.now() + HOUR);
        assert_eq!(counts(&fleet).0.total, 0, "not before it ends");
        fleet.end(0, admission, &Response { outcome: Outcome::Success, latency: Duration::from_nanos(nanoseconds) });
        assert_eq!(counts(&fleet).0, Counts { total: 1, failed: 0, slow });
    }
    // An attempt that is given up sooner than `slow_after` is slow then.
    let fleet = Fleet::new(1, &settings);
    let mut admission = fleet.admit(0).unwrap();
    fleet.workers[0].follow(
        &Cx::at(&*fleet.host, &fleet.telemetry, fleet.host.now()),
        &mut admission,
        Some(millis(100)),
    );
    fleet.host.advance(101 * MILLISECOND);
    fleet.end(0, admission, &Response { outcome: Outcome::Success, latency: millis(101) });
    assert_eq!(counts(&fleet).0, Counts { total: 1, failed: 0, slow: 1 });
}

#[test]
fn what_lies_about_when_no_request_comes_is_published_by_the_timer() {
    let fleet = Fleet::new(1, &Settings { consecutive_failures: Some(5), ..Settings::default() });
    assert!(fleet.serve(0, &OK));
    fleet.host.advance(MILLISECOND);
    assert!(fleet.serve(0, &OK));
    let last = fleet.host.now();
    assert!(fleet.state().run.success < last, "not yet");
    fleet.tick_until(last.as_nanos() + nanos(MAX_AGE_IDLE));
    assert_eq!(fleet.state().run.success, last);
    assert_eq!(fleet.host.take_wake(), None, "the timer is off");
}

// === how often it is wrong, and how fast ===

/// How often a breaker trips in so many hours, with 50 requests a second over two workers, of which so many in a million
/// fail. Without a proxy: the watches publish to one state.
fn trips_in(hours: u64, failing: u64, seed: u64) -> usize {
    let breaker = breaker(&example());
    let mut random = Random::seeded(seed);
    let mut watches = [Watch::default(), Watch::default()];
    let mut state = State::default();
    let mut trips = 0;
    let mut now = SECOND;
    while now < hours * HOUR {
        // 20 ms on average.
        now += random.below(40 * MILLISECOND);
        let dice = random.next();
        let watch = &mut watches[(dice % 2) as usize];
        let response = if (dice >> 1) % 1_000_000 < failing { FAILED } else { OK };
        let epoch = watch.state().epoch;
        if watch.heard(&breaker, epoch, &response, Pace::InTime, at(now)) == Publish::Later {
            continue;
        }
        state = breaker.count(state, watch.tally(), at(now));
        if reason(&state).is_some() {
            trips += 1;
            state = State { phase: Phase::default(), ..state };
        }
        watch.saw(state, at(now));
        watch.published(at(now));
    }
    trips
}

#[test]
fn one_failure_in_a_hundred_trips_it_less_than_once_a_day() {
    // Where the tests run as wasm32, a few hours: it is the same arithmetic.
    let hours = if cfg!(target_arch = "wasm32") { 4 } else { 24 };
    let trips: Vec<usize> = (1..=3).map(|seed| trips_in(hours, 10_000, seed)).collect();
    assert!(trips.iter().sum::<usize>() < trips.len(), "{trips:?}");
    // The count can tell: three of ten fail five times in a row every few minutes.
    assert!(5 < trips_in(1, 300_000, 5));
}

/// Instants of requests at so many per second on average, from `now` on.
fn arrivals(per_second: u64, mut now: u64, random: &mut Random) -> impl Iterator<Item = (u64, u64)> {
    std::iter::from_fn(move || {
        now += random.below(2 * SECOND / per_second);
        Some((now, random.next()))
    })
}

/// What happened at a fleet.
#[derive(Default)]
struct Log {
    /// When each request came, to whom, and whether it passed.
    requests: Vec<(u64, usize, bool)>,
    /// Each change that was made, when.
    made: Vec<(u64, Transition)>,
}

impl Log {
    /// When it tripped first after the instant.
    fn tripped(&self, since: u64) -> Option<u64> {
        self.made.iter().find(|it| since <= it.0 && matches!(it.1, Transition::Opened(_))).map(|it| it.0)
    }
}

/// Requests at so many per second, spread by chance, until `until`. The service answers as `service` says.
fn run(
    fleet: &Fleet,
    in_flight: &mut InFlight,
    per_second: u64,
    until: u64,
    random: &mut Random,
    service: impl Fn(u64) -> Response,
) -> Log {
    let mut log = Log::default();
    for (now, dice) in arrivals(per_second, fleet.now(), random) {
        in_flight.pass_until(fleet, now.min(until));
        if until <= now {
            break;
        }
        let worker = (dice % fleet.workers.len() as u64) as usize;
        let admitted = fleet.admit(worker);
        log.requests.push((now, worker, admitted.is_ok()));
        if let Ok(admission) = admitted {
            in_flight.send(fleet, worker, admission, service(now));
        }
    }
    let changes = fleet.take_changes().into_iter();
    log.made = changes.filter(|it| it.2.by == By::Us).map(|(now, _, change)| (now, change.transition)).collect();
    log
}

#[test]
fn an_outage_is_found_within_a_second_obeyed_by_all_half_a_second_later_and_left_in_time() {
    for seed in 1..=20 {
        let mut random = Random::seeded(seed);
        let fleet = Fleet::new(4, &example());
        let mut in_flight = InFlight::default();
        let outage = fleet.now() + 30 * SECOND + random.below(SECOND);
        let healed = outage + 8 * SECOND + random.below(40 * SECOND);
        let service = |now| if outage <= now && now < healed { FAILED } else { OK };

        let log = run(&fleet, &mut in_flight, 50, outage, &mut random, service);
        assert!(log.made.is_empty() && log.requests.iter().all(|it| it.2), "seed {seed}: {:?}", log.made);

        let log = run(&fleet, &mut in_flight, 50, healed, &mut random, service);
        let tripped = log.tripped(outage).unwrap();
        assert!(tripped <= outage + SECOND, "seed {seed}: after {} ms", (tripped - outage) / MILLISECOND);
        let at_first = log.requests.iter().filter(|it| it.0 < tripped + 4 * SECOND);
        let late = at_first.filter(|it| it.2 && tripped + 500 * MILLISECOND <= it.0).count();
        assert_eq!(late, 0, "seed {seed}: obeyed by all");
        // Until it heals only the first probes find out that it has not: fewer than one request in a hundred.
        let spent = log.requests.iter().filter(|it| tripped + 500 * MILLISECOND <= it.0 && it.2).count();
        assert!(spent <= 5 * log.made.len(), "seed {seed}: {spent} probes, {:?}", log.made);

        let Phase::Open { until, .. } = fleet.state().phase else { panic!("seed {seed}: {:?}", fleet.state()) };
        let full = until.as_nanos().max(healed) + 7 * SECOND;
        let log = run(&fleet, &mut in_flight, 50, full, &mut random, service);
        let words: Vec<&str> = log.made.iter().map(|it| it.1.to()).collect();
        assert_eq!(words, ["half_open", "ramp", "closed"], "seed {seed}");
        let log = run(&fleet, &mut in_flight, 50, full + 20 * SECOND, &mut random, service);
        assert!(log.made.is_empty() && log.requests.iter().all(|it| it.2), "seed {seed}: full traffic");
        assert_eq!(fleet.errors.get(), 0);
    }
}

#[test]
fn sixty_percent_of_failures_are_found_in_ten_seconds_by_their_ratio() {
    let settings = Settings { failure_ratio: Some(0.5), ..Settings::default() };
    let gap = SECOND / 7;
    // In the order that convicts them last: the successes of each five first.
    for offset in 0..20 {
        let fleet = Fleet::new(2, &settings);
        let start = HOUR + offset * 50 * MILLISECOND;
        let found = (0..200).find(|turn| {
            fleet.host.set_now(start + turn * gap);
            fleet.serve((turn % 2) as usize, if turn % 5 < 2 { &OK } else { &FAILED });
            !fleet.take_made().is_empty()
        });
        let after = found.unwrap() * gap;
        assert!(after <= 10 * SECOND, "offset {offset}: {} ms", after / MILLISECOND);
        assert_eq!(reason(&fleet.state()), Some(TripReason::FailureRatio));
    }
    // By chance, and after a time in which all was well: in the mean, and at a rate at which the window holds enough.
    for (per_second, healthy) in [(7, 0), (50, 60)] {
        let mut sum = 0;
        for seed in 1..=30 {
            let mut random = Random::seeded(seed);
            let (fleet, mut in_flight) = (Fleet::new(2, &settings), InFlight::default());
            let ill = fleet.now() + healthy * SECOND;
            run(&fleet, &mut in_flight, per_second, ill, &mut random, |_| OK);
            let dice = RefCell::new(Random::seeded(seed + 1_000));
            let service = |_| if dice.borrow_mut().below(5) < 2 { OK } else { FAILED };
            let log = run(&fleet, &mut in_flight, per_second, ill + 60 * SECOND, &mut random, service);
            sum += log.tripped(ill).unwrap() - ill;
        }
        let mean = sum / 30;
        println!("60 % at {per_second} requests/s, well for {healthy} s before: found after {} ms", mean / MILLISECOND);
        assert!(mean <= 10 * SECOND, "{per_second}: {} ms", mean / MILLISECOND);
    }
}

#[test]
fn a_healthy_breaker_costs_next_to_no_calls() {
    let fleet = Fleet::new(2, &example());
    take_shared_calls(&fleet.host);
    const REQUESTS: u64 = 20_000;
    for turn in 0..REQUESTS {
        // 1 000 per second and worker.
        fleet.host.advance(MILLISECOND / 2);
        assert!(fleet.serve((turn % 2) as usize, if turn % 200 == 0 { &FAILED } else { &OK }));
    }
    let calls = take_shared_calls(&fleet.host) as u64;
    println!("{calls} calls for {REQUESTS} requests, 0.5 % of which failed");
    assert!(calls * 100 <= REQUESTS * 2 && 0 < calls, "{calls}");

    // Being refused costs less still.
    fleet.put(&State {
        epoch: 9,
        phase: Phase::Open { until: at(fleet.now() + 6 * SECOND), reason: TripReason::FailureRatio },
        ..State::default()
    });
    fleet.host.advance(nanos(MAX_AGE));
    for turn in 0..4_000 {
        fleet.host.advance(MILLISECOND / 2);
        assert!(!fleet.serve(turn % 2, &OK));
    }
    let calls = take_shared_calls(&fleet.host);
    assert!(calls <= 4_000 * 5 / 1_000, "{calls}");

    // An outage is no reason to call for each request either, if it can't trip the breaker.
    let fleet = Fleet::new(2, &Settings { failure_ratio: Some(1.0), ..Settings::default() });
    for turn in 0..20_000 {
        fleet.host.advance(MILLISECOND / 2);
        assert!(fleet.serve(turn % 2, if turn % 10 == 0 { &OK } else { &FAILED }));
    }
    let calls = take_shared_calls(&fleet.host);
    assert!(calls * 100 <= 20_000 * 5, "{calls}");
}

#[test]
fn a_trip_is_obeyed_when_the_copy_is_a_quarter_of_a_second_old() {
    let fleet = Fleet::new(8, &Settings { consecutive_failures: Some(3), ..Settings::default() });
    let read = fleet.now();
    for worker in 1..8 {
        assert!(fleet.serve(worker, &OK));
    }
    fleet.host.advance(1);
    assert!((0..3).all(|_| fleet.serve(0, &FAILED)) && !fleet.serve(0, &OK));
    fleet.host.set_now(read + nanos(MAX_AGE) - 1);
    assert!((1..8).all(|worker| fleet.serve(worker, &OK)), "they can't know");
    fleet.take_changes();
    fleet.host.set_now(read + nanos(MAX_AGE));
    assert!((1..8).all(|worker| !fleet.serve(worker, &OK)));
    let seen = fleet.take_changes();
    assert!(seen.iter().all(|it| it.2.by == By::Others) && seen.len() == 7, "{seen:?}");
    // What they learnt meanwhile counts nowhere.
    assert_eq!(fleet.state().epoch, 1);
    assert!(MAX_AGE <= millis(500), "a worker that has requests obeys within half a second");
}

#[test]
fn the_ramp_admits_its_share_over_all_workers_however_few_requests_each_has() {
    for (workers, requests) in [(1, 1_000), (8, 1_000), (8, 40), (64, 64)] {
        for percent in [10, 25, 50] {
            // Many ramps, each with so many requests over all workers.
            const RAMPS: u64 = 200;
            let mut random = Random::seeded(percent);
            let mut passed = 0;
            for epoch in 1..=RAMPS {
                let mut turnstiles = vec![Turnstile::default(); workers];
                for _ in 0..requests {
                    let turnstile = &mut turnstiles[random.below(workers as u64) as usize];
                    passed += u64::from(turnstile.turn(epoch, percent as u32, random.next()) == Turn::Pass);
                }
            }
            let expected = RAMPS * requests * percent / 100;
            assert!(passed.abs_diff(expected) * 20 <= expected, "{workers} workers: {passed} of {expected}");
        }
    }
    // Exact, for one worker, at any time.
    let mut turnstile = Turnstile::default();
    let passed: Vec<usize> = (0..100).filter(|_| turnstile.turn(1, 25, 0) == Turn::Pass).collect();
    assert_eq!(passed, (3..100).step_by(4).collect::<Vec<usize>>());
    // Step by step, at the very instants.
    let (start, step) = (at(HOUR), nanos(STEP));
    for (age, expected) in [
        (0, Some(10)),
        (step - 1, Some(10)),
        (step, Some(25)),
        (2 * step, Some(50)),
        (3 * step - 1, Some(50)),
        (3 * step, None),
    ] {
        assert_eq!(share(start, at(HOUR + age)), expected, "{age}");
    }
    assert_eq!(share(start, at(0)), Some(10));
}

#[test]
fn what_fails_in_the_ramp_opens_again_judged_by_the_ramp_alone() {
    let fleet = Fleet::new(1, &example());
    let since = at(fleet.now());
    let ramp = State { epoch: 3, trips: 1, phase: Phase::Ramp { since }, ..State::default() };
    fleet.put(&ramp);
    let mut failed = 0;
    while reason(&fleet.state()).is_none() {
        fleet.host.advance(MILLISECOND);
        failed += usize::from(fleet.serve(0, &FAILED));
        assert!(failed <= 5, "{:?}", fleet.state());
    }
    assert_eq!((failed, fleet.state().trips), (5, 2));
    assert_eq!(fleet.take_made(), [Transition::Opened(TripReason::ConsecutiveFailures)]);
}

// === several at once ===

/// Workers that do the same at once; each step is a request that is answered at once.
struct Crowd {
    fleet: Fleet,
    watches: RefCell<Vec<Watch>>,
    response: Response,
}

impl Crowd {
    fn new(workers: usize, settings: &Settings, state: &State, response: Response) -> Self {
        let fleet = Fleet::new(workers, settings);
        fleet.put(state);
        Self { fleet, watches: RefCell::new(vec![Watch::default(); workers]), response }
    }
}

#[derive(Debug)]
struct Request {
    passed: Option<Admission>,
    changes: Vec<Change>,
}

impl Crowd {
    /// Does it with a copy of the watch, because the step may be done again.
    fn visit<T>(&self, worker: usize, step: impl FnOnce(&Watched) -> Answer<T>) -> Result<(T, Vec<Change>), HostError> {
        let watches = Watches::default();
        let watch = watches.of(RECORD);
        *watch.borrow_mut() = self.watches.borrow()[worker].clone();
        let watched = Watched::new(RECORD.to_owned(), self.fleet.breaker, &watches);
        let answer = step(&watched);
        if let Some(error) = answer.error {
            return Err(error);
        }
        self.watches.borrow_mut()[worker] = watch.borrow().clone();
        Ok((answer.value, answer.changes))
    }
}

/// One that claims, at an instant of its own.
struct Claims(Crowd);

impl Race for Claims {
    type Answer = Request;

    fn proxy(&self) -> &MemoryHost {
        &self.0.fleet.host
    }

    fn step(&self, worker: usize, host: &dyn Host) -> Result<Request, HostError> {
        let now = host.now();
        let telemetry = &self.0.fleet.telemetry;
        let (value, changes) = self.0.visit(worker, |watched| watched.claim(&Cx::at(host, telemetry, now)))?;
        Ok(Request { passed: value.ok(), changes })
    }
}

/// One that reports for a request that it admitted before.
struct Reports(Crowd);

impl Race for Reports {
    type Answer = Request;

    fn proxy(&self) -> &MemoryHost {
        &self.0.fleet.host
    }

    fn step(&self, worker: usize, host: &dyn Host) -> Result<Request, HostError> {
        let now = host.now();
        let telemetry = &self.0.fleet.telemetry;
        // Admitted by its copy, without a call.
        let ((), changes) = self.0.visit(worker, |watched| match watched.claim(&Cx::at(host, telemetry, now)) {
            Answer { value: Ok(admission), error: None, .. } => {
                watched.report(&Cx::at(host, telemetry, now), admission, &self.0.response)
            }
            Answer { changes, error, .. } => Answer { value: (), changes, error },
        })?;
        Ok(Request { passed: None, changes })
    }
}

fn made(requests: &[Vec<Request>]) -> Vec<Transition> {
    let changes = requests.iter().flatten().flat_map(|it| &it.changes);
    changes.filter(|it| it.by == By::Us).map(|it| it.transition).collect()
}

#[test]
fn no_two_workers_take_the_last_probe_in_any_order_of_calls() {
    for (workers, probes) in [(2, 1), (2, 2), (3, 2)] {
        let settings = Settings { probes, ..example() };
        let open = Phase::Open { until: at(0), reason: TripReason::FailureRatio };
        let start = || Claims(Crowd::new(workers, &settings, &State { epoch: 1, phase: open, ..State::default() }, OK));
        let orders = in_every_order(&vec![1; workers], start, |course| {
            let passed = course.answers.iter().flatten().filter_map(|it| it.passed.as_ref());
            let out = passed.filter(|it| it.is_probe()).count();
            assert_eq!(out, workers.min(probes as usize), "order {:?}: {:?}", course.order, course.answers);
            assert_eq!(made(&course.answers), [Transition::HalfOpened], "order {:?}", course.order);
            let Phase::HalfOpen(probing) = course.race.0.fleet.state().phase else { panic!() };
            assert_eq!(probing.out(), out);
        });
        assert!(10 < orders, "{orders}");
    }
}

#[test]
fn two_workers_that_trip_it_at_once_trip_it_once_in_any_order_of_calls() {
    for (consecutive, steps) in [(1, vec![1, 1]), (1, vec![1, 1, 1]), (2, vec![2, 2])] {
        let settings = Settings { consecutive_failures: Some(consecutive), ..Settings::default() };
        let start = || Reports(Crowd::new(steps.len(), &settings, &State::default(), FAILED));
        let orders = in_every_order(&steps, start, |course| {
            let opened = Transition::Opened(TripReason::ConsecutiveFailures);
            assert_eq!(made(&course.answers), [opened], "order {:?}: {:?}", course.order, course.answers);
            let state = course.race.0.fleet.state();
            assert_eq!((state.trips, state.epoch), (1, 1), "order {:?}", course.order);
        });
        assert!(5 < orders, "{orders}");
    }
}

#[test]
fn in_a_storm_no_more_probes_are_out_than_may_be_and_it_comes_back() {
    for seed in 1..=10 {
        let mut random = Random::seeded(seed);
        let settings = Settings { probes: 3, open_for: seconds(1), max_open_for: seconds(4), ..example() };
        let mut fleet = Fleet::new(4, &settings);
        // Admissions under way: since when, by which generation of which worker.
        let mut out: Vec<(usize, u64, Admission)> = Vec::new();
        let mut opened = 0;
        for step in 0..20_000_u64 {
            fleet.host.advance(random.below(30 * MILLISECOND));
            let worker = random.below(4) as usize;
            let ill = step / 500 % 2 == 1;
            match random.below(100) {
                0 => {
                    fleet.restart(worker);
                    out.retain(|it| it.0 != worker);
                }
                1..=2 => fleet.host.set_now(fleet.now() - random.below(100 * MILLISECOND)),
                3..=49 => {
                    if let Ok(admission) = fleet.admit(worker) {
                        out.push((worker, fleet.state().epoch, admission));
                    }
                }
                _ if out.is_empty() => {}
                dice => {
                    let (worker, _, admission) = out.swap_remove(random.below(out.len() as u64) as usize);
                    let response = match random.below(10) {
                        _ if dice == 50 => FAILED,
                        0..=8 if ill => FAILED,
                        0 => SLOW,
                        _ => OK,
                    };
                    if dice < 53 { fleet.give_back(worker, admission) } else { fleet.end(worker, admission, &response) }
                }
            }
            let state = fleet.state();
            let probes = out.iter().filter(|it| it.2.is_probe() && it.1 == state.epoch).count();
            match state.phase {
                Phase::HalfOpen(probing) => {
                    assert!(probes <= probing.out(), "seed {seed}: {probes} out, {probing:?}");
                    assert!(probing.out() + usize::from(probing.successes) <= 3, "seed {seed}: {probing:?}");
                }
                _ => assert_eq!(probes, 0, "seed {seed}: {state:?}"),
            }
            opened += fleet.take_made().iter().filter(|it| it.to() == "open").count();
        }
        assert!(10 < opened, "seed {seed}: {opened}");
        // All is well from now on, whatever is lost: open for 4.8 s, probes given up after 8 s, open for 4.8 s, ramp 6 s.
        let calm = fleet.now() + 90 * SECOND;
        out.clear();
        while fleet.now() < calm {
            fleet.host.advance(20 * MILLISECOND);
            fleet.serve(random.below(4) as usize, &OK);
        }
        assert!(matches!(fleet.state().phase, Phase::Closed { .. }), "seed {seed}: {:?}", fleet.state());
        assert_eq!(fleet.errors.get(), 0);
    }
}

// === trouble ===

fn any_run(seed: u64, mut instant: impl FnMut() -> Timestamp) -> Run {
    let mut random = Random::seeded(seed);
    let mut run = Run { success: instant(), ..Run::default() };
    for group in run.groups.iter_mut().take(random.below(1 + GROUPS as u64) as usize) {
        *group = Group { first: instant(), last: instant(), failures: random.below(9) as u32 };
    }
    run
}

/// Any state, near `now` or far from it.
fn any_state(random: &mut Random) -> State {
    let mut instant = {
        let mut random = Random::seeded(random.next());
        move || at(HOUR + random.below(HOUR) * random.below(2))
    };
    let phase = match random.below(4) {
        0 => Phase::Closed { since: instant() },
        1 => Phase::Ramp { since: instant() },
        2 => Phase::HalfOpen(Probing {
            successes: random.below(20) as u8,
            deadlines: std::array::from_fn(|place| if place % 2 == 0 { instant() } else { at(0) }),
        }),
        _ => {
            let reasons = [
                TripReason::ConsecutiveFailures,
                TripReason::FailureRatio,
                TripReason::SlowRatio,
                TripReason::ProbeFailed,
                TripReason::ProbeSlow,
                TripReason::ProbeLost,
            ];
            Phase::Open { until: instant(), reason: reasons[random.below(6) as usize] }
        }
    };
    let mut ring = Ring { current: random.next(), ..Ring::default() };
    for counts in &mut ring.counts {
        *counts = Counts { total: random.next() as u32, failed: random.below(9) as u32, slow: random.below(9) as u32 };
    }
    State {
        epoch: random.next(),
        phase,
        trips: random.below(33) as u8,
        run: any_run(random.next(), &mut instant),
        stop: Stop { answered: instant(), since: instant(), slow: random.below(9) as u32 },
        slowest: Slowest { latency: Duration::from_nanos(random.below(60 * SECOND)), at: instant() },
        ring,
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    let mut random = Random::seeded(77);
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        let state = any_state(&mut random);
        let part = 1 + random.below(SECOND);
        record::encode(&state, part, &mut bytes);
        assert_eq!(bytes.len(), 509);
        let read = record::decode(&bytes, part).unwrap();
        assert_eq!((read.state, read.parts), (state, Parts::Same));
        // Another window: all but the ring is kept.
        let other = record::decode(&bytes, part + 1).unwrap();
        assert_eq!((other.state, other.parts), (State { ring: Ring::default(), ..state }, Parts::Other));
    }
    assert_eq!(record::decode(&[], 1).unwrap().state, State::default());
}

/// A record that an earlier version of the module wrote: what it knows of failures in a row is taken over.
#[test]
fn a_record_of_the_earlier_layout_is_read() {
    let mut random = Random::seeded(78);
    let mut bytes = Vec::new();
    for failures in [0_u32, 1, 4, 70_000] {
        let run = Run { success: at(0), ..Run::default() };
        let state = State { run, stop: Stop::default(), ..any_state(&mut random) };
        record::encode(&state, SECOND, &mut bytes);
        let begin = 17 + 4 + 2 * 8;
        let mut earlier = bytes[..begin].to_vec();
        earlier.extend(failures.to_le_bytes());
        earlier.extend(HOUR.to_le_bytes());
        earlier.extend(&bytes[begin + 8 + GROUPS * 20 + 20..]);
        assert_eq!(earlier.len(), 333);
        let read = record::decode(&earlier, SECOND).unwrap();
        assert_eq!((State { run, ..read.state }, read.parts), (state, Parts::Same));
        assert_eq!(read.state.run.failures(seconds(10), at(HOUR)), failures);
    }
    // Its fifth failure trips it, and what is written then is of this layout.
    let fleet = Fleet::new(1, &example());
    fleet.host.set_now(HOUR);
    record::encode(&State::default(), SECOND, &mut bytes);
    let mut earlier = bytes[..37].to_vec();
    earlier.extend(4_u32.to_le_bytes());
    earlier.extend((HOUR - SECOND).to_le_bytes());
    earlier.extend(&bytes[37 + 8 + GROUPS * 20 + 20..]);
    fleet.host.put_record(RECORD, &earlier);
    assert!(fleet.serve(0, &FAILED) && !fleet.serve(0, &FAILED));
    assert_eq!(fleet.host.record(RECORD).unwrap().len(), 509);
}

#[test]
fn garbage_admits_is_counted_and_is_replaced() {
    const UNREADABLE: &str = "call=.=shared_decode;.;outrigger_host_errors_total";
    let mut random = Random::seeded(3);
    let mut whole = Vec::new();
    record::encode(&State::default(), SECOND, &mut whole);
    let phase = 17;
    let mut replaced = 0;
    for turn in 0..1_000 {
        let mut bytes = whole.clone();
        match turn % 4 {
            0 => bytes.truncate(1 + random.below(508) as usize),
            1 => bytes.push(0),
            2 => bytes[phase] = 4 + random.below(252) as u8,
            _ => bytes.iter_mut().for_each(|byte| *byte = random.next() as u8),
        }
        let fleet = Fleet::new(1, &example());
        fleet.host.set_now(HOUR);
        fleet.host.put_record(RECORD, &bytes);
        let is_readable = record::decode(&bytes, SECOND).is_some();
        let passes = fleet.serve(0, &OK);
        assert_eq!(fleet.host.metric(UNREADABLE) == 0, is_readable, "{bytes:?}");
        if !is_readable {
            assert!(passes, "{bytes:?}");
            assert!(matches!(fleet.state().phase, Phase::Closed { .. }));
            assert_eq!(fleet.state().epoch, HOUR, "no epoch that anybody remembers");
            replaced += 1;
        }
    }
    assert!(900 < replaced, "{replaced}");
    // An unknown reason of an open breaker.
    record::encode(
        &State { phase: Phase::Open { until: at(HOUR), reason: TripReason::ProbeLost }, ..State::default() },
        SECOND,
        &mut whole,
    );
    whole[phase + 1] = 6;
    assert_eq!(record::decode(&whole, SECOND), None);
}

#[test]
fn any_state_at_any_time_comes_to_closed() {
    let mut random = Random::seeded(9);
    for turn in 0..60 {
        let fleet = Fleet::new(2, &Settings { probes: 3, ..example() });
        fleet.host.set_now(HOUR);
        let state = State { epoch: random.below(1 << 40), ..any_state(&mut random) };
        fleet.put(&state);
        let begun = fleet.now();
        let mut steps = 0_usize;
        // Longest: a probe given up after a minute, open for 72 s, the ramp. What its ring holds may trip it once more.
        while fleet.now() < begun + 300 * SECOND {
            fleet.host.advance(100 * MILLISECOND);
            steps += 1;
            fleet.serve(steps % 2, &OK);
        }
        assert!(matches!(fleet.state().phase, Phase::Closed { .. }), "{turn}: {state:?} became {:?}", fleet.state());
        assert!((0..100).all(|worker| fleet.serve(worker % 2, &OK)), "{turn}");
    }
}

#[test]
fn a_proxy_that_does_not_answer_makes_it_admit_and_is_reported() {
    let fleet = Fleet::new(1, &Settings { consecutive_failures: Some(1), ..Settings::default() });
    fleet.host.break_call("shared_get");
    let admission = fleet.admit(0).unwrap();
    assert_eq!(fleet.errors.get(), 2, "peek and claim");
    assert!(!admission.is_probe());
    fleet.end(0, admission, &FAILED);
    assert_eq!((fleet.errors.get(), fleet.take_changes()), (2, vec![]), "it counts nowhere");
    fleet.host.repair("shared_get");
    // Outcomes that could not be published are kept.
    let admission = fleet.admit(0).unwrap();
    fleet.host.break_call("shared_set");
    fleet.end(0, admission, &FAILED);
    assert_eq!((fleet.errors.get(), fleet.host.record(RECORD)), (3, None));
    fleet.host.repair("shared_set");
    fleet.host.advance(nanos(MAX_AGE));
    assert!(fleet.admit(0).is_err());
    assert_eq!(fleet.take_made(), [Transition::Opened(TripReason::ConsecutiveFailures)]);
    // Open, it refuses by its copy; without one it admits, also when it would be a probe.
    let Phase::Open { until, .. } = fleet.state().phase else { panic!() };
    fleet.host.break_call("shared_set");
    fleet.host.set_now(until.as_nanos());
    let admission = fleet.admit(0).unwrap();
    assert!(!admission.is_probe());
    fleet.give_back(0, admission);
    assert_eq!(fleet.errors.get(), 4);
    fleet.host.repair("shared_set");
    assert!(fleet.admit(0).unwrap().is_probe());
}

#[test]
fn a_clock_that_goes_back_costs_no_more_than_the_longest_time() {
    const BACK: u64 = HOUR;
    // Open.
    let settings = Settings { consecutive_failures: Some(1), ..Settings::default() };
    let fleet = Fleet::new(2, &settings);
    fleet.host.set_now(2 * HOUR);
    assert!(fleet.serve(0, &FAILED) && !fleet.serve(0, &OK));
    fleet.host.set_now(2 * HOUR - BACK);
    for worker in [0, 1] {
        let wait = fleet.admit(worker).unwrap_err().retry_after;
        assert_eq!(wait, seconds(5), "worker {worker}");
    }
    fleet.host.advance(5 * SECOND);
    // Half-open: the deadline is pulled in, and passes.
    let lost = fleet.admit(0).unwrap();
    fleet.host.set_now(fleet.now() - BACK / 2);
    assert!(fleet.admit(1).is_ok());
    let Phase::HalfOpen(probing) = fleet.state().phase else { panic!() };
    assert!(probing.deadlines.iter().all(|it| it.as_nanos() <= fleet.now() + SECOND), "{probing:?}");
    drop(lost);
    fleet.host.advance(SECOND);
    assert!(fleet.admit(0).is_err());
    assert_eq!(reason(&fleet.state()), Some(TripReason::ProbeLost));
    // Ramp and closed.
    let now = fleet.now();
    fleet.put(&State { epoch: 50, phase: Phase::Ramp { since: at(now + HOUR) }, ..State::default() });
    fleet.host.advance(nanos(MAX_AGE));
    let _ = fleet.admit(0);
    fleet.host.advance(nanos(RAMP));
    assert!(fleet.serve(0, &OK));
    assert_eq!(fleet.state().phase, Phase::Closed { since: at(fleet.now()) });
    // A late reader is no step: nothing is moved.
    let breaker = breaker(&settings);
    let ahead = |phase| State { phase, ..State::default() };
    for (phase, is_moved) in
        [(Phase::Ramp { since: at(HOUR + SECOND) }, false), (Phase::Ramp { since: at(HOUR + SECOND + 1) }, true)]
    {
        assert_eq!(breaker.at(ahead(phase), at(HOUR)).phase != phase, is_moved, "{phase:?}");
    }
    let longest = HOUR + 72 * SECOND + SECOND;
    for (until, is_moved) in [(longest, false), (longest + 1, true)] {
        let phase = Phase::Open { until: at(until), reason: TripReason::ProbeLost };
        assert_eq!(breaker.at(ahead(phase), at(HOUR)).phase != phase, is_moved, "{until}");
    }
    // A copy from the future is no copy.
    let mut watch = Watch::default();
    watch.saw(State::default(), at(HOUR));
    assert!(watch.is_fresh(&breaker, at(HOUR)) && watch.is_fresh(&breaker, at(HOUR + nanos(MAX_AGE) - 1)));
    assert!(!watch.is_fresh(&breaker, at(HOUR - 1)) && !watch.is_fresh(&breaker, at(HOUR + nanos(MAX_AGE))));
    watch.saw(ahead(Phase::HalfOpen(Probing::default())), at(HOUR));
    assert!(
        watch.is_fresh(&breaker, at(HOUR + nanos(MAX_AGE_CLOSE) - 1))
            && !watch.is_fresh(&breaker, at(HOUR + nanos(MAX_AGE_CLOSE)))
    );
}

// === a configuration update ===

#[test]
fn new_parameters_hold_at_once_and_the_state_goes_on() {
    let host = MemoryHost::new();
    let watches = Watches::default();
    let latest: Latest<Breaker> = Latest::default();
    let telemetry = Telemetry::default();
    let make = |settings: &Settings| {
        let breaker = breaker(settings);
        latest.announce(RECORD, breaker);
        Watched::new(RECORD.to_owned(), latest.of(RECORD, breaker), &watches)
    };
    let fail = |watched: &Watched| {
        let now = host.now();
        let admission = watched.claim(&Cx::at(&*host, &telemetry, now)).value.unwrap();
        watched.report(&Cx::at(&*host, &telemetry, now), admission, &FAILED).changes
    };
    let old = make(&Settings { consecutive_failures: Some(5), max_open_for: seconds(60), ..Settings::default() });
    assert_eq!([fail(&old), fail(&old)].concat(), []);
    // What failed under the old configuration counts under the new one, also with another window; and the new one's limit
    // holds for requests of the old one.
    let new = make(&Settings {
        consecutive_failures: Some(4),
        failure_ratio: Some(0.5),
        window: seconds(30),
        ..Settings::default()
    });
    assert_eq!(fail(&new), []);
    let changes = fail(&old);
    assert_eq!(changes, [Change { transition: Transition::Opened(TripReason::ConsecutiveFailures), by: By::Us }]);
    assert_eq!(new.latest(), changes[0].transition);
    // Open for less at most: pulled in.
    let now = host.now();
    let short = Settings { open_for: millis(100), max_open_for: millis(200), probes: 3, ..Settings::default() };
    let new = make(&short);
    assert_eq!(new.peek(&Cx::at(&*host, &telemetry, now)).value, Err(Refusal { retry_after: millis(100) }));
    // Half-open, and as many probes as are needed now succeeded before: that is enough.
    host.advance(nanos(millis(100)));
    let now = host.now();
    let probe = |watched: &Watched| {
        let probe = watched.claim(&Cx::at(&*host, &telemetry, now)).value.unwrap();
        watched.report(&Cx::at(&*host, &telemetry, now), probe, &OK).changes
    };
    assert_eq!([probe(&new), probe(&new)].concat(), []);
    let new = make(&Settings { probes: 2, ..short });
    let changes = new.peek(&Cx::at(&*host, &telemetry, now)).changes;
    assert_eq!(changes, [Change { transition: Transition::Ramped, by: By::Us }]);

    // Nothing trips a breaker without conditions, and nothing is published.
    let none = make(&Settings::default());
    host.advance(nanos(RAMP));
    assert_eq!(none.peek(&Cx::at(&*host, &telemetry, host.now())).changes.len(), 1, "closed");
    take_shared_calls(&host);
    for _ in 0..100 {
        assert_eq!(fail(&none), []);
    }
    assert_eq!(take_shared_calls(&host), 0);
}
