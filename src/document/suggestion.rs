//! Which known word was meant by an unknown one.

use super::shown::SHOWN;

/// The known word that was probably meant: at most every third letter is wrong. How words are joined and capitals do not count.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = letters(word);
    let mut best: Option<(usize, usize, &'k str)> = None;
    for name in known {
        let known = letters(name);
        let wrong = distance(&given, &known);
        if best.is_none_or(|(least, ..)| wrong < least) {
            best = Some((wrong, known.len(), name));
        }
    }
    let (wrong, length, meant) = best?;
    (wrong <= length / 3).then_some(meant)
}

/// Letters and digits, small. Of a long word the first will do.
fn letters(word: &str) -> Vec<u8> {
    let letters = word.bytes().filter(u8::is_ascii_alphanumeric).take(SHOWN);
    letters.map(|it| it.to_ascii_lowercase()).collect()
}

/// How many letters must be changed, added or left out to make one word of the other (Levenshtein).
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (1..=other.len()).collect();
    for (index, letter) in one.iter().enumerate() {
        let (mut diagonal, mut left) = (index, index + 1);
        for (cell, other) in row.iter_mut().zip(other) {
            let changed = diagonal + usize::from(letter != other);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(one.len())
}
