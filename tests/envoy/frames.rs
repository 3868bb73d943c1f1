//! Sockets that send anything: bytes that are nearly HTTP/1, and frames that are nearly HTTP/2, under a policy with everything in it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::bootstrap::Bootstrap;
use crate::rig::client::Client;
use crate::rig::envoy_process::{Envoy, eventually};
use crate::rig::filter::Filter;
use crate::rig::frames::{
    ACK, CONTINUATION, Connection, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block,
};
use crate::rig::listener::Listener;
use crate::rig::turn::Turn;
use crate::rig::upstream::Upstream;
use crate::rig::wire::Wire;
use crate::seeds::seeds;

/// Connections of a short run.
const RUNS: u64 = 120;

/// After so many connections it is looked whether the proxy is well.
const CHECKED_EVERY: u64 = 40;

/// Requests of `/held` that may be under way.
const HELD: usize = 6;

/// Everything that the filter does, for everybody.
fn policy() -> Value {
    json!({
        "version": "all",
        "client_ip": { "header": "x-forwarded-for", "trusted_hops": 1 },
        "operations": [
            { "name": "held", "tier": "P0", "match": { "paths": ["/held"] } },
            { "name": "good", "tier": "P0", "match": { "paths": ["/good"] } },
            { "name": "queued", "match": { "paths": ["/queued"] } },
            { "name": "rpc", "tier": "P2", "match": { "paths": ["/shop.Orders/*"] } },
        ],
        "limits": [
            { "name": "held", "operations": ["held"], "concurrency": { "max_in_flight": HELD } },
            { "name": "queued", "operations": ["queued"],
              "leaky_bucket": { "capacity": 20, "drain": 100, "drain_interval": "1s" } },
            { "name": "per-user", "key": ["client_ip", "header:x-user", "cookie:session", "query:q", "path", "method"],
              "operations": ["other", "queued", "rpc"], "max_keys": 100, "cost": "header:x-cost",
              "token_bucket": { "max_tokens": 1000, "tokens_per_fill": 1000, "fill_interval": "1s" } },
            { "name": "of-user", "key": ["header:x-user"], "operations": ["other", "rpc"],
              "concurrency": { "max_in_flight": 50 } },
            { "name": "seen", "enforced": false, "window": { "max_requests": 5, "interval": "1s" } },
        ],
        "fallbacks": [
            { "name": "sorry", "status": 503, "json": { "reason": "%REASON%", "id": "%REQUEST_ID%" },
              "cors": { "allow_origin": ["*"] } },
        ],
        "switches": [{ "name": "off", "active": false }],
        "breakers": [{ "name": "lenient", "operations": ["other", "rpc"], "fallback": "sorry",
                       "trip": { "failure_ratio": 0.9, "min_requests": 50, "slow_ratio": 0.9, "slow_after": "1s" },
                       "open_for": "1s", "max_open_for": "1s" }],
        "on_failure": [{ "operations": ["other", "rpc"], "stale": { "max_age": "1m", "max_bytes": 65_536 },
                         "fallback": "sorry" }],
        "retries": [{ "operations": ["other", "rpc"], "max_attempts": 3, "per_try_timeout": "300ms",
                      "idempotency_key": "idempotency-key", "grpc_methods": ["/shop.Orders/Get"] }],
        "deadlines": [{ "operations": ["other", "rpc"], "header": "x-time-left", "default": "2s" }],
        "monitor": { "ratelimit_headers": "ietf", "ratelimit_headers_on_success": true },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn any_bytes_and_frames_leave_the_proxy_and_its_filter_well() {
    let turn = Turn::shared().await;
    let upstream = Upstream::start().await;
    let listener = Listener::to(upstream.cluster()).filter(Filter::new(&policy()));
    let envoy = turn.start(Bootstrap::new(listener)).await;

    for (number, seed) in (1..).zip(seeds("any_bytes_and_frames_leave_the_proxy_and_its_filter_well", RUNS)) {
        let mut random = fastrand::Rng::with_seed(seed);
        if random.bool() {
            send_bytes(&envoy, &mut random).await;
        } else {
            send_frames(&envoy, &mut random).await;
        }
        if number % CHECKED_EVERY == 0 {
            assert_well(&envoy, &upstream).await;
        }
    }
    assert_well(&envoy, &upstream).await;
}

/// The proxy answers over both protocols, no machine of the filter has failed, and nothing is under way or held.
async fn assert_well(envoy: &Envoy, upstream: &Upstream) {
    for client in [envoy.client(), Client::http2(envoy.address())] {
        assert_eq!(client.get("/good").await.status, 200);
    }
    assert_eq!(envoy.vm_reloads().await, 0.0, "{}", envoy.log());
    eventually("all requests have ended", async || {
        let gauges = ["envoy_http_downstream_rq_active", "envoy_cluster_upstream_rq_active"];
        let stats = envoy.stats().await;
        // One is the question itself, at the admin listener.
        let active: f64 = gauges.iter().map(|gauge| stats.sum(gauge, &[])).sum();
        (active <= 1.0 && upstream.in_flight() == 0).then_some(())
    })
    .await;
    // As many as there were at the beginning can be held, and not one more.
    let mut wires = envoy.wires(HELD).await;
    for wire in &mut wires {
        wire.send("GET /held HTTP/1.1\r\nhost: test\r\nx-answer-after-ms: 400\r\n\r\n").await;
    }
    eventually("they are with the service", async || (upstream.in_flight() == HELD).then_some(())).await;
    let client = envoy.client();
    assert_eq!(client.get("/held").await.status, 429);
    for wire in &mut wires {
        assert_eq!(wire.reply().await.status, 200);
    }
}

const PATHS: [&str; 9] =
    ["/", "/good", "/held", "/queued", "/shop.Orders/Get", "/a/../b/%2e%2e/c;d?q=1", "/zq?q=%ff&q", "*", "//"];

const FIELDS: [(&str, &[u8]); 24] = [
    ("x-user", b"a"),
    ("x-user", b"\xff\xfe"),
    ("x-user", b""),
    ("cookie", b"session=1; =; session"),
    ("x-forwarded-for", b"1.2.3.4, ,x"),
    ("x-cost", b"3"),
    ("x-cost", b"99999999999999999999"),
    ("content-type", b"application/grpc"),
    ("te", b"trailers"),
    ("grpc-timeout", b"50m"),
    ("x-time-left", b"100"),
    ("x-time-left", b"-1"),
    ("idempotency-key", b"1"),
    ("content-length", b"3"),
    ("content-length", b"0"),
    ("x-answer-status", b"503"),
    ("x-answer-status", b"404"),
    ("x-answer-after-ms", b"30"),
    ("x-answer-size", b"20000"),
    ("x-answer-header", b"cache-control=public, max-age=60"),
    ("accept", b"text/event-stream"),
    ("expect", b"100-continue"),
    ("upgrade", b"websocket"),
    ("x-outrigger-reason", b"forged"),
];

const METHODS: [&str; 7] = ["GET", "GET", "GET", "HEAD", "POST", "OPTIONS", "BREW"];

/// Some requests of HTTP/1 in a row, some of them with bytes that do not belong there; then the client leaves.
async fn send_bytes(envoy: &Envoy, random: &mut fastrand::Rng) {
    let mut wire = Wire::connect(envoy.address()).await;
    for _ in 0..random.usize(1..6) {
        let mut bytes = request(random);
        for _ in 0..random.usize(0..3) {
            let place = random.usize(0..bytes.len());
            match random.u8(0..4) {
                0 => bytes[place] = random.u8(..),
                1 => bytes.truncate(place.max(1)),
                2 => drop(
                    bytes.splice(place..place, (0..random.usize(1..40)).map(|_| random.u8(..)).collect::<Vec<_>>()),
                ),
                _ => drop(bytes.remove(place)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if !wire.try_send(&bytes).await {
            return;
        }
        wire.skim(Duration::from_millis(random.u64(0..25))).await;
    }
}

fn request(random: &mut fastrand::Rng) -> Vec<u8> {
    let (method, path) = (METHODS[random.usize(..METHODS.len())], PATHS[random.usize(..PATHS.len())]);
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n").into_bytes();
    for _ in 0..random.usize(0..5) {
        let (name, value) = FIELDS[random.usize(..FIELDS.len())];
        bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    match random.u8(0..4) {
        0 => bytes.extend(b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-last: 1\r\n\r\n"),
        1 => bytes.extend(b"transfer-encoding: chunked\r\n\r\nfff\r\nabc\r\n"),
        _ => bytes.extend(b"\r\n"),
    }
    bytes
}

/// Some frames in a row, most of them good; then the client leaves.
async fn send_frames(envoy: &Envoy, random: &mut fastrand::Rng) {
    let mut connection = Connection::open(envoy.address()).await;
    connection.send(&Frame::new(SETTINGS, ACK, 0, [])).await;
    // Streams that were begun and not ended.
    let (mut next, mut open) = (1, Vec::new());
    for _ in 0..random.usize(1..30) {
        for frame in frames(&mut next, &mut open, random) {
            if !connection.try_send(&frame.bytes()).await {
                return;
            }
        }
        if random.u8(0..4) == 0 {
            connection.skim(Duration::from_millis(random.u64(0..10))).await;
        }
    }
}

fn frames(next: &mut u32, open: &mut Vec<u32>, random: &mut fastrand::Rng) -> Vec<Frame> {
    let end = if random.bool() { END_STREAM } else { 0 };
    let one = (!open.is_empty()).then(|| random.usize(..open.len()));
    match (random.u8(0..20), one) {
        (0..7, _) | (7..14, None) => {
            let stream = *next;
            *next += 2;
            if end == 0 {
                open.push(stream);
            }
            headers(stream, end, random)
        }
        (7..11, Some(one)) => {
            let stream = if end == 0 { open[one] } else { open.swap_remove(one) };
            vec![Frame::new(DATA, end, stream, vec![b'z'; random.usize(0..3000)])]
        }
        (11, Some(one)) => {
            let last = block(&[("x-last", b"1"), ("grpc-status", b"0")]);
            vec![Frame::new(HEADERS, END_HEADERS | END_STREAM, open.swap_remove(one), last)]
        }
        (12 | 13, Some(one)) => {
            let code = random.u32(0..16).to_be_bytes();
            vec![Frame::new(RST_STREAM, 0, open.swap_remove(one), code)]
        }
        (14, _) => vec![Frame::new(PING, 0, 0, [7; 8])],
        (15, _) => vec![Frame::new(WINDOW_UPDATE, 0, 0, random.u32(1..10_000).to_be_bytes())],
        (16, _) => {
            let (setting, value) = (random.u16(1..7), random.u32(0..70_000));
            vec![Frame::new(SETTINGS, 0, 0, [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat())]
        }
        // A stream that answers to requests of before: one that was reset, or is over.
        (17, _) => vec![Frame::new(RST_STREAM, 0, random.u32(0..*next) | 1, [0, 0, 0, 8])],
        _ if random.u8(0..3) == 0 => {
            let payload: Vec<u8> = (0..random.usize(0..60)).map(|_| random.u8(..)).collect();
            vec![Frame::new(random.u8(0..12), random.u8(..), random.u32(0..*next + 4), payload)]
        }
        _ => Vec::new(),
    }
}

/// A request's headers, in one frame or in several.
fn headers(stream: u32, end: u8, random: &mut fastrand::Rng) -> Vec<Frame> {
    let (method, path) = (METHODS[random.usize(..METHODS.len())], PATHS[random.usize(..PATHS.len())]);
    let mut fields: Vec<(&str, &[u8])> =
        vec![(":method", method.as_bytes()), (":scheme", b"http"), (":path", path.as_bytes()), (":authority", b"test")];
    for _ in 0..random.usize(0..5) {
        fields.push(FIELDS[random.usize(..FIELDS.len())]);
    }
    // What HTTP/2 forbids ends the connection, which is seldom what is to be tried.
    if random.u8(0..10) != 0 {
        fields.retain(|(name, _)| !["upgrade", "expect"].contains(name));
    }
    let block = block(&fields);
    let mut parts: Vec<&[u8]> =
        if random.u8(0..3) == 0 { block.chunks(random.usize(1..40)).collect() } else { vec![&block] };
    let first = parts.remove(0);
    let flags = |last: bool| if last { END_HEADERS } else { 0 };
    let mut frames = vec![Frame::new(HEADERS, end | flags(parts.is_empty()), stream, first)];
    let count = parts.len();
    for (index, part) in parts.into_iter().enumerate() {
        frames.push(Frame::new(CONTINUATION, flags(index + 1 == count), stream, part));
    }
    frames
}
