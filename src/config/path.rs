//! Where in a document something is.

use std::cell::RefCell;
use std::fmt::Write as _;

use super::problem::Cut;

/// The place that is being read, such as `limits[2].token_bucket`.
///
/// Whoever enters a place leaves it again if it was good. After an error the path thus shows where that was, and errors
/// need not carry it.
#[derive(Debug, Default)]
pub(super) struct Path {
    text: RefCell<String>,
}

/// The place around one that was entered.
#[must_use]
pub(super) struct Outside(usize);

impl Path {
    // Inlined, these would be in the module once for each type of the document.

    /// Enters a field of an object, which may have any name of any length.
    #[inline(never)]
    pub(super) fn enter_field(&self, name: &str) -> Outside {
        let mut text = self.text.borrow_mut();
        let outside = Outside(text.len());
        if !text.is_empty() {
            text.push('.');
        }
        // Writing to a text cannot fail.
        let _ = write!(text, "{}", Cut(name));
        outside
    }

    /// Enters an entry of an array.
    #[inline(never)]
    pub(super) fn enter_entry(&self, index: usize) -> Outside {
        let mut text = self.text.borrow_mut();
        let outside = Outside(text.len());
        text.push('[');
        text.push_str(&index.to_string());
        text.push(']');
        outside
    }

    /// Goes back to where it was before.
    pub(super) fn leave(&self, outside: Outside) {
        self.text.borrow_mut().truncate(outside.0);
    }

    /// Whether the value at the place is passed on as it was written: the body of a fallback, `fallbacks[2].json`.
    pub(super) fn is_verbatim(&self) -> bool {
        let text = self.text.borrow();
        let inside = text.strip_prefix("fallbacks[").and_then(|rest| rest.split_once(']'));
        inside.is_some_and(|(_, field)| field == ".json")
    }

    /// The place as text; empty for the document as a whole.
    pub(super) fn into_text(self) -> String {
        self.text.into_inner()
    }
}
