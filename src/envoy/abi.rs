//! The host calls of proxy-wasm ABI 0.2.1 that the filter makes, declared raw.
//!
//! Each wrapper is total: it returns the status of a call that did not succeed, and never panics, whatever the network
//! or the host does. Bytes stay bytes.
//!
//! The unsafe code of the crate is in this file. Its argument is the same everywhere: pointers passed to the host are to
//! live slices with their length, and buffers that the host returns were made by the module's own allocator
//! (`proxy_on_memory_allocate` of the SDK, a boxed slice of exactly that size), so they may be taken over as a `Vec`.

#![allow(unsafe_code)]

use std::ptr::null_mut;

/// Status codes of the ABI.
pub(super) const OK: u32 = 0;
pub(super) const NOT_FOUND: u32 = 1;
pub(super) const CAS_MISMATCH: u32 = 8;

/// What the host answered instead of success.
pub(super) type Status = u32;

/// Buffers of the ABI.
const PLUGIN_CONFIGURATION: u32 = 7;

/// Header maps of the ABI.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Map {
    Request = 0,
    Response = 2,
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
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
        pub(super) fn random_get(buffer: *mut u8, size: usize) -> u32;
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

/// Sets the root's timer; 0 switches it off.
pub(super) fn set_tick_period(milliseconds: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { import::proxy_set_tick_period_milliseconds(milliseconds) })
}

/// Lets a held request go on, from another context's callback. Fails if the stream is gone.
pub(super) fn continue_request(context: u32) -> Result<(), Status> {
    const REQUEST: u32 = 0;
    // SAFETY: no pointers.
    check(unsafe { import::proxy_set_effective_context(context) })?;
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
