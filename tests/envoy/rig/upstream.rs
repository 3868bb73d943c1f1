//! A service behind the proxy that does what the request asks of it, tells what it got, and counts.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::rig::cluster::Cluster;
use crate::rig::envoy_process::eventually;

/// The largest request body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// An upstream that speaks HTTP/1.1 and HTTP/2. By default it answers 200 and the request as JSON. A request can ask for
/// more:
///
/// * `x-answer-status: 503`: this status.
/// * `x-answer-after-ms: 500`: not before so long.
/// * `x-answer-header: name=value`: this header too; may be given several times.
/// * `x-answer-size: 5000`: a [page] of so many bytes instead of JSON.
/// * `x-answer-chunked: yes`: without a content length.
///
/// A test can have it [behave](Upstream::behave) otherwise, whatever requests ask for.
pub(crate) struct Upstream {
    address: SocketAddr,
    log: Log,
    manners: watch::Sender<Vec<(String, Manner)>>,
    /// Its own, so that it can [crash](Upstream::crash) and keeps time whatever the test does.
    runtime: Option<Runtime>,
}

/// How an upstream answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// As requests ask for.
    Well,
    /// With this status.
    Failing(u16),
    /// As requests ask for, but not before so long.
    Late(Duration),
    /// Of ten requests so many with 503, evenly spread; the others well.
    Flaky(usize),
    /// Never.
    Hanging,
    /// Closes the connection, or in HTTP/2 the stream, before any answer.
    Resetting,
    /// Sends 200 and half a page, and the rest never: closes the connection, or the stream, as soon as it is to behave
    /// otherwise.
    Breaking,
}

/// A page of which half is sent before the connection breaks.
pub(crate) const BROKEN_PAGE: usize = 10_000;

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
        let (log, manners) = (Log::default(), watch::Sender::default());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (runtime, address) = serve(anywhere, log.clone(), &manners).await.expect("a free port");
        Self { address, log, manners, runtime: Some(runtime) }
    }

    /// From now on answers requests whose path begins with this in this manner. The longest beginning counts, by default
    /// all go well.
    pub(crate) fn behave(&self, prefix: &str, manner: Manner) {
        self.manners.send_modify(|manners| {
            manners.retain(|(it, _)| it != prefix);
            manners.push((prefix.to_owned(), manner));
            manners.sort_by_key(|(it, _)| std::cmp::Reverse(it.len()));
        });
    }

    /// As a cluster whose requests come over HTTP/2.
    pub(crate) fn cluster_http2(&self) -> Cluster {
        Cluster::http2(self.address)
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

    /// Serves again at the same port after a [crash](Upstream::crash).
    pub(crate) async fn revive(&mut self) {
        let again = eventually("the port of the crashed upstream is free", async || {
            serve(self.address, self.log.clone(), &self.manners).await.ok()
        });
        self.runtime = Some(again.await.0);
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

/// Starts to serve, and says where.
async fn serve(
    address: SocketAddr,
    log: Log,
    manners: &watch::Sender<Vec<(String, Manner)>>,
) -> std::io::Result<(Runtime, SocketAddr)> {
    let app = Router::new().fallback(answer).with_state((log, manners.subscribe()));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let bound = runtime.spawn(TcpListener::bind(address)).await.expect("no panic while binding");
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let address = listener.local_addr().expect("a bound port");
    runtime.spawn(async move { axum::serve(listener, app).await });
    Ok((runtime, address))
}

type Manners = watch::Receiver<Vec<(String, Manner)>>;

fn manner_for(path: &str, manners: &Manners) -> Manner {
    manners.borrow().iter().find(|(prefix, _)| path.starts_with(prefix)).map_or(Manner::Well, |(_, manner)| *manner)
}

async fn answer(State((log, manners)): State<(Log, Manners)>, request: Request<Body>) -> Response<Body> {
    let (request, body) = request.into_parts();
    let path = request.uri.path().to_owned();
    let wish = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let number = wish("x-number").and_then(|number| number.parse().ok());
    let _in_flight = log.enter(Arrival { path: path.clone(), at: Instant::now(), number });
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    if let Some(delay) = wish("x-answer-after-ms").and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let manner = manner_for(&path, &manners);
    let asked: u16 = wish("x-answer-status").and_then(|status| status.parse().ok()).unwrap_or(200);
    let status = match manner {
        Manner::Well | Manner::Breaking => asked,
        Manner::Failing(status) => status,
        Manner::Late(delay) => {
            tokio::time::sleep(delay).await;
            asked
        }
        Manner::Flaky(failures) => {
            // Multiplied by 7, so that failures do not come in a row.
            let place = log.with(|seen| seen.arrivals.iter().filter(|arrival| arrival.path == path).count());
            if place * 7 % 10 < failures { 503 } else { asked }
        }
        Manner::Hanging => std::future::pending().await,
        // The connection's task ends with the handler's; nothing is printed.
        Manner::Resetting => std::panic::resume_unwind(Box::new("a reset on command")),
    };
    let mut response = Response::builder().status(status);
    for header in request.headers.get_all("x-answer-header") {
        if let Some((name, value)) = header.to_str().ok().and_then(|header| header.split_once('=')) {
            response = response.header(name, value);
        }
    }
    if manner == Manner::Breaking {
        let half = page(&path, BROKEN_PAGE / 2);
        return response
            .header("content-length", BROKEN_PAGE)
            .body(until_changed(half, path, manners))
            .expect("half a one");
    }
    let told = json!({
        "method": request.method.as_str(),
        "path": path,
        "headers": headers_as_json(&request.headers),
        "body_size": body.len(),
        "body_sum": checksum(&body),
    });
    let size = wish("x-answer-size").and_then(|size| size.parse().ok());
    let content = size.map_or_else(|| told.to_string().into_bytes(), |size| page(&path, size));
    let body = match wish("x-answer-chunked") {
        None => Body::from(content),
        Some(_) => pieces(&content),
    };
    response.body(body).expect("a response")
}

/// So many bytes that tell whose they are.
pub(crate) fn page(path: &str, size: usize) -> Vec<u8> {
    path.bytes().chain([b' ']).cycle().take(size).collect()
}

/// A body in pieces, whose length is not told beforehand.
fn pieces(content: &[u8]) -> Body {
    let pieces: Vec<_> = content.chunks(4096).map(|piece| std::io::Result::Ok(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(tonic::codegen::tokio_stream::iter(pieces))
}

/// A body that breaks off when the upstream is to behave otherwise.
fn until_changed(half: Vec<u8>, path: String, mut manners: Manners) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _ = sender.send(Ok(Bytes::from(half))).await;
        while manner_for(&path, &manners) == Manner::Breaking && manners.changed().await.is_ok() {}
        let _ = sender.send(Err(std::io::Error::other("broken off on command"))).await;
    });
    Body::from_stream(ReceiverStream::new(receiver))
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
