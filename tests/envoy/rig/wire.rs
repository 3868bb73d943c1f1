//! A socket that sends any bytes at all, for what no HTTP library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One TCP connection to Envoy.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response as its bytes came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Status line and headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// What followed a chunked body, empty if nothing did.
    pub(crate) trailers: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("Envoy accepts connections");
        stream.set_nodelay(true).expect("a socket can be told not to wait");
        Self { stream, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("Envoy reads");
    }

    /// The same; whether the other side took it all.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(Duration::from_secs(5), self.stream.write_all(bytes.as_ref())).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Takes what comes within the time, and forgets it.
    pub(crate) async fn skim(&mut self, time: Duration) {
        let mut buffer = vec![0; 65_536];
        let read = async { while self.stream.read(&mut buffer).await.is_ok_and(|count| 0 < count) {} };
        let _ = timeout(time, read).await;
    }

    /// Sends a GET with these extra header lines and reads the reply.
    pub(crate) async fn get(&mut self, path: &str, header_lines: impl AsRef<[u8]>) -> Reply {
        self.send(request(path, header_lines)).await;
        self.reply().await
    }

    /// The next reply, by content length or chunks. Informational responses have neither.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if let Some(length) = reply.header("content-length").and_then(|length| length.parse().ok()) {
            reply.body = self.read(length).await;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            (reply.body, reply.trailers) = self.chunks().await;
        }
        reply
    }

    /// Status line and headers of the next reply; its body is not read.
    pub(crate) async fn head(&mut self) -> Reply {
        let head = self.read_to(b"\r\n\r\n").await;
        let head = String::from_utf8_lossy(&head).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a response: {head}"));
        Reply { status, head, body: Vec::new(), trailers: String::new() }
    }

    /// All that comes until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        loop {
            let read = timeout(Duration::from_secs(15), self.stream.read(&mut buffer)).await;
            let count = read.expect("Envoy closes in time").unwrap_or(0);
            if count == 0 {
                return std::mem::take(&mut self.unread);
            }
            self.unread.extend(&buffer[..count]);
        }
    }

    /// The status of the next reply; `None` if the connection is closed instead, which may be in the middle of it.
    pub(crate) async fn status_or_close(&mut self) -> Option<u16> {
        let mut seen = std::mem::take(&mut self.unread);
        let mut buffer = [0; 65_536];
        loop {
            let head = String::from_utf8_lossy(&seen).into_owned();
            if let Some((line, _)) = head.split_once("\r\n") {
                return line.split(' ').nth(1).and_then(|code| code.parse().ok());
            }
            let read = timeout(Duration::from_secs(15), self.stream.read(&mut buffer)).await;
            let count = read.expect("Envoy answers or closes in time").unwrap_or(0);
            if count == 0 {
                return None;
            }
            seen.extend(&buffer[..count]);
        }
    }

    /// Exactly `count` bytes, whatever they are.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            self.fill().await;
        }
        self.unread.drain(..count).collect()
    }

    async fn chunks(&mut self) -> (Vec<u8>, String) {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8_lossy(&self.read_to(b"\r\n").await).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).expect("a chunk has a size");
            if size == 0 {
                break;
            }
            body.extend(self.read(size).await);
            self.read(2).await;
        }
        let mut trailers = String::new();
        loop {
            let line = String::from_utf8_lossy(&self.read_to(b"\r\n").await).into_owned();
            if line.trim().is_empty() {
                return (body, trailers);
            }
            trailers.push_str(&line);
        }
    }

    async fn read_to(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.unread.windows(end.len()).position(|window| window == end) {
                return self.unread.drain(..at + end.len()).collect();
            }
            self.fill().await;
        }
    }

    async fn fill(&mut self) {
        let mut buffer = vec![0; 65_536];
        let read = timeout(Duration::from_secs(15), self.stream.read(&mut buffer)).await;
        let count = read.expect("Envoy answers in time").expect("the connection holds");
        assert!(count > 0, "Envoy closed the connection after {:?}", String::from_utf8_lossy(&self.unread));
        self.unread.extend(&buffer[..count]);
    }
}

/// The bytes of a GET with extra header lines, each ended by CR LF.
pub(crate) fn request(path: &str, header_lines: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = format!("GET {path} HTTP/1.1\r\nhost: test\r\n").into_bytes();
    bytes.extend(header_lines.as_ref());
    bytes.extend(b"\r\n");
    bytes
}

/// The value of a header in a head or in trailers.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
