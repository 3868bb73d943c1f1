//! What is found in a file.

use std::ops::Range;

use super::source::Source;

/// A file, and all that was found in it.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) source: Source,
    pub(super) findings: Vec<Finding>,
}

/// Something that is wrong or odd.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Which kind of rule it is, for programs; see [`RULES`].
    pub(super) rule: &'static str,
    /// Place in the configuration; empty for a whole one.
    pub(super) path: String,
    pub(super) problem: String,
    pub(super) fix: Option<String>,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
}

/// The kinds of rules, with what each says.
pub(super) const RULES: [(&str, &str); 8] = [
    ("syntax", "The file is YAML or JSON"),
    ("no-configuration", "The file has a configuration of Outrigger"),
    ("unknown-field", "Fields are those of the reference"),
    ("missing-field", "Required fields are there"),
    ("duplicate-field", "Each field is given once"),
    ("invalid-value", "Values are as the reference says"),
    ("no-effect", "What is said can do something"),
    ("ambiguous-yaml", "Plain scalars of YAML mean the same to all readers"),
];

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl Finding {
    /// Place, value and rule in a line.
    pub(super) fn message(&self) -> String {
        if self.path.is_empty() { self.problem.clone() } else { format!("{}: {}", self.path, self.problem) }
    }
}
