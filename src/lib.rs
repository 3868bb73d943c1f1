//! **Outrigger**: the stability playbook of a large back-end, as one WebAssembly filter for Envoy and Istio sidecars.
//!
//! A platform engineer loads one module through the mesh and describes, in one JSON document, what is to be limited,
//! what is to be given up first and what a refused client is told. This crate is that module, and a library of its
//! parts: everything but the adapter runs without a proxy.
//!
//! # Life of a request
//!
//! ```text
//!  request ─▶ Envoy ─▶ envoy (adapter, the only code that knows proxy-wasm)
//!                        │ trait Host: time, headers, shared records, metrics
//!                        ▼
//!            pipeline: classify ▸ switch ▸ breaker? ▸ deadline ▸ limits ▸ (wait) ▸ breaker! ▸ retry advice ▸ forward, or reply
//!                        │
//!  response ◀────────────┴── outcome ▸ failure: stale answer or fallback ▸ breaker, budget ▸ metrics ▸ settle the ticket
//! ```
//!
//! 1. The adapter calls [`Filter::on_request`](filter::Filter::on_request), which reads all headers in one host call and
//!    finds the request's [`operation`].
//! 2. What may refuse it is asked in order: a [`switch`](degrade::switch) that people set, a [`breaker`](degrade::breaker)
//!    that has tripped, a [`deadline`](retry::deadline) that cannot be met, the [limits](mod@limit). Each limit takes its
//!    tokens from a [shared] record; whatever refuses, all that was taken before goes back.
//! 3. The adapter forwards the request, holds it until its instant in a queue has come, or sends the
//!    [reply](reply::Reply). What goes on is told how much time it has and how often it may be [retried](retry::policy). The
//!    adapter keeps the [`Ticket`](pipeline::Ticket) with the stream.
//! 4. Response headers, or the end of a gRPC stream, tell the [outcome](monitor::outcome). A [failure](degrade::failure) may
//!    be replaced by the last good answer or a fallback.
//! 5. When the stream ends, however it ends, the ticket is settled, the breaker and the retry budget hear of it, and the
//!    request is counted.
//!
//! # Code map
//!
//! Folders are the playbook: [`limit`], [`degrade`], [`retry`], [`monitor`]. Beside them stand:
//!
//! * what a request is: [`operation`], with the keys by which requests are told apart, and [`headers`];
//! * what is sent in place of an answer: [`reply`], with the [refusal](reply::refusal) that a policy makes; and the codes of
//!   [`grpc`];
//! * what a callback is given: [`cx`];
//! * what workers share: [`shared`]; and what each keeps: [`worker`], which is made of the policies' own stores, and [`sorted`];
//! * how all of it is described: [`document`] is what it is read with, [`config`] what comes of it; and put to work: [`filter`];
//! * the one request path: [`pipeline`]; and that of an attempt, all that the module sees among an upstream's filters:
//!   [`attempt`];
//! * the boundary: [`host`], and its implementation for Envoy, `envoy`;
//! * the tool that checks documents before a proxy reads them: `cli`, with its feature only.
//!
//! # Invariants
//!
//! 1. Policies (`limit::token_bucket` and the like) take state, parameters and `now`, and return a decision and new state.
//!    They know no host, no JSON and no metrics.
//! 2. Only `envoy` knows proxy-wasm, and only `envoy::abi` has unsafe code.
//! 3. Time is a parameter. The clock is monotonic and read at most once per callback, by the callback's [context](cx::Cx), which is
//!    the only way to the proxy below the pipeline.
//! 4. Nothing panics: indexing, unwrapping and their kind are denied by lint. Trouble becomes the configured failure
//!    mode, a counter and a log line now and then.
//! 5. Keys of shared records and names of metrics are made of configured names and small numbers, never of what a client
//!    sent, because neither can be deleted.
//! 6. State outlives configuration: a compiled configuration holds parameters only. A shared record says by which
//!    parameters it was written and is converted when a request next needs it.
//! 7. A refusal takes nothing, and what a request took before it was refused is given back.
//! 8. The parts of this crate, which are the folders and files below, do not import each other in a circle. [`shared`] and
//!    [`monitor`] know no policy; no policy knows the [`worker`], the [`config`], the [`filter`] or the [`pipeline`].

pub mod attempt;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod cx;
pub mod degrade;
pub mod document;
#[cfg(feature = "envoy")]
mod envoy;
pub mod filter;
pub mod grpc;
pub mod headers;
pub mod host;
pub mod limit;
pub mod monitor;
pub mod operation;
pub mod pipeline;
pub mod reply;
pub mod retry;
pub mod shared;
pub mod sorted;
pub mod time;
pub mod worker;
