//! How values of a document are shown in errors.

use std::fmt::{self, Debug, Display, Formatter, Write};

/// The most characters of a value that are shown: what is wrong with a longer one must still fit into a line of a log.
pub const SHOWN: usize = 200;

/// A text of the document as an error shows it: in quotes, its control characters escaped, and cut.
pub fn quoted(text: &str) -> impl Display {
    let (shown, rest) = Cut(text).parts();
    let cut = format!("{shown}{rest}");
    fmt::from_fn(move |f| Debug::fmt(&cut, f))
}

/// A text as an error shows it without quotes: cut if it is long, and on one line whatever is in it.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'t>(pub &'t str);

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
