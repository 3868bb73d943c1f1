//! What a request is: its operation and the operation's tier.
//!
//! An operation is a name for a kind of request ("place-order"). Policies and metrics speak of operations, never of
//! paths, so what a request is gets decided once, here: the operations are tried in order and the first that matches
//! names the request; if none does it is `other`.

pub mod body;
pub mod client_ip;
pub mod fields;
pub mod key;
mod literals;
mod operations;
pub mod path;
pub mod pattern;
pub mod request;
pub mod selection;
pub mod steps;
pub mod stream;
mod walk;

pub use operations::Operations;

use crate::operation::pattern::{PathPattern, Pattern};
use crate::operation::request::Request;
use crate::operation::steps::Steps;
use crate::operation::walk::{Paths, Reach};

/// Name of the operation of requests that no other matches. Reserved.
pub const OTHER: &str = "other";

/// How much an operation matters: what is given up first is P3, what must not fail is P0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Core: must not fail.
    P0,
    /// Tightly bound to the core, may be made up for later. The tier of `other`.
    P1,
    /// Loosely bound.
    P2,
    /// Decoration.
    P3,
}

impl Tier {
    /// All of them, from the core outward.
    pub const ALL: [Self; 4] = [Self::P0, Self::P1, Self::P2, Self::P3];

    /// The tier's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P0 => "P0",
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
        }
    }
}

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Unique name.
    pub name: String,
    /// How much it matters.
    pub tier: Tier,
    /// Which requests it names.
    pub matcher: Matcher,
}

impl Operation {
    /// The operation of requests that no other matches.
    pub fn other() -> Self {
        Self { name: OTHER.to_owned(), tier: Tier::P1, matcher: Matcher::default() }
    }
}

/// Conditions on a request, all of which must hold. A list holds if one of its entries does; an empty list always
/// holds, so the default matches every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// Hosts without port, in any case.
    pub hosts: Vec<Pattern>,
    /// Methods, in any case: services that a method in small letters reaches take it for the one in capitals.
    pub methods: Vec<String>,
    /// Paths without query.
    pub paths: Vec<PathPattern>,
    /// What becomes of path parameters before paths are compared.
    pub path_parameters: path::Parameters,
    /// Headers, each of which must match.
    pub headers: Vec<HeaderMatcher>,
}

impl Matcher {
    /// Whether the request, with these paths, meets all conditions.
    fn meets(&self, request: &Request<'_>, paths: &Paths<'_>) -> bool {
        any_or_empty(&self.methods, |method| request.has_method(method))
            && any_or_empty(&self.paths, |pattern| pattern.matches_walked(paths.of(self.path_parameters)))
            && any_or_empty(&self.hosts, |host| !request.host.is_empty() && host.matches_ignoring_case(request.host))
            && self.headers.iter().all(|header| header.matches(request))
    }

    /// Whether every request that the other matches is sure to match this one too. That it is not said to does not mean that
    /// there is a request for which it is not so, or that nothing was left of `steps`: one is spent on each pair of entries.
    pub fn covers(&self, other: &Self, steps: &Steps) -> bool {
        let pairs = [
            self.methods.len().saturating_mul(other.methods.len()),
            self.paths.len().saturating_mul(other.paths.len()),
            self.hosts.len().saturating_mul(other.hosts.len()),
            self.headers.len().saturating_mul(other.headers.len()),
        ];
        if !steps.spend(pairs.into_iter().fold(1, usize::saturating_add)) {
            return false;
        }
        let same_path = self.path_parameters == other.path_parameters;
        covers(&self.methods, &other.methods, |one, other| one.eq_ignore_ascii_case(other))
            && (self.paths.is_empty() || same_path && covers(&self.paths, &other.paths, PathPattern::covers))
            && covers(&self.hosts, &other.hosts, Pattern::covers)
            && self
                .headers
                .iter()
                .all(|one| other.headers.iter().any(|it| one.name == it.name && one.value.covers(&it.value)))
    }

    /// How far its templates look into a path.
    fn reach(&self) -> Reach {
        self.paths.iter().fold(Reach::default(), |all, it| all.or(it.reach()))
    }
}

/// A condition on one header. It holds if any of the header's values matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// Lower-case name.
    pub name: String,
    /// What a value must look like.
    pub value: Pattern,
}

impl HeaderMatcher {
    fn matches(&self, request: &Request<'_>) -> bool {
        request.headers.all(&self.name).any(|value| self.value.matches(value))
    }
}

/// The index of the request's operation: the first that matches.
pub fn classify(operations: &Operations, request: &Request<'_>) -> usize {
    operations.find(request)
}

fn any_or_empty<T>(list: &[T], holds: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(holds)
}

/// Whether what some entry of the other list holds for, some entry of this one holds for; an empty list holds for all.
fn covers<T>(list: &[T], other: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    list.is_empty() || !other.is_empty() && other.iter().all(|it| list.iter().any(|one| covers(one, it)))
}
