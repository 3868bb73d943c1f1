//! What may stand on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Checks configurations of Outrigger before a proxy reads them.
#[derive(Debug, Parser)]
#[command(name = "outrigger", version, about, after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  outrigger check policy.json
  outrigger check envoy/envoy.yaml envoy/istio/wasmplugin.yaml
  helm template ./chart | outrigger check -
  kustomize build overlays/prod | outrigger check --deny-warnings -
  outrigger check --format github manifests/*.yaml
  outrigger schema > outrigger.schema.json
  outrigger completions bash > /etc/bash_completion.d/outrigger
  outrigger man | man -l -

Exit status:
  0  all is well, or there are only warnings
  1  something is wrong with a file; with --deny-warnings, or there is a warning
  2  the arguments are wrong, or a file cannot be read";

const CHECK: &str = "\
Find the configurations in files, and tell of all that is wrong with them.

A configuration is looked for in: the document itself (JSON or YAML); pluginConfig of Istio's WasmPlugin and TrafficExtension; \
wasm[].config of Envoy Gateway's EnvoyExtensionPolicy; the configuration of a wasm filter, as a StringValue or a Struct, in Istio's \
EnvoyFilter and in bootstraps, listeners and other resources of Envoy; JSON in a ConfigMap.

A file may hold several YAML documents, as `helm template` and `kustomize build` print them. YAML is read as version 1.1, as \
Kubernetes does: on is true, 1_000 is 1000. Nothing is asked of a network.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Find the configurations in files, and tell of all that is wrong with them
    #[command(long_about = CHECK)]
    Check(CheckArguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Args, Debug)]
/// What `check` is told.
#[command(long_about = CHECK, after_long_help = EXAMPLES)]
pub(super) struct CheckArguments {
    /// Files to check; `-` is the standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<String>,
    /// How to tell of what is found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Exit with 1 if there is a warning
    #[arg(long)]
    pub(super) deny_warnings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people: a picture of each line
    Text,
    /// For programs: a list of objects
    Json,
    /// For code scanning: SARIF 2.1.0
    Sarif,
    /// For GitHub Actions: annotations of lines
    Github,
}
