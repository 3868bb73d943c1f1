//! The README's section on cost, made of the results and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::results::{Measured, Results};
use crate::statistics::{low_mean, median, range};

/// The marks in the README between which the section stands.
const BEGIN: &str = "<!-- bench -->\n";
const END: &str = "<!-- /bench -->";

/// Parts of a run that are looked at each by itself, to see how much chance there is in a figure.
const PARTS: usize = 5;

/// The rows that others are measured by: the first adds nothing, and what the second adds is the unit.
const NONE: usize = 0;
const EMPTY: usize = 1;

pub(crate) fn results_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/results.json")
}

pub(crate) fn readme_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// The README with this section in place of the one it has.
pub(crate) fn insert(readme: &str, section: &str) -> String {
    let split = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = split.expect("the README has a place for the section");
    format!("{before}{BEGIN}{section}{END}{after}")
}

/// The section.
pub(crate) fn render(results: &Results) -> String {
    let mut text = String::new();
    head(&mut text, results);
    variants(&mut text, results);
    method(&mut text, results);
    memory(&mut text, results);
    starts(&mut text, results);
    text
}

fn head(text: &mut String, results: &Results) {
    let machine = &results.machine;
    line(
        text,
        "Every figure here comes from one run of `./build.sh bench`, which compares Envoys that differ in one filter:",
    );
    line(
        text,
        &format!(
            "on {}, commit {}, with Envoy {}, on a machine with {} cores ({}, Linux {}).",
            machine.date, machine.commit, machine.envoy, machine.cores, machine.cpu, machine.kernel
        ),
    );
    line(
        text,
        "The absolute numbers are that machine's; what carries over to others is the ratio to the empty filter.",
    );
    line(text, "");
}

fn variants(text: &mut String, results: &Results) {
    line(text, "| filter | CPU per request | added | added, × empty filter | p50 | p99 | memory |");
    line(text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (place, variant) in results.variants.iter().enumerate() {
        let cost = low_mean(&variant.cpu_ns);
        let (added, ratio) = if place == NONE {
            ("–".to_owned(), "–".to_owned())
        } else {
            let added = format!("{} µs", micros(cost - low_mean(&results.variants[NONE].cpu_ns)));
            (added, ratio(results, place))
        };
        let row = [
            format!("**{}**: {}", variant.name, variant.shows),
            format!("{} µs", micros(cost)),
            added,
            ratio,
            format!("{:.0} µs", median(&variant.p50_us)),
            format!("{:.0} µs", median(&variant.p99_us)),
            format!("{:.1} MiB", variant.resident_kib as f64 / 1024.0),
        ];
        line(text, &format!("| {} |", row.join(" | ")));
    }
    line(text, "");
}

/// What a variant adds by what the empty filter adds: over the whole run, and the lowest and highest of its parts.
fn ratio(results: &Results, place: usize) -> String {
    if place == EMPTY {
        return "1".to_owned();
    }
    let all = &results.variants;
    let whole = added_ratio(&all[NONE].cpu_ns, &all[EMPTY].cpu_ns, &all[place].cpu_ns);
    let size = all[NONE].cpu_ns.len().div_ceil(PARTS).max(1);
    let chunks = |variant: &Measured| -> Vec<Vec<f64>> { variant.cpu_ns.chunks(size).map(<[f64]>::to_vec).collect() };
    let parts = chunks(&all[NONE]).into_iter().zip(chunks(&all[EMPTY])).zip(chunks(&all[place]));
    let ratios: Vec<f64> = parts.map(|((none, empty), variant)| added_ratio(&none, &empty, &variant)).collect();
    let (low, high) = range(&ratios);
    format!("{whole:.2} ({low:.2}–{high:.2})")
}

/// By the low means of rounds: what `variant` costs above `none`, in units of what `empty` does.
pub(crate) fn added_ratio(none: &[f64], empty: &[f64], variant: &[f64]) -> f64 {
    let none = low_mean(none);
    (low_mean(variant) - none) / (low_mean(empty) - none)
}

fn method(text: &mut String, results: &Results) {
    let (plan, none) = (&results.plan, &results.variants[NONE]);
    let busy: Vec<f64> = results.variants.iter().map(|variant| variant.busy * 100.0).collect();
    let (idlest, busiest) = range(&busy);
    let above = (median(&none.cpu_ns) / low_mean(&none.cpu_ns) - 1.0) * 100.0;
    line(
        text,
        "*How.* Each row is an Envoy of its own with one worker, forwarding to one upstream; all run together, on one core.",
    );
    line(text, &format!("The load generator ({}) and the upstream have another core.", results.machine.loader));
    line(
        text,
        &format!(
            "In each of {} rounds each Envoy gets {} requests over {} connections (HTTP/1.1, kept alive), in an order drawn anew.",
            plan.rounds, plan.burst, plan.connections
        ),
    );
    line(text, "A request is a GET with twelve headers, as a browser and a mesh send them, and always the same user.");
    line(
        text,
        "CPU is what the kernel booked to that process in the meantime, all its threads included, per request: the mean of the lowest tenth of the rounds, since noise only adds.",
    );
    line(
        text,
        &format!(
            "Meanwhile the Envoys kept their core busy {idlest:.0} to {busiest:.0} % of the time, so this is CPU under full load."
        ),
    );
    line(
        text,
        "The ratio is (row − no filter) / (empty filter − no filter); in brackets its lowest and highest value when a fifth of the run is taken by itself.",
    );
    line(
        text,
        &format!(
            "p50 and p99 are of {} requests a second over {} connections: the median of {} rounds of {} requests. Memory is what is resident afterwards.",
            plan.latency_rate, plan.latency_connections, plan.latency_rounds, plan.latency_requests
        ),
    );
    line(text, "");
    line(
        text,
        &format!(
            "*Noise.* The machine is a virtual one that shares its processors. Without a filter the middle round cost {above:.0} % more than the lowest tenth, and when the run began the machine's load was {:.1}.",
            results.machine.load_before
        ),
    );
    line(
        text,
        "The differences in p50 and p99 between rows are smaller than those between runs unless they are several tens of microseconds.",
    );
    line(text, "");
    line(
        text,
        "*Reading it.* The native filter is the cheapest way to have one limit for everybody: compiled into Envoy, it crosses no boundary. A Wasm filter begins at the empty one, whatever it does.",
    );
    line(text, "");
}

fn memory(text: &mut String, results: &Results) {
    line(
        text,
        &format!("Memory of a proxy by its workers, resident after load (the median of {}):", results.plan.repetitions),
    );
    line(text, "");
    line(text, "| filter | 1 worker | 4 workers | a further worker | of which the filter |");
    line(text, "| --- | ---: | ---: | ---: | ---: |");
    let further = |place: usize| {
        let workers = &results.workers[place];
        (median(&workers.four_kib) - median(&workers.one_kib)) / 3.0
    };
    for (place, workers) in results.workers.iter().enumerate() {
        let own = if place == NONE { "–".to_owned() } else { mebibytes(further(place) - further(NONE)) };
        let (one, four) = (mebibytes(median(&workers.one_kib)), mebibytes(median(&workers.four_kib)));
        line(text, &format!("| {} | {one} | {four} | {} | {own} |", workers.name, mebibytes(further(place))));
    }
    line(text, "");
}

fn starts(text: &mut String, results: &Results) {
    line(
        text,
        &format!(
            "Time to apply a change, from publishing a listener in a file until a new connection is served by it, in an Envoy with one core (median of {}, and the range):",
            results.plan.repetitions
        ),
    );
    line(text, "");
    line(text, "| change | time |");
    line(text, "| --- | ---: |");
    for start in &results.starts {
        let (low, high) = range(&start.ms);
        line(text, &format!("| {} | {:.0} ms ({low:.0}–{high:.0}) |", start.name, median(&start.ms)));
    }
    line(text, "");
    let sizes = results.modules.iter().map(|module| format!("{}: {} KiB", module.name, module.bytes.div_ceil(1024)));
    line(text, &format!("Size of the modules: {}.", sizes.collect::<Vec<_>>().join("; ")));
}

fn micros(nanos: f64) -> String {
    format!("{:.1}", nanos / 1000.0)
}

fn mebibytes(kibibytes: f64) -> String {
    format!("{:.1} MiB", kibibytes / 1024.0)
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
