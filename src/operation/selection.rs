//! Which requests a policy applies to.

use crate::operation::request::Request;
use crate::operation::{Operation, Tier};

/// Operations and methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The operations.
    pub operations: Selected,
    /// Methods, in any case; empty for all.
    pub methods: Vec<String>,
}

/// Operations as a policy names them. A policy for all of them, or for tiers, holds no list: thousands of policies for
/// thousands of operations would be millions of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// Every operation of these tiers.
    OfTiers(Tiers),
    /// The operations with these indices, in order, each once.
    Named(Vec<usize>),
}

/// A set of tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers(u8);

impl Tiers {
    /// All of them: what a policy selects that says nothing of operations.
    pub const ALL: Self = Self(0b1111);
    const NONE: Self = Self(0);

    /// These tiers.
    pub fn of(tiers: impl IntoIterator<Item = Tier>) -> Self {
        tiers.into_iter().fold(Self::NONE, |all, tier| Self(all.0 | Self::bit(tier)))
    }

    /// Whether the tier is one of them.
    pub const fn contains(self, tier: Tier) -> bool {
        self.0 & Self::bit(tier) != 0
    }

    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn bit(tier: Tier) -> u8 {
        1 << tier as u8
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self { operations: Selected::OfTiers(Tiers::ALL), methods: Vec::new() }
    }
}

impl Selection {
    /// Whether the operation with this index, of this tier, is one of them.
    pub fn includes(&self, operation: usize, tier: Tier) -> bool {
        match &self.operations {
            Selected::OfTiers(tiers) => tiers.contains(tier),
            Selected::Named(indices) => indices.binary_search(&operation).is_ok(),
        }
    }

    /// The indices of those that are among all `operations`, in order. What names its operations costs as many steps, not as
    /// many as there are operations.
    pub fn among<'s>(&'s self, operations: &'s [Operation]) -> impl Iterator<Item = usize> + 's {
        let (tiers, operations, named): (_, _, &[usize]) = match &self.operations {
            Selected::OfTiers(tiers) => (*tiers, operations, &[]),
            Selected::Named(indices) => (Tiers::NONE, Default::default(), indices),
        };
        let of_tiers = operations.iter().enumerate().filter(move |(_, it)| tiers.contains(it.tier));
        named.iter().copied().chain(of_tiers.map(|(index, _)| index))
    }

    /// Whether some operation is one of both selections'. `operations` are all there are, and `present` the tiers of these.
    pub fn meets(&self, other: &Self, operations: &[Operation], present: Tiers) -> bool {
        let (tiers, indices) = match (&self.operations, &other.operations) {
            (Selected::OfTiers(one), Selected::OfTiers(other)) => return Tiers(one.0 & other.0).meets(present),
            (Selected::Named(one), Selected::Named(other)) => {
                return one.iter().any(|index| other.binary_search(index).is_ok());
            }
            (Selected::OfTiers(tiers), Selected::Named(indices))
            | (Selected::Named(indices), Selected::OfTiers(tiers)) => (tiers, indices),
        };
        indices.iter().filter_map(|index| operations.get(*index)).any(|it| tiers.contains(it.tier))
    }

    /// Whether the method of a request of one of the operations is one of them.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| request.has_method(method))
    }
}
