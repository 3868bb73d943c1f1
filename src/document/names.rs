//! Names of a list's entries, and who refers to them.

use std::collections::BinaryHeap;

use super::field::MOST_ELEMENTS;
use super::node::Node;
use super::section::Section;
use super::shown::quoted;

/// The names of a list: each belongs to one entry.
#[derive(Debug)]
pub struct Names {
    /// In order, each with the index of its entry.
    sorted: Vec<(String, usize)>,
    /// Whether every entry has a name of its own. If not, what seems to refer to nothing may refer to one that could not be read, which
    /// was told of already.
    is_complete: bool,
    /// What an entry is, to follow "is not the name of".
    entry: &'static str,
}

impl Names {
    /// Reads the `name` of each entry of the list, also of those that are bad otherwise. Tells of those that are taken.
    pub fn read(document: &mut Section<'_>, list: &str, entry: &'static str) -> Self {
        let mut names = Vec::new();
        let mut is_complete = true;
        let elements = document.node().member(list).map_or(&[] as &[Node<'_>], Node::elements);
        if MOST_ELEMENTS < elements.len() {
            return Self { sorted: Vec::new(), is_complete: false, entry };
        }
        let mut indices = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            let name = element.member("name").filter(|name| !name.bad);
            let Some(name) = name.and_then(|name| super::check::as_text(name, false).ok()) else {
                is_complete = false;
                continue;
            };
            names.push(name.into_owned());
            indices.push(index);
        }
        is_complete &= document.is_list(list);
        let mut sorted: Vec<(String, usize)> = Vec::with_capacity(names.len());
        for (name, place) in in_order(names) {
            let Some(index) = indices.get(place).copied() else {
                continue;
            };
            match sorted.last() {
                Some((last, _)) if *last == name => {
                    is_complete = false;
                    let problem = format_args!("{}, is the name of an earlier entry too", quoted(&name));
                    if let Some(mut entry) = document.entry(list, index) {
                        entry.refuse("name", problem);
                    }
                }
                _ => sorted.push((name, index)),
            }
        }
        Self { sorted, is_complete, entry }
    }

    /// The names of a list that was read before.
    pub fn of(names: Vec<String>) -> Self {
        Self { sorted: in_order(names), is_complete: true, entry: "an entry" }
    }

    /// The index of the entry of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        let place = self.sorted.binary_search_by(|(it, _)| it.as_str().cmp(name)).ok()?;
        self.sorted.get(place).map(|(_, index)| *index)
    }

    /// What is wrong with a reference by this name, which is nobody's; nothing if that is not certain.
    pub fn problem(&self, name: &str) -> Option<String> {
        self.is_complete.then(|| format!("{}, is not the name of {}", quoted(name), self.entry))
    }

    /// The index of the entry that the field refers to. Tells of a name that is nobody's.
    pub fn resolve(&self, section: &mut Section<'_>, field: &str) -> Option<usize> {
        let name = section.text(field)?;
        let found = self.find(&name);
        if found.is_none()
            && let Some(problem) = self.problem(&name)
        {
            section.refuse(field, format_args!("{problem}"));
        }
        found
    }
}

/// The index of the first name that an earlier one is equal to.
pub fn first_repeated(names: Vec<String>) -> Option<usize> {
    let mut first = None;
    let mut last: Option<String> = None;
    for (name, index) in in_order(names) {
        if last.as_ref() == Some(&name) {
            first = Some(first.map_or(index, |it: usize| it.min(index)));
        }
        last = Some(name);
    }
    first
}

/// Names in order, with the places where they stood; equal ones in the order of these. A heap sorts thousands as fast as any, and is
/// the smallest way to do it.
fn in_order(names: Vec<String>) -> Vec<(String, usize)> {
    let heap: BinaryHeap<(String, usize)> = names.into_iter().enumerate().map(|(index, name)| (name, index)).collect();
    heap.into_sorted_vec()
}
