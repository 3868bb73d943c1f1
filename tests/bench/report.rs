//! The tables of docs/cost.md, made of the results and nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::results::{Measured, Results};
use crate::statistics::{low_mean, median, range};

/// The marks in the page between which the section stands.
const BEGIN: &str = "<!-- bench -->\n";
const END: &str = "<!-- /bench -->";

/// Of a line of prose.
const WIDTH: usize = 118;

/// Parts of a run that are looked at each by itself, to see how much chance there is in a figure.
const PARTS: usize = 5;

/// By how much of its middle a time may differ within a run and still be told.
const STEADY: f64 = 0.2;

/// In place of a time that differed by more.
const UNSTEADY: &str = "unsteady";

/// The rows that others are measured by: the first adds nothing, and what the second adds is the unit.
const NONE: usize = 0;
const EMPTY: usize = 1;

pub(crate) fn results_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/results.json")
}

pub(crate) fn page_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cost.md")
}

/// The page with this section in place of the one it has.
pub(crate) fn insert(page: &str, section: &str) -> String {
    let split = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = split.expect("the page has a place for the section");
    format!("{before}{BEGIN}{section}{END}{after}")
}

/// The section.
pub(crate) fn render(results: &Results) -> String {
    let mut text = String::new();
    head(&mut text, results);
    instructions(&mut text, results);
    variants(&mut text, results);
    method(&mut text, results);
    memory(&mut text, results);
    starts(&mut text, results);
    text
}

fn head(text: &mut String, results: &Results) {
    let machine = &results.machine;
    let place = format!(
        "Every figure here comes from one run of `./build.sh bench`, on {}, of commit {}, with Envoy {}, on a machine with {} \
         cores ({}, Linux {}).",
        machine.date, machine.commit, machine.envoy, machine.cores, machine.cpu, machine.kernel
    );
    let ratios = "It compares Envoys that differ in one filter. The absolute numbers are that machine's; what carries over to \
                  others is the ratio to the empty filter.";
    paragraph(text, &[&place, ratios]);
}

fn variants(text: &mut String, results: &Results) {
    line(text, "| filter | CPU per request | added | added, × empty filter | p50 | p99 | memory |");
    line(text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (place, variant) in results.variants.iter().enumerate() {
        let cost = low_mean(&variant.cpu_ns);
        let (added, ratio) = match place {
            NONE => ("–".to_owned(), "–".to_owned()),
            _ => match ratio(results, place) {
                Some(ratio) => (format!("{} µs", micros(cost - low_mean(&results.variants[NONE].cpu_ns))), ratio),
                None => (UNSTEADY.to_owned(), UNSTEADY.to_owned()),
            },
        };
        let row = [
            format!("**{}**: {}", variant.name, variant.shows),
            steady(&parts(&variant.cpu_ns, low_mean), || format!("{} µs", micros(cost))),
            added,
            ratio,
            steady(&variant.p50_us, || format!("{:.0} µs", median(&variant.p50_us))),
            steady(&variant.p99_us, || format!("{:.0} µs", median(&variant.p99_us))),
            format!("{:.1} MiB", variant.resident_kib as f64 / 1024.0),
        ];
        line(text, &format!("| {} |", row.join(" | ")));
    }
    line(text, "");
}

/// The text of a time, if the samples are about the same.
fn steady(samples: &[f64], text: impl FnOnce() -> String) -> String {
    if is_steady(samples) { text() } else { UNSTEADY.to_owned() }
}

/// Whether the lowest and the highest are as near to each other as a time must be to say something.
pub(crate) fn is_steady(samples: &[f64]) -> bool {
    let (low, high) = range(samples);
    high - low <= median(samples).abs() * STEADY
}

/// A figure of each part of a run.
fn parts(samples: &[f64], figure: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    samples.chunks(samples.len().div_ceil(PARTS).max(1)).map(figure).collect()
}

/// What a variant adds by what the empty filter adds: over the whole run, and the lowest and highest of its parts. `None` if these
/// differ too much.
fn ratio(results: &Results, place: usize) -> Option<String> {
    if place == EMPTY {
        let added = added_by_parts(results, EMPTY);
        return is_steady(&added).then(|| "1".to_owned());
    }
    let all = &results.variants;
    let whole = added_ratio(&all[NONE].cpu_ns, &all[EMPTY].cpu_ns, &all[place].cpu_ns);
    let size = all[NONE].cpu_ns.len().div_ceil(PARTS).max(1);
    let chunks = |variant: &Measured| -> Vec<Vec<f64>> { variant.cpu_ns.chunks(size).map(<[f64]>::to_vec).collect() };
    let parts = chunks(&all[NONE]).into_iter().zip(chunks(&all[EMPTY])).zip(chunks(&all[place]));
    let ratios: Vec<f64> = parts.map(|((none, empty), variant)| added_ratio(&none, &empty, &variant)).collect();
    let (low, high) = range(&ratios);
    is_steady(&ratios).then(|| format!("{whole:.2} ({low:.2}–{high:.2})"))
}

/// What a variant costs above no filter, by parts of the run.
fn added_by_parts(results: &Results, place: usize) -> Vec<f64> {
    let of = |place: usize| parts(&results.variants[place].cpu_ns, low_mean);
    of(place).into_iter().zip(of(NONE)).map(|(with, without)| with - without).collect()
}

/// By the low means of rounds: what `variant` costs above `none`, in units of what `empty` does.
pub(crate) fn added_ratio(none: &[f64], empty: &[f64], variant: &[f64]) -> f64 {
    let none = low_mean(none);
    (low_mean(variant) - none) / (low_mean(empty) - none)
}

fn instructions(text: &mut String, results: &Results) {
    let all = &results.instructions;
    let what = format!(
        "Instructions that Envoy carries out for a request, all its threads included: counted by callgrind over {} requests, and \
         the same in every run to half a per cent, which no time is.",
        results.plan.counted
    );
    paragraph(text, &[&what]);
    line(text, "| filter | instructions | added | added, × empty filter |");
    line(text, "| --- | ---: | ---: | ---: |");
    let thousands = |count: f64| format!("{:.1} k", count / 1000.0);
    let (none, empty) = (all[NONE].per_request, all[EMPTY].per_request);
    for (place, counted) in all.iter().enumerate() {
        let added = counted.per_request - none;
        let (added, ratio) = match place {
            NONE => ("–".to_owned(), "–".to_owned()),
            EMPTY => (thousands(added), "1".to_owned()),
            _ => (thousands(added), format!("{:.2}", added / (empty - none))),
        };
        line(text, &format!("| {} | {} | {added} | {ratio} |", counted.name, thousands(counted.per_request)));
    }
    line(text, "");
    let unlike = "Callgrind slows Envoy down fifty times, so that tokens of a limit for all requests do not last until the next \
                  one and are not taken in advance: under load, two shared operations of the reference policy's four are \
                  spared.";
    paragraph(text, &[unlike]);
}

fn method(text: &mut String, results: &Results) {
    let (plan, none) = (&results.plan, &results.variants[NONE]);
    let loader = format!(
        "*How.* Each row is an Envoy of its own with one worker, forwarding to one upstream; all run together, on one core. The \
         load generator ({}) and the upstream have another core.",
        results.machine.loader
    );
    let rounds = format!(
        "In each of {} rounds each Envoy gets {} requests over {} connections (HTTP/1.1, kept alive), in an order drawn anew. A \
         request is a GET with twelve headers, as a browser and a mesh send them, and always of the same user.",
        plan.rounds, plan.burst, plan.connections
    );
    let cpu = "CPU is what the kernel booked to that process in the meantime, all its threads included, per request: the mean \
               of the lowest tenth of the rounds, since noise only adds.";
    let busy: Vec<f64> = results.variants.iter().map(|variant| variant.busy * 100.0).collect();
    let (idlest, busiest) = range(&busy);
    let busy = format!(
        "While it was its turn, an Envoy used {idlest:.0} to {busiest:.0} % of its core: a busier one finds more requests at \
         once, and each is a little cheaper."
    );
    let ratio = "The ratio is (row − no filter) / (empty filter − no filter); in brackets the lowest and the highest of it when \
                 each fifth of the run is taken by itself.";
    let latency = format!(
        "p50 and p99 are those of {} requests a second over {} connections: the median of {} rounds of {} requests. Memory is \
         what is resident after all that.",
        plan.latency_rate, plan.latency_connections, plan.latency_rounds, plan.latency_requests
    );
    let unsteady = "A time is told only if it differed by less than a fifth from one fifth of the run to another (latencies: from \
                    round to round); otherwise it stands there as unsteady, and the instructions say what it would.";
    paragraph(text, &[&loader, &rounds, cpu, &busy, ratio, &latency, unsteady]);

    let above = (median(&none.cpu_ns) / low_mean(&none.cpu_ns) - 1.0) * 100.0;
    let noise = format!(
        "*Noise.* Without a filter the middle round cost {above:.0} % more than the lowest tenth. When the run began, the load \
         of the machine was {:.1}. p99 is mostly noise: of what else the machine did.",
        results.machine.load_before
    );
    paragraph(text, &[&noise]);
    let reading = "*Reading it.* The native filter is compiled into Envoy and crosses no boundary: if one limit for all requests \
                   together is all you need, it is the cheaper one. A Wasm filter begins at the empty one, whatever it does. Most \
                   of what Outrigger adds to that is spent by Envoy's Wasm host: on calls that return bytes, of which an \
                   empty configuration makes two for a request (its headers, the status of the response) and the reference \
                   policy two (its headers, the user's bucket: that a request succeeded at its first attempt the proxy says \
                   without bytes). `\"outcomes\": false` and `\"access_log\": \"decisions\"` or `false` under `monitor` spare what \
                   nobody looks at.";
    paragraph(text, &[reading]);
}

fn memory(text: &mut String, results: &Results) {
    let repetitions = results.plan.repetitions;
    let what = format!("Memory of a proxy by its workers, resident after load (the median of {repetitions}):");
    paragraph(text, &[&what]);
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
    let what = format!(
        "Time to apply a change, from publishing a listener in a file until a new connection is served by it, in an Envoy that \
         has one core (the median of {}, and the range; where that is wider than a fifth, its lower end):",
        results.plan.repetitions
    );
    paragraph(text, &[&what]);
    line(text, "| change | time |");
    line(text, "| --- | ---: |");
    for start in &results.starts {
        let (low, high) = range(&start.ms);
        let time = match is_steady(&start.ms) {
            true => format!("{:.0} ms ({low:.0}–{high:.0})", median(&start.ms)),
            // Whatever else the machine did only adds.
            false => format!("from {low:.0} ms"),
        };
        line(text, &format!("| {} | {time} |", start.name));
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

/// A paragraph of these sentences in lines of ordinary length, and an empty line.
fn paragraph(text: &mut String, sentences: &[&str]) {
    let mut width = 0;
    for word in sentences.iter().flat_map(|sentence| sentence.split_whitespace()) {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            text.push('\n');
            width = 0;
        }
        if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push_str("\n\n");
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}
