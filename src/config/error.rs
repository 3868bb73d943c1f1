//! Why a configuration is refused, and what is odd in one that is not.

use std::fmt;

/// A refused configuration: the place, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    problem: String,
}

impl ConfigError {
    /// An error at a place such as `limits[2].token_bucket`; empty for the document as a whole.
    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// The JSON path; empty for the document as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What a configuration can never do, although it says so: the place, and why. Somebody may have meant it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(ConfigError);

impl Warning {
    /// A warning about a place such as `limits[2]`.
    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(ConfigError::at(path, problem))
    }

    /// The JSON path.
    pub fn path(&self) -> &str {
        self.0.path()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
