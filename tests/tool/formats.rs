//! Forms of the report, exit statuses, and the smaller commands.

use serde_json::Value;

use crate::run;

const WRONG: &str = "limits:\n- name: a\n  window: { max_requests: 0, interval: 1s }\n";
const ODD: &str = "version: 2026-11-23\nlimits: []\n";

#[test]
fn a_picture_shows_file_line_column_rule_and_fix() {
    let output = run(&["check", "-"], WRONG);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    for part in [
        "error: limits[0].window.max_requests: 0, must be a whole number from 1 to",
        "--> <stdin>:3:27",
        "3 |   window: { max_requests: 0, interval: 1s }",
        "help: `max_requests` is ",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn sarif_has_what_code_scanning_requires() {
    let output = run(&["check", "--format", "sarif", "-"], WRONG);
    let sarif: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "outrigger");
    let result = &run["results"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert!(rules.iter().any(|it| it["id"] == result["ruleId"]), "{result}");
    assert_eq!(result["level"], "error");
    assert!(result["message"]["text"].as_str().unwrap().contains("must be a whole number"));
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "<stdin>");
    let region = serde_json::json!({ "startLine": 3, "startColumn": 27, "endLine": 3, "endColumn": 28 });
    assert_eq!(location["region"], region);
}

#[test]
fn github_gets_a_command_a_line() {
    let said = String::from_utf8(run(&["check", "--format", "github", "-"], WRONG).stdout).unwrap();
    let start =
        "::error file=<stdin>,line=3,col=27,endLine=3,endColumn=28,title=outrigger invalid-value::limits[0].window";
    assert!(said.starts_with(start) && said.lines().count() == 1, "{said}");
}

#[test]
fn exit_statuses_are_those_of_the_manual() {
    for (arguments, input, status) in [
        (&["check", "-"][..], "limits: []\n", 0),
        (&["check", "-"], ODD, 0),
        (&["check", "--deny-warnings", "-"], ODD, 1),
        (&["check", "-"], WRONG, 1),
        (&["check", "-"], "kind: Service\n", 1),
        (&["check"], "", 2),
        (&["check", "--format", "xml", "-"], "", 2),
        (&["check", "/nowhere.yaml"], "", 2),
        (&["check", "/nowhere.yaml", "-"], WRONG, 2),
        (&["check", "-"], "\u{feff}limits: []\n", 0),
    ] {
        let output = run(arguments, input);
        assert_eq!(output.status.code(), Some(status), "{arguments:?} of {input:?}: {output:?}");
    }
}

#[test]
fn the_schema_is_the_one_of_the_documentation() {
    let said = run(&["schema"], "").stdout;
    assert_eq!(said, std::fs::read(crate::pages::project("docs/schema.json")).unwrap());
}

#[test]
fn help_completions_and_manual_name_every_command() {
    for arguments in [&["--help"][..], &["completions", "bash"], &["man"]] {
        let output = run(arguments, "");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(["check", "schema", "completions", "man"].iter().all(|it| said.contains(it)), "{arguments:?}: {said}");
    }
    let help = String::from_utf8(run(&["check", "--help"], "").stdout).unwrap();
    assert!(help.contains("helm template ./chart | outrigger check -") && help.contains("WasmPlugin"), "{help}");
}
