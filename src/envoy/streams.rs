//! The streams of one virtual machine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::stream::Stream;

/// The streams that are open, by their context.
///
/// Envoy carries out what a callback asks for (a reply, to go on) after it has returned, so that callbacks are never
/// nested. Were it otherwise, the inner one would find no stream and do nothing.
#[derive(Default)]
pub(super) struct Streams {
    open: RefCell<HashMap<u32, Stream, BuildHasherDefault<ByNumber>>>,
}

impl Streams {
    /// A stream begins.
    pub(super) fn add(&self, context: u32, stream: Stream) {
        if let Ok(mut open) = self.open.try_borrow_mut() {
            open.insert(context, stream);
        }
    }

    /// Does something with a stream, if it is open.
    pub(super) fn with<R>(&self, context: u32, action: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        self.open.try_borrow_mut().ok()?.get_mut(&context).map(action)
    }

    /// A stream has ended.
    pub(super) fn remove(&self, context: u32) -> Option<Stream> {
        self.open.try_borrow_mut().ok()?.remove(&context)
    }
}

/// Hashes the numbers of contexts, which the proxy counts up, so that nobody can choose them: Fibonacci hashing (Knuth,
/// The Art of Computer Programming, volume 3, section 6.4), which spreads such numbers evenly.
#[derive(Default)]
struct ByNumber(u64);

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for ByNumber {
    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(GOLDEN).rotate_left(32);
    }

    /// Numbers come by [`Hasher::write_u32`]; this is what the trait wants.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(GOLDEN);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
