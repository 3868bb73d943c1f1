//! The adapter to Envoy, the only code that knows proxy-wasm.
//!
//! * [`abi`]: the host calls, declared raw, each with its status handled. The SDK's own wrappers panic on what the
//!   network can send, so they are not used.
//! * [`host`]: the engine's [`Host`](crate::host::Host) over these calls.
//! * [`root`]: one per configuration: reads it, keeps the compiled filter, makes stream contexts.
//! * [`stream`]: one per request: forwards callbacks to the pipeline and carries out its decisions.
//! * [`queue`], [`timer`]: requests that wait, and what wakes them.
//!
//! A trap would cost a worker all its streams and its memory, so nothing in here may panic either; the lints of the
//! crate hold for it too.

mod abi;
mod host;
mod queue;
mod root;
mod stream;
mod timer;

use std::rc::Rc;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

use crate::worker::Worker;
use root::Root;

thread_local! {
    // A worker is one virtual machine, and all configurations in it share this store; see `worker`.
    static WORKER: Rc<Worker> = Rc::default();
}

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> {
        Box::new(Root::new(WORKER.with(Rc::clone)))
    });
}}
