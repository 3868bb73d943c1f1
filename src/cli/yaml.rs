//! A stream of YAML documents as [`Tree`]s, read as Kubernetes does.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::plain;
use super::tree::{Entry, Tree, Value};

/// How deep values may nest: more than the engine takes, and less than the stack does.
const MOST_NESTED: usize = 200;

/// How many values a stream may have, those included that an alias repeats: so that a small file cannot become a huge tree.
const MOST_VALUES: usize = 1_000_000;

/// A stream.
pub(super) struct Stream {
    pub(super) documents: Vec<Tree>,
    pub(super) doubts: Vec<Doubt>,
}

/// A plain scalar that readers of YAML take for different things.
pub(super) struct Doubt {
    pub(super) span: Range<usize>,
    pub(super) problem: String,
}

/// Why a text is no YAML, and where.
pub(super) struct NotYaml {
    pub(super) problem: String,
    pub(super) at: usize,
}

/// Reads a stream.
///
/// # Errors
///
/// It is no YAML, or something that JSON cannot say.
pub(super) fn parse(text: &str) -> Result<Stream, NotYaml> {
    let mut builder = Builder::new(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let problem = format!("is not YAML: {}", error.info());
            NotYaml { problem, at: builder.offset(error.marker().index()) }
        })?;
        builder.take(event, &span)?;
    }
    Ok(builder.stream)
}

struct Builder {
    /// Offset of each character, because the parser counts in those.
    offsets: Vec<usize>,
    open: Vec<Open>,
    anchors: HashMap<usize, Tree>,
    values: usize,
    stream: Stream,
}

/// A list or map that has not ended.
struct Open {
    start: usize,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Tree>),
    /// The entries, and the key that waits for its value.
    Map(Vec<Entry>, Option<(String, Range<usize>)>),
}

impl Builder {
    fn new(text: &str) -> Self {
        let offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let stream = Stream { documents: Vec::new(), doubts: Vec::new() };
        Self { offsets, open: Vec::new(), anchors: HashMap::new(), values: 0, stream }
    }

    fn offset(&self, characters: usize) -> usize {
        self.offsets.get(characters).or(self.offsets.last()).copied().unwrap_or(0)
    }

    fn span(&self, span: &Span) -> Range<usize> {
        self.offset(span.start.index())..self.offset(span.end.index())
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), NotYaml> {
        let bytes = self.span(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(&text, style, tag.as_deref(), &bytes);
                self.put(Tree { span: bytes, value }, anchor)
            }
            Event::Alias(anchor) => self.alias(anchor, bytes),
            Event::SequenceStart(anchor, _) => self.enter(bytes.start, anchor, Inside::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.enter(bytes.start, anchor, Inside::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.leave(bytes.end),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: &Range<usize>) -> Value {
        // `!` alone and `!!str` make a text of anything.
        let is_text = tag.is_some_and(|it| it.suffix == "str" || it.suffix.is_empty());
        if style != ScalarStyle::Plain || is_text {
            return Value::Text(text.to_owned());
        }
        let (value, doubt) = plain::resolve(text);
        if let Some(problem) = doubt {
            self.stream.doubts.push(Doubt { span: span.clone(), problem });
        }
        value
    }

    fn alias(&mut self, anchor: usize, span: Range<usize>) -> Result<(), NotYaml> {
        let Some(tree) = self.anchors.get(&anchor) else {
            return Err(NotYaml { problem: "is an alias within its own anchor".to_owned(), at: span.start });
        };
        let (values, depth) = tree.measure();
        self.values = self.values.saturating_add(values);
        if MOST_VALUES < self.values || MOST_NESTED < self.open.len() + depth {
            return Err(NotYaml { problem: "repeats more by aliases than can be read".to_owned(), at: span.start });
        }
        let tree = tree.clone();
        self.put(tree, 0)
    }

    fn enter(&mut self, start: usize, anchor: usize, inside: Inside) -> Result<(), NotYaml> {
        if MOST_NESTED <= self.open.len() {
            return Err(NotYaml { problem: format!("nests deeper than {MOST_NESTED}"), at: start });
        }
        self.open.push(Open { start, anchor, inside });
        Ok(())
    }

    fn leave(&mut self, end: usize) -> Result<(), NotYaml> {
        let Some(Open { start, anchor, inside }) = self.open.pop() else {
            return Ok(());
        };
        let value = match inside {
            Inside::List(elements) => Value::List(elements),
            Inside::Map(entries, _) => Value::Map(merged(entries)),
        };
        self.put(Tree { span: start..end.max(start), value }, anchor)
    }

    fn put(&mut self, tree: Tree, anchor: usize) -> Result<(), NotYaml> {
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
        match self.open.last_mut().map(|it| &mut it.inside) {
            None => self.stream.documents.push(tree),
            Some(Inside::List(elements)) => elements.push(tree),
            Some(Inside::Map(entries, key)) => match key.take() {
                Some((key, key_span)) => entries.push(Entry { key, key_span, tree }),
                None => *key = Some((name(&tree)?, tree.span)),
            },
        }
        Ok(())
    }
}

/// The name that a key is in JSON: `on` is `true`.
fn name(key: &Tree) -> Result<String, NotYaml> {
    match &key.value {
        Value::Text(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Ok("null".to_owned()),
        Value::List(_) | Value::Map(_) => Err(NotYaml {
            problem: "is a list or a map as a key, which JSON does not have".to_owned(),
            at: key.span.start,
        }),
    }
}

/// With the entries of what `<<` names, but for those that are given beside it.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    let (merges, mut own): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(|it| it.key == "<<");
    for Entry { tree, .. } in merges {
        let sources = if tree.elements().is_empty() { vec![tree] } else { tree.elements().to_vec() };
        for source in sources {
            for entry in source.entries() {
                if own.iter().all(|it| it.key != entry.key) {
                    own.push(entry.clone());
                }
            }
        }
    }
    own
}
