//! What probably puts an error right.

use crate::config::fields::DOCUMENT;
use crate::document::{Field, Kind};

/// The fix of a problem with a place, and which kind of rule is broken.
pub(super) fn of(path: &str, problem: &str) -> (&'static str, Option<String>) {
    let word = problem.split('`').nth(1).unwrap_or_default();
    if problem.starts_with("unknown field") {
        let meant = problem.split("did you mean `").nth(1).and_then(|it| it.split('`').next());
        let fix = meant.map_or_else(|| "take it out".to_owned(), |it| format!("write `{it}`"));
        return ("unknown-field", Some(fix));
    }
    if problem.starts_with("missing field") {
        let inner = if path.is_empty() { word.to_owned() } else { format!("{path}.{word}") };
        return ("missing-field", Some(sentence(&inner).unwrap_or_else(|| format!("add `{word}`"))));
    }
    if problem.starts_with("duplicate field") || problem.contains("is the name of an earlier field too") {
        return ("duplicate-field", Some("keep one of the two".to_owned()));
    }
    let fix = if problem.contains("write it in quotes") {
        Some("write it in quotes".to_owned())
    } else if problem.contains("a duration such as") {
        Some("write a number with its unit: 250ms, 1m30s".to_owned())
    } else if problem.contains("is not the name of") {
        Some("write a name that the configuration defines, or define this one".to_owned())
    } else {
        sentence(path)
    };
    ("invalid-value", fix)
}

/// What the reference says of the field that a path leads to.
fn sentence(path: &str) -> Option<String> {
    let mut table = Some(&DOCUMENT);
    let mut last: Option<&'static Field> = None;
    for step in path.split('.') {
        let field = table?.field(step.split('[').next().unwrap_or_default())?;
        let mut kind = &field.kind;
        while let Kind::List(list) = kind {
            kind = &list.of;
        }
        table = if let Kind::Object(inner) = kind { Some(inner) } else { None };
        last = Some(field);
    }
    last.map(|it| format!("`{}` is {}", it.name, it.says))
}
