//! The tool `outrigger`; see docs/tool.md.

fn main() -> std::process::ExitCode {
    outrigger::cli::main()
}
