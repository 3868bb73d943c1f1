//! The bounds of what a module may weigh.
//!
//! A gate holds in every run on every machine or it is none: so each is a size, a count, or a difference or ratio to the SDK's
//! empty filter in the same run, and leaves room for what differs from run to run: 0.5 % of instructions, 2 MiB of memory, and
//! half of a time. Beside each bound stands the target, which is what the module is on its way to.

/// One bound.
pub(crate) struct Gate {
    /// What is bounded, with its unit.
    pub(crate) what: &'static str,
    /// The most that is let pass.
    pub(crate) bound: f64,
    /// The most that there should be.
    pub(crate) target: f64,
    /// What to do about more.
    pub(crate) advice: &'static str,
}

/// Bytes of the module.
pub(crate) const MODULE: Gate = Gate {
    what: "module, KiB",
    bound: 560.0,
    target: 450.0,
    advice: "look at the shares below: whatever is new there is compiled in every sidecar",
};

/// Bytes of the largest function: the compiler's memory goes with it, and stays with the process.
pub(crate) const FUNCTION: Gate = Gate {
    what: "largest function, bytes",
    bound: 12_000.0,
    target: 6_000.0,
    advice: "cut the first function of the list below in two, or keep the compiler from inlining into it (`#[inline(never)]`)",
};

/// Resident memory of one worker with an empty configuration.
pub(crate) const MEMORY_EMPTY: Gate = Gate {
    what: "memory with an empty configuration, MiB beyond the empty filter",
    bound: 16.0,
    target: 13.0,
    advice: "the module's largest functions decide it, then its bytes",
};

/// With the reference policy.
pub(crate) const MEMORY_REFERENCE: Gate = Gate {
    what: "memory with the reference policy, MiB beyond the empty filter",
    bound: 17.5,
    target: 15.0,
    advice: "see what a worker keeps for each policy",
};

/// With 200 operations.
pub(crate) const MEMORY_OPERATIONS: Gate = Gate {
    what: "memory with 200 operations, MiB beyond the empty filter",
    bound: 17.5,
    target: 15.0,
    advice: "see what is kept for each operation, and what reading the document leaves behind",
};

/// Processor time until the first answer. A multiple: on a busy machine both grow.
pub(crate) const START: Gate = Gate {
    what: "start, times the empty filter's",
    bound: 8.5,
    target: 5.0,
    advice: "it goes with the bytes of the code section: about 9 k instructions of the compiler for each",
};

/// Instructions that a request adds, without any policy.
pub(crate) const INSTRUCTIONS_EMPTY: Gate = Gate {
    what: "instructions a request with an empty configuration, thousands",
    bound: 62.0,
    target: 52.0,
    advice: "compare the calls of tests/pipeline/hostcalls.txt first: one that returns bytes costs about 8 k, another 1.2 k",
};

/// With the reference policy.
pub(crate) const INSTRUCTIONS_REFERENCE: Gate = Gate {
    what: "instructions a request with the reference policy, thousands",
    bound: 123.0,
    target: 112.0,
    advice: "compare the calls of tests/pipeline/hostcalls.txt first: one that returns bytes costs about 8 k, another 1.2 k",
};

/// A request that is refused, all of it: nothing is forwarded, so that it cannot be told as a difference.
pub(crate) const INSTRUCTIONS_REFUSING: Gate = Gate {
    what: "instructions of a refused request, thousands in all",
    bound: 232.0,
    target: 225.0,
    advice: "see how the reply is made (src/reply.rs) and handed over (src/envoy/request.rs)",
};

impl Gate {
    /// Whether the value passes; says what does not.
    pub(crate) fn check(&self, value: f64) -> bool {
        let passes = value <= self.bound;
        if !passes {
            println!("weight: beyond a gate: {}: {value:.1}, bound {:.1}. {}.", self.what, self.bound, self.advice);
        }
        passes
    }
}
