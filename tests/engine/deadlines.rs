//! Deadlines: how much time a request has, what it passes on, and whether it needs more.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::time::Duration;

use crate::common::Random;
use outrigger::headers::Headers;
use outrigger::operation::request::Request;
use outrigger::retry::deadline::{self, Deadline, DeadlineRule, LONGEST};
use outrigger::retry::usual::{HALF_LIFE, MAX_SUCCESSES, MIN_SUCCESSES, Room, TRIAL_EVERY, UsualTime};
use outrigger::time::Timestamp;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const START: u64 = 1_000 * SECOND;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rule() -> DeadlineRule {
    DeadlineRule { header: Some("x-request-timeout-ms".into()), default: Some(millis(3_000)) }
}

fn read(rule: &DeadlineRule, headers: &[(&str, &str)]) -> Option<Deadline> {
    rule.read(&Request::read(&Headers::from_pairs(headers)), at(START))
}

/// The milliseconds that a request has by these headers alone, at first; `Some(0)` for none.
fn has(headers: &[(&str, &str)]) -> Option<u128> {
    let rule = DeadlineRule { default: None, ..rule() };
    read(&rule, headers).map(|deadline| deadline.left(at(START)).unwrap_or_default().as_millis())
}

// === what requests say ===

#[test]
fn the_smallest_counts() {
    let all = [("grpc-timeout", "700m"), ("x-envoy-expected-rq-timeout-ms", "600"), ("x-request-timeout-ms", "500")];
    assert_eq!(has(&[]), None);
    assert_eq!(has(&all), Some(500));
    assert_eq!(has(&all[..2]), Some(600));
    assert_eq!(has(&all[..1]), Some(700));
    assert_eq!(has(&[all[1], all[0]]), Some(600));
    let left = |headers: &[(&str, &str)]| read(&rule(), headers).unwrap().left(at(START)).unwrap();
    assert_eq!(left(&[]), millis(3_000));
    assert_eq!(left(&all[..1]), millis(700));
    assert_eq!(left(&[("x-request-timeout-ms", "3001")]), millis(3_000), "the default is the most there is");
}

#[test]
fn milliseconds_are_digits() {
    for (value, expected) in [
        ("1", Some(1)),
        ("0", Some(0)),
        ("007", Some(7)),
        ("86400000", Some(86_400_000)),
        ("86400001", None),
        ("18446744073709551615", None),
        ("18446744073709551616", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        // Blanks around a value are no part of it.
        (" 1", Some(1)),
        ("1\t ", Some(1)),
        ("1 0", None),
        ("", None),
        ("1s", None),
        ("soon", None),
        ("١", None),
    ] {
        for header in ["x-request-timeout-ms", "x-envoy-expected-rq-timeout-ms"] {
            assert_eq!(has(&[(header, value)]), expected, "{header}: {value:?}");
        }
    }
    assert_eq!(has(&[("x-request-timeout-ms", "5"), ("x-request-timeout-ms", "3")]), Some(5), "the first");
}

#[test]
fn grpc_timeouts_have_a_unit() {
    for (value, expected) in [
        ("2H", Some(7_200_000)),
        ("24H", Some(86_400_000)),
        ("25H", None),
        ("99999999H", None),
        ("3M", Some(180_000)),
        ("5S", Some(5_000)),
        ("5m", Some(5)),
        ("5000u", Some(5)),
        ("5000000n", Some(5)),
        ("999999n", Some(0)),
        ("99999999n", Some(99)),
        ("0S", Some(0)),
        ("123456789n", None),
        ("5", None),
        ("m", None),
        ("", None),
        ("-5m", None),
        ("+5m", None),
        ("5s", None),
        ("5 m", None),
    ] {
        assert_eq!(has(&[("grpc-timeout", value)]), expected, "{value:?}");
    }
}

#[test]
fn without_a_rule_the_standard_headers_are_known() {
    let known = |headers: &[(&str, &str)]| deadline::known(&Request::read(&Headers::from_pairs(headers)));
    assert_eq!(known(&[("x-request-timeout-ms", "5")]), None);
    assert_eq!(known(&[("grpc-timeout", "5m"), ("x-envoy-expected-rq-timeout-ms", "6")]), Some(millis(5)));
    assert_eq!(known(&[("grpc-timeout", "5x"), ("x-envoy-expected-rq-timeout-ms", "6")]), Some(millis(6)));
}

#[test]
fn noise_is_no_deadline_or_a_sensible_one() {
    let mut random = Random::seeded(5);
    for _ in 0..20_000 {
        let length = random.below(12) as usize;
        let alphabet = b"0123456789HMSmun+-. \xff";
        let value: Vec<u8> = (0..length).map(|_| alphabet[random.below(alphabet.len() as u64) as usize]).collect();
        let headers =
            Headers::from_pairs(&[("grpc-timeout", value.as_slice()), ("x-request-timeout-ms", value.as_slice())]);
        let deadline = DeadlineRule { default: None, ..rule() }.read(&Request::read(&headers), at(START));
        if let Some(left) = deadline.and_then(|it| it.left(at(START))) {
            assert!(millis(1) <= left && left <= LONGEST, "{value:?}");
        }
    }
}

// === what is left ===

#[test]
fn what_is_left_is_less_what_has_passed() {
    let deadline = read(&rule(), &[("x-request-timeout-ms", "100")]).unwrap();
    let left = |passed: u64| deadline.left(at(START + passed));
    assert_eq!(left(0), Some(millis(100)));
    assert_eq!(left(1), Some(millis(100) - Duration::from_nanos(1)));
    assert_eq!(left(99 * MILLISECOND), Some(millis(1)));
    assert_eq!(left(99 * MILLISECOND + 1), None, "the router could not count that");
    assert_eq!(left(100 * MILLISECOND), None);
    assert_eq!(left(u64::MAX - START), None);
    // A clock that goes back gives nobody more.
    assert_eq!(deadline.left(at(START - SECOND)), Some(millis(100)));
    assert_eq!(deadline.left(at(0)), Some(millis(100)));
}

#[test]
fn no_time_at_first_is_no_time_ever() {
    for headers in [[("x-request-timeout-ms", "0")], [("grpc-timeout", "0m")], [("grpc-timeout", "999u")]] {
        assert_eq!(read(&rule(), &headers).unwrap().left(at(START)), None, "{headers:?}");
    }
}

#[test]
fn what_is_left_is_passed_on_in_the_same_headers() {
    let fields = |rule: &DeadlineRule, headers: &[(&str, &str)], passed: u64| -> Vec<String> {
        let deadline = read(rule, headers).unwrap();
        let fields = deadline.fields(rule, deadline.left(at(START + passed)).unwrap());
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    };
    let all = [("grpc-timeout", "1S"), ("x-envoy-expected-rq-timeout-ms", "600"), ("x-request-timeout-ms", "500")];
    let expected = ["x-request-timeout-ms: 399", "x-envoy-expected-rq-timeout-ms: 399", "grpc-timeout: 399m"];
    assert_eq!(fields(&rule(), &all, 100 * MILLISECOND + 1), expected, "rounded down");
    // The rule's header begins here if it did not before; nobody asked for the others.
    assert_eq!(fields(&rule(), &[], 0), ["x-request-timeout-ms: 3000"]);
    assert_eq!(fields(&rule(), &[("grpc-timeout", "rubbish")], 0), ["x-request-timeout-ms: 3000"]);
    let bare = DeadlineRule::default();
    assert_eq!(fields(&bare, &all[..1], 0), ["grpc-timeout: 1000m"]);
    // The longest has eight digits, as many as gRPC allows.
    assert_eq!(fields(&bare, &[("grpc-timeout", "24H")], 0), ["grpc-timeout: 86400000m"]);
}

// === the usual time ===

/// 100 ms lie in the bucket from here.
const EDGE: Duration = Duration::from_micros(98_304);

fn known(took: Duration, times: u32) -> UsualTime {
    let mut usual = UsualTime::default();
    for _ in 0..times {
        usual.record(took, at(START), at(START));
    }
    usual
}

#[test]
fn fewer_than_twenty_successes_say_nothing() {
    let mut usual = known(millis(100), MIN_SUCCESSES - 1);
    assert_eq!(usual.time(at(START)), None);
    assert_eq!(usual.judge(millis(1), at(START)), Room::Enough);
    usual.record(millis(100), at(START), at(START));
    assert_eq!(usual.time(at(START)), Some(EDGE));
}

#[test]
fn exactly_the_usual_time_is_enough() {
    let mut usual = known(millis(100), 100);
    assert_eq!(usual.judge(EDGE, at(START)), Room::Enough);
    assert_eq!(usual.judge(EDGE - Duration::from_nanos(1), at(START)), Room::Trial);
    assert_eq!(usual.judge(EDGE - Duration::from_nanos(1), at(START)), Room::TooLittle);
    assert_eq!(usual.judge(EDGE, at(START)), Room::Enough);
}

#[test]
fn it_is_the_lower_quartile_within_an_eighth() {
    let mut random = Random::seeded(9);
    for scale in [2 * MILLISECOND, 50 * MILLISECOND, 3 * SECOND, 600 * SECOND] {
        let mut usual = UsualTime::default();
        let mut all: Vec<u64> = (0..400).map(|_| scale + random.below(20) * random.below(scale)).collect();
        for took in &all {
            usual.record(Duration::from_nanos(*took), at(START), at(START));
        }
        all.sort_unstable();
        let quartile = Duration::from_nanos(all[99]);
        let measured = usual.time(at(START)).unwrap();
        assert!(measured <= quartile && quartile * 8 <= measured * 9, "{measured:?} for {quartile:?}");
    }
}

#[test]
fn a_third_that_is_fast_makes_room_for_all() {
    let mut usual = known(millis(500), 200);
    assert_eq!(usual.judge(millis(20), at(START)), Room::Trial);
    for _ in 0..100 {
        usual.record(millis(5), at(START), at(START));
    }
    assert_eq!(usual.judge(millis(20), at(START)), Room::Enough);
}

#[test]
fn the_shortest_and_the_longest_have_buckets() {
    for (took, expected) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_micros(1_023), Duration::ZERO),
        (Duration::from_micros(1_024), Duration::from_micros(1_024)),
        (Duration::from_micros(1_151), Duration::from_micros(1_024)),
        (Duration::from_micros(1_152), Duration::from_micros(1_152)),
        (Duration::from_micros((1 << 32) - 1), Duration::from_micros(15 << 28)),
        (Duration::from_micros(1 << 32), Duration::from_micros(1 << 32)),
        (Duration::MAX, Duration::from_micros(1 << 32)),
    ] {
        assert_eq!(known(took, 20).time(at(START)), Some(expected), "{took:?}");
    }
}

#[test]
fn what_is_known_fades() {
    let mut usual = known(millis(100), 4 * MIN_SUCCESSES);
    let half_life = u64::try_from(HALF_LIFE.as_nanos()).unwrap();
    // `START` is a multiple of the half-life, at which successes are halved.
    assert!(START.is_multiple_of(half_life));
    assert_eq!(usual.time(at(START + 3 * half_life - 1)), Some(EDGE), "a quarter");
    assert_eq!(usual.time(at(START + 3 * half_life)), None, "an eighth");
    // It fades if nobody looks, too, and without end.
    assert_eq!(known(millis(100), 500).time(at(START + 5 * half_life)), None);
    assert_eq!(known(millis(100), 500).time(at(u64::MAX)), None);
}

#[test]
fn after_a_step_back_of_the_clock_it_fades_from_there() {
    let mut usual = known(millis(100), 4 * MIN_SUCCESSES);
    let half_life = u64::try_from(HALF_LIFE.as_nanos()).unwrap();
    assert_eq!(usual.time(at(SECOND)), Some(EDGE));
    assert_eq!(usual.time(at(SECOND + 3 * half_life - 1)), Some(EDGE));
    assert_eq!(usual.time(at(SECOND + 3 * half_life)), None);
}

#[test]
fn one_request_a_second_is_let_through() {
    let mut usual = known(millis(100), 100);
    let every = u64::try_from(TRIAL_EVERY.as_nanos()).unwrap();
    assert_eq!(usual.judge(millis(1), at(START)), Room::Trial);
    assert_eq!(usual.judge(millis(1), at(START + every - 1)), Room::TooLittle);
    assert_eq!(usual.judge(millis(1), at(START + every)), Room::Trial);
    assert_eq!(usual.judge(millis(1), at(START + every + 1)), Room::TooLittle);
    // The clock goes back: nobody waits for it.
    assert_eq!(usual.judge(millis(1), at(START - SECOND)), Room::Trial);
    assert_eq!(usual.judge(millis(1), at(START - SECOND + 1)), Room::TooLittle);
}

/// What refuses a trial after all leaves the next one to another request.
#[test]
fn a_trial_that_is_given_back_is_the_next_requests() {
    let mut usual = UsualTime::default();
    for _ in 0..MIN_SUCCESSES {
        usual.record(millis(200), at(START), at(START));
    }
    for now in [START, START + 1, START + 2] {
        assert_eq!(usual.judge(millis(1), at(now)), Room::Trial);
        assert_eq!(usual.judge(millis(1), at(now)), Room::TooLittle);
        usual.give_back(at(now));
    }
    // One that is given back late takes nothing from a later one.
    assert_eq!(usual.judge(millis(1), at(START)), Room::Trial);
    let later = START + u64::try_from(TRIAL_EVERY.as_nanos()).unwrap();
    assert_eq!(usual.judge(millis(1), at(later)), Room::Trial);
    usual.give_back(at(START));
    assert_eq!(usual.judge(millis(1), at(later)), Room::TooLittle);
}

/// A busy service that took 900 ms becomes fast. All callers have 200 ms: none would be let through but for the trials.
#[test]
fn it_cannot_lock_itself_shut() {
    for rate in [2, 10, 1_000] {
        let mut usual = UsualTime::default();
        for request in 0..60 * rate {
            usual.record(millis(900), at(START + request * SECOND / rate), at(START + request * SECOND / rate));
        }
        let start = START + 60 * SECOND;
        let mut refused_last = start;
        let mut trials = 0;
        for request in 0..120 * rate {
            let now = start + request * SECOND / rate;
            match usual.judge(millis(200), at(now)) {
                Room::TooLittle => refused_last = now,
                Room::Trial => {
                    trials += 1;
                    usual.record(millis(10), at(now), at(now));
                }
                Room::Enough => usual.record(millis(10), at(now), at(now)),
            }
        }
        let shut = (refused_last - start) / SECOND;
        assert!((1..=60).contains(&shut), "{rate}/s: {shut} s");
        assert!(shut <= trials, "{trials} trials in {shut} s");
    }
}

/// A stream that ends long after its headers says how long those took then, not now.
#[test]
fn a_success_that_is_heard_of_late_has_faded_since_it_happened() {
    let mut random = Random::seeded(5);
    for _ in 0..200 {
        let (mut told, mut late) = (UsualTime::default(), UsualTime::default());
        let mut successes: Vec<(u64, Duration)> =
            (0..400).map(|_| (START + random.below(60 * SECOND), millis(1 + random.below(1_000)))).collect();
        successes.sort_unstable();
        let end = START + 60 * SECOND;
        for (then, took) in &successes {
            told.record(*took, at(*then), at(*then));
        }
        for (then, took) in successes {
            late.record(took, at(then), at(end));
        }
        assert_eq!(late.time(at(end)), told.time(at(end)));
    }
}

#[test]
fn a_busy_hour_weighs_no_more_than_so_many_successes() {
    let mut usual = known(millis(900), 100_000);
    // A third of the most and one more are a quarter of all.
    for _ in 0..MAX_SUCCESSES / 3 + 1 {
        usual.record(millis(10), at(START), at(START));
    }
    assert!(usual.time(at(START)).unwrap() <= millis(10));
}

#[test]
fn any_clock_will_do() {
    let mut random = Random::seeded(3);
    let mut usual = UsualTime::default();
    for _ in 0..20_000 {
        let now = at(random.next() >> random.below(64));
        match random.below(3) {
            0 => usual.record(Duration::from_nanos(random.next() >> random.below(64)), now, now),
            1 => assert!(usual.time(now).is_none_or(|it| it <= Duration::from_micros(1 << 32))),
            _ => assert_eq!(usual.judge(LONGEST, now), Room::Enough),
        }
    }
}
