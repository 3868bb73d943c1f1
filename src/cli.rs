//! The tool `outrigger`: what a proxy would say of a document, before one reads it.
//!
//! ```text
//! file ─▶ yaml or json: a tree with spans ─▶ find: configurations ─▶ embedded: JSON with a map ─▶ Config::parse ─▶ findings ─▶ report
//! ```
//!
//! The engine's own parser judges. Around it stand readers that know where each value is in the file, so that an error about
//! `limits[2].key` becomes one about a line and a column. The tool asks no network.

mod align;
mod arguments;
mod check;
mod embedded;
mod find;
mod finding;
mod fix;
mod json;
mod plain;
mod report;
mod source;
mod tree;
mod yaml;

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, CheckArguments, Command};
use finding::{Checked, Severity};
use source::Source;

/// The schema that is in the documentation. A test holds it against the tables of fields.
const SCHEMA: &str = include_str!("../docs/schema.json");

/// Arguments that mean nothing, or a file that cannot be read: what clap exits with, too.
const UNREADABLE: u8 = 2;

/// Runs the tool with the arguments of the process. Exits with 0 if all is well, 1 if something is wrong with a file, and 2 if
/// the arguments are wrong or a file cannot be read.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Check(arguments) => check_files(&arguments),
        Command::Schema => put(SCHEMA.as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "outrigger", &mut script);
            put(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            // Writing to memory cannot fail.
            let _ = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            put(&page)
        }
    }
}

fn check_files(arguments: &CheckArguments) -> ExitCode {
    let mut all = Vec::new();
    let mut is_unreadable = false;
    for name in &arguments.files {
        match read(name) {
            Ok(source) => all.push(check::source(source)),
            Err(error) => {
                is_unreadable = true;
                let _ = writeln!(std::io::stderr(), "error: cannot read {name}: {error}");
            }
        }
    }
    let is_styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let written = put(report::text(arguments.format, &all, is_styled).as_bytes());
    if is_unreadable {
        return ExitCode::from(UNREADABLE);
    }
    match all.iter().any(|it| is_refused(it, arguments.deny_warnings)) {
        true => ExitCode::from(1),
        false => written,
    }
}

fn is_refused(checked: &Checked, deny_warnings: bool) -> bool {
    checked.findings.iter().any(|it| it.severity == Severity::Error || deny_warnings)
}

/// `-` is the standard input. Bytes that are no UTF-8 are as good as unreadable: Envoy and Kubernetes take none.
fn read(name: &str) -> std::io::Result<Source> {
    let mut bytes = Vec::new();
    let name = match name {
        "-" => {
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            "<stdin>"
        }
        path => {
            bytes = std::fs::read(path)?;
            path
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("byte {at} is no UTF-8: save it as UTF-8"))
    })?;
    Ok(Source::new(name, text))
}

/// Whoever reads may go away before the end, as `head` does; nobody is left to be told.
fn put(bytes: &[u8]) -> ExitCode {
    let _ = std::io::stdout().lock().write_all(bytes);
    ExitCode::SUCCESS
}
