//! When a share of requests counts as proven.
//!
//! Three failures of five requests are 60 %, and happen by chance to a dependency that fails one time in five in 6 % of
//! all fives: a breaker that compares the observed share with its threshold trips all the time while traffic is low. So
//! what is compared is the lower end of the interval in which the true share lies with 95 % confidence, after
//! E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, J. Amer. Statist. Assoc. 22
//! (1927) 209–212:
//!
//! ```text
//!         p + z²/2n − z √( p(1−p)/n + z²/4n² )
//! bound = ────────────────────────────────────      p = hits / n,  z = 1.64 (one-sided 95 %)
//!                     1 + z²/n
//! ```
//!
//! Unlike the textbook interval it is right for few requests and for shares near 0 and 1. Solved for n: a dependency that
//! fails at 60 % is beyond a threshold of 50 % after 68 requests, at 80 % after 8, at 51 % after 6 724.

/// Standard deviations of the one-sided 95 % confidence interval.
const Z: f64 = 1.64;

/// So many requests of which every one was a hit prove any ratio. The bound never reaches 1, and reaches 0.99 only with
/// 267 requests.
const ALL: u32 = 20;

const MILLION: f64 = 1_000_000.0;

/// A share of requests, above 0 and at most 1, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u32);

impl Ratio {
    /// The ratio; `None` if it is not above 0 and at most 1. Less than a millionth is a millionth.
    pub fn new(value: f64) -> Option<Self> {
        if 0.0 < value && value <= 1.0 { Some(Self((value * MILLION).round().max(1.0) as u32)) } else { None }
    }

    /// Whether so many hits prove that the share is at least this.
    pub fn is_proven_by(self, hits: u32, total: u32) -> bool {
        if ALL <= total && total <= hits {
            return true;
        }
        f64::from(self.0) / MILLION <= lower_bound(hits, total)
    }
}

/// The share that `hits` of `total` requests prove, from 0 (nothing) to below 1. More hits than requests are taken for all.
pub fn lower_bound(hits: u32, total: u32) -> f64 {
    if total == 0 {
        return 0.0;
    }
    let n = f64::from(total);
    let p = f64::from(hits.min(total)) / n;
    let square = Z * Z;
    let margin = Z * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    ((p + square / (2.0 * n) - margin) / (1.0 + square / n)).max(0.0)
}
