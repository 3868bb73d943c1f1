//! The token bucket: the pure policy against a model that is obviously right, and the bucket that workers share.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::common::bound::{Admitted, excess, overload_with_late_clocks};
use crate::common::interleaving::{Race, in_every_order};
use crate::common::{MemoryHost, Random};
use outrigger::cx::{Cx, Telemetry};
use outrigger::host::{Host, HostError};
use outrigger::limit::token_bucket::{MAX_FILL_TIME, MAX_TOKENS_PER_SEC, Tat, TokenBucket, Unrepresentable};
use outrigger::shared::failure_mode::FailureMode;
use outrigger::shared::meter::{Denial, Grant, Meter, Stamp};
use outrigger::shared::record::MAX_ATTEMPTS;
use outrigger::shared::single::Single;
use outrigger::time::Timestamp;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const HOUR: u64 = 3_600 * SECOND;

/// Resolution of states and emissions.
const TICKS: u64 = 16;

fn at(nanos: u64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn bucket(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> TokenBucket {
    TokenBucket::new(max_tokens, tokens_per_fill, fill_interval).unwrap()
}

/// Most tests: 20 tokens, one more every 100 ms.
fn ordinary() -> TokenBucket {
    bucket(20, 10, Duration::from_secs(1))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// A number below `bound` whose size, not only whose value, is random.
fn log_below(random: &mut Random, bound: u64) -> u64 {
    let bits = random.below(u64::from(bound.ilog2()) + 1);
    random.below(1 << bits << 1) % bound
}

/// A bucket at random, from a token a month to a token a nanosecond.
fn any_bucket(random: &mut Random) -> TokenBucket {
    loop {
        let max_tokens = 1 + log_below(random, 1_000_000_000) as u32;
        let tokens_per_fill = 1 + log_below(random, 1_000_000_000) as u32;
        let interval = Duration::from_nanos(MILLISECOND + log_below(random, 30 * 24 * HOUR));
        if let Ok(bucket) = TokenBucket::new(max_tokens, tokens_per_fill, interval) {
            return bucket;
        }
    }
}

/// A state that the bucket can have at `now`: full for some time up to empty.
fn any_state(random: &mut Random, bucket: &TokenBucket, now: u64) -> Tat {
    let empty = bucket.exhausted(at(now)).to_bits();
    match random.below(8) {
        0 => Tat::FULL,
        1 => Tat::from_bits(empty),
        2 => Tat::from_bits(empty - random.below(bucket.stamp().pace)),
        _ => Tat::from_bits(empty - random.below(empty - now * TICKS + 1)),
    }
}

// === against the model ===============================================================================================

/// The textbook's bucket in whole numbers: a level, and when it was last filled up. A token is `token` parts, and every
/// nanosecond adds `parts_per_nano`.
struct Model {
    token: u128,
    parts_per_nano: u128,
    size: u128,
    level: u128,
    filled_at: u64,
}

impl Model {
    /// What the configuration says, word for word.
    fn exact(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Self {
        Self::full(max_tokens.into(), fill_interval.as_nanos(), tokens_per_fill.into())
    }

    /// The same with the time for a token rounded up to the next sixteenth of a nanosecond, as the policy says it does.
    fn rounded(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Self {
        let ticks = fill_interval.as_nanos() * u128::from(TICKS);
        Self::full(max_tokens.into(), ticks.div_ceil(tokens_per_fill.into()), TICKS.into())
    }

    fn full(max_tokens: u128, token: u128, parts_per_nano: u128) -> Self {
        let size = max_tokens * token;
        Self { token, parts_per_nano, size, level: size, filled_at: 0 }
    }

    /// Answers with the tokens that remain, or why there are too few.
    fn take(&mut self, cost: u64, now: u64) -> Result<u64, Denial> {
        self.level += u128::from(now - self.filled_at) * self.parts_per_nano;
        self.level = self.level.min(self.size);
        self.filled_at = now;
        let wanted = u128::from(cost) * self.token;
        if self.level < wanted {
            let missing = (wanted - self.level).div_ceil(self.parts_per_nano);
            let retry_after = Duration::from_nanos(missing as u64);
            return Err(Denial {
                remaining: self.remaining(),
                retry_after: (wanted <= self.size).then_some(retry_after),
            });
        }
        self.level -= wanted;
        Ok(self.remaining())
    }

    fn give_back(&mut self, cost: u64) {
        self.level = (self.level + u128::from(cost) * self.token).min(self.size);
    }

    fn remaining(&self) -> u64 {
        (self.level / self.token) as u64
    }
}

/// Takes and gives back at random; the policy must answer exactly like the model.
fn walk_with_model(bucket: TokenBucket, mut model: Model, steps: u32, seed: u64) {
    let mut random = Random::seeded(seed);
    let (emission, size) = (bucket.stamp().pace / TICKS + 1, bucket.max_tokens());
    let mut now = random.below(SECOND);
    let mut tat = Tat::FULL;
    let mut promise = 0;
    for step in 0..steps {
        if 1 << 59 < now {
            // Half of the time that a state can express. Start anew.
            (now, tat) = (random.below(SECOND), Tat::FULL);
            model = Model::full(size.into(), model.token, model.parts_per_nano);
        }
        now += match random.below(8) {
            0 | 1 => 0,
            2 => random.below(1_000),
            3 => promise,
            4 => promise.saturating_sub(1),
            5 => random.below(3 * emission),
            6 => random.below(nanos(bucket.fill_time())),
            _ => log_below(&mut random, size + 2) * emission,
        };
        let cost = match random.below(8) {
            0..4 => 1,
            4 => random.below(3),
            5 => random.below(size + 2),
            6 => 1 + random.below(size.min(10)),
            _ => size,
        };
        let answer = bucket.take(tat, cost, at(now));
        let expected = model.take(cost, now);
        let context = || format!("{bucket:?}, seed {seed}, step {step}, cost {cost} at {now}");
        assert_eq!(answer.map(|grant| grant.remaining), expected, "{}", context());
        match answer {
            Ok(grant) => tat = grant.state,
            Err(denial) => promise = nanos(denial.retry_after.unwrap_or_default()),
        }
        if answer.is_ok() && random.below(8) == 0 {
            tat = bucket.refund(tat, cost, at(0));
            model.give_back(cost);
        }
    }
}

#[test]
fn decides_like_a_textbook_bucket_where_the_rate_is_exact() {
    let cases = [
        (20, 10, Duration::from_secs(1)),
        (1, 1, Duration::from_secs(1)),
        (1, 1, Duration::from_millis(1)),
        (100, 100, Duration::from_secs(60)),
        (4_096, 1_000, Duration::from_millis(250)),
        (12, 1, MAX_FILL_TIME / 12),
        (1_000_000_000, 1_000_000_000, Duration::from_secs(1)),
        (u32::MAX, 1_000_000, Duration::from_millis(1)),
    ];
    for (seed, (max_tokens, tokens_per_fill, interval)) in (1..).zip(cases) {
        let model = Model::exact(max_tokens, tokens_per_fill, interval);
        walk_with_model(bucket(max_tokens, tokens_per_fill, interval), model, 20_000, seed);
    }
}

#[test]
fn decides_like_a_textbook_bucket_whose_rate_is_rounded_down_as_documented() {
    let cases = [
        (5, 3, Duration::from_secs(1)),
        (1_000, 7, Duration::from_millis(100)),
        (1, 999, Duration::from_millis(1)),
        (100, 49, Duration::from_secs(3_600)),
        (50_000_000, 300_000_001, Duration::from_secs(1)),
        (7, 11, Duration::from_nanos(1_000_003)),
    ];
    for (seed, (max_tokens, tokens_per_fill, interval)) in (101..).zip(cases) {
        let model = Model::rounded(max_tokens, tokens_per_fill, interval);
        walk_with_model(bucket(max_tokens, tokens_per_fill, interval), model, 20_000, seed);
    }
}

#[test]
fn decides_like_a_textbook_bucket_at_random_sizes_and_rates() {
    let mut random = Random::seeded(7);
    for seed in 1_000..1_500 {
        let bucket = any_bucket(&mut random);
        let token = bucket.stamp().pace.into();
        let model = Model::full(bucket.max_tokens().into(), token, TICKS.into());
        walk_with_model(bucket, model, 60, seed);
    }
}

// === waits ===========================================================================================================

/// Calls `check` with random buckets, states, costs that were refused, and how long to wait.
fn for_random_refusals(seed: u64, mut check: impl FnMut(&TokenBucket, Tat, u64, u64, u64)) {
    let mut random = Random::seeded(seed);
    let mut refusals = 0;
    while refusals < 5_000 {
        let bucket = any_bucket(&mut random);
        let now = log_below(&mut random, 1 << 55);
        let tat = any_state(&mut random, &bucket, now);
        let cost = 1 + log_below(&mut random, bucket.max_tokens());
        if let Err(Denial { retry_after: Some(wait), .. }) = bucket.take(tat, cost, at(now)) {
            check(&bucket, tat, cost, now, nanos(wait));
            refusals += 1;
        }
    }
}

#[test]
fn refuses_one_nanosecond_before_retry_after() {
    for_random_refusals(11, |bucket, tat, cost, now, wait| {
        let early = bucket.take(tat, cost, at(now + wait - 1));
        let context = format!("{bucket:?}, {tat:?}, cost {cost} at {now}, wait {wait}, seed 11");
        let left = Duration::from_nanos(1);
        assert!(early.is_err_and(|denial| wait == 1 || denial.retry_after == Some(left)), "{context}: {early:?}");
    });
}

#[test]
fn admits_exactly_at_retry_after() {
    for_random_refusals(12, |bucket, tat, cost, now, wait| {
        let in_time = bucket.take(tat, cost, at(now + wait));
        assert!(in_time.is_ok(), "{bucket:?}, {tat:?}, cost {cost} at {now}, wait {wait}, seed 12: {in_time:?}");
    });
}

#[test]
fn has_what_it_says_remains_and_not_one_more() {
    let mut random = Random::seeded(13);
    for step in 0..5_000 {
        let bucket = any_bucket(&mut random);
        let now = log_below(&mut random, 1 << 55);
        let tat = any_state(&mut random, &bucket, now);
        let left = match bucket.take(tat, 1, at(now)) {
            Ok(Grant { state, remaining, .. }) => (state, remaining),
            Err(denial) => (tat, denial.remaining),
        };
        let context = format!("{bucket:?}, {tat:?} at {now}, step {step}, seed 13");
        assert!(bucket.take(left.0, left.1, at(now)).is_ok_and(|grant| grant.remaining == 0), "{context}");
        assert!(bucket.take(left.0, left.1 + 1, at(now)).is_err(), "{context}");
    }
}

#[test]
fn a_cost_above_the_size_never_passes_and_takes_nothing() {
    let mut random = Random::seeded(14);
    for step in 0..5_000 {
        let bucket = any_bucket(&mut random);
        let now = log_below(&mut random, 1 << 55);
        let tat = any_state(&mut random, &bucket, now);
        let cost = match random.below(3) {
            0 => bucket.max_tokens() + 1,
            1 => bucket.max_tokens() + 1 + random.below(1 << 40),
            _ => u64::MAX,
        };
        let remaining = bucket.take(tat, 0, at(now)).unwrap().remaining;
        let expected = Err(Denial { remaining, retry_after: None });
        assert_eq!(bucket.take(tat, cost, at(now)), expected, "{bucket:?}, cost {cost}, step {step}, seed 14");
    }
}

#[test]
fn admits_its_whole_size_after_one_fill_time_and_not_a_token_more() {
    let mut random = Random::seeded(15);
    for step in 0..5_000 {
        let bucket = any_bucket(&mut random);
        let now = log_below(&mut random, 1 << 55);
        let later = at(now + nanos(bucket.fill_time()));
        let context = format!("{bucket:?}, step {step}, seed 15");
        let all = bucket.take(bucket.exhausted(at(now)), bucket.max_tokens(), later);
        let grant = all.unwrap_or_else(|denial| panic!("{context}: {denial:?}"));
        assert!(bucket.take(grant.state, 1, later).is_err(), "{context}");
        let barely = at(now + nanos(bucket.fill_time()) - 1);
        assert!(bucket.take(bucket.exhausted(at(now)), bucket.max_tokens(), barely).is_err(), "{context}");
    }
}

// === the bound =======================================================================================================

/// Buckets whose tokens come more slowly, about as fast, and much faster than clocks are late.
fn buckets_for_late_clocks() -> [TokenBucket; 5] {
    [
        bucket(1, 10, Duration::from_secs(1)),
        bucket(20, 100, Duration::from_secs(1)),
        bucket(5, 1_000, Duration::from_secs(1)),
        bucket(100, 1_000, Duration::from_secs(1)),
        bucket(3, 30_001, Duration::from_secs(1)),
    ]
}

#[test]
fn no_interval_admits_more_than_size_plus_rate_whatever_the_order_of_clocks() {
    for (seed, bucket) in (21..).zip(buckets_for_late_clocks()) {
        let mut tat = Tat::FULL;
        overload_with_late_clocks(seed, &bucket, |cost, now| match bucket.take(tat, cost, at(now)) {
            Ok(grant) => {
                tat = grant.state;
                true
            }
            Err(_) => false,
        });
    }
}

/// As above, on the shared record: whatever a refusal does to it must not be worth tokens.
#[test]
fn no_interval_of_a_shared_bucket_admits_more_than_size_plus_rate_whatever_the_order_of_clocks() {
    for (seed, bucket) in (31..).zip(buckets_for_late_clocks()) {
        let shared = Shared::new(bucket);
        overload_with_late_clocks(seed, &bucket, |cost, now| shared.take(cost, now).is_ok());
    }
}

// === refund, adoption, limits of what can be represented =============================================================

#[test]
fn a_refund_gives_back_exactly_what_was_taken() {
    let mut random = Random::seeded(41);
    let mut taken = 0;
    while taken < 5_000 {
        let bucket = any_bucket(&mut random);
        let now = log_below(&mut random, 1 << 55);
        let before = any_state(&mut random, &bucket, now);
        let cost = log_below(&mut random, bucket.max_tokens()) + 1;
        let Ok(grant) = bucket.take(before, cost, at(now)) else {
            continue;
        };
        taken += 1;
        let after = bucket.refund(grant.state, cost, at(0));
        let context = format!("{bucket:?}, {before:?}, cost {cost} at {now}, seed 41");
        for later in [now, now + 1, now + random.below(2 * nanos(bucket.fill_time()))] {
            for asked in [0, 1, cost, bucket.max_tokens()] {
                let (untouched, refunded) =
                    (bucket.take(before, asked, at(later)), bucket.take(after, asked, at(later)));
                assert_eq!(untouched, refunded, "{context}, {asked} asked at {later}");
            }
        }
    }
}

#[test]
fn a_refund_never_makes_a_bucket_more_than_full() {
    let bucket = ordinary();
    let full = bucket.refund(bucket.take(Tat::FULL, 3, at(SECOND)).unwrap().state, 1_000, at(0));
    assert_eq!(bucket.take(full, 0, at(SECOND)).unwrap().remaining, 20);
    assert!(bucket.take(full, 21, at(SECOND)).is_err());
    assert_eq!(bucket.refund(Tat::FULL, u64::MAX, at(0)), Tat::FULL);
}

/// Ticks until the bucket is full.
fn debt(tat: Tat, now: u64) -> u128 {
    u128::from(tat.to_bits().saturating_sub(now * TICKS))
}

#[test]
fn another_rate_and_size_keep_the_tokens_that_were_taken() {
    let mut random = Random::seeded(42);
    for step in 0..10_000 {
        let (old, new) = (any_bucket(&mut random), any_bucket(&mut random));
        let now = log_below(&mut random, 1 << 55);
        let before = any_state(&mut random, &old, now);
        let after = new.adopt(before, old.stamp(), at(now));
        let context = format!("{old:?} to {new:?}, {before:?} at {now}, step {step}, seed 42");

        // Tokens taken, as fractions: debt / emission.
        let (was, unit_was) = (debt(before, now), u128::from(old.stamp().pace));
        let (is, unit_is) = (debt(after, now), u128::from(new.stamp().pace));
        let empty = debt(new.exhausted(at(now)), now);
        match is < empty {
            true => assert!(was * unit_is <= is * unit_was, "{context}: a token came from nowhere"),
            false => assert!(empty * unit_was <= was * unit_is + unit_was, "{context}: tokens taken that were there"),
        }
        assert!(is * unit_was <= was * unit_is + unit_was, "{context}: more than a tick was lost");
        let remaining = new.take(after, 0, at(now)).unwrap().remaining;
        let right = u128::from(new.max_tokens()).saturating_sub(was.div_ceil(unit_was));
        assert!(u128::from(remaining) <= right + 1 && right <= u128::from(remaining) + 1, "{context}: {remaining}");
    }
}

#[test]
fn another_rate_and_size_there_and_back_lose_at_most_a_tick_each() {
    let mut random = Random::seeded(43);
    let mut kept = 0;
    while kept < 5_000 {
        let (here, there) = (any_bucket(&mut random), any_bucket(&mut random));
        let now = log_below(&mut random, 1 << 55);
        let before = any_state(&mut random, &here, now);
        let meanwhile = there.adopt(before, here.stamp(), at(now));
        if debt(meanwhile, now) == debt(there.exhausted(at(now)), now) {
            // It did not fit.
            continue;
        }
        kept += 1;
        let after = here.adopt(meanwhile, there.stamp(), at(now));
        let context = format!("{here:?} to {there:?}, {before:?} at {now}, seed 43");
        let (was, is) = (debt(before, now), debt(after, now));
        assert!(was <= is, "{context}: {is} is less than {was}");
        // A tick of `there` is this many of `here`, and rounding back costs one more.
        let tick = u128::from(here.stamp().pace).div_ceil(there.stamp().pace.into());
        assert!(is <= was + tick + 1, "{context}: {is} is more than {was} and {tick} + 1");
    }
}

#[test]
fn five_tokens_taken_stay_five_tokens_taken() {
    let old = ordinary();
    let tat = old.take(Tat::FULL, 5, at(SECOND)).unwrap().state;
    let remaining = |new: TokenBucket| {
        let adopted = new.adopt(tat, old.stamp(), at(SECOND));
        new.take(adopted, 0, at(SECOND)).unwrap().remaining
    };
    assert_eq!(remaining(old), 15, "the same");
    assert_eq!(remaining(bucket(100, 10, Duration::from_secs(1))), 95, "a larger one");
    assert_eq!(remaining(bucket(100, 1, Duration::from_secs(1))), 95, "a larger, slower one");
    assert_eq!(remaining(bucket(100, 5_000, Duration::from_secs(1))), 95, "a larger, faster one");
    assert_eq!(remaining(bucket(6, 10, Duration::from_secs(1))), 1, "a smaller one");
    assert_eq!(remaining(bucket(6, 10, Duration::from_secs(60))), 1, "a smaller, slower one");
    assert_eq!(remaining(bucket(5, 10, Duration::from_secs(1))), 0, "one in which they just fit");
    assert_eq!(remaining(bucket(2, 10, Duration::from_secs(1))), 0, "one in which they do not fit");
    assert_eq!(remaining(bucket(2, 7, Duration::from_secs(9))), 0, "a slower one in which they do not fit");
}

#[test]
fn refuses_parameters_that_cannot_be_kept() {
    let day = Duration::from_secs(24 * 60 * 60);
    let nano = Duration::from_nanos(1);
    let check = |max_tokens, tokens_per_fill, interval, expected: Result<(), Unrepresentable>| {
        let made = TokenBucket::new(max_tokens, tokens_per_fill, interval).map(|_| ());
        assert_eq!(made, expected, "{max_tokens} tokens, {tokens_per_fill} per {interval:?}");
    };
    check(0, 1, day, Err(Unrepresentable::Zero));
    check(1, 0, day, Err(Unrepresentable::Zero));
    check(1, 1, Duration::ZERO, Err(Unrepresentable::Zero));

    check(1, 1, nano, Ok(()));
    check(1, 2, nano, Err(Unrepresentable::TooFast));
    check(1, 1_000_000, Duration::from_millis(1), Ok(()));
    check(1, 1_000_001, Duration::from_millis(1), Err(Unrepresentable::TooFast));
    check(u32::MAX, MAX_TOKENS_PER_SEC as u32, Duration::from_secs(1), Ok(()));
    check(u32::MAX, MAX_TOKENS_PER_SEC as u32 + 1, Duration::from_secs(1), Err(Unrepresentable::TooFast));
    check(1, u32::MAX, Duration::from_nanos(u64::from(u32::MAX)), Ok(()));
    check(1, u32::MAX, Duration::from_nanos(u64::from(u32::MAX) - 1), Err(Unrepresentable::TooFast));

    check(1, 1, MAX_FILL_TIME, Ok(()));
    check(1, 1, MAX_FILL_TIME + nano, Err(Unrepresentable::TooSlow));
    check(366, 1, day, Ok(()));
    check(367, 1, day, Err(Unrepresentable::TooSlow));
    check(366, 2, 2 * day, Ok(()));
    check(u32::MAX, 1, day, Err(Unrepresentable::TooSlow));
    check(1, 1, Duration::MAX, Err(Unrepresentable::TooSlow));
    check(u32::MAX, u32::MAX, Duration::MAX, Err(Unrepresentable::TooSlow));
    check(1, u32::MAX, Duration::MAX, Err(Unrepresentable::TooSlow));
}

#[test]
fn fills_in_size_times_interval_over_rate() {
    let check = |max_tokens, tokens_per_fill, interval, expected| {
        assert_eq!(bucket(max_tokens, tokens_per_fill, interval).fill_time(), expected);
    };
    check(20, 10, Duration::from_secs(1), Duration::from_secs(2));
    check(1, 1, Duration::from_millis(1), Duration::from_millis(1));
    check(300, 100, Duration::from_secs(60), Duration::from_secs(180));
    check(1, 1, MAX_FILL_TIME, MAX_FILL_TIME);
    check(5, 1_000_000_000, Duration::from_secs(1), Duration::from_nanos(5));
    // Rounded up: the time for a token to a sixteenth of a nanosecond, the sum to a nanosecond.
    check(3, 3, Duration::from_secs(1), Duration::from_nanos(SECOND + 1));
    check(1_000, 3, Duration::from_secs(1), Duration::from_nanos(333_333_333_375));
}

// === states that nobody should have written ==========================================================================

const GARBAGE: [u64; 6] = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 0x5555_5555_5555_5555];

#[test]
fn no_state_and_no_clock_make_it_panic() {
    let mut random = Random::seeded(51);
    let edges = [0, 1, u64::MAX, u64::MAX - 1, u64::MAX / TICKS, u64::MAX / TICKS + 1, 1 << 63];
    let mut any = |edge: usize| *edges.get(edge).unwrap_or(&random.next());
    let mut random = Random::seeded(52);
    for _ in 0..20_000 {
        let mut pick = || any(random.below(edges.len() as u64 * 2) as usize);
        let (tat, cost, now, written) = (Tat::from_bits(pick()), pick(), at(pick()), pick().max(1));
        let bucket = any_bucket(&mut random);
        let _ = bucket.take(tat, cost, now);
        let _ = bucket.refund(tat, cost, at(0));
        let _ = bucket.adopt(tat, Stamp { size: written, pace: written }, now);
        let _ = bucket.exhausted(now);
        let _ = tat.is_full(now);
    }
}

#[test]
fn no_state_is_worth_more_tokens_than_the_bucket_holds() {
    let mut random = Random::seeded(53);
    for step in 0..5_000 {
        let bucket = any_bucket(&mut random);
        let now = at(log_below(&mut random, 1 << 55));
        let garbage = random.next() >> random.below(64);
        let mut tat = Tat::from_bits(*GARBAGE.get(step).unwrap_or(&garbage));
        let mut admitted = 0;
        for _ in 0..40 {
            let cost = 1 + log_below(&mut random, bucket.max_tokens());
            if let Ok(grant) = bucket.take(tat, cost, now) {
                tat = grant.state;
                admitted += cost;
            }
        }
        assert!(admitted <= bucket.max_tokens(), "{bucket:?}, {tat:?}, step {step}, seed 53: {admitted}");
    }
}

// === the shared bucket ===============================================================================================

const KEY: &str = "outrigger/test/token_bucket/limit";
const DECODE_ERRORS: &str = "call=.=shared_decode;.;outrigger_host_errors_total";
const CONFLICTS: &str = "call=.=token_bucket;.;outrigger_shared_conflicts_total";

/// A worker's view of a bucket on a proxy.
struct Shared {
    proxy: Rc<MemoryHost>,
    telemetry: Telemetry,
    bucket: Single<TokenBucket>,
}

impl Shared {
    fn new(bucket: TokenBucket) -> Self {
        Self::on(&MemoryHost::new(), bucket)
    }

    /// Another worker, perhaps of another configuration, on the same proxy.
    fn on(proxy: &Rc<MemoryHost>, bucket: TokenBucket) -> Self {
        Self::with(proxy, bucket, FailureMode::Allow)
    }

    fn with(proxy: &Rc<MemoryHost>, bucket: TokenBucket, mode: FailureMode) -> Self {
        let bucket = Single::new(KEY.to_owned(), bucket, mode);
        Self { proxy: Rc::clone(proxy), telemetry: Telemetry::default(), bucket }
    }

    fn try_take(&self, cost: u64, now: u64) -> Result<Result<Grant<Tat>, Denial>, HostError> {
        self.proxy.set_now(now);
        self.bucket.take(&Cx::at(&*self.proxy, &self.telemetry, at(now)), cost)
    }

    fn take(&self, cost: u64, now: u64) -> Result<Grant<Tat>, Denial> {
        self.try_take(cost, now).unwrap()
    }

    fn remaining(&self, now: u64) -> u64 {
        self.take(0, now).unwrap().remaining
    }

    fn refund(&self, cost: u64, now: u64) {
        self.bucket.refund(&Cx::at(&*self.proxy, &self.telemetry, at(now)), cost, at(now)).unwrap();
    }
}

/// A record as it is written.
fn good_record() -> Vec<u8> {
    let shared = Shared::new(ordinary());
    shared.take(1, SECOND).unwrap();
    shared.proxy.record(KEY).unwrap()
}

#[test]
fn an_uncontended_take_costs_one_read_and_one_write() {
    let shared = Shared::new(ordinary());
    for _ in 0..3 {
        shared.take(1, SECOND).unwrap();
        assert_eq!(shared.proxy.take_calls(), [("shared_get", 1), ("shared_set", 1)].into());
    }
}

#[test]
fn a_refusal_costs_one_read_and_writes_nothing() {
    let shared = Shared::new(ordinary());
    shared.take(20, SECOND).unwrap();
    let before = shared.proxy.records();
    shared.proxy.take_calls();
    assert_eq!(shared.take(1, SECOND), Err(Denial { remaining: 0, retry_after: Some(Duration::from_millis(100)) }));
    assert_eq!(shared.take(21, SECOND), Err(Denial { remaining: 0, retry_after: None }));
    assert_eq!(shared.proxy.take_calls(), [("shared_get", 2)].into());
    assert_eq!(shared.proxy.records(), before);
}

#[test]
fn a_refusal_creates_no_record() {
    let shared = Shared::new(ordinary());
    shared.take(21, SECOND).unwrap_err();
    assert_eq!(shared.proxy.records(), [].into());
}

#[test]
fn a_refund_is_seen_by_every_worker() {
    let one = Shared::new(ordinary());
    let other = Shared::on(&one.proxy, ordinary());
    one.take(20, SECOND).unwrap();
    other.take(3, SECOND).unwrap_err();
    one.refund(3, SECOND);
    assert_eq!(other.take(3, SECOND).unwrap().remaining, 0);
}

/// Workers that take tokens from one bucket, each with a clock of its own.
struct Takers {
    workers: Vec<Shared>,
    cost: u64,
    clocks: Vec<u64>,
}

impl Takers {
    fn new(bucket: TokenBucket, cost: u64, clocks: &[u64]) -> Self {
        let proxy = MemoryHost::new();
        let workers = clocks.iter().map(|_| Shared::on(&proxy, bucket)).collect();
        Self { workers, cost, clocks: clocks.to_vec() }
    }
}

impl Race for Takers {
    type Answer = Result<Grant<Tat>, Denial>;

    fn proxy(&self) -> &MemoryHost {
        &self.workers[0].proxy
    }

    fn step(&self, worker: usize, host: &dyn Host) -> Result<Self::Answer, HostError> {
        let Shared { bucket, telemetry, .. } = &self.workers[worker];
        bucket.take(&Cx::at(host, telemetry, at(self.clocks[worker])), self.cost)
    }
}

/// In every order of calls `expected` steps get tokens, and the record knows of each. Returns the number of orders.
fn race(bucket: TokenBucket, cost: u64, clocks: &[u64], steps: &[usize], expected: RangeInclusive<usize>) -> usize {
    let start = || Takers::new(bucket, cost, clocks);
    let mut conflicts = 0;
    let orders = in_every_order(steps, start, |course| {
        let admitted = course.answers.iter().flatten().filter(|answer| answer.is_ok()).count();
        assert!(expected.contains(&admitted), "{admitted} in order {:?}", course.order);
        let now = *clocks.iter().max().unwrap();
        let left = bucket.max_tokens() - admitted as u64 * cost;
        assert_eq!(course.race.workers[0].remaining(now), left, "in order {:?}", course.order);
        conflicts += course.race.proxy().metric(CONFLICTS);
    });
    assert!(conflicts > 0);
    orders
}

#[test]
fn two_workers_that_create_one_bucket_at_once_lose_no_debit() {
    let orders = race(bucket(4, 1, Duration::from_secs(1)), 1, &[SECOND; 2], &[3, 3], 4..=4);
    assert!(orders > 1_000, "{orders}");
    race(bucket(4, 1, Duration::from_secs(1)), 2, &[SECOND; 2], &[2, 2], 2..=2);
    race(bucket(20, 1, Duration::from_secs(1)), 1, &[SECOND; 2], &[3, 3], 6..=6);
}

#[test]
fn three_workers_that_create_one_bucket_at_once_lose_no_debit() {
    let orders = race(bucket(2, 1, Duration::from_secs(1)), 1, &[SECOND; 3], &[1, 1, 1], 2..=2);
    assert!(orders > 90, "{orders}");
    race(bucket(3, 1, Duration::from_secs(1)), 1, &[SECOND; 3], &[2, 1, 1], 3..=3);
}

#[test]
fn workers_with_different_clocks_lose_no_debit() {
    // The worker whose clock is late finds the last token only if it comes first.
    race(bucket(4, 1, Duration::from_secs(1)), 1, &[SECOND, SECOND - 10 * MILLISECOND], &[3, 3], 3..=4);
}

#[test]
fn contention_without_end_is_given_up() {
    let loser = Shared::new(bucket(1_000, 1, Duration::from_secs(1)));
    let winner = Shared::on(&loser.proxy, bucket(1_000, 1, Duration::from_secs(1)));
    loser.proxy.interfere(move |_| {
        winner.take(1, SECOND).unwrap();
    });
    let error = loser.try_take(100, SECOND).unwrap_err();
    assert_eq!(error.call, "shared_set_contended");
    let calls = loser.proxy.take_calls();
    // Each attempt: a read and a write of the loser, and one of each of the winner.
    assert_eq!(calls["shared_get"], 2 * MAX_ATTEMPTS as usize);
    assert_eq!(calls["shared_set"], 2 * MAX_ATTEMPTS as usize);
    assert_eq!(loser.proxy.metric(CONFLICTS), u64::from(MAX_ATTEMPTS));

    loser.proxy.interfere(|_| {});
    assert_eq!(loser.remaining(SECOND), 1_000 - u64::from(MAX_ATTEMPTS), "the loser wrote nothing");
}

#[test]
fn the_last_attempt_may_still_win() {
    let late = Shared::new(bucket(1_000, 1, Duration::from_secs(1)));
    let early = Shared::on(&late.proxy, bucket(1_000, 1, Duration::from_secs(1)));
    let mut left = MAX_ATTEMPTS - 1;
    late.proxy.interfere(move |_| {
        if left > 0 {
            left -= 1;
            early.take(1, SECOND).unwrap();
        }
    });
    let grant = late.take(100, SECOND).unwrap();
    assert_eq!(grant.remaining, 1_000 - 100 - u64::from(MAX_ATTEMPTS - 1));
    assert_eq!(late.proxy.metric(CONFLICTS), u64::from(MAX_ATTEMPTS - 1));
}

#[test]
fn a_call_that_the_proxy_refuses_is_an_error_and_changes_nothing() {
    for call in ["shared_get", "shared_set"] {
        let shared = Shared::new(ordinary());
        shared.take(5, SECOND).unwrap();
        let before = shared.proxy.records();
        shared.proxy.break_call(call);
        assert_eq!(shared.try_take(1, SECOND), Err(HostError { call, status: 10 }));
        shared.bucket.refund(&Cx::at(&*shared.proxy, &shared.telemetry, at(SECOND)), 1, at(SECOND)).unwrap_err();
        assert_eq!(shared.proxy.records(), before);
        shared.proxy.repair(call);
        assert_eq!(shared.take(1, SECOND).unwrap().remaining, 14);
    }
}

/// Shapes that nobody writes: other lengths, another version, parameters of zero.
fn undecodable() -> Vec<Vec<u8>> {
    let good = good_record();
    let another_version = [&[good[0] + 1], &good[1..]].concat();
    let longer = [&good[..], &[0]].concat();
    let shorter = good[..good.len() - 1].to_vec();
    let only_version = [&good[..1], &vec![0; good.len() - 1]].concat();
    let text = good.iter().map(|_| b'x').collect();
    vec![vec![0], good[..1].to_vec(), shorter, longer, another_version, only_version, vec![0; good.len()], text]
}

#[test]
fn a_limit_that_allows_takes_an_unreadable_record_for_a_full_bucket() {
    for bytes in undecodable() {
        let shared = Shared::new(ordinary());
        shared.proxy.put_record(KEY, &bytes);
        assert_eq!(shared.take(1, SECOND).unwrap().remaining, 19, "{bytes:?}");
        assert_eq!(shared.proxy.metric(DECODE_ERRORS), 1, "{bytes:?}");
        assert_eq!(shared.take(1, SECOND).unwrap().remaining, 18, "{bytes:?}: replaced");
        assert_eq!(shared.proxy.metric(DECODE_ERRORS), 1, "{bytes:?}: replaced");
    }
}

#[test]
fn a_limit_that_denies_takes_an_unreadable_record_for_an_empty_bucket() {
    for bytes in undecodable() {
        let shared = Shared::with(&MemoryHost::new(), ordinary(), FailureMode::Deny);
        shared.proxy.put_record(KEY, &bytes);
        let token = Duration::from_millis(100);
        assert_eq!(shared.take(1, SECOND), Err(Denial { remaining: 0, retry_after: Some(token) }), "{bytes:?}");
        assert_eq!(shared.proxy.metric(DECODE_ERRORS), 1, "{bytes:?}");
        let promised = SECOND + nanos(token);
        assert!(shared.take(1, promised - 1).is_err(), "{bytes:?}");
        assert_eq!(shared.take(1, promised).map(|grant| grant.remaining), Ok(0), "{bytes:?}: works again");
        assert_eq!(shared.proxy.metric(DECODE_ERRORS), 1, "{bytes:?}: replaced");
    }
}

#[test]
fn a_record_of_other_parameters_is_converted_when_a_request_needs_it() {
    let old = Shared::new(ordinary());
    old.take(5, SECOND).unwrap();
    let before = old.proxy.records();
    let new = Shared::on(&old.proxy, bucket(100, 50, Duration::from_secs(1)));
    assert_eq!(old.proxy.records(), before, "not when it is configured");
    assert_eq!(new.take(1, SECOND).unwrap().remaining, 94);
    // The old configuration drains beside the new one and sees what both took.
    assert_eq!(old.take(1, SECOND).unwrap().remaining, 13);
    assert_eq!(new.take(1, SECOND).unwrap().remaining, 92);
    new.refund(2, SECOND);
    assert_eq!(old.remaining(SECOND), 14);
}

/// What a new configuration promises when it refuses must come true, although the record is still the old one's.
fn check_promise_after_change(old: TokenBucket, taken: u64, new: TokenBucket, cost: u64) {
    let old = Shared::new(old);
    old.take(taken, SECOND).unwrap();
    let shared = Shared::on(&old.proxy, new);
    let wait = nanos(shared.take(cost, SECOND).unwrap_err().retry_after.unwrap());
    let context = format!("{taken} of {:?}, then {cost} of {new:?}, wait {wait}", old.bucket);
    assert!(shared.take(cost, SECOND + wait / 2).is_err(), "{context}");
    assert!(shared.take(cost, SECOND + wait - 1).is_err(), "{context}: a nanosecond early");
    let in_time = shared.take(cost, SECOND + wait);
    assert!(in_time.is_ok(), "{context}: {in_time:?}");
}

#[test]
fn a_slower_bucket_fills_at_its_own_rate_from_its_first_refusal_on() {
    check_promise_after_change(ordinary(), 20, bucket(20, 1, Duration::from_secs(1)), 1);
    check_promise_after_change(ordinary(), 15, bucket(20, 1, Duration::from_secs(60)), 10);
}

#[test]
fn a_faster_bucket_fills_at_its_own_rate_from_its_first_refusal_on() {
    check_promise_after_change(ordinary(), 20, bucket(20, 1_000, Duration::from_secs(1)), 1);
    check_promise_after_change(ordinary(), 15, bucket(20, 1_000, Duration::from_secs(1)), 10);
}

#[test]
fn a_smaller_bucket_of_the_same_rate_is_empty_from_its_first_refusal_on() {
    let large = bucket(100, 10, Duration::from_secs(1));
    check_promise_after_change(large, 90, ordinary(), 1);
    check_promise_after_change(large, 90, ordinary(), 20);
    check_promise_after_change(large, 30, ordinary(), 15);
    check_promise_after_change(bucket(100_000, 10, Duration::from_secs(1)), 100_000, ordinary(), 1);
}

/// A bucket in a bad state works again: refused until the promised instant, admitted at it, full after one fill.
fn check_recovery(shared: &Shared, bucket: &TokenBucket, now: u64, context: &str) {
    let refusal = shared.take(1, now);
    let token = Duration::from_nanos(bucket.stamp().pace.div_ceil(TICKS));
    assert_eq!(refusal, Err(Denial { remaining: 0, retry_after: Some(token) }), "{context}: counts as empty");
    let promised = now + nanos(token);
    assert!(shared.take(1, promised - 1).is_err(), "{context}: a nanosecond early");
    let in_time = shared.take(1, promised);
    assert!(in_time.is_ok(), "{context}: as promised, but {in_time:?}");
    shared.refund(1, promised);
    let full = now + nanos(bucket.fill_time());
    assert!(shared.take(bucket.max_tokens(), full - 1).is_err(), "{context}: full a nanosecond early");
    let all = shared.take(bucket.max_tokens(), full);
    assert!(all.is_ok(), "{context}: full after one fill, but {all:?}");
}

#[test]
fn a_clock_that_steps_back_an_hour_costs_one_fill_and_not_an_hour() {
    for bucket in [ordinary(), bucket(1, 1, Duration::from_secs(1)), bucket(5, 7, Duration::from_secs(1))] {
        let shared = Shared::new(bucket);
        shared.take(bucket.max_tokens(), 2 * HOUR).unwrap();
        check_recovery(&shared, &bucket, HOUR, &format!("{bucket:?}"));
    }
}

#[test]
fn a_clock_that_steps_back_an_hour_admits_nothing_that_it_should_not() {
    let bucket = ordinary();
    for seed in 61..71 {
        let mut random = Random::seeded(seed);
        let shared = Shared::new(bucket);
        // True time, and what admits too much if the clock's step were taken for time.
        let mut truth = 10 * HOUR;
        let mut back = 0;
        let mut admitted = Vec::new();
        for step in 0..4_000 {
            truth += random.below(100 * MILLISECOND);
            if step % 1_000 == 999 {
                back += HOUR;
            }
            let tokens = 1 + random.below(3);
            if shared.take(tokens, truth - back).is_ok() {
                admitted.push(Admitted { nanos: truth, tokens });
            }
        }
        assert!(excess(&bucket, &admitted, 0) <= 0, "{} too many, seed {seed}", excess(&bucket, &admitted, 0));
    }
}

#[test]
fn a_clock_that_steps_forward_is_worth_one_full_bucket_at_most() {
    let shared = Shared::new(ordinary());
    shared.take(20, SECOND).unwrap();
    assert_eq!(shared.take(20, SECOND + HOUR).unwrap().remaining, 0);
    assert!(shared.take(1, SECOND + HOUR).is_err());
}

#[test]
fn a_state_in_the_far_future_is_an_empty_bucket() {
    let mut random = Random::seeded(54);
    let now = HOUR;
    for bucket in [ordinary(), bucket(1, 1, Duration::from_secs(1)), bucket(5, 7, Duration::from_secs(1))] {
        // Faster ones too: what they wrote means more tokens here.
        for writer in [bucket, self::bucket(3, 1_000_000_000, Duration::from_secs(1)), ordinary()] {
            let mut times = vec![u64::MAX, u64::MAX - 1, u64::MAX / TICKS, u64::MAX / TICKS - 1, 1 << 59, 3 * HOUR];
            times.extend((0..50).map(|_| 3 * HOUR + log_below(&mut random, 1 << 59)));
            for time in times {
                let shared = Shared::new(bucket);
                Shared::on(&shared.proxy, writer).take(1, time).unwrap();
                check_recovery(&shared, &bucket, now, &format!("{bucket:?}, written by {writer:?} at {time}, seed 54"));
            }
        }
    }
}

#[test]
fn random_bytes_admit_one_full_bucket_at_most_and_recover_in_one_fill() {
    let mut random = Random::seeded(55);
    let good = good_record();
    for step in 0..5_000 {
        let mut bytes: Vec<u8> = good.iter().map(|_| random.next() as u8).collect();
        bytes[0] = good[0];
        if random.below(2) == 0 {
            // Mostly of the right parameters, so that the state counts.
            let unchanged = 1 + random.below(good.len() as u64) as usize;
            bytes[..unchanged].copy_from_slice(&good[..unchanged]);
        }
        let bucket = ordinary();
        let shared = Shared::new(bucket);
        shared.proxy.put_record(KEY, &bytes);
        let now = HOUR + random.below(HOUR);
        let admitted = (0..30).filter(|_| shared.take(1, now).is_ok()).count();
        assert!(admitted <= 20, "{bytes:?} at {now}, step {step}, seed 55: {admitted}");
        let all = shared.take(20, now + nanos(bucket.fill_time()));
        assert!(all.is_ok(), "{bytes:?} at {now}, step {step}, seed 55: {all:?}");
    }
}

#[test]
fn a_state_of_long_ago_is_a_full_bucket() {
    for writer in [ordinary(), bucket(3, 1_000_000_000, Duration::from_secs(1)), bucket(7, 1, Duration::from_secs(60))]
    {
        let shared = Shared::new(ordinary());
        Shared::on(&shared.proxy, writer).take(3, SECOND).unwrap();
        assert_eq!(shared.take(20, HOUR).map(|grant| grant.remaining), Ok(0), "{writer:?}");
        assert!(shared.take(1, HOUR).is_err(), "{writer:?}");
    }
}
