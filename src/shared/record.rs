//! Optimistic update of one shared record.

use crate::cx::Cx;
use crate::host::{Expected, HostError, Written};

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
    cx: &Cx<'_>,
    what: &'static str,
    key: &str,
    mut step: impl FnMut(&mut Vec<u8>) -> Step<R>,
) -> Result<R, HostError> {
    let mut answer = None;
    repeat(cx, what, key, &mut |bytes| match step(bytes) {
        Step::Keep(it) => {
            answer = Some(it);
            Step::Keep(())
        }
        Step::Write(it) => {
            answer = Some(it);
            Step::Write(())
        }
    })?;
    // There is one: what was done was a step's word.
    answer.ok_or(CONTENDED)
}

/// [`update`] without the answer: the step that went through has kept it. Not generic, so that the module has it once and not
/// for each kind of step.
fn repeat(
    cx: &Cx<'_>,
    what: &'static str,
    key: &str,
    step: &mut dyn FnMut(&mut Vec<u8>) -> Step<()>,
) -> Result<(), HostError> {
    for _ in 0..MAX_ATTEMPTS {
        let (mut bytes, expected) = match cx.host.shared_get(key)? {
            Some(record) => (record.bytes, Expected::Unchanged(record.version)),
            None => (Vec::new(), Expected::Absent),
        };
        if step(&mut bytes) == Step::Keep(()) {
            return Ok(());
        }
        match cx.host.shared_set(key, &bytes, expected)? {
            Written::Done => return Ok(()),
            Written::Conflict => cx.conflict(what),
        }
    }
    Err(CONTENDED)
}

/// Other workers won every attempt.
const CONTENDED: HostError = HostError { call: "shared_set_contended", status: CAS_MISMATCH };

/// The proxy-wasm status of a conditional write whose condition did not hold.
const CAS_MISMATCH: u32 = 8;
