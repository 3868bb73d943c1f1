//! The secret that decides where in a table a key lives.
//!
//! All workers must agree on it, and no client may guess it: whoever knows where keys go can crowd a victim out of its
//! set. So it is sixteen bytes of the host's randomness, made once per process by the first worker that needs it, on a
//! request, and kept in one shared record.

use std::cell::Cell;

use siphasher::sip::SipHasher13;

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::record::{self, Step};

const KEY: &str = "outrigger/seed";
const WHAT: &str = "hash_seed";

/// The process's secret as one worker remembers it.
#[derive(Debug, Default)]
pub struct Seed {
    known: Cell<Option<[u8; 16]>>,
}

impl Seed {
    /// A hasher under the secret. Asks the proxy the first time only.
    ///
    /// # Errors
    ///
    /// The proxy has no randomness, or the record cannot be used. Nothing is remembered; the next request tries again.
    pub fn hasher(&self, cx: &Cx<'_>) -> Result<SipHasher13, HostError> {
        if let Some(seed) = self.known.get() {
            return Ok(SipHasher13::new_with_key(&seed));
        }
        let fresh = cx.host.random()?;
        let seed = record::update(cx, WHAT, KEY, |bytes| match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(agreed) => Step::Keep(agreed),
            Err(_) => {
                if !bytes.is_empty() {
                    cx.undecodable(KEY);
                }
                bytes.clear();
                bytes.extend_from_slice(&fresh);
                Step::Write(fresh)
            }
        })?;
        self.known.set(Some(seed));
        Ok(SipHasher13::new_with_key(&seed))
    }
}
