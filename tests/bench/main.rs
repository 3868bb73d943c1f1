//! What the filter costs: on real Envoys, beside other ways to do the same and beside doing nothing.
//!
//! `./build.sh bench` builds and installs what this needs and runs it; Linux only, for it reads `/proc`.
//!
//! * [`variant`], [`policy`]: what is compared, each in an Envoy of its own, made of the scenarios' [`rig`].
//! * [`bench`], [`plan`]: the order of a run, and how much is measured; [`core`]: which core does what.
//! * [`load`], [`upstream`]: what comes in, and what stands behind.
//! * [`cost`], [`instructions`], [`latency`], [`memory`], [`startup`]: what is measured.
//! * [`weight`], [`module`], [`gate`]: what `./build.sh weight` measures, takes apart and bounds.
//! * [`machine`], [`results`]: what is kept of it, in `results.json`.
//! * [`statistics`], [`report`]: what is told of it, here and in docs/cost.md.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench fails by panicking, and lives outside the proxy where clocks are free"
)]

mod bench;
mod core;
mod cost;
mod gate;
mod instructions;
mod latency;
mod load;
mod machine;
mod memory;
mod module;
mod plan;
mod policy;
mod report;
mod results;
mod rig;
mod startup;
mod statistics;
mod upstream;
mod variant;
mod weight;

use std::fs;

use plan::Plan;
use results::Results;

const USAGE: &str = "usage: ./build.sh bench [--quick | --rounds N | --render], ./build.sh weight
  --quick    few rounds, to see that it works; keeps nothing
  --rounds   so many rounds of CPU cost instead of 200
  --render   measures nothing; writes the tables of docs/cost.md anew from tests/bench/results.json";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo adds `--bench`.
    let options: Vec<String> = std::env::args().skip(1).filter(|option| option != "--bench").collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match options.as_slice() {
        [] => keep(&bench::run(Plan::full()).await),
        ["--rounds", rounds] => {
            let rounds = rounds.parse().expect("a number of rounds");
            keep(&bench::run(Plan { rounds, ..Plan::full() }).await);
        }
        ["--quick"] => println!("{}", report::render(&bench::run(Plan::quick()).await)),
        ["--weight"] => {
            let passed = weight::run(&Plan::weight()).await;
            if !passed {
                std::process::exit(1);
            }
        }
        ["--render"] => {
            let text = fs::read_to_string(report::results_file()).expect("there are results of an earlier run");
            publish(&Results::from_json(&text));
        }
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    }
}

/// Writes down what was measured, and publishes it.
fn keep(results: &Results) {
    fs::write(report::results_file(), results.to_json()).expect("the results can be written");
    publish(results);
}

/// Prints the report and puts it into docs/cost.md.
fn publish(results: &Results) {
    let section = report::render(results);
    println!("{section}");
    let page = fs::read_to_string(report::page_file()).expect("there is a page on cost");
    fs::write(report::page_file(), report::insert(&page, &section)).expect("the page can be written");
}
