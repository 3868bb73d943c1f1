//! The operations of a configuration, and which of them a request is.

use smallvec::SmallVec;

use super::literals::{Literal, Literals};
use super::path::{Parameters, without_parameters};
use super::pattern::{PathPattern, Pattern};
use super::request::Request;
use super::steps::Steps;
use super::walk::{Paths, Reach};
use super::{Matcher, Operation};

/// Operations in the order they are tried, with an index over them.
///
/// The first that matches names the request. Few can match, and the index says which: each operation is filed under how
/// the paths that it matches begin, or else how they end, or else how the hosts end that it matches. An operation that begins
/// like many others is filed by the other end where that tells it from more of them. So what a request costs depends on how many
/// operations share such a text with it, not on how many there are. What can be filed under none (a method alone, a
/// header alone) is tried on every request.
///
/// # Cost
///
/// A path of `n` bytes is walked at most twice, whatever is configured (the [`walk`](super::walk) module). An operation that is
/// tried costs at most the size of its own patterns: a template compares segments whose places are known. So the worst is O(n + size
/// of the operations that share a text with the request), and [`steps`](Operations::steps) counts these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    list: Vec<Operation>,
    by_path: Literals,
    by_end: Literals,
    by_host: Literals,
    unfiled: Vec<usize>,
    /// Whether any operation is told by its paths.
    tell_paths: bool,
    /// How far templates look into a path.
    reach: Reach,
}

/// Where an operation is filed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    Path,
    End,
    Host,
    None,
}

/// How many operations may begin alike before it is looked whether they end differently.
const FEW: usize = 4;

impl File {
    fn of(operation: &Operation) -> Self {
        let mut ways = [Self::Path, Self::End, Self::Host].into_iter();
        ways.find(|it| it.texts(&operation.matcher).is_some()).unwrap_or(Self::None)
    }

    /// The texts that it is filed under; `None` if there are requests that have none of them.
    fn texts(self, matcher: &Matcher) -> Option<Vec<Literal>> {
        let mut texts = Vec::new();
        match self {
            Self::Path | Self::End => {
                for path in &matcher.paths {
                    texts.push(if self == Self::Path { path.literal() } else { path.reversed_end() }?);
                }
            }
            Self::Host => {
                for host in &matcher.hosts {
                    texts.push(host.reversed_literal()?);
                }
            }
            Self::None => {}
        }
        (!texts.is_empty()).then_some(texts)
    }

    /// Files the operations that are to be filed here.
    fn index(self, list: &[Operation], files: &[Self]) -> Literals {
        let mut filed = Vec::new();
        for (index, (operation, file)) in list.iter().zip(files).enumerate() {
            if *file == self {
                let texts = self.texts(&operation.matcher).unwrap_or_default();
                filed.extend(texts.into_iter().map(|it| (it, index)));
            }
        }
        Literals::new(filed)
    }

    /// Among how many it is filed here, where most are.
    fn crowd(self, index: &Literals, matcher: &Matcher) -> usize {
        let texts = self.texts(matcher).unwrap_or_default();
        texts.iter().map(|it| index.crowd(it)).max().unwrap_or_default()
    }
}

impl Operations {
    /// Indexes operations, of which the last matches everything.
    pub fn new(list: Vec<Operation>) -> Self {
        let mut files: Vec<File> = list.iter().map(File::of).collect();
        let mut by_path = File::Path.index(&list, &files);
        let mut moved = false;
        for (file, Operation { matcher, .. }) in files.iter_mut().zip(&list) {
            let crowded = *file == File::Path && FEW < File::Path.crowd(&by_path, matcher);
            if crowded && File::End.texts(matcher).is_some() {
                *file = File::End;
                moved = true;
            }
        }
        let mut by_end = File::End.index(&list, &files);
        if moved {
            for (file, Operation { matcher, .. }) in files.iter_mut().zip(&list) {
                let beginning = File::Path.crowd(&by_path, matcher);
                if *file == File::End && 0 < beginning && beginning <= File::End.crowd(&by_end, matcher) {
                    *file = File::Path;
                }
            }
            by_path = File::Path.index(&list, &files);
            by_end = File::End.index(&list, &files);
        }
        let by_host = File::Host.index(&list, &files);
        let unfiled = files.iter().enumerate().filter(|(_, file)| **file == File::None).map(|(index, _)| index);
        Self {
            by_path,
            by_end,
            by_host,
            unfiled: unfiled.collect(),
            tell_paths: list.iter().any(|it| !it.matcher.paths.is_empty()),
            reach: list.iter().fold(Reach::default(), |all, it| all.or(it.matcher.reach())),
            list,
        }
    }

    /// The operation at the index.
    pub fn get(&self, index: usize) -> Option<&Operation> {
        self.list.get(index)
    }

    /// Whether any operation is told by its paths.
    pub fn look_at_paths(&self) -> bool {
        self.tell_paths
    }

    /// The first earlier operation that is sure to match all requests of the one at the index. Of those that may be it, as the index
    /// says, no more than `most` are compared, and no longer than there are `steps` left.
    pub fn hider(&self, index: usize, most: usize, steps: &Steps) -> Option<usize> {
        let matcher = &self.get(index)?.matcher;
        // Whatever covers all paths or hosts covers the first, and is filed under a beginning of it, or not by it.
        let path = matcher.paths.first().and_then(PathPattern::literal).map(Literal::into_text).unwrap_or_default();
        let host =
            matcher.hosts.first().and_then(Pattern::reversed_literal).map(Literal::into_text).unwrap_or_default();
        let end = matcher.paths.first().and_then(PathPattern::reversed_end).map(Literal::into_text).unwrap_or_default();
        let lists = self.by_path.find(&path).chain(self.by_end.find(&end)).chain(self.by_host.find(&host));
        let lists = lists.chain([self.unfiled.as_slice()]);
        let mut first: Option<usize> = None;
        for list in lists {
            let earlier = list.iter().copied().take_while(|it| *it < first.unwrap_or(index)).take(most);
            let covers = |it: &usize| self.get(*it).is_some_and(|it| it.matcher.covers(matcher, steps));
            first = earlier.into_iter().find(covers).or(first);
        }
        first
    }

    /// What the operation at the index makes of path parameters.
    pub fn path_parameters(&self, index: usize) -> Parameters {
        self.get(index).map(|it| it.matcher.path_parameters).unwrap_or_default()
    }

    /// What it costs at most to find the request's operation: how many lists and operations are looked at.
    pub fn steps(&self, request: &Request<'_>) -> usize {
        let mut steps = 0_usize;
        let cut = without_parameters(request.path);
        let paths = Paths::new(request.path, &cut, self.reach);
        self.each_list(request, &paths, |list| steps = steps.saturating_add(1).saturating_add(list.len()));
        steps
    }

    /// The index of the first that matches the request.
    pub(super) fn find(&self, request: &Request<'_>) -> usize {
        let mut first = self.list.len().saturating_sub(1);
        let cut = without_parameters(request.path);
        let paths = Paths::new(request.path, &cut, self.reach);
        self.each_list(request, &paths, |list| {
            let mut earlier = list.iter().copied().take_while(|index| *index < first);
            let matches = |index: &usize| self.get(*index).is_some_and(|it| it.matcher.meets(request, &paths));
            first = earlier.find(matches).unwrap_or(first);
        });
        first
    }

    /// Lists, each in order, that together hold every operation that may match.
    fn each_list(&self, request: &Request<'_>, paths: &Paths<'_>, mut look: impl FnMut(&[usize])) {
        for path in paths.all() {
            self.by_path.find(path).for_each(&mut look);
        }
        if !self.by_end.is_empty() {
            for path in paths.all() {
                // No more of it than can have been filed.
                let end: SmallVec<[u8; 64]> = path.iter().rev().take(self.by_end.longest()).copied().collect();
                self.by_end.find(&end).for_each(&mut look);
            }
        }
        if !self.by_host.is_empty() {
            // Names are rarely longer, and an address is not.
            let reversed: SmallVec<[u8; 64]> = request.host.iter().rev().map(u8::to_ascii_lowercase).collect();
            self.by_host.find(&reversed).for_each(&mut look);
        }
        look(&self.unfiled);
    }
}
