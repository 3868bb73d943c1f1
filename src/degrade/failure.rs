//! What takes the place of an answer that says failure.

pub mod fields;

use crate::degrade::stale::{self, Stale};
use crate::monitor::failures::Failures;
use crate::monitor::names::Names;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::selection::Selection;
use crate::reply::refusal::{Problem, Refusal};

/// A rule for failures of the service, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureSpec {
    /// Whose failures are replaced.
    pub selection: Selection,
    /// Which answers are. The rule is chosen before the answer is there, so one of another status passes, whatever a later rule
    /// says of it.
    pub failures: Failures,
    /// Whether the last good answer is served, and which are kept.
    pub stale: Option<stale::Spec>,
    /// Index of the fallback that is served if no answer is kept.
    pub fallback: Option<usize>,
}

/// What goes for a refusal where an answer is replaced: there is nothing to be told without a fallback, and nobody knows when to
/// come again.
pub fn refusal(reason: &Reason) -> Refusal<'_> {
    Refusal {
        reason,
        outcome: Outcome::Degraded,
        enforcement: Enforcement::Enforced,
        problem: Problem::TemporaryReducedCapacity,
        retry_after: None,
        fallback: None,
        quota: Vec::new(),
        detail: None,
    }
}

/// A rule at work.
#[derive(Debug)]
pub struct FailureRule {
    spec: FailureSpec,
    stale: Option<Stale>,
}

impl FailureRule {
    /// The rule of this specification, the `index`-th of its configuration, with its state under `scope`. `names` are those that
    /// it counts in.
    pub fn new(index: usize, spec: FailureSpec, scope: &str, names: &Names, store: &stale::Store) -> Self {
        let prefix = format!("outrigger/{scope}/stale/{index}/v{}/", stale::LAYOUT);
        let stale = spec.stale.clone().map(|stale| Stale::new(prefix, stale, names, store));
        Self { spec, stale }
    }

    /// The parameters.
    pub fn spec(&self) -> &FailureSpec {
        &self.spec
    }

    /// The answers that are kept.
    pub fn stale(&self) -> Option<&Stale> {
        self.stale.as_ref()
    }
}
