//! The proxy-wasm ABI, version 0.2.1: the host calls that the filter makes, and the functions that it exports.
//!
//! Each wrapper of a call is total: it returns the status of a call that did not succeed, and never panics, whatever the
//! network or the host does. Bytes stay bytes.
//!
//! The unsafe code of the crate is in this file. Its argument is the same everywhere: pointers passed to the host are to
//! live slices with their length, and buffers that the host returns were made by the module's own allocator
//! (`proxy_on_memory_allocate` below, of exactly that size), so they may be taken over as a `Vec`.

#![allow(unsafe_code)]

use std::ptr::null_mut;

/// Status codes of the ABI.
pub(super) const OK: u32 = 0;
pub(super) const NOT_FOUND: u32 = 1;
pub(super) const CAS_MISMATCH: u32 = 8;

/// What the host answered instead of success.
pub(super) type Status = u32;

/// Buffers of the ABI.
const RESPONSE_BODY: u32 = 1;
const PLUGIN_CONFIGURATION: u32 = 7;

/// Header maps of the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Map {
    Request = 0,
    Response = 2,
    ResponseTrailers = 3,
}

/// Metric types of the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Metric {
    Counter = 0,
    Gauge = 1,
    Histogram = 2,
}

mod import {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            size: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(super) fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_continue_stream(stream: u32) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            argument: *const u8,
            argument_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
        pub(super) fn random_get(buffer: *mut u8, size: usize) -> u32;
    }
}

/// What the proxy calls. It calls only what is exported, and each callback costs every request half a microsecond or
/// more, so there is nothing here that nothing needs.
///
/// The life of a stream: it is created, request headers, parts of the request's body and trailers if it has any, response
/// headers, parts of the response's body and trailers, done. The request's body is not read; its end is when the service's time
/// begins. Only requests that have one pay for that. The response's body is needed where answers are kept, and tells everywhere whether a response was cut off.
mod export {
    use std::alloc::{Layout, alloc};
    use std::ptr::null_mut;

    use super::super::machine::{self, Flow};
    use crate::host::End;

    /// Says which version of the ABI this is.
    #[unsafe(no_mangle)]
    extern "C" fn proxy_abi_version_0_2_1() {}

    /// Called before everything else.
    #[unsafe(no_mangle)]
    extern "C" fn _initialize() {
        #[cfg(target_os = "wasi")]
        {
            unsafe extern "C" {
                fn __wasm_call_ctors();
            }
            // SAFETY: the linker makes this function, to be called once, before everything else.
            unsafe { __wasm_call_ctors() };
        }
        super::super::log::install();
    }

    /// Memory for what a host call returns; null if there is none.
    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
        match Layout::array::<u8>(size) {
            // SAFETY: the layout is not empty.
            Ok(layout) if 0 < size => unsafe { alloc(layout) },
            _ => null_mut(),
        }
    }

    /// A configuration (`parent` is 0) or a stream begins.
    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
        machine::with(|it| it.create(context, parent));
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_configure(root: u32, _size: u32) -> u32 {
        machine::with(|it| it.configure(root)).into()
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_tick(root: u32) {
        machine::with(|it| it.tick(root));
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_request_headers(stream: u32, _count: u32, end_of_stream: u32) -> u32 {
        flow(machine::with(|it| it.request_headers(stream, end(end_of_stream))))
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_request_body(stream: u32, _size: usize, end_of_stream: u32) -> u32 {
        if end_of_stream != 0 {
            machine::with(|it| it.request_end(stream));
        }
        flow(Flow::Continue)
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_request_trailers(stream: u32, _count: u32) -> u32 {
        machine::with(|it| it.request_end(stream));
        flow(Flow::Continue)
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_response_headers(stream: u32, _count: u32, end_of_stream: u32) -> u32 {
        flow(machine::with(|it| it.response_headers(stream, end(end_of_stream))))
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_response_body(stream: u32, size: usize, end_of_stream: u32) -> u32 {
        machine::with(|it| it.response_body(stream, size, end(end_of_stream)));
        flow(Flow::Continue)
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_response_trailers(stream: u32, _count: u32) -> u32 {
        machine::with(|it| it.response_trailers(stream));
        flow(Flow::Continue)
    }

    /// A stream or a configuration has ended. The answer is that nothing is left to be waited for.
    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_done(context: u32) -> u32 {
        machine::with(|it| it.done(context));
        1
    }

    fn end(end_of_stream: u32) -> End {
        if end_of_stream == 0 { End::Later } else { End::Here }
    }

    /// The ABI's actions.
    fn flow(flow: Flow) -> u32 {
        match flow {
            Flow::Continue => 0,
            Flow::Pause => 1,
        }
    }
}

fn check(status: u32) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(status) }
}

/// A buffer that the host may fill.
struct Returned {
    data: *mut u8,
    size: usize,
}

impl Returned {
    fn new() -> Self {
        Self { data: null_mut(), size: 0 }
    }

    fn take(self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: see the module.
        unsafe { Vec::from_raw_parts(self.data, self.size, self.size) }
    }
}

/// `Ok(None)` for a thing that is not there.
fn optional(status: u32, returned: Returned) -> Result<Option<Vec<u8>>, Status> {
    match status {
        OK => Ok(Some(returned.take())),
        NOT_FOUND => Ok(None),
        status => Err(status),
    }
}

/// The plugin's configuration as it was sent; `None` if there is none.
pub(super) fn plugin_configuration() -> Result<Option<Vec<u8>>, Status> {
    let mut out = Returned::new();
    // SAFETY: see the module.
    let status =
        unsafe { import::proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, usize::MAX, &mut out.data, &mut out.size) };
    optional(status, out)
}

/// The part of a response's body that a callback is about.
pub(super) fn response_body(size: usize) -> Result<Option<Vec<u8>>, Status> {
    let mut out = Returned::new();
    // SAFETY: see the module.
    let status = unsafe { import::proxy_get_buffer_bytes(RESPONSE_BODY, 0, size, &mut out.data, &mut out.size) };
    optional(status, out)
}

/// Puts bytes in place of the `size` that have come of a response's body. Valid in the callback that says how many.
pub(super) fn replace_response_body(size: usize, body: &[u8]) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe { import::proxy_set_buffer_bytes(RESPONSE_BODY, 0, size, body.as_ptr(), body.len()) })
}

/// Puts headers in place of all that there are, by their serialised block.
pub(super) fn replace_headers(map: Map, block: &[u8]) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe { import::proxy_set_header_map_pairs(map as u32, block.as_ptr(), block.len()) })
}

/// All headers as one serialised block.
pub(super) fn header_block(map: Map) -> Result<Vec<u8>, Status> {
    let mut out = Returned::new();
    // SAFETY: see the module.
    let status = unsafe { import::proxy_get_header_map_pairs(map as u32, &mut out.data, &mut out.size) };
    check(status).map(|()| out.take())
}

/// The first value of a header.
pub(super) fn header(map: Map, name: &str) -> Result<Option<Vec<u8>>, Status> {
    let mut out = Returned::new();
    // SAFETY: see the module.
    let status = unsafe {
        import::proxy_get_header_map_value(map as u32, name.as_ptr(), name.len(), &mut out.data, &mut out.size)
    };
    optional(status, out)
}

/// Removes all values of a header.
pub(super) fn remove_header(map: Map, name: &[u8]) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe { import::proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len()) })
}

/// Sets a header, in place of all its values.
pub(super) fn replace_header(map: Map, name: &str, value: &str) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe {
        import::proxy_replace_header_map_value(map as u32, name.as_ptr(), name.len(), value.as_ptr(), value.len())
    })
}

/// A property; the parts of `path` are separated by NUL.
pub(super) fn property(path: &[u8]) -> Result<Option<Vec<u8>>, Status> {
    let mut out = Returned::new();
    // SAFETY: see the module.
    let status = unsafe { import::proxy_get_property(path.as_ptr(), path.len(), &mut out.data, &mut out.size) };
    optional(status, out)
}

/// Sets a property of the stream.
pub(super) fn set_property(path: &[u8], value: &[u8]) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe { import::proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) })
}

/// A shared record and its version.
pub(super) fn shared_data(key: &str) -> Result<Option<(Vec<u8>, u32)>, Status> {
    let mut out = Returned::new();
    let mut cas = 0;
    // SAFETY: see the module.
    let status =
        unsafe { import::proxy_get_shared_data(key.as_ptr(), key.len(), &mut out.data, &mut out.size, &mut cas) };
    Ok(optional(status, out)?.map(|bytes| (bytes, cas)))
}

/// Writes a shared record if its version is `cas`, whatever it is if `cas` is 0.
pub(super) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: see the module.
    check(unsafe { import::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Defines a metric.
pub(super) fn define_metric(kind: Metric, name: &str) -> Result<u32, Status> {
    let mut id = 0;
    // SAFETY: see the module.
    check(unsafe { import::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) }).map(|()| id)
}

/// Raises a counter.
pub(super) fn increment_metric(id: u32, offset: i64) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { import::proxy_increment_metric(id, offset) })
}

/// Sets a gauge or adds to a histogram.
pub(super) fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { import::proxy_record_metric(id, value) })
}

/// What [`send_local_response`] sends.
pub(super) struct LocalResponse<'a> {
    pub(super) status: u32,
    pub(super) details: &'a str,
    pub(super) headers: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) grpc_status: i32,
}

/// Answers the current request.
pub(super) fn send_local_response(response: &LocalResponse<'_>) -> Result<(), Status> {
    let LocalResponse { status, details, headers, body, grpc_status } = *response;
    // SAFETY: see the module.
    check(unsafe {
        import::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            grpc_status,
        )
    })
}

/// An expression in CEL that the root context of the current callback has compiled.
#[derive(Clone, Copy)]
pub(super) struct Expression([u8; 4]);

/// Compiles an expression. Fails where the proxy was built without CEL.
pub(super) fn compile_expression(text: &str) -> Result<Expression, Status> {
    const NAME: &str = "expr_create";
    let mut out = Returned::new();
    // SAFETY: see the module.
    check(unsafe {
        import::proxy_call_foreign_function(
            NAME.as_ptr(),
            NAME.len(),
            text.as_ptr(),
            text.len(),
            &mut out.data,
            &mut out.size,
        )
    })?;
    out.take().try_into().map(Expression).map_err(|_| NOT_FOUND)
}

/// Evaluates an expression on the current stream and returns the length of its result in bytes. A host that is given no place for
/// the result does not allocate one inside the module, which is two thirds of what a call that returns bytes costs.
pub(super) fn result_length(expression: Expression) -> Result<usize, Status> {
    const NAME: &str = "expr_evaluate";
    let token = expression.0;
    let mut size = 0;
    // SAFETY: see the module; the null pointer says that the result is not wanted.
    check(unsafe {
        import::proxy_call_foreign_function(
            NAME.as_ptr(),
            NAME.len(),
            token.as_ptr(),
            token.len(),
            null_mut(),
            &mut size,
        )
    })
    .map(|()| size)
}

/// Writes a line to the proxy's log. Levels are those of the ABI, from 0 (trace) to 5 (critical).
pub(super) fn log(level: u32, message: &str) {
    // A log that takes no lines is nobody's to report to.
    // SAFETY: see the module.
    let _ = unsafe { import::proxy_log(level, message.as_ptr(), message.len()) };
}

/// Sets the root's timer; 0 switches it off.
pub(super) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { import::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Makes a stream the current one of another context's callback. Fails if it is gone.
pub(super) fn set_effective_context(context: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { import::proxy_set_effective_context(context) })
}

/// Lets the held request of the current stream go on.
pub(super) fn continue_request() -> Result<(), Status> {
    const REQUEST: u32 = 0;
    // SAFETY: no pointers.
    check(unsafe { import::proxy_continue_stream(REQUEST) })
}

/// Crashes if the request says so.
#[cfg(feature = "trap")]
pub(super) fn trap_if_asked() {
    if let Ok(Some(_)) = header(Map::Request, "x-trap") {
        std::process::abort();
    }
}

/// WASI's monotonic clock, in nanoseconds; 0 if there is none.
pub(super) fn monotonic_nanos() -> u64 {
    const MONOTONIC: u32 = 1;
    let mut time = 0;
    // SAFETY: see the module.
    let status = unsafe { import::clock_time_get(MONOTONIC, 0, &mut time) };
    if status == OK { time } else { 0 }
}

/// WASI's randomness.
pub(super) fn random() -> Result<[u8; 16], Status> {
    let mut bytes = [0; 16];
    // SAFETY: see the module.
    check(unsafe { import::random_get(bytes.as_mut_ptr(), bytes.len()) }).map(|()| bytes)
}
