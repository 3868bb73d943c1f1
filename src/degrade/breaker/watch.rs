//! What one worker keeps of a breaker.
//!
//! A copy of the shared state, by which it acts until the copy is too old; the outcomes that it has not published; and its
//! requests under way.
//!
//! * The copy is at most [`MAX_AGE`] old when a request is judged by it: that is how late a worker obeys another's trip.
//!   While the breaker is half-open, or failures follow each other, it is at most [`MAX_AGE_CLOSE`] old.
//! * Outcomes lie about for [`MAX_AGE`] too while requests come, and for [`MAX_AGE_IDLE`] when none do. Where something is
//!   wrong, for [`MAX_AGE_CLOSE`]. They do not lie about at all if they would trip the breaker.
//! * A failure is published at once, up to [`BURST`] of them without a pause, if failures in a row are judged. So every worker that has
//!   failures knows of those of the others, and what reaches a service that is down is the threshold and one request of each
//!   other worker, besides what was under way.
//!
//! With all of it, a busy worker makes at most 8 calls a second while all is well, and 40 while
//! something is wrong, and twice the [burst](BURST) when that begins.

use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::ramp::Turnstile;
use crate::degrade::breaker::state::{Phase, State};
use crate::degrade::breaker::tally::{Outcome, Pace, Response, Tally};
use crate::degrade::breaker::under_way::{Stay, UnderWay};
use crate::time::Timestamp;

/// The most that the copy of the shared state lags behind, and that outcomes lie about while requests come. Half of what a
/// trip may take to be obeyed by all.
pub const MAX_AGE: Duration = Duration::from_millis(250);

/// The same while it matters: the breaker is half-open, or something is wrong.
pub const MAX_AGE_CLOSE: Duration = Duration::from_millis(50);

/// The most that good outcomes lie about when no request comes. The timer publishes them: another worker's failures of before
/// and after a success are no run, however long this worker has nothing to do.
pub const MAX_AGE_IDLE: Duration = Duration::from_secs(1);

/// So many failures of a worker are published at once, without a pause.
pub const BURST: u32 = 16;

/// So many failures in a row are the beginning of a run. One is none: a healthy service has some.
const BEGINNING: u32 = 2;

/// A worker's copy of a breaker's state, its unpublished outcomes and its requests under way. Lost with the worker: the copy is
/// read again, and a quarter of a second's outcomes are no great loss.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    state: State,
    read: Option<Timestamp>,
    tally: Tally,
    published: Option<Timestamp>,
    allowance: Allowance,
    under_way: UnderWay,
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
    pub fn is_fresh(&self, breaker: &Breaker, now: Timestamp) -> bool {
        let most = match self.state.phase {
            Phase::HalfOpen(_) => MAX_AGE_CLOSE,
            Phase::Closed { .. } | Phase::Ramp { .. } if self.has_run(breaker, now) => MAX_AGE_CLOSE,
            Phase::Closed { .. } | Phase::Open { .. } | Phase::Ramp { .. } => MAX_AGE,
        };
        !is_due(self.read, most, now)
    }

    /// Takes note of the shared state. What was not published of another epoch never will be, and what hangs since then counts
    /// no more.
    pub fn saw(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.read = Some(now);
        if self.tally.epoch != state.epoch {
            self.tally = self.tally.next(state.epoch);
            self.under_way = UnderWay::default();
        }
    }

    /// Takes note of a regular request whose service has begun, and which is slow after `due`.
    pub fn follow(&mut self, breaker: &Breaker, epoch: u64, due: Timestamp) -> Stay {
        if epoch != self.state.epoch || !breaker.trip().sees_slow() {
            return Stay::Outside;
        }
        self.under_way.enter(due)
    }

    /// Takes note that a request is under way no more, and says whether it was slow, if it was [followed](Watch::follow).
    pub fn leave(&mut self, epoch: u64, stay: Stay, now: Timestamp) -> Option<Pace> {
        let Stay::Until(due) = stay else {
            return None;
        };
        if epoch != self.state.epoch {
            return None;
        }
        if !self.under_way.leave(due) {
            return Some(Pace::Overdue);
        }
        Some(if due < now { Pace::Slow } else { Pace::InTime })
    }

    /// Counts the requests under way that are slow by now, and says whether to publish.
    pub fn sweep(&mut self, breaker: &Breaker, now: Timestamp) -> Publish {
        let overdue = self.under_way.take_overdue(now);
        if overdue == 0 {
            return Publish::Later;
        }
        self.tally.add_overdue(breaker.trip(), overdue, now);
        if is_due(self.published, MAX_AGE_CLOSE, now) || self.would_trip(breaker, now) {
            return Publish::Now;
        }
        Publish::Later
    }

    /// Takes note of an outcome of a regular request, and says whether to publish.
    pub fn heard(&mut self, breaker: &Breaker, epoch: u64, response: &Response, pace: Pace, now: Timestamp) -> Publish {
        let trip = breaker.trip();
        if epoch != self.state.epoch || !trip.has_any() {
            return Publish::Later;
        }
        self.tally.add(trip, response, pace, now);
        let failed = response.outcome == Outcome::Failure;
        let is_bad = failed || pace == Pace::Slow;
        let most = if is_bad || self.has_run(breaker, now) { MAX_AGE_CLOSE } else { MAX_AGE };
        if is_due(self.published, most, now)
            || (is_bad && self.would_trip(breaker, now))
            || (failed && trip.has_run() && self.allowance.is_left(now))
        {
            return Publish::Now;
        }
        Publish::Later
    }

    /// Takes note that the tally was published.
    pub fn published(&mut self, now: Timestamp) {
        self.tally = self.tally.next(self.state.epoch);
        self.not_published(now);
    }

    /// Takes note that the tally could not be published, so that it is not tried with each outcome.
    pub fn not_published(&mut self, now: Timestamp) {
        self.published = Some(now);
        self.allowance = self.allowance.less(now);
    }

    /// Whether outcomes are to be published that no request took along, or it is time to judge a dead stop.
    pub fn is_late(&self, breaker: &Breaker, now: Timestamp) -> bool {
        self.lies_until().is_some_and(|it| it <= now) || self.is_stopped(breaker, now)
    }

    /// Whether a dead stop that the copy knows of has lasted long enough.
    pub fn is_stopped(&self, breaker: &Breaker, now: Timestamp) -> bool {
        self.judges() && breaker.trip().is_stopped(&self.state.stop, now)
    }

    /// When there is something to do without a request: when a request under way becomes slow, outcomes have lain about, or a
    /// dead stop has lasted long enough. Not more often than every [`MAX_AGE`].
    pub fn wake(&self, breaker: &Breaker, now: Timestamp) -> Option<Timestamp> {
        let settles = breaker.trip().settles(&self.state.stop).filter(|it| self.judges() && now < *it);
        let need = [self.lies_until(), self.under_way.next(), settles].into_iter().flatten().min()?;
        Some(need.max(now.saturating_add(MAX_AGE)))
    }

    /// Whether outcomes can trip it.
    const fn judges(&self) -> bool {
        matches!(self.state.phase, Phase::Closed { .. } | Phase::Ramp { .. })
    }

    fn lies_until(&self) -> Option<Timestamp> {
        if self.tally.is_empty() {
            return None;
        }
        let most = if self.tally.is_bad() { MAX_AGE } else { MAX_AGE_IDLE };
        Some(self.published.unwrap_or_default().saturating_add(most))
    }

    /// Whether failures follow each other, as far as the copy tells.
    fn has_run(&self, breaker: &Breaker, now: Timestamp) -> bool {
        let trip = breaker.trip();
        trip.has_run() && BEGINNING <= self.state.run.failures(trip.window(), now)
    }

    fn would_trip(&self, breaker: &Breaker, now: Timestamp) -> bool {
        breaker.count(self.state, &self.tally, now).epoch != self.state.epoch
    }
}

/// How much may be published at once: [`BURST`] failures, and one more every [`MAX_AGE_CLOSE`]. Whatever is published counts. A
/// service that fails all the time without tripping its breaker must not cost a call for each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Allowance {
    /// When all of it is back.
    full: Timestamp,
}

impl Allowance {
    const WHOLE: Duration = Duration::from_millis(MAX_AGE_CLOSE.as_millis() as u64 * BURST as u64);

    fn is_left(self, now: Timestamp) -> bool {
        self.used(now).saturating_add(MAX_AGE_CLOSE) <= Self::WHOLE
    }

    fn less(self, now: Timestamp) -> Self {
        Self { full: now.saturating_add(self.used(now).saturating_add(MAX_AGE_CLOSE)) }
    }

    /// What is not back yet. What lies further ahead than all of it tells of a clock that went back.
    fn used(self, now: Timestamp) -> Duration {
        self.full.saturating_since(now).min(Self::WHOLE)
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
