//! Envoy's statistics in the text that Prometheus scrapes.

use std::fmt::Write as _;

/// One line of the exposition.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// All samples of one scrape.
pub(crate) struct Stats {
    samples: Vec<Sample>,
}

impl Stats {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(sample).collect() }
    }

    /// The sum over all samples of this name that carry (at least) these labels; 0 when there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.samples.iter().filter(|sample| sample.name == name && sample.carries(labels));
        // Not `sum()`, which starts at -0.0.
        matching.fold(0.0, |sum, sample| sum + sample.value)
    }

    /// Whether there is a sample of this name that carries (at least) these labels.
    #[allow(dead_code, reason = "the bench shares this module")]
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.samples.iter().any(|sample| sample.name == name && sample.carries(labels))
    }

    /// The names of all labels that the samples of this name carry, sorted.
    pub(crate) fn labels(&self, name: &str) -> Vec<&str> {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        let mut labels: Vec<&str> =
            samples.flat_map(|sample| &sample.labels).map(|(label, _)| label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        labels
    }

    /// The filter's own samples, for a failure message.
    pub(crate) fn ours(&self) -> String {
        let mut text = String::new();
        let ours = self.samples.iter().filter(|sample| sample.name.starts_with("outrigger_"));
        for sample in ours.filter(|sample| !sample.name.ends_with("_bucket")) {
            let _ = writeln!(text, "{}{:?} {}", sample.name, sample.labels, sample.value);
        }
        text
    }
}

impl Sample {
    fn carries(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.iter().any(|(n, v)| n == name && v == value))
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
    let (name, labels) = series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
    let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
    Sample { name: name.to_owned(), labels: parse_labels(labels), value }
}

/// `a="x",b="y"`. No value in these tests holds a quote.
fn parse_labels(text: &str) -> Vec<(String, String)> {
    text.split("\",")
        .filter_map(|pair| pair.split_once("=\""))
        .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()))
        .collect()
}
