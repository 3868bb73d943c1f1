//! What stands behind the proxies: as cheap as a real upstream can be, so that Envoy and not the upstream is the busy one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::rig::cluster::Cluster;

/// What it answers to every request.
pub(crate) const BODY: &str = "{\"item\":4711}";

/// A server with a thread for each connection, which ends with the program.
pub(crate) struct Upstream {
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        Self { address }
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster::http1(self.address)
    }
}

/// Answers each request of a connection, until it is closed. Requests have no body here.
fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let length = BODY.len();
    let response =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{BODY}");
    let mut buffer = [0; 16_384];
    let mut held = 0;
    loop {
        let count = stream.read(buffer.get_mut(held..)?).ok().filter(|count| *count > 0)?;
        held += count;
        // Envoy sends the next request only after the answer, so a head that is there ends what is there.
        if buffer.get(..held)?.ends_with(b"\r\n\r\n") {
            held = 0;
            stream.write_all(response.as_bytes()).ok()?;
        }
    }
}
