//! One meter's state in one shared record, exact over all workers.
//!
//! Record: the [header](mod@format), then the state. A record of another shape is *undecodable*: it is counted and
//! replaced, by the state of a key never seen where the failure mode allows, by an exhausted one where it denies; either
//! way the limit works again at once.

use crate::cx::Cx;
use crate::host::HostError;
use crate::shared::failure_mode::FailureMode;
use crate::shared::format;
use crate::shared::live::Live;
use crate::shared::meter::{Denial, Grant, Meter};
use crate::shared::record::{self, Step};
use crate::time::Timestamp;

/// A state in a shared record.
#[derive(Clone, Debug)]
pub struct Single<M: Copy> {
    key: String,
    meter: Live<M>,
    failure_mode: FailureMode,
}

impl<M: Meter> Single<M> {
    /// The state whose record is at `key`.
    pub fn new(key: String, meter: impl Into<Live<M>>, failure_mode: FailureMode) -> Self {
        Self { key, meter: meter.into(), failure_mode }
    }

    /// The key of the record.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The policy as it is now.
    pub fn meter(&self) -> M {
        self.meter.get()
    }

    /// Takes `cost` units, or says when they will be there. Two calls of the proxy per attempt, one if refused by a record
    /// that is as this meter would write it.
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`record::update`].
    pub fn take(&self, cx: &Cx<'_>, cost: u64) -> Result<Result<Grant<M::State>, Denial>, HostError> {
        let now = cx.now();
        self.update(cx, |state| match self.meter().take(*state, cost, now) {
            Ok(grant) => {
                *state = grant.state;
                Step::Write(Ok(grant))
            }
            Err(denial) => Step::Keep(Err(denial)),
        })
    }

    /// What [`Single::take`] would be refused; takes nothing. One call of the proxy.
    ///
    /// # Errors
    ///
    /// The record cannot be used.
    pub fn peek(&self, cx: &Cx<'_>, cost: u64) -> Result<Option<Denial>, HostError> {
        let now = cx.now();
        self.update(cx, |state| Step::Keep(self.meter().take(*state, cost, now).err()))
    }

    /// Gives back `cost` units that were taken and not used. Returns whether they could be.
    ///
    /// # Errors
    ///
    /// The record cannot be used; the units stay taken.
    pub fn refund(&self, cx: &Cx<'_>, cost: u64, taken: Timestamp) -> Result<bool, HostError> {
        self.update(cx, |state| {
            let refunded = self.meter().refund(*state, cost, taken);
            if refunded == *state {
                return Step::Keep(false);
            }
            *state = refunded;
            Step::Write(true)
        })
    }

    /// Updates the state as if nobody else did; `step` as in [`record::update`].
    ///
    /// # Errors
    ///
    /// The record cannot be used; see [`record::update`].
    pub fn update<R>(&self, cx: &Cx<'_>, mut step: impl FnMut(&mut M::State) -> Step<R>) -> Result<R, HostError> {
        record::update(cx, M::WHAT, &self.key, |bytes| {
            let Found { mut state, outdated } = self.read(cx, bytes);
            // What was judged is what must be kept, even if nothing was taken: a promise holds from there.
            let step = match step(&mut state) {
                Step::Keep(answer) if outdated => Step::Write(answer),
                step => step,
            };
            if matches!(step, Step::Write(_)) {
                format::begin(bytes, format::HEADER_SIZE + M::SIZE, self.meter().stamp());
                M::encode(state, bytes);
            }
            step
        })
    }

    fn read(&self, cx: &Cx<'_>, bytes: &[u8]) -> Found<M::State> {
        let now = cx.now();
        if bytes.is_empty() {
            return Found { state: M::State::default(), outdated: false };
        }
        match format::open(bytes).and_then(|(stamp, state)| Some((stamp, M::decode(state)?))) {
            Some((stamp, state)) if stamp == self.meter().stamp() => {
                let repaired = self.meter().repair(state, now);
                Found { state: repaired.unwrap_or(state), outdated: repaired.is_some() }
            }
            Some((stamp, state)) => Found { state: self.meter().adopt(state, stamp, now), outdated: true },
            None => {
                cx.undecodable(&self.key);
                Found { state: self.failure_mode.replacement(&self.meter(), now), outdated: true }
            }
        }
    }
}

/// The state that a record stands for.
struct Found<S> {
    state: S,
    /// Whether the record holds something else, so that it should be written although nothing is taken.
    outdated: bool,
}
