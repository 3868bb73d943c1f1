//! What the proxy is asked to define is in the table of metrics: name, kind, labels in their order, and values.

use outrigger::host::MetricKind;
use outrigger::monitor::table::{METRICS, Owner, SCOPE};

/// Panics about a metric that the table does not have so.
pub fn is_in_the_table(kind: MetricKind, name: &str) {
    let mut parts: Vec<&str> = name.split(";.;").collect();
    let base = parts.pop().unwrap_or_default();
    let metric = METRICS.iter().find(|it| it.name == base);
    let metric = metric.unwrap_or_else(|| panic!("{name}: the table has no metric {base}"));
    assert_eq!(kind, metric.kind, "{name}: the table says another kind");
    let labels: Vec<(&str, &str)> =
        parts.iter().map(|it| it.split_once("=.=").unwrap_or_else(|| panic!("{name}: {it} is no label"))).collect();
    let scoped = labels.first().is_some_and(|(label, _)| *label == SCOPE);
    assert!(!scoped || metric.owner == Owner::Filter, "{name}: the table says that it has no scope");
    let own = labels.get(usize::from(scoped)..).unwrap_or_default();
    assert!(own.iter().map(|(label, _)| label).eq(&metric.labels), "{name}: the table says {:?}", &metric.labels);
    for (label, value) in labels {
        // What Envoy's patterns take for the value: what follows the first place where the label seems to be.
        let found = name.split_once(&format!("{label}=.=")).and_then(|(_, rest)| rest.split_once(";.;"));
        assert_eq!(found.map(|(found, _)| found), Some(value), "{name}: taken for the value of {label}");
        let good = |it: char| it.is_ascii_alphanumeric() || "-_.:/+@".contains(it);
        assert!(!value.is_empty() && value.chars().all(good), "{name}: {label} is {value:?}");
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(words) = outrigger::config::closed::words(metric.name, label) {
            assert!(words.iter().any(|it| it.word == value), "{name}: {value} is none of the words of {label}");
        }
    }
}
