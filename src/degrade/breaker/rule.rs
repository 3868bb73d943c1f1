//! A configured breaker: what it protects, and who is told of what it does.

use std::time::Duration;

use crate::degrade::breaker::Breaker;
use crate::degrade::breaker::tally::{Outcome, Response};
use crate::degrade::breaker::watched::{Admission, Answer, By, Change, Refusal, Watched};
use crate::host::Host;
use crate::monitor::metrics;
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
    /// When it trips and how it comes back.
    pub breaker: Breaker,
    /// Index of the fallback that its refusals answer with; absent: what the rule for failures says.
    pub fallback: Option<usize>,
}

impl BreakerSpec {
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
    watched: Watched,
}

impl BreakerRule {
    /// The breaker of this specification, with its state under `scope`.
    pub fn new(spec: BreakerSpec, scope: &str, worker: &Worker) -> Self {
        let key = spec.key(scope);
        let breaker = worker.breakers.parameters.of(&key, spec.breaker);
        let watched = Watched::new(key, breaker, &worker.breakers.watches);
        Self { reason: Reason::new("breaker", &spec.name), watched, spec }
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

    /// Shows the phase as this worker knows it, so that the gauge is there before anything happens.
    pub fn show(&self, host: &dyn Host, worker: &Worker) {
        let gauge = metrics::breaker_state(&self.spec.name);
        worker.report(host, worker.metrics.set(host, gauge, self.watched.latest().gauge()));
    }

    fn told<T>(&self, answer: Answer<T>, host: &dyn Host, worker: &Worker) -> T {
        if let Some(error) = answer.error {
            worker.trouble.host_error(host, error);
        }
        for change in &answer.changes {
            self.announce_change(*change, host, worker);
        }
        answer.value
    }

    fn announce_change(&self, Change { transition, by }: Change, host: &dyn Host, worker: &Worker) {
        let name = &self.spec.name;
        worker.report(host, worker.metrics.set(host, metrics::breaker_state(name), transition.gauge()));
        if by == By::Us {
            let (to, cause) = (transition.to(), transition.cause());
            log::warn!("breaker {name}: {to} ({cause})");
            worker.report(host, worker.metrics.count(host, metrics::breaker_transitions_total(name, to, cause)));
        }
    }
}
