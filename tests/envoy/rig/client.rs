//! An ordinary HTTP client, one connection each.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

/// How long an answer may take. Under valgrind, on a busy machine, an Envoy that compiles a module is silent for a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client that sends one request after the other over one connection, and so always to the same worker.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self::build(address, reqwest::ClientBuilder::http1_only)
    }

    /// A client that speaks HTTP/2.
    pub(crate) fn http2(address: SocketAddr) -> Self {
        Self::build(address, reqwest::ClientBuilder::http2_prior_knowledge)
    }

    /// A client whose connection comes from this address.
    pub(crate) fn from(source: IpAddr, address: SocketAddr) -> Self {
        Self::build(address, |builder| builder.http1_only().local_address(source))
    }

    fn build(address: SocketAddr, customise: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Self {
        let builder =
            reqwest::Client::builder().no_proxy().redirect(Policy::none()).pool_max_idle_per_host(1).timeout(PATIENCE);
        Self { http: customise(builder).build().expect("a client"), base: format!("http://{address}") }
    }

    /// A request to be dressed and then [sent](send).
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// The answer to a bare GET.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// The answer to a GET with one header.
    pub(crate) async fn get_with(&self, path: &str, name: &str, value: &str) -> Answer {
        send(self.request(Method::GET, path).header(name, value)).await
    }

    /// How many of `count` bare GETs are answered 200.
    pub(crate) async fn admitted(&self, path: &str, count: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..count {
            admitted += usize::from(self.get(path).await.status == 200);
        }
        admitted
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap_or_else(|error| panic!("no response: {error:?}"));
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap_or_else(|error| panic!("no body: {error:?}"));
    Answer { status, headers, body: body.to_vec() }
}

impl Answer {
    /// A header that must occur at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().expect("headers are text");
        assert!(values.next().is_none(), "{name} is given twice: {:?}", self.headers);
        Some(value)
    }

    /// Why the filter answered, if it did.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-outrigger-reason")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}
