//! Which requests a policy applies to.

use crate::operation::request::Request;

/// Operations, resolved from names or tiers, and methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Indices of operations.
    pub operations: Vec<usize>,
    /// Methods, in any case; empty for all.
    pub methods: Vec<String>,
}

impl Selection {
    /// Whether the operation is one of them.
    pub fn includes(&self, operation: usize) -> bool {
        self.operations.contains(&operation)
    }

    /// Whether the method of a request of one of the operations is one of them.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| request.has_method(method))
    }
}
