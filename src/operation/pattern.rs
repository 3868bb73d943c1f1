//! Patterns for hosts, paths and header values, spelled as in Istio's `AuthorizationPolicy`.

use super::literals::Literal;
use super::walk::{Reach, Walked};

/// A string pattern: `exact`, `prefix*`, `*suffix`, or `*` for anything that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The whole value.
    Exact(Vec<u8>),
    /// How the value starts.
    Prefix(Vec<u8>),
    /// How the value ends.
    Suffix(Vec<u8>),
    /// Any value, also an empty one.
    Present,
}

impl Pattern {
    /// Reads the wildcard form. A `*` in another place than the first or last is an ordinary character.
    pub fn from_wildcard(text: &str) -> Self {
        if text == "*" {
            return Self::Present;
        }
        if let Some(prefix) = text.strip_suffix('*') {
            return Self::Prefix(prefix.into());
        }
        match text.strip_prefix('*') {
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether the value matches, byte for byte.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.matches_by(value, |left, right| left == right)
    }

    /// Whether the value matches if ASCII case is ignored.
    pub fn matches_ignoring_case(&self, value: &[u8]) -> bool {
        self.matches_by(value, <[u8]>::eq_ignore_ascii_case)
    }

    /// Whether every value that the other matches is sure to match this one too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, _) => true,
            (_, Self::Exact(value)) => self.matches(value),
            (Self::Prefix(start), Self::Prefix(longer)) => longer.starts_with(start),
            (Self::Suffix(end), Self::Suffix(longer)) => longer.ends_with(end),
            _ => false,
        }
    }

    /// Whether a `*` stands where it is no wildcard.
    pub fn has_plain_star(&self) -> bool {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => text.contains(&b'*'),
            Self::Present => false,
        }
    }

    /// What is certain about values that match; `None` if nothing.
    fn literal(&self) -> Option<Literal> {
        match self {
            Self::Exact(wanted) => Some(Literal::Whole(wanted.clone())),
            Self::Prefix(wanted) => Some(Literal::Start(wanted.clone())),
            Self::Suffix(_) | Self::Present => None,
        }
    }

    /// What is certain about values that match if ASCII case is ignored, in lower case and read backwards; `None` if
    /// nothing.
    pub(super) fn reversed_literal(&self) -> Option<Literal> {
        let reversed = |text: &Vec<u8>| text.iter().rev().map(u8::to_ascii_lowercase).collect();
        match self {
            Self::Exact(wanted) => Some(Literal::Whole(reversed(wanted))),
            Self::Suffix(wanted) => Some(Literal::Start(reversed(wanted))),
            Self::Prefix(_) | Self::Present => None,
        }
    }

    fn matches_by(&self, value: &[u8], equal: fn(&[u8], &[u8]) -> bool) -> bool {
        match self {
            Self::Exact(wanted) => equal(value, wanted),
            Self::Prefix(wanted) => value.get(..wanted.len()).is_some_and(|start| equal(start, wanted)),
            Self::Suffix(wanted) => {
                let start = value.len().checked_sub(wanted.len());
                start.and_then(|start| value.get(start..)).is_some_and(|end| equal(end, wanted))
            }
            Self::Present => true,
        }
    }
}

/// A pattern for paths: a [`Pattern`], or a template of segments such as `/a/{*}/b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// A wildcard pattern.
    Wildcard(Pattern),
    /// A template.
    Template(Template),
}

/// A path template: `{*}` stands for one segment that is not empty, `{**}` for one or more segments, empty ones too.
///
/// Istio's rules: an operator is a whole segment, `{**}` is the last operator, and a template has no other `*`. So
/// `/a/{**}` matches `/a/`, `/a/b` and `/a/b/c`, but not `/a`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What comes before `{**}`, or everything.
    head: Vec<Segment>,
    /// What comes after `{**}`, if there is one.
    tail: Option<Vec<Segment>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Vec<u8>),
    Any,
}

/// Why a path pattern is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPath {
    /// It starts with neither `/` nor `*`, so no path would match it.
    NotAbsolute,
    /// A `{` or `}` outside of `{*}` and `{**}`, or one of these as part of a segment.
    StrayBrace,
    /// A `*` outside of the operators of a template.
    StarInTemplate,
    /// An operator after `{**}`.
    OperatorAfterMany,
}

impl PathPattern {
    /// Reads a path pattern.
    ///
    /// # Errors
    ///
    /// No path could match it, or it breaks the rules of a [`Template`].
    pub fn parse(text: &str) -> Result<Self, InvalidPath> {
        if !text.starts_with(['/', '*']) {
            return Err(InvalidPath::NotAbsolute);
        }
        if text.contains(['{', '}']) {
            return Template::parse(text).map(Self::Template);
        }
        Ok(Self::Wildcard(Pattern::from_wildcard(text)))
    }

    /// Whether the path (without query) matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.matches_walked(&Walked::new(path, self.reach()))
    }

    /// Whether the path matches, which was walked as far as the pattern [reaches](PathPattern::reach). Looks at no more bytes
    /// than the pattern has.
    pub(super) fn matches_walked(&self, path: &Walked<'_>) -> bool {
        match self {
            Self::Wildcard(pattern) => !path.path.is_empty() && pattern.matches(path.path),
            Self::Template(template) => template.matches(path),
        }
    }

    /// How far it looks into a path segment by segment.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Wildcard(_) => Reach::default(),
            // One more than it has tells whether there are more.
            Self::Template(it) => {
                Reach { first: it.head.len().saturating_add(1), last: it.tail.as_ref().map_or(0, Vec::len) }
            }
        }
    }

    /// Whether every path that the other matches is sure to match this one too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wildcard(one), Self::Wildcard(other)) => one.covers(other),
            (Self::Wildcard(one), Self::Template(other)) => match other.literal() {
                Literal::Whole(path) => one.matches(&path),
                Literal::Start(start) => one.covers(&Pattern::Prefix(start)),
            },
            (Self::Template(_), Self::Wildcard(Pattern::Exact(path))) => self.matches(path),
            (Self::Template(_), Self::Wildcard(_)) => false,
            (Self::Template(one), Self::Template(other)) => one == other,
        }
    }

    /// What is certain about paths that match; `None` if nothing more than that they are paths.
    pub(super) fn literal(&self) -> Option<Literal> {
        let literal = match self {
            Self::Wildcard(pattern) => pattern.literal()?,
            Self::Template(template) => template.literal(),
        };
        (literal != Literal::Start(b"/".into())).then_some(literal)
    }

    /// How paths that match end, read backwards; `None` if nothing is certain.
    pub(super) fn reversed_end(&self) -> Option<Literal> {
        let mut end: Vec<u8> = match self {
            Self::Wildcard(Pattern::Exact(text) | Pattern::Suffix(text)) => text.clone(),
            Self::Wildcard(Pattern::Prefix(_) | Pattern::Present) => return None,
            Self::Template(template) => template.end(),
        };
        end.reverse();
        (!end.is_empty()).then_some(Literal::Start(end))
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, InvalidPath> {
        let Some(relative) = text.strip_prefix('/') else {
            return Err(InvalidPath::StarInTemplate);
        };
        let mut head = Vec::new();
        let mut tail: Option<Vec<Segment>> = None;
        for segment in relative.split('/') {
            let segment = match segment {
                "{**}" if tail.is_none() => {
                    tail = Some(Vec::new());
                    continue;
                }
                "{*}" if tail.is_none() => Segment::Any,
                "{**}" | "{*}" => return Err(InvalidPath::OperatorAfterMany),
                _ if segment.contains(['{', '}']) => return Err(InvalidPath::StrayBrace),
                _ if segment.contains('*') => return Err(InvalidPath::StarInTemplate),
                _ => Segment::Literal(segment.into()),
            };
            tail.as_mut().unwrap_or(&mut head).push(segment);
        }
        Ok(Self { head, tail })
    }

    fn literal(&self) -> Literal {
        let mut text = Vec::new();
        for segment in &self.head {
            text.push(b'/');
            let Segment::Literal(segment) = segment else {
                return Literal::Start(text);
            };
            text.extend_from_slice(segment);
        }
        if self.tail.is_some() {
            text.push(b'/');
            return Literal::Start(text);
        }
        Literal::Whole(text)
    }

    /// What follows its last operator.
    fn end(&self) -> Vec<u8> {
        let segments = self.tail.as_ref().unwrap_or(&self.head);
        let literals = segments.iter().rposition(|it| *it == Segment::Any).map_or(0, |any| any.saturating_add(1));
        let mut text = Vec::new();
        for segment in segments.iter().skip(literals) {
            if let Segment::Literal(segment) = segment {
                text.push(b'/');
                text.extend_from_slice(segment);
            }
        }
        text
    }

    /// The head and the tail are compared where they must stand, so there is nothing to be tried twice.
    fn matches(&self, path: &Walked<'_>) -> bool {
        let mut head = self.head.iter().enumerate();
        if !head.all(|(number, wanted)| path.first(number).is_some_and(|it| wanted.matches(it))) {
            return false;
        }
        let behind = path.first_start(self.head.len());
        let (Some(tail), Some(many)) = (&self.tail, behind) else {
            return self.tail.is_none() && behind.is_none();
        };
        let is_behind_many = |last: usize| path.last_start(last).is_some_and(|start| many < start);
        tail.len().checked_sub(1).is_none_or(is_behind_many)
            && tail
                .iter()
                .rev()
                .enumerate()
                .all(|(number, wanted)| path.last(number).is_some_and(|it| wanted.matches(it)))
    }
}

impl Segment {
    fn matches(&self, segment: &[u8]) -> bool {
        match self {
            Self::Literal(wanted) => wanted == segment,
            Self::Any => !segment.is_empty(),
        }
    }
}
