//! JSON as a tree that may say what a text can: fields given twice, and numbers of any spelling.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`, a boolean, or a number as it is spelt.
    Word(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// As it arrives from Istio: keys sorted, numbers as doubles; and with the key `on` as YAML 1.1 reads it.
    Istio,
}

impl Json {
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    pub fn render(&self, style: Style) -> String {
        let mut text = String::new();
        self.write(style, "", &mut text);
        text
    }

    /// How many values there are in it, itself included.
    pub fn size(&self) -> usize {
        1 + self.children().map(Self::size).sum::<usize>()
    }

    /// The value with this number, in the order of the text.
    pub fn nth(&mut self, mut number: usize) -> Option<&mut Self> {
        if number == 0 {
            return Some(self);
        }
        number -= 1;
        let children: Box<dyn Iterator<Item = &mut Self>> = match self {
            Self::List(list) => Box::new(list.iter_mut()),
            Self::Object(fields) => Box::new(fields.iter_mut().map(|(_, value)| value)),
            Self::Word(_) | Self::Text(_) => return None,
        };
        for child in children {
            let size = child.size();
            if number < size {
                return child.nth(number);
            }
            number -= size;
        }
        None
    }

    /// The first field of the name.
    pub fn field(&mut self, name: &str) -> Option<&mut Self> {
        match self {
            Self::Object(fields) => fields.iter_mut().find(|(it, _)| it == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether a place such as `limits[2].key` is in it. Names are cut in places, and their control characters escaped.
    pub fn has(&self, place: &str) -> bool {
        if place.is_empty() {
            return true;
        }
        match self {
            Self::List(list) => {
                let entry = place.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                entry.is_some_and(|(index, rest)| {
                    index.parse().ok().and_then(|index: usize| list.get(index)).is_some_and(|it| it.has(rest))
                })
            }
            Self::Object(fields) => {
                let place = place.strip_prefix('.').unwrap_or(place);
                fields.iter().any(|(name, value)| {
                    let cut: String = name.chars().take(200).map(shown).collect();
                    let cut = cut + if name.chars().nth(200).is_some() { "…" } else { "" };
                    place
                        .strip_prefix(cut.as_str())
                        .is_some_and(|rest| (rest.is_empty() || rest.starts_with(['.', '['])) && value.has(rest))
                })
            }
            Self::Word(_) | Self::Text(_) => false,
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match self {
            Self::List(list) => Box::new(list.iter()),
            Self::Object(fields) => Box::new(fields.iter().map(|(_, value)| value)),
            Self::Word(_) | Self::Text(_) => Box::new(std::iter::empty()),
        }
    }

    fn write(&self, style: Style, section: &str, text: &mut String) {
        match self {
            Self::Word(word) if style == Style::Istio => text.push_str(&double(word)),
            Self::Word(word) => text.push_str(word),
            Self::Text(value) => write_text(value, text),
            Self::List(list) => {
                text.push('[');
                for (index, value) in list.iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    value.write(style, section, text);
                }
                text.push(']');
            }
            Self::Object(fields) => {
                let mut fields: Vec<&(String, Json)> = fields.iter().collect();
                if style == Style::Istio {
                    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                text.push('{');
                for (index, (name, value)) in fields.into_iter().enumerate() {
                    text.push_str(if index == 0 { "" } else { "," });
                    let is_on = style == Style::Istio && section == "switches" && name == "on";
                    write_text(if is_on { "true" } else { name }, text);
                    text.push(':');
                    // The body of a fallback is served as it is written.
                    let style = if section == "fallbacks" && name == "json" { Style::Plain } else { style };
                    value.write(style, if section.is_empty() { name } else { section }, text);
                }
                text.push('}');
            }
        }
    }
}

/// A letter of a name as a place shows it.
fn shown(letter: char) -> String {
    match letter {
        '"' | '\'' | '\\' => letter.to_string(),
        _ => letter.escape_debug().to_string(),
    }
}

/// A number as the double that Istio makes of it, if that is the same number.
fn double(word: &str) -> String {
    match word.parse::<f64>() {
        Ok(number) if number.abs() < 9e15 => format!("{number:?}"),
        _ => word.to_owned(),
    }
}

fn write_text(value: &str, text: &mut String) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => text.extend(['\\', letter]),
            ..' ' => write!(text, "\\u{:04x}", u32::from(letter)).unwrap(),
            _ => text.push(letter),
        }
    }
    text.push('"');
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Builder)
    }
}

struct Builder;

impl<'de> Visitor<'de> for Builder {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Word("null".to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Word(value.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Word(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Word(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Word(format!("{number:?}")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = object.next_entry()? {
            fields.push(field);
        }
        Ok(Json::Object(fields))
    }
}
