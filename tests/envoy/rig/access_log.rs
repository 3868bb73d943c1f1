//! What Envoy wrote about each request, with the fields that the filter adds.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// One line of the access log. An absent field is `None`.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Option<String>,
    pub(crate) status: u64,
    pub(crate) details: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) shadow: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) operation: Option<String>,
    pub(crate) tier: Option<String>,
}

/// All complete lines so far.
pub(crate) fn read(path: &Path) -> Vec<Entry> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(parse).collect()
}

fn parse(line: &str) -> Entry {
    let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in access log line {line}"));
    let text = |name: &str| entry[name].as_str().map(str::to_owned);
    Entry {
        path: text("path"),
        status: entry["status"].as_u64().unwrap_or_default(),
        details: text("details"),
        reason: text("reason"),
        shadow: text("shadow"),
        detail: text("detail"),
        operation: text("operation"),
        tier: text("tier"),
    }
}
