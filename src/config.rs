//! JSON bytes become a configuration that cannot be wrong.
//!
//! Reading happens in two steps that a caller sees as one. The `document` has the shape of the JSON, and its field
//! types (in `value` and `term`) accept only values that are good by themselves; `compile` then checks what several fields say
//! together and resolves names. An error of either step names the place, the value and the rule:
//!
//! ```text
//! limits[2].token_bucket.fill_interval: "0s", must be at least 1ms
//! ```
//!
//! Unknown fields are errors, so that a typing mistake does not switch a protection off.

mod compile;
mod document;
mod error;
mod node;
mod path;
mod problem;
mod reader;
mod term;
mod text;
mod value;
mod warnings;

pub use error::{ConfigError, Warning};

use crate::degrade::breaker::rule::BreakerSpec;
use crate::degrade::failure::FailureSpec;
use crate::degrade::fallback::Fallback;
use crate::degrade::switch::SwitchSpec;
use crate::limit::rule::LimitSpec;
use crate::operation::Operation;
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

/// Where in the proxy the filter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Among the filters of a listener, where it sees each request once.
    #[default]
    Downstream,
    /// Among the filters of an upstream, where it sees each attempt. It pays for retries and does nothing else; by which
    /// rules, the filter downstream knows. So such a configuration has no policies: those of its document are checked, so that
    /// one document serves both places, and left out.
    Upstream,
}

/// What is shown of decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Of which requests the access log is shown reason, operation and tier.
    pub access_log: AccessLog,
    /// Whether refusals carry `x-outrigger-reason`.
    pub reason_header: bool,
    /// Which fields tell a refused client about its quota.
    pub ratelimit_headers: RateLimitHeaders,
    /// Whether admitted clients are told too.
    pub ratelimit_headers_on_success: bool,
    /// Of which responses the status is read.
    pub outcomes: Outcomes,
}

/// Of which requests the access log can print fields. Each field costs its request a call of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Of all: operation and tier always, the others where they say something.
    All,
    /// Of those that something happened to: refused, or would have been by a limit that only counts; ended or answered by the
    /// filter; failed, or retried.
    Decisions,
    /// Of none.
    None,
}

/// Of which responses the status is read, which costs a call of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcomes {
    /// Of all, so that every request is counted by its outcome.
    All,
    /// Of those that a policy judges. The others are counted as `unknown`.
    AsNeeded,
}

/// A style of telling a client about its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimitHeaders {
    /// `RateLimit` and `RateLimit-Policy` of the IETF draft.
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    XRateLimit,
    /// Nothing but `Retry-After`.
    None,
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
        for (index, limit) in self.limits.iter().enumerate() {
            if other.limits.iter().any(|it| limit.disagrees(it)) {
                add(format!("limits[{index}]"), &limit.name);
            }
        }
        for (index, breaker) in self.breakers.iter().enumerate() {
            if other.breakers.iter().any(|it| breaker.disagrees(it)) {
                add(format!("breakers[{index}]"), &breaker.name);
            }
        }
        found
    }

    /// Reads a configuration. No bytes at all are the empty document, which does nothing but count.
    ///
    /// # Errors
    ///
    /// The bytes are not JSON, a field is unknown or has a bad value, or fields contradict each other. The error names
    /// the first place found.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let document = match bytes {
            blank if blank.trim_ascii().is_empty() => document::Document::default(),
            text => document::Document::parse(text)?,
        };
        compile::compile(document)
    }
}
