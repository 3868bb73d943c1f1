//! What the module at hand weighs, beside no filter and the SDK's empty one, in one run of about a minute, and whether that is
//! within the [gates](crate::gate).

use std::path::Path;
use std::time::Instant;

use crate::core::LOADER;
use crate::gate::{
    FUNCTION, Gate, INSTRUCTIONS_EMPTY, INSTRUCTIONS_REFERENCE, INSTRUCTIONS_REFUSING, MEMORY_EMPTY, MEMORY_OPERATIONS,
    MEMORY_REFERENCE, MODULE, START,
};
use crate::plan::Plan;
use crate::rig::cluster::Cluster;
use crate::rig::tool;
use crate::upstream::Upstream;
use crate::variant::{self, EMPTY, NONE, NOTHING, REFERENCE, REFUSING, Variant};
use crate::{instructions, memory, module, startup};

/// How many of the largest functions are shown.
const LARGEST: usize = 10;

/// Shares below this part of the code are not shown one by one.
const SMALL: f64 = 0.01;

/// Measures, prints, and says whether all gates were passed.
pub(crate) async fn run(plan: &Plan) -> bool {
    let begin = Instant::now();
    LOADER.take();
    let cluster = Upstream::start().cluster();
    let module = tool::module();
    let functions = module::functions(&module.with_extension("debug.wasm"));
    let mut rows = vec![
        Row::new(&MODULE, kibibytes(&module)).empty(kibibytes(&variant::empty_module())),
        Row::new(&FUNCTION, functions.first().map_or(0.0, |largest| largest.bytes as f64)),
    ];
    say(begin, "memory");
    rows.extend(memory_rows(&cluster, plan).await);
    say(begin, "start");
    rows.push(start_row(&cluster, plan).await);
    say(begin, "instructions per request");
    rows.extend(instruction_rows(&cluster, plan).await);
    say(begin, "done");
    print(&rows);
    print_code(&functions);
    // Each is checked, so that all are told.
    rows.iter().filter(|row| !row.gate.check(row.value)).count() == 0
}

/// A line of the table.
struct Row {
    gate: &'static Gate,
    /// What is held against the gate.
    value: f64,
    /// What the empty filter has of the same, where it was measured.
    empty: Option<f64>,
}

impl Row {
    fn new(gate: &'static Gate, value: f64) -> Self {
        Self { gate, value, empty: None }
    }

    fn empty(self, empty: f64) -> Self {
        Self { empty: Some(empty), ..self }
    }
}

async fn memory_rows(cluster: &Cluster, plan: &Plan) -> Vec<Row> {
    let none = mebibytes(&Variant::named(NONE), cluster, plan).await;
    let empty = mebibytes(&Variant::named(EMPTY), cluster, plan).await;
    println!("resident memory, MiB: no filter {none:.1}, empty filter {empty:.1}");
    let variants = [
        (&MEMORY_EMPTY, Variant::named(NOTHING)),
        (&MEMORY_REFERENCE, Variant::named(REFERENCE)),
        (&MEMORY_OPERATIONS, variant::many_operations()),
    ];
    let mut rows = Vec::new();
    for (gate, variant) in variants {
        rows.push(Row::new(gate, mebibytes(&variant, cluster, plan).await - empty).empty(0.0));
    }
    rows
}

/// The least of so many processes: what is more was there by accident.
async fn mebibytes(variant: &Variant, cluster: &Cluster, plan: &Plan) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..plan.repetitions {
        least = least.min(memory::resident(variant, cluster, plan, 1).await / 1024.0);
    }
    least
}

/// The least of so many starts, beyond no filter.
async fn start_row(cluster: &Cluster, plan: &Plan) -> Row {
    let mut seconds = [f64::INFINITY; 3];
    for _ in 0..plan.repetitions {
        for (least, name) in seconds.iter_mut().zip([NONE, EMPTY, NOTHING]) {
            let taken = startup::processor_time(Variant::named(name).wasm(), cluster).await;
            *least = least.min(taken.as_secs_f64());
        }
    }
    let [none, empty, nothing] = seconds;
    println!(
        "processor time until the first answer beyond no filter, s: empty filter {:.3}, empty configuration {:.3}",
        empty - none,
        nothing - none
    );
    Row::new(&START, (nothing - none) / (empty - none)).empty(1.0)
}

async fn instruction_rows(cluster: &Cluster, plan: &Plan) -> Vec<Row> {
    let none = thousands(NONE, cluster, plan).await;
    let empty = thousands(EMPTY, cluster, plan).await - none;
    vec![
        Row::new(&INSTRUCTIONS_EMPTY, thousands(NOTHING, cluster, plan).await - none).empty(empty),
        Row::new(&INSTRUCTIONS_REFERENCE, thousands(REFERENCE, cluster, plan).await - none).empty(empty),
        Row::new(&INSTRUCTIONS_REFUSING, thousands(REFUSING, cluster, plan).await),
    ]
}

async fn thousands(name: &str, cluster: &Cluster, plan: &Plan) -> f64 {
    instructions::of(&Variant::named(name), cluster, plan).await / 1000.0
}

fn kibibytes(module: &Path) -> f64 {
    module.metadata().expect("a module is a file").len() as f64 / 1024.0
}

fn print(rows: &[Row]) {
    println!("\n{:<66}{:>10}{:>14}{:>9}{:>9}", "", "Outrigger", "empty filter", "bound", "target");
    for Row { gate, value, empty } in rows {
        let empty = empty.map_or_else(String::new, |empty| format!("{empty:.1}"));
        println!("{:<66}{value:>10.1}{empty:>14}{:>9.1}{:>9.1}", gate.what, gate.bound, gate.target);
    }
}

fn print_code(functions: &[module::Function]) {
    let all: usize = functions.iter().map(|function| function.bytes).sum();
    println!("\ncode: {} functions, {all} bytes; the largest:", functions.len());
    for function in functions.iter().take(LARGEST) {
        println!("{:>8}  {}", function.bytes, function.name);
    }
    println!("\nwhose code it is:");
    let (shown, small): (Vec<_>, Vec<_>) =
        module::shares(functions).into_iter().partition(|(_, bytes)| SMALL <= *bytes as f64 / all as f64);
    let rest = small.iter().map(|(_, bytes)| bytes).sum();
    for (owner, bytes) in shown.iter().chain([&("all others".to_owned(), rest)]) {
        println!("{bytes:>8}  {:>5.1} %  {owner}", *bytes as f64 * 100.0 / all as f64);
    }
}

fn say(begin: Instant, step: &str) {
    eprintln!("weight: {step} (after {} s)", begin.elapsed().as_secs());
}
