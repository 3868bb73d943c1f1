//! Which policies apply to an operation.
//!
//! A document may have thousands of operations and of policies. A list of policies for each operation would then be their
//! product: 5 000 limits for all of 5 000 operations are 25 000 000 entries. So a policy is filed as its document says it:
//! one that selects tiers, or everything, once for each of the four tiers; one that names operations, once for each name.
//! Both together are linear in the document. The policies of a request are those of its tier and those of its name, two lists
//! in order, which are [merged](Merged) while they are read.

use std::cell::RefCell;
use std::rc::Rc;

use crate::config::Outcomes;
use crate::monitor::failures::Failures;
use crate::monitor::metrics::Handle;
use crate::monitor::outcome::Outcome;
use crate::monitor::reason::Reason;
use crate::operation::Tier;
use crate::operation::selection::{Selected, Selection};
use crate::retry::policy::Decision;
use crate::retry::usual::UsualTime;
use crate::sorted::Merged;

/// A section of the document: a list of policies of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Section {
    Switches,
    /// Those that only count.
    ShadowSwitches,
    Breakers,
    /// Those that only count.
    ShadowBreakers,
    Limits,
    OnFailure,
    Retries,
    Deadlines,
}

/// Policies that apply to the same operations.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// By [`Section`]: indices of policies, in order.
    lists: [Vec<usize>; 8],
    /// What they take for failures.
    failures: Failed,
}

/// Statuses that policies name as failures, none to begin with.
#[derive(Debug)]
struct Failed(Failures);

impl Default for Failed {
    fn default() -> Self {
        Self(Failures::NONE)
    }
}

/// All policies, by what they select.
#[derive(Debug)]
pub(crate) struct Filed {
    /// By [`Tier`].
    of_tier: [Rc<Policies>; 4],
    /// By index of the operation. Most have none of their own.
    of_name: Vec<Option<Rc<Policies>>>,
    none: Rc<Policies>,
}

impl Filed {
    /// Nothing, for so many operations.
    pub(super) fn new(operations: usize) -> Self {
        Self { of_tier: Default::default(), of_name: vec![None; operations], none: Rc::default() }
    }

    /// Files the policy with this index, which is higher than those filed in its section before, with what it takes for a
    /// failure.
    pub(super) fn file(&mut self, section: Section, index: usize, selection: &Selection, failures: Option<Failures>) {
        match &selection.operations {
            Selected::OfTiers(tiers) => {
                let all = [Tier::P0, Tier::P1, Tier::P2, Tier::P3].into_iter().zip(&mut self.of_tier);
                all.filter(|(tier, _)| tiers.contains(*tier)).for_each(|(_, it)| add(it, section, index, failures));
            }
            Selected::Named(operations) => {
                for operation in operations {
                    if let Some(it) = self.of_name.get_mut(*operation) {
                        add(it.get_or_insert_default(), section, index, failures);
                    }
                }
            }
        }
    }

    /// The policies of the operation with this index, of this tier: those of its tier and those of its name.
    pub(super) fn of(&self, operation: usize, tier: Tier) -> [Rc<Policies>; 2] {
        let of_tier = self.of_tier.get(tier as usize).unwrap_or(&self.none);
        let of_name = self.of_name.get(operation).and_then(Option::as_ref).unwrap_or(&self.none);
        [of_tier, of_name].map(Rc::clone)
    }
}

/// Adds a policy. Nobody else has the policies while they are being filed.
fn add(policies: &mut Rc<Policies>, section: Section, index: usize, failures: Option<Failures>) {
    let Some(policies) = Rc::get_mut(policies) else {
        return;
    };
    if let Some(list) = policies.lists.get_mut(section as usize) {
        list.push(index);
    }
    if let Some(failures) = failures {
        policies.failures = Failed(policies.failures.0.or(&failures));
    }
}

/// What happens to requests of one operation. Made when the first of them comes: of thousands of operations few have
/// requests in any one sidecar.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Those of its tier and those of its name.
    policies: [Rc<Policies>; 2],
    /// Why an answer was replaced.
    pub(crate) failure: Reason,
    /// How long its requests take, where it matters: where there are retries or deadlines.
    pub(crate) usual_time: Option<Rc<RefCell<UsualTime>>>,
    /// The statuses that are a failure to anybody who hears of them.
    pub(crate) failures: Failures,
    /// Of which responses the status is read, whatever the rules for deadlines and retries want to know.
    pub(crate) outcomes: Outcomes,
    pub(crate) requests: [Handle; Outcome::COUNT],
    pub(crate) retried: [Handle; Decision::COUNT],
    pub(crate) duration: Handle,
}

impl Plan {
    /// The plan of an operation with these policies. `usual_time` is asked for where it matters; `outcomes` is what the
    /// configuration says where no policy judges.
    pub(super) fn new(
        policies: [Rc<Policies>; 2],
        failure: Reason,
        usual_time: impl FnOnce() -> Rc<RefCell<UsualTime>>,
        outcomes: Outcomes,
    ) -> Self {
        let failures = policies.iter().fold(Failures::default(), |all, more| all.or(&more.failures.0));
        let mut plan = Self {
            policies,
            failure,
            usual_time: None,
            failures,
            outcomes,
            requests: Default::default(),
            retried: Default::default(),
            duration: Handle::default(),
        };
        if plan.has(Section::Retries) || plan.has(Section::Deadlines) {
            plan.usual_time = Some(usual_time());
        }
        if plan.is_guarded() {
            plan.outcomes = Outcomes::All;
        }
        plan
    }

    /// Indices of the policies of a section, in order: of limits those that refuse before those that only count.
    pub(crate) fn of(&self, section: Section) -> Merged<'_> {
        let [one, other] = &self.policies;
        Merged::new(one.list(section), other.list(section))
    }

    /// Whether a policy needs to know how a response begins: something may take its place, or a breaker waits for it.
    pub(crate) fn is_guarded(&self) -> bool {
        self.has_breakers() || self.has(Section::OnFailure)
    }

    /// Whether a breaker is to hear of the requests.
    pub(crate) fn has_breakers(&self) -> bool {
        self.has(Section::Breakers) || self.has(Section::ShadowBreakers)
    }

    /// Whether a switch is to see the requests.
    pub(crate) fn has_switches(&self) -> bool {
        self.has(Section::Switches) || self.has(Section::ShadowSwitches)
    }

    fn has(&self, section: Section) -> bool {
        !self.of(section).is_empty()
    }
}

impl Policies {
    fn list(&self, section: Section) -> &[usize] {
        self.lists.get(section as usize).map_or(&[], Vec::as_slice)
    }
}
