//! Outcomes that one worker knows of and has not published yet.
//!
//! They are kept with their instants, as the shared state keeps them, so that it does not matter when they are published.

use std::time::Duration;

use crate::degrade::breaker::ring::{Counts, Ring};
use crate::degrade::breaker::run::Run;
use crate::degrade::breaker::state::Slowest;
use crate::degrade::breaker::stop::Stop;
use crate::degrade::breaker::trip::Trip;
use crate::shared::meter::LATEST_READER;
use crate::time::Timestamp;

/// What a request says about the dependency. One that says nothing is
/// [given back](super::watched::Watched::give_back) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, if only to say no: a 4xx is an answer.
    Success,
    /// It did not: 5xx, reset, no connection, timeout, gRPC status 4 or 14.
    Failure,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// What it says about the dependency.
    pub outcome: Outcome,
    /// From when the request went on until its response headers came; until it ended if none did.
    pub latency: Duration,
}

/// Whether a response took longer than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It did not.
    InTime,
    /// It did.
    Slow,
    /// It did, and was counted for that while it hung.
    Overdue,
}

/// Outcomes of one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The epoch in which the requests were admitted.
    pub epoch: u64,
    /// How many outcomes, also those that count as nothing but failed.
    pub outcomes: u32,
    /// The last success, and the failures after it.
    pub run: Run,
    /// The last answer in time, and the slow requests after it.
    pub stop: Stop,
    /// All of them, if a ratio is judged.
    pub ring: Ring,
    /// Length of the ring's parts.
    pub part: u64,
    /// About the longest that a success took.
    pub slowest: Slowest,
    /// When the last outcome was reported.
    pub last: Timestamp,
}

impl Tally {
    /// Nothing yet.
    pub fn of(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Nothing yet, after this one was published. What comes next is later than all that it held.
    pub fn next(&self, epoch: u64) -> Self {
        Self { epoch, last: self.last, ..Self::default() }
    }

    /// Whether there is nothing to publish.
    pub const fn is_empty(&self) -> bool {
        self.outcomes == 0
    }

    /// Whether it holds failures that no success followed, or anything that a ratio is judged by and that is bad.
    pub fn is_bad(&self) -> bool {
        let sum = self.ring.sum();
        !self.run.is_empty() || 0 < sum.failed || 0 < sum.slow
    }

    /// Adds the outcome of a request.
    pub fn add(&mut self, trip: &Trip, response: &Response, pace: Pace, now: Timestamp) {
        let then = self.instant(now);
        let failed = u32::from(response.outcome == Outcome::Failure);
        let (total, slow) = match pace {
            Pace::InTime => (1, 0),
            Pace::Slow => (1, 1),
            Pace::Overdue => (0, 0),
        };
        self.count(trip, Counts { total, failed, slow }, then);
        match pace {
            Pace::InTime => self.stop.answer(then),
            Pace::Slow => self.stop.add_slow(1, then),
            Pace::Overdue => {}
        }
        match response.outcome {
            Outcome::Success => {
                self.run.succeed(then);
                self.slowest = self.slowest.plus(&Slowest::of(response.latency, then));
            }
            Outcome::Failure => self.run.fail(then, trip.grain()),
        }
    }

    /// Adds requests that hang, and are slow whatever becomes of them.
    pub fn add_overdue(&mut self, trip: &Trip, requests: u32, now: Timestamp) {
        let then = self.instant(now);
        self.count(trip, Counts { total: requests, failed: 0, slow: requests }, then);
        self.stop.add_slow(requests, then);
    }

    fn count(&mut self, trip: &Trip, counts: Counts, then: Timestamp) {
        self.outcomes = self.outcomes.saturating_add(1);
        if !trip.has_ratio() {
            return;
        }
        if self.part != trip.part() {
            (self.ring, self.part) = (Ring::default(), trip.part());
        }
        self.ring = self.ring.plus(self.part, counts, then, then);
    }

    /// When the next outcome happened. One worker's outcomes are in order even where the clock shows them at the same instant.
    fn instant(&mut self, now: Timestamp) -> Timestamp {
        let next = self.last.saturating_add(Duration::from_nanos(1));
        let went_back = LATEST_READER < next.as_nanos().saturating_sub(now.as_nanos());
        self.last = if went_back { now } else { now.max(next) };
        self.last
    }
}
