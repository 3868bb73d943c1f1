//! One kept answer, as the record of a slot.
//!
//! It says itself whose it is and how old, so that a reader never has to trust that the index and the slot were read at the
//! same moment: what does not belong to the request is not served.
//!
//! Record: version byte; digest of the request (128 bits), generation of the slot's turn (64), when the headers came (64);
//! then in seconds (32 bits each, all ones for none) the age that the service gave, the lifetime and for how long
//! the answer may be served; then the length of the headers (32), the headers as in [`Headers`], and the body to the end.

use std::time::Duration;

use crate::degrade::stale::digest::Digest;
use crate::degrade::stale::index::is_younger;
use crate::degrade::stale::rules::Terms;
use crate::headers::Headers;
use crate::time::Timestamp;

const VERSION: u8 = 1;
const NONE: u32 = u32::MAX;

/// Bytes before the headers.
pub(super) const PREFIX: usize = 1 + 16 + 8 + 8 + 3 * 4 + 4;

/// All but the body.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The request.
    pub(super) variant: Digest,
    /// The generation of the slot's turn.
    pub(super) generation: u64,
    /// When the headers came.
    pub(super) stored: Timestamp,
    /// What the service said about the answer.
    pub(super) terms: Terms,
    /// The headers that are kept.
    pub(super) headers: Headers,
}

impl Entry {
    /// Begins the record; the body is appended by the caller.
    pub(super) fn begin(&self) -> Vec<u8> {
        let headers = self.headers.as_block();
        let mut bytes = Vec::with_capacity(PREFIX.saturating_add(headers.len()));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.variant.0);
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.stored.as_nanos().to_le_bytes());
        let length = u32::try_from(headers.len()).unwrap_or(NONE);
        let Terms { age, lifetime, usable } = self.terms;
        for number in [age, lifetime.unwrap_or(NONE), usable.unwrap_or(NONE), length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(headers);
        bytes
    }

    /// What a record holds, and the body; `None` if nobody writes such.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (version, rest) = bytes.split_first()?;
        let (variant, rest) = rest.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (stored, rest) = rest.split_first_chunk::<8>()?;
        let (age, rest) = rest.split_first_chunk::<4>()?;
        let (lifetime, rest) = rest.split_first_chunk::<4>()?;
        let (usable, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (headers, body) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        if *version != VERSION {
            return None;
        }
        let terms = Terms { age: u32::from_le_bytes(*age), lifetime: optional(*lifetime), usable: optional(*usable) };
        let entry = Self {
            variant: Digest(*variant),
            generation: u64::from_le_bytes(*generation),
            stored: Timestamp::from_nanos(u64::from_le_bytes(*stored)),
            terms,
            headers: Headers::from_block(headers.to_vec()),
        };
        Some((entry, body))
    }

    /// Whether the answer may be served now, by the rule and by the service.
    pub(super) fn is_usable(&self, max_age: Duration, now: Timestamp) -> bool {
        let usable = self.terms.usable.map_or(Duration::MAX, |seconds| Duration::from_secs(u64::from(seconds)));
        is_younger(self.stored, max_age.min(usable), now)
    }
}

fn optional(bytes: [u8; 4]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes)).filter(|number| *number != NONE)
}
