//! How records of buckets begin.
//!
//! A version byte, then the size and the emission of the bucket that the states in the record were written with (64-bit
//! little-endian). They let a limit whose parameters were changed take over what was counted; the version lets a later
//! release change the rest.

use crate::limit::token_bucket::{Emission, TokenBucket};

const VERSION: u8 = 1;

/// Bytes before the states.
pub const HEADER_SIZE: usize = 1 + 8 + 8;

/// The parameters that a record was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The size of the bucket.
    pub max_tokens: u64,
    /// How fast it fills.
    pub emission: Emission,
}

impl Written {
    /// By a bucket of these parameters.
    pub const fn by(bucket: &TokenBucket) -> Self {
        Self { max_tokens: bucket.max_tokens(), emission: bucket.emission() }
    }
}

/// The parameters and the states of a record, or `None` if it does not begin as a record does.
pub fn open(bytes: &[u8]) -> Option<(Written, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    let (max_tokens, rest) = rest.split_first_chunk::<8>()?;
    let (emission, states) = rest.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    let emission = Emission::from_bits(u64::from_le_bytes(*emission))?;
    Some((Written { max_tokens: u64::from_le_bytes(*max_tokens), emission }, states))
}

/// Begins a record of `size` bytes in all, in a buffer that is used again.
pub fn begin(bytes: &mut Vec<u8>, size: usize, bucket: &TokenBucket) {
    bytes.clear();
    bytes.reserve_exact(size);
    bytes.push(VERSION);
    bytes.extend_from_slice(&bucket.max_tokens().to_le_bytes());
    bytes.extend_from_slice(&bucket.emission().to_bits().to_le_bytes());
}
