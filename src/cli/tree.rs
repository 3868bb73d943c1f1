//! What a file says, and where it says it.

use std::ops::Range;

/// A value, and the bytes of the file that say it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
}

/// A value as JSON has it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A number, in digits that JSON takes.
    Number(String),
    Text(String),
    List(Vec<Tree>),
    /// Entries in order, with those given twice.
    Map(Vec<Entry>),
}

/// A name and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) tree: Tree,
}

impl Tree {
    /// The entries, if this is a map; else none.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements, if this is a list; else none.
    pub(super) fn elements(&self) -> &[Tree] {
        match &self.value {
            Value::List(elements) => elements,
            _ => &[],
        }
    }

    /// The value of the last entry of this name, which is the one that most readers keep.
    pub(super) fn get(&self, key: &str) -> Option<&Tree> {
        self.entries().iter().rev().find(|it| it.key == key).map(|it| &it.tree)
    }

    /// The text, if this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How many values it has in it, itself included, and how deep they nest.
    pub(super) fn measure(&self) -> (usize, usize) {
        let inner = self.entries().iter().map(|it| &it.tree).chain(self.elements());
        let (values, depth) = inner
            .map(Tree::measure)
            .fold((0_usize, 0), |(values, depth), it| (values.saturating_add(it.0), depth.max(it.1)));
        (values.saturating_add(1), depth + 1)
    }

    /// Moves every span in it.
    pub(super) fn move_spans(&mut self, to: &dyn Fn(&Range<usize>) -> Range<usize>) {
        self.span = to(&self.span);
        match &mut self.value {
            Value::List(elements) => elements.iter_mut().for_each(|it| it.move_spans(to)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.key_span = to(&entry.key_span);
                    entry.tree.move_spans(to);
                }
            }
            _ => {}
        }
    }
}
