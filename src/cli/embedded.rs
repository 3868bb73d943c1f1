//! A configuration as the JSON that a proxy gets, with a map back to the file.

use std::ops::Range;

use super::tree::{Tree, Value};
use crate::document::place::{Step, push};

/// JSON, and where each value of it was written.
#[derive(Debug, Default)]
pub(super) struct Embedded {
    pub(super) json: String,
    places: Vec<Placed>,
}

/// A value of the JSON.
#[derive(Debug)]
pub(super) struct Placed {
    /// Bytes of the JSON before it.
    at: usize,
    path: String,
    /// The bytes of the file that say its name, unless it is an element or the whole.
    pub(super) key: Option<Range<usize>>,
    /// The bytes of the file that say it.
    pub(super) value: Range<usize>,
}

impl Embedded {
    /// Of a tree. Entries stay in the order of the file. Kubernetes sorts them, which changes nothing that is checked.
    pub(super) fn of(tree: &Tree) -> Self {
        let mut embedded = Self::default();
        embedded.write(tree, String::new(), None);
        embedded
    }

    fn write(&mut self, tree: &Tree, path: String, key: Option<Range<usize>>) {
        self.places.push(Placed { at: self.json.len(), path: path.clone(), key, value: tree.span.clone() });
        match &tree.value {
            Value::Null => self.json.push_str("null"),
            Value::Bool(value) => self.json.push_str(if *value { "true" } else { "false" }),
            Value::Number(digits) => self.json.push_str(digits),
            Value::Text(text) => self.text(text),
            Value::List(elements) => {
                self.json.push('[');
                for (index, element) in elements.iter().enumerate() {
                    self.separate(index);
                    self.write(element, inside(&path, Step::Element(index)), None);
                }
                self.json.push(']');
            }
            Value::Map(entries) => {
                self.json.push('{');
                for (index, entry) in entries.iter().enumerate() {
                    self.separate(index);
                    self.text(&entry.key);
                    self.json.push(':');
                    self.write(&entry.tree, inside(&path, Step::Member(&entry.key)), Some(entry.key_span.clone()));
                }
                self.json.push('}');
            }
        }
    }

    fn separate(&mut self, index: usize) {
        if index != 0 {
            self.json.push(',');
        }
    }

    fn text(&mut self, text: &str) {
        self.json.push_str(&serde_json::Value::from(text).to_string());
    }

    /// The value that an error is about: by its offset in the JSON if its path fits, else by its path or the next one around it.
    pub(super) fn find(&self, at: Option<usize>, path: &str) -> Option<&Placed> {
        let by_offset = at.and_then(|at| self.places.iter().find(|it| it.at == at));
        // A field that is given twice is told of at the object, and where the second one is.
        if let Some(placed) = by_offset.filter(|it| it.path.starts_with(path)) {
            return Some(placed);
        }
        let mut path = path;
        loop {
            if let Some(placed) = self.places.iter().find(|it| it.path == path) {
                return Some(placed);
            }
            if path.is_empty() {
                return None;
            }
            path = path.rfind(['.', '[']).and_then(|end| path.get(..end)).unwrap_or_default();
        }
    }
}

fn inside(path: &str, step: Step<'_>) -> String {
    let mut inner = path.to_owned();
    push(&mut inner, step);
    inner
}
