//! What a request is: its operation and the operation's tier.
//!
//! An operation is a name for a kind of request ("place-order"). Policies and metrics speak of operations, never of
//! paths, so what a request is gets decided once, here: the operations are tried in order and the first that matches
//! names the request; if none does it is `other`.

pub mod body;
mod literals;
mod operations;
pub mod pattern;
pub mod request;
pub mod selection;

pub use operations::Operations;

use crate::operation::pattern::{PathPattern, Pattern};
use crate::operation::request::Request;

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
    /// Methods, exactly.
    pub methods: Vec<String>,
    /// Paths without query.
    pub paths: Vec<PathPattern>,
    /// Headers, each of which must match.
    pub headers: Vec<HeaderMatcher>,
}

impl Matcher {
    /// Whether the request meets all conditions.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        any_or_empty(&self.methods, |method| method.as_bytes() == request.method)
            && any_or_empty(&self.paths, |path| path.matches(request.path))
            && any_or_empty(&self.hosts, |host| !request.host.is_empty() && host.matches_ignoring_case(request.host))
            && self.headers.iter().all(|header| header.matches(request))
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
