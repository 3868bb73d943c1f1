//! The yardstick of the bench: a filter that does nothing, made with the SDK as its documentation shows it.
//!
//! It reads the path of no request and keeps nothing; every callback that the SDK exports is left in, since that is
//! what a filter gets that does not care. What it costs is the price of any filter of this kind, and the cost of a
//! filter that does something is told as a multiple of it.
//!
//! An `example` only because Cargo builds those as modules of their own.

#![allow(missing_docs, reason = "the SDK's macro exports a function without a description")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        Action::Continue
    }
}

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> { Box::new(Root) });
}}
