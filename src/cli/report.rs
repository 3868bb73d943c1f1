//! Findings as people and programs read them.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use super::arguments::Format;
use super::finding::{Checked, Finding, RULES, Severity};
use super::source::{Position, Source};

/// The report of all files.
pub(super) fn text(format: Format, all: &[Checked], is_styled: bool) -> String {
    match format {
        Format::Text => pictures(all, is_styled),
        Format::Json => lines(&Value::Array(each(all, object))),
        Format::Sarif => lines(&sarif(all)),
        Format::Github => {
            all.iter().flat_map(|it| it.findings.iter().map(|finding| github(&it.source, finding))).collect()
        }
    }
}

fn each(all: &[Checked], make: fn(&Source, &Finding) -> Value) -> Vec<Value> {
    all.iter().flat_map(|it| it.findings.iter().map(move |finding| make(&it.source, finding))).collect()
}

fn lines(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Where a finding begins and ends.
fn region(source: &Source, finding: &Finding) -> (Position, Position) {
    let shown = source.shown(&finding.span);
    (source.position(shown.start), source.position(shown.end))
}

fn pictures(all: &[Checked], is_styled: bool) -> String {
    let renderer = if is_styled { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for Checked { source, findings } in all {
        for finding in findings {
            let level = if finding.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
            let shown = AnnotationKind::Primary.span(source.shown(&finding.span));
            let snippet = Snippet::source(source.text.as_str()).path(source.name.as_str()).annotation(shown);
            let mut group = level.primary_title(finding.message()).element(snippet);
            if let Some(fix) = &finding.fix {
                group = group.element(Level::HELP.message(fix.as_str()));
            }
            text.push_str(&renderer.render(&[group]));
            text.push_str("\n\n");
        }
    }
    text
}

fn object(source: &Source, finding: &Finding) -> Value {
    let (start, end) = region(source, finding);
    json!({
        "file": source.name, "line": start.line, "column": start.column, "end_line": end.line, "end_column": end.column,
        "severity": finding.severity.word(), "rule": finding.rule, "path": finding.path, "message": finding.problem,
        "fix": finding.fix,
    })
}

/// SARIF 2.1.0, as GitHub's code scanning reads it.
fn sarif(all: &[Checked]) -> Value {
    let rules: Vec<Value> =
        RULES.iter().map(|(id, says)| json!({ "id": id, "shortDescription": { "text": says } })).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "outrigger", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": each(all, result),
        }],
    })
}

fn result(source: &Source, finding: &Finding) -> Value {
    let (start, end) = region(source, finding);
    json!({
        "ruleId": finding.rule,
        "level": finding.severity.word(),
        "message": { "text": with_fix(finding) },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": source.name },
            "region": {
                "startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column,
            },
        } }],
    })
}

fn with_fix(finding: &Finding) -> String {
    let message = finding.message();
    finding.fix.as_ref().map_or(message.clone(), |fix| format!("{message}. Likely fix: {fix}"))
}

/// A command of a workflow, in which `%` and ends of lines are escaped, and in its properties `:` and `,` too.
fn github(source: &Source, finding: &Finding) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let name = data(&source.name).replace(':', "%3A").replace(',', "%2C");
    let (start, end) = region(source, finding);
    format!(
        "::{} file={name},line={},col={},endLine={},endColumn={},title=outrigger {}::{}\n",
        finding.severity.word(),
        start.line,
        start.column,
        end.line,
        end.column,
        finding.rule,
        data(&with_fix(finding)),
    )
}
