//! What is odd in a configuration that is not refused.

use std::fmt;

use crate::document::ConfigError;

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

    /// Why it does nothing.
    pub fn problem(&self) -> &str {
        self.0.problem()
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
