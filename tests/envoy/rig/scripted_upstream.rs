//! A service that answers as a scenario says, attempt by attempt, and keeps what it got of each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::rig::cluster::Cluster;

/// The largest request body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// An HTTP/1.1 upstream.
pub(crate) struct ScriptedUpstream {
    address: SocketAddr,
    log: Log,
    /// Its own, so that it keeps time whatever the test does.
    runtime: Option<Runtime>,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) path: String,
    /// The header `x-number`, by which a test knows its requests apart; without one it is 0.
    pub(crate) number: usize,
    /// How often this path and number arrived, this time included.
    pub(crate) nth: usize,
    pub(crate) headers: HeaderMap,
}

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) status: u16,
    /// Not before so long.
    pub(crate) after: Duration,
}

impl Line {
    /// At once.
    pub(crate) fn now(status: u16) -> Self {
        Self::after(Duration::ZERO, status)
    }

    pub(crate) fn after(after: Duration, status: u16) -> Self {
        Self { status, after }
    }
}

impl Attempt {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are text"))
    }
}

type Log = Arc<Mutex<Seen>>;

#[derive(Default)]
struct Seen {
    attempts: Vec<Attempt>,
    counts: HashMap<(String, usize), usize>,
}

type Script = Arc<dyn Fn(&Attempt) -> Line + Send + Sync>;

impl ScriptedUpstream {
    /// Answers each attempt with what `script` says about it.
    pub(crate) async fn start(script: impl Fn(&Attempt) -> Line + Send + Sync + 'static) -> Self {
        let log = Log::default();
        let script: Script = Arc::new(script);
        let app = Router::new().fallback(answer).with_state((log.clone(), script));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listening = runtime.spawn(TcpListener::bind("127.0.0.1:0"));
        let listener = listening.await.expect("no panic while binding").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, log, runtime: Some(runtime) }
    }

    /// Answers all attempts alike, at once.
    pub(crate) async fn always(status: u16) -> Self {
        Self::start(move |_| Line::now(status)).await
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http1(self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All attempts in the order of their arrival.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.log.lock().expect("no panic while counting").attempts.clone()
    }

    /// How many attempts of this path and number arrived.
    pub(crate) fn count(&self, path: &str, number: usize) -> usize {
        let seen = self.log.lock().expect("no panic while counting");
        seen.counts.get(&(path.to_owned(), number)).copied().unwrap_or_default()
    }

    /// The last attempt.
    pub(crate) fn last(&self) -> Attempt {
        self.attempts().pop().expect("something arrived")
    }
}

impl Drop for ScriptedUpstream {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not be dropped among tasks of another.
            runtime.shutdown_background();
        }
    }
}

async fn answer(State((log, script)): State<(Log, Script)>, request: Request<Body>) -> Response<Body> {
    let (request, body) = request.into_parts();
    let path = request.uri.path().to_owned();
    let number = request.headers.get("x-number").and_then(|number| number.to_str().ok()?.parse().ok());
    let number = number.unwrap_or_default();
    let attempt = {
        let mut seen = log.lock().expect("no panic while counting");
        let nth = seen.counts.entry((path.clone(), number)).or_default();
        *nth += 1;
        let attempt = Attempt { path, number, nth: *nth, headers: request.headers };
        seen.attempts.push(attempt.clone());
        attempt
    };
    let line = script(&attempt);
    let _ = to_bytes(body, MAX_BODY).await;
    if !line.after.is_zero() {
        tokio::time::sleep(line.after).await;
    }
    let told = format!("attempt {}", attempt.nth);
    Response::builder().status(line.status).body(Body::from(told)).expect("a response")
}
