//! Why a document is refused: every place that is wrong, at most [`MOST`] of them.

use std::fmt;

use super::place::{self, Place, Step};

/// How many errors are told of. More would fill a log, and who corrects these is told of the next.
pub const MOST: usize = 20;

/// A place, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    problem: String,
}

impl ConfigError {
    /// An error at a place such as `limits[2].token_bucket`; empty for the document as a whole.
    pub fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// The JSON path; empty for the document as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The same one step further out: for who finds an error inside of something, and knows where that is.
    pub(super) fn inside(self, step: Step<'_>) -> Self {
        let mut path = String::new();
        place::push(&mut path, step);
        if !self.path.is_empty() && !self.path.starts_with('[') {
            path.push('.');
        }
        path.push_str(&self.path);
        Self { path, problem: self.problem }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str(&self.path)?;
            f.write_str(": ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a document, in its order: at least one error. One reads as it does alone; several take a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    /// In order, with the bytes of the document before each place.
    found: Vec<(usize, ConfigError)>,
    more: usize,
}

impl ConfigErrors {
    /// Those that are told of, in the order of the document.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.found.iter().map(|(_, error)| error)
    }

    /// Those that are told of, each after the bytes of the document before its place. An error about the document as a whole has 0.
    pub fn with_offsets(&self) -> impl Iterator<Item = (usize, &ConfigError)> {
        self.found.iter().map(|(at, error)| (*at, error))
    }

    /// How many there are beside those.
    pub const fn more(&self) -> usize {
        self.more
    }

    /// How many there are, those beside included.
    pub(crate) const fn count(&self) -> usize {
        self.found.len().saturating_add(self.more)
    }

    /// Adds one. Its texts are made only if it is among the first of the document.
    pub(crate) fn add(&mut self, at: usize, place: &Place<'_>, problem: fmt::Arguments<'_>) {
        if self.found.len() == MOST && self.found.last().is_some_and(|(last, _)| *last <= at) {
            self.more = self.more.saturating_add(1);
            return;
        }
        let index = self.found.partition_point(|(it, _)| *it <= at);
        self.found.insert(index, (at, ConfigError { path: place.text(), problem: problem.to_string() }));
        if MOST < self.found.len() {
            self.found.pop();
            self.more = self.more.saturating_add(1);
        }
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self { found: vec![(0, error)], more: 0 }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            if index != 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
