//! What a limit counts with: a pure policy over a small state that fits a shared record.
//!
//! [`single`](super::single) and [`table`](super::table) keep the states of any meter; a meter knows nothing of where its
//! state is kept.

use std::time::Duration;

use crate::time::Timestamp;

/// The units were there. The caller owes the new state to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<S> {
    /// The state with the units taken.
    pub state: S,
    /// Whole units left.
    pub remaining: u64,
    /// How long the request must wait before it goes on. Zero but for a queue.
    pub wait: Duration,
}

/// The units were not there. The state is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Whole units that are there, fewer than asked for.
    pub remaining: u64,
    /// The same request passes after this long, and not a nanosecond earlier, if nobody takes units meanwhile. `None`:
    /// it costs more than there ever are and never passes.
    pub retry_after: Option<Duration>,
}

/// The parameters that a state was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// How much the meter admits.
    pub size: u64,
    /// How fast, in the meter's unit; never zero.
    pub pace: u64,
}

/// By how much a worker's clock may be late when it reads a record, in nanoseconds.
///
/// A state that is ahead of the clock by less is left alone: pulling it back would admit the difference, at each request of
/// a late worker again. One that is ahead by more tells of a clock that went back.
pub const LATEST_READER: u64 = 1_000_000_000;

/// A policy with its parameters.
///
/// The default state is that of a key that was never seen. Decisions are pure: they may be made several times over before
/// one of them is written.
pub trait Meter: Copy {
    /// What is remembered of past requests.
    type State: Copy + Default + PartialEq;

    /// Bytes of a state in a record.
    const SIZE: usize;

    /// The kind of record in the metric of conflicts.
    const WHAT: &'static str;

    /// Takes `cost` units at `now`, or says when they will be there.
    ///
    /// # Errors
    ///
    /// A [`Denial`], which is an answer, not a fault.
    fn take(&self, state: Self::State, cost: u64, now: Timestamp) -> Result<Grant<Self::State>, Denial>;

    /// Gives back `cost` units that were taken at `taken`, or for that instant, and not used. The state stays as it is if they
    /// can't be given back any more.
    fn refund(&self, state: Self::State, cost: u64, taken: Timestamp) -> Self::State;

    /// How much is remembered at `now`; zero if forgetting the state would change no decision.
    fn load(&self, state: Self::State, now: Timestamp) -> u64;

    /// The state in which nothing is left at `now`.
    fn exhausted(&self, now: Timestamp) -> Self::State;

    /// The parameters. Every record says them.
    fn stamp(&self) -> Stamp;

    /// The state of this meter that remembers what `state` does, which was written under another stamp.
    fn adopt(&self, state: Self::State, written: Stamp, now: Timestamp) -> Self::State;

    /// What a record should hold instead of `state`, if that lies so far ahead that no [late reader](LATEST_READER)
    /// explains it: an exhausted state, from which time leads out. A refusal has to write it, or the meter stays exhausted
    /// until the clock has come to where `state` is.
    fn repair(&self, state: Self::State, now: Timestamp) -> Option<Self::State>;

    /// Appends the state's [`SIZE`](Meter::SIZE) bytes.
    fn encode(state: Self::State, bytes: &mut Vec<u8>);

    /// Reads a state from exactly [`SIZE`](Meter::SIZE) bytes; `None` if no state has them.
    fn decode(bytes: &[u8]) -> Option<Self::State>;
}

/// A meter of which a worker may take units in advance and remember refusals; see [`lease`](super::lease).
pub trait Leasable: Meter {
    /// For how long after they were counted units may be used without breaking what the meter promises, as far as the
    /// meter is concerned; a [lease](super::lease::LIFETIME) may end sooner. Zero: units cannot be taken in advance.
    fn lifetime(&self) -> Duration;

    /// Whole units that are there at `now`.
    fn available(&self, state: Self::State, now: Timestamp) -> u64;

    /// How much longer than for one request to wait for another that costs so many more. `None`: the state decides.
    fn time_for(&self, units: u64) -> Option<Duration>;

    /// For how long a busy worker may leave alone a meter that has less than it wants, without a unit being lost.
    fn collects(&self) -> Duration;

    /// Whether time has brought back what was taken at `taken`, so that there is nothing to refund.
    fn is_back(&self, taken: Timestamp, now: Timestamp) -> bool;
}
