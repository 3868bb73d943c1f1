//! A configured breaker: what it protects, and who is told of what it does.

use std::cell::Cell;
use std::time::Duration;

use crate::cx::Cx;
use crate::degrade::breaker::machine::Awaited;
use crate::degrade::breaker::state::Transition;
use crate::degrade::breaker::tally::{Outcome, Response};
use crate::degrade::breaker::watched::{Admission, Answer, By, Change, Watched};
use crate::degrade::breaker::{Breaker, Store};
use crate::monitor::failures::Failures;
use crate::monitor::names::Names;
use crate::monitor::outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::selection::Selection;
use crate::reply::fallback::Fallback;
use crate::reply::refusal::{Problem, Refusal};
use crate::time::Timestamp;

/// A breaker, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSpec {
    /// Unique name.
    pub name: String,
    /// Which requests it counts and refuses.
    pub selection: Selection,
    /// Which answers are failures.
    pub failures: Failures,
    /// When it trips and how it comes back.
    pub breaker: Breaker,
    /// Whether it refuses, or only counts what it would refuse. Its state is the same either way: what it would have refused
    /// teaches it nothing, as if the service had not been asked, and of what it would have let pass the first requests after
    /// `open_for` are its probes. So it heals, and what it does next is what it would do.
    pub enforced: bool,
    /// Index of the fallback that its refusals answer with; absent: what the rule for failures says.
    pub fallback: Option<usize>,
}

impl BreakerSpec {
    /// Whether the other breaker, under the same scope, has the same state and other numbers.
    pub fn disagrees(&self, other: &Self) -> bool {
        self.name == other.name && self.breaker != other.breaker
    }

    /// Makes these parameters the ones that hold in this worker, also for earlier configurations.
    pub fn announce(&self, scope: &str, store: &Store) {
        store.parameters.announce(&self.key(scope), self.breaker);
    }

    fn key(&self, scope: &str) -> String {
        format!("outrigger/{scope}/breaker/{}", self.name)
    }
}

/// A breaker at work.
#[derive(Debug)]
pub struct BreakerRule {
    spec: BreakerSpec,
    reason: Reason,
    names: Names,
    watched: Watched,
    /// Whether the gauge was set since this configuration was put to work.
    shown: Cell<bool>,
}

impl BreakerRule {
    /// The breaker of this specification, with its state under `scope` and metrics of these names.
    pub fn new(spec: BreakerSpec, scope: &str, names: &Names, store: &Store) -> Self {
        let key = spec.key(scope);
        let breaker = store.parameters.of(&key, spec.breaker);
        let watched = Watched::new(key, breaker, &store.watches);
        let reason = Reason::new("breaker", &spec.name, names);
        Self { reason, names: names.clone(), watched, spec, shown: Cell::new(false) }
    }

    /// The parameters.
    pub fn spec(&self) -> &BreakerSpec {
        &self.spec
    }

    /// Whether a request is refused for sure. Takes nothing.
    ///
    /// # Errors
    ///
    /// It is.
    pub fn peek<'a>(&'a self, cx: &Cx<'_>, fallbacks: &'a [Fallback]) -> Result<(), Refusal<'a>> {
        self.told(self.watched.peek(cx), cx).map_err(|it| self.refusal(it.retry_after, fallbacks))
    }

    /// Lets a request pass.
    ///
    /// # Errors
    ///
    /// It may not.
    pub fn claim<'a>(&'a self, cx: &Cx<'_>, fallbacks: &'a [Fallback]) -> Result<Admission, Refusal<'a>> {
        self.told(self.watched.claim(cx), cx).map_err(|it| self.refusal(it.retry_after, fallbacks))
    }

    /// Takes note that the service's time for the request begins. An attempt at it is given up after `most`, if anything.
    pub fn follow(&self, cx: &Cx<'_>, admission: &mut Admission, most: Option<Duration>) {
        self.watched.follow(cx, admission, most);
    }

    /// Takes note of what a probe is waiting for from now on.
    pub fn expect(&self, cx: &Cx<'_>, admission: &Admission, awaited: Awaited) {
        self.told(self.watched.expect(cx, admission, awaited), cx);
    }

    /// Takes note that the service has begun to answer.
    pub fn answered(&self, admission: &mut Admission, now: Timestamp) {
        self.watched.answered(admission, now);
    }

    /// Does what is due without a request.
    pub fn tick(&self, cx: &Cx<'_>) {
        self.told(self.watched.tick(cx), cx);
    }

    /// Takes note of how the request ended.
    pub fn report(&self, cx: &Cx<'_>, admission: Admission, outcome: Outcome, latency: Duration) {
        let response = Response { outcome, latency };
        self.told(self.watched.report(cx, admission, &response), cx);
    }

    /// Takes back an admission that came to nothing.
    pub fn give_back(&self, cx: &Cx<'_>, admission: Admission) {
        self.told(self.watched.give_back(cx, admission), cx);
    }

    fn refusal<'a>(&'a self, retry_after: Duration, fallbacks: &'a [Fallback]) -> Refusal<'a> {
        Refusal {
            reason: &self.reason,
            outcome: outcome::Outcome::Broken,
            enforcement: Enforcement::of(self.spec.enforced),
            problem: Problem::TemporaryReducedCapacity,
            retry_after: Some(retry_after),
            fallback: self.spec.fallback.and_then(|index| fallbacks.get(index)),
            quota: Vec::new(),
            // Why it is open: the word in the metric.
            detail: Some(self.watched.latest().cause()),
        }
    }

    fn told<T>(&self, answer: Answer<T>, cx: &Cx<'_>) -> T {
        let unknown = answer.error.is_some();
        if let Some(error) = answer.error {
            cx.host_error(error);
        }
        // A new process begins with the gauges of the old one, whose breakers it does not share. Not at configuration: the
        // main thread would show what it never asked for.
        if !unknown && !self.shown.replace(true) && answer.changes.is_empty() {
            self.show(self.watched.latest(), cx);
        }
        for change in &answer.changes {
            self.announce_change(*change, cx);
        }
        answer.value
    }

    fn show(&self, latest: Transition, cx: &Cx<'_>) {
        let gauge = self.names.breaker_state(&self.spec.name);
        cx.report(cx.set(gauge, latest.gauge()));
    }

    fn announce_change(&self, Change { transition, by }: Change, cx: &Cx<'_>) {
        self.show(transition, cx);
        if by == By::Us {
            let (name, to, cause) = (&self.spec.name, transition.to(), transition.cause());
            let shadow = if self.spec.enforced { "" } else { " in shadow" };
            log::warn!("breaker {name}{shadow}: {to} ({cause})");
            cx.report(cx.count(self.names.breaker_transitions_total(name, to, cause)));
        }
    }
}
