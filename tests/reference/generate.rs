//! What is made of the tables of fields: a JSON Schema (draft 2020-12), and the tables of the reference. Of the table of metrics:
//! [tables](metrics) too, and the rules of manifests.

use std::fmt::Write;
use std::path::Path;

use outrigger::config::fields::DOCUMENT;
use outrigger::document::field::{MOST_ELEMENTS, NO_MOST};
use outrigger::document::{Absence, Field, Kind, Table, duration};
use serde_json::{Map, Value, json};

#[path = "metrics.rs"]
pub mod metrics;

/// Every file that is made or has a part that is, by its path, with its text as it should be.
pub fn files(root: &Path) -> Vec<(String, String)> {
    let mut files = vec![("docs/schema.json".to_owned(), schema())];
    let pages = std::fs::read_dir(root.join("docs/reference")).into_iter().flatten().flatten();
    for page in pages {
        let path = format!("docs/reference/{}", page.file_name().to_string_lossy());
        let text = std::fs::read_to_string(page.path()).unwrap_or_default();
        files.push((path, with_tables(&text, FIELDS, &table)));
    }
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    files.push((metrics::PAGE.to_owned(), with_tables(&read(metrics::PAGE), METRICS, &metrics::table)));
    files.extend(metrics::RULES.map(|path| (path.to_owned(), metrics::with_rules(&read(path)))));
    files
}

/// The schema of the document, as text.
pub fn schema() -> String {
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Outrigger's configuration"));
    schema.append(&mut object(&DOCUMENT));
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

fn object(table: &Table) -> Map<String, Value> {
    let mut properties = Map::new();
    for field in table.fields {
        properties.insert(field.name.to_owned(), Value::Object(property(field)));
    }
    let required = table.fields.iter().filter(|it| matches!(it.absence, Absence::Required));
    let required: Vec<&str> = required.map(|it| it.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

fn property(field: &Field) -> Map<String, Value> {
    let mut schema = Map::new();
    let default = default(field.absence);
    let says = match (&default, field.absence) {
        (None, Absence::Else(words)) => format!("{}. If left out: {}", plain(field.says), plain(words)),
        _ => plain(field.says),
    };
    schema.insert("description".to_owned(), json!(says));
    if field.hidden {
        schema.insert("deprecated".to_owned(), json!(true));
    }
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    let mut values = kind(&field.kind);
    if !matches!(field.absence, Absence::Required) {
        allow_null(&mut values);
    }
    schema.append(&mut values);
    schema
}

/// `null` is as good as nothing for whatever may be left out.
fn allow_null(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.push(json!("null")),
        Some(name) => *name = json!([name, "null"]),
        None => {}
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.push(Value::Null);
    }
}

fn kind(kind: &Kind) -> Map<String, Value> {
    let value = match kind {
        Kind::Whole(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Number(least, most) => json!({ "type": "number", "minimum": least, "maximum": most }),
        Kind::Ratio => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
        Kind::Span(..) => json!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m|h|d))+$" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::BoolOr(words) => {
            let values: Vec<Value> =
                [json!(true), json!(false)].into_iter().chain(words.iter().map(|it| json!(it))).collect();
            json!({ "type": ["boolean", "string"], "enum": values })
        }
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Text(text) => {
            // YAML makes numbers of texts without quotes. Where digits can be such a text they are taken.
            let is_number_too = (text.check)("404").is_none();
            let number = if text.takes_fractions { "number" } else { "integer" };
            let types = if is_number_too { json!(["string", number]) } else { json!("string") };
            let mut schema = Map::new();
            schema.insert("type".to_owned(), types);
            if is_number_too && (text.check)("-5").is_some() {
                schema.insert("minimum".to_owned(), json!(0));
            }
            if !text.pattern.is_empty() {
                schema.insert("pattern".to_owned(), json!(text.pattern));
            }
            Value::Object(schema)
        }
        Kind::WholeOr(least, most, text) => {
            json!({ "type": ["integer", "string"], "minimum": least, "maximum": most, "pattern": text.pattern })
        }
        Kind::List(list) => {
            let least = usize::from(list.empty.is_some());
            json!({ "type": "array", "minItems": least, "maxItems": MOST_ELEMENTS, "items": self::kind(&list.of) })
        }
        Kind::Object(table) => Value::Object(object(table)),
        Kind::Texts(most) => {
            let texts = json!({ "type": ["string", "integer"] });
            json!({ "type": "object", "maxProperties": most, "additionalProperties": texts })
        }
        Kind::Json => json!({}),
    };
    match value {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

fn default(absence: Absence) -> Option<Value> {
    match absence {
        Absence::Required | Absence::Else(_) => None,
        Absence::Whole(number) => Some(json!(number)),
        Absence::Number(number) => Some(json!(number)),
        Absence::Span(millis) => Some(json!(duration::text(millis))),
        Absence::Bool(value) => Some(json!(value)),
        Absence::Word(word) => Some(json!(word)),
    }
}

/// Markdown without its links.
fn plain(markdown: &str) -> String {
    let mut plain = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        match after.split_once("](").and_then(|(text, after)| Some((text, after.split_once(')')?.1))) {
            Some((text, after)) if !text.contains(['[', '"']) => {
                plain.push_str(text);
                rest = after;
            }
            _ => {
                plain.push('[');
                rest = after;
            }
        }
    }
    (plain + rest).replace("**", "")
}

/// What a marker begins with that a table of fields follows.
const FIELDS: &str = "<!-- fields: ";
/// What a marker begins with that a table of metrics or of words of their labels follows.
const METRICS: &str = "<!-- metrics: ";
const END: &str = "<!-- end -->";

/// The page with the table of each marker as it should be.
fn with_tables(page: &str, begin: &str, table: &dyn Fn(&str) -> String) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(begin) {
        let Some((name, after)) = after.split_once(" -->") else {
            break;
        };
        let Some((_, after)) = after.split_once(END) else {
            break;
        };
        let _ = write!(text, "{before}{begin}{name} -->\n{}{END}", table(name));
        rest = after;
    }
    text + rest
}

/// What has a table of its own, by the name of its marker.
pub const TABLES: [&str; 12] = [
    "document",
    "client_ip",
    "operations",
    "limits",
    "fallbacks",
    "switches",
    "breakers",
    "on_failure",
    "on_failure.stale",
    "retries",
    "deadlines",
    "monitor",
];

fn table(name: &str) -> String {
    let mut rows = String::from("| field | meaning | default |\n| --- | --- | --- |\n");
    let mut found = Some(&DOCUMENT);
    if name != "document" {
        for step in name.split('.') {
            found = found.and_then(|it| it.field(step)).and_then(|it| section(&it.kind));
        }
    }
    if let Some(found) = found {
        add_rows(&mut rows, name, "", found);
    }
    rows
}

/// The section that the value is, or a list of such sections.
fn section(kind: &Kind) -> Option<&'static Table> {
    match kind {
        Kind::Object(table) => Some(table),
        Kind::List(list) => section(&list.of),
        _ => None,
    }
}

fn add_rows(rows: &mut String, name: &str, prefix: &str, table: &Table) {
    for field in table.fields.iter().filter(|it| !it.hidden) {
        let default = match field.absence {
            Absence::Required => "required".to_owned(),
            Absence::Else(words) => words.to_owned(),
            other => match self::default(other) {
                Some(Value::String(text)) => format!("`{text}`"),
                Some(value) => format!("`{value}`"),
                None => String::new(),
            },
        };
        let _ = writeln!(rows, "| `{prefix}{}` | {}{} | {default} |", field.name, field.says, range(&field.kind));
        let own = format!("{name}.{}", field.name);
        let is_elsewhere = name == "document" || TABLES.contains(&own.as_str());
        if let Some(inner) = section(&field.kind).filter(|_| !is_elsewhere) {
            let brackets = if matches!(field.kind, Kind::List(_)) { "[]" } else { "" };
            add_rows(rows, name, &format!("{prefix}{}{brackets}.", field.name), inner);
        }
    }
}

fn range(kind: &Kind) -> String {
    match kind {
        Kind::Whole(least, most) => format!(" ({least} to {most})"),
        Kind::Number(least, most) => format!(" ({least} to {most})"),
        Kind::Ratio => " (above 0, at most 1)".to_owned(),
        Kind::Span(1, most) if *most != NO_MOST => format!(" (at most {})", duration::text(*most)),
        Kind::Span(least, most) if *most != NO_MOST => {
            format!(" ({} to {})", duration::text(*least), duration::text(*most))
        }
        _ => String::new(),
    }
}
