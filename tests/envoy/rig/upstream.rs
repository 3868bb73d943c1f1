//! A service behind the proxy that does what the request asks of it, tells what it got, and counts.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::rig::cluster::Cluster;

/// An HTTP/1.1 upstream. By default it answers 200 and the request as JSON. A request can ask for more:
///
/// * `x-answer-status: 503`: this status.
/// * `x-answer-after-ms: 500`: not before so long.
/// * `x-answer-header: name=value`: this header too.
pub(crate) struct Upstream {
    address: SocketAddr,
    counts: Counts,
}

type Counts = Arc<Mutex<HashMap<String, usize>>>;

impl Upstream {
    pub(crate) async fn start() -> Self {
        let counts = Counts::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&counts));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, counts }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http1(self.address)
    }

    /// How many requests for this path arrived.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.counts.lock().expect("no panic while counting").get(path).copied().unwrap_or_default()
    }
}

async fn answer(State(counts): State<Counts>, request: Request<Body>) -> Response<Body> {
    let (request, _body) = request.into_parts();
    let path = request.uri.path().to_owned();
    *counts.lock().expect("no panic while counting").entry(path.clone()).or_default() += 1;
    let wish = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
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
    });
    response.body(Body::from(told.to_string())).expect("a response")
}

fn headers_as_json(headers: &HeaderMap) -> Value {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let values = |name| headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(", ");
    let fields = headers.keys().map(|name| (name.to_string(), json!(values(name))));
    Value::Object(fields.collect::<Map<String, Value>>())
}
