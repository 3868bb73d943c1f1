//! The promise of a token bucket: in any interval it admits at most its size plus what is added meanwhile.

use outrigger::limit::token_bucket::TokenBucket;

/// Tokens that were admitted, and when.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    pub nanos: u64,
    pub tokens: u64,
}

/// By how much the busiest of all intervals exceeds `max_tokens + rate × length`, in sixteenths of a nanosecond of
/// filling; not above zero if the promise holds. `slack` nanoseconds are added to the length of every interval.
pub fn excess(bucket: &TokenBucket, admitted: &[Admitted], slack: u64) -> i128 {
    let emission = i128::from(bucket.emission().to_bits());
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
