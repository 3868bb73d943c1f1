//! The adapter to Envoy, the only code that knows proxy-wasm.
//!
//! * [`abi`]: the host calls and the exported callbacks, declared raw. No SDK stands between: the one there is for Rust
//!   exports every callback of the ABI, each of which costs every request something, and panics on what the network can send.
//! * [`machine`]: finds the configuration or stream that a callback is for.
//! * [`host`], [`details`]: the engine's [`Host`](crate::host::Host) over the calls, and what Envoy's words mean.
//! * [`installed`]: one per configuration: keeps the compiled filter.
//! * [`stream`], [`streams`]: one per request or, where the filter is one of an upstream's, per attempt.
//! * [`request`], [`attempt`]: forward its callbacks to the engine and carry out the decisions.
//! * [`queue`], [`timer`]: requests that wait, and what wakes them.
//! * [`log`]: the proxy's log.
//!
//! A trap would cost a worker all its streams and its memory, so nothing in here may panic either; the lints of the
//! crate hold for it too.

mod abi;
mod attempt;
mod details;
mod host;
mod installed;
mod log;
mod machine;
mod queue;
mod request;
mod stream;
mod streams;
mod timer;
