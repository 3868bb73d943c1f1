//! What a document's types are read from: a [`Node`], with the path to it kept.
//!
//! serde makes a copy of each type's reader for each kind of thing that it reads from, so there is one kind here, and all
//! its types are concrete.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::ConfigError;
use super::node::{Node, TextReader};
use super::path::Path;
use super::problem::Problem;
use super::text;

/// Reads a document from JSON text.
///
/// # Errors
///
/// The text is not JSON, or says something that the document does not take. The error names the first place found.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, ConfigError> {
    let root = parse(text)?;
    let path = Path::default();
    T::deserialize(Reader { node: &root, path: &path }).map_err(|error| at(path, &error))
}

fn parse(text: &[u8]) -> Result<Node, ConfigError> {
    let path = Path::default();
    let mut reader = TextReader::from_slice(text);
    let root = match Node::read(&mut reader, &path) {
        Ok(root) => root,
        Err(error) => return Err(at(path, &error)),
    };
    match reader.end() {
        Ok(()) => Ok(root),
        Err(error) => Err(ConfigError::at("", format!("text after the end of the document: {error}"))),
    }
}

fn at(path: Path, error: &impl std::error::Error) -> ConfigError {
    ConfigError::at(path.into_text(), error.to_string())
}

/// A node to be read as something, at the path.
#[derive(Clone, Copy)]
struct Reader<'n> {
    node: &'n Node,
    path: &'n Path,
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Unsigned(number) => visitor.visit_u64(*number),
            Node::Signed(number) => visitor.visit_i64(*number),
            Node::Float(number) => visitor.visit_f64(*number),
            Node::Text(text) => visitor.visit_str(text),
            Node::Verbatim(text, value) => {
                value.check_names(self.path).map_err(Problem::custom)?;
                visitor.visit_str(text)
            }
            Node::List(nodes) => visitor.visit_seq(Entries { left: nodes.iter(), read: 0, path: self.path }),
            Node::Object(fields) => visitor.visit_map(Fields { left: fields.iter(), current: None, path: self.path }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.node {
            Node::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// Where a text is wanted, what YAML made of one is taken too.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match text::of(self.node)? {
            Some(text) => visitor.visit_str(&text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_string(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The entries of an array that were not read yet.
struct Entries<'n> {
    left: std::slice::Iter<'n, Node>,
    read: usize,
    path: &'n Path,
}

impl<'n> SeqAccess<'n> for Entries<'n> {
    type Error = Problem;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        let Some(node) = self.left.next() else {
            return Ok(None);
        };
        let outside = self.path.enter_entry(self.read);
        let value = seed.deserialize(Reader { node, path: self.path })?;
        self.path.leave(outside);
        self.read += 1;
        Ok(Some(value))
    }

    /// As many as there are, so that lists are allocated once.
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The fields of an object that were not read yet.
struct Fields<'n> {
    left: std::slice::Iter<'n, (String, Node)>,
    /// The field whose name was read last.
    current: Option<&'n (String, Node)>,
    path: &'n Path,
}

impl<'n> MapAccess<'n> for Fields<'n> {
    type Error = Problem;

    fn next_key_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Problem> {
        self.current = self.left.next();
        let Some((name, _)) = self.current else {
            return Ok(None);
        };
        let outside = self.path.enter_field(name);
        let key = seed.deserialize(StrDeserializer::new(name))?;
        self.path.leave(outside);
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, Problem> {
        /// What the value of a field is that nobody named.
        const NOTHING: &(String, Node) = &(String::new(), Node::Null);
        let (name, node) = self.current.unwrap_or(NOTHING);
        let outside = self.path.enter_field(name);
        let value = seed.deserialize(Reader { node, path: self.path })?;
        self.path.leave(outside);
        Ok(value)
    }
}
