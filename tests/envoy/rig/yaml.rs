//! YAML as kubectl, Helm and Argo CD read it: as version 1.1, where a word without quotes may be no text.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::rig::tool;

/// Reads one document and prints it as JSON, keys that are no texts as Kubernetes' own reader does (`true` of `on`). Dates are
/// texts there, in some spelling.
const SCRIPT: &str = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin.buffer), default=str))";

/// The document of this text.
pub(crate) fn read(text: &str) -> Value {
    let mut python = Command::new("python3")
        .args(["-c", SCRIPT])
        .env("PYTHONPATH", tool::pyyaml())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 can be started");
    // Dropped at the end of the statement, which ends the input.
    python.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("python3 reads");
    let output = python.wait_with_output().expect("python3 ends");
    assert!(output.status.success(), "PyYAML does not read:\n{text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The configuration as Istio hands it to the filter: read into a protobuf `Struct` and printed again, which sorts the
/// keys of objects and makes doubles of all numbers.
pub(crate) fn as_istio_sends_it(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort();
            let members: Vec<String> =
                names.iter().map(|name| format!("{}:{}", text(name), as_istio_sends_it(&members[*name]))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(as_istio_sends_it).collect();
            format!("[{}]", items.join(","))
        }
        // Like Go, Rust prints a whole double without a fraction; no number of ours is large enough for an exponent.
        Value::Number(number) => number.as_f64().expect("a double").to_string(),
        Value::String(content) => text(content),
        Value::Bool(_) | Value::Null => value.to_string(),
    }
}

/// A JSON string with Go's extra escapes.
fn text(content: &str) -> String {
    let quoted = Value::from(content).to_string();
    quoted.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

/// The document as people write it, who put quotes only where YAML's syntax asks for them.
pub(crate) fn without_quotes(value: &Value) -> String {
    block(value, 0)
}

fn block(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) if !members.is_empty() => {
            let lines = members.iter().map(|(name, it)| format!("\n{indent}{}:{}", plain(name), block(it, depth + 1)));
            lines.collect()
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(|it| format!("\n{indent}-{}", block(it, depth + 1))).collect()
        }
        Value::String(text) => format!(" {}", plain(text)),
        other => format!(" {other}"),
    }
}

/// A scalar without quotes, if the syntax allows that (YAML 1.1, §9.1.3).
fn plain(text: &str) -> String {
    let begins = text.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '/');
    let goes_on = !text.contains(": ") && !text.contains(" #") && !text.ends_with([':', ' ']);
    if begins && goes_on { text.to_owned() } else { Value::from(text).to_string() }
}
