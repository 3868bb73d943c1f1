//! The schema that is shipped takes what the parser takes and, but for [rules that it cannot say](LAXER), refuses what it refuses.
//!
//! Native only.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::sync::OnceLock;

use serde_json::Value;

#[path = "../reference/generate.rs"]
pub mod generate;

/// Rules that span fields, or that no regular expression says. A document that is refused for one of these may pass the schema.
const LAXER: [&str; 40] = [
    // Names, and who refers to them.
    "is not the name of",
    "is the name of an earlier",
    "duplicate field",
    // What fields say together.
    "must not have both",
    "must not be given beside",
    "must have exactly one of",
    "must have at least one of",
    "means nothing without",
    "must be given where",
    "must be at most what the limit ever admits",
    "must be at least open_for",
    "must be below timeout",
    "must not have a body",
    "must not have \"*\" beside others",
    "must not allow credentials",
    "must name a failure",
    // Buckets that cannot be kept, and durations, which are texts.
    "must fill within",
    "must not get more than",
    "must release at most",
    "must be at most 366 days",
    "must be at least 1ms",
    "must be at most 24h",
    "must be from 1s to",
    "must be above 0 and at most 24h",
    // Texts of which a pattern says less.
    "must have no \";\" unless",
    "must use braces only",
    "must not mix",
    "must have \"{**}\" as its last operator",
    "must be a host without scheme",
    "must not begin or end with a blank",
    "is no header to Envoy",
    "Envoy keeps no header of that name",
    "must be a number or \"header:NAME\"",
    "is read anyway",
    "says something else than a deadline",
    "must be a list of addresses",
    "is not one of %REASON%",
    // Headers of fallbacks by name.
    "must not be set by a fallback",
    "must not contain control characters",
    "fallbacks[0].headers: ",
];

/// Texts that YAML took for a number: which numbers are good is said of the text.
const OF_NUMBERS: [&str; 2] = ["must be \"5xx\", \"4xx\" or a status", "or YAML takes it for a number"];

fn validator() -> &'static jsonschema::Validator {
    static VALIDATOR: OnceLock<jsonschema::Validator> = OnceLock::new();
    VALIDATOR.get_or_init(|| {
        let schema: Value = serde_json::from_str(&generate::schema()).unwrap();
        jsonschema::draft202012::new(&schema).unwrap()
    })
}

/// Checks that the schema agrees with the parser, which found these errors or none.
pub fn agree(document: &str, errors: Option<&str>) {
    let Ok(json) = serde_json::from_str::<Value>(document) else {
        return;
    };
    match (validator().is_valid(&json), errors) {
        (true, None) | (false, Some(_)) => {}
        (false, None) => {
            let found: Vec<String> =
                validator().iter_errors(&json).map(|it| format!("{}: {it}", it.instance_path())).collect();
            panic!("the schema refuses what the parser takes: {found:?}\n{document}");
        }
        (true, Some(errors)) => {
            let is_lax = |error: &str| LAXER.iter().chain(&OF_NUMBERS).any(|rule| error.contains(rule));
            assert!(errors.lines().all(is_lax), "the schema takes what the parser refuses: {errors}\n{document}");
        }
    }
}

#[test]
fn the_schema_is_one() {
    let schema: Value = serde_json::from_str(&generate::schema()).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    agree("{}", None);
    agree(r#"{ "nonsense": 1 }"#, Some("nonsense: unknown field"));
    let wrong = r#"{ "limits": [{ "name": "A b", "window": { "max_requests": 0, "interval": 5 } }] }"#;
    assert_eq!(validator().iter_errors(&serde_json::from_str(wrong).unwrap()).count(), 3);
}

/// What `./build.sh reference` would write is what is there.
#[test]
fn what_is_made_of_the_tables_of_fields_and_metrics_is_fresh() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = generate::files(root);
    assert!(8 < files.len());
    for (path, text) in &files {
        let there = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(there == *text, "{path} is not what its tables say. Run: ./build.sh reference");
    }
    for table in generate::TABLES {
        let marker = format!("<!-- fields: {table} -->");
        let pages = files.iter().filter(|(_, text)| text.contains(&marker)).count();
        assert_eq!(pages, 1, "{marker} stands in one page of docs/reference");
    }
    for (table, _) in generate::metrics::TABLES {
        let marker = format!("<!-- metrics: {table} -->");
        let pages = files.iter().filter(|(_, text)| text.contains(&marker)).count();
        assert_eq!(pages, 1, "{marker} stands in {}", generate::metrics::PAGE);
    }
}
