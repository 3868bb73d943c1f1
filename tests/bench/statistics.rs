//! What is made of many measurements of one thing on a machine that others use too.

/// The mean of the lowest tenth, at least of one: noise only ever adds to a cost, so the lowest are nearest to it.
///
/// Zero of nothing.
pub(crate) fn low_mean(samples: &[f64]) -> f64 {
    let sorted = sorted(samples);
    let count = samples.len().div_ceil(10);
    let lowest = sorted.get(..count).unwrap_or_default();
    if lowest.is_empty() { 0.0 } else { lowest.iter().sum::<f64>() / lowest.len() as f64 }
}

/// The smallest sample that at least `share` (0 to 1) of all do not exceed; zero of nothing.
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let rank = (samples.len() as f64 * share).ceil() as usize;
    sorted(samples).get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// The middle sample, the lower one of two.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The lowest and the highest.
pub(crate) fn range(samples: &[f64]) -> (f64, f64) {
    (quantile(samples, 0.0), quantile(samples, 1.0))
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}
