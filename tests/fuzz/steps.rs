//! What can happen to a proxy, by chance. Streams and workers are named by numbers that are taken modulo how many there are, so that
//! any steps can be left out of a run.

use std::fmt;

use outrigger::host::{End, Origin};

use crate::common::Random;
use crate::common::sidecar::{MILLISECOND, SECOND};
use crate::policies::Policies;

/// What stands in everything that a client chooses freely, and nowhere in a document: it must be in no name of a metric or record.
pub const MARK: &str = "zq";

/// Headers, pseudo-headers among them.
#[derive(Clone)]
pub struct Fields(pub Vec<(String, Vec<u8>)>);

impl Fields {
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect())
    }
}

/// What a log would show of them.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &[u8]| -> String { value.escape_ascii().to_string().chars().take(60).collect() };
        f.debug_list().entries(self.0.iter().map(|(name, value)| format!("{name}: {}", text(value)))).finish()
    }
}

/// One event.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request comes to the worker.
    Ask { worker: usize, request: Fields, end: End },
    /// The rest of the stream's request comes.
    Complete { stream: usize },
    /// The stream's alarm goes off: its wait or its time is over.
    Wake { stream: usize },
    /// The router sends the stream's request on, and this is the answer of that attempt.
    Attempt { stream: usize, status: u16 },
    /// The headers of a response come.
    Respond { stream: usize, response: Vec<(String, String)>, origin: Origin, end: End },
    /// A part of its body comes.
    Body { stream: usize, size: usize },
    /// Its end comes, with the status that gRPC has.
    Finish { stream: usize, grpc_status: Option<u32> },
    /// The stream ends.
    Leave { stream: usize, ending: Ending },
    /// Time passes; timers go off.
    Pass { nanos: u64 },
    /// The worker's timer goes off, whether it was set or not.
    Tick { worker: usize },
    /// A configuration takes the place of that of all workers.
    Reload { document: String },
    /// The worker's virtual machine crashes: what it had in memory is gone, and its streams with it.
    Trap { worker: usize },
    /// A record holds something else.
    Spoil { record: usize, bytes: Vec<u8> },
    /// The clock is set.
    Clock { nanos: u64 },
}

/// How a stream ends.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    Plain,
    BrokenOff,
    Unsent,
    TimedOut,
}

/// Whether a run spoils what a sane proxy never would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Records are what was written, and the clock goes forward.
    Sane,
    /// Neither need be so.
    Mad,
}

/// So many steps.
pub fn steps(random: &mut Random, count: usize, world: World) -> Vec<Step> {
    (0..count).map(|_| step(random, world)).collect()
}

fn step(random: &mut Random, world: World) -> Step {
    let stream = random.below(64) as usize;
    let worker = random.below(64) as usize;
    match random.below(if world == World::Mad { 106 } else { 100 }) {
        0..30 => Step::Ask { worker, request: request(random), end: end(random) },
        30..35 => Step::Complete { stream },
        35..39 => Step::Wake { stream },
        39..43 => Step::Attempt { stream, status: *pick(random, &[200, 200, 404, 500, 503]) },
        43..58 => Step::Respond { stream, response: response(random), origin: origin(random), end: end(random) },
        58..63 => Step::Body { stream, size: random.below(6_000) as usize },
        63..70 => Step::Finish { stream, grpc_status: *pick(random, &[None, Some(0), Some(4), Some(14), Some(77)]) },
        70..82 => {
            let endings = [Ending::Plain, Ending::Plain, Ending::BrokenOff, Ending::Unsent, Ending::TimedOut];
            Step::Leave { stream, ending: *pick(random, &endings) }
        }
        82..94 => {
            let most = *pick(random, &[MILLISECOND, 20 * MILLISECOND, 500 * MILLISECOND, 5 * SECOND, 90 * SECOND]);
            Step::Pass { nanos: random.below(most) }
        }
        94..97 => Step::Tick { worker },
        97 | 98 => Step::Reload { document: Policies(random).document().to_string() },
        // Seldom: after a trap, what is held cannot be compared with an idle proxy.
        99 if random.below(5) == 0 => Step::Trap { worker },
        99 => Step::Tick { worker },
        100..104 => {
            let size = random.below(200);
            Step::Spoil { record: stream, bytes: (0..size).map(|_| random.below(256) as u8).collect() }
        }
        // From a nanosecond to some 580 years after the clock's origin.
        _ => Step::Clock { nanos: 1 << random.below(64) },
    }
}

fn request(random: &mut Random) -> Fields {
    let mut fields = Vec::new();
    let mut add = |name: &str, value: &[u8]| fields.push((name.to_owned(), value.to_vec()));
    add(":method", pick(random, &["GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "zqBREW"]).as_bytes());
    add(":path", pick(random, &PATHS).as_bytes());
    add(
        ":authority",
        pick(random, &["shop.example.com", "zq.example.com:8080", "SHOP.EXAMPLE.COM.", "", "[::1]:1"]).as_bytes(),
    );
    for _ in 0..random.below(5) {
        let (name, value) = pick(random, &HEADERS);
        add(name, value);
        if random.below(6) == 0 {
            add(name, value);
        }
    }
    if random.below(20) == 0 {
        add("x-user", "zq".repeat(10_000).as_bytes());
    }
    if random.below(6) == 0 {
        let user = format!("zq{}", random.below(200));
        add("x-user", user.as_bytes());
    }
    Fields(fields)
}

const PATHS: [&str; 14] = [
    "/read",
    "/read/zq?q=1",
    "/write",
    "/write/zq",
    "/shop.Orders/Get",
    "/shop.Orders/Put",
    "/",
    "*",
    "",
    "/read/../write/zq",
    "/read/%2e%2e/%2Fzq;v=1?q=%ff&q",
    "//read//zq",
    "/read/zq;x=/../..?q=zq#zq",
    "/zq\\..\\read",
];

const HEADERS: [(&str, &[u8]); 30] = [
    ("x-user", b"zqalice"),
    ("x-user", b"\xff\xfezq"),
    ("x-user", b""),
    ("x-app", b"web-zq"),
    ("cookie", b"session=zq; a=b"),
    ("cookie", b"session=\xff;; =;session"),
    ("x-forwarded-for", b"10.0.0.1, 2001:db8::1"),
    ("x-forwarded-for", b"zq, ,\xff"),
    ("x-cost", b"3"),
    ("x-cost", b"18446744073709551616"),
    ("x-cost", b"zq"),
    ("content-type", b"application/grpc"),
    ("grpc-timeout", b"100m"),
    ("grpc-timeout", b"99999999H"),
    ("grpc-timeout", b"zq"),
    ("x-time-left", b"200"),
    ("x-time-left", b"0"),
    ("x-time-left", b"-1e9"),
    ("x-envoy-expected-rq-timeout-ms", b"1500"),
    ("idempotency-key", b"zq"),
    ("content-length", b"1500"),
    ("content-length", b"99999999999999999999"),
    ("cache-control", b"no-cache, max-age=0"),
    ("origin", b"https://shop.example.com"),
    ("access-control-request-method", b"GET"),
    ("accept", b"text/event-stream"),
    ("upgrade", b"websocket"),
    ("x-outrigger-reason", b"zq"),
    ("x-request-id", b"zq\xff"),
    ("range", b"bytes=0-1"),
];

fn response(random: &mut Random) -> Vec<(String, String)> {
    let status = *pick(
        random,
        &["200", "200", "200", "204", "301", "304", "404", "429", "500", "501", "503", "504", "101", "zq", ""],
    );
    let mut fields = vec![(":status".to_owned(), status.to_owned())];
    for _ in 0..random.below(4) {
        let (name, value) = *pick(random, &ANSWERS);
        fields.push((name.to_owned(), value.to_owned()));
    }
    fields
}

const ANSWERS: [(&str, &str); 16] = [
    ("cache-control", "public, max-age=60"),
    ("cache-control", "public, max-age=60, stale-if-error=600"),
    ("cache-control", "private"),
    ("cache-control", "max-age=99999999999999999999, zq"),
    ("vary", "x-user"),
    ("vary", "*"),
    ("etag", "\"zq\""),
    ("age", "zq"),
    ("content-length", "1000"),
    ("content-type", "text/event-stream"),
    ("content-type", "application/grpc"),
    ("grpc-status", "14"),
    ("x-envoy-ratelimited", "true"),
    ("ratelimit", "zq;r=1"),
    ("location", "/read/zq"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
];

fn origin(random: &mut Random) -> Origin {
    match random.below(12) {
        0 => Origin::Unreachable,
        1 => Origin::Unanswered,
        2 => Origin::TimedOut,
        3 => Origin::Injected,
        4 => Origin::Overflow,
        5 => Origin::Elsewhere,
        _ => Origin::Service,
    }
}

fn end(random: &mut Random) -> End {
    if random.below(3) == 0 { End::Later } else { End::Here }
}

fn pick<'a, T>(random: &mut Random, all: &'a [T]) -> &'a T {
    &all[random.below(all.len() as u64) as usize]
}
