//! A configured breaker: what it protects, and who is told of what it does.

use std::cell::Cell;
use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::machine::Awaited;
use crate::degrade::breaker::state::Transition;
use crate::degrade::breaker::tally::{Outcome, Response};
use crate::degrade::breaker::watched::{Admission, Answer, By, Change, Refusal, Watched};
use crate::host::Host;
use crate::monitor::failures::Failures;
use crate::monitor::names::Names;
use crate::monitor::reason::Reason;
use crate::operation::selection::Selection;
use crate::time::Timestamp;
use crate::worker::Worker;

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
    pub fn announce(&self, scope: &str, worker: &Worker) {
        worker.breakers.parameters.announce(&self.key(scope), self.breaker);
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
    pub fn new(spec: BreakerSpec, scope: &str, names: &Names, worker: &Worker) -> Self {
        let key = spec.key(scope);
        let breaker = worker.breakers.parameters.of(&key, spec.breaker);
        let watched = Watched::new(key, breaker, &worker.breakers.watches);
        let reason = Reason::new("breaker", &spec.name, names);
        Self { reason, names: names.clone(), watched, spec, shown: Cell::new(false) }
    }

    /// The parameters.
    pub fn spec(&self) -> &BreakerSpec {
        &self.spec
    }

    /// The one spelling of a refusal by this breaker.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Whether a request is refused for sure, and when to come again. Takes nothing.
    pub fn peek(&self, host: &dyn Host, worker: &Worker, now: Timestamp) -> Result<(), Refusal> {
        self.told(self.watched.peek(host, &worker.trouble, now), host, worker)
    }

    /// Lets a request pass, or says when to come again.
    pub fn claim(&self, host: &dyn Host, worker: &Worker, now: Timestamp) -> Result<Admission, Refusal> {
        self.told(self.watched.claim(host, &worker.trouble, now), host, worker)
    }

    /// Takes note that the service's time for the request begins. An attempt at it is given up after `most`, if anything.
    pub fn follow(&self, host: &dyn Host, admission: &mut Admission, most: Option<Duration>, now: Timestamp) {
        self.watched.follow(host, admission, most, now);
    }

    /// Takes note of what a probe is waiting for from now on.
    pub fn expect(&self, host: &dyn Host, worker: &Worker, admission: &Admission, awaited: Awaited, now: Timestamp) {
        self.told(self.watched.expect(host, &worker.trouble, admission, awaited, now), host, worker);
    }

    /// Takes note that the service has begun to answer.
    pub fn answered(&self, admission: &mut Admission, now: Timestamp) {
        self.watched.answered(admission, now);
    }

    /// Does what is due without a request.
    pub fn tick(&self, host: &dyn Host, worker: &Worker, now: Timestamp) {
        self.told(self.watched.tick(host, &worker.trouble, now), host, worker);
    }

    /// Takes note of how the request ended.
    pub fn report(
        &self,
        host: &dyn Host,
        worker: &Worker,
        admission: Admission,
        outcome: Outcome,
        latency: Duration,
        now: Timestamp,
    ) {
        let response = Response { outcome, latency };
        self.told(self.watched.report(host, &worker.trouble, admission, &response, now), host, worker);
    }

    /// Takes back an admission that came to nothing.
    pub fn give_back(&self, host: &dyn Host, worker: &Worker, admission: Admission, now: Timestamp) {
        self.told(self.watched.give_back(host, &worker.trouble, admission, now), host, worker);
    }

    /// Why it is open, if it is: the word in the metric.
    pub fn cause(&self) -> &'static str {
        self.watched.latest().cause()
    }

    fn told<T>(&self, answer: Answer<T>, host: &dyn Host, worker: &Worker) -> T {
        let unknown = answer.error.is_some();
        if let Some(error) = answer.error {
            worker.trouble.host_error(host, error);
        }
        // A new process begins with the gauges of the old one, whose breakers it does not share. Not at configuration: the
        // main thread would show what it never asked for.
        if !unknown && !self.shown.replace(true) && answer.changes.is_empty() {
            self.show(self.watched.latest(), host, worker);
        }
        for change in &answer.changes {
            self.announce_change(*change, host, worker);
        }
        answer.value
    }

    fn show(&self, latest: Transition, host: &dyn Host, worker: &Worker) {
        let gauge = self.names.breaker_state(&self.spec.name);
        worker.report(host, worker.metrics.set(host, gauge, latest.gauge()));
    }

    fn announce_change(&self, Change { transition, by }: Change, host: &dyn Host, worker: &Worker) {
        self.show(transition, host, worker);
        if by == By::Us {
            let (name, to, cause) = (&self.spec.name, transition.to(), transition.cause());
            let shadow = if self.spec.enforced { "" } else { " in shadow" };
            log::warn!("breaker {name}{shadow}: {to} ({cause})");
            worker.report(host, worker.metrics.count(host, self.names.breaker_transitions_total(name, to, cause)));
        }
    }
}
