//! All that is wrong with a file.

use std::ops::Range;

use super::align::Alignment;
use super::embedded::Embedded;
use super::finding::{Checked, Finding, Severity};
use super::source::Source;
use super::tree::{Tree, Value};
use super::{find, fix, json, yaml};
use crate::config::Config;

/// Checks a file: as JSON if it begins as JSON does or says so by its name, else as YAML.
pub(super) fn source(source: Source) -> Checked {
    let mut findings = Vec::new();
    let is_json = source.name.ends_with(".json") || source.text.trim_start().starts_with('{');
    match if is_json { as_json(&source.text) } else { as_yaml(&source.text) } {
        Err(finding) => findings.push(*finding),
        Ok(stream) => {
            let found: Vec<&Tree> = stream.documents.iter().flat_map(find::configurations).collect();
            if found.is_empty() {
                findings.push(none(&source.text));
            }
            for configuration in found {
                let doubts = stream.doubts.iter().filter(|it| is_inside(&it.span, &configuration.span));
                findings.extend(doubts.map(doubt));
                findings.extend(check(configuration, &source.text));
            }
        }
    }
    findings.sort_by_key(|it| (it.span.start, it.severity == Severity::Warning));
    Checked { source, findings }
}

fn is_inside(inner: &Range<usize>, outer: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn as_json(text: &str) -> Result<yaml::Stream, Box<Finding>> {
    let root = json::parse(text).map_err(|it| Box::new(syntax(it.path, it.problem, it.at)))?;
    Ok(yaml::Stream { documents: vec![root], doubts: Vec::new() })
}

fn as_yaml(text: &str) -> Result<yaml::Stream, Box<Finding>> {
    yaml::parse(text).map_err(|it| {
        let mut finding = syntax(String::new(), it.problem, it.at);
        if text.contains("{{") {
            finding.fix =
                Some("render a template before it is checked: helm template CHART | outrigger check -".to_owned());
        }
        Box::new(finding)
    })
}

fn syntax(path: String, problem: String, at: usize) -> Finding {
    Finding { severity: Severity::Error, rule: "syntax", path, problem, fix: None, span: at..at + 1 }
}

fn none(text: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        rule: "no-configuration",
        path: String::new(),
        problem: format!("no configuration of Outrigger in this file; looked for: {}", find::LOOKED_FOR),
        fix: Some("give the file that has it, or leave this one out".to_owned()),
        span: 0..text.len().min(1),
    }
}

fn doubt(doubt: &yaml::Doubt) -> Finding {
    Finding {
        severity: Severity::Warning,
        rule: "ambiguous-yaml",
        path: String::new(),
        problem: doubt.problem.clone(),
        fix: Some("write it in quotes, or as a plain decimal number".to_owned()),
        span: doubt.span.clone(),
    }
}

/// Checks one configuration: a tree, or a text that has JSON in it.
fn check(configuration: &Tree, file: &str) -> Vec<Finding> {
    let Value::Text(text) = &configuration.value else {
        return judge(&Embedded::of(configuration));
    };
    let alignment = Alignment::of(text, file, configuration.span.clone());
    match json::parse(text) {
        Err(error) => vec![syntax(error.path, error.problem, alignment.offset(error.at))],
        Ok(mut tree) => {
            tree.move_spans(&|span| alignment.span(span));
            judge(&Embedded::of(&tree))
        }
    }
}

/// What the engine says of it.
fn judge(embedded: &Embedded) -> Vec<Finding> {
    let span = |at, path: &str, is_about_name: bool| {
        let placed = embedded.find(at, path);
        let name = placed.and_then(|it| it.key.clone()).filter(|_| is_about_name);
        name.or_else(|| placed.map(|it| it.value.clone())).unwrap_or_default()
    };
    match Config::parse(embedded.json.as_bytes()) {
        Ok(config) => {
            let finding = |it: &crate::config::Warning| Finding {
                severity: Severity::Warning,
                rule: "no-effect",
                path: it.path().to_owned(),
                problem: it.problem().to_owned(),
                fix: Some("take it out, or change what keeps it from its effect".to_owned()),
                span: span(None, it.path(), false),
            };
            config.warnings().iter().map(finding).collect()
        }
        Err(errors) => {
            let mut findings: Vec<Finding> = errors
                .with_offsets()
                .map(|(at, error)| {
                    let (rule, fix) = fix::of(error.path(), error.problem());
                    let is_about_name = matches!(rule, "unknown-field" | "duplicate-field");
                    Finding {
                        severity: Severity::Error,
                        rule,
                        path: error.path().to_owned(),
                        problem: error.problem().to_owned(),
                        fix,
                        span: span(Some(at), error.path(), is_about_name),
                    }
                })
                .collect();
            if errors.more() != 0
                && let Some(last) = findings.last_mut()
            {
                last.problem.push_str(&format!(" (and {} more errors after it)", errors.more()));
            }
            findings
        }
    }
}
