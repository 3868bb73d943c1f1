//! JSON bytes become a configuration that cannot be wrong.
//!
//! Each policy's folder describes its part of the document by a table of fields, and makes its parameters of it; the kit that they
//! do it with is [`crate::document`]. Here the parts are put together, in two steps that a caller sees as one: the whole document is
//! held against the tables, then each part is read, with what it refers to at hand. Errors of both are told of in the order of the
//! document, at most [`MOST`](crate::document::error::MOST) of them, each with the place, the value and the rule:
//!
//! ```text
//! limits[2].token_bucket.fill_interval: "0s", must be at least 1ms
//! ```
//!
//! Unknown fields are errors, so that a typing mistake does not switch a protection off.

#[cfg(not(target_arch = "wasm32"))]
pub mod closed;
pub mod fields;
pub mod foretold;
mod gauges;
mod warning;
mod warnings;

pub use crate::document::{ConfigError, ConfigErrors};
pub use crate::monitor::settings::{AccessLog, Monitor, Outcomes, RateLimitHeaders};
pub use warning::Warning;

use crate::degrade::breaker::rule::BreakerSpec;
use crate::degrade::failure::FailureSpec;
use crate::degrade::switch::SwitchSpec;
use crate::document::Names;
use crate::limit::rule::LimitSpec;
use crate::operation::Operation;
use crate::reply::fallback::Fallback;
use crate::retry::register::Placement;
use crate::retry::rule::{DeadlineSpec, RetrySpec};

/// A configuration that is complete and consistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the user calls this configuration; shown in metrics.
    pub version: Option<String>,
    /// Where in the proxy the filter stands.
    pub placement: Placement,
    /// Prefix of all shared state. Absent: by plugin (root id and name) and traffic direction, which is known on the first
    /// request.
    pub scope: Option<String>,
    /// The operations in the order they are tried. The last is `other`, which matches everything.
    pub operations: Vec<Operation>,
    /// The limits in the order given.
    pub limits: Vec<LimitSpec>,
    /// The switches in the order given.
    pub switches: Vec<SwitchSpec>,
    /// The breakers in the order given.
    pub breakers: Vec<BreakerSpec>,
    /// The rules for failures of the service in the order given.
    pub on_failure: Vec<FailureSpec>,
    /// The rules for retries in the order given.
    pub retries: Vec<RetrySpec>,
    /// The rules for deadlines in the order given.
    pub deadlines: Vec<DeadlineSpec>,
    /// The fallbacks that policies refer to by index.
    pub fallbacks: Vec<Fallback>,
    /// What is shown of decisions.
    pub monitor: Monitor,
}

impl Config {
    /// Whether anything is kept in shared records, so that it matters under which scope.
    pub fn has_shared_state(&self) -> bool {
        let keeps_answers = self.on_failure.iter().any(|rule| rule.stale.is_some());
        !self.limits.is_empty() || !self.breakers.is_empty() || keeps_answers
    }

    /// What it says and can never do, in the order of the document. It does all else.
    pub fn warnings(&self) -> Vec<Warning> {
        warnings::of(self)
    }

    /// What this configuration and another one in use, under the same scope, count in one place by other numbers. They take
    /// each other's: of such numbers the latest hold for both. The places are this configuration's.
    pub fn disagreements(&self, other: &Self) -> Vec<Warning> {
        let mut found = Vec::new();
        let mut add = |place: String, name: &str| {
            let problem = "has other numbers in another filter that is in use, and both count in one place by these ones: \
                           give each filter a scope of its own";
            found.push(Warning::at(place, format!("{name:?} {problem}")));
        };
        let names = Names::of(other.limits.iter().map(|it| it.name.clone()).collect());
        for (index, limit) in self.limits.iter().enumerate() {
            let same = names.find(&limit.name).and_then(|it| other.limits.get(it));
            if same.is_some_and(|it| limit.disagrees(it)) {
                add(format!("limits[{index}]"), &limit.name);
            }
        }
        let names = Names::of(other.breakers.iter().map(|it| it.name.clone()).collect());
        for (index, breaker) in self.breakers.iter().enumerate() {
            let same = names.find(&breaker.name).and_then(|it| other.breakers.get(it));
            if same.is_some_and(|it| breaker.disagrees(it)) {
                add(format!("breakers[{index}]"), &breaker.name);
            }
        }
        found
    }

    /// Reads a configuration. No bytes at all are the empty document, which does nothing but count.
    ///
    /// # Errors
    ///
    /// The bytes are not JSON, are more than [`MOST_BYTES`](fields::MOST_BYTES), a field is unknown or has a bad value, or fields
    /// contradict each other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        fields::read(bytes)
    }
}
