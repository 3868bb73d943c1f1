//! JSON as a [`Tree`], by the engine's own parser.

use std::ops::Range;

use super::source::Source;
use super::tree::{Entry, Tree, Value};
use crate::document::{json, node};

/// Why a text is no JSON, and where.
pub(super) struct NotJson {
    pub(super) path: String,
    pub(super) problem: String,
    pub(super) at: usize,
}

/// Reads a text.
///
/// # Errors
///
/// It is no JSON, or nests too deep.
pub(super) fn parse(text: &str) -> Result<Tree, NotJson> {
    match json::parse(text.as_bytes()) {
        Ok(root) => Ok(tree(text, &root)),
        Err(error) => {
            // Of the position in the text itself a position in the file is made, and one is enough.
            let (problem, at) = without_position(text, error.problem());
            Err(NotJson { path: error.path().to_owned(), problem: format!("is not JSON: {problem}"), at })
        }
    }
}

fn without_position<'p>(text: &str, problem: &'p str) -> (&'p str, usize) {
    let parsed = problem.rsplit_once(" at line ").and_then(|(problem, position)| {
        let (line, column) = position.split_once(" column ")?;
        Some((problem, Source::offset(text, line.parse().ok()?, column.parse().ok()?)))
    });
    parsed.unwrap_or((problem, 0))
}

fn tree(text: &str, node: &node::Node<'_>) -> Tree {
    let value = match &node.value {
        node::Value::Null => Value::Null,
        node::Value::Bool(value) => Value::Bool(*value),
        node::Value::Number => Value::Number(node.raw.to_owned()),
        node::Value::Text(given) => Value::Text(given.to_string()),
        node::Value::Array(elements) => Value::List(elements.iter().map(|it| tree(text, it)).collect()),
        node::Value::Object(members) => {
            let mut before = node.at + 1;
            let mut entries = Vec::new();
            for member in members {
                let key_span = key(text, before..member.node.at);
                before = member.node.at + member.node.raw.len();
                entries.push(Entry { key: member.name.to_string(), key_span, tree: tree(text, &member.node) });
            }
            Value::Map(entries)
        }
    };
    Tree { span: node.at..node.at + node.raw.len(), value }
}

/// The name, with its quotes, between one value and the next.
fn key(text: &str, between: Range<usize>) -> Range<usize> {
    let part = text.get(between.clone()).unwrap_or_default();
    match (part.find('"'), part.rfind('"')) {
        (Some(first), Some(last)) => between.start + first..between.start + last + 1,
        _ => between,
    }
}
