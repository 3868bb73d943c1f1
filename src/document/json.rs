//! JSON text becomes a tree (RFC 8259).
//!
//! A parser of its own: those that there are give numbers away for doubles and members for the last of those given twice, or are
//! generic over what they make and weigh four times as much in the module. The tests hold it against `serde_json`.

use std::borrow::Cow;

use super::error::ConfigError;
use super::node::{Member, Node, Value};
use super::number;
use super::place::Step;

/// How deep arrays and objects may nest: what a body may have, 127, within a fallback within a list within the document. Each level
/// takes a few hundred bytes of stack.
const MOST_NESTED: usize = 130;

/// Reads a document.
///
/// # Errors
///
/// The text is not JSON, is not UTF-8, or nests too deep. Lines and columns count from 1, columns in bytes.
pub fn parse(bytes: &[u8]) -> Result<Node<'_>, ConfigError> {
    let (text, is_cut) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, false),
        // What comes before is read: whatever is wrong there comes first.
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            (std::str::from_utf8(valid).unwrap_or_default(), true)
        }
    };
    let mut parser = Parser { text, at: 0, is_cut };
    let root = parser.value(MOST_NESTED)?;
    match parser.next() {
        None if !is_cut => Ok(root),
        None => Err(parser.end("")),
        Some(_) => {
            let problem = format!("text after the end of the document: {}", parser.told("trailing characters", 1));
            Err(ConfigError::at("", problem))
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Bytes read.
    at: usize,
    /// Whether bytes follow that are no text.
    is_cut: bool,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space; it is not read yet.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// What is wrong, with line and column: of the byte that was read last, or `ahead` of it.
    fn told(&self, problem: &str, ahead: usize) -> String {
        let bytes = self.text.as_bytes();
        let end = (self.at + ahead).min(bytes.len() + usize::from(self.is_cut));
        let read = bytes.get(..end).unwrap_or(bytes);
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        let line_start = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |it| it + 1);
        format!("{problem} at line {line} column {}", end - line_start)
    }

    /// The byte ahead is wrong.
    fn unexpected(&self, problem: &str) -> ConfigError {
        ConfigError::at("", self.told(problem, 1))
    }

    /// The text ends in the middle of something.
    fn end(&self, what: &str) -> ConfigError {
        match self.is_cut {
            true => self.unexpected("invalid unicode code point"),
            false => self.unexpected(&format!("EOF while parsing {what}")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, ConfigError> {
        let first = self.next();
        let start = self.at;
        let value = match first {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true", Value::Bool(true))?,
            Some(b'f') => self.word("false", Value::Bool(false))?,
            Some(b'n') => self.word("null", Value::Null)?,
            Some(_) => return Err(self.unexpected("expected value")),
            None => return Err(self.end("a value")),
        };
        Ok(Node { at: start, raw: self.since(start), bad: false, value })
    }

    fn word(&mut self, word: &str, value: Value<'t>) -> Result<Value<'t>, ConfigError> {
        for byte in word.bytes() {
            match self.peek() {
                Some(it) if it == byte => self.at += 1,
                Some(_) => return Err(self.unexpected("expected ident")),
                None => return Err(self.end("a value")),
            }
        }
        Ok(value)
    }

    fn array(&mut self, depth: usize) -> Result<Value<'t>, ConfigError> {
        let depth = self.deeper(depth)?;
        let mut elements = Vec::new();
        if self.next() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(elements));
        }
        loop {
            let index = elements.len();
            elements.push(self.value(depth).map_err(|error| error.inside(Step::Element(index)))?);
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                Some(_) => return Err(self.unexpected("expected `,` or `]`")),
                None => return Err(self.end("a list")),
            }
            if self.next() == Some(b']') {
                return Err(self.unexpected("trailing comma"));
            }
        }
        self.at += 1;
        Ok(Value::Array(elements))
    }

    fn object(&mut self, depth: usize) -> Result<Value<'t>, ConfigError> {
        let depth = self.deeper(depth)?;
        let mut members = Vec::new();
        if self.next() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(members));
        }
        loop {
            let name = match self.next() {
                Some(b'"') => self.string()?,
                Some(b'}') => return Err(self.unexpected("trailing comma")),
                Some(_) => return Err(self.unexpected("key must be a string")),
                None => return Err(self.end("an object")),
            };
            let node = self.member_value(depth).map_err(|error| error.inside(Step::Member(&name)))?;
            members.push(Member { name, node });
            match self.next() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                Some(_) => return Err(self.unexpected("expected `,` or `}`")),
                None => return Err(self.end("an object")),
            }
        }
        self.at += 1;
        Ok(Value::Object(members))
    }

    fn member_value(&mut self, depth: usize) -> Result<Node<'t>, ConfigError> {
        match self.next() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.unexpected("expected `:`")),
            None => return Err(self.end("an object")),
        }
        self.value(depth)
    }

    /// Enters an array or object.
    fn deeper(&mut self, depth: usize) -> Result<usize, ConfigError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.unexpected("recursion limit exceeded"))?;
        self.at += 1;
        Ok(depth)
    }

    fn number(&mut self) -> Result<Value<'t>, ConfigError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        self.digits()?;
        if self.since(first).len() != 1 && self.since(first).starts_with('0') {
            self.at = first + 1;
            return Err(self.unexpected("invalid number"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        match number::double(self.since(start)).is_finite() {
            true => Ok(Value::Number),
            false => Err(ConfigError::at("", self.told("number out of range", 0))),
        }
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), ConfigError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match (self.at == start, self.peek()) {
            (true, Some(_)) => Err(self.unexpected("invalid number")),
            (true, None) => Err(self.end("a value")),
            (false, _) => Ok(()),
        }
    }

    /// The string that begins here. Borrowed if nothing in it is escaped.
    fn string(&mut self) -> Result<Cow<'t, str>, ConfigError> {
        self.at += 1;
        let mut start = self.at;
        let mut resolved = String::new();
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    resolved.push_str(self.since(start));
                    self.at += 1;
                    resolved.push(self.escaped()?);
                    start = self.at;
                }
                Some(0..=0x1f) => {
                    return Err(self.unexpected("control character (\\u0000-\\u001F) found while parsing a string"));
                }
                Some(_) => self.at += 1,
                None => return Err(self.end("a string")),
            }
        }
        let rest = self.since(start);
        self.at += 1;
        if resolved.is_empty() {
            return Ok(Cow::Borrowed(rest));
        }
        resolved.push_str(rest);
        Ok(Cow::Owned(resolved))
    }

    /// What follows a backslash.
    fn escaped(&mut self) -> Result<char, ConfigError> {
        let Some(byte) = self.peek() else {
            return Err(self.end("a string"));
        };
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.code_point();
            }
            _ => return Err(self.unexpected("invalid escape")),
        };
        self.at += 1;
        Ok(character)
    }

    /// What follows `\u`: of a pair of surrogates, both.
    fn code_point(&mut self) -> Result<char, ConfigError> {
        let first = self.code_unit()?;
        if let Some(character) = char::from_u32(first) {
            return Ok(character);
        }
        let lone = "lone leading surrogate in hex escape";
        if 0xdc00 <= first || !self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            return Err(self.unexpected(lone));
        }
        self.at += 2;
        let second = self.code_unit()?;
        if !(0xdc00..=0xdfff).contains(&second) {
            return Err(self.unexpected(lone));
        }
        let offset = first.saturating_sub(0xd800) << 10 | second.saturating_sub(0xdc00);
        char::from_u32(offset + 0x1_0000).ok_or_else(|| self.unexpected(lone))
    }

    fn code_unit(&mut self) -> Result<u32, ConfigError> {
        let mut unit = 0;
        for _ in 0..4 {
            let Some(byte) = self.peek() else {
                return Err(self.end("a string"));
            };
            let Some(digit) = char::from(byte).to_digit(16) else {
                return Err(self.unexpected("invalid escape"));
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }
}
