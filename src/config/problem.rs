//! What is wrong with a value, in words that users know.

use std::fmt::{self, Debug, Display, Formatter, Write};

use serde::de::{self, Expected, Unexpected};

/// What is wrong at the place that is being read. The place itself is the reader's to tell.
///
/// One word, because each field of each type hands it on: a text of three would make the module kilobytes larger.
#[derive(Debug)]
pub(super) struct Problem(Box<Words>);

#[derive(Debug)]
struct Words {
    text: String,
}

impl Problem {
    fn new(text: String) -> Self {
        Self(Box::new(Words { text }))
    }
}

/// Spellings that are read and that nobody should learn: YAML 1.1 makes `true` of `on`.
const UNADVERTISED: [&str; 2] = ["on", "true"];

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let given = match given {
            Unexpected::Unit => "null".to_owned(),
            Unexpected::Seq => "list".to_owned(),
            Unexpected::Map => "object".to_owned(),
            Unexpected::Str(text) => format!("string {}", quoted(text)),
            other => other.to_string(),
        };
        // Those in Rust's words come from its own types.
        let expected = match expected.to_string() {
            list if list == "a sequence" => "a list".to_owned(),
            number if number == "f64" => "a number".to_owned(),
            other => other,
        };
        Self::new(format!("invalid type: {given}, expected {expected}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        let mut problem = format!("unknown field `{}`, ", Cut(field));
        if let Some(meant) = nearest(field, known) {
            let _ = write!(problem, "did you mean `{meant}`? It may be ");
        } else {
            problem.push_str("expected ");
        }
        let advertised = known.iter().filter(|it| !UNADVERTISED.contains(it));
        for (index, name) in advertised.enumerate() {
            problem.push_str(if index == 0 { "one of " } else { ", " });
            let _ = write!(problem, "`{name}`");
        }
        Self::new(problem)
    }
}

/// The most characters of a value that are shown: what is wrong with a longer one must still fit into a line of a log.
const SHOWN: usize = 200;

/// A text of the document as an error shows it: in quotes, its control characters escaped, and cut.
pub(super) fn quoted(text: &str) -> impl Display {
    let (shown, rest) = Cut(text).parts();
    let cut = format!("{shown}{rest}");
    fmt::from_fn(move |f| Debug::fmt(&cut, f))
}

/// A text as an error shows it without quotes: cut if it is long, and on one line whatever is in it.
pub(super) struct Cut<'t>(pub(super) &'t str);

impl Display for Cut<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.parts();
        for letter in shown.chars() {
            match letter {
                '"' | '\'' | '\\' => f.write_char(letter)?,
                _ => Display::fmt(&letter.escape_debug(), f)?,
            }
        }
        f.write_str(rest)
    }
}

impl<'t> Cut<'t> {
    /// What is shown, and what stands for the rest.
    fn parts(&self) -> (&'t str, &'static str) {
        let end = self.0.char_indices().nth(SHOWN).map(|(at, _)| at);
        end.and_then(|end| self.0.get(..end)).map_or((self.0, ""), |start| (start, "…"))
    }
}

/// The known word that was probably meant: at most every third letter is wrong. How words are joined and capitals do not count.
fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let letters = |word: &str| -> Vec<u8> {
        let letters = word.bytes().filter(u8::is_ascii_alphanumeric).take(SHOWN);
        letters.map(|it| it.to_ascii_lowercase()).collect()
    };
    let given = letters(word);
    let candidates = known.iter().filter(|it| !UNADVERTISED.contains(it)).map(|it| {
        let known = letters(it);
        (distance(&given, &known), known.len(), *it)
    });
    let (wrong, length, meant) = candidates.min_by_key(|(wrong, ..)| *wrong)?;
    (wrong <= length / 3).then_some(meant)
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
