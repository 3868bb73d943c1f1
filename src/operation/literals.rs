//! Finds what was filed under the beginnings of a text.

use std::collections::BinaryHeap;

/// Numbers filed under texts, to be found by a text that is one of these or begins with it.
///
/// One binary search, whatever is filed. It relies on this: of sorted texts, let `last` be the last that is not greater
/// than the text looked up. Every beginning of the latter is `last` or a beginning of it, because what lies between a
/// beginning and the whole in order begins with the beginning as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Literals {
    /// In order of their texts.
    entries: Vec<Entry>,
    /// Length of the longest of them.
    longest: usize,
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

impl Literal {
    /// What values are, or begin with.
    pub(super) fn into_text(self) -> Vec<u8> {
        match self {
            Self::Whole(text) | Self::Start(text) => text,
        }
    }
}

impl Literals {
    /// Files numbers.
    pub(super) fn new(filed: Vec<(Literal, usize)>) -> Self {
        // A heap sorts thousands as fast as any, and is the smallest way to do it.
        let places = filed.into_iter().map(|(literal, number)| match literal {
            Literal::Whole(text) => (text, number, true),
            Literal::Start(text) => (text, number, false),
        });
        let mut entries: Vec<Entry> = Vec::new();
        for (text, number, is_whole) in places.collect::<BinaryHeap<_>>().into_sorted_vec() {
            let entry = match entries.last_mut() {
                Some(last) if last.text == text => last,
                _ => {
                    let outer = chain(&entries, entries.len().checked_sub(1)).find(|it| text.starts_with(&it.1.text));
                    let outer = outer.map(|(place, _)| place);
                    entries.push_mut(Entry { text, outer, ..Entry::default() })
                }
            };
            let list = if is_whole { &mut entry.whole } else { &mut entry.start };
            if list.last() != Some(&number) {
                list.push(number);
            }
        }
        let longest = entries.iter().map(|it| it.text.len()).max().unwrap_or_default();
        Self { entries, longest }
    }

    /// The numbers found by the text, in lists.
    pub(super) fn find<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a [usize]> {
        let last = self.entries.partition_point(|entry| entry.text.as_slice() <= text).checked_sub(1);
        chain(&self.entries, last).flat_map(move |(_, entry)| {
            let start = if text.starts_with(&entry.text) { entry.start.as_slice() } else { &[] };
            let whole = if text == entry.text { entry.whole.as_slice() } else { &[] };
            [start, whole]
        })
    }

    /// How many numbers are filed under the text of the literal.
    pub(super) fn crowd(&self, literal: &Literal) -> usize {
        let (Literal::Whole(text) | Literal::Start(text)) = literal;
        let place = self.entries.binary_search_by(|entry| entry.text.cmp(text)).ok();
        let entry = place.and_then(|place| self.entries.get(place));
        entry.map_or(0, |it| it.whole.len().saturating_add(it.start.len()))
    }

    /// The length of the longest text.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Whether nothing is filed.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The entry at the place and all whose texts that one's begins with, the longest first, with their places.
fn chain(entries: &[Entry], place: Option<usize>) -> impl Iterator<Item = (usize, &Entry)> {
    let places = std::iter::successors(place, |place| entries.get(*place)?.outer);
    places.filter_map(|place| Some((place, entries.get(place)?)))
}
