//! Instructions per request, counted by valgrind's callgrind: the same in every run to half a per cent, whatever else the
//! machine does, where times on a shared one differ by half.
//!
//! What they say is not time: a host call that allocates misses caches that arithmetic does not. And an Envoy that is slowed
//! down fifty times serves too little traffic for tokens to be taken in advance, so each request asks for its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::bench;
use crate::plan::Plan;
use crate::results::Instructions;
use crate::rig::bootstrap::Bootstrap;
use crate::rig::cluster::Cluster;
use crate::variant::{self, Status, Variant};

/// Connections that requests come by. Few: Envoy must not run out of patience with them.
const CONNECTIONS: u32 = 4;

/// Requests right before counting begins, with the counter on.
const RUN_UP: u32 = 20;

/// Of all variants that forward, one after the other.
pub(crate) async fn measure(cluster: &Cluster, plan: &Plan) -> Vec<Instructions> {
    let mut all = Vec::new();
    for variant in variant::all().iter().filter(|variant| variant.status == Status::Ok) {
        all.push(Instructions { name: variant.name.to_owned(), per_request: of(variant, cluster, plan).await.round() });
    }
    all
}

/// Of a variant, on average over the requests that are counted.
pub(crate) async fn of(variant: &Variant, cluster: &Cluster, plan: &Plan) -> f64 {
    let home = TempDir::new().expect("a folder for callgrind");
    let bootstrap = Bootstrap::new(variant.listener(cluster.clone())).concurrency(1).under(callgrind(home.path()));
    let proxy = bench::start_proxy(bootstrap, variant.status).await;
    let (target, counter) = (proxy.target(), Counter { process: proxy.envoy.process() });
    target.burst(plan.counted, CONNECTIONS);
    counter.tell(&["instrumentation", "on"]);
    target.burst(RUN_UP, CONNECTIONS);
    counter.tell(&["zero"]);
    target.burst(plan.counted, CONNECTIONS);
    counter.tell(&["dump"]);
    total(home.path()) as f64 / f64::from(plan.counted)
}

/// The program that Envoy runs under. V8 writes code as it goes along, which valgrind must look out for.
fn callgrind(home: &Path) -> Vec<String> {
    let out = format!("--callgrind-out-file={}", home.join("counts").display());
    let valgrind = program().display().to_string();
    let options = ["--tool=callgrind", "--smc-check=all-non-file", "--instr-atstart=no", "--fair-sched=yes", "-q"];
    [valgrind.as_str()].into_iter().chain(options).chain([out.as_str()]).map(str::to_owned).collect()
}

/// What counts: `$VALGRIND`.
fn program() -> PathBuf {
    env::var_os("VALGRIND").expect("$VALGRIND names valgrind: run `./build.sh bench`").into()
}

/// What counts in a process.
struct Counter {
    process: u32,
}

impl Counter {
    fn tell(&self, words: &[&str]) {
        let status = Command::new(program().with_file_name("vgdb"))
            .arg(format!("--pid={}", self.process))
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("vgdb stands beside valgrind");
        assert!(status.success(), "callgrind was told {words:?} in vain");
    }
}

/// What was counted since the counter was set to zero: the last number that was written.
fn total(home: &Path) -> u64 {
    let files = fs::read_dir(home).expect("the folder is there").map(|file| file.expect("a file").path());
    let texts = files.map(|path| String::from_utf8_lossy(&fs::read(path).expect("counts")).into_owned());
    let totals = texts.filter_map(|text| {
        let line = text.lines().rev().find(|line| line.starts_with("totals:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    });
    totals.max().expect("callgrind wrote what it counted")
}
