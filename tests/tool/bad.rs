//! Documents with a mistake each: where it is (`▸` stands before it), which rule it breaks, and what puts it right.

use crate::check;

/// Document, kind of rule, part of the message with its place, part of the fix.
type Case = (&'static str, &'static str, &'static str, &'static str);

const JSON: [Case; 20] = [
    (r#"{ ▸"limts": [] }"#, "unknown-field", "limts|unknown field `limts`", "write `limits`"),
    (r#"{ "limits": [], ▸"nonsense": 1 }"#, "unknown-field", "nonsense|unknown field", "take it out"),
    (r#"{ "limits": [], ▸"limits": [] }"#, "duplicate-field", "|duplicate field `limits`", "keep one"),
    (r#"{ "limits": ▸5 }"#, "invalid-value", "limits|expected a list", "`limits` is"),
    (
        r#"{ "limits": [ ▸{ "window": { "max_requests": 1, "interval": "1s" } } ] }"#,
        "missing-field",
        "limits[0]|missing field `name`",
        "`name` is",
    ),
    (
        r#"{ "limits": [ { "name": ▸"A b", "window": { "max_requests": 1, "interval": "1s" } } ] }"#,
        "invalid-value",
        "limits[0].name|\"A b\"",
        "`name` is",
    ),
    (
        r#"{ "limits": [ { "name": "a", "window": { "max_requests": ▸0, "interval": "1s" } } ] }"#,
        "invalid-value",
        "limits[0].window.max_requests|0, must be",
        "`max_requests` is",
    ),
    (
        r#"{ "limits": [ { "name": "a", "window": { "max_requests": 1, "interval": ▸5 } } ] }"#,
        "invalid-value",
        "limits[0].window.interval|5, must be a duration",
        "unit",
    ),
    (
        r#"{ "limits": [ { "name": "a", "operations": [▸"nobody"], "window": { "max_requests": 1, "interval": "1s" } } ] }"#,
        "invalid-value",
        "limits[0].operations[0]|is not the name of",
        "define",
    ),
    (r#"{ "limits": [ ▸{ "name": "a" } ] }"#, "invalid-value", "limits[0]|must have exactly one of", "`limits` is"),
    (
        r#"{ "operations": [ { "name": "a", "tier": ▸"P9", "match": { "paths": ["/"] } } ] }"#,
        "invalid-value",
        "operations[0].tier|\"P9\"",
        "`tier` is",
    ),
    (
        "{\n  \"fallbacks\": [\n    { \"name\": \"a\", \"status\": 503, \"text\": \"é😀\", ▸\"metods\": [] }\n  ]\n}",
        "unknown-field",
        "fallbacks[0].metods|did you mean `methods`",
        "write `methods`",
    ),
    (
        r#"{ "fallbacks": [ { "name": "a", "status": ▸99 } ] }"#,
        "invalid-value",
        "fallbacks[0].status|99",
        "`status` is",
    ),
    (
        r#"{ "fallbacks": [ { "name": "a", "status": 503, "json": { "b": 1, ▸"b": 2 } } ] }"#,
        "duplicate-field",
        "fallbacks[0].json.b|is the name of an earlier",
        "keep one",
    ),
    (
        r#"{ "breakers": [ { "name": "a", "trip": { "failure_ratio": ▸50 } } ] }"#,
        "invalid-value",
        "breakers[0].trip.failure_ratio|50, must be above 0",
        "`failure_ratio` is",
    ),
    (r#"{ "monitor": { "access_log": ▸"all" } }"#, "invalid-value", "monitor.access_log|\"all\"", "`access_log` is"),
    (r#"{ "placement": ▸"sidestream" }"#, "invalid-value", "placement|must be", "`placement` is"),
    (r#"{ "limits": [ ]▸ "#, "syntax", "", ""),
    (r#"{ "limits": tru▸ }"#, "syntax", "limits|is not JSON", ""),
    (
        r#"{ "kind": "WasmPlugin", "spec": { "pluginConfig": { ▸"limts": [] } } }"#,
        "unknown-field",
        "limts|did you mean `limits`",
        "write `limits`",
    ),
];

const YAML: [Case; 26] = [
    ("▸limts: []\n", "unknown-field", "limts|unknown field", "write `limits`"),
    (
        "limits:\n- name: ▸on\n  window: { max_requests: 1, interval: 1s }\n",
        "invalid-value",
        "limits[0].name|YAML takes on, yes and true for true",
        "in quotes",
    ),
    (
        "limits:\n- name: ▸no\n  window: { max_requests: 1, interval: 1s }\n",
        "invalid-value",
        "limits[0].name|YAML takes off, no and false",
        "in quotes",
    ),
    (
        "limits:\n- name: a\n  window:\n    max_requests: ▸-1_000\n    interval: 1s\n",
        "invalid-value",
        "limits[0].window.max_requests|-1000, must be",
        "`max_requests` is",
    ),
    (
        "limits:\n- name: a\n  window:\n    max_requests: ▸010\n    interval: 1s\n",
        "ambiguous-yaml",
        "|is octal in YAML 1.1",
        "decimal",
    ),
    ("version: ▸11:50\nlimits: []\n", "ambiguous-yaml", "|is 710 in YAML 1.1", "in quotes"),
    ("version: ▸2026-11-23\nlimits: []\n", "ambiguous-yaml", "|is a date to some readers", "in quotes"),
    (
        "version: ▸12345678901234567890\nlimits: []\n",
        "ambiguous-yaml",
        "|Kubernetes keeps 12345678901234567000",
        "in quotes",
    ),
    (
        "limits:\n- name: a\n  window: { max_requests: 1, interval: ▸1 }\n",
        "invalid-value",
        "limits[0].window.interval|1, must be a duration",
        "unit",
    ),
    (
        "limits:\n- name: a\n  window: { max_requests: 1, interval: ▸0x10 }\n",
        "invalid-value",
        "limits[0].window.interval|16, must be a duration",
        "unit",
    ),
    (
        "limits:\n- name: ▸1.5\n  window: { max_requests: 1, interval: 1s }\n",
        "invalid-value",
        "limits[0].name|YAML takes it for a number",
        "in quotes",
    ),
    (
        "limits:\n- name: ▸~\n  window: { max_requests: 1, interval: 1s }\n",
        "invalid-value",
        "limits[0].name|null",
        "`name` is",
    ),
    (
        "limits:\n- name: a\n  enforced: ▸\"yes\"\n  window: { max_requests: 1, interval: 1s }\n",
        "invalid-value",
        "limits[0].enforced|string \"yes\"",
        "`enforced` is",
    ),
    ("limits: []\n▸limits: []\n", "duplicate-field", "|duplicate field", "keep one"),
    ("switches:\n- name: a\n  on: yes\n  ▸true: no\n", "duplicate-field", "switches[0]|duplicate field", "keep one"),
    ("limits:\n- name: ▸a\n\twindow: 5\n", "syntax", "", ""),
    ("limits:\n  - {▸{ .Values.limit }}\n", "syntax", "", "helm template"),
    ("limits: ▸*nobody\n", "syntax", "|is not YAML", ""),
    (
        "kind: WasmPlugin\nspec:\n  url: oci://outrigger\n  pluginConfig:\n    ▸directives: 1\n",
        "unknown-field",
        "directives|unknown field",
        "take it out",
    ),
    (
        "kind: Service\n---\nkind: TrafficExtension\nspec:\n  wasm:\n    pluginConfig:\n      monitor:\n        access_log: ▸maybe\n",
        "invalid-value",
        "monitor.access_log|\"maybe\"",
        "`access_log` is",
    ),
    (
        "kind: EnvoyExtensionPolicy\nspec:\n  wasm:\n  - name: outrigger\n    config:\n      scope: a\n      ▸limit: []\n",
        "unknown-field",
        "limit|did you mean `limits`",
        "write `limits`",
    ),
    (
        "config:\n  configuration:\n    \"@type\": type.googleapis.com/google.protobuf.StringValue\n    value: |\n      {\n        \"limits\": [],\n        ▸\"switchs\": []\n      }\n",
        "unknown-field",
        "switchs|did you mean `switches`",
        "write `switches`",
    ),
    (
        "configuration:\n  \"@type\": a.StringValue\n  value: '{ \"fallbacks\": [{ \"name\": \"a\", \"status\": 503, \"text\": \"a''b\" }], ▸\"limts\": [] }'\n",
        "unknown-field",
        "limts|unknown field",
        "write `limits`",
    ),
    (
        "configuration:\n  \"@type\": a.StringValue\n  value: \"{ \\\"limits\\\": [],\\n  ▸\\\"limts\\\": [] }\"\n",
        "unknown-field",
        "limts|unknown field",
        "write `limits`",
    ),
    (
        "configuration:\n  \"@type\": a.StringValue\n  value: |-\n    { \"limits\": [ ▸} }\n",
        "syntax",
        "limits[0]|is not JSON",
        "",
    ),
    ("▸kind: Service\n", "no-configuration", "|WasmPlugin", "give the file"),
];

#[test]
fn each_mistake_is_told_of_at_its_place() {
    let mut wrong = Vec::new();
    for (marked, rule, message, fix) in JSON.into_iter().chain(YAML) {
        let (before, after) = marked.split_once('▸').unwrap();
        let document = format!("{before}{after}");
        let (found, status) = check(&document);
        let place = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap().chars().count() + 1);
        let (path, problem) = message.split_once('|').unwrap_or(("", message));
        let is_it = |it: &&serde_json::Value| {
            it["rule"] == rule
                && (it["line"].as_u64(), it["column"].as_u64()) == (Some(place.0 as u64), Some(place.1 as u64))
                && (message.is_empty() || it["path"] == path)
                && it["message"].as_str().unwrap().contains(problem)
                && it["fix"].as_str().unwrap_or_default().contains(fix)
        };
        let is_error = found.iter().any(|it| it["severity"] == "error");
        let is_alone = found.len() == 1 && found.iter().all(|it| is_it(&it));
        if !is_alone || status != Some(i32::from(is_error)) {
            wrong.push(format!(
                "{place:?} {rule} {message}, {fix}, {status:?}:\n{document}\n{}",
                serde_json::json!(found)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_mistakes_are_told_of_up_to_twenty() {
    let entry = "- name: a\n  window: { max_requests: 0, interval: 1s }\n";
    let (found, _) = check(&format!("limits:\n{}", entry.repeat(25)));
    assert_eq!(found.len(), 20);
    assert!(found[19]["message"].as_str().unwrap().contains("more errors after it"), "{}", found[19]);
}
