//! Finds what was filed under the beginnings of a text.

use std::collections::BTreeMap;

/// Numbers filed under texts, to be found by a text that is one of these or begins with it.
///
/// One binary search, whatever is filed. It relies on this: of sorted texts, let `last` be the last that is not greater
/// than the text looked up. Every beginning of the latter is `last` or a beginning of it, because what lies between a
/// beginning and the whole in order begins with the beginning as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Literals {
    /// In order of their texts.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    text: Vec<u8>,
    /// Place of the longest other text that this one begins with.
    outer: Option<usize>,
    /// What is found by this text only. In order.
    whole: Vec<usize>,
    /// What is found by everything that begins with this text. In order.
    start: Vec<usize>,
}

/// What a pattern says for certain about the values that match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literal {
    /// They are this text.
    Whole(Vec<u8>),
    /// They begin with this text.
    Start(Vec<u8>),
}

impl Literals {
    /// Files numbers. Numbers that are filed under the same text are to be given in order.
    pub(super) fn new(filed: impl IntoIterator<Item = (Literal, usize)>) -> Self {
        let mut by_text: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        for (literal, number) in filed {
            let list = match literal {
                Literal::Whole(text) => &mut by_text.entry(text).or_default().whole,
                Literal::Start(text) => &mut by_text.entry(text).or_default().start,
            };
            if list.last() != Some(&number) {
                list.push(number);
            }
        }
        let mut entries = Vec::with_capacity(by_text.len());
        // The texts that the next may begin with, each a beginning of the one after it.
        let mut open: Vec<(usize, Vec<u8>)> = Vec::new();
        for (place, (text, entry)) in by_text.into_iter().enumerate() {
            while open.pop_if(|(_, outer)| !text.starts_with(outer)).is_some() {}
            let outer = open.last().map(|(outer, _)| *outer);
            open.push((place, text.clone()));
            entries.push(Entry { text, outer, ..entry });
        }
        Self { entries }
    }

    /// The numbers found by the text, in lists.
    pub(super) fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a [usize]> {
        let last = self.entries.partition_point(|entry| entry.text.as_slice() <= text).checked_sub(1);
        let chain = std::iter::successors(last, |place| self.entries.get(*place)?.outer);
        chain.filter_map(|place| self.entries.get(place)).flat_map(move |entry| {
            let start = if text.starts_with(&entry.text) { entry.start.as_slice() } else { &[] };
            let whole = if text == entry.text { entry.whole.as_slice() } else { &[] };
            [start, whole]
        })
    }

    /// Whether nothing is filed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
