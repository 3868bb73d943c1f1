//! How traffic comes back: [10, 25 and 50 %](STEPS) of the requests for [`STEP`] each, then all.
//!
//! Caches are cold and connections few after an outage; full traffic at once is what brings a service down again.

use std::time::Duration;

use crate::time::Timestamp;

/// The share of requests that is admitted in each step, in percent.
pub const STEPS: [u32; 3] = [10, 25, 50];

/// How long a step lasts.
pub const STEP: Duration = Duration::from_secs(2);

/// How long the ramp lasts.
pub const RAMP: Duration = Duration::from_secs(6);

/// The share that is admitted at `now`, in percent; `None` once the ramp is over, from the very instant.
pub fn share(since: Timestamp, now: Timestamp) -> Option<u32> {
    let step = now.saturating_since(since).as_nanos() / STEP.as_nanos();
    STEPS.get(usize::try_from(step).ok()?).copied()
}

/// What one worker admits in one ramp.
///
/// Each request adds the share to a sum, and is admitted when that reaches a whole. So the number admitted is right to
/// within one per worker at any time, which dice would not give. The sum starts anywhere: were it to start at zero, a worker
/// with few requests would admit none of them, and many such workers none at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnstile {
    epoch: u64,
    /// In percent, below 100.
    sum: u32,
}

/// What a turnstile does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It passes.
    Pass,
    /// It does not.
    Stay,
}

impl Turnstile {
    /// Asks for one request. `noise` is any number that differs between workers; it is used when an epoch begins.
    pub fn turn(&mut self, epoch: u64, share: u32, noise: u64) -> Turn {
        if self.epoch != epoch {
            // Less than 100.
            *self = Self { epoch, sum: (noise % 100) as u32 };
        }
        let sum = self.sum.saturating_add(share);
        self.sum = sum % 100;
        if sum < 100 { Turn::Stay } else { Turn::Pass }
    }
}
