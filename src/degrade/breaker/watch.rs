//! What one worker keeps of a breaker.
//!
//! A copy of the shared state, by which it acts until the copy is too old, and the outcomes that it has not published.
//!
//! * The copy is at most [`MAX_AGE`] old when a request is judged by it: that is how late a worker obeys another's trip.
//!   While the breaker is half-open it is at most [`MAX_AGE_PROBING`] old, because places of probes come free.
//! * Outcomes lie about for [`MAX_AGE`] too, bad ones for [`MAX_AGE_BAD`]; and not at all if they would trip the
//!   breaker.
//!
//! With both, a busy worker makes at most 8 calls a second while all is well and 40 in an outage, until the breaker opens.

use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::ramp::Turnstile;
use crate::degrade::breaker::state::{Phase, State};
use crate::degrade::breaker::tally::{Outcome, Pace, Response, Tally};
use crate::time::Timestamp;

/// The most that the copy of the shared state lags behind, and that outcomes lie about while requests come. Half of what a
/// trip may take to be obeyed by all.
pub const MAX_AGE: Duration = Duration::from_millis(250);

/// The most that the copy lags behind while the breaker is half-open.
pub const MAX_AGE_PROBING: Duration = Duration::from_millis(50);

/// The least time between two publications of bad outcomes that would not trip the breaker.
pub const MAX_AGE_BAD: Duration = Duration::from_millis(50);

/// A worker's copy of a breaker's state, and its unpublished outcomes. Lost with the worker: the copy is read again, and a
/// quarter of a second's outcomes are no great loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    state: State,
    read: Option<Timestamp>,
    tally: Tally,
    published: Option<Timestamp>,
    /// What it admits of a ramp.
    pub(super) turnstile: Turnstile,
}

impl Watch {
    /// The shared state as it was when it was last read or written.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The outcomes that are not published.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a request may be judged by the copy.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let most = match self.state.phase {
            Phase::HalfOpen(_) => MAX_AGE_PROBING,
            Phase::Closed { .. } | Phase::Open { .. } | Phase::Ramp { .. } => MAX_AGE,
        };
        !is_due(self.read, most, now)
    }

    /// Takes note of the shared state. What was not published of another epoch never will be.
    pub fn saw(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.read = Some(now);
        if self.tally.epoch != state.epoch {
            self.tally = Tally::of(state.epoch);
        }
    }

    /// Takes note of an outcome of a regular request, and says whether to publish.
    pub fn heard(&mut self, breaker: &Breaker, epoch: u64, response: &Response, now: Timestamp) -> Publish {
        if epoch != self.state.epoch || !breaker.trip().has_any() {
            return Publish::Later;
        }
        let pace = breaker.pace(response.latency);
        self.tally = self.tally.plus(response, pace, now);
        let is_bad = response.outcome == Outcome::Failure || pace == Pace::Slow;
        let most = if is_bad { MAX_AGE_BAD } else { MAX_AGE };
        if is_due(self.published, most, now) || (is_bad && self.would_trip(breaker, now)) {
            return Publish::Now;
        }
        Publish::Later
    }

    /// Takes note that the tally was published.
    pub fn published(&mut self, now: Timestamp) {
        self.tally = Tally::of(self.state.epoch);
        self.published = Some(now);
    }

    /// Takes note that the tally could not be published, so that it is not tried with each outcome.
    pub fn not_published(&mut self, now: Timestamp) {
        self.published = Some(now);
    }

    fn would_trip(&self, breaker: &Breaker, now: Timestamp) -> bool {
        breaker.count(self.state, &self.tally, now).epoch != self.state.epoch
    }
}

/// When outcomes are to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Publish {
    /// At once.
    Now,
    /// With a later one.
    Later,
}

/// Whether something that was done at `last` must be done again after so long; also if the clock went back.
fn is_due(last: Option<Timestamp>, most: Duration, now: Timestamp) -> bool {
    last.is_none_or(|last| now < last || most <= now.saturating_since(last))
}
