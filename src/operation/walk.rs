//! A path as templates look at it: by its first and its last segments, which are found once for all of them.
//!
//! To split a path is to look at each of its bytes, of which a client may send 60 000. Were each template to do so, two
//! hundred would cost more than the request does otherwise. No template looks further into a path than it has segments, so
//! the beginnings of that many, from both ends, are all that any needs.

use std::cell::OnceCell;

use smallvec::SmallVec;

use super::path::Parameters;

/// How many segments templates look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// From the beginning.
    pub(super) first: usize,
    /// From the end.
    pub(super) last: usize,
}

impl Reach {
    /// What is enough for both.
    pub(super) fn or(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.max(other.last) }
    }
}

/// A path, and where its segments begin, as soon as somebody asks.
#[derive(Debug)]
pub(super) struct Walked<'p> {
    pub(super) path: &'p [u8],
    reach: Reach,
    ends: OnceCell<Ends>,
}

/// Where segments begin, counted from behind the path's first `/`.
#[derive(Debug, Default)]
struct Ends {
    /// The first ones, in order.
    first: SmallVec<[usize; 8]>,
    /// The last ones, from the end.
    last: SmallVec<[usize; 4]>,
}

impl<'p> Walked<'p> {
    /// The path for templates of this reach.
    pub(super) fn new(path: &'p [u8], reach: Reach) -> Self {
        Self { path, reach, ends: OnceCell::new() }
    }

    /// The segment with this number, less than the reach says: the first is 0.
    pub(super) fn first(&self, number: usize) -> Option<&'p [u8]> {
        let start = self.first_start(number)?;
        let next = self.first_start(number.checked_add(1)?);
        self.relative().get(start..next.map_or(self.relative().len(), |next| next.saturating_sub(1)))
    }

    /// The segment with this number from the end: the last is 0.
    pub(super) fn last(&self, number: usize) -> Option<&'p [u8]> {
        let start = self.last_start(number)?;
        let next = number.checked_sub(1).and_then(|next| self.last_start(next));
        self.relative().get(start..next.map_or(self.relative().len(), |next| next.saturating_sub(1)))
    }

    /// Where a segment begins.
    pub(super) fn first_start(&self, number: usize) -> Option<usize> {
        self.ends().first.get(number).copied()
    }

    /// Where a segment from the end begins.
    pub(super) fn last_start(&self, number: usize) -> Option<usize> {
        self.ends().last.get(number).copied()
    }

    fn relative(&self) -> &'p [u8] {
        self.path.get(1..).unwrap_or_default()
    }

    /// Looks at each byte at most twice.
    fn ends(&self) -> &Ends {
        self.ends.get_or_init(|| {
            if !self.path.starts_with(b"/") {
                return Ends::default();
            }
            let mut ends = Ends::default();
            // The first byte is a `/` too: the first segment begins behind it.
            for (place, byte) in self.path.iter().enumerate() {
                if self.reach.first <= ends.first.len() {
                    break;
                }
                if *byte == b'/' {
                    ends.first.push(place);
                }
            }
            for (place, byte) in self.path.iter().enumerate().rev() {
                if self.reach.last <= ends.last.len() {
                    break;
                }
                if *byte == b'/' {
                    ends.last.push(place);
                }
            }
            ends
        })
    }
}

/// A request's path with its parameters and without.
#[derive(Debug)]
pub(super) struct Paths<'p> {
    sent: Walked<'p>,
    /// `None` if it has none.
    cut: Option<Walked<'p>>,
}

impl<'p> Paths<'p> {
    /// The path as it was sent, and what [`without_parameters`](super::path::without_parameters) makes of it, which is
    /// shorter unless it has none.
    pub(super) fn new(sent: &'p [u8], cut: &'p [u8], reach: Reach) -> Self {
        let has_parameters = cut.len() < sent.len();
        Self { sent: Walked::new(sent, reach), cut: has_parameters.then(|| Walked::new(cut, reach)) }
    }

    /// The path as this treatment of path parameters leaves it.
    pub(super) fn of(&self, parameters: Parameters) -> &Walked<'p> {
        match (parameters, &self.cut) {
            (Parameters::Cut, Some(cut)) => cut,
            _ => &self.sent,
        }
    }

    /// The different ones.
    pub(super) fn all(&self) -> impl Iterator<Item = &'p [u8]> {
        [Some(&self.sent), self.cut.as_ref()].into_iter().flatten().map(|it| it.path)
    }
}
