//! JSON as a tree that keeps what the text said.

use std::borrow::Cow;

/// A value, and where it stands.
#[derive(Debug)]
pub struct Node<'t> {
    /// Bytes of the document before it. Errors are told in this order.
    pub at: usize,
    /// Its text: what a number says to the last digit, and what a body is that is sent as it was written.
    pub raw: &'t str,
    /// Whether it, or something inside of it, is not as the tables say. Such a place was told of, and nothing is made of it.
    pub bad: bool,
    /// What it says.
    pub value: Value<'t>,
}

/// What a node says (RFC 8259, section 3).
#[derive(Debug)]
pub enum Value<'t> {
    /// `null`, which is as good as nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number; its digits are [`Node::raw`].
    Number,
    /// A string, its escapes resolved.
    Text(Cow<'t, str>),
    /// The elements of an array.
    Array(Vec<Node<'t>>),
    /// The members of an object in order, with whatever is given twice.
    Object(Vec<Member<'t>>),
}

/// A member of an object.
#[derive(Debug)]
pub struct Member<'t> {
    /// Its name.
    pub name: Cow<'t, str>,
    /// Its value.
    pub node: Node<'t>,
}

impl<'t> Node<'t> {
    /// The value of the first member of this name, if this is an object that has one and if it is not `null`.
    pub fn member(&self, name: &str) -> Option<&Node<'t>> {
        let Value::Object(members) = &self.value else {
            return None;
        };
        let member = members.iter().find(|it| it.name == name)?;
        (!matches!(member.node.value, Value::Null)).then_some(&member.node)
    }

    /// The elements, if this is an array; else none.
    pub fn elements(&self) -> &[Node<'t>] {
        match &self.value {
            Value::Array(elements) => elements,
            _ => &[],
        }
    }
}
