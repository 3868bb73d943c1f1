//! Where in a document something is.

use std::fmt::Write;

use super::shown::Cut;

/// A place such as `limits[2].token_bucket`, as a chain of steps: its text is made only where an error needs it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'p> {
    outer: Option<&'p Place<'p>>,
    step: Step<'p>,
}

/// One step into a value.
#[derive(Clone, Copy, Debug)]
pub enum Step<'p> {
    /// No step: the document as a whole.
    Root,
    /// Into a member of an object.
    Member(&'p str),
    /// Into an element of an array, counted from 0.
    Element(usize),
    /// Into an element of the array that is the member of this name.
    Entry(&'p str, usize),
}

impl<'p> Place<'p> {
    /// The document as a whole.
    pub const ROOT: Place<'static> = Place { outer: None, step: Step::Root };

    /// The member of this name, which may be of any length.
    pub const fn member(&'p self, name: &'p str) -> Self {
        Self { outer: Some(self), step: Step::Member(name) }
    }

    /// The element at this index.
    pub const fn element(&'p self, index: usize) -> Self {
        Self { outer: Some(self), step: Step::Element(index) }
    }

    /// The element of the array that is the member of this name.
    pub const fn entry(&'p self, list: &'p str, index: usize) -> Self {
        Self { outer: Some(self), step: Step::Entry(list, index) }
    }

    /// The place as text; empty for the document as a whole.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    /// As deep as the tables nest, or as the parser lets a body nest.
    fn write(&self, text: &mut String) {
        if let Some(outer) = self.outer {
            outer.write(text);
        }
        push(text, self.step);
    }
}

/// Adds a step to the text of a place.
pub fn push(text: &mut String, step: Step<'_>) {
    match step {
        Step::Root => {}
        Step::Member(name) => {
            if !text.is_empty() {
                text.push('.');
            }
            // Writing to a text cannot fail.
            let _ = write!(text, "{}", Cut(name));
        }
        Step::Element(index) => {
            text.push('[');
            text.push_str(&index.to_string());
            text.push(']');
        }
        Step::Entry(list, index) => {
            push(text, Step::Member(list));
            push(text, Step::Element(index));
        }
    }
}
