//! docs/cost.md tells what was measured: its tables are made from the committed results.
//!
//! Reads files, hence native only.

#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may panic"
)]
#![allow(dead_code, reason = "the bench uses the rest")]

mod plan;
mod report;
mod results;
mod statistics;

use std::fs;

use results::Results;
use statistics::{low_mean, median, quantile, range};

fn committed() -> Results {
    Results::from_json(&fs::read_to_string(report::results_file()).unwrap())
}

#[test]
fn the_page_on_cost_is_the_rendering_of_the_committed_results() {
    let page = fs::read_to_string(report::page_file()).unwrap();
    let fresh = report::insert(&page, &report::render(&committed()));
    assert!(page == fresh, "docs/cost.md is not that of results.json: run ./build.sh bench --render");
}

#[test]
fn times_are_told_only_if_they_say_something() {
    assert!(report::is_steady(&[100.0, 110.0, 119.0]));
    assert!(!report::is_steady(&[100.0, 110.0, 140.0]));
    assert!(!report::is_steady(&[-1.0, 1.0, 1.0]));
}

#[test]
fn the_committed_results_are_those_of_a_full_run() {
    let results = committed();
    let rounds = results.plan.rounds as usize;
    assert!(rounds >= 100, "{rounds} rounds");
    for variant in &results.variants {
        assert_eq!(variant.cpu_ns.len(), rounds, "{}", variant.name);
    }
}

#[test]
fn results_are_the_same_after_writing_and_reading() {
    let text = committed().to_json();
    assert_eq!(Results::from_json(&text).to_json(), text);
    assert_eq!(fs::read_to_string(report::results_file()).unwrap(), text);
}

#[test]
fn a_section_replaces_what_stood_between_the_marks() {
    let page = "before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n";
    let fresh = "before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n";
    assert_eq!(report::insert(page, "new\n"), fresh);
    assert_eq!(report::insert(fresh, "new\n"), fresh);
}

#[test]
fn the_low_mean_is_that_of_the_lowest_tenth_and_of_at_least_one() {
    let shuffled: Vec<f64> = (0..20).map(|number| f64::from(number * 7 % 20)).collect();
    assert_eq!(low_mean(&shuffled), 0.5);
    assert_eq!(low_mean(&shuffled[..11]), (shuffled[0] + 1.0) / 2.0);
    assert_eq!(low_mean(&[3.0, 2.0]), 2.0);
    assert_eq!(low_mean(&[]), 0.0);
}

#[test]
fn quantiles_are_samples() {
    let samples = [40.0, 10.0, 30.0, 20.0];
    assert_eq!(median(&samples), 20.0);
    assert_eq!(quantile(&samples, 0.51), 30.0);
    assert_eq!(quantile(&samples, 0.99), 40.0);
    assert_eq!(range(&samples), (10.0, 40.0));
    assert_eq!(median(&[]), 0.0);
}

#[test]
fn the_empty_filter_is_the_unit_and_no_filter_is_nothing() {
    let (none, empty) = ([20.0, 25.0], [27.0, 30.0]);
    assert_eq!(report::added_ratio(&none, &empty, &none), 0.0);
    assert_eq!(report::added_ratio(&none, &empty, &empty), 1.0);
    assert_eq!(report::added_ratio(&none, &empty, &[34.0, 99.0]), 2.0);
}
