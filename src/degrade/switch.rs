//! Degradation that people decide: a switch gives up a part of the service, so that the rest is carried.

pub mod fields;

use std::time::Duration;

use crate::monitor::names::Names;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::{Enforcement, Reason};
use crate::operation::request::Request;
use crate::operation::selection::Selection;
use crate::reply::fallback::Fallback;
use crate::reply::refusal::{Problem, Refusal};

/// When to come again, for who is refused by a switch: people throw and reset switches in minutes.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A switch, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchSpec {
    /// Unique name.
    pub name: String,
    /// Whether it is on.
    pub active: bool,
    /// Which requests it gives up.
    pub selection: Selection,
    /// Whether it refuses, or only counts what it would refuse.
    pub enforced: bool,
    /// Index of the fallback that is served instead.
    pub fallback: Option<usize>,
}

impl SwitchSpec {
    /// Whether the switch is on: the one place that knows where its position comes from.
    pub const fn is_on(&self) -> bool {
        self.active
    }
}

/// A switch at work.
#[derive(Debug)]
pub struct Switch {
    spec: SwitchSpec,
    reason: Reason,
}

impl Switch {
    /// The switch of this specification, with metrics of these names.
    pub fn new(spec: SwitchSpec, names: &Names) -> Self {
        Self { reason: Reason::new("switch", &spec.name, names), spec }
    }

    /// The parameters.
    pub fn spec(&self) -> &SwitchSpec {
        &self.spec
    }

    /// The refusal of a request that is given up.
    pub fn refusal<'a>(&'a self, fallbacks: &'a [Fallback]) -> Refusal<'a> {
        Refusal {
            reason: &self.reason,
            outcome: Outcome::Degraded,
            enforcement: Enforcement::of(self.spec.enforced),
            problem: Problem::TemporaryReducedCapacity,
            retry_after: Some(RETRY_AFTER),
            fallback: self.spec.fallback.and_then(|index| fallbacks.get(index)),
            quota: Vec::new(),
            detail: None,
        }
    }

    /// Whether the request is given up.
    pub fn gives_up(&self, request: &Request<'_>) -> bool {
        self.spec.is_on() && self.spec.selection.allows(request)
    }
}
