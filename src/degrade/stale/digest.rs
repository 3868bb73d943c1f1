//! Which request an answer belongs to, in 128 bits.
//!
//! Sixty-four bits choose a cell of a table, where a collision costs somebody a few tokens. Here a collision would hand one
//! user's page to another, so there are twice as many: two outputs of the keyed hash, by two suffixes of the same
//! input. Among `n` different requests the probability that any two collide is `n² / 2¹²⁹` (a billion: 1.5 × 10⁻²¹),
//! and the secret keeps anybody from looking for them.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::degrade::stale::vary::Vary;
use crate::headers::Headers;
use crate::operation::key::feed_header;

/// A hash under the process's secret; see [`seed`](crate::shared::seed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(pub(super) [u8; 16]);

impl Digest {
    /// Of what was fed to the hasher.
    pub(super) fn of(hasher: SipHasher13) -> Self {
        let output = |suffix: u8| {
            let mut hasher = hasher;
            hasher.write_u8(suffix);
            u128::from(hasher.finish())
        };
        Self((output(1) << 64 | output(2)).to_le_bytes())
    }

    /// Of this request with the values of those of its headers that the answer depends on. The names are part of it.
    pub(super) fn variant(self, vary: &Vary, request: &Headers, mut hasher: SipHasher13) -> Self {
        hasher.write(&self.0);
        hasher.write_u64(vary.as_bytes().len() as u64);
        hasher.write(vary.as_bytes());
        for name in vary.names() {
            feed_header(request, name, &mut hasher);
        }
        Self::of(hasher)
    }

    /// All of it as a number.
    pub(super) fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }

    /// Another one, that no request has.
    pub(super) fn inverse(self) -> Self {
        Self(self.0.map(|byte| !byte))
    }

    /// A place in a table of so many, which must not be zero.
    pub(super) fn place(self, size: usize) -> usize {
        let [low, high, ..] = self.0;
        usize::from(u16::from_le_bytes([low, high])).checked_rem(size).unwrap_or(0)
    }
}
