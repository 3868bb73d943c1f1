//! Optimistic update of one shared record.

use crate::host::{Expected, Host, HostError, Written};
use crate::monitor::trouble::Trouble;

/// How often an update is tried before it is given up.
///
/// A conflict means that another worker's update went through, so the workers together always make progress; one that
/// loses this often in a row is starved, and waiting longer would only add latency to its request.
pub const MAX_ATTEMPTS: u32 = 32;

/// What a step decided about the record that it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<R> {
    /// The record stays as it was read.
    Keep(R),
    /// The record shall hold what the step left in the buffer.
    Write(R),
}

/// Updates the record at `key` as if nobody else did.
///
/// `step` is shown the record's bytes (empty if there is no record yet), may change them in place, and says whether
/// they shall be written. It is called again with fresh bytes whenever another worker wrote first, so it must not
/// have effects besides its answer. At most [`MAX_ATTEMPTS`] calls.
///
/// `what` names the kind of record in the metric of conflicts.
///
/// # Errors
///
/// The proxy refused a call, or other workers won every attempt. Nothing was written.
pub fn update<R>(
    host: &dyn Host,
    trouble: &Trouble,
    what: &'static str,
    key: &str,
    mut step: impl FnMut(&mut Vec<u8>) -> Step<R>,
) -> Result<R, HostError> {
    for _ in 0..MAX_ATTEMPTS {
        let (mut bytes, expected) = match host.shared_get(key)? {
            Some(record) => (record.bytes, Expected::Unchanged(record.version)),
            None => (Vec::new(), Expected::Absent),
        };
        let answer = match step(&mut bytes) {
            Step::Keep(answer) => return Ok(answer),
            Step::Write(answer) => answer,
        };
        match host.shared_set(key, &bytes, expected)? {
            Written::Done => return Ok(answer),
            Written::Conflict => trouble.conflict(host, what),
        }
    }
    Err(HostError { call: "shared_set_contended", status: CAS_MISMATCH })
}

/// The proxy-wasm status of a conditional write whose condition did not hold.
const CAS_MISMATCH: u32 = 8;
