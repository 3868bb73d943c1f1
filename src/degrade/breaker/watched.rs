//! A breaker in a shared record, with this worker's watch on it.
//!
//! Trouble makes a breaker admit: whatever it protects, an error of the proxy's is no reason to refuse a request. The
//! error comes back with the answer, to be counted.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use crate::cx::Cx;
use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::machine::{Awaited, RETRY_SOON, Standing, scattered};
use crate::degrade::breaker::ramp::Turn;
use crate::degrade::breaker::record::{self, Parts};
use crate::degrade::breaker::state::{Probe, State, Transition};
use crate::degrade::breaker::tally::{Pace, Response};
use crate::degrade::breaker::under_way::Stay;
use crate::degrade::breaker::watch::{Publish, Watch};
use crate::host::HostError;
use crate::shared::by_key::ByKey;
use crate::shared::live::Live;
use crate::shared::record::{self as shared, Step};
use crate::time::Timestamp;

/// The kind of record in the metric of conflicts.
const WHAT: &str = "breaker";

/// The watches of one worker, by the key of the record. Outlives configurations.
pub type Watches = ByKey<RefCell<Watch>>;

/// Permission for one request. Owed to [`Watched::report`] or [`Watched::give_back`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Admission(Kind);

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// It counts in its epoch, and is slow if it is not answered in time.
    Regular { epoch: u64, answer: Waiting },
    /// It decides.
    Probe(Probe),
    /// The record could not be used. It counts nowhere.
    Untracked,
}

/// How long the service takes to begin its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It has not begun yet.
    For(Stay),
    /// It took so long. `None`: its latency tells.
    Over(Option<Pace>),
}

impl Admission {
    /// Whether the request is a probe. One that may stay open for long without a result (a stream) should be reported as
    /// soon as its response headers are there: after its time it counts as lost, that is as failed.
    pub const fn is_probe(&self) -> bool {
        matches!(self.0, Kind::Probe(_))
    }
}

/// A request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// While open: it is refused for so long, and may be a probe then. Otherwise a guess.
    pub retry_after: Duration,
}

/// A change of phase that a worker came to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened. Every change is to be shown by the gauge.
    pub transition: Transition,
    /// Who did it. A change by this worker is to be counted and logged, so that each is once.
    pub by: By,
}

/// Who changed a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The worker that is told.
    Us,
    /// Another worker, or this one before it was restarted.
    Others,
}

/// An answer, and what came to light with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Answer<T> {
    /// The answer itself.
    pub value: T,
    /// Changes of phase, in their order; most often none.
    pub changes: Vec<Change>,
    /// What the proxy did not do.
    pub error: Option<HostError>,
}

/// A shared breaker and this worker's watch on it.
#[derive(Debug)]
pub struct Watched {
    key: String,
    breaker: Live<Breaker>,
    watch: Rc<RefCell<Watch>>,
    alarm: Alarm,
}

/// When the timer was asked to go off. Of this configuration's own timer: that of an earlier one, which has the same watch, stops
/// with it.
#[derive(Debug, Default)]
struct Alarm(Cell<Option<Timestamp>>);

impl Alarm {
    /// Asks for the timer, unless that will go off by then.
    fn set(&self, cx: &Cx<'_>, instant: Timestamp) {
        let now = cx.now();
        if !self.0.get().is_some_and(|it| now < it && it <= instant) {
            self.0.set(Some(instant));
            cx.host.wake_at(instant);
        }
    }

    /// The timer has gone off.
    fn went_off(&self) {
        self.0.set(None);
    }
}

impl Watched {
    /// The breaker whose record is at `key`, with the watch that the worker has on it.
    pub fn new(key: String, breaker: impl Into<Live<Breaker>>, watches: &Watches) -> Self {
        let watch = watches.of(&key);
        Self { key, breaker: breaker.into(), watch, alarm: Alarm::default() }
    }

    /// The latest phase that this worker knows of, as the change that led to it. Calls nobody.
    pub fn latest(&self) -> Transition {
        Transition::into_phase(&self.watch.borrow().state().phase)
    }

    /// Whether a request is refused for sure; takes nothing. At most one call of the proxy, none if this worker lately
    /// looked; two or more if it also has outcomes to publish, or a time is over.
    pub fn peek(&self, cx: &Cx<'_>) -> Answer<Result<(), Refusal>> {
        let mut visit = self.visit(cx);
        let value = match visit.refresh() {
            Ok(Standing::Refuses(retry_after)) => Err(Refusal { retry_after }),
            Ok(Standing::Admits | Standing::Shares(_) | Standing::Probes) | Err(_) => Ok(()),
        };
        visit.answer(value)
    }

    /// Lets a request pass, or not. Right after [`Watched::peek`] it calls nobody, but for a probe: two calls. What passes is to be
    /// [followed](Watched::follow) from when the service has all of it.
    pub fn claim(&self, cx: &Cx<'_>) -> Answer<Result<Admission, Refusal>> {
        let mut visit = self.visit(cx);
        let value = visit.claim().unwrap_or(Ok(Admission(Kind::Untracked)));
        visit.answer(value)
    }

    /// Takes note that the service's time for the request begins: from then on it is slow after `slow_after`, or after `most` if
    /// that is less, and counts as slow while it hangs. Calls nobody; asks for the timer now and then.
    pub fn follow(&self, cx: &Cx<'_>, admission: &mut Admission, most: Option<Duration>) {
        let now = cx.now();
        let Kind::Regular { epoch, answer: Waiting::For(stay) } = &mut admission.0 else {
            return;
        };
        let breaker = self.breaker.get();
        let Some(limit) = [breaker.slow_after, most].into_iter().flatten().min() else {
            return;
        };
        let mut watch = self.watch.borrow_mut();
        *stay = watch.follow(&breaker, *epoch, now.saturating_add(limit));
        if let Some(instant) = watch.wake(&breaker, now) {
            self.alarm.set(cx, instant);
        }
    }

    /// Takes note that the service has begun to answer: the request hangs no more, however long its stream lasts. Calls nobody.
    pub fn answered(&self, admission: &mut Admission, now: Timestamp) {
        let Kind::Regular { epoch, answer } = &mut admission.0 else {
            return;
        };
        if let Waiting::For(stay) = *answer {
            *answer = Waiting::Over(self.watch.borrow_mut().leave(*epoch, stay, now));
        }
    }

    /// Does what is due without a request: counts requests that hang, and publishes what has lain about. Asks for the next call
    /// if there is need.
    pub fn tick(&self, cx: &Cx<'_>) -> Answer<()> {
        let now = cx.now();
        let mut visit = self.visit(cx);
        self.alarm.went_off();
        let swept = visit.watch.sweep(&visit.breaker, now);
        if swept == Publish::Now || visit.watch.is_late(&visit.breaker, now) {
            // An error is noted by the visit.
            let _ = visit.publish();
        }
        visit.ask_to_wake();
        visit.answer(())
    }

    /// Takes note of what a probe is waiting for from now on. Two calls for a probe, none for others.
    pub fn expect(&self, cx: &Cx<'_>, admission: &Admission, awaited: Awaited) -> Answer<()> {
        let now = cx.now();
        let mut visit = self.visit(cx);
        if let Kind::Probe(probe) = admission.0 {
            // As for a report.
            let _ = visit.update(|breaker, state| (breaker.expect(state, &probe, awaited, now), ()));
        }
        visit.answer(())
    }

    /// Takes note of how the request ended. Mostly calls nobody; two calls to publish, or for a probe.
    pub fn report(&self, cx: &Cx<'_>, mut admission: Admission, response: &Response) -> Answer<()> {
        let now = cx.now();
        self.answered(&mut admission, now);
        let mut visit = self.visit(cx);
        // An error is noted by the visit. A probe that could not be reported is given up when its time is over.
        let _ = match admission.0 {
            Kind::Regular { epoch, answer } => visit.heard(epoch, response, answer),
            Kind::Probe(probe) => visit.update(|breaker, state| (breaker.probed(state, &probe, response, now), ())),
            Kind::Untracked => Ok(()),
        };
        visit.answer(())
    }

    /// Takes back an admission that came to nothing: the client went away, a later policy refused the request, or what
    /// answered was not the dependency. Calls the proxy for a probe only.
    pub fn give_back(&self, cx: &Cx<'_>, mut admission: Admission) -> Answer<()> {
        let now = cx.now();
        self.answered(&mut admission, now);
        let mut visit = self.visit(cx);
        if let Kind::Probe(probe) = admission.0 {
            // As above.
            let _ = visit.update(|breaker, state| (breaker.give_back(state, &probe, now), ()));
        }
        visit.answer(())
    }

    fn visit<'a>(&'a self, cx: &'a Cx<'a>) -> Visit<'a> {
        Visit {
            cx,
            now: cx.now(),
            key: &self.key,
            breaker: self.breaker.get(),
            watch: self.watch.borrow_mut(),
            alarm: &self.alarm,
            changes: Vec::new(),
            error: None,
        }
    }
}

/// One call of a method of [`Watched`].
struct Visit<'a> {
    cx: &'a Cx<'a>,
    now: Timestamp,
    key: &'a str,
    breaker: Breaker,
    watch: RefMut<'a, Watch>,
    alarm: &'a Alarm,
    changes: Vec<Change>,
    error: Option<HostError>,
}

/// The proxy did not do what it was asked to. The visit knows what.
struct Failed;

impl Visit<'_> {
    fn answer<T>(self, value: T) -> Answer<T> {
        Answer { value, changes: self.changes, error: self.error }
    }

    fn claim(&mut self) -> Result<Result<Admission, Refusal>, Failed> {
        let mut standing = self.refresh()?;
        if standing == Standing::Probes {
            let now = self.now;
            if let Some(probe) = self.update(|breaker, state| breaker.claim(state, now))? {
                return Ok(Ok(Admission(Kind::Probe(probe))));
            }
            // Another worker was faster.
            standing = self.breaker.standing(self.watch.state(), self.now);
        }
        let epoch = self.watch.state().epoch;
        let regular = Ok(Admission(Kind::Regular { epoch, answer: Waiting::For(Stay::Outside) }));
        let soon = Err(Refusal { retry_after: RETRY_SOON });
        Ok(match standing {
            Standing::Admits => regular,
            Standing::Shares(share) => match self.watch.turnstile.turn(epoch, share, scattered(self.now)) {
                Turn::Pass => regular,
                Turn::Stay => soon,
            },
            Standing::Refuses(retry_after) => Err(Refusal { retry_after }),
            Standing::Probes => soon,
        })
    }

    fn heard(&mut self, epoch: u64, response: &Response, answer: Waiting) -> Result<(), Failed> {
        let seen = match answer {
            Waiting::Over(pace) => pace,
            Waiting::For(_) => None,
        };
        let pace = seen.unwrap_or_else(|| self.breaker.pace(response.latency));
        match self.watch.heard(&self.breaker, epoch, response, pace, self.now) {
            Publish::Now => self.publish(),
            Publish::Later => {
                self.ask_to_wake();
                Ok(())
            }
        }
    }

    fn ask_to_wake(&mut self) {
        if let Some(instant) = self.watch.wake(&self.breaker, self.now) {
            self.alarm.set(self.cx, instant);
        }
    }

    /// Brings the copy of the state up to date if it is not, and says how the breaker stands.
    fn refresh(&mut self) -> Result<Standing, Failed> {
        let swept = self.watch.sweep(&self.breaker, self.now);
        if swept == Publish::Now || self.watch.is_stopped(&self.breaker, self.now) {
            self.publish()?;
        }
        let is_settled = self.breaker.at(*self.watch.state(), self.now) == *self.watch.state();
        if !is_settled || !self.watch.is_fresh(&self.breaker, self.now) {
            self.look(is_settled)?;
        }
        Ok(self.breaker.standing(self.watch.state(), self.now))
    }

    fn look(&mut self, is_settled: bool) -> Result<(), Failed> {
        if !is_settled || !self.watch.tally().is_empty() {
            return self.publish();
        }
        let found = self.cx.host.shared_get(self.key);
        let found = self.noting(found)?;
        let bytes = found.map(|it| it.bytes).unwrap_or_default();
        match record::decode(&bytes, self.breaker.trip().part()) {
            Some(it) if it.parts == Parts::Same && self.breaker.at(it.state, self.now) == it.state => {
                self.saw(it.state, By::Others);
                Ok(())
            }
            // Something is to be written.
            _ => self.publish(),
        }
    }

    /// Adds the tally to the shared state.
    fn publish(&mut self) -> Result<(), Failed> {
        let (tally, now) = (*self.watch.tally(), self.now);
        let published = self.update(|breaker, state| (breaker.count(state, &tally, now), ()));
        match published {
            Ok(()) => self.watch.published(now),
            Err(Failed) => self.watch.not_published(now),
        }
        published
    }

    /// Updates the shared state as if nobody else did, and takes note of it.
    fn update<R>(&mut self, mut step: impl FnMut(&Breaker, State) -> (State, R)) -> Result<R, Failed> {
        let (breaker, now) = (self.breaker, self.now);
        let part = breaker.trip().part();
        let updated = shared::update(self.cx, WHAT, self.key, |bytes| {
            let written = record::decode(bytes, part);
            if written.is_none() {
                self.cx.undecodable(self.key);
            }
            let before = written.map_or_else(|| State::unknown(now), |it| it.state);
            let (after, answer) = step(&breaker, breaker.at(before, now));
            if after == before && written.is_some_and(|it| it.parts == Parts::Same) {
                return Step::Keep((before, after, answer));
            }
            record::encode(&after, part, bytes);
            Step::Write((before, after, answer))
        });
        let (before, after, answer) = self.noting(updated)?;
        self.saw(before, By::Others);
        self.saw(after, By::Us);
        Ok(answer)
    }

    fn saw(&mut self, state: State, by: By) {
        if state.epoch != self.watch.state().epoch {
            self.changes.push(Change { transition: Transition::into_phase(&state.phase), by });
        }
        self.watch.saw(state, self.now);
    }

    fn noting<T>(&mut self, result: Result<T, HostError>) -> Result<T, Failed> {
        result.map_err(|error| {
            self.error = Some(error);
            Failed
        })
    }
}
