//! Where in a file the characters of a text are, when the text stands in a YAML scalar or a JSON string.

use std::ops::Range;

/// For each byte of a text the offset in the file, and one more for its end.
#[derive(Debug)]
pub(super) struct Alignment(Vec<usize>);

impl Alignment {
    /// Of a text that these bytes of the file say, in whatever style: plain, quoted, literal or folded.
    ///
    /// Letters come in the same order in all of them. White space does not (indentation, folding), so a blank of the text is where
    /// the letter before it ends. Escapes are followed as far as JSON within a scalar needs it.
    pub(super) fn of(text: &str, file: &str, span: Range<usize>) -> Self {
        let mut at = span.start;
        let said = file.get(span.clone()).unwrap_or_default();
        let style = said.bytes().next();
        if matches!(style, Some(b'|' | b'>')) {
            at += said.find('\n').map_or(said.len(), |it| it + 1);
        } else if matches!(style, Some(b'"' | b'\'')) {
            at += 1;
        }
        let mut offsets = Vec::with_capacity(text.len() + 1);
        for letter in text.chars() {
            if !letter.is_whitespace() {
                at = Self::letter(letter, file, at, &span, style == Some(b'"'));
            }
            offsets.extend(std::iter::repeat_n(at, letter.len_utf8()));
            if !letter.is_whitespace() {
                at += Self::length(file, at, style);
            }
        }
        offsets.push(at.min(span.end));
        Self(offsets)
    }

    /// The next place of the letter, or where we are if it is nowhere.
    fn letter(letter: char, file: &str, from: usize, span: &Range<usize>, has_escapes: bool) -> usize {
        let mut at = from;
        while at < span.end {
            let rest = file.get(at..).unwrap_or_default();
            let Some(there) = rest.chars().next() else { break };
            let mut after = rest.chars().skip(1);
            match (there, after.next()) {
                // An escaped letter is where its backslash is, a blank is passed over.
                ('\\', Some('n' | 'r' | 't' | '\n' | '\r' | ' ')) if has_escapes => at += 2,
                ('\\', Some(_)) if has_escapes => return at,
                (blank, _) if blank.is_whitespace() => at += blank.len_utf8(),
                (same, _) if same == letter => return at,
                _ => return at,
            }
        }
        from
    }

    /// How many bytes of the file the letter there takes.
    fn length(file: &str, at: usize, style: Option<u8>) -> usize {
        let rest = file.get(at..).unwrap_or_default();
        let mut letters = rest.chars();
        match (letters.next(), letters.next(), style) {
            (Some('\\'), Some('u'), Some(b'"')) => 6,
            (Some('\\'), Some('x'), Some(b'"')) => 4,
            (Some('\\'), Some(escaped), Some(b'"')) => 1 + escaped.len_utf8(),
            (Some('\''), Some('\''), Some(b'\'')) => 2,
            (Some(letter), ..) => letter.len_utf8(),
            (None, ..) => 0,
        }
    }

    /// The bytes of the file that say a part of the text.
    pub(super) fn span(&self, part: &Range<usize>) -> Range<usize> {
        let start = self.offset(part.start);
        // The end is one after the last letter, because blanks may follow it.
        let end = part.end.checked_sub(1).filter(|it| part.start <= *it).map_or(start, |it| self.offset(it) + 1);
        start..end.max(start)
    }

    pub(super) fn offset(&self, at: usize) -> usize {
        self.0.get(at).or(self.0.last()).copied().unwrap_or(0)
    }
}
