//! What takes the place of an answer that says failure.

use crate::operation::selection::Selection;

/// A rule for failures of the service, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureSpec {
    /// Whose failures are replaced.
    pub selection: Selection,
    /// Which of them, by status.
    pub statuses: Vec<Statuses>,
    /// Index of the fallback that is served.
    pub fallback: Option<usize>,
}

impl FailureSpec {
    /// Whether a failure of this status is replaced. A gRPC failure has the status that its code stands for: 503 for
    /// `UNAVAILABLE`, 504 for `DEADLINE_EXCEEDED`.
    pub fn replaces(&self, status: u16) -> bool {
        self.statuses.iter().any(|it| it.contains(status))
    }
}

/// One or all statuses that say that the service failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statuses {
    /// `5xx`: 500 to 599.
    All,
    /// One of them.
    One(u16),
}

impl Statuses {
    const fn contains(self, status: u16) -> bool {
        match self {
            Self::All => 500 <= status && status <= 599,
            Self::One(one) => status == one,
        }
    }
}
