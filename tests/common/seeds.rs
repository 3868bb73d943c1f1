//! Which seeds a fuzzer runs with, and what is left of a run that fails.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic, and clocks are free"
)]

use std::cell::Cell;
use std::env;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How long a failing run is shortened.
const SHRINKING: Duration = Duration::from_secs(20);

thread_local! {
    /// The fuzzer of this thread, and its seed.
    static RUNNING: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
    /// Whether panics of this thread are a trial's.
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// The fuzzer's seeds: those from 1 to `short`, or what the environment says. A panic before the next one names the seed.
pub fn seeds(fuzzer: &'static str, short: u64) -> impl Iterator<Item = u64> {
    name_the_seed();
    let only = number("OUTRIGGER_FUZZ_SEED");
    let time = number("OUTRIGGER_FUZZ_SECONDS").map(Duration::from_secs);
    let (started, first) = (Instant::now(), RandomState::new().hash_one(fuzzer));
    let (mut runs, mut last) = (0, 0);
    std::iter::from_fn(move || {
        let goes_on = match (only, time) {
            (Some(_), _) => runs < 1,
            (None, Some(time)) => started.elapsed() < time,
            (None, None) => runs < short,
        };
        if !goes_on {
            RUNNING.set(None);
            println!("{fuzzer}: {runs} runs, the last with seed {last}");
            return None;
        }
        runs += 1;
        last = only.unwrap_or(if time.is_some() { first.wrapping_add(runs) } else { runs });
        RUNNING.set(Some((fuzzer, last)));
        Some(last)
    })
}

/// Runs the steps. If they fail, as few of them as still fail are printed and run last.
pub fn shrink<S: Clone + Debug>(steps: Vec<S>, run: impl Fn(&[S])) {
    // Without unwinding the first failure is the last.
    if cfg!(target_arch = "wasm32") {
        return run(&steps);
    }
    let fails = |steps: &[S]| panic::catch_unwind(AssertUnwindSafe(|| run(steps))).is_err();
    if !fails(&steps) {
        return;
    }
    TRYING.set(true);
    let started = Instant::now();
    let (mut left, mut size) = (steps, usize::MAX);
    while 0 < size && started.elapsed() < SHRINKING {
        size = size.min(left.len()) / 2;
        let mut start = 0;
        while 0 < size && start < left.len() && started.elapsed() < SHRINKING {
            let end = left.len().min(start + size);
            let fewer = [&left[..start], &left[end..]].concat();
            if fails(&fewer) { left = fewer } else { start = end }
        }
    }
    TRYING.set(false);
    println!("{} steps are enough:", left.len());
    for step in &left {
        println!("  {step:?}");
    }
    run(&left);
    panic!("it failed, and does not any more");
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// Has every panic say with which seed it comes again.
fn name_the_seed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if TRYING.get() {
                return;
            }
            usual(panic);
            if let Some((fuzzer, seed)) = RUNNING.get() {
                eprintln!(
                    "repeat it with: OUTRIGGER_FUZZ_SEED={seed} cargo test --test {} {fuzzer}",
                    env!("CARGO_CRATE_NAME")
                );
            }
        }));
    });
}
