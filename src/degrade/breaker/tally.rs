//! Outcomes that one worker knows of and has not published yet.

use std::time::Duration;

use crate::degrade::breaker::ring::Counts;
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

/// Outcomes of one epoch, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The epoch in which the requests were admitted.
    pub epoch: u64,
    /// How many.
    pub counts: Counts,
    /// Failures since the last success.
    pub trailing: u32,
    /// Whether there was a success.
    pub succeeded: bool,
    /// The longest that a success took.
    pub slowest: Duration,
    /// When the last failure was reported.
    pub last_failure: Timestamp,
    /// When the last outcome was reported; all count as of then, which is late by as much as outcomes lie about.
    pub last: Timestamp,
}

/// Whether a response took longer than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It did not.
    InTime,
    /// It did.
    Slow,
}

impl Tally {
    /// Nothing yet.
    pub fn of(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Whether there is nothing to publish.
    pub const fn is_empty(&self) -> bool {
        self.counts.total == 0
    }

    /// The tally with one outcome more.
    pub fn plus(mut self, response: &Response, pace: Pace, now: Timestamp) -> Self {
        let failed = u32::from(response.outcome == Outcome::Failure);
        let slow = u32::from(pace == Pace::Slow);
        self.counts = self.counts.plus(Counts { total: 1, failed, slow });
        self.last = now;
        match response.outcome {
            Outcome::Success => {
                self.succeeded = true;
                self.trailing = 0;
                self.slowest = self.slowest.max(response.latency);
            }
            Outcome::Failure => {
                self.trailing = self.trailing.saturating_add(1);
                self.last_failure = now;
            }
        }
        self
    }
}
