//! The promise of a token bucket: in any interval it admits at most its size plus what is added meanwhile.

use outrigger::limit::token_bucket::TokenBucket;
use outrigger::shared::meter::Meter;

use super::Random;

/// Tokens that were admitted, and when.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    pub nanos: u64,
    pub tokens: u64,
}

/// By how much the busiest of all intervals exceeds `max_tokens + rate × length`, in sixteenths of a nanosecond of
/// filling; not above zero if the promise holds. `slack` nanoseconds are added to the length of every interval.
pub fn excess(bucket: &TokenBucket, admitted: &[Admitted], slack: u64) -> i128 {
    let emission = i128::from(bucket.stamp().pace);
    let size = i128::from(bucket.max_tokens()) * emission + 16 * i128::from(slack);
    let mut admitted = admitted.to_vec();
    admitted.sort_by_key(|it| it.nanos);
    // An interval from i to j admits `sum(i..=j)`. Each summand on its own side of the difference, the worst start for
    // each end is the one with the smallest `before`.
    let (mut taken, mut smallest, mut worst) = (0_i128, i128::MAX, i128::MIN);
    for Admitted { nanos, tokens } in admitted {
        let time = 16 * i128::from(nanos);
        smallest = smallest.min(taken * emission - time);
        taken += i128::from(tokens);
        worst = worst.max(taken * emission - time - smallest - size);
    }
    worst
}

/// Asks `take` for more than the bucket carries, with clocks that were read up to 10 ms before, and checks the promise
/// by the time that was passed and by the time that it was. `take` is given a cost and the time, and says whether it
/// admits.
pub fn overload_with_late_clocks(seed: u64, bucket: &TokenBucket, mut take: impl FnMut(u64, u64) -> bool) {
    const LATEST: u64 = 10_000_000;
    let mut random = Random::seeded(seed);
    let per_token = bucket.stamp().pace / 16 + 1;
    let (mut by_clock, mut by_truth) = (Vec::new(), Vec::new());
    let mut now = 1_000_000_000;
    for _ in 0..10_000 {
        now += random.below(per_token);
        let passed = now - random.below(LATEST + 1);
        let tokens = 1 + random.below(bucket.max_tokens().min(3));
        if take(tokens, passed) {
            by_clock.push(Admitted { nanos: passed, tokens });
            by_truth.push(Admitted { nanos: now, tokens });
        }
    }
    let (clock, truth) = (excess(bucket, &by_clock, 0), excess(bucket, &by_truth, LATEST));
    assert!(clock <= 0 && truth <= 0, "{bucket:?}, seed {seed}: {clock} and {truth} ticks too many");
    // A bound that is never approached shows nothing.
    let near = i128::from(3 + bucket.max_tokens() / 10) * i128::from(bucket.stamp().pace);
    assert!(-clock < near, "{bucket:?}, seed {seed}: {clock} ticks");
}
