//! The cursor by which a policy reads its part of a document.
//!
//! The tree was [checked](super::check) before: a field that was bad reads as one that is not there, and a section that has one
//! [is not good](Section::is_good). So a policy may read all that it wants and tell of all that is wrong with it, and makes nothing
//! of a section that is not good.

use std::fmt;
use std::time::Duration;

use super::check::as_text;
use super::duration;
use super::error::ConfigErrors;
use super::field::{Absence, Field, Kind, Table};
use super::node::{Member, Node, Value};
use super::number;
use super::place::Place;

/// An object of the document that a table describes.
#[derive(Debug)]
pub struct Section<'s> {
    node: &'s Node<'s>,
    table: &'static Table,
    place: Place<'s>,
    errors: &'s mut ConfigErrors,
    /// How many errors there were when it was entered.
    earlier: usize,
}

impl<'s> Section<'s> {
    /// The document as a whole, which the table describes.
    pub fn root(node: &'s Node<'s>, table: &'static Table, errors: &'s mut ConfigErrors) -> Self {
        let earlier = errors.count();
        Self { node, table, place: Place::ROOT, errors, earlier }
    }

    /// Whether all of it is good, and nothing was refused since it was entered. Otherwise nothing can be made of it.
    pub const fn is_good(&self) -> bool {
        !self.node.bad && self.errors.count() == self.earlier
    }

    /// Whether all of it is as the tables say. If not, what seems to be missing may be there under another name: that it has too little
    /// is told of only where it is so.
    pub const fn is_as_described(&self) -> bool {
        !self.node.bad
    }

    /// What the section is read from.
    pub(super) const fn node(&self) -> &'s Node<'s> {
        self.node
    }

    /// Tells of a problem with a field, or with the section as a whole if the field is "".
    pub fn refuse(&mut self, field: &str, problem: fmt::Arguments<'_>) {
        let at = self.node.member(field).map_or(self.node.at, |it| it.at);
        match field {
            "" => self.errors.add(at, &self.place, problem),
            field => self.errors.add(at, &self.place.member(field), problem),
        }
    }

    /// Tells of a problem with an entry of a list or, by its name, of an object of texts.
    pub fn refuse_inside(&mut self, field: &str, inside: Inside<'_>, problem: fmt::Arguments<'_>) {
        let node = self.node.member(field);
        let place = self.place.member(field);
        let (found, inner) = match inside {
            Inside::Element(index) => (node.and_then(|it| it.elements().get(index)), place.element(index)),
            Inside::Member(name) => (node.and_then(|it| it.member(name)), place.member(name)),
        };
        let at = found.or(node).map_or(self.node.at, |it| it.at);
        self.errors.add(at, &inner, problem);
    }

    /// The field of the table, and its value if it has one that is good.
    fn find(&self, name: &str) -> (Option<&'static Field>, Option<&'s Node<'s>>) {
        (self.table.field(name), self.node.member(name).filter(|it| !it.bad))
    }

    /// Whether the field is there, good or not.
    pub fn has(&self, name: &str) -> bool {
        self.node.member(name).is_some()
    }

    /// A whole number, or the default.
    pub fn whole(&self, name: &str) -> Option<u32> {
        match self.find(name) {
            (_, Some(node)) => number::whole(node.raw),
            (Some(Field { absence: Absence::Whole(number), .. }), None) => Some(*number),
            _ => None,
        }
    }

    /// A number, or the default.
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.find(name) {
            (_, Some(node)) => Some(number::double(node.raw)),
            (Some(Field { absence: Absence::Number(number), .. }), None) => Some(*number),
            _ => None,
        }
    }

    /// A duration, or the default.
    pub fn span(&self, name: &str) -> Option<Duration> {
        match self.find(name) {
            (_, Some(Node { value: Value::Text(text), .. })) => duration::parse(text),
            (Some(Field { absence: Absence::Span(millis), .. }), None) => Some(Duration::from_millis(*millis)),
            _ => None,
        }
    }

    /// `true` or `false`, or the default.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.find(name) {
            (_, Some(Node { value: Value::Bool(value), .. })) => Some(*value),
            (Some(Field { absence: Absence::Bool(value), .. }), None) => Some(*value),
            _ => None,
        }
    }

    /// One of the field's words, or the default.
    pub fn word(&self, name: &str) -> Option<&'static str> {
        let (field, node) = self.find(name);
        let field = field?;
        match (node, field.kind, field.absence) {
            (Some(node), Kind::Word(words) | Kind::BoolOr(words), _) => word(node, words),
            (None, _, Absence::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, node) = self.find(name);
        as_text(node?, true).ok().map(std::borrow::Cow::into_owned)
    }

    /// A text in small letters.
    pub fn lower_text(&self, name: &str) -> Option<String> {
        let mut text = self.text(name)?;
        text.make_ascii_lowercase();
        Some(text)
    }

    /// The texts of a list. Empty if it is not there.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let (_, node) = self.find(name);
        let elements = node.map_or(&[] as &[Node<'_>], Node::elements);
        elements.iter().filter_map(|it| as_text(it, false).ok()).map(std::borrow::Cow::into_owned).collect()
    }

    /// The members of an object of texts, in order. Empty if it is not there.
    pub fn members(&self, name: &str) -> Vec<(&'s str, String)> {
        let (_, Some(Node { value: Value::Object(members), .. })) = self.find(name) else {
            return Vec::new();
        };
        let pair = |member: &'s Member<'s>| Some((&*member.name, as_text(&member.node, false).ok()?.into_owned()));
        members.iter().filter_map(pair).collect()
    }

    /// JSON as it was written.
    pub fn json(&self, name: &str) -> Option<&'s str> {
        self.find(name).1.map(|node| node.raw)
    }

    /// The section that is the value of the field, good or not.
    pub fn enter(&mut self, name: &'static str) -> Option<Section<'_>> {
        let Some(Field { kind: Kind::Object(table), .. }) = self.table.field(name) else {
            return None;
        };
        let node = self.node.member(name).filter(|it| matches!(it.value, Value::Object(_)))?;
        let earlier = self.errors.count();
        Some(Section { node, table, place: self.place.member(name), errors: self.errors, earlier })
    }

    /// Whether the field is not there or is a list, with entries that are good or not.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.node.member(name).is_none_or(|it| matches!(it.value, Value::Array(_)))
    }

    /// How many entries the list has.
    pub fn count(&self, name: &str) -> usize {
        let count = self.node.member(name).map_or(0, |it| it.elements().len());
        if super::field::MOST_ELEMENTS < count { 0 } else { count }
    }

    /// The entry of a list of sections, good or not; `None` if it is no object.
    pub fn entry<'e>(&'e mut self, list: &'e str, index: usize) -> Option<Section<'e>> {
        let Some(Field { kind: Kind::List(super::ListType { of: Kind::Object(table), .. }), .. }) =
            self.table.field(list)
        else {
            return None;
        };
        let node = self.node.member(list)?.elements().get(index).filter(|it| matches!(it.value, Value::Object(_)))?;
        let earlier = self.errors.count();
        Some(Section { node, table, place: self.place.entry(list, index), errors: self.errors, earlier })
    }
}

/// Something inside of a field.
#[derive(Clone, Copy, Debug)]
pub enum Inside<'i> {
    /// An entry of a list.
    Element(usize),
    /// A member of an object of texts.
    Member(&'i str),
}

fn word(node: &Node<'_>, words: &'static [&'static str]) -> Option<&'static str> {
    let text = as_text(node, false).ok()?;
    words.iter().find(|it| **it == text).copied()
}
