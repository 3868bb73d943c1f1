//! Where the programs and files under test are found, and what to do when they are not.

use std::env;
use std::path::{Path, PathBuf};

/// The Envoy to test with: `$ENVOY`, else `envoy` on the `PATH`.
pub(crate) fn envoy() -> PathBuf {
    program("ENVOY", "envoy")
}

/// Prometheus' linter: `$PROMTOOL`, else `promtool` on the `PATH`.
pub(crate) fn promtool() -> PathBuf {
    program("PROMTOOL", "promtool")
}

/// The folder in which Python finds PyYAML: `$PYYAML`.
pub(crate) fn pyyaml() -> PathBuf {
    let path = PathBuf::from(env::var_os("PYYAML").unwrap_or_default());
    let advice = "run `./build.sh test`, which installs it, or set $PYYAML to a folder with PyYAML";
    assert!(path.join("yaml").is_dir(), "no PyYAML at {}: {advice}", path.display());
    path
}

/// The module under test: `$OUTRIGGER_WASM`, else the one that `./build.sh wasm` makes.
pub(crate) fn module() -> PathBuf {
    built("OUTRIGGER_WASM", "dist/outrigger.wasm", "./build.sh wasm")
}

/// The module that a request with the header `x-trap` crashes: `$OUTRIGGER_TRAP_WASM`, else the one that
/// `./build.sh test` makes.
pub(crate) fn trap_module() -> PathBuf {
    built("OUTRIGGER_TRAP_WASM", "dist/outrigger-trap.wasm", "./build.sh test")
}

fn built(variable: &str, relative: &str, command: &str) -> PathBuf {
    let path = env::var_os(variable).map_or_else(|| project(relative), PathBuf::from);
    assert!(path.is_file(), "no module at {}: run `{command}`, or set ${variable}", path.display());
    path.canonicalize().expect("the module has an absolute path")
}

/// A file of the project.
pub(crate) fn project(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "${variable} names {}, which is no file", path.display());
        return path;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file()).unwrap_or_else(|| {
        panic!("no {name} found: run `./build.sh test`, which installs one, or set ${variable} to its path")
    })
}
