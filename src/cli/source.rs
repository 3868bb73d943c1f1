//! A file, and where in it something is.

use std::ops::Range;

/// A file that was read.
#[derive(Debug)]
pub(super) struct Source {
    /// What the user calls it.
    pub(super) name: String,
    /// What it says.
    pub(super) text: String,
    /// Bytes before each line.
    lines: Vec<usize>,
}

/// A place in a file: both count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Source {
    pub(super) fn new(name: &str, text: String) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), text, lines }
    }

    /// Where the byte at this offset is.
    pub(super) fn position(&self, at: usize) -> Position {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }

    /// The offset of a line and a column, counted from 1, the column in bytes.
    pub(super) fn offset(text: &str, line: usize, column: usize) -> usize {
        let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
        let mut at = (start + column.saturating_sub(1)).min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The part of a span that is shown: its first line, and at least a character where there is one.
    pub(super) fn shown(&self, span: &Range<usize>) -> Range<usize> {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let rest = self.text.get(start..).unwrap_or_default();
        let first_line = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let one = rest.chars().next().filter(|it| *it != '\n').map_or(0, char::len_utf8);
        let mut end = start + (span.end.saturating_sub(start)).min(first_line).max(one);
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        let kept = self.text.get(start..end).unwrap_or_default().trim_end().len();
        start..start + kept.max(one)
    }
}
