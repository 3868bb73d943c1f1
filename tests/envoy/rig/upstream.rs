//! A service behind the proxy that does what the request asks of it, tells what it got, and counts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::rig::cluster::Cluster;

/// The largest request body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// An HTTP/1.1 upstream. By default it answers 200 and the request as JSON. A request can ask for more:
///
/// * `x-answer-status: 503`: this status.
/// * `x-answer-after-ms: 500`: not before so long.
/// * `x-answer-header: name=value`: this header too.
pub(crate) struct Upstream {
    address: SocketAddr,
    log: Log,
    /// Its own, so that it can [crash](Upstream::crash) and keeps time whatever the test does.
    runtime: Option<Runtime>,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) path: String,
    /// When its headers were read.
    pub(crate) at: Instant,
    /// The header `x-number`, by which a test knows its requests apart.
    pub(crate) number: Option<usize>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    in_flight: usize,
    peak: usize,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let log = Log::default();
        let app = Router::new().fallback(answer).with_state(log.clone());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listening = runtime.spawn(TcpListener::bind("127.0.0.1:0"));
        let listener = listening.await.expect("no panic while binding").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, log, runtime: Some(runtime) }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http1(self.address)
    }

    /// How many requests for this path arrived.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.log.with(|seen| seen.arrivals.iter().filter(|arrival| arrival.path == path).count())
    }

    /// The requests for this path in the order of their arrival.
    pub(crate) fn arrivals(&self, path: &str) -> Vec<Arrival> {
        self.log.with(|seen| seen.arrivals.iter().filter(|arrival| arrival.path == path).cloned().collect())
    }

    /// How many requests it is at work on. One whose connection was closed is none.
    pub(crate) fn in_flight(&self) -> usize {
        self.log.with(|seen| seen.in_flight)
    }

    /// The most that were ever [in flight](Upstream::in_flight).
    pub(crate) fn peak(&self) -> usize {
        self.log.with(|seen| seen.peak)
    }

    /// Closes its connections and its port, whatever it is at work on.
    pub(crate) fn crash(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Drops all its tasks; a runtime must not be dropped among tasks of another.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.crash();
    }
}

impl Log {
    fn with<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().expect("no panic while counting"))
    }

    /// Counts a request in, until the value is dropped.
    fn enter(&self, arrival: Arrival) -> InFlight {
        self.with(|seen| {
            seen.arrivals.push(arrival);
            seen.in_flight += 1;
            seen.peak = seen.peak.max(seen.in_flight);
        });
        InFlight(self.clone())
    }
}

/// A request in flight. Dropped with the handler when the connection is closed.
struct InFlight(Log);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|seen| seen.in_flight -= 1);
    }
}

async fn answer(State(log): State<Log>, request: Request<Body>) -> Response<Body> {
    let (request, body) = request.into_parts();
    let path = request.uri.path().to_owned();
    let wish = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let number = wish("x-number").and_then(|number| number.parse().ok());
    let _in_flight = log.enter(Arrival { path: path.clone(), at: Instant::now(), number });
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    if let Some(delay) = wish("x-answer-after-ms").and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status: u16 = wish("x-answer-status").and_then(|status| status.parse().ok()).unwrap_or(200);
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = wish("x-answer-header").and_then(|header| header.split_once('=')) {
        response = response.header(name, value);
    }
    let told = json!({
        "method": request.method.as_str(),
        "path": path,
        "headers": headers_as_json(&request.headers),
        "body_size": body.len(),
        "body_sum": checksum(&body),
    });
    response.body(Body::from(told.to_string())).expect("a response")
}

/// Depends on every byte and its place.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

fn headers_as_json(headers: &HeaderMap) -> Value {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let values = |name| headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(", ");
    let fields = headers.keys().map(|name| (name.to_string(), json!(values(name))));
    Value::Object(fields.collect::<Map<String, Value>>())
}
