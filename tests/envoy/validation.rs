//! Envoy as a linter of configurations, and the configurations that say nothing.

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::envoy_process::validate;
use crate::rig::filter::Filter;
use crate::rig::listener::Listener;
use crate::rig::policy::{bucket, one_limit};
use crate::rig::turn::Turn;

/// Whether `envoy --mode validate` accepts the filter, and all it says about it.
fn verdict(filter: Filter) -> (bool, String) {
    let output = validate(&Bootstrap::new(Listener::direct().filter(filter)));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn assert_refused(filter: Filter, explanations: &[&str]) {
    let (accepted, said) = verdict(filter);
    assert!(!accepted, "accepted:\n{said}");
    for explanation in explanations {
        assert!(said.contains(explanation), "Envoy does not say `{explanation}`:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_validates_a_first_configuration_with_our_words() {
    let _turn = Turn::shared().await;
    let good = one_limit("all", bucket(20, 10, "1s"));
    let (accepted, said) = verdict(Filter::new(&good));
    assert!(accepted, "{said}");

    let mut instant = good.clone();
    instant["limits"][0]["token_bucket"]["fill_interval"] = json!("0s");
    let explanation = r#"limits[0].token_bucket.fill_interval: "0s", must be at least 1ms"#;
    assert_refused(Filter::new(&instant), &[explanation]);

    let mut misspelt = good.clone();
    misspelt["limits"][0]["enforce"] = json!(true);
    assert_refused(Filter::new(&misspelt), &["limits[0]", "enforce"]);

    let mut idle = good;
    idle["breakers"] = json!([{ "name": "inventory", "trip": {} }]);
    let explanation = "breakers[0].trip: must have at least one of consecutive_failures, failure_ratio and slow_ratio";
    assert_refused(Filter::new(&idle), &[explanation]);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_tells_of_all_that_is_wrong_in_the_order_of_the_document() {
    let _turn = Turn::shared().await;
    let wrong = r#"{ "limits": [{ "name": "all", "operations": ["nobody"], "concurrency": { "max_in_flight": 0 } }],
                     "retries": [{ "max_attempts": 9 }], "monitor": { "outcomes": 1 } }"#;
    let told = [
        "limits[0].operations[0]: \"nobody\", is not the name of an operation",
        "limits[0].concurrency.max_in_flight: 0, must be a whole number from 1 to 1000000",
        "retries[0].max_attempts: 9, must be a whole number from 1 to 5",
        "monitor.outcomes: invalid type: integer `1`, expected a boolean",
    ];
    // Each is a line of the log of its own.
    let lines = told.map(|it| format!("configuration refused: {it}\n"));
    assert_refused(Filter::text(wrong), &lines.each_ref().map(String::as_str));
    let many = format!(r#"{{ "retries": [{}] }}"#, [r#"{ "max_attempts": 9 }"#; 500].join(","));
    assert_refused(
        Filter::text(&many),
        &["retries[19].max_attempts: 9, must be a whole number from 1 to 5", "configuration refused: and 480 more"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_struct_in_place_of_text_is_recognised() {
    let _turn = Turn::shared().await;
    let policy: Value = one_limit("all", bucket(20, 10, "1s"));
    assert_refused(Filter::structured(&policy), &["StringValue", "Struct"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_configuration_and_an_empty_one_do_nothing_but_count() {
    let turn = Turn::shared().await;
    for filter in [Filter::unconfigured(), Filter::text(""), Filter::text("{}")] {
        let envoy = turn.start(Bootstrap::new(Listener::direct().filter(filter))).await;
        assert_eq!(envoy.client().admitted("/", 5).await, 5);
        let labels = [("operation", "other"), ("tier", "P1"), ("outcome", "success")];
        envoy.expect_metric("outrigger_requests_total", &labels, 5.0).await;
    }
}
