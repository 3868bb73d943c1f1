//! JSON text as a tree that keeps what the text said.
//!
//! `serde_json::Value` forgets the order of fields and all but the last of those given twice, which are mistakes that a
//! user wants to hear of. Besides, a parser of text is generic over what it makes: to have it make one type, and to read
//! everything else from that (see `reader`), is what keeps the module small.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::path::Path;
use crate::sorted;

/// A JSON value.
#[derive(Debug)]
pub(super) enum Node {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A negative whole number.
    Signed(i64),
    /// Any other number. Finite, because JSON has no others.
    Float(f64),
    /// A string.
    Text(String),
    /// A value that is passed on as it was written: its JSON text, and what the text says.
    Verbatim(String, Box<Node>),
    /// An array.
    List(Vec<Node>),
    /// An object: its fields in order, with whatever is given twice.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Reads one value and leaves what follows it. After an error `path` is the place.
    ///
    /// # Errors
    ///
    /// The text is not JSON, or nests more than 127 levels deep.
    pub(super) fn read(text: &mut TextReader<'_>, path: &Path) -> serde_json::Result<Self> {
        Builder { path }.deserialize(text)
    }

    /// Refuses objects with two fields of one name: whoever reads them drops one, and nobody knows which. After an error `path` is
    /// the second.
    pub(super) fn check_names(&self, path: &Path) -> Result<(), String> {
        match self {
            Self::List(nodes) => nodes.iter().enumerate().try_for_each(|(index, node)| {
                let outside = path.enter_entry(index);
                node.check_names(path).map(|()| path.leave(outside))
            }),
            Self::Object(fields) => {
                let mut names = Vec::new();
                fields.iter().try_for_each(|(name, node)| {
                    let outside = path.enter_field(name);
                    if !sorted::insert(&mut names, name) {
                        return Err(format!("{name:?}, is the name of an earlier field too"));
                    }
                    node.check_names(path).map(|()| path.leave(outside))
                })
            }
            _ => Ok(()),
        }
    }
}

/// The parser of JSON text.
pub(super) type TextReader<'t> = serde_json::Deserializer<serde_json::de::SliceRead<'t>>;

/// Makes the node of the value at the path.
#[derive(Clone, Copy)]
struct Builder<'p> {
    path: &'p Path,
}

impl Builder<'_> {
    fn verbatim<E: de::Error>(self, value: &RawValue) -> Result<Node, E> {
        let text = value.get();
        Ok(match Node::read(&mut TextReader::from_slice(text.as_bytes()), self.path).map_err(E::custom)? {
            Node::Null => Node::Null,
            node => Node::Verbatim(text.to_owned(), Box::new(node)),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Signed(number))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Float(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(Entry { index: nodes.len(), builder: self })? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut object: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            let outside = self.path.enter_field(&name);
            let node = match self.path.is_verbatim() {
                true => self.verbatim(object.next_value()?)?,
                false => object.next_value_seed(self)?,
            };
            self.path.leave(outside);
            fields.push((name, node));
        }
        Ok(Node::Object(fields))
    }
}

/// Makes an entry of the array at the path. What is wrong between entries is wrong with the array.
struct Entry<'p> {
    index: usize,
    builder: Builder<'p>,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let path = self.builder.path;
        let outside = path.enter_entry(self.index);
        let node = self.builder.deserialize(deserializer)?;
        path.leave(outside);
        Ok(node)
    }
}
