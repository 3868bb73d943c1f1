//! Where a run takes place, in the words of the machine itself.

use std::fs;
use std::process::Command;

use crate::load;
use crate::results::Machine;
use crate::rig::tool;

pub(crate) fn describe() -> Machine {
    let processors = read("/proc/cpuinfo");
    let models: Vec<&str> = processors.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let cpu = models.first().and_then(|model| model.split_once(':')).map_or("unknown", |(_, model)| model.trim());
    let load = read("/proc/loadavg");
    Machine {
        date: output("date", &["--utc", "+%F"]),
        commit: output("git", &["describe", "--always", "--dirty"]),
        cpu: cpu.to_owned(),
        cores: processors.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        envoy: envoy_version(),
        loader: output(&load::program().display().to_string(), &["--version"]),
        load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
    }
}

/// `1.40.0` of `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn envoy_version() -> String {
    let text = output(&tool::envoy().display().to_string(), &["--version"]);
    let version = text.split("version:").nth(1).and_then(|version| version.split('/').nth(1));
    version.unwrap_or("unknown").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
