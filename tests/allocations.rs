//! What a request costs in allocations of the engine: none, but for what the proxy hands over.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::rc::Rc;

use common::MemoryHost;
use common::sidecar::MILLISECOND;
use outrigger::config::Config;
use outrigger::filter::Filter;
use outrigger::headers::Headers;
use outrigger::host::{
    Direction, End, Ended, Expected, Host, HostError, LogField, MetricId, MetricKind, Origin, Sent, Versioned, Written,
};
use outrigger::pipeline::{Answer, Decision};
use outrigger::time::Timestamp;
use outrigger::worker::Worker;

/// The system's allocator, which counts for each thread while it is told to.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static ON: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if ON.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by trade; this one adds nothing to the system's")]
// SAFETY: every call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: see above.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A proxy whose own allocations do not count. On Envoy those are in the proxy, or are blocks that it hands over.
struct Quiet(Rc<MemoryHost>);

impl Quiet {
    fn call<R>(&self, call: impl FnOnce(&MemoryHost) -> R) -> R {
        let on = ON.replace(false);
        let answer = call(&self.0);
        ON.set(on);
        answer
    }
}

impl Host for Quiet {
    fn now(&self) -> Timestamp {
        self.call(|it| it.now())
    }

    fn shared_set(&self, key: &str, value: &[u8], expected: Expected) -> Result<Written, HostError> {
        self.call(|it| it.shared_set(key, value, expected))
    }

    fn wake_at(&self, instant: Timestamp) {
        self.call(|it| it.wake_at(instant));
    }

    fn set_log_field(&self, field: LogField, value: &str) -> Result<(), HostError> {
        self.call(|it| it.set_log_field(field, value))
    }

    fn define_metric(&self, kind: MetricKind, name: &str) -> Result<MetricId, HostError> {
        self.call(|it| it.define_metric(kind, name))
    }

    fn increment_metric(&self, id: MetricId, amount: u64) -> Result<(), HostError> {
        self.call(|it| it.increment_metric(id, amount))
    }

    fn record_metric(&self, id: MetricId, value: u64) -> Result<(), HostError> {
        self.call(|it| it.record_metric(id, value))
    }

    fn request_headers(&self) -> Result<Headers, HostError> {
        self.call(|it| it.request_headers())
    }

    fn set_request_number(&self, number: u64) -> Result<(), HostError> {
        self.call(|it| it.set_request_number(number))
    }

    fn request_number(&self) -> Result<Option<u64>, HostError> {
        self.call(|it| it.request_number())
    }

    fn peer_address(&self) -> Result<Option<Vec<u8>>, HostError> {
        self.call(|it| it.peer_address())
    }

    fn direction(&self) -> Result<Direction, HostError> {
        self.call(|it| it.direction())
    }

    fn response_headers(&self) -> Result<Headers, HostError> {
        self.call(|it| it.response_headers())
    }

    fn response_body(&self, size: usize) -> Result<Vec<u8>, HostError> {
        self.call(|it| it.response_body(size))
    }

    fn response_status(&self) -> Result<Option<u16>, HostError> {
        self.call(|it| it.response_status())
    }

    fn response_header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.call(|it| it.response_header(name))
    }

    fn origin(&self) -> Result<Origin, HostError> {
        self.call(|it| it.origin())
    }

    fn sent(&self) -> Result<Sent, HostError> {
        self.call(|it| it.sent())
    }

    fn grpc_status(&self) -> Result<Option<u32>, HostError> {
        self.call(|it| it.grpc_status())
    }

    fn succeeded_at_once(&self) -> bool {
        true
    }

    fn attempts(&self) -> Result<Option<u32>, HostError> {
        Ok(Some(1))
    }

    fn ended(&self) -> Result<Ended, HostError> {
        self.call(|it| it.ended())
    }

    fn shared_get(&self, key: &str) -> Result<Option<Versioned>, HostError> {
        self.call(|it| it.shared_get(key))
    }

    fn random(&self) -> Result<[u8; 16], HostError> {
        self.call(|it| it.random())
    }
}

const BUCKET: &str = r#""token_bucket": { "max_tokens": 100000, "tokens_per_fill": 100000, "fill_interval": "1s" }"#;

/// So many operations, and so many limits on the request's own.
fn document(operations: usize, limits: &[String]) -> String {
    let operation =
        |n| format!(r#"{{ "name": "o{n}", "match": {{ "methods": ["GET"], "paths": ["/o{n}/*", "/v2/o{n}"] }} }}"#);
    let list: Vec<String> = (0..operations).map(operation).collect();
    format!(r#"{{ "operations": [{}], "limits": [{}] }}"#, list.join(","), limits.join(","))
}

fn limit(name: &str, rest: &str) -> String {
    format!(r#"{{ "name": "{name}", {rest} }}"#)
}

/// Allocations of the engine in a thousand requests, when the first ones have defined metrics and filled leases.
fn allocations(document: &str, more_headers: usize) -> usize {
    let host = Quiet(MemoryHost::new());
    host.0.set_peer("192.0.2.1:40000");
    let worker = Worker::default();
    let filter = Filter::new(&Config::parse(document.as_bytes()).unwrap(), "test", &worker);
    let names: Vec<String> = (0..more_headers).map(|n| format!("x-more-{n}")).collect();
    let mut headers =
        vec![(":method", "GET"), (":path", "/o7/1?q=2"), (":authority", "a.example.com:80"), ("cookie", "sid=1")];
    headers.extend(names.iter().map(|name| (name.as_str(), "more")));
    headers.push(("x-user-id", "u1"));
    host.0.set_request(&headers);
    host.0.set_response(&[(":status", "200")]);
    let serve = || {
        host.0.advance(MILLISECOND);
        ON.set(true);
        let (decision, mut ticket) = filter.on_request(&host, &worker, End::Here);
        let answer = filter.on_response(&host, &worker, End::Later, &mut ticket);
        filter.on_response_end(&host, &worker, &mut ticket);
        filter.on_done(&host, &worker, ticket);
        ON.set(false);
        assert!(matches!(decision, Decision::Forward(_)));
        assert!(matches!(answer, Answer::Pass(edits) if edits.set.is_empty()));
    };
    (0..1_000).for_each(|_| serve());
    ALLOCATIONS.set(0);
    (0..1_000).for_each(|_| serve());
    ALLOCATIONS.get()
}

#[test]
fn the_count_counts() {
    ON.set(true);
    let before = ALLOCATIONS.get();
    let _ = std::hint::black_box(Vec::<u8>::with_capacity(1));
    ON.set(false);
    assert_eq!(ALLOCATIONS.get() - before, 1);
}

#[test]
fn a_request_that_goes_on_allocates_nothing() {
    let user = r#""key": ["header:x-user-id", "cookie:sid", "query:q", "host", "path", "method", "operation"]"#;
    let limits = [
        limit("all", BUCKET),
        limit("user", &format!("{user}, {BUCKET}")),
        limit("queue", r#""leaky_bucket": { "capacity": 50, "drain": 100000, "drain_interval": "1s" }"#),
        limit("flights", r#""concurrency": { "max_in_flight": 1000 }"#),
    ];
    assert_eq!(allocations("{}", 0), 0);
    assert_eq!(allocations(&document(20, &[]), 20), 0);
    for limit in &limits {
        assert_eq!(allocations(&document(20, std::slice::from_ref(limit)), 20), 0, "{limit}");
    }
    assert_eq!(allocations(&document(20, &limits), 20), 0);
}

#[test]
fn neither_operations_nor_headers_nor_keys_of_a_request_add_any() {
    let user = r#""key": ["header:x-user-id"]"#;
    let limits = [limit("all", BUCKET), limit("user", &format!("{user}, {BUCKET}"))];
    assert_eq!(allocations(&document(200, &limits), 0), 0);
    assert_eq!(allocations(&document(20, &limits), 100), 0);
}

/// What a request holds of up to four limits, and what they have left, fits where it stands. Beyond that both move to the
/// heap, once for eight.
#[test]
fn a_fifth_limit_costs_two() {
    let limits = |count: usize| -> Vec<String> { (0..count).map(|n| limit(&format!("l{n}"), BUCKET)).collect() };
    assert_eq!(allocations(&document(20, &limits(4)), 0), 0);
    assert_eq!(allocations(&document(20, &limits(5)), 0), 2_000);
    assert_eq!(allocations(&document(20, &limits(8)), 0), 2_000);
}
