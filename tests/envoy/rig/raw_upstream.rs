//! An upstream of plain bytes: tunnels, upgrades and trailers, which no HTTP library shows as they are.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::cluster::Cluster;

/// What the upstream has read so far.
type Received = Arc<Mutex<Vec<u8>>>;

/// A TCP server that keeps what it reads.
pub(crate) struct RawUpstream {
    address: SocketAddr,
    received: Received,
}

impl RawUpstream {
    /// Sends every byte back.
    pub(crate) async fn echo() -> Self {
        Self::start(|mut stream, received| async move { echo(&mut stream, &received).await }).await
    }

    /// Agrees to a protocol upgrade, then sends every byte back.
    pub(crate) async fn upgrade() -> Self {
        Self::start(|mut stream, received| async move {
            read_until(&mut stream, &received, b"\r\n\r\n").await?;
            let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
            stream.write_all(agreed).await.ok()?;
            echo(&mut stream, &received).await
        })
        .await
    }

    /// Waits for the end of a chunked request and its trailer `x-last`, then sends `response`.
    pub(crate) async fn trailers(response: &'static str) -> Self {
        Self::start(move |mut stream, received| async move {
            read_until(&mut stream, &received, b"x-last: request\r\n\r\n").await?;
            stream.write_all(response.as_bytes()).await.ok()
        })
        .await
    }

    /// Reads the head of a request, says `said` and closes the connection a moment later.
    pub(crate) async fn hang_up(said: &'static str) -> Self {
        Self::start(move |mut stream, received| async move {
            read_until(&mut stream, &received, b"\r\n\r\n").await?;
            stream.write_all(said.as_bytes()).await.ok()?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            Some(())
        })
        .await
    }

    /// Answers with 200 at once, and with a body of so many bytes, one at a time.
    pub(crate) async fn drip(pieces: usize, every: Duration) -> Self {
        Self::start(move |mut stream, received| async move {
            read_until(&mut stream, &received, b"\r\n\r\n").await?;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {pieces}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            for _ in 0..pieces {
                tokio::time::sleep(every).await;
                stream.write_all(b".").await.ok()?;
            }
            Some(())
        })
        .await
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http1(self.address)
    }

    /// All bytes that arrived, as text.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().expect("no panic while reading")).into_owned()
    }

    async fn start<F>(serve: impl Fn(TcpStream, Received) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, received }
    }
}

/// Reads once; `None` when the peer has gone.
async fn read(stream: &mut TcpStream, received: &Received) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 16_384];
    let count = stream.read(&mut buffer).await.ok().filter(|&count| count > 0)?;
    buffer.truncate(count);
    received.lock().expect("no panic while reading").extend(&buffer);
    Some(buffer)
}

async fn read_until(stream: &mut TcpStream, received: &Received, end: &[u8]) -> Option<()> {
    let mut seen = Vec::new();
    while !seen.windows(end.len()).any(|it| it == end) {
        seen.extend(read(stream, received).await?);
    }
    Some(())
}

async fn echo(stream: &mut TcpStream, received: &Received) -> Option<()> {
    loop {
        let bytes = read(stream, received).await?;
        stream.write_all(&bytes).await.ok()?;
    }
}
