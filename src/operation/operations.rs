//! The operations of a configuration, and which of them a request is.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Operation;
use super::literals::Literals;
use super::path::{Parameters, without_parameters};
use super::request::Request;

/// Operations in the order they are tried, with an index over them.
///
/// The first that matches names the request. Few can match, and the index says which: each operation is filed under how
/// the paths that it matches begin, or else how the hosts end that it matches. So what a request costs depends on how many
/// operations share such a text with it, not on how many there are. What can be filed under neither (a method alone, a
/// header alone, paths by their ends) is tried on every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    list: Vec<Operation>,
    by_path: Literals,
    by_host: Literals,
    unfiled: Vec<usize>,
    /// Whether any operation is told by its paths.
    tell_paths: bool,
}

/// Where an operation is filed.
enum File {
    Path,
    Host,
    None,
}

impl File {
    fn of(operation: &Operation) -> Self {
        let matcher = &operation.matcher;
        if !matcher.paths.is_empty() && matcher.paths.iter().all(|it| it.literal().is_some()) {
            return Self::Path;
        }
        if !matcher.hosts.is_empty() && matcher.hosts.iter().all(|it| it.reversed_literal().is_some()) {
            return Self::Host;
        }
        Self::None
    }
}

impl Operations {
    /// Indexes operations, of which the last matches everything.
    pub fn new(list: Vec<Operation>) -> Self {
        let (mut paths, mut hosts, mut unfiled) = (Vec::new(), Vec::new(), Vec::new());
        for (index, operation) in list.iter().enumerate() {
            let matcher = &operation.matcher;
            match File::of(operation) {
                File::Path => paths.extend(matcher.paths.iter().filter_map(|it| Some((it.literal()?, index)))),
                File::Host => hosts.extend(matcher.hosts.iter().filter_map(|it| Some((it.reversed_literal()?, index)))),
                File::None => unfiled.push(index),
            }
        }
        let tell_paths = list.iter().any(|it| !it.matcher.paths.is_empty());
        Self { by_path: Literals::new(paths), by_host: Literals::new(hosts), unfiled, tell_paths, list }
    }

    /// The operation at the index.
    pub fn get(&self, index: usize) -> Option<&Operation> {
        self.list.get(index)
    }

    /// Whether any operation is told by its paths.
    pub fn look_at_paths(&self) -> bool {
        self.tell_paths
    }

    /// What the operation at the index makes of path parameters.
    pub fn path_parameters(&self, index: usize) -> Parameters {
        self.get(index).map(|it| it.matcher.path_parameters).unwrap_or_default()
    }

    /// What it costs at most to find the request's operation: how many lists and operations are looked at.
    pub fn steps(&self, request: &Request<'_>) -> usize {
        let mut steps = 0_usize;
        self.each_list(request, |list| steps = steps.saturating_add(1).saturating_add(list.len()));
        steps
    }

    /// The index of the first that matches the request.
    pub(super) fn find(&self, request: &Request<'_>) -> usize {
        let mut first = self.list.len().saturating_sub(1);
        self.each_list(request, |list| {
            let mut earlier = list.iter().copied().take_while(|index| *index < first);
            let matches = |index: &usize| self.get(*index).is_some_and(|it| it.matcher.matches(request));
            first = earlier.find(matches).unwrap_or(first);
        });
        first
    }

    /// Lists, each in order, that together hold every operation that may match.
    fn each_list(&self, request: &Request<'_>, mut look: impl FnMut(&[usize])) {
        self.by_path.find(request.path).for_each(&mut look);
        if let Cow::Owned(path) = without_parameters(request.path) {
            self.by_path.find(&path).for_each(&mut look);
        }
        if !self.by_host.is_empty() {
            // Names are rarely longer, and an address is not.
            let reversed: SmallVec<[u8; 64]> = request.host.iter().rev().map(u8::to_ascii_lowercase).collect();
            self.by_host.find(&reversed).for_each(&mut look);
        }
        look(&self.unfiled);
    }
}
