//! How records of buckets begin.
//!
//! A version byte, then the emission that the states in the record were written with (64-bit little-endian). The emission
//! lets a limit whose rate was changed take over what was counted; the version lets a later release change the rest.

use crate::limit::token_bucket::Emission;

const VERSION: u8 = 1;

/// Bytes before the states.
pub const HEADER_SIZE: usize = 1 + 8;

/// The emission and the states of a record, or `None` if it does not begin as a record does.
pub fn open(bytes: &[u8]) -> Option<(Emission, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    let (emission, states) = rest.split_first_chunk::<8>()?;
    if *version != VERSION {
        return None;
    }
    Some((Emission::from_bits(u64::from_le_bytes(*emission))?, states))
}

/// Begins a record of `size` bytes in all, in a buffer that is used again.
pub fn begin(bytes: &mut Vec<u8>, size: usize, emission: Emission) {
    bytes.clear();
    bytes.reserve_exact(size);
    bytes.push(VERSION);
    bytes.extend_from_slice(&emission.to_bits().to_le_bytes());
}
