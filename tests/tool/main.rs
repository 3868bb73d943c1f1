//! The tool `outrigger`, run as its users run it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod bad;
mod formats;
mod good;
mod mutants;
#[path = "../common/pages.rs"]
mod pages;

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the tool, with this as its standard input.
pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_outrigger"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The tool may end before it has read all, if its arguments are wrong.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What is found in a document, as a list of objects, and the exit status.
pub fn check(document: &str) -> (Vec<serde_json::Value>, Option<i32>) {
    let output = run(&["check", "--format", "json", "-"], document);
    let found = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (found, output.status.code())
}
