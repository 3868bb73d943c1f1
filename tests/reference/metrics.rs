//! What is made of the table of metrics: the tables of the page of metrics, and the rules that make labels in manifests.

use std::fmt::Write;

use outrigger::config::closed;
use outrigger::degrade::breaker::state::Transition;
use outrigger::degrade::stale::Cause;
use outrigger::host::MetricKind;
use outrigger::monitor::table::{METRICS, Owner, SCOPE, labels};

/// The files with rules that make labels, or a list of labels, by their path.
pub const RULES: [&str; 4] =
    ["docs/gateway.md", "envoy/envoy.yaml", "envoy/exact-retries.yaml", "envoy/istio/wasmplugin.yaml"];

/// The page with the tables.
pub const PAGE: &str = "docs/metrics.md";

/// The name of a table's marker, and what makes the table.
type Made = (&'static str, fn() -> String);

/// What has a table.
pub const TABLES: [Made; 9] = [
    ("metrics", metrics),
    ("outcome", || words("outcome", "outrigger_requests_total")),
    ("enforced", || words("enforced", "outrigger_refusals_total")),
    ("decision", || words("decision", "outrigger_retries_total")),
    ("kind", || words("kind", "outrigger_table_evictions_total")),
    ("changes of a breaker", changes),
    ("answers that are not kept", not_kept),
    ("call of errors", || words("call", "outrigger_host_errors_total")),
    ("call of conflicts", || words("call", "outrigger_shared_conflicts_total")),
];

/// The table of that name.
pub fn table(name: &str) -> String {
    TABLES.iter().find(|(it, _)| *it == name).map_or_else(String::new, |(_, make)| make())
}

fn metrics() -> String {
    let mut rows = String::from("| metric | kind | labels | counts or says |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let scope = (metric.owner == Owner::Filter).then_some(SCOPE);
        let labels: Vec<String> = metric.labels.iter().copied().chain(scope).map(|it| format!("`{it}`")).collect();
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let _ = writeln!(rows, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.moves);
    }
    rows
}

fn words(label: &str, metric: &str) -> String {
    let mut rows = format!("| `{label}` | |\n| --- | --- |\n");
    for word in closed::words(metric, label).unwrap_or_default() {
        let _ = writeln!(rows, "| `{}` | {} |", word.word, word.means);
    }
    rows
}

fn changes() -> String {
    let mut rows = String::from("| `to` | `cause` | |\n| --- | --- | --- |\n");
    for change in Transition::ALL {
        let _ = writeln!(rows, "| `{}` | `{}` | {} |", change.to(), change.cause(), change.means());
    }
    rows
}

fn not_kept() -> String {
    let mut rows = String::from("| `cause` | what was seen | what to do |\n| --- | --- | --- |\n");
    for cause in Cause::ALL {
        let _ = writeln!(rows, "| `{}` | {} | {} |", cause.as_str(), cause.means(), cause.remedy());
    }
    rows
}

/// The rule that makes a label of what a name has of it. It is the rule that Istio makes of `extraStatTags`.
pub fn rule(label: &str) -> String {
    format!(r"({label}=\.=(.*?);\.;)")
}

/// The text of a manifest, or of a page with one, with a rule for every label where it has rules, and a list of all where it has
/// Istio's.
pub fn with_rules(text: &str) -> String {
    let mut made = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((indent, _)) = line.split_once(RULE) {
            while lines.next_if(|it| it.contains(RULE)).is_some() {}
            for label in labels() {
                let _ = writeln!(made, "{indent}{RULE}{label}, regex: '{}' }}", rule(label));
            }
            continue;
        }
        let _ = writeln!(made, "{line}");
        if let Some((before, _)) = line.split_once(ISTIO)
            && lines.next().is_some()
        {
            let _ = writeln!(made, "{before}  {}", labels().join(","));
        }
    }
    made
}

const RULE: &str = "- { tag_name: ";
const ISTIO: &str = "sidecar.istio.io/extraStatTags: >-";
