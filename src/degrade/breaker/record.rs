//! A breaker's state as bytes.
//!
//! Record: the [header](mod@format), whose pace is the length of the ring's parts; then, little-endian,
//!
//! ```text
//! phase, reason, trips, successes        8 bits each
//! epoch, instant of the phase            64
//! run: last success                      64
//!      8 × (first 64, last 64, failures  32)
//! stop: answered 64, since 64, slow      32
//! slowest: latency, at                   64 each
//! ring: current 64, then 11 × (total, failed, slow) 32 each
//! deadlines of 16 probes                 64 each
//! ```
//!
//! All times are nanoseconds. 509 bytes. A record of 333 bytes is one of an earlier layout, which tells of the run how many
//! failures it has (32 bits), and when the last of them was (64): it is read as a group of them at that instant, and as no stop.

use std::time::Duration;

use crate::degrade::breaker::MAX_PROBES;
use crate::degrade::breaker::ring::{Counts, RING, Ring};
use crate::degrade::breaker::run::{GROUPS, Group, Run};
use crate::degrade::breaker::state::{Phase, Probing, Slowest, State};
use crate::degrade::breaker::stop::Stop;
use crate::degrade::breaker::trip::TripReason;
use crate::shared::format;
use crate::shared::meter::Stamp;
use crate::time::Timestamp;

/// Bytes beside those of run and stop.
const REST: usize = format::HEADER_SIZE + 4 + 2 * 8 + 2 * 8 + (8 + RING * 12) + MAX_PROBES * 8;

/// Bytes of a record.
const SIZE: usize = REST + 8 + GROUPS * (8 + 8 + 4) + (8 + 8 + 4);

/// Bytes of one of the earlier layout.
const EARLIER_SIZE: usize = REST + 4 + 8;

const REASONS: [TripReason; 6] = [
    TripReason::ConsecutiveFailures,
    TripReason::FailureRatio,
    TripReason::SlowRatio,
    TripReason::ProbeFailed,
    TripReason::ProbeSlow,
    TripReason::ProbeLost,
];

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The state, with an empty ring if that was of other parts.
    pub state: State,
    /// Of what parts the ring was.
    pub parts: Parts,
}

/// Whether the ring in a record is of the parts that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// It is.
    Same,
    /// It was written for another window.
    Other,
}

/// Reads a record, with a ring whose parts are so long; `None` if no state has these bytes. No bytes are the state of a
/// breaker that never did anything.
pub fn decode(bytes: &[u8], part: u64) -> Option<Written> {
    if bytes.is_empty() {
        return Some(Written { state: State::default(), parts: Parts::Same });
    }
    let (stamp, rest) = format::open(bytes)?;
    if bytes.len() != SIZE && bytes.len() != EARLIER_SIZE {
        return None;
    }
    let mut reader = Reader { rest };
    let [phase, reason, trips, successes] = reader.bytes::<4>()?;
    let epoch = reader.u64()?;
    let instant = reader.instant()?;
    let (run, stop) = match bytes.len() {
        SIZE => (reader.run()?, reader.stop()?),
        _ => (reader.earlier_run()?, Stop::default()),
    };
    let slowest = Slowest { latency: Duration::from_nanos(reader.u64()?), at: reader.instant()? };
    let mut ring = Ring { current: reader.u64()?, ..Ring::default() };
    for counts in &mut ring.counts {
        *counts = Counts { total: reader.u32()?, failed: reader.u32()?, slow: reader.u32()? };
    }
    let mut deadlines = [Timestamp::default(); MAX_PROBES];
    for deadline in &mut deadlines {
        *deadline = reader.instant()?;
    }
    let phase = match phase {
        0 => Phase::Closed { since: instant },
        1 => Phase::HalfOpen(Probing { successes, deadlines }),
        2 => Phase::Ramp { since: instant },
        3 => Phase::Open { until: instant, reason: *REASONS.get(usize::from(reason))? },
        _ => return None,
    };
    let parts = if stamp.pace == part { Parts::Same } else { Parts::Other };
    if parts == Parts::Other {
        ring = Ring::default();
    }
    Some(Written { state: State { epoch, phase, trips, run, stop, slowest, ring }, parts })
}

/// Writes a record.
pub fn encode(state: &State, part: u64, bytes: &mut Vec<u8>) {
    format::begin(bytes, SIZE, Stamp { size: 0, pace: part });
    let none = Probing::default();
    let (phase, instant, probing) = match &state.phase {
        Phase::Closed { since } => (0, *since, &none),
        Phase::HalfOpen(probing) => (1, Timestamp::default(), probing),
        Phase::Ramp { since } => (2, *since, &none),
        Phase::Open { until, .. } => (3, *until, &none),
    };
    let reason = match state.phase {
        Phase::Open { reason, .. } => REASONS.iter().zip(0_u8..).find(|(it, _)| **it == reason).map_or(0, |it| it.1),
        Phase::Closed { .. } | Phase::HalfOpen(_) | Phase::Ramp { .. } => 0,
    };
    bytes.extend_from_slice(&[phase, reason, state.trips, probing.successes]);
    for number in [state.epoch, instant.as_nanos()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&state.run.success.as_nanos().to_le_bytes());
    for group in state.run.groups {
        bytes.extend_from_slice(&group.first.as_nanos().to_le_bytes());
        bytes.extend_from_slice(&group.last.as_nanos().to_le_bytes());
        bytes.extend_from_slice(&group.failures.to_le_bytes());
    }
    bytes.extend_from_slice(&state.stop.answered.as_nanos().to_le_bytes());
    bytes.extend_from_slice(&state.stop.since.as_nanos().to_le_bytes());
    bytes.extend_from_slice(&state.stop.slow.to_le_bytes());
    let latency = u64::try_from(state.slowest.latency.as_nanos()).unwrap_or(u64::MAX);
    for number in [latency, state.slowest.at.as_nanos(), state.ring.current] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in state.ring.counts.iter().flat_map(|it| [it.total, it.failed, it.slow]) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for deadline in probing.deadlines {
        bytes.extend_from_slice(&deadline.as_nanos().to_le_bytes());
    }
}

/// Takes numbers off the front.
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn instant(&mut self) -> Option<Timestamp> {
        self.u64().map(Timestamp::from_nanos)
    }

    fn run(&mut self) -> Option<Run> {
        let mut run = Run { success: self.instant()?, ..Run::default() };
        for group in &mut run.groups {
            *group = Group { first: self.instant()?, last: self.instant()?, failures: self.u32()? };
        }
        Some(run)
    }

    fn stop(&mut self) -> Option<Stop> {
        Some(Stop { answered: self.instant()?, since: self.instant()?, slow: self.u32()? })
    }

    fn earlier_run(&mut self) -> Option<Run> {
        let (failures, last) = (self.u32()?, self.instant()?);
        let mut run = Run::default();
        if let (1.., Some(newest)) = (failures, run.groups.first_mut()) {
            *newest = Group { first: last, last, failures };
        }
        Some(run)
    }
}
