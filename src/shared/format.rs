//! How records of meters begin.
//!
//! A version byte, then the meter's [`Stamp`], size and pace (64-bit little-endian): the parameters that the states in the
//! record were written under. They let a limit whose parameters were changed take over what was counted; the version lets
//! a later release change the rest.

use crate::shared::meter::Stamp;

const VERSION: u8 = 1;

/// Bytes before the states.
pub const HEADER_SIZE: usize = 1 + 8 + 8;

/// The stamp of records that hold no meter's state.
pub const NO_METER: Stamp = Stamp { size: 0, pace: 1 };

/// The stamp and the states of a record, or `None` if it does not begin as a record does.
pub fn open(bytes: &[u8]) -> Option<(Stamp, &[u8])> {
    let (version, rest) = bytes.split_first()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (pace, states) = rest.split_first_chunk::<8>()?;
    let stamp = Stamp { size: u64::from_le_bytes(*size), pace: u64::from_le_bytes(*pace) };
    if *version != VERSION || stamp.pace == 0 {
        return None;
    }
    Some((stamp, states))
}

/// Begins a record of `size` bytes in all, in a buffer that is used again.
pub fn begin(bytes: &mut Vec<u8>, size: usize, stamp: Stamp) {
    bytes.clear();
    bytes.reserve_exact(size);
    bytes.push(VERSION);
    bytes.extend_from_slice(&stamp.size.to_le_bytes());
    bytes.extend_from_slice(&stamp.pace.to_le_bytes());
}
