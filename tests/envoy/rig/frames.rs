//! HTTP/2 by the frame (RFC 9113), for what no library would send.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::wire::Wire;

/// Types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a short payload").to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }
}

/// A header block (RFC 7541): every field spelt out and never indexed, so that blocks need no state.
pub(crate) fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        for text in [name.as_bytes(), value] {
            length(text.len(), &mut block);
            block.extend(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits.
fn length(length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        return block.push(length as u8);
    }
    block.push(127);
    let mut rest = length - 127;
    while 127 < rest {
        block.push(128 | (rest % 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// A connection that speaks frames.
pub(crate) struct Connection {
    wire: Wire,
}

impl Connection {
    /// Connects and sends the preface, with settings of no change.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut wire = Wire::connect(address).await;
        wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut connection = Self { wire };
        connection.send(&Frame::new(SETTINGS, 0, 0, [])).await;
        connection
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.wire.send(frame.bytes()).await;
    }

    /// The bodies of the stream's DATA, once it has ended.
    pub(crate) async fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let head = self.wire.read(9).await;
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let payload = self.wire.read(length).await;
            let (kind, flags) = (head[3], head[4]);
            if kind == SETTINGS && flags & ACK == 0 {
                self.send(&Frame::new(SETTINGS, ACK, 0, [])).await;
            }
            if u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]) != stream {
                continue;
            }
            assert_ne!(kind, RST_STREAM, "stream {stream} was reset: {payload:?}");
            if kind == DATA {
                body.extend(payload);
            }
            if [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0 {
                return body;
            }
        }
    }

    /// Sends the bytes as long as anybody takes them.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.wire.try_send(bytes).await
    }

    /// Takes what has come meanwhile, and forgets it.
    pub(crate) async fn skim(&mut self, time: Duration) {
        self.wire.skim(time).await;
    }
}
